"""GrowthBook's own cases: features through the client, the specification's functions by themselves."""

from __future__ import annotations

import json
from typing import Any

import pytest

from flagkit import Client, sources
from flagkit.decision import Decision, ErrorCode, Reason
from flagkit.dialects import growthbook
from flagkit.dialects.growthbook_conditions import eval_condition
from flagkit.dialects.growthbook_hash import bucket_ranges, choose_variation, digest, equal_weights, in_namespace
from flagkit.dialects.growthbook_run import run
from tests.dialects.conformance import cases

Json = dict[str, Any]
SUITE = json.loads(cases("growthbook", "cases.json").read_text(encoding="utf-8"))


def each(group: str) -> Any:
    return pytest.mark.parametrize("case", SUITE[group], ids=lambda case: str(case[0]) or "empty")


def source_of(decision: Decision) -> str:
    """What GrowthBook calls where an answer comes from."""
    if decision.error_code is ErrorCode.FLAG_NOT_FOUND:
        return "unknownFeature"
    if decision.error_code is ErrorCode.GENERAL:
        return "cyclicPrerequisite"
    return {
        Reason.STATIC: "defaultValue",
        Reason.DEFAULT: "defaultValue",
        Reason.TARGETING_MATCH: "force",
        Reason.SPLIT: "split",
        Reason.OVERRIDE: "experiment",
        Reason.PREREQUISITE_FAILED: "prerequisite",
    }[decision.reason]


@each("feature")
def test_a_feature_is_evaluated_as_by_growthbook(case: list[Any]) -> None:
    _, options, key, expected = case
    document = {"features": options.get("features", {}), "savedGroups": options.get("savedGroups", {})}
    client = Client(source=sources.Static(document, dialect="growthbook"), sink=None)
    context = growthbook.context({"attributes": {}, **options})
    decision = client.decide(key, context)
    assert (decision.value, decision.enabled) == (expected["value"], expected["on"])
    assert client.enabled(key, context) is expected["on"]
    source = source_of(decision)
    # A share of units decides in experiments, in forced rollouts, and over who gets a default instead of one of those.
    assert source == expected["source"] or (
        source == "split" and expected["source"] in ("defaultValue", "force", "experiment")
    )
    if expected.get("ruleId") and expected["source"] == "force":
        assert decision.rule == expected["ruleId"]
    if "experiment" in expected:
        result = expected["experimentResult"]
        assert decision.rule == expected["experiment"]["key"]
        assert decision.variant == result["key"]
        assert decision.analysable is result["hashUsed"]


@each("evalCondition")
def test_a_condition_matches_as_in_growthbook(case: list[Any]) -> None:
    _, condition, attributes, expected, *groups = case
    assert eval_condition(attributes, condition, *groups) is expected


@each("evalCondition")
def test_a_condition_of_a_feature_matches_as_in_growthbook(case: list[Any]) -> None:
    _, condition, attributes, expected, *groups = case
    document = {
        "features": {"f": {"defaultValue": False, "rules": [{"condition": condition, "force": True}]}},
        "savedGroups": groups[0] if groups else {},
    }
    client = Client(source=sources.Static(document, dialect="growthbook"), sink=None)
    assert client.enabled("f", growthbook.context(attributes)) is expected


@each("hash")
def test_hash(case: list[Any]) -> None:
    seed, value, version, expected = case
    assert digest(seed, value, version) == expected


@each("getBucketRange")
def test_bucket_ranges(case: list[Any]) -> None:
    _, arguments, expected = case
    assert bucket_ranges(*arguments) == [pytest.approx(bounds) for bounds in expected]


@each("chooseVariation")
def test_choose_variation(case: list[Any]) -> None:
    _, n, ranges, expected = case
    assert choose_variation(n, ranges) == expected


@each("inNamespace")
def test_in_namespace(case: list[Any]) -> None:
    _, value, namespace, expected = case
    assert in_namespace(value, namespace) is expected


@each("getEqualWeights")
def test_equal_weights(case: list[Any]) -> None:
    count, expected = case
    assert [round(weight, 8) for weight in equal_weights(count)] == expected


@each("decrypt")
def test_decrypt(case: list[Any]) -> None:
    pytest.importorskip("cryptography", reason="the extra growthbook is not installed")
    from flagkit.sources.decryption import decrypt

    _, encrypted, key, expected = case
    if expected is None:
        with pytest.raises(ValueError):
            decrypt(encrypted, key)
    else:
        assert decrypt(encrypted, key) == expected


@each("run")
def test_run(case: list[Any]) -> None:
    _, options, experiment, value, in_experiment, hash_used = case
    result = run(experiment, options)
    assert (result.value, result.in_experiment, result.hash_used) == (value, in_experiment, hash_used)


def a_rule_can_say(case: list[Any]) -> bool:
    _, options, experiment, *_ = case
    beyond = {"active", "force", "status", "url", "include", "groups"} & experiment.keys()
    return not beyond and not {"enabled", "qaMode", "url", "overrides"} & options.keys()


@pytest.mark.parametrize("case", list(filter(a_rule_can_say, SUITE["run"])), ids=lambda case: str(case[0]))
def test_an_experiment_that_is_a_rule_of_a_feature_is_run_alike(case: list[Any]) -> None:
    _, options, experiment, value, in_experiment, hash_used = case
    document = {
        "features": {**options.get("features", {}), "f": {"defaultValue": "none", "rules": [experiment]}},
        "savedGroups": options.get("savedGroups", {}),
    }
    client = Client(source=sources.Static(document, dialect="growthbook"), sink=None)
    decision = client.decide("f", growthbook.context({"attributes": {}, **options}))
    assert decision.value == (value if in_experiment else "none")
    assert decision.analysable is hash_used
