"""The operating characteristics of guards: every row of the table in docs/guards.md, by the library's own code.

    python -m tests.guard.operating [--full] [PART ...]

prints ``part | property | measured | bar`` and exits with 1 if a row is outside its bar. Parts A to K try the pieces
(``pieces``, ``others``), S the steps of a ramp (``steps``), U to Z a whole comparison (``units``), G a fleet
(``fleets``), H what a call costs (``costs``). All seeds are fixed.
"""

from __future__ import annotations

import importlib
import sys
import time
from collections.abc import Callable, Iterable
from functools import cache
from math import comb
from statistics import median
from typing import NamedTuple

#: Chance of a row failing by bad luck, in the quick part.
LUCK = 0.001
#: Fewer repetitions have no median worth the name.
FEW = 24


class Outcome(NamedTuple):
    """measured: in words. good: within the bar. bar: in words."""

    measured: str
    good: bool
    bar: str


class Row(NamedTuple):
    """A row of the table. measure: number of repetitions, and whether it is the whole part -> outcome."""

    part: str
    name: str
    quick: int
    full: int
    measure: Callable[[int, bool], Outcome]


ROWS: list[Row] = []


def row(part: str, name: str, *, quick: int, full: int) -> Callable[[Callable[[int, bool], Outcome]], None]:
    """Put a row into the table. quick, full: repetitions; with none, the row is not in that part."""

    def put(measure: Callable[[int, bool], Outcome]) -> None:
        ROWS.append(Row(part, name, quick, full, measure))

    return put


@cache
def most(repetitions: int, chance: float = 0.01) -> int:
    """So many of the repetitions are exceeded with a chance of at most ``LUCK`` (the binomial 99.9 % limit)."""
    below = 0.0
    for count in range(repetitions + 1):
        below += comb(repetitions, count) * chance**count * (1 - chance) ** (repetitions - count)
        if below >= 1 - LUCK:
            return count
    return repetitions


def rarely(found: Iterable[bool], bar: tuple[int, int] | None = None) -> Outcome:
    """At most 1 % of the repetitions may be found; ``bar``: so many of so many, in the whole part."""
    each = list(found)
    count, allowed = sum(each), most(len(each))
    if bar is not None and len(each) >= bar[1]:
        allowed = bar[0]
    return Outcome(f"{count} of {len(each)}", count <= allowed, f"<= {allowed} of {len(each)}")


def worst(outcomes: Iterable[tuple[str, Outcome]]) -> Outcome:
    """Of several cells: all have to be good."""
    cells = list(outcomes)
    return Outcome(
        "; ".join(f"{name}: {outcome.measured}" for name, outcome in cells),
        all(outcome.good for _, outcome in cells),
        " / ".join(dict.fromkeys(outcome.bar for _, outcome in cells)),
    )


def soon(delays: Iterable[float], bar: float) -> Outcome:
    """The median must not be above ``bar``.

    With few repetitions, no more of them above it than half, by the binomial 99.9 % limit.
    """
    each = sorted(delays)
    middle = median(each)
    good = middle <= bar
    if len(each) < FEW:
        good = sum(delay > bar for delay in each) <= most(len(each), 0.5)
    return Outcome(f"{middle:,.0f}", good, f"<= {bar:,.0f}")


def load() -> list[Row]:
    """All rows."""
    for name in ("pieces", "others", "units", "steps", "fleets", "costs"):
        importlib.import_module(f"tests.guard.{name}")
    return ROWS


def run(rows: Iterable[Row], *, whole: bool, say: Callable[[str], object] = print) -> list[str]:
    """Measure rows, say a line for each, and return those outside their bar."""
    outside = []
    for each in rows:
        repetitions = each.full if whole else each.quick
        if not repetitions:
            continue
        began = time.perf_counter()
        outcome = each.measure(repetitions, whole)
        took = time.perf_counter() - began
        mark = "" if outcome.good else "  OUTSIDE"
        line = f"| {each.part} | {each.name} | {outcome.measured} | {outcome.bar} |{mark}"
        say(f"{line}  ({took:.1f} s)")
        if not outcome.good:
            outside.append(line)
    return outside


def main(words: list[str]) -> int:
    whole = "--full" in words
    parts = {word for word in words if not word.startswith("-")}
    rows = [each for each in load() if not parts or each.part in parts or each.part[0] in parts]
    outside = run(rows, whole=whole, say=lambda line: print(line, flush=True))
    return 1 if outside else 0


if __name__ == "__main__":
    from tests.guard import operating  # the module that rows register with, not this copy of it

    sys.exit(operating.main(sys.argv[1:]))
