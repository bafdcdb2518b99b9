"""GrowthBook's features: what becomes of rules and values, what a mistake costs, and what is reused."""

from __future__ import annotations

import json
from typing import Any

import pytest

from flagkit import Client, Context, sources
from flagkit.core.model import Definitions
from flagkit.core.snapshot import Snapshot
from flagkit.decision import Decision, ErrorCode, Reason
from flagkit.dialects import Parsed, flagd, growthbook
from flagkit.dialects.growthbook_conditions import eval_condition
from flagkit.dialects.growthbook_hash import digest
from flagkit.dialects.growthbook_run import query_override, run
from flagkit.errors import DefinitionsError

Json = dict[str, Any]
ON: Json = {"defaultValue": True}
USER = Context("user-1", {"country": "SE"})


def parsed(features: Json, groups: Json | None = None, previous: Definitions | None = None, **head: Any) -> Parsed:
    document = {"features": features, **({} if groups is None else {"savedGroups": groups}), **head}
    return growthbook.parse(json.dumps(document).encode(), previous)


def decide(found: Parsed, key: str, context: Any = USER, forced: Any = None) -> Decision:
    return Snapshot(found.definitions, now_ms=lambda: 0, observe=True).decide(key, context, forced)


def answer(*rules: Json, context: Any = USER, default: Any = False, **features: Json) -> Decision:
    return decide(parsed({"f": {"defaultValue": default, "rules": list(rules)}, **features}), "f", context)


def messages(found: Parsed) -> list[str]:
    return [str(problem) for problem in found.problems]


# -- what a feature answers


def test_a_feature_without_rules_is_static_and_one_whose_rules_do_not_match_has_its_default() -> None:
    assert decide(parsed({"f": ON}), "f").reason is Reason.STATIC
    decision = answer({"condition": {"country": "NO"}, "force": True})
    assert (decision.variant, decision.reason, decision.enabled) == ("off", Reason.DEFAULT, False)


def test_a_forced_value_is_a_targeting_match_and_names_its_rule() -> None:
    decision = answer({"id": "fr_1", "condition": {"country": "SE"}, "force": True})
    assert (decision.variant, decision.reason, decision.rule) == ("on", Reason.TARGETING_MATCH, "fr_1")
    assert not decision.analysable
    assert answer({"force": True}).rule == "rules[0]"


@pytest.mark.parametrize(
    ("value", "on"), [(None, False), (0, False), ("", False), (False, False), ([], True), ({}, True), ("0", True)]
)
def test_enabled_is_what_growthbook_calls_on(value: Any, on: bool) -> None:
    decision = answer(default=value)
    assert (decision.enabled, decision.value) == (on, value)


def test_a_rollout_is_a_split_and_who_it_leaves_out_is_its_control() -> None:
    rule = {"id": "ramp", "force": True, "coverage": 0.5}
    n = {unit: digest("f", unit, 1) or 0 for unit in ("user-1", "user-2", "user-3", "user-4", "user-5")}
    assert {share <= 0.5 for share in n.values()} == {True, False}
    for unit, share in n.items():
        decision = answer(rule, context=Context(unit))
        assert (decision.variant, decision.reason) == ("on" if share <= 0.5 else "off", Reason.SPLIT)
        assert (decision.rule, decision.analysable) == ("ramp", True)


def test_after_a_rollout_has_left_a_unit_out_nothing_else_compares_it() -> None:
    out = {"id": "ramp", "force": True, "coverage": 0}
    forced = answer(out, {"id": "rest", "force": 1}, default=0)
    assert (forced.value, forced.analysable) == (1, False)
    split = answer(out, {"key": "exp", "variations": ["a", "b"]}, default="")
    assert (split.rule, split.reason, split.analysable) == ("exp", Reason.SPLIT, False)


def test_without_a_unit_a_rollout_is_for_nobody_and_leaves_nobody_out() -> None:
    decision = answer({"force": True, "coverage": 1}, context=Context())
    assert (decision.variant, decision.reason, decision.analysable) == ("off", Reason.DEFAULT, False)


