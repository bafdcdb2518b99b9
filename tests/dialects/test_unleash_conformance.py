"""Unleash's own client specification, through the client: isEnabled and getVariant of each of its cases."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import pytest

from flagkit import Client, sources
from flagkit.dialects import unleash
from tests.dialects.conformance import cases

SUITES = sorted(cases("unleash").glob("*.json"))


@cache
def suite(name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(cases("unleash", name).read_text(encoding="utf-8"))
    return loaded


@cache
def client(name: str) -> Client:
    return Client(source=sources.Static(suite(name)["state"], dialect="unleash"), sink=None)


def named(section: str) -> list[Any]:
    return [
        pytest.param(path.name, case, id=f"{path.name[:2]}-{case['description']}")
        for path in SUITES
        for case in suite(path.name).get(section, ())
    ]


@pytest.mark.parametrize(("name", "case"), named("tests"))
def test_a_feature_is_enabled_where_unleash_says_so(name: str, case: dict[str, Any]) -> None:
    context = unleash.context(case["context"])
    assert client(name).enabled(case["toggleName"], context) is case["expectedResult"]
    assert client(name).decide(case["toggleName"], context).enabled is case["expectedResult"]


@pytest.mark.parametrize(("name", "case"), named("variantTests"))
def test_a_variant_is_the_one_unleash_says(name: str, case: dict[str, Any]) -> None:
    context, expected = unleash.context(case["context"]), case["expectedResult"]
    decision = client(name).decide(case["toggleName"], context)
    assert client(name).variant(case["toggleName"], context) == decision.variant == expected["name"]
    assert decision.enabled is expected["feature_enabled"]
    assert decision.value == valued(expected.get("payload"))


def valued(payload: dict[str, str] | None) -> Any:
    if payload is None:
        return None
    return json.loads(payload["value"]) if payload["type"] in ("number", "json") else payload["value"]


def test_there_are_cases_of_every_kind() -> None:
    assert len(named("tests")) > 100
    assert len(named("variantTests")) > 20
