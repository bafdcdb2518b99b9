"""Rollouts and splits are fair: uniform, independent, monotonic, disjoint in layers. Fixed units, so never flaky.

Critical values of chi-square for an upper tail of 0.001: NIST/SEMATECH e-Handbook of Statistical Methods, 1.3.6.7.4.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

import pytest

from flagkit.core import bucketing
from flagkit.core.snapshot import Snapshot
from tests.reference import compiled

#: Degrees of freedom -> critical value.
CRITICAL = {1: 10.828, 2: 13.816, 50: 86.661, 99: 148.230, 100: 149.449}
NOW_MS = 0


def chi_square(observed: Iterable[float], expected: Iterable[float]) -> float:
    return sum((seen - due) ** 2 / due for seen, due in zip(observed, expected, strict=True))


def contingency(table: Sequence[Sequence[int]]) -> float:
    """Chi-square of independence between rows and columns."""
    rows, columns = [sum(row) for row in table], [sum(column) for column in zip(*table, strict=True)]
    total = sum(rows)
    return chi_square(
        (cell for row in table for cell in row), (row * column / total for row in rows for column in columns)
    )


def units(count: int) -> list[str]:
    return [f"user-{number}" for number in range(count)]


def served(snapshot: Snapshot, flag: str, unit: str) -> dict[str, Any]:
    return compiled.decided(snapshot, flag, {"unit": unit})


def rolled_out(percent: float, **rule: Any) -> Snapshot:
    rule = {"rollout": {"percent": percent}, **(rule or {"serve": "on"})}
    return compiled.snapshot_of({"schema": 1, "flags": {"f": {"rules": [rule]}}}, NOW_MS)


@pytest.fixture(scope="module")
def million() -> array[int]:
    """The buckets of 10^6 units."""
    bucket = bucketing.bucket
    return array("L", (bucket("uniform", b"user-%d" % number) for number in range(1_000_000)))


@pytest.mark.parametrize("percent", [0.001, 1, 50])
def test_a_rollout_reaches_its_share_of_a_million_units(million: array[int], percent: float) -> None:
    threshold = bucketing.threshold(percent)
    reached = sum(bucket < threshold for bucket in million)
    due = len(million) * percent / 100
    assert chi_square((reached, len(million) - reached), (due, len(million) - due)) < CRITICAL[1]


def test_buckets_of_a_million_units_are_uniform(million: array[int]) -> None:
    cells = [0] * 100
    for bucket in million:
        cells[bucket // 1000] += 1
    assert chi_square(cells, [len(million) / 100] * 100) < CRITICAL[99]


def test_fifty_pairs_of_flags_are_independent() -> None:
    keys = [unit.encode() for unit in units(10_000)]
    sides = [[bucketing.bucket(f"flag-{number}", key) < 30_000 for key in keys] for number in range(51)]
    total = 0.0
    for one, other in pairwise(sides):
        table = [[0, 0], [0, 0]]
        for row, column in zip(one, other, strict=True):
            table[row][column] += 1
        total += contingency(table)
    assert total < CRITICAL[50]


def test_the_split_is_independent_of_the_rollout() -> None:
    table = [[0] * 11 for _ in range(11)]
    for number in range(200_000):
        key = b"user-%d" % number
        row, column = bucketing.bucket("f", key, 0), bucketing.bucket("f", key, 1)
        table[row * 11 // 100_000][column * 11 // 100_000] += 1
    assert contingency(table) < CRITICAL[100]


def test_raising_a_rollout_never_drops_a_unit() -> None:
    asked = units(2000)
    before: set[str] = set()
    for percent in (0, 0.001, 0.5, 1, 5, 12.345, 25, 50, 75, 99, 99.999, 100):
        snapshot = rolled_out(percent)
        reached = {unit for unit in asked if served(snapshot, "f", unit)["variant"] == "on"}
        assert before <= reached
        before = reached
    assert before == set(asked)


def test_raising_the_rollout_never_moves_a_unit_in_the_split() -> None:
    split = [{"variant": "on", "weight": 3}, {"variant": "off", "weight": 7}]
    whole = rolled_out(100, split=split)
    for percent in (1, 10, 50, 99.999):
        snapshot = rolled_out(percent, split=split, name="r")
        for unit in units(2000):
            if bucketing.bucket("f", unit.encode()) < bucketing.threshold(percent):
                assert served(snapshot, "f", unit)["variant"] == served(whole, "f", unit)["variant"]


def test_a_split_keeps_its_shares_within_a_small_rollout_too() -> None:
    weights = {"a": 10, "b": 20, "c": 70}
    split = [{"variant": name, "weight": weight} for name, weight in weights.items()]
    flag = {"variants": {"off": 0, "a": 1, "b": 2, "c": 3}, "off": "off"}
    for percent in (100, 20):
        rules = [{"rollout": {"percent": percent}, "split": split}]
        snapshot = compiled.snapshot_of({"schema": 1, "flags": {"f": {**flag, "rules": rules}}}, NOW_MS)
        counts = dict.fromkeys(("off", *weights), 0)
        for unit in units(50_000):
            counts[served(snapshot, "f", unit)["variant"]] += 1
        placed = sum(counts[name] for name in weights)
        observed = [counts[name] for name in weights]
        assert chi_square(observed, [placed * weight / 100 for weight in weights.values()]) < CRITICAL[2]


def test_flags_of_one_layer_never_meet_and_each_has_its_slot() -> None:
    slots: dict[str, list[float]] = {"a": [0, 20], "b": [20, 50], "c": [50, 99.5]}
    rules = [{"rollout": {"percent": 100}, "serve": "on"}]
    document = {
        "schema": 1,
        "layers": {"checkout": {"slots": slots}},
        "flags": {name: {"rules": rules} for name in slots},
    }
    snapshot = compiled.snapshot_of(document, NOW_MS)
    counts = dict.fromkeys((*slots, "none"), 0)
    for unit in units(20_000):
        inside = [flag for flag in slots if served(snapshot, flag, unit)["variant"] == "on"]
        assert len(inside) <= 1
        counts[inside[0] if inside else "none"] += 1
    for name, (start, end) in slots.items():
        due = 20_000 * (end - start) / 100
        assert chi_square((counts[name], 20_000 - counts[name]), (due, 20_000 - due)) < CRITICAL[1]


def test_a_rollout_inside_a_slot_is_relative_to_the_slot() -> None:
    rules = [{"rollout": {"percent": 50}, "serve": "on"}]
    document = {"schema": 1, "layers": {"l": {"slots": {"f": [40, 60]}}}, "flags": {"f": {"rules": rules}}}
    snapshot = compiled.snapshot_of(document, NOW_MS)
    reached = sum(served(snapshot, "f", unit)["variant"] == "on" for unit in units(20_000))
    assert chi_square((reached, 20_000 - reached), (2000, 18_000)) < CRITICAL[1]