def test_the_unit_stands_in_for_an_id_that_a_context_has_not() -> None:
    rules = {"condition": {"id": "user-1"}, "force": True}
    assert answer(rules).enabled
    assert answer(rules, context={"unit": "user-1"}).enabled
    assert not answer(rules, context=Context("user-1", {"id": "other"})).enabled
    experiment = {"variations": ["a", "b"], "hashVersion": 2}
    for unit in ("user-1", "user-2", "ö😀"):
        own = growthbook.context({"id": unit})
        assert answer(experiment, context=Context(unit)).value == answer(experiment, context=own).value


def test_an_experiment_is_a_split_named_by_its_key() -> None:
    rule = {"key": "exp", "variations": ["a", "b"], "meta": [{"key": "control"}, {"key": "blue", "name": "Blue"}]}
    decision = answer(rule, default="")
    assert (decision.rule, decision.reason, decision.analysable) == ("exp", Reason.SPLIT, True)
    assert (decision.variant, decision.value) in (("control", "a"), ("blue", "b"))


def test_an_invalid_context_is_said_to_be_one() -> None:
    assert answer({"force": True}, context=Context(None)).error_code is ErrorCode.INVALID_CONTEXT


# -- names of variants


def test_variants_are_named_by_what_they_are_and_not_by_where_they_stand() -> None:
    rules = [{"force": value} for value in (True, False, "blue", 7, {"a": 1}, None)]
    names = parsed({"f": {"defaultValue": "grey", "rules": rules}}).definitions.flags["f"].variants
    again = parsed({"f": {"defaultValue": "grey", "rules": rules[::-1]}}).definitions.flags["f"].variants
    assert dict(names) == dict(again)
    assert {"default", "on", "off", "value-blue", "value-7"} < names.keys()


def test_a_variation_whose_name_is_taken_by_another_value_is_put_behind_its_experiment() -> None:
    rules = [{"key": "e1", "variations": ["a", "b"]}, {"key": "e2", "variations": ["a", "c"]}]
    flag = parsed({"f": {"defaultValue": "a", "rules": rules}}).definitions.flags["f"]
    assert flag.variants == {"default": "a", "0": "a", "1": "b", "e2:1": "c"}


def test_callers_are_told_the_variation_s_own_name_all_the_same() -> None:
    rules = [{"key": "e1", "variations": ["a", "b"], "coverage": 0}, {"key": "e2", "variations": ["c", "d"]}]
    decision = answer(*rules, default="")
    assert (decision.rule, decision.value, decision.variant) in (("e2", "c", "0"), ("e2", "d", "1"))


def test_a_boolean_feature_has_both_variants_so_that_either_can_be_forced() -> None:
    found = parsed({"f": {"defaultValue": False}, "g": ON})
    assert decide(found, "f", forced={"f": True}).value is True
    assert decide(found, "g", forced={"g": False}).value is False


# -- forced variations


def test_a_forced_variation_is_an_override_and_no_exposure() -> None:
    rule = {"key": "exp", "variations": ["a", "b"], "namespace": ["none", 0, 0]}
    for index, value in enumerate("ab"):
        context = growthbook.context({"attributes": {"id": "u"}, "forcedVariations": {"exp": index}})
        decision = answer(rule, context=context, default="")
        assert (decision.value, decision.reason, decision._exposed) == (value, Reason.OVERRIDE, None)
    context = growthbook.context({"attributes": {"id": "u"}, "forcedVariations": {"exp": 9}})
    assert answer(rule, {"force": "c"}, context=context, default="").value == "c"


# -- prerequisites


def test_a_gate_that_is_shut_leaves_it_to_the_caller() -> None:
    gate = {"parentConditions": [{"id": "p", "condition": {"value": True}, "gate": True}]}
    decision = answer(gate, {"force": True}, p={"defaultValue": False})
    assert (decision.variant, decision.reason, decision.error_code) == (None, Reason.PREREQUISITE_FAILED, None)
    assert answer(gate, {"force": True}, p=ON).enabled


