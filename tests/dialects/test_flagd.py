"""flagd's definitions: what becomes of flags, evaluators and metadata, what a mistake costs, and what is reused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import responses

from flagkit import Client, Context, sources
from flagkit.core.model import Definitions
from flagkit.core.snapshot import Snapshot
from flagkit.decision import Decision, ErrorCode, Reason
from flagkit.dialects import Parsed, flagd, flagd_v3, native
from flagkit.errors import ConfigError, DefinitionsError
from tests.pages import ROOT, Reader

Json = dict[str, Any]
BOOLEAN: Json = {"state": "ENABLED", "variants": {"on": True, "off": False}, "defaultVariant": "off"}
BETA: Json = {**BOOLEAN, "targeting": {"if": [{"$ref": "is_beta"}, "on"]}}
IS_BETA: Json = {"==": [{"var": "beta"}, True]}


def parsed(flags: Json, evaluators: Json | None = None, previous: Definitions | None = None, **head: Any) -> Parsed:
    document = {"flags": flags, **({} if evaluators is None else {"$evaluators": evaluators}), **head}
    return flagd.parse(json.dumps(document).encode(), previous)


def decide(found: Parsed, flag: str, context: Any = None, *, now_ms: int = 0) -> Decision:
    snapshot = Snapshot(found.definitions, now_ms=lambda: now_ms)
    return snapshot.decide(flag, Context("user-1") if context is None else context)


def answer(targeting: Any, context: Any = None, **flag: Any) -> Decision:
    found = parsed({"f": {**BOOLEAN, **flag, "targeting": targeting}}, {"is_beta": IS_BETA})
    return decide(found, "f", context)


def messages(found: Parsed) -> list[str]:
    return [str(problem) for problem in found.problems]


# -- what a flag answers


def test_reasons_are_flagd_s() -> None:
    assert decide(parsed({"f": BOOLEAN}), "f").reason is Reason.STATIC
    assert decide(parsed({"f": {**BOOLEAN, "targeting": {}}}), "f").reason is Reason.STATIC
    assert answer({"if": [True, "on"]}).reason is Reason.TARGETING_MATCH
    assert answer({"if": [False, "on"]}).reason is Reason.DEFAULT


@pytest.mark.parametrize("default", [None, "", "absent"])
def test_without_a_default_the_caller_s_applies_without_an_error(default: str | None) -> None:
    flag = {key: value for key, value in BOOLEAN.items() if key != "defaultVariant"}
    flag |= {} if default == "absent" else {"defaultVariant": default}
    found = parsed({"static": flag, "targeted": {**flag, "targeting": {"if": [{"var": "x"}, "on"]}}})
    for key in ("static", "targeted"):
        decision = decide(found, key)
        assert (decision.variant, decision.reason, decision.error_code) == (None, Reason.DEFAULT, None)


def test_a_disabled_flag_leaves_it_to_the_caller() -> None:
    decision = decide(parsed({"f": {**BETA, "state": "DISABLED"}}, {"is_beta": IS_BETA}), "f")
    assert (decision.variant, decision.reason, decision.error_code) == (None, Reason.DISABLED, None)


@pytest.mark.parametrize(
    ("value", "variant"),
    [("on", "on"), (True, "true"), (False, "false"), (1, "1"), (1.0, "1"), (None, "off"), ("", None), ([], None)],
)
def test_what_a_rule_comes_to_names_a_variant(value: Any, variant: str | None) -> None:
    variants = {name: name for name in ("on", "off", "true", "false", "1")}
    for rule in ({"var": "x"}, {"if": [True, value]} if value != [] else {"var": "x"}):
        decision = answer(rule, Context("u", {"x": value}), variants=variants)
        assert decision.variant == variant
        assert (decision.error_code is ErrorCode.GENERAL) == (variant is None)


def test_a_boolean_default_names_a_variant_too() -> None:
    flag = {"state": "ENABLED", "variants": {"true": 1, "false": 0}, "defaultVariant": True}
    assert decide(parsed({"f": flag}), "f").variant == "true"


def test_the_time_is_in_seconds_on_the_definitions_clock() -> None:
    rule = {"if": [{">=": [{"var": "$flagd.timestamp"}, 1700]}, "on"]}
    found = parsed({"f": {**BOOLEAN, "targeting": rule}})
    assert decide(found, "f", now_ms=1_699_999).variant == "off"
    assert decide(found, "f", now_ms=1_700_000).variant == "on"


def test_what_a_context_calls_flagd_s_own_is_not_heard() -> None:
    context = Context("u", {"$flagd": {"flagKey": "other"}, "targetingKey": "other"})
    assert answer({"if": [{"==": [{"var": "$flagd.flagKey"}, "f"]}, "on"]}, context).variant == "on"
    assert answer({"if": [{"==": [{"var": "targetingKey"}, "u"]}, "on"]}, context).variant == "on"


def test_a_context_that_cannot_be_one_is_invalid() -> None:
    for found in (parsed({"f": BOOLEAN}), parsed({"f": {**BOOLEAN, "targeting": {"if": [True, "on"]}}})):
        assert decide(found, "f", Context(b"bytes")).error_code is ErrorCode.INVALID_CONTEXT


@pytest.mark.parametrize(
    ("raw", "unit"),
    [
        ({"targetingKey": "user-1", "a": 1}, "user-1"),
        ({"targetingKey": ""}, None),
        ({"targetingKey": "x" * 2000}, None),
        ({"targetingKey": 5}, None),
        ({}, None),
        ("user-1", "user-1"),
        (Context("user-1"), "user-1"),
    ],
)
def test_the_targeting_key_is_the_unit_if_it_can_be_one(raw: Any, unit: str | None) -> None:
    context = flagd.context(raw)
    assert context.unit_text == unit
    if isinstance(raw, dict):
        assert context.attributes == raw
        rule = {"if": [{"==": [{"var": "targetingKey"}, raw.get("targetingKey")]}, "on"]}
        assert answer(rule, context).variant == "on"


@pytest.mark.parametrize(
    ("variants", "default", "off", "enabled"),
    [
        ({"yes": True, "no": False}, "yes", "no", {"yes"}),
        ({"a": False, "b": False, "c": True}, "b", "b", {"c"}),
        ({"a": True}, None, "a", {"a"}),
        ({"big": 10, "off": 0, "small": 1}, "small", "off", {"big", "small"}),
        ({"red": "r", "blue": "b"}, "blue", "blue", {"red"}),
        ({"red": "r", "blue": "b"}, None, "red", {"blue"}),
    ],
)
def test_what_counts_as_off_and_as_enabled(variants: Json, default: str | None, off: str, enabled: set[str]) -> None:
    found = parsed({"f": {**BOOLEAN, "variants": variants, "defaultVariant": default, "targeting": {"var": "x"}}})
    assert found.definitions.flags["f"].off == off
    assert {name for name in variants if decide(found, "f", Context("u", {"x": name})).enabled} == enabled


def test_switches_trips_and_overrides_work_as_for_any_flag() -> None:
    found = parsed({"f": {**BOOLEAN, "targeting": {"if": [{"var": "beta"}, "on"]}}})
    definitions = found.definitions
    beta = Context("u", {"beta": True})
    tripped = Snapshot(definitions, now_ms=lambda: 0, trips={"f": {"on": "off"}}).decide("f", beta)
    assert (tripped.variant, tripped.reason, tripped.assigned) == ("off", Reason.GUARD, "on")
    killed = {"f": definitions.flags["f"]._replace(enabled=False)}
    assert Snapshot(definitions._replace(flags=killed), now_ms=lambda: 0).decide("f", beta).reason is Reason.DISABLED
    assert Snapshot(definitions, now_ms=lambda: 0).decide("f", Context("u"), {"f": "on"}).reason is Reason.OVERRIDE


# -- evaluators


def test_an_evaluator_is_put_in_wherever_it_is_named() -> None:
    rule = {"if": [{"and": [{"$ref": "is_beta"}, {"!": {"$ref": "is_beta"}}]}, "off", {"$ref": "is_beta"}, "on"]}
    assert answer(rule, Context("u", {"beta": True})).variant == "on"


def test_an_evaluator_may_use_those_after_it_and_none_before_or_itself() -> None:
    flags = {"f": {**BOOLEAN, "targeting": {"if": [{"$ref": "first"}, "on"]}}}
    assert decide(parsed(flags, {"first": {"!": {"$ref": "last"}}, "last": False}), "f").variant == "on"
    for evaluators in ({"last": False, "first": {"!": {"$ref": "last"}}}, {"first": {"$ref": "first"}}, {}):
        found = parsed(flags, evaluators)
        assert decide(found, "f").error_code is ErrorCode.PARSE_ERROR
        assert "expected the name of one of the $evaluators" in messages(found)[0]


def test_evaluators_that_grow_without_bounds_are_refused_at_once() -> None:
    growing = {f"e{n}": {"or": [{"$ref": f"e{n + 1}"}] * 10} for n in range(200)}
    found = parsed({"f": {**BOOLEAN, "targeting": {"if": [{"$ref": "e0"}, "on"]}}, "g": BOOLEAN}, growing)
    assert decide(found, "g").reason is Reason.STATIC
    assert "too large with all it refers to" in messages(found)[0]
    wide = {f"e{n}": {"$ref": "leaves"} for n in range(2000)} | {"leaves": [{"$ref": f"leaf{n}"} for n in range(2000)]}
    assert parsed({"g": BOOLEAN}, wide | {f"leaf{n}": n for n in range(2000)}).problems == ()
    chain = {f"e{n}": {"!": {"$ref": f"e{n + 1}"}} for n in range(5000)}
    assert "too large" in messages(parsed({"f": {**BOOLEAN, "targeting": {"!": {"$ref": "e0"}}}}, chain))[0]


# -- mistakes

MISTAKES: list[tuple[Json, str]] = [
    ({"state": "OFF"}, '$.flags.f.state: got "OFF"; expected one of "DISABLED", "ENABLED"'),
    ({"state": None}, '$.flags.f.state: got null; expected one of "DISABLED", "ENABLED"'),
    ({"variants": {}}, "$.flags.f.variants: got {}; expected an object of 1 to 1,000 variants"),
    ({"variants": {"off": None}}, "$.flags.f.variants.off: got null; expected true or false"),
    ({"defaultVariant": "none"}, '$.flags.f.defaultVariant: got "none"; expected null or one of "off", "on"'),
    ({"defaultVariant": 1}, "$.flags.f.defaultVariant: got 1; expected null or"),
    ({"targeting": "on"}, '$.flags.f.targeting: got "on"; expected an object of one operation'),
    ({"targeting": {"a": 1, "b": 2}}, '$.flags.f.targeting: got ["a", "b"]; expected an object of one operation'),
    ({"targeting": {"iff": []}}, "$.flags.f.targeting.iff: unknown operation; expected one of"),
    ({"targeting": {"if": [{"no": 1}, "on"]}}, "$.flags.f.targeting.if[0].no: unknown operation"),
]


@pytest.mark.parametrize(("change", "message"), MISTAKES)
def test_a_mistake_costs_its_flag_one_update(change: Json, message: str) -> None:
    before = parsed({"f": BOOLEAN, "g": BOOLEAN})
    after = parsed({"f": {**BOOLEAN, **change}, "g": BOOLEAN}, previous=before.definitions)
    assert messages(after)[0].startswith(message)
    assert after.problems[0].flag == "f"
    assert after.definitions.flags["f"] is before.definitions.flags["f"]
    alone = parsed({"f": {**BOOLEAN, **change}, "g": BOOLEAN})
    assert decide(alone, "f").error_code is ErrorCode.PARSE_ERROR
    assert decide(alone, "g").variant == "off"
    assert alone.definitions.refused == {"f"}


@pytest.mark.parametrize("change", [{"variants": 7}, {"targeting": {"iff": []}}, {"defaultVariant": "none"}])
def test_off_is_obeyed_whatever_else_is_wrong(change: Json) -> None:
    before = parsed({"f": BOOLEAN})
    for previous in (None, before.definitions):
        found = parsed({"f": {**BOOLEAN, **change, "state": "DISABLED"}}, previous=previous)
        assert decide(found, "f").reason is Reason.DISABLED
        assert found.problems[0].refused


def test_a_flag_that_stands_twice_is_refused_and_off_wins() -> None:
    on, off = json.dumps(BOOLEAN), json.dumps({**BOOLEAN, "state": "DISABLED"})
    twice = flagd.parse(f'{{"flags": {{"f": {on}, "f": {on}}}}}'.encode())
    assert messages(twice) == ["$.flags.f: the flag stands twice"]
    for first, second in ((on, off), (off, on)):
        found = flagd.parse(f'{{"flags": {{"f": {first}, "f": {second}}}}}'.encode())
        assert decide(found, "f").reason is Reason.DISABLED


def test_a_variant_that_is_named_but_not_there_is_said_and_the_flag_is_used() -> None:
    rule = {"if": [{"var": "x"}, "onn", {"fractional": [["on", 1], ["oof", 1], [None, 1]]}]}
    found = parsed({"f": {**BOOLEAN, "targeting": rule}})
    assert [(p.path, p.refused) for p in found.problems] == [
        ("$.flags.f.targeting.if[1]", False),
        ("$.flags.f.targeting.if[2].fractional[1][0]", False),
    ]
    assert decide(found, "f", Context("u", {"x": 1})).error_code is ErrorCode.GENERAL


def test_unknown_fields_and_odd_metadata_are_said_and_harmless() -> None:
    found = parsed({"f": {**BOOLEAN, "default": "on", "metadata": {"list": []}}}, extra=1)
    assert all(not problem.refused for problem in found.problems)
    assert [problem.path for problem in found.problems] == ["$.flags.f.default", "$.flags.f.metadata.list", "$.extra"]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"[]", "a JSON object expected"),
        (b"", "a JSON object expected"),
        (b"{}", "$.flags: got null; expected an object"),
        (b'{"flags": []}', "$.flags: got []; expected an object"),
        (b'{"flags": {}, "$evaluators": []}', "$.$evaluators: got []; expected an object"),
        (b'{"flags": {}, "metadata": 1}', "$.metadata: got 1; expected an object"),
        (b'{"flags": {}, "metadata": {}, "metadata": {}}', "the key stands twice"),
        (b'{"flags": {"f": ' + b"[" * 100_000, "nested too deeply"),
        (b"\xff", "not UTF-8"),
    ],
)
def test_a_document_that_is_none_is_refused_whole(data: bytes, message: str) -> None:
    with pytest.raises(DefinitionsError) as raised:
        flagd.parse(data)
    assert message in str(raised.value)


def test_documents_that_look_like_accidents_are_refused_and_obeyed_in_what_they_turn_off() -> None:
    many = {f"f{n}": BOOLEAN for n in range(20)}
    before = parsed(many).definitions
    few = {"f0": {**BOOLEAN, "state": "DISABLED"}}
    for flags in ({}, few, {**few, **{f"f{n}": {} for n in range(1, 20)}}):
        with pytest.raises(DefinitionsError) as raised:
            parsed(flags, previous=before)
        assert raised.value.off == ({"f0"} if flags else set())
    assert list(parsed(few, previous=before, metadata={"replaces": True}).definitions.flags) == ["f0"]
    assert parsed({}, previous=before, metadata={"replaces": True}).definitions.flags == {}


# -- metadata


def test_the_version_is_the_metadata_s_the_flag_s_before_the_set_s_else_a_digest_of_what_decides() -> None:
    own = {**BOOLEAN, "metadata": {"version": 7, "owner": "checkout", "description": "…"}}
    found = parsed({"own": own, "set": BOOLEAN}, metadata={"version": "3", "flagSetId": "s"})
    assert {key: flag.version for key, flag in found.definitions.flags.items()} == {"own": "7", "set": "3"}
    assert (found.definitions.flags["own"].owner, found.definitions.version) == ("checkout", "3")

    def digest(flag: Json, beta: Json = IS_BETA) -> str | None:
        return parsed({"f": flag}, {"is_beta": beta}).definitions.flags["f"].version

    assert digest(BETA) == digest(dict(reversed(BETA.items())))
    assert len({digest(BETA), digest(BOOLEAN), digest(BETA, {"var": "beta"})}) == 3
    assert digest(BETA) == digest({**BETA, "metadata": {"owner": "x"}})


def test_a_digest_tells_the_versions_of_fractional_apart() -> None:
    data = json.dumps({"flags": {"f": BOOLEAN}}).encode()
    assert flagd.parse(data).definitions.flags["f"].version != flagd_v3.parse(data).definitions.flags["f"].version


# -- reuse


def test_what_did_not_change_is_the_same_object() -> None:
    flags = {f"f{n}": {**BOOLEAN, "metadata": {"n": n}} for n in range(20)}
    before = parsed({**flags, "beta": BETA}, {"is_beta": IS_BETA}).definitions
    changed = {**flags, "f7": {**BOOLEAN, "defaultVariant": "on"}, "beta": BETA}
    after = parsed(changed, {"is_beta": IS_BETA}, before).definitions
    assert [key for key in changed if after.flags[key] is not before.flags[key]] == ["f7"]


def test_flags_of_a_changed_evaluator_are_new_and_no_others() -> None:
    evaluators = {"outer": {"!": {"$ref": "inner"}}, "inner": IS_BETA, "is_beta": IS_BETA}
    flags = {"uses": {**BOOLEAN, "targeting": {"if": [{"$ref": "outer"}, "on"]}}, "beta": BETA, "plain": BOOLEAN}
    before = parsed(flags, evaluators).definitions
    after = parsed(flags, {**evaluators, "inner": {"!": IS_BETA}}, before)
    assert [key for key in flags if after.definitions.flags[key] is not before.flags[key]] == ["uses"]
    assert decide(after, "uses", Context("u", {"beta": True})).variant == "on"
    gone = parsed(flags, {"outer": True, "inner": 1}, after.definitions)
    assert gone.definitions.flags["beta"] is before.flags["beta"]  # the last good one
    assert [problem.flag for problem in gone.problems] == ["beta"]


def test_the_order_of_evaluators_counts_as_far_as_they_use_each_other() -> None:
    first, last = {"or": [{"var": "x"}, {"$ref": "last"}]}, True
    flags = {"f": {**BOOLEAN, "targeting": {"if": [{"$ref": "first"}, "on"]}}}
    before = parsed(flags, {"first": first, "last": last}).definitions
    beside = parsed(flags, {"new": 1, "first": first, "other": 2, "last": last}, before)
    assert beside.definitions.flags["f"] is before.flags["f"]
    turned = parsed(flags, {"last": last, "first": first}, before)
    assert [problem.flag for problem in turned.problems] == ["f"]


def test_another_version_of_the_set_makes_new_flags_of_those_without_one() -> None:
    flags = {"own": {**BOOLEAN, "metadata": {"version": "1"}}, "set": BOOLEAN}
    before = parsed(flags, metadata={"version": "1"}).definitions
    after = parsed(flags, None, before, metadata={"version": "2"}).definitions
    assert (after.flags["own"].version, after.flags["set"].version) == ("1", "2")


def test_definitions_of_another_dialect_are_not_mistaken_for_flagd_s() -> None:
    data = b'{"schema": 1, "flags": {\n"f": {},\n"g": {}\n}}'
    before = native.parse(data).definitions
    found = flagd.parse(data, before)
    assert [problem.flag for problem in found.problems if problem.refused] == ["f", "f", "g", "g"]
    assert found.definitions.flags["f"] is before.flags["f"]  # the previous one stays
    versions = flagd.parse(json.dumps({"flags": {"f": BOOLEAN}}).encode()).definitions
    again = flagd_v3.parse(json.dumps({"flags": {"f": BOOLEAN}}).encode(), versions).definitions
    assert again.flags["f"] is not versions.flags["f"]


# -- sources


def test_the_page_of_the_manual_does_what_it_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Reader(ROOT / "docs" / "backends" / "flagd.md").follow()


def test_a_file_of_flags_is_read_and_read_again(tmp_path: Path) -> None:
    path = tmp_path / "flags.flagd.json"
    path.write_text(json.dumps({"flags": {"f": BOOLEAN}}))
    with Client(source=sources.File(path, dialect="flagd"), sink=None) as client:
        assert client.enabled("f", "user-1") is False
        path.write_text(json.dumps({"flags": {"f": {**BOOLEAN, "defaultVariant": "on"}}, "metadata": {}}))
        assert client.refresh(5)
        assert client.enabled("f", "user-1") is True


def test_flags_come_over_http_with_a_validator() -> None:
    url, body = "https://flags.example.com/flags.json", json.dumps({"flags": {"f": BOOLEAN}})
    source = sources.Http(url, key="sync-token", dialect="flagd")
    with responses.RequestsMock() as mock:
        mock.get(url, body=body, content_type="application/json", headers={"ETag": '"1"'})
        fetched = source.fetch(None, deadline_s=5, max_bytes=1 << 20)
        mock.get(url, status=304)
        assert isinstance(source.fetch('"1"', deadline_s=5, max_bytes=1 << 20), sources.NotModified)
        asked = mock.calls[1].request.headers
    assert (asked["If-None-Match"], asked["Authorization"]) == ('"1"', "Bearer sync-token")
    assert isinstance(fetched, sources.Fetched)
    assert (fetched.data.decode(), source.dialect) == (body, "flagd")


def test_both_versions_have_a_name() -> None:
    for dialect in ("flagd", "flagd-v3"):
        client = Client(source=sources.Static({"flags": {"f": BOOLEAN}}, dialect=dialect), sink=None)
        assert client.decide("f", "u").reason is Reason.STATIC
    with pytest.raises(ConfigError, match="flagd-v3"):
        Client(source=sources.Static({}, dialect="flagd-v4"))
