"""GrowthBook's own cases: features through the client, and each formula and experiment by itself."""

from __future__ import annotations

import json
from typing import Any

import pytest

from flagkit import Client, sources
from flagkit.dialects import growthbook
from flagkit.dialects.growthbook_conditions import eval_condition
from flagkit.dialects.growthbook_hash import bucket_ranges, choose_variation, digest, equal_weights, in_namespace
from flagkit.dialects.growthbook_run import run
from flagkit.sources.decryption import decrypt
from tests.dialects.conformance import cases

CASES: dict[str, list[Any]] = json.loads(cases("growthbook", "cases.json").read_text(encoding="utf-8"))


def each(section: str) -> Any:
    return pytest.mark.parametrize("case", CASES[section], ids=lambda case: str(case[0])[:60])


@each("feature")
def test_a_feature_s_answer_is_growthbook_s(case: list[Any]) -> None:
    _, given, key, expected = case
    document = {"features": given.get("features", {}), "savedGroups": given.get("savedGroups", {})}
    client = Client(source=sources.Static(document, dialect="growthbook"), sink=None)
    decision = client.decide(key, growthbook.context({**given, "attributes": given.get("attributes", {})}))
    assert (decision.value, decision.enabled) == (expected["value"], expected["on"])
    # What an experiment placed may be compared; what was forced on somebody may not.
    assert decision.analysable is (expected["source"] == "experiment" and expected["experimentResult"]["hashUsed"])


@each("run")
def test_an_experiment_s_result_is_growthbook_s(case: list[Any]) -> None:
    _, options, experiment, value, in_experiment, hash_used = case
    result = run(experiment, options)
    assert (result.value, result.in_experiment, result.hash_used) == (value, in_experiment, hash_used)


@each("evalCondition")
def test_a_condition_holds_as_in_growthbook(case: list[Any]) -> None:
    _, condition, attributes, expected, *groups = case
    assert eval_condition(attributes, condition, *groups) is expected


@each("hash")
def test_a_hash_is_growthbook_s(case: list[Any]) -> None:
    seed, value, version, expected = case
    assert digest(seed, value, version) == expected


@each("getBucketRange")
def test_ranges_are_growthbook_s(case: list[Any]) -> None:
    _, arguments, expected = case
    ranges = bucket_ranges(*arguments)
    assert len(ranges) == len(expected)
    for mine, theirs in zip(ranges, expected, strict=True):
        assert mine == pytest.approx(theirs, abs=1e-8)


@each("chooseVariation")
def test_a_variation_is_chosen_as_in_growthbook(case: list[Any]) -> None:
    _, number, ranges, expected = case
    assert choose_variation(number, ranges) == expected


@each("inNamespace")
def test_a_namespace_holds_whom_growthbook_s_does(case: list[Any]) -> None:
    _, unit, namespace, expected = case
    assert in_namespace(unit, namespace) is expected


@each("getEqualWeights")
def test_equal_weights_are_growthbook_s(case: list[Any]) -> None:
    count, expected = case
    assert equal_weights(count) == pytest.approx(expected, abs=1e-8)


@each("decrypt")
def test_what_growthbook_encrypted_is_read(case: list[Any]) -> None:
    _, text, key, expected = case
    if expected is None:
        with pytest.raises(ValueError):  # noqa: PT011 - the contract is any of these
            decrypt(text, key)
    else:
        assert decrypt(text, key) == expected