def test_a_prerequisite_that_is_no_gate_skips_its_rule_only() -> None:
    rule = {"parentConditions": [{"id": "p", "condition": {"value": {"$gt": 5}}}], "force": 1}
    assert answer(rule, {"force": 2}, default=0, p={"defaultValue": 5}).value == 2
    assert answer(rule, {"force": 2}, default=0, p={"defaultValue": 6}).value == 1
    assert answer(rule, {"force": 2}, default=0).value == 2


def test_a_prerequisite_is_asked_with_what_is_forced() -> None:
    gate = {"parentConditions": [{"id": "p", "condition": {"value": True}, "gate": True}], "force": True}
    found = parsed({"f": {"defaultValue": False, "rules": [gate]}, "p": {"defaultValue": False}})
    assert decide(found, "f", forced={"p": True}).enabled
    assert not decide(found, "f").enabled


def test_prerequisites_in_a_circle_are_an_error_for_whom_it_comes_to_that_and_a_problem_at_load() -> None:
    def asking(key: str) -> Json:
        return {"parentConditions": [{"id": key, "condition": {"value": True}, "gate": True}]}

    early = {"condition": {"country": "NO"}, "force": True}
    found = parsed({key: {**ON, "rules": [early, asking("b" if key == "a" else "a")]} for key in "ab"})
    assert [problem.flag for problem in found.problems] == ["a", "b"]
    assert decide(found, "a").error_code is ErrorCode.GENERAL
    assert decide(found, "a", Context("user-1", {"country": "NO"})).enabled
    assert decide(parsed({"a": {**ON, "rules": [asking("a")]}}), "a").error_code is ErrorCode.GENERAL


def test_prerequisites_without_end_are_given_up() -> None:
    levels = 40
    features = {
        f"f{n}": {**ON, "rules": [{"parentConditions": [{"id": f"f{n + 1}", "condition": {"value": True}}] * 2}]}
        for n in range(levels)
    }
    found = parsed({**features, f"f{levels}": ON})
    assert any("more prerequisites" in message for message in messages(found))
    assert decide(found, "f0").error_code is ErrorCode.GENERAL
    assert decide(found, f"f{levels - 5}").enabled


def test_a_feature_is_made_anew_when_another_brings_it_into_a_circle() -> None:
    asking = {**ON, "rules": [{"parentConditions": [{"id": "b", "condition": {}}]}]}
    first = parsed({"a": asking, "b": ON})
    second = parsed({"a": asking, "b": {**ON, "rules": [{"parentConditions": [{"id": "a"}]}]}}, None, first.definitions)
    assert decide(first, "a").enabled
    assert decide(second, "a").error_code is ErrorCode.GENERAL


# -- conditions, beyond the published cases


@pytest.mark.parametrize(
    ("condition", "attributes", "expected"),
    [
        ({"a": {"$unknown": 1}}, {"a": 1}, False),
        ({"$not": {"a": {"$unknown": 1}}}, {"a": 1}, False),
        ({"a": {"$not": {"$unknown": 1}}}, {"a": 1}, False),
        ({"$nor": [{"a": {"$unknown": 1}}]}, {"a": 1}, False),
        ({"$or": [{"a": {"$unknown": 1}}, {"b": 1}]}, {"b": 1}, True),
        ({"$not": {"$and": [{"a": {"$unknown": 1}}, {"b": 2}]}}, {"b": 1}, True),
        ({"a": {"$notRegex": "("}}, {"a": "b"}, False),
        ({"a": {"$not": {"$regex": "("}}}, {"a": "b"}, False),
        ({"a": 1}, {"a": True}, False),
        ({"a": True}, {"a": 1}, False),
        ({"a": {"$in": [1]}}, {"a": True}, False),
        ({"a": {"$in": [True, 0]}}, {"a": False}, False),
        ({"a": 1}, {"a": 1.0}, True),
        ({"a": "1"}, {"a": 1}, False),
        ({"a": {"b": 1, "c": [{"d": None}]}}, {"a": {"c": [{"d": None}], "b": 1}}, True),
        ({"a": {"$gt": "\ufffd"}}, {"a": "😀"}, False),
        ({"a": {"$gt": []}}, {"a": 1}, False),
        ({"a": {"$lt": 1}}, {"a": None}, True),
        ({"a.1": "y"}, {"a": ["x", "y"]}, True),
        ({"a.length": 2}, {"a": ["x", "y"]}, True),
        ({"a.01": "y"}, {"a": ["x", "y"]}, False),
        ({"a": {"$elemMatch": {"$or": [{"b": 1}]}}}, {"a": [{"b": 1}]}, True),
        ({"a": {"$all": ["x", {"$regex": "^y"}]}}, {"a": ["x", "yz"]}, True),
        ({"a": {}}, {}, True),
        ({"a": {"$regex": "é"}}, {"a": "café"}, True),
        ({"a": {"$regex": "\\u00e9$"}}, {"a": "café"}, True),
        ({"a": {"$regex": "^caf.$"}}, {"a": "café\n"}, False),
        ({"a": {"$regex": "e$"}}, {"a": "e\n"}, False),
        ({"a": {"$regex": "^(b|c)[0-9]$"}}, {"a": "c7"}, True),
        ({"a": {"$regex": "^/docs/"}}, {"a": "/docs/x"}, True),
    ],
)
def test_what_a_condition_comes_to(condition: Json, attributes: Json, expected: bool) -> None:
    assert eval_condition(attributes, condition) is expected


