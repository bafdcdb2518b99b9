"""Whether a comparison can be trusted: shares of units as they were meant, and arms that do not hurt each other."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest

from flagkit.core.model import FlagDefinition
from flagkit.dialects import native
from flagkit.production.integrity import Integrity
from tests.production.guarded import Site


def flag(**fields: Any) -> FlagDefinition:
    return native.parse(json.dumps({"schema": 1, "flags": {"f": fields}}).encode()).definitions.flags["f"]


def dealt(percent: float, **fields: Any) -> FlagDefinition:
    return flag(rules=[{"name": "r", "rollout": {"percent": percent}, "serve": "on"}], **fields)


def units(integrity: Integrity, share: float, count: int, seed: int = 1) -> int | None:
    """How many units it took to find a mismatch; None if there was none."""
    chance = random.Random(seed)
    for number in range(count):
        if integrity.begun("r", int(chance.random() < share), number):
            return number + 1
    return None


def test_units_in_the_shares_of_the_rollout_are_no_mismatch() -> None:
    assert [units(Integrity(dealt(5), "on", "off"), 0.05, 20_000, seed) for seed in range(20)] == [None] * 20


def test_units_in_other_shares_are() -> None:
    found = units(Integrity(dealt(5), "on", "off"), 0.03, 20_000)
    assert found is not None
    assert found < 4000
    assert units(Integrity(dealt(50), "on", "off"), 0.47, 20_000) is not None


def test_a_unit_counts_once() -> None:
    integrity = Integrity(dealt(5), "on", "off")
    assert not any(integrity.begun("r", 1, 7) for _ in range(1000))


@pytest.mark.parametrize(
    "definition",
    [
        flag(rules=[{"name": "r", "rollout": {"steps": [{"from": "2026-01-01", "percent": 5}]}, "serve": "on"}]),
        flag(rules=[{"name": n, "rollout": {"percent": 5}, "serve": "on"} for n in ("r", "s")]),
        flag(default="on", rules=[{"name": "r", "rollout": {"percent": 5}, "serve": "on"}]),
        dealt(100),
    ],
    ids=["steps", "two rollouts", "no control", "everybody"],
)
def test_where_shares_are_not_fixed_nothing_is_tested(definition: FlagDefinition) -> None:
    assert units(Integrity(definition, "on", "off"), 0.9, 5000) is None


def test_a_split_is_tested_by_its_weights() -> None:
    split = [{"variant": "on", "weight": 1}, {"variant": "off", "weight": 3}]
    definition = flag(rules=[{"name": "r", "split": split}])
    assert units(Integrity(definition, "on", "off"), 0.25, 20_000) is None
    assert units(Integrity(definition, "on", "off"), 0.5, 20_000) is not None


def fail(integrity: Integrity, rate: float, calls: int, now_s: float, seed: int = 3) -> bool:
    chance = random.Random(seed)
    return any(integrity.ended(chance.random() < rate, now_s) for _ in range(calls))


def test_after_a_step_both_arms_failing_more_is_interference() -> None:
    integrity = Integrity(dealt(5), "on", "off")
    assert not fail(integrity, 0.01, 5000, 0.0)
    integrity.step(dealt(25), "on", "off", 100.0)
    assert not fail(integrity, 0.01, 5000, 200.0), "nothing has changed"
    integrity.step(dealt(50), "on", "off", 300.0)
    assert fail(integrity, 0.05, 2000, 400.0)
    assert integrity.interference


def test_half_an_hour_later_or_without_a_step_it_is_not() -> None:
    integrity = Integrity(dealt(5), "on", "off")
    fail(integrity, 0.01, 5000, 0.0)
    assert not fail(integrity, 0.2, 1000, 50.0), "no step"
    late = Integrity(dealt(5), "on", "off")
    fail(late, 0.01, 5000, 0.0)
    late.step(dealt(25), "on", "off", 100.0)
    assert not fail(late, 0.2, 1000, 2000.0)


def test_an_edit_that_moves_no_share_is_no_step() -> None:
    integrity = Integrity(dealt(5), "on", "off")
    fail(integrity, 0.01, 5000, 0.0)
    integrity.step(dealt(5, owner="search"), "on", "off", 100.0)
    assert not fail(integrity, 0.2, 1000, 150.0)


def test_interference_is_said_and_rolls_nothing_back() -> None:
    site = Site({"guard": {"latency_tolerance": None}})
    site.failing = {"on": 0.01, "off": 0.01}
    site.calls(4000)
    site.edit(rules=[{"name": "half", "rollout": {"percent": 60}, "serve": "on"}])
    site.failing = {"on": 0.1, "off": 0.1}
    site.calls(2000)
    (told,) = [trip for trip in site.trips if trip["kind"] == "interference"]
    assert not told["rolled_back"]
    assert site.status.trips == {}
