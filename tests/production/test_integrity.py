"""Whether a comparison can be trusted: shares of units as they were meant."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest

from flagkit.core.model import FlagDefinition
from flagkit.core.policy import GuardPolicy
from flagkit.dialects import native
from flagkit.production.integrity import Integrity
from flagkit.production.tally import Tally
from flagkit.production.trial import Trial


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


def test_of_many_processes_each_wants_more_to_be_sure() -> None:
    alone, among_fifty = (
        units(Integrity(dealt(5), "on", "off", processes), 0.03, 20_000, seed=3) for processes in (1, 50)
    )
    assert alone is not None
    assert among_fifty is not None
    assert alone < among_fifty


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


def test_the_fleets_judge_hears_nothing_of_units_that_cannot_be_compared() -> None:
    def counted(doubted: bool) -> bytes:
        trial = Trial("f", "on", GuardPolicy(), 0.01, Tally(), lambda: 0.5)
        for number in range(200):
            trial.finish(trial.start("r", number % 2, b"unit %d" % number), False, 0.01)
        if doubted:
            trial.doubt("units do not come in the shares of the rollout")
        return trial.collect()

    assert counted(doubted=False)
    assert counted(doubted=True) == b""
