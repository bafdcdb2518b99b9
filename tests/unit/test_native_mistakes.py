"""One mistake in a flag, one line: where, what was found, and what would be right."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

import pytest
from documents import ON, attribute, parsed, rollout, when

from flagkit.core.policy import GuardPolicy
from flagkit.dialects import native


class Mistake(NamedTuple):
    """``flag`` has one mistake, at ``path`` below it; the line quotes ``got`` and offers ``right``."""

    flag: Any
    path: str
    got: str
    right: str


def rule(rule: Any) -> dict[str, Any]:
    return {"rules": [rule]}


def split(*shares: Any) -> dict[str, Any]:
    return rule({"split": list(shares)})


def steps(*steps: Any) -> dict[str, Any]:
    return rule({"rollout": {"steps": list(steps)}, "serve": "on"})


def parents(parent: Any) -> dict[str, Any]:
    return {"prerequisites": [parent]}


RULE, WHEN, ROLLOUT = ".rules[0]", ".rules[0].when[0]", ".rules[0].rollout"
VALUES = f"{WHEN}.values"
KEY = "1 to 128 letters, digits, dots, dashes or underscores"
DATE = 'a date such as "2026-12-01T09:00:00Z" or "2026-12-01"'
PATH = "an attribute's name, or a list of names to descend"
UNIT = "a unit: a string of 1 to 1,024 bytes, or a whole number"

MISTAKES = [
    Mistake(7, "", "7", "an object"),
    Mistake([], "", "[]", "an object"),
    Mistake(None, "", "null", "an object"),
    Mistake({"enabeld": True}, ".enabeld", "unknown field", 'did you mean "enabled"?'),
    Mistake({"colour": "red"}, ".colour", "unknown field", "known are client, default, description, early_access"),
    Mistake({"enabled": "false"}, ".enabled", '"false"', "true or false"),
    Mistake({"enabled": 0}, ".enabled", "0", "true or false"),
    # variants
    Mistake({"variants": {"a": 1}}, ".off", "missing", 'one of "a"'),
    Mistake({"variants": {"a": 1}, "off": "b"}, ".off", '"b"', 'one of "a"'),
    Mistake({"variants": {"": 1, "o": 2}, "off": "o"}, ".variants.", '""', "1 to 128 printable characters"),
    Mistake({"off": "no"}, ".off", '"no"', 'one of "off", "on"'),
    Mistake({"off": []}, ".off", "[]", 'one of "off", "on"'),
    Mistake({"default": "maybe"}, ".default", '"maybe"', 'one of "off", "on"'),
    Mistake({"default": True}, ".default", "true", 'one of "off", "on"'),
    # about the flag
    Mistake({"kind": "toggle"}, ".kind", '"toggle"', '"experiment", "ops", "permission", "release"'),
    Mistake({"owner": ""}, ".owner", '""', "1 to 128 printable characters"),
    Mistake({"owner": 5}, ".owner", "5", "1 to 128 printable characters"),
    Mistake({"owner": "x" * 200}, ".owner", "xxx…", "1 to 128 printable characters"),
    Mistake({"description": 5}, ".description", "5", "a string of at most 4,096"),
    Mistake({"expires": "tomorrow"}, ".expires", '"tomorrow"', DATE),
    Mistake({"expires": 20270101}, ".expires", "20270101", DATE),
    Mistake({"salt": "a b"}, ".salt", '"a b"', KEY),
    Mistake({"salt": "x" * 129}, ".salt", "xxx…", KEY),
    Mistake({"hash": "md5"}, ".hash", '"md5"', '"murmur3-v1"'),
    Mistake({"version": 1.5}, ".version", "1.5", "a string of 1 to 128 printable characters"),
    Mistake({"version": 10**200}, ".version", "1000", "a whole number from 0 to"),
    Mistake({"client": "yes"}, ".client", '"yes"', "true or false"),
    Mistake({"overridable": "yes"}, ".overridable", '"yes"', "true, false, or an object"),
    Mistake({"overridable": {"until": 1}}, ".overridable.until", "unknown field", "issued_after, revoked"),
    Mistake({"overridable": {"issued_after": "now"}}, ".overridable.issued_after", '"now"', DATE),
    Mistake({"overridable": {"revoked": "a"}}, ".overridable.revoked", '"a"', "an array"),
    Mistake({"overridable": {"revoked": [1]}}, ".overridable.revoked[0]", "1", "1 to 128 printable characters"),
    Mistake({"overridable": {"revoked": ["a"] * 1001}}, ".overridable.revoked", "1001 tokens", "at most 1,000"),
    Mistake({"max_age_s": 0}, ".max_age_s", "0", "a whole number from 1 to"),
    Mistake({"max_age_s": "1d"}, ".max_age_s", '"1d"', "a whole number from 1 to"),
    # prerequisites
    Mistake({"prerequisites": {}}, ".prerequisites", "{}", "an array"),
    Mistake(parents({"variants": ["on"]}), ".prerequisites[0].flag", "null", KEY),
    Mistake(parents({"flag": "p"}), ".prerequisites[0].variants", "null", "an array"),
    Mistake(parents({"flag": "p", "variants": []}), ".prerequisites[0].variants", "an empty list", "at least one"),
    Mistake(parents({"flag": "p", "variants": [1]}), ".prerequisites[0].variants", "1", "printable characters"),
    Mistake(
        parents({"flag": "p", "variants": ["on"], "x": 1}), ".prerequisites[0].x", "unknown field", "flag, variants"
    ),
    Mistake(parents("p"), ".prerequisites[0]", '"p"', "an object"),
    # targets
    Mistake({"targets": []}, ".targets", "[]", "an object"),
    Mistake({"targets": {"maybe": ["u"]}}, ".targets.maybe", '"maybe"', 'one of "off", "on"'),
    Mistake({"targets": {"on": "u"}}, ".targets.on", '"u"', "an array of units"),
    Mistake({"targets": {"on": [""]}}, ".targets.on[0]", '""', UNIT),
    Mistake({"targets": {"on": ["u", True]}}, ".targets.on[1]", "true", UNIT),
    Mistake({"targets": {"on": [1.5]}}, ".targets.on[0]", "1.5", UNIT),
    Mistake({"targets": {"on": ["x" * 1025]}}, ".targets.on[0]", "xxx…", UNIT),
    Mistake({"targets": {"on": ["\ud800"]}}, ".targets.on[0]", '"\\ud800"', UNIT),
    Mistake({"targets": {"on": ["u"], "off": ["u"]}}, ".targets.off[0]", '"u"', "a target of two variants"),
    # rules
    Mistake({"rules": {}}, ".rules", "{}", "an array"),
    Mistake(rule(5), RULE, "5", "an object"),
    Mistake(rule({}), RULE, "expected", 'either "serve" or "split"'),
    Mistake(rule({"serve": "on", "split": []}), RULE, "expected", 'either "serve" or "split"'),
    Mistake(rule({"serve": "maybe"}), f"{RULE}.serve", '"maybe"', 'one of "off", "on"'),
    Mistake(rule({"serve": True}), f"{RULE}.serve", "true", 'one of "off", "on"'),
    Mistake(rule({"name": "", "serve": "on"}), f"{RULE}.name", '""', "printable characters"),
    Mistake(
        rule({"serve": "on", "percent": 5}), f"{RULE}.percent", "unknown field", "name, rollout, serve, split, when"
    ),
    Mistake({"rules": [{"name": "a", "serve": "on"}] * 2}, ".rules", "two rules", "the same name"),
    # splits
    Mistake(split(), f"{RULE}.split", "expected", "at least one weight above 0"),
    Mistake(split({"variant": "on", "weight": 0}), f"{RULE}.split", "expected", "at least one weight above 0"),
    Mistake(split({"variant": "on", "weight": -1}), f"{RULE}.split[0].weight", "-1", "from 0 to 1,000,000"),
    Mistake(split({"variant": "on", "weight": 0.5}), f"{RULE}.split[0].weight", "0.5", "from 0 to 1,000,000"),
    Mistake(split({"variant": "on"}), f"{RULE}.split[0].weight", "null", "from 0 to 1,000,000"),
    Mistake(split({"variant": "maybe", "weight": 1}), f"{RULE}.split[0].variant", '"maybe"', 'one of "off", "on"'),
    Mistake(rule({"split": {"on": 1}}), f"{RULE}.split", '{"on": 1}', "an array"),
    # rollouts
    Mistake(rule({"rollout": 5, "serve": "on"}), ROLLOUT, "5", "an object"),
    Mistake(rule({"rollout": {}, "serve": "on"}), ROLLOUT, "expected", 'either "percent" or "steps"'),
    Mistake(rollout(5, steps=[]), ROLLOUT, "expected", 'either "percent" or "steps"'),
    Mistake(rollout(101), f"{ROLLOUT}.percent", "101", "a percentage from 0 to 100"),
    Mistake(rollout(-1), f"{ROLLOUT}.percent", "-1", "a percentage from 0 to 100"),
    Mistake(rollout("5"), f"{ROLLOUT}.percent", '"5"', "a percentage from 0 to 100"),
    Mistake(rollout(True), f"{ROLLOUT}.percent", "true", "a percentage from 0 to 100"),
    Mistake(rollout(10**400), f"{ROLLOUT}.percent", "100000", "a percentage from 0 to 100"),
    Mistake(rollout(0.0001), f"{ROLLOUT}.percent", "0.0001", "at most three decimals"),
    Mistake(rollout(5, by=""), f"{ROLLOUT}.by", '""', PATH),
    Mistake(rollout(5, by=[]), f"{ROLLOUT}.by", "[]", PATH),
    Mistake(rollout(5, percentage=5), f"{ROLLOUT}.percentage", "unknown field", 'did you mean "percent"?'),
    Mistake(steps(), f"{ROLLOUT}.steps", "no steps", "at least one"),
    Mistake(steps({"percent": 5}), f"{ROLLOUT}.steps[0].from", "null", DATE),
    Mistake(steps({"from": "noon", "percent": 5}), f"{ROLLOUT}.steps[0].from", '"noon"', DATE),
    Mistake(steps({"from": "2026-12-01"}), f"{ROLLOUT}.steps[0].percent", "null", "a percentage from 0 to 100"),
    Mistake(
        steps({"from": "2026-12-02", "percent": 5}, {"from": "2026-12-01", "percent": 9}),
        f"{ROLLOUT}.steps[1].from",
        '"2026-12-01"',
        "a later time than the step before",
    ),
    # conditions
    Mistake({"exclude": {}}, ".exclude", "{}", "an array"),
    Mistake({"exclude": ["x"]}, ".exclude[0]", '"x"', "a condition (an object)"),
    Mistake(when(5), WHEN, "5", "a condition (an object)"),
    Mistake(when({}), WHEN, "{}", '"attribute", "segment", "enrolled", "time", "any", "all" or "not"'),
    Mistake(when({"attribute": "a"}), f"{WHEN}.op", "null", '"after", "before", "between"'),
    Mistake(when({"op": "in", "values": ["x"]}), f"{WHEN}.attribute", "null", PATH),
    Mistake(when({"attribute": "", "op": "exists"}), f"{WHEN}.attribute", '""', PATH),
    Mistake(attribute("equals", "x"), f"{WHEN}.op", '"equals"', '"after", "before", "between"'),
    Mistake(when({"attribute": "a", "op": "in", "value": ["x"]}), f"{WHEN}.value", "unknown field", '"values"?'),
    Mistake(when({"attribute": "a", "op": "in", "values": "x"}), VALUES, '"x"', "an array"),
    Mistake(attribute("in"), VALUES, "[]", "at least one value"),
    Mistake(attribute("in", None), VALUES, "[null]", "strings, numbers or booleans"),
    Mistake(attribute("in", ["x"]), VALUES, '[["x"]]', "strings, numbers or booleans"),
    Mistake(attribute("in", "x" * 4097), VALUES, "xxx…", "values of at most 4,096 characters"),
    Mistake(attribute("in", "x", **{"not": "yes"}), f"{WHEN}.not", '"yes"', "true or false"),
    Mistake(attribute("in", "x", ignore_case=1), f"{WHEN}.ignore_case", "1", "true or false"),
    Mistake(attribute("greater", 1, ignore_case=True), f"{WHEN}.ignore_case", '"greater"', "leave it out"),
    Mistake(attribute("contains", 5), VALUES, "[5]", "strings as values"),
    Mistake(attribute("greater", "5"), VALUES, '["5"]', "one number as the value"),
    Mistake(attribute("greater", 1, 2), VALUES, "[1, 2]", "one number as the value"),
    Mistake(attribute("less", True), VALUES, "[true]", "one number as the value"),
    Mistake(attribute("between", 1), VALUES, "[1]", "2 numbers as values"),
    Mistake(attribute("between", 5, 1), VALUES, "[5, 1]", "the lower bound first"),
    Mistake(attribute("before", "yesterday"), VALUES, '["yesterday"]', 'or an age such as "7d"'),
    Mistake(attribute("after", "7y"), VALUES, '["7y"]', 'or an age such as "7d"'),
    Mistake(attribute("semver_equal", "v1.2.3"), VALUES, '["v1.2.3"]', 'a semantic version such as "2.3.0"'),
    Mistake(attribute("semver_tilde", 1.2), VALUES, "[1.2]", "strings as values"),
    Mistake(attribute("in_cidr", "10.0.0.0/40"), VALUES, '["10.0.0.0/40"]', "a network such as"),
    Mistake(attribute("matches", "x" * 257), VALUES, "xxx…", "at most 256 characters"),
    Mistake(attribute("exists", "x"), VALUES, '["x"]', "no values"),
    Mistake(when({"segment": 5}), f"{WHEN}.segment", "5", KEY),
    Mistake(when({"segment": []}), f"{WHEN}.segment", "an empty list", "at least one segment"),
    Mistake(when({"segment": "s", "x": 1}), f"{WHEN}.x", "unknown field", "not, segment"),
    Mistake(when({"segment": "nowhere"}), "", '"nowhere"', "not defined"),
    Mistake(when({"enrolled": False}), f"{WHEN}.enrolled", "false", "true"),
    Mistake(when({"any": []}), f"{WHEN}.any", "no conditions", "at least one"),
    Mistake(when({"any": [5]}), f"{WHEN}.any[0]", "5", "a condition (an object)"),
    Mistake(when({"all": {}}), f"{WHEN}.all", "{}", "an array"),
    Mistake(when({"not": 5}), f"{WHEN}.not", "5", "a condition (an object)"),
    Mistake(when({"time": {}}), f"{WHEN}.time", "{}", 'an object with "from", "until" or both'),
    Mistake(when({"time": "now"}), f"{WHEN}.time", '"now"', "an object"),
    Mistake(when({"time": {"from": "x"}}), f"{WHEN}.time.from", '"x"', DATE),
    Mistake(
        when({"time": {"from": "2026-12-02", "until": "2026-12-01"}}),
        f"{WHEN}.time.until",
        '"2026-12-01"',
        'a time after "from"',
    ),
]


def name(mistake: Mistake) -> str:
    return f"{mistake.path[1:] or 'flag'}={json.dumps(mistake.flag)[:60]}"


@pytest.mark.parametrize("mistake", MISTAKES, ids=name)
def test_a_mistake_is_one_line_with_its_place_what_was_found_and_what_would_be_right(mistake: Mistake) -> None:
    problems = parsed({"f": mistake.flag, "p": {}}).problems
    assert [problem.path for problem in problems] == [f"$.flags.f{mistake.path}"]
    (problem,) = problems
    assert mistake.got in problem.message
    assert mistake.right in problem.message
    assert (problem.flag, problem.refused) == ("f", True)
    assert str(problem) == f"{problem.path}: {problem.message}"
    assert str(problem).isprintable()


@pytest.mark.parametrize("mistake", MISTAKES, ids=name)
def test_a_mistake_costs_its_flag_the_update_and_no_other(mistake: Mistake) -> None:
    before = parsed({"f": {}, "p": {}}).definitions
    after = parsed({"f": mistake.flag, "p": {"enabled": False}}, before).definitions
    assert after.flags["f"] is before.flags["f"]
    assert after.flags["p"].enabled is False
    assert after.refused == frozenset()
    assert parsed({"f": mistake.flag, "p": {}}).definitions.refused == {"f"}


@pytest.mark.parametrize("mistake", [each for each in MISTAKES if isinstance(each.flag, dict)], ids=name)
def test_whatever_else_is_wrong_a_flag_can_be_turned_off(mistake: Mistake) -> None:
    if "enabled" in mistake.flag:
        return
    before = parsed({"f": {"default": "on"}}).definitions
    off = {**mistake.flag, "enabled": False}
    after = parsed({"f": off, "p": {}}, before).definitions
    assert (after.flags["f"].enabled, after.refused) == (False, frozenset())
    unheard_of = parsed({"f": off, "p": {}}).definitions
    assert (unheard_of.flags["f"].enabled, unheard_of.refused) == (False, frozenset())


def test_every_mistake_in_a_flag_is_told() -> None:
    flag = {
        "enabled": "yes",
        "kind": "toggle",
        "owner": 5,
        "rules": [{"serve": "maybe"}, {"rollout": {"percent": 101}, "serve": "on"}],
        "salt": "a b",
    }
    assert {problem.path for problem in parsed({"f": flag}).problems} == {
        "$.flags.f.enabled",
        "$.flags.f.kind",
        "$.flags.f.owner",
        "$.flags.f.rules[0].serve",
        "$.flags.f.rules[1].rollout.percent",
        "$.flags.f.salt",
    }


@pytest.mark.parametrize("operator", ["greater", "less_or_equal", "between", "in"])
def test_a_number_beyond_any_float_is_a_number_like_others(operator: str) -> None:
    values = [0, 10**400] if operator == "between" else [10**400]
    assert parsed({"f": attribute(operator, *values)}).problems == ()


@pytest.mark.parametrize(
    ("guard", "place", "found", "expected"),
    [
        (5, "", "5", "an object"),
        ({"alpha": 0}, ".alpha", "0", "a number over 0 and under 1"),
        ({"alpha": True}, ".alpha", "true", "a number over 0 and under 1"),
        ({"action": "panic"}, ".action", '"panic"', '"rollback" or "alert"'),
        ({"control": "none"}, ".control", '"none"', 'one of "off", "on"'),
        ({"control": 1}, ".control", "1", "the name of a variant"),
        ({"revision": -1}, ".revision", "-1", "a whole number, 0 or more"),
        ({"error_tolerance": -0.1}, ".error_tolerance", "-0.1", "a number from 0 to 100"),
        ({"latency_tolerance": "0.2"}, ".latency_tolerance", '"0.2"', "a number from 0 to 100, or null"),
        ({"metrics": "errors"}, ".metrics", '"errors"', "a list of at most 100 names"),
        ({"metrics": [""]}, ".metrics", '[""]', "a list of at most 100 names"),
        ({"calls_per_unit": 32}, ".calls_per_unit", "32", "a whole number from 1 to 31"),
        ({"slo": 1}, ".slo", "1", "an error rate over 0 and under 1"),
        ({"min_rate": 0}, ".min_rate", "0", "an error rate over 0 and under 1"),
        ({"deadline_s": 0}, ".deadline_s", "0", "seconds from 0.001 to 86,400"),
    ],
)
def test_a_mistake_in_a_guard_costs_the_guard_and_not_the_flag(
    guard: object, place: str, found: str, expected: str
) -> None:
    read = parsed({"f": {**ON, "guard": guard}})
    (problem,) = read.problems
    assert (problem.path, problem.refused) == (f"$.flags.f.guard{place}", False)
    assert f"got {found}; expected {expected}" in problem.message
    assert problem.message.endswith("; the flag is served without a guard")
    assert read.definitions.flags["f"].guard is None
    assert read.definitions.flags["f"].default == "on"


def test_a_field_that_no_guard_has_costs_the_guard_too() -> None:
    (problem,) = parsed({"f": {"guard": {"aplha": 0.1}}}).problems
    assert (problem.path, problem.refused) == ("$.flags.f.guard.aplha", False)


def test_a_guard_without_fields_is_one_with_every_default() -> None:
    read = parsed({"f": {"guard": {}}, "g": {"guard": {"alpha": 0.05, "metrics": ["refund"], "control": None}}})
    assert read.problems == ()
    assert read.definitions.flags["f"].guard == GuardPolicy()
    assert read.definitions.flags["g"].guard == GuardPolicy(alpha=0.05, metrics=["refund"])


def test_a_line_stays_a_line_whatever_characters_the_document_holds() -> None:
    nasty = "a\nb\x1b[31m\u2028c"
    flags = {
        "f": {nasty: 1},
        "g": {"variants": {nasty: 1}},
        "h": {"variants": {"a": {}}, "off": nasty},
        "i": when({"attribute": nasty, "op": "in", nasty: 1}),
        nasty: {},
    }
    problems = parsed(flags).problems
    assert len(problems) >= 5
    assert [problem for problem in problems if not str(problem).isprintable()] == []


def test_without_its_extra_an_operator_is_a_problem_that_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "re2", None)
    (problem,) = parsed({"f": attribute("matches", "^a")}).problems
    assert "flagkit[regex]" in problem.message


def test_a_regular_expression_that_cannot_be_read_is_a_problem() -> None:
    pytest.importorskip("re2")
    (problem,) = parsed({"f": attribute("matches", "(")}).problems
    assert problem.path == f"$.flags.f{VALUES}"
    assert "RE2" in problem.message


@pytest.mark.parametrize(
    ("flag", "said"),
    [
        ('{"enabled": true, "enabled": false}', 'the key "enabled" stands twice'),
        ('{"rules": [{"serve": "on", "serve": "off"}]}', 'the key "serve" stands twice'),
        ('{"variants": {"a": NaN}, "off": "a"}', "NaN is not JSON"),
        ('{"variants": {"a": -Infinity}, "off": "a"}', "-Infinity is not JSON"),
        ('{"variants": {"a": 1e999}, "off": "a"}', "the number 1e999 is too large"),
    ],
)
def test_json_that_is_not_strict_costs_its_flag_only(flag: str, said: str) -> None:
    read = native.parse(b'{"schema": 1, "flags": {"f": %s, "g": {}}}' % flag.encode())
    assert [(problem.path, problem.message) for problem in read.problems] == [("$.flags.f", said)]
    assert set(read.definitions.flags) == ({"g", "f"} if "false" in flag and "enabled" in flag else {"g"})


def test_json_values_may_nest_as_deep_as_anyone_needs_and_no_deeper() -> None:
    def nested(depth: int) -> dict[str, Any]:
        value: Any = 1
        for _ in range(depth):
            value = [value]
        return {"variants": {"a": value}, "off": "a"}

    assert parsed({"f": nested(28)}).problems == ()
    (problem,) = parsed({"f": nested(29)}).problems
    assert (problem.path, problem.message) == (
        "$.flags.f.variants.a",
        "nested too deeply; expected at most 32 levels",
    )


def test_conditions_may_nest_sixteen_levels() -> None:
    def nested(depth: int) -> dict[str, Any]:
        condition: Any = {"enrolled": True}
        for _ in range(depth):
            condition = {"not": condition}
        return when(condition)

    assert parsed({"f": nested(16)}).problems == ()
    (problem,) = parsed({"f": nested(17)}).problems
    assert problem.message == "nested too deeply; expected at most 16 levels"
