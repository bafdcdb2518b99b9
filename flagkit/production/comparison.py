"""``Comparison``: one candidate against its control, by calls that are counted so that like is compared with like.

Units are counted, not calls: the arm is drawn once a unit, so a unit counts for its first 31 calls of a window and
until its first event, and calls number 1, 2-3, 4-7, 8-15 and 16-31 of units meet only each other (a log-rank test).
Each rule is a stratum of its own; so are the first calls of a process. Two clocks see the same calls: a long one for
slight regressions, a short one for late ones (``clocks``). Blocks of calls go to the tests of ``sequential``.
Pure: one thread at a time, no time. Derivations and operating characteristics: docs/guards.md.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import inf
from typing import Final, TypeAlias

from flagkit.core.bucketing import digest
from flagkit.production.clocks import (
    CANDIDATE,
    CELL,
    COLD_GROUPS,
    CONTROL,
    COUNT,
    ERRORS,
    GROUPS,
    HAD,
    LEAST_ARM,
    LEAST_BLOCK,
    P90,
    P99,
    SEED,
    SHORT_CALLS,
    Clock,
    Evidence,
    Ordinals,
    Risk,
    Verdict,
    as_numbers,
    groups_of,
    look_for_verdict,
    window_ends,
)
from flagkit.production.sequential import Bounds, Pace, SloEProcess

__all__ = ["CANDIDATE", "CONTROL", "Comparison", "Evidence", "Handle", "Verdict", "as_numbers"]

#: Where the blocks of calls that are not cold begin in a rule's list, and those of the short clock.
_WARM: Final = COLD_GROUPS * GROUPS
_SHORT: Final = (COLD_GROUPS + 1) * GROUPS
_LOOK_EVERY: Final = 1_000
#: Cold calls of equal number are far apart in time when the arms' shares are unequal, and an outage in between would
#: be one arm's only: a block of them is left out when more calls have passed than so many times its own, and some.
_COLD_SPAN: Final = 2
_COLD_SLACK: Final = 8
_NEVER: Final = -1
_FAILED, _SLOW, _SLOWEST = 1 << ERRORS, 1 << P90, 1 << P99
#: Six counts in one number, by kind of event and arm, of as many bits each, more than a window's cells can fill: what a
#: call adds to them by its arm, and by the kinds.
_BITS: Final = 24
_BITS_KIND: Final = 2 * _BITS
_MASK: Final = (1 << _BITS) - 1
_ADDS: Final = tuple(
    tuple(sum(1 << _BITS * (2 * kind + arm) for kind in (ERRORS, P90, P99) if kinds >> kind & 1) for kinds in range(8))
    for arm in (CONTROL, CANDIDATE)
)


class Block:
    """Calls that meet: of one rule, one group and one order of coldness, begun one after another.

    total, candidates: begun, of both arms and of the candidate. ended: of all. goal: the total once no more begin in
    it, -1 until then. first: how many calls had begun in all, with its first.
    bounds: above how many seconds a call is slow, as it was when the block began: by p90 for both arms, then by p99.
    events: calls that had an event; out: those that cannot have one, because their unit had it before they began, or
    because they failed and have no latency. Both by kind and arm: see ``_ADDS``.
    """

    __slots__ = (
        "bounds",
        "candidates",
        "clock",
        "ended",
        "events",
        "first",
        "goal",
        "out",
        "risk",
        "total",
        "window",
    )

    def __init__(self, bounds: Bounds, clock: Clock, risk: Risk, first: int) -> None:
        self.total = 0
        self.candidates = 0
        self.ended = 0
        self.goal = -1
        self.first = first
        self.bounds = bounds
        self.clock = clock
        self.window = clock.window
        self.risk = risk
        self.events = 0
        self.out = 0


#: A call: arm, cell of its unit, its group if it counts for errors on the short clock, and for each clock the block
#: (None: not counted) and the events its unit had before.
Handle: TypeAlias = "tuple[int, int, int | None, Block | None, int, Block | None, int]"
_NEVER_SLOW: Final = (inf, inf, inf, inf)


class Comparison:
    """See the module.

    Args:
        alpha: the chance of a false verdict that may be spent on this candidate, over all windows.
        error_tolerance, latency_tolerance: as in ``GuardPolicy``.
        calls_per_unit: calls of a unit that count in a window, 1 to 31.
        min_rate: an error rate that the candidate must exceed as well; None: none.
        cold: whether the first calls of the process meet only each other.
    """

    def __init__(
        self,
        *,
        alpha: float = 0.01,
        error_tolerance: float = 0.25,
        latency_tolerance: float | None = 0.2,
        calls_per_unit: int = 31,
        min_rate: float | None = None,
        cold: bool = True,
    ) -> None:
        kinds = 1 if latency_tolerance is None else 3
        self._long, self._short = (Clock(name, kinds, 1 + error_tolerance, alpha / 2) for name in ("long", "short"))
        self._long_table, self._short_table = self._long.table, self._short.table
        #: Rule -> its open blocks, by clock, coldness and group.
        self._blocks: dict[str, list[Block | None]] = {}
        self._group_of = groups_of(calls_per_unit)
        self._latency = latency_tolerance is not None
        self._slower = 1 + (latency_tolerance or 0.0)
        self._floor = None if min_rate is None else SloEProcess(min_rate)
        self._floor_limit = 1 / alpha
        self._pace = Pace()
        self._ordinals: Ordinals | None = Ordinals() if cold else None
        self._calls = 0
        self._candidates = 0
        self._failures = [0, 0]
        self._slow = [0, 0]
        self._look = _LOOK_EVERY
        #: The first verdict; it stays.
        self.verdict: Verdict | None = None

    @property
    def clocks(self) -> tuple[Clock, Clock]:
        return self._long, self._short

    # `start` and `finish` are on the way of every guarded call, and are written for speed.

    def start(self, rule: str, arm: int, key: bytes) -> Handle:
        """A call begins: of the arm ``CONTROL`` or ``CANDIDATE``, by a unit that ``rule`` placed. For ``finish``."""
        cell = digest(key, SEED) & CELL
        self._calls = calls = self._calls + 1
        if calls >= self._look:
            self._pass_windows(calls - 1)
        if arm:
            self._candidates += 1
        cold = _WARM if self._ordinals is None else self._coldness(arm)
        # Twice the same, once a clock: as a method it would be a tenth of a guarded call.
        table, short_table, group_of = self._long_table, self._short_table, self._group_of
        seen, short_seen = table[cell], short_table[cell]
        at, group = group_of[seen], group_of[short_seen]
        if at is None and group is None:
            return arm, cell, None, None, 0, None, 0
        try:
            blocks = self._blocks[rule]
        except KeyError:
            blocks = self._blocks[rule] = [None] * (2 * _SHORT)
        long_block, long_had = None, 0
        if at is not None:
            table[cell] = seen + 1
            at += cold
            long_block = blocks[at] or self._begin(self._long, rule, at)
            long_block.total = total = long_block.total + 1
            if arm:
                long_block.candidates += 1
            if seen > COUNT:
                long_had = seen >> HAD
                long_block.out += _ADDS[arm][long_had]
            if total >= LEAST_BLOCK and LEAST_ARM <= long_block.candidates <= total - LEAST_ARM:
                self._seal(blocks, at)
        if group is None:
            return arm, cell, None, long_block, long_had, None, 0
        short_table[cell] = short_seen + 1
        at = group + cold + _SHORT
        block = blocks[at] or self._begin(self._short, rule, at)
        block.total = total = block.total + 1
        if arm:
            block.candidates += 1
        had = 0
        if short_seen > COUNT:
            had = short_seen >> HAD
            block.out += _ADDS[arm][had]
            if had & _FAILED:
                group = None
        if total >= LEAST_BLOCK and LEAST_ARM <= block.candidates <= total - LEAST_ARM:
            self._seal(blocks, at)
        return arm, cell, group, long_block, long_had, block, had

    def finish(self, handle: Handle, failed: bool, seconds: float) -> None:
        """It has ended. ``seconds``: infinite when nobody knows how long it would have taken: failed, and slow."""
        arm, cell, _, long_block, long_had, block, had = handle
        if failed:
            self._failures[arm] += 1
        if arm and self._floor is not None:
            self._floor.add(failed)
        if long_block is not None:
            if failed or seconds > long_block.bounds[arm]:
                self._note(long_block, arm, cell, long_had, failed, seconds)
            long_block.ended = ended = long_block.ended + 1
            if ended == long_block.goal:
                self._judge(long_block)
        if block is not None:
            if failed or seconds > block.bounds[arm]:
                self._note(block, arm, cell, had, failed, seconds)
            block.ended = ended = block.ended + 1
            if ended == block.goal:
                self._judge(block)
            if not arm and not failed:
                # `Pace.add`, without the call.
                pace = self._pace
                p90 = pace.p90
                if p90 == inf:
                    pace.add(seconds)
                else:
                    pace.p90 = p90 * 1.018 if seconds > p90 else p90 * 0.998
                    p99 = pace.p99
                    pace.p99 = p99 * 1.0198 if seconds > p99 else p99 * 0.9998

    def late(self, rule: str, arm: int, key: bytes) -> bool:
        """A failure is reported of a unit, after its calls; return whether it is an event.

        It is an event among the units of the rule that are at risk: with counted calls, and without an error so far.
        """
        cell = digest(key, SEED) & CELL
        self._failures[arm] += 1
        counts = False
        for clock, first in ((self._long, 0), (self._short, _SHORT)):
            # Units come with their first call; blocks that are still open have not told of theirs.
            blocks = self._blocks.get(rule, [])[first : first + _SHORT : GROUPS]
            begun = [block for block in blocks if block is not None]
            candidates = sum(block.candidates for block in begun)
            came = sum(block.total for block in begun) - candidates, candidates
            if clock.late(rule, arm, cell, came):
                counts = True
                self._look_for_verdict(clock)
        return counts

    def settle(self) -> None:
        """Rules or shares have changed: what is compared from here on does not meet what was before."""
        self._close(range(2 * _SHORT))
        self._blocks.clear()
        for clock in self.clocks:
            clock.forget_risks(bytes(clock.table))

    def fails_first(self, handle: Handle) -> bool:
        """Whether the failure of a call, about to be told, is its unit's first one on the short clock."""
        return not self._short_table[handle[1]] >> HAD & _FAILED

    def evidence(self) -> Evidence:
        """What was counted so far."""
        long, short = self.clocks
        return Evidence(
            (self._calls - self._candidates, self._candidates),
            (self._failures[0], self._failures[1]),
            long.counted + self._open(range(_SHORT)),
            (long.value, short.value),
            (long.limit, short.limit),
            (long.window, short.window),
            (self._slow[0], self._slow[1]),
        )

    @property
    def share(self) -> float:
        """The candidate's share of the calls so far; 0 before the first."""
        return self._candidates / self._calls if self._calls else 0.0

    def control_rate(self) -> tuple[int, int]:
        """Failures and calls of the control so far: for a baseline."""
        return self._failures[CONTROL], self._calls - self._candidates

    @property
    def deadline_s(self) -> float:
        """How long a call may take before it counts as failed and slow."""
        return self._pace.deadline_s()

    # -- within

    def _begin(self, clock: Clock, rule: str, at: int) -> Block:
        bounds = self._pace.bounds(self._slower) if self._latency else _NEVER_SLOW
        block = self._blocks[rule][at] = Block(bounds, clock, clock.risk(rule), self._calls)
        return block

    def _seal(self, blocks: list[Block | None], at: int) -> Block | None:
        """Let no more calls begin in a block; return it if there is one and all its calls have ended."""
        block, blocks[at] = blocks[at], None
        if block is None:
            return None
        block.goal = block.total
        block.clock.counted += block.total
        if at % _SHORT < _WARM and self._calls - block.first > _COLD_SPAN * block.total + _COLD_SLACK:
            block.window = _NEVER
        if at % GROUPS == 0:
            block.risk.came[CANDIDATE] += block.candidates
            block.risk.came[CONTROL] += block.total - block.candidates
        return block if block.ended == block.total else None

    def _note(self, block: Block, arm: int, cell: int, had: int, failed: bool, seconds: float) -> None:
        """Events of a call that has ended, of kinds that its unit had not had when it began."""
        clock = block.clock
        if block.window != clock.window:
            return
        seen = clock.table[cell]
        had |= seen >> HAD  # by a call that ran at the same time
        kinds = 0
        if failed:
            kinds = _FAILED
            if not had & _FAILED:
                block.risk.gone[arm] += 1
        if failed and seconds != inf:  # how long it would have taken is not known
            block.out += _ADDS[arm][(_SLOW | _SLOWEST) & ~had]
        elif seconds > block.bounds[arm]:
            kinds |= _SLOW | _SLOWEST if seconds > block.bounds[2 + arm] else _SLOW
            if clock is self._short:
                self._slow[arm] += 1
        kinds &= ~had
        if kinds:
            clock.table[cell] = seen | kinds << HAD
            block.events += _ADDS[arm][kinds]

    def _coldness(self, arm: int) -> int:
        """How cold the call that begins is, as a place in the lists of blocks."""
        ordinals = self._ordinals
        if ordinals is None:
            return _WARM
        cold, over = ordinals.next(arm)
        if over is not None:
            # Neither arm has such calls to come: a block of them would wait in vain.
            self._close(at for at in range(2 * _SHORT) if at % _SHORT // GROUPS == over)
            if over == COLD_GROUPS - 1:
                self._ordinals = None
        return cold * GROUPS

    def _open(self, places: range) -> int:
        """Calls in open blocks."""
        lists = self._blocks.values()
        return sum(block.total for blocks in lists for block in blocks[places.start : places.stop] if block is not None)

    def _close(self, places: Iterable[int]) -> None:
        """Seal every block in these places of the lists, and judge those that are complete."""
        for at in places:
            for blocks in self._blocks.values():
                block = self._seal(blocks, at)
                if block is not None:
                    self._judge(block)

    def _pass_windows(self, calls: int) -> None:
        """End the windows that are over, going by the calls that have passed and what part of them counted."""
        for clock, places in ((self._long, range(_SHORT)), (self._short, range(_SHORT, 2 * _SHORT))):
            if window_ends(clock, calls, self._open(places)):
                self._close(places)
                clock.begin_window(calls)
        self._long_table, self._short_table = self._long.table, self._short.table
        self._look = calls + 1 + min(_LOOK_EVERY, self._short.begun + SHORT_CALLS - calls)

    def _judge(self, block: Block) -> None:
        """Take a complete block into the evidence, unless its window is over."""
        clock, events, out = block.clock, block.events, block.out
        if not events or block.window != clock.window:
            return
        candidates = block.candidates
        controls = block.total - candidates
        limit, look = clock.limit, False
        for test in clock.tests:
            failed, failed_candidates = events & _MASK, events >> _BITS & _MASK
            if failed or failed_candidates:
                test.add_block(controls - (out & _MASK), candidates - (out >> _BITS & _MASK), failed, failed_candidates)
            if test.value >= limit:
                look = True  # what they come to together is no more than the most of them
            events >>= _BITS_KIND
            out >>= _BITS_KIND
        if look:
            self._look_for_verdict(clock)

    def _look_for_verdict(self, clock: Clock) -> None:
        if self.verdict is None:
            self.verdict = look_for_verdict(clock, self._floor, self._floor_limit)