@pytest.mark.parametrize("pattern", ["(a+)+$", "(a|a)*b", "(?:a*)*c", "a?" * 200 + "a" * 200])
def test_no_pattern_and_no_text_takes_long(pattern: str) -> None:
    assert eval_condition({"a": "a" * 8000 + "!"}, {"a": {"$regex": "x" + pattern}}) is False


def test_a_text_too_long_to_be_matched_matches_neither_way() -> None:
    for operator in ("$regex", "$notRegex"):
        assert not eval_condition({"a": "b" * 10_000}, {"a": {operator: "b"}})


def test_what_re2_cannot_do_is_a_mistake_and_what_nobody_can_a_remark() -> None:
    found = parsed({"f": {**ON, "rules": [{"condition": {"a": {"$regex": "(?=x)y"}}, "force": False}]}})
    assert decide(found, "f").error_code is ErrorCode.PARSE_ERROR
    assert "RE2" in messages(found)[0]
    found = parsed({"f": {**ON, "rules": [{"condition": {"a": {"$regex": "("}}, "force": False}]}})
    assert decide(found, "f").enabled
    assert [problem.refused for problem in found.problems] == [False]


def test_saved_groups_are_lists_and_conditions() -> None:
    groups = {
        "ids": ["user-1"],
        "typed": {"type": "list", "attributeKey": "country", "values": ["SE"]},
        "both": {"type": "condition", "condition": {"$savedGroup": {"id": "typed"}, "id": {"$inGroup": "ids"}}},
        "round": {"type": "condition", "condition": {"$savedGroup": {"id": "round"}}},
        "newer": {"type": "something else"},
    }

    def matches(condition: Json) -> bool:
        rules = [{"condition": condition, "force": True}]
        return decide(parsed({"f": {"defaultValue": False, "rules": rules}}, groups), "f").enabled

    assert matches({"$savedGroup": {"id": "both"}})
    assert matches({"id": {"$inGroup": "ids"}, "country": {"$inGroup": "typed"}})
    assert not matches({"$savedGroup": {"id": "typed", "attributeKey": "id"}})
    for id_ in ("round", "newer", "nobody"):
        assert not matches({"$savedGroup": {"id": id_}})
        assert not matches({"$not": {"$savedGroup": {"id": id_}}})


# -- mistakes


