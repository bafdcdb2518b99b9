"""``Clock``: one of the two spans over which units are counted, with its table, its tests, and what it may spend.

Owned by ``comparison`` in one process, and by ``pool`` for a fleet; both count calls in their own way and hand blocks
in here. Each window of a clock begins with an empty table and no evidence, and may spend its share of alpha only: the
same units meet again in the same arms, so that the evidence of windows must not be multiplied. Pure.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from copy import copy
from typing import Any, Final, NamedTuple

from flagkit.production.sequential import RatioEProcess, SloEProcess, window_share

CONTROL: Final = 0
CANDIDATE: Final = 1
#: Kinds of event: the call failed; it was slower than the control's p90; than its p99.
ERRORS, P90, P99 = range(3)

CELLS: Final = 65_536
CELL: Final = CELLS - 1
#: Hashes units to cells; a seed of its own, so that neither rollouts nor splits say anything about cells.
SEED: Final = 0x6775_6172
#: A cell: calls counted in five bits, then a bit for each kind of event that was had.
COUNT: Final = 0b0001_1111
HAD: Final = 5
ALL_HAD: Final = 0b1110_0000
#: Groups of a unit's calls that are compared: numbers 1, 2-3, 4-7, 8-15, 16-31.
GROUPS: Final = 5
#: Calls 1-31 of an arm in a process are cold, and meet only cold ones of the same order of magnitude.
COLD_GROUPS: Final = 5
_COLD: Final = 32
#: What a block needs before it is taken as evidence.
LEAST_ARM: Final = 4
LEAST_BLOCK: Final = 32
_LONG_CALLS: Final = 100_000
_LONG_COUNTED: Final = 0.12
SHORT_CALLS: Final = 25_000
_MOST_RULES: Final = 256


class Verdict(NamedTuple):
    """The candidate is worse. ``kind``: ``errors`` or ``latency``; ``evidence`` has reached ``limit`` on ``clock``."""

    kind: str
    clock: str
    window: int
    evidence: float
    limit: float


class Evidence(NamedTuple):
    """What was counted; pairs are of control and candidate.

    calls, failures: all that were compared. counted: those that the long clock counted, in its present window.
    evidence, limits: of the long clock and the short one; windows: their numbers. slow: calls over the control's p90,
    the candidate's with what is tolerated.
    """

    calls: tuple[int, int]
    failures: tuple[int, int]
    counted: int
    evidence: tuple[float, float]
    limits: tuple[float, float]
    windows: tuple[int, int]
    slow: tuple[int, int]


def as_numbers(evidence: Evidence) -> Mapping[str, Any]:
    """Evidence as plain JSON values, for an event."""
    return {name: list(value) if isinstance(value, tuple) else value for name, value in evidence._asdict().items()}


class Risk:
    """Units of one rule that may still have an event reported: by arm, how many have come, and how many are gone.

    A unit is gone with its first error. Arms are drawn independently of everything else, so that whose error is
    reported next is a draw from those that are left: a block of one event.
    """

    __slots__ = ("came", "gone")

    def __init__(self) -> None:
        self.came = [0, 0]
        self.gone = [0, 0]


class Clock:
    """See the module.

    Args: name, for verdicts. kinds, how many kinds of event are judged, 1 or 3. tolerated, the odds ratio of errors
        that is. alpha, that it may spend in all its windows.

    table: cell -> a unit's calls and events in this window. before: the table when shares or rules last changed, None
    if they have not. begun: of all calls, how many had passed when the window began; counted: that count in it.
    """

    __slots__ = ("_alpha", "before", "begun", "counted", "limit", "name", "risks", "table", "tests", "window")

    def __init__(self, name: str, kinds: int, tolerated: float, alpha: float) -> None:
        self.name = name
        self.tests = [RatioEProcess(tolerated if kind == ERRORS else 1.0) for kind in range(kinds)]
        self._alpha = alpha
        self.window = -1
        self.begin_window(0)

    def begin_window(self, calls: int) -> None:
        """Forget every unit, and begin with no evidence; what was spent stays spent. ``calls``: so far, of all."""
        self.window += 1
        self.table = bytearray(CELLS)
        self.begun = calls
        self.counted = 0
        self.limit = 1 / (self._alpha * window_share(self.window))
        for test in self.tests:
            test.restart()
        self.forget_risks(None)

    def forget_risks(self, before: bytes | None) -> None:
        """Errors reported of units that came until now are nobody's any more: the arms' shares were others then."""
        self.before = before
        self.risks: dict[str, Risk] = {}

    def risk(self, rule: str) -> Risk:
        found = self.risks.get(rule)
        if found is None:
            found = self.risks[rule] = Risk()
        return found

    @property
    def value(self) -> float:
        """The e-value of this window: of errors alone, or of errors and latency together."""
        tests = self.tests
        if len(tests) == 1:
            return tests[0].value
        return (tests[0].value + (tests[1].value + tests[2].value) / 2) / 2

    def late(self, rule: str, arm: int, cell: int, came: Sequence[int]) -> bool:
        """An error is reported of a unit, after its calls; return whether it counts: it has calls, and no error yet.

        came: by arm, units of the rule that its ``risk`` was not told of yet.
        """
        seen = self.table[cell]
        if not seen & COUNT or seen >> HAD & 1 or (self.before is not None and self.before[cell] & COUNT):
            return False
        self.table[cell] = seen | 1 << HAD
        risk = self.risk(rule)
        left = [max(0, risk.came[each] + came[each] - risk.gone[each]) for each in (CONTROL, CANDIDATE)]
        risk.gone[arm] += 1
        if left[arm]:
            self.tests[ERRORS].add_block(left[0], left[1], 1 - arm, arm)
        return True

    def state(self) -> list[Any]:
        """What there is to remember but for the tables: for ``resumed``."""
        risks = {rule: [*risk.came, *risk.gone] for rule, risk in self.risks.items()}
        tests = [test.state() for test in self.tests]
        return [self.window, self.begun, self.counted, tests, risks, self.before is not None]

    def resumed(self, state: list[Any], tables: bytes) -> tuple[Clock, int]:
        """Another of the kind that goes on from a ``state``, and how many bytes of ``tables`` are its own.

        Raises: ValueError, TypeError or AttributeError when it is none.
        """
        window, begun, counted, tests, risks, before = state
        if not all(type(number) is int and 0 <= number < 1 << 62 for number in (window, begun, counted)):
            raise ValueError("not the state of a clock")
        size = CELLS * (2 if before else 1)
        if len(tables) < size or len(risks) > _MOST_RULES:
            raise ValueError("not the tables of a clock")
        new = copy(self)
        new.window, new.begun, new.counted = window, begun, counted
        new.limit = 1 / (self._alpha * window_share(window))
        new.table = bytearray(tables[:CELLS])
        new.before = bytes(tables[CELLS:size]) if before else None
        new.tests = [RatioEProcess(test.tolerated) for test in self.tests]
        for test, its in zip(new.tests, tests, strict=False):  # latency may have come into the policy, or gone
            test.resume(its)
        new.risks = {}
        for rule, numbers in risks.items():
            came, came_candidates, gone, gone_candidates = map(operator.index, numbers)
            risk = new.risks[str(rule)] = Risk()
            risk.came, risk.gone = [came, came_candidates], [gone, gone_candidates]
        return new, size


class Ordinals:
    """How many calls each arm of this process has begun, while that matters."""

    __slots__ = ("_begun",)

    def __init__(self) -> None:
        self._begun = [0, 0]

    def next(self, arm: int) -> tuple[int, int | None]:
        """How cold the arm's next call is, and how cold no call will be any more, if that comes to be with it.

        0 to 4, by the order of magnitude of its number; 5: not cold.
        """
        begun = self._begun
        number = begun[arm] = min(begun[arm] + 1, _COLD)
        order = number.bit_length() - 1
        over = number == 1 << order and begun[1 - arm] >= number - 1
        return order, order - 1 if over and order else None


def groups_of(calls_per_unit: int) -> tuple[int | None, ...]:
    """What a cell holds -> the group of its unit's next call; None if that does not count."""
    return tuple(
        None if seen & COUNT >= calls_per_unit or seen >= ALL_HAD else ((seen & COUNT) + 1).bit_length() - 1
        for seen in range(256)
    )


def window_ends(clock: Clock, calls: int, open_calls: int = 0) -> bool:
    """Whether the clock's window is over, after so many calls in all: never by what became of them.

    open_calls: that count, and that the clock was not told of yet.
    """
    passed = calls - clock.begun
    if clock.name == "short":
        return passed >= SHORT_CALLS
    return passed >= _LONG_CALLS and clock.counted + open_calls < _LONG_COUNTED * passed


def look_for_verdict(clock: Clock, floor: SloEProcess | None, floor_limit: float) -> Verdict | None:
    """What a clock's evidence says now. ``floor``: errors count only once this test has reached its limit."""
    value = clock.value
    if value < clock.limit:
        return None
    errors, *slow = clock.tests
    by_errors, by_latency = errors.value, (slow[0].value + slow[1].value) / 2 if slow else 0.0
    if floor is not None and floor.value < floor_limit:
        if by_latency / 2 < clock.limit:
            return None  # so few failures do not matter, whatever their ratio
        by_errors = 0.0
    return Verdict("errors" if by_errors >= by_latency else "latency", clock.name, clock.window, value, clock.limit)
