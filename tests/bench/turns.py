"""Timing on a machine that others use as well: all that is compared takes turns, and the best of many rounds counts."""

from __future__ import annotations

import timeit
from collections.abc import Callable

ATTEMPTS = 8


def best_ns(*calls: Callable[[], object], rounds: int = 40, number: int = 200) -> list[float]:
    """ns of one call of each: the best of ``rounds``, in each of which all are called ``number`` times in a row."""
    times = ([timeit.timeit(call, number=number) for call in calls] for _ in range(rounds))
    return [min(of_one) / number * 1e9 for of_one in zip(*times, strict=True)]


def least(measure: Callable[[], float], aim: float) -> float:
    """The least of some measurements, none of which need be repeated once one is within the aim."""
    found = float("inf")
    for _ in range(ATTEMPTS):
        found = min(found, measure())
        if found <= aim:
            break
    return found