@pytest.mark.parametrize(
    ("feature", "path"),
    [
        (5, "$.features.f"),
        ({"rules": 5}, "$.features.f.rules"),
        ({"rules": [5]}, "$.features.f.rules[0]"),
        ({"rules": [{"force": 1, "coverage": "all"}]}, "$.features.f.rules[0].coverage"),
        ({"rules": [{"force": 1, "range": [0]}]}, "$.features.f.rules[0].range[0]"),
        ({"rules": [{"variations": 5}]}, "$.features.f.rules[0].variations"),
        ({"rules": [{"variations": [1, 2], "namespace": ["n"]}]}, "$.features.f.rules[0].namespace"),
        ({"rules": [{"force": 1, "condition": {"$or": 5}}]}, "$.features.f.rules[0].condition.$or"),
        (
            {"rules": [{"force": 1, "condition": {"a": {"$elemMatch": 5}}}]},
            "$.features.f.rules[0].condition.a.$elemMatch",
        ),
        ({"rules": [{"force": 1, "coverage": 1, "hashAttribute": 5}]}, "$.features.f.rules[0].hashAttribute"),
        ({"rules": [{"parentConditions": [{"condition": {}}]}]}, "$.features.f.rules[0].parentConditions[0].id"),
        ({"rules": [{"force": 1, "filters": [{"ranges": ["x"]}]}]}, "$.features.f.rules[0].filters[0].ranges[0]"),
    ],
)
def test_a_bad_feature_costs_that_feature_one_update(feature: Any, path: str) -> None:
    good = parsed({"f": ON, "g": ON})
    found = parsed({"f": feature, "g": ON}, None, good.definitions)
    assert [(problem.path, problem.flag, problem.refused) for problem in found.problems] == [(path, "f", True)]
    assert found.definitions.flags["f"] is good.definitions.flags["f"]
    assert decide(parsed({"f": feature}), "f").error_code is ErrorCode.PARSE_ERROR


@pytest.mark.parametrize(
    "rule",
    [
        {"force": True, "weights": [5]},
        {"variations": ["a", "b"], "weights": [0.5, 0.6, "x"], "coverage": 7},
        {"variations": ["a"]},
        {"contextualVariations": ["a", "b"], "contextualBanditRef": "b"},
        {"force": True, "hashVersion": 99, "coverage": 1},
        {"force": True, "tracks": [{"experiment": {}}], "minBucketVersion": 1, "bucketVersion": 2, "unheard": "of"},
    ],
)
def test_what_growthbook_forgives_is_forgiven(rule: Json) -> None:
    assert not any(problem.refused for problem in parsed({"f": {**ON, "rules": [rule]}}).problems)


@pytest.mark.parametrize(
    "document",
    [b"", b"[]", b"{}", b'{"features": 5}', b'{"status": 404, "error": "x"}', b'{"features": {}, "savedGroups": 5}'],
)
def test_a_document_that_is_none_is_refused(document: bytes) -> None:
    with pytest.raises(DefinitionsError):
        growthbook.parse(document, None)


def test_a_document_that_is_still_encrypted_is_refused_and_says_what_to_do() -> None:
    with pytest.raises(DefinitionsError, match="decryption_key"):
        parsed({}, encryptedFeatures="abc.def")


def test_a_document_most_of_whose_features_are_bad_is_refused() -> None:
    with pytest.raises(DefinitionsError, match="6 of 7"):
        parsed({**{f"f{n}": 5 for n in range(6)}, "g": ON})


def test_a_document_without_features_is_taken_since_it_is_how_the_last_one_is_turned_off() -> None:
    good = parsed({"f": ON})
    found = parsed({}, None, good.definitions)
    assert decide(found, "f").error_code is ErrorCode.FLAG_NOT_FOUND


def test_a_feature_that_stands_twice_is_bad() -> None:
    found = growthbook.parse(b'{"features": {"f": {"defaultValue": 1}, "f": {"defaultValue": 2}}}', None)
    assert "stands twice" in messages(found)[0]


# -- reuse


def test_what_is_unchanged_is_taken_over_as_it_is() -> None:
    first = parsed({"a": ON, "b": ON}, {"g": [1]})
    second = parsed({"a": ON, "b": {"defaultValue": False}}, {"g": [1]}, first.definitions)
    assert second.definitions.flags["a"] is first.definitions.flags["a"]
    assert second.definitions.flags["b"] is not first.definitions.flags["b"]


