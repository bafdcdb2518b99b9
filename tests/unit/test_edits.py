"""An operator's edits of a document's text: they do what they say, and touch nothing else."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest
from documents import Json
from hypothesis import given, settings
from hypothesis import strategies as st

from flagkit.context import Context
from flagkit.core.snapshot import Snapshot
from flagkit.dialects import edits, native
from flagkit.dialects.edits import Edit, EditError
from flagkit.dialects.splice import drop, find, put

DOCUMENT = """{
  "schema": 1,
  "holdouts": {"q4": {"percent": 50, "flags": ["held"]}},
  "flags": {
    "new-checkout": {
      "owner": "payments",   "expires": "2027-01-31",
      "rules": [
        {"name": "team", "when": [{"attribute": "rules", "op": "in", "values": ["}", "\\"]"]}], "serve": "on"},
        {"name": "canary",
         "rollout": {"percent": 5, "by": "organization"}, "serve": "on"}
      ]
    },
    "two": {"rules": [{"rollout": {"percent": 1}, "serve": "on"}, {"rollout": {"percent": 12.5}, "serve": "on"}]},
    "steps": {"rules": [{"rollout": {"steps": [{"from": "2030-01-01", "percent": 1}]}, "serve": "on"}]},
    "items": {"enabled": false, "variants": {"few": 1, "many": 9, "all": 99}, "off": "few", "default": "many",
              "prerequisites": [{"flag": "two", "variants": ["on"]}], "targets": {"all": ["u-1"]},
              "exclude": [{"attribute": "plan", "op": "in", "values": ["x"]}]},
    "held": {},
    "plain": {}
  }
}
"""


def flag_of(edit: Edit) -> Any:
    return json.loads(edit.text)["flags"][edit.flag]


def variant(text: str, flag: str, unit: str = "u-1", **attributes: Any) -> str | None:
    snapshot = Snapshot(native.parse(text.encode()).definitions, now_ms=lambda: 0)
    return snapshot.decide(flag, Context(unit, attributes)).variant


def refusal(*arguments: Any, edit: Any = edits.ramp, **options: Any) -> str:
    with pytest.raises(EditError) as error:
        edit(*arguments, **options)
    return str(error.value)


def test_kill_disables_the_flag_and_touches_nothing_else() -> None:
    edit = edits.kill(DOCUMENT, "new-checkout")
    line = '      "owner": "payments",   "expires"'
    assert edit.text == DOCUMENT.replace(line, '      "enabled": false,\n' + line)
    assert variant(edit.text, "new-checkout", rules="}") == "off"
    assert edit.summary == "enabled -> disabled"


def test_kill_of_an_empty_flag_or_one_on_one_line_stays_on_the_line() -> None:
    assert '    "plain": {"enabled": false}\n' in edits.kill(DOCUMENT, "plain").text
    assert '"two": {"enabled": false, "rules": [' in edits.kill(DOCUMENT, "two").text
    compact = '{"schema":1,"flags":{"a":{"owner":"x"}}}'
    assert edits.kill(compact, "a").text == '{"schema":1,"flags":{"a":{"enabled":false,"owner":"x"}}}'


def test_kill_of_a_disabled_flag_is_no_change() -> None:
    assert not edits.kill(DOCUMENT, "items").is_change


@pytest.mark.parametrize(
    "text",
    [
        '{"schema": 1, "flags": {"a": {"rules": 5}}}',
        '{"schema": 1, "flags": {"a": {"enabled": "yes", "enabled": true}}}',
        '{"schema": 7, "flags": {"a": {}}}',
        '{"schema": 1, "layers": 1, "flags": {"b": 1, "a": {"nonsense": NaN}}}',
        '\ufeff{"schema": 1, "flags": {"a": {}}}',
    ],
)
def test_kill_works_whatever_else_is_wrong_as_long_as_it_is_json(text: str) -> None:
    edit = edits.kill(text, "a")
    assert json.loads(edit.text.removeprefix("\ufeff"))["flags"]["a"]["enabled"] is False


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "$: not JSON: a JSON object expected"),
        ('{"schema": 1, "flags": {"a": {"x" 1}}}', "$: not JSON"),
        ('{"schema": 1, "flags": {"a": {}} "b": 1}', "$: not JSON"),
        ('{"schema": 1, "flags": [1]}', "no flag 'a'"),
        ('{"schema": 1}', "no flag 'a'"),
        ("[]", "no flag 'a'"),
        ('{"schema": 1, "flags": {"a": 5}}', "a: not an object"),
        ('{"schema": 1, "flags": {"ab": {}, "xyz": {}}}', "no flag 'a'"),
        ("[" * 100_000, "$: "),
    ],
)
def test_what_cannot_be_edited_is_refused_with_the_reason(text: str, message: str) -> None:
    assert refusal(text, "a", edit=edits.kill).startswith(message)


def test_a_misspelt_flag_gets_a_suggestion() -> None:
    assert refusal(DOCUMENT, "new-chekout", edit=edits.kill) == "no flag 'new-chekout'; did you mean 'new-checkout'?"


def test_a_flag_like_no_other_gets_a_list_of_what_there_is() -> None:
    text = json.dumps({"schema": 1, "flags": {"abc": {}, "xyz": {}}})
    assert refusal(text, "nope", edit=edits.kill) == "no flag 'nope'; there are: 'abc', 'xyz'"
    assert refusal('{"schema": 1, "flags": {"abc": {}}}', "nope", edit=edits.kill) == "no flag 'nope'; there is: 'abc'"
    assert refusal('{"schema": 1, "flags": {}}', "nope", edit=edits.kill) == "no flag 'nope'; there is none"
    assert refusal(DOCUMENT, "items", "nope", edit=edits.serve_all).startswith(
        "no variant of items 'nope'; there are: "
    )


def test_the_list_of_what_there_is_stays_short_however_many_flags_there_are() -> None:
    long = {f"{number}-{'x' * 5000}": {} for number in range(2000)}
    message = refusal(json.dumps({"schema": 1, "flags": long}), "nope", edit=edits.kill)
    assert message.endswith("...' and 1,992 more")
    assert len(message) < 1000


def test_ramp_changes_one_number() -> None:
    edit = edits.ramp(DOCUMENT, "new-checkout", Decimal(25))
    assert edit.text == DOCUMENT.replace('"percent": 5,', '"percent": 25,')
    assert edit.summary == 'rule "canary": 5 % -> 25 %'


@pytest.mark.parametrize("percent", ["0", "0.001", "2.50", "33.333", "99.999", "100", "1e1"])
def test_ramp_takes_every_percentage_a_rollout_can_have(percent: str) -> None:
    edit = edits.ramp(DOCUMENT, "new-checkout", Decimal(percent))
    rollout = native.parse(edit.text.encode()).definitions.flags["new-checkout"].rules[1].rollout
    assert rollout is not None
    assert rollout.threshold == Decimal(percent) * 1000


@pytest.mark.parametrize("percent", ["101", "-1", "0.0001"])
def test_a_percentage_that_would_be_a_mistake_is_refused(percent: str) -> None:
    found = refusal(DOCUMENT, "new-checkout", Decimal(percent))
    assert found.startswith("not changed, it would be a mistake: $.flags.new-checkout.rules[1].rollout.percent")


def test_ramp_asks_which_rule_when_several_could_be_meant() -> None:
    assert refusal(DOCUMENT, "two", Decimal(5)).endswith('--rule: "rule-0" (1 %), "rule-1" (12.5 %)')
    edit = edits.ramp(DOCUMENT, "two", Decimal(5), rule="rule-1")
    assert [rule["rollout"]["percent"] for rule in flag_of(edit)["rules"]] == [1, 5]


def test_ramp_needs_a_rule_that_has_a_rollout() -> None:
    assert refusal(DOCUMENT, "plain", Decimal(5)) == "plain: no rule has a rollout"
    found = refusal(DOCUMENT, "new-checkout", Decimal(5), rule="team")
    assert found == 'new-checkout: no rule "team" with a rollout; there are: "canary" (5 %)'


def test_steps_are_replaced_only_when_that_is_said() -> None:
    assert "--replace-steps" in refusal(DOCUMENT, "steps", Decimal(5))
    edit = edits.ramp(DOCUMENT, "steps", Decimal(5), replace_steps=True)
    assert flag_of(edit)["rules"][0]["rollout"] == {"percent": 5}
    assert edit.summary == 'rule "rule-0": 1 step -> 5 %'


def test_ramp_of_a_flag_with_a_mistake_is_refused_naming_it() -> None:
    text = '{"schema": 1, "flags": {"a": {"rules": [{"rollout": {"percent": 5}, "serve": "onn"}]}, "b": 3}}'
    assert '$.flags.a.rules[0].serve: got "onn"' in refusal(text, "a", Decimal(6))


def test_mistakes_elsewhere_do_not_stand_in_the_way() -> None:
    text = DOCUMENT.replace('"plain": {}', '"plain": {"nonsense": 1}')
    edit = edits.ramp(text, "new-checkout", Decimal(6))
    assert [problem.flag for problem in edit.problems] == ["plain"]


@pytest.mark.parametrize("chosen", ["few", "many", "all"])
def test_set_serves_one_variant_to_every_unit(chosen: str) -> None:
    edit = edits.serve_all(DOCUMENT, "items", chosen)
    assert flag_of(edit) == {
        "enabled": True,
        "variants": {"few": 1, "many": 9, "all": 99},
        "off": "few",
        "default": "many",
        "rules": [{"name": "everyone", "serve": chosen}],
    }
    assert {variant(edit.text, "items", f"u-{n}", plan="x") for n in range(20)} == {chosen}
    assert edit.summary == f'disabled -> "{chosen}" for everyone'


def test_set_says_what_was_served_before() -> None:
    edit = edits.serve_all(DOCUMENT, "new-checkout", "on")
    assert edit.summary == '2 rules -> "on" for everyone'
    assert edits.serve_all(edit.text, "new-checkout", "off").summary == '"on" for everyone -> "off" for everyone'
    assert not edits.serve_all(edit.text, "new-checkout", "on").is_change


def test_set_says_that_a_holdout_stays() -> None:
    assert edits.serve_all(DOCUMENT, "held", "on").note == 'units of holdout "q4" still get "off"'
    assert edits.serve_all(DOCUMENT, "held", "off").note == ""


def test_set_wants_a_variant_of_the_flag() -> None:
    found = refusal(DOCUMENT, "items", "mny", edit=edits.serve_all)
    assert found == "no variant of items 'mny'; did you mean 'many'?"


def test_an_edit_that_breaks_another_flag_is_refused() -> None:
    text = json.dumps({"schema": 1, "flags": {"a": {}, "b": {"prerequisites": [{"flag": "a", "variants": ["on"]}]}}})
    circle = '{"prerequisites": [{"flag": "b", "variants": ["on"]}]}'
    assert "it would be a mistake" in refusal(text, "a", circle, "by hand", edit=edits.put_back)


def test_members_are_dropped_with_their_commas() -> None:
    text = '{ "a": 1,\n "b": {"x": [1]}, "c": 3 }'
    assert drop(text, ("a",)) == '{ "b": {"x": [1]}, "c": 3 }'
    assert drop(text, ("b",)) == '{ "a": 1,\n "c": 3 }'
    assert drop(text, ("c",)) == '{ "a": 1,\n "b": {"x": [1]} }'
    assert drop(text, ("b", "x")) == '{ "a": 1,\n "b": {}, "c": 3 }'
    assert drop(text, ("d",)) == drop(text, ("d", "e")) == text


def test_there_must_be_an_object_to_put_a_member_in() -> None:
    for path in (("a", "b"), ("x", "y")):
        with pytest.raises(KeyError):
            put('{"a": [1]}', path, 1)


def test_of_keys_that_stand_twice_the_last_one_counts() -> None:
    assert put('{"a": 1, "a": 2}', ("a",), 3) == '{"a": 1, "a": 3}'


RULES = st.lists(
    st.one_of(
        st.just({"serve": "on", "when": [{"attribute": "ä", "op": "in", "values": ['"}', "]\\"]}]}),
        st.integers(0, 100).map(lambda percent: {"rollout": {"percent": percent}, "serve": "on"}),
        st.just({"rollout": {"by": "org", "steps": [{"from": "2030-01-01", "percent": 1}]}, "serve": "on"}),
    ),
    max_size=3,
)
FLAG = st.fixed_dictionaries(
    {},
    optional={
        "enabled": st.booleans(),
        "description": st.sampled_from(['a "flag": {', "ünï: ,", "x"]),
        "rules": RULES,
        "targets": st.just({"on": ["u-1"]}),
        "exclude": st.just([{"attribute": "p", "op": "exists"}]),
    },
)
LAYOUT = st.sampled_from([{}, {"indent": 2}, {"indent": "\t"}, {"separators": (",", ":")}, {"ensure_ascii": False}])


def an_edit(draw: Any, text: str, key: str) -> Edit | None:
    kind = draw(st.sampled_from(["kill", "set", "ramp"]))
    if kind == "kill":
        return edits.kill(text, key)
    if kind == "set":
        return edits.serve_all(text, key, draw(st.sampled_from(["on", "off"])))
    percent, rule = Decimal(draw(st.integers(0, 100_000))) / 1000, f"rule-{draw(st.integers(0, 2))}"
    try:
        return edits.ramp(text, key, percent, rule=rule, replace_steps=True)
    except EditError:
        return None


@given(st.data(), st.dictionaries(st.sampled_from(["a", "b-1", "flags"]), FLAG, min_size=1), LAYOUT)
@settings(max_examples=150, deadline=None)
def test_any_edit_put_back_gives_the_same_bytes(data: st.DataObject, flags: dict[str, Json], layout: Json) -> None:
    text = json.dumps({"schema": 1, "flags": flags, "version": "v"}, **layout)
    key = data.draw(st.sampled_from(sorted(flags)))
    edit = an_edit(data.draw, text, key)
    if edit is None:
        return
    others = {other: flag for other, flag in json.loads(edit.text)["flags"].items() if other != key}
    assert others == {other: flag for other, flag in flags.items() if other != key}
    assert list(json.loads(edit.text)["flags"]) == list(flags)
    assert edit.problems == ()
    assert edits.put_back(edit.text, key, edit.before, "back").text == text
    span = find(text, ("flags", key))
    assert span is not None
    assert text[: span.value] + edit.after + text[span.end :] == edit.text


def test_reset_is_the_next_revision_of_the_guard_and_ends_what_tripped_or_is_held() -> None:
    held = {"rules": {"r": {"percent": 5, "shares": {"on": 1}}}, "why": "it hurts"}
    guard = {"alpha": 0.05, "revision": 3, "tripped": {"on": "errors"}, "held": held}
    text = json.dumps({"schema": 1, "flags": {"f": {"guard": guard}}})
    edit = edits.new_try(text, "f")
    assert flag_of(edit) == {"guard": {"alpha": 0.05, "revision": 4}}
    assert edit.summary == "guard: revision 3 -> 4"
    plain = edits.new_try('{"schema": 1, "flags": {"f": {"guard": {}}}}', "f")
    assert flag_of(plain) == {"guard": {"revision": 1}}


def test_reset_of_a_flag_without_a_guard_is_refused() -> None:
    assert "has no guard here; if its policy is given in code, say --in-code" in refusal(
        DOCUMENT, "plain", edit=edits.new_try
    )


def test_reset_of_a_guard_in_code_gives_the_definitions_one_with_a_revision() -> None:
    once = edits.new_try('{"schema": 1, "flags": {"f": {"enabled": true}}}', "f", in_code=True)
    assert flag_of(once) == {"enabled": True, "guard": {"revision": 1}}
    assert flag_of(edits.new_try(once.text, "f", in_code=True))["guard"] == {"revision": 2}