def test_a_changed_group_makes_the_features_that_use_it_anew_and_no_others() -> None:
    using = {"defaultValue": False, "rules": [{"condition": {"id": {"$inGroup": "g"}}, "force": True}]}
    first = parsed({"a": using, "b": ON}, {"g": ["user-2"]})
    second = parsed({"a": using, "b": ON}, {"g": ["user-1"]}, first.definitions)
    old, new = first.definitions.flags, second.definitions.flags
    assert new["a"] is not old["a"]
    assert new["a"].version != old["a"].version
    assert new["b"] is old["b"]
    assert not decide(first, "a").enabled
    assert decide(second, "a").enabled


def test_a_feature_whose_group_appears_is_made_anew() -> None:
    using = {"defaultValue": False, "rules": [{"condition": {"id": {"$inGroup": "g"}}, "force": True}]}
    first = parsed({"a": using})
    assert decide(parsed({"a": using}, {"g": ["user-1"]}, first.definitions), "a").enabled


def test_a_bad_group_keeps_its_last_good_version() -> None:
    using = {"defaultValue": False, "rules": [{"condition": {"id": {"$inGroup": "g"}}, "force": True}]}
    first = parsed({"a": using}, {"g": ["user-1"]})
    second = parsed({"a": using}, {"g": 5}, first.definitions)
    assert second.definitions.flags["a"] is first.definitions.flags["a"]


def test_the_version_follows_from_what_decides_and_not_from_spacing_or_order() -> None:
    one = growthbook.parse(b'{"features":{"f":{"defaultValue":1,"rules":[]}}}', None)
    other = growthbook.parse(b'{"features": {"f": {"rules": [], "defaultValue": 1}}}', None)
    assert one.definitions.flags["f"].version == other.definitions.flags["f"].version


def test_definitions_of_another_dialect_before_are_no_obstacle() -> None:
    before = flagd.parse(b'{"flags": {"f": {"state": "ENABLED", "variants": {"on": true}, "defaultVariant": "on"}}}')
    assert decide(parsed({"f": ON}, None, before.definitions), "f").enabled
    flagd.parse(b'{"flags": {}, "metadata": {"replaces": true}}', parsed({"f": ON}).definitions)


# -- contexts, and the client


def test_growthbook_s_attributes_become_a_context() -> None:
    assert growthbook.context({"id": "u", "a": 1}).unit == "u"
    assert growthbook.context({"id": "u", "a": 1}).attributes == {"id": "u", "a": 1}
    assert growthbook.context({"attributes": {"id": 7}}).unit_text == "7"
    for odd in ({"id": ""}, {"id": None}, {"id": 1.5}, {}):
        assert growthbook.context(odd)._key is None
    context = Context("u")
    assert growthbook.context(context) is context
    assert growthbook.context("u").unit == "u"


def test_a_flag_of_growthbook_answers_through_the_client() -> None:
    document = {"features": {"f": {"defaultValue": {"a": [1]}}}, "dateUpdated": "2026-11-28T00:00:00Z"}
    client = Client(source=sources.Static(document, dialect="growthbook"), sink=None)
    assert client.value("f", "user-1", default={}) == {"a": [1]}
    assert client.enabled("f", {"unit": "user-1"})
    assert client.explain("f", "user-1").decision.variant == "default"


# -- experiments by themselves


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://x/?e=1", 1),
        ("http://x/?a=b&e=0#e=1", 0),
        ("http://x/?e=2", None),
        ("http://x/?e=-1", None),
        ("http://x/?e=x", None),
        ("http://x/?ee=1", None),
        ("http://x/#?e=1", None),
        ("", None),
    ],
)
def test_a_url_s_query_may_ask_for_a_variation(url: str, expected: int | None) -> None:
    assert query_override("e", url, 2) == expected


def test_run_answers_with_key_and_bucket() -> None:
    result = run(
        {"key": "e", "variations": ["a", "b"], "meta": [{"key": "x"}, {"key": "y"}]}, {"attributes": {"id": "1"}}
    )
    assert (result.key, result.value) in (("x", "a"), ("y", "b"))
    assert result.bucket == digest("e", "1", 1)
