"""``Comparison``: one candidate against its control, by calls that are counted so that like is compared with like.

Units are counted, not calls: the arm is drawn once a unit, so a unit counts for its first 31 calls of a window and
until its first event, and calls number 1, 2-3, 4-7, 8-15 and 16-31 of units meet only each other (a log-rank test).
Each rule is a stratum of its own; so are the first calls of a process. Two clocks see the same calls: a long one for
slight regressions, a short one for late ones; each spends half of alpha, window by window. Blocks of calls go to the
tests of ``sequential``. Pure: one thread at a time, no clock. Derivations and characteristics: docs/guards.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import inf
from typing import Any, Final, NamedTuple, TypeAlias

from flagkit.core.bucketing import digest
from flagkit.production.sequential import Pace, RatioEProcess, SloEProcess, window_share

CONTROL: Final = 0
CANDIDATE: Final = 1
#: Kinds of event: the call failed; it was slower than the control's p90; than its p99.
ERRORS, P90, P99 = range(3)

CELLS: Final = 65_536
#: Hashes units to cells; a seed of its own, so that neither rollouts nor splits say anything about cells.
_SEED: Final = 0x6775_6172
_CELL: Final = CELLS - 1
#: A cell: calls counted in five bits, then a bit for each kind of event that was had.
_COUNT: Final = 0b0001_1111
_HAD: Final = 5
_ALL_HAD: Final = 0b1110_0000
#: Number of a unit's call, less one -> group of calls that are compared.
GROUPS: Final = tuple((number + 1).bit_length() - 1 for number in range(31))
_GROUPS: Final = 5
#: Calls of an arm in this process that are cold, and meet only cold ones of the same order of magnitude.
_COLD: Final = 32
COLD_GROUPS: Final = 5
_STRATA: Final = COLD_GROUPS + 1
#: Where the blocks of calls that are not cold begin in the lists of blocks.
_WARM: Final = COLD_GROUPS * _GROUPS
_LEAST_ARM: Final = 4
_LEAST_BLOCK: Final = 32
_LONG_CALLS: Final = 100_000
_LONG_COUNTED: Final = 0.12
_SHORT_CALLS: Final = 25_000
_LOOK_EVERY: Final = 1_000
_LEAST_DEADLINE_S: Final = 1.0
_DEADLINE_P99: Final = 10.0
_UNKNOWN_DEADLINE_S: Final = 60.0


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
    evidence, limits: of the long clock and the short one; windows: their numbers.
    """

    calls: tuple[int, int]
    failures: tuple[int, int]
    counted: int
    evidence: tuple[float, float]
    limits: tuple[float, float]
    windows: tuple[int, int]


class Block:
    """Calls that meet: of one rule, one group and one order of coldness, begun one after another.

    total, candidates: begun, of both arms and of the candidate. ended: of all. sealed: no more begin in it.
    slow: by arm, above how many seconds a call is slower than the p90 that held as the block began; slowest: p99.
    events, missing: counts by kind and arm, of events, and of calls that say nothing of a kind: their unit had its
    event before, or they failed and have no latency. None while all are zero.
    """

    __slots__ = ("candidates", "ended", "events", "missing", "sealed", "slow", "slowest", "total", "window")

    def __init__(self, slow: tuple[float, float], slowest: tuple[float, float], window: int) -> None:
        self.total = 0
        self.candidates = 0
        self.ended = 0
        self.sealed = False
        self.slow = slow
        self.slowest = slowest
        self.window = window
        self.events: list[list[int]] | None = None
        self.missing: list[list[int]] | None = None

    def begin_again(self, had: int, arm: int) -> int:
        """The unit of a call that begins has had these events; return them."""
        for kind in (ERRORS, P90, P99):
            if had >> kind & 1:
                self.miss(kind, arm)
        return had

    def miss(self, kind: int, arm: int) -> None:
        """A call says nothing of a kind of event."""
        if self.missing is None:
            self.missing = [[0, 0], [0, 0], [0, 0]]
        self.missing[kind][arm] += 1

    def hit(self, kind: int, arm: int) -> None:
        """A call has had an event."""
        if self.events is None:
            self.events = [[0, 0], [0, 0], [0, 0]]
        self.events[kind][arm] += 1


#: A call: arm, cell of its unit, and for each clock the block (None: not counted) and the events its unit had before.
Handle: TypeAlias = "tuple[int, int, Block | None, int, Block | None, int]"
_NEVER_SLOW: Final = ((inf, inf), (inf, inf))


class _Lists(dict[str, "list[Block | None]"]):
    """Makes the list of a rule's blocks when it is first asked for."""

    def __missing__(self, rule: str) -> list[Block | None]:
        blocks = self[rule] = [None] * (_STRATA * _GROUPS)
        return blocks


class Clock:
    """One clock: a table of units, blocks and tests, renewed with every window.

    Args: name, for verdicts. kinds: how many kinds of event are judged, 1 or 3. tolerated: the odds ratios that are, of
        errors and of slowness. alpha: that it may spend.
    """

    __slots__ = ("_alpha", "_counted", "begun", "blocks", "calls", "limit", "name", "table", "tests", "window")

    def __init__(self, name: str, kinds: int, tolerated: tuple[float, float], alpha: float) -> None:
        self.name = name
        self.tests = [RatioEProcess(tolerated[0 if kind == ERRORS else 1]) for kind in range(kinds)]
        self._alpha = alpha
        self.window = -1
        self.begin_window(0)

    def begin_window(self, calls: int) -> None:
        """Forget every unit, and begin with no evidence; what was spent stays spent. ``calls``: so far, of all."""
        self.window += 1
        self.table = bytearray(CELLS)
        #: Rule -> its open blocks, by coldness and group.
        self.blocks: dict[str, list[Block | None]] = _Lists()
        self.begun = calls
        self._counted = 0
        self.limit = 1 / (self._alpha * window_share(self.window))
        for test in self.tests:
            test.restart()

    @property
    def value(self) -> float:
        """The e-value of this window: of errors alone, or of errors and latency together."""
        errors, *slow = self.tests
        return errors.value if not slow else (errors.value + (slow[0].value + slow[1].value) / 2) / 2

    @property
    def counted(self) -> int:
        """Calls that counted in this window."""
        lists = self.blocks.values()
        return self._counted + sum(block.total for blocks in lists for block in blocks if block is not None)

    def seal(self, blocks: list[Block | None], at: int) -> Block | None:
        """Let no more calls begin in a block; return it if there is one and all its calls have ended."""
        block, blocks[at] = blocks[at], None
        if block is None:
            return None
        block.sealed = True
        self._counted += block.total
        return block if block.ended == block.total else None

    def close(self, strata: int = _STRATA) -> list[Block]:
        """Seal every block, of the first so many orders of coldness; return those that are complete."""
        sealed = [self.seal(blocks, at) for blocks in self.blocks.values() for at in range(strata * _GROUPS)]
        return [block for block in sealed if block is not None]

    def judge(self, block: Block) -> None:
        """Take a complete block into the evidence, unless its window is over."""
        events, missing = block.events, block.missing or _NONE_MISSING
        if events is None or block.window != self.window:
            return
        for kind, test in enumerate(self.tests):
            hits, gone = events[kind], missing[kind]
            if hits[0] or hits[1]:
                controls = block.total - block.candidates - gone[0]
                test.add_block(controls, block.candidates - gone[1], hits[0], hits[1])


_NONE_MISSING: Final = [[0, 0], [0, 0], [0, 0]]


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
        tolerated = (1 + error_tolerance, 1.0)
        self._long, self._short = (Clock(name, kinds, tolerated, alpha / 2) for name in ("long", "short"))
        self._latency = latency_tolerance is not None
        self._slower = 1 + (latency_tolerance or 0.0)
        self._most = calls_per_unit
        self._floor = None if min_rate is None else SloEProcess(min_rate)
        self._floor_limit = 1 / alpha
        self._pace = Pace()
        #: How many calls each arm has begun, while it is cold; None: no longer.
        self._ordinals: list[int] | None = [0, 0] if cold else None
        self._calls = 0
        self._candidates = 0
        self._failures = [0, 0]
        self._look = _SHORT_CALLS
        #: The first verdict; it stays.
        self.verdict: Verdict | None = None

    @property
    def clocks(self) -> tuple[Clock, Clock]:
        return self._long, self._short

    # `start` and `finish` are on the way of every guarded call, and are written for speed.

    def start(self, rule: str, arm: int, key: bytes) -> Handle:
        """A call begins: of the arm ``CONTROL`` or ``CANDIDATE``, by a unit that ``rule`` placed. For ``finish``."""
        cell = digest(key, _SEED) & _CELL
        self._calls = calls = self._calls + 1
        if calls >= self._look:
            self._pass_windows()
        cold = _WARM if self._ordinals is None else self._coldness(arm)
        # Twice the same, once a clock: as a method it would be a tenth of a guarded call.
        clock = self._long
        seen = clock.table[cell]
        long_block, long_had = None, 0
        if seen < _ALL_HAD and seen & _COUNT < self._most:
            clock.table[cell] = seen + 1
            at = cold + GROUPS[seen & _COUNT]
            long_block = clock.blocks[rule][at] or self._block(clock, rule, at)
            long_block.total = total = long_block.total + 1
            if arm:
                long_block.candidates += 1
            if seen > _COUNT:
                long_had = long_block.begin_again(seen >> _HAD, arm)
            if total >= _LEAST_BLOCK and _LEAST_ARM <= long_block.candidates <= total - _LEAST_ARM:
                clock.seal(clock.blocks[rule], at)
        clock = self._short
        seen = clock.table[cell]
        if seen >= _ALL_HAD or seen & _COUNT >= self._most:
            return arm, cell, long_block, long_had, None, 0
        clock.table[cell] = seen + 1
        at = cold + GROUPS[seen & _COUNT]
        block = clock.blocks[rule][at] or self._block(clock, rule, at)
        block.total = total = block.total + 1
        if arm:
            block.candidates += 1
        had = block.begin_again(seen >> _HAD, arm) if seen > _COUNT else 0
        if total >= _LEAST_BLOCK and _LEAST_ARM <= block.candidates <= total - _LEAST_ARM:
            clock.seal(clock.blocks[rule], at)
        return arm, cell, long_block, long_had, block, had

    def finish(self, handle: Handle, failed: bool, seconds: float) -> None:
        """It has ended. ``seconds``: infinite when nobody knows how long it would have taken: failed, and slow."""
        arm, cell, long_block, long_had, short_block, short_had = handle
        if arm:
            self._candidates += 1
            if self._floor is not None:
                self._floor.add(failed)
        if failed:
            self._failures[arm] += 1
        if long_block is not None:
            long_block.ended = ended = long_block.ended + 1
            if failed or seconds > long_block.slow[arm]:
                self._note(self._long, long_block, arm, cell, long_had, failed, seconds)
            if ended == long_block.total and long_block.sealed:
                self._judge(self._long, long_block)
        if short_block is not None:
            short_block.ended = ended = short_block.ended + 1
            if failed or seconds > short_block.slow[arm]:
                self._note(self._short, short_block, arm, cell, short_had, failed, seconds)
            if ended == short_block.total and short_block.sealed:
                self._judge(self._short, short_block)
            if not arm and not failed and self._latency:
                self._pace.add(seconds)

    def late(self, rule: str, arm: int, key: bytes) -> None:
        """A failure is reported of a unit, after its calls: an event where the unit now stands, if it had none."""
        cell = digest(key, _SEED) & _CELL
        for clock in self.clocks:
            seen = clock.table[cell]
            if seen & _COUNT and not seen >> _HAD & 1:
                clock.table[cell] |= 1 << _HAD
                self._block(clock, rule, _WARM + GROUPS[(seen & _COUNT) - 1]).hit(ERRORS, arm)

    def settle(self) -> None:
        """Rules or shares have changed: what is compared from here on does not meet what was before."""
        self._close_all(_STRATA)

    def evidence(self) -> Evidence:
        """What was counted so far."""
        long, short = self.clocks
        return Evidence(
            (self._calls - self._candidates, self._candidates),
            (self._failures[0], self._failures[1]),
            long.counted,
            (long.value, short.value),
            (long.limit, short.limit),
            (long.window, short.window),
        )

    @property
    def deadline_s(self) -> float:
        """How long a call may take before it counts as failed and slow: ten times the control's p99, at least a second.

        A minute while the control's p99 is not known.
        """
        p99 = self._pace.p99
        return _UNKNOWN_DEADLINE_S if p99 == inf else max(_LEAST_DEADLINE_S, _DEADLINE_P99 * p99)

    # -- within

    def _block(self, clock: Clock, rule: str, at: int) -> Block:
        block = clock.blocks[rule][at]
        if block is None:
            p90, p99, slower = self._pace.p90, self._pace.p99, self._slower
            bounds = ((p90, p90 * slower), (p99, p99 * slower)) if self._latency else _NEVER_SLOW
            block = clock.blocks[rule][at] = Block(*bounds, clock.window)
        return block

    def _note(self, clock: Clock, block: Block, arm: int, cell: int, had: int, failed: bool, seconds: float) -> None:
        """Events of a call that has ended, of kinds that its unit had not had when it began."""
        kinds = []
        if failed:
            kinds.append(ERRORS)
            if seconds != inf:  # how long it would have taken is not known
                for kind in (P90, P99):
                    if not had >> kind & 1:
                        block.miss(kind, arm)
        if seconds > block.slow[arm] and (not failed or seconds == inf):
            kinds.append(P90)
            if seconds > block.slowest[arm]:
                kinds.append(P99)
        for kind in kinds:
            bit = 1 << (_HAD + kind)
            if not had >> kind & 1 and block.window == clock.window and not clock.table[cell] & bit:
                clock.table[cell] |= bit
                block.hit(kind, arm)

    def _coldness(self, arm: int) -> int:
        """How cold the call that begins is, as a place in the lists of blocks."""
        ordinals = self._ordinals
        if ordinals is None or ordinals[arm] >= _COLD - 1:
            return _WARM
        ordinals[arm] = ordinal = ordinals[arm] + 1
        if ordinal == _COLD - 1 and ordinals[1 - arm] == _COLD - 1:
            self._ordinals = None
            self._close_all(_WARM // _GROUPS)
        return (ordinal.bit_length() - 1) * _GROUPS

    def _close_all(self, strata: int) -> None:
        for clock in self.clocks:
            for block in clock.close(strata):
                self._judge(clock, block)

    def _pass_windows(self) -> None:
        """End the windows that are over, going by the calls that have passed and what part of them counted."""
        calls = self._calls - 1
        long, short = self.clocks
        if calls - short.begun >= _SHORT_CALLS:
            self._renew(short, calls)
        passed = calls - long.begun
        if passed >= _LONG_CALLS and long.counted < _LONG_COUNTED * passed:
            self._renew(long, calls)
        self._look = calls + min(_LOOK_EVERY, short.begun + _SHORT_CALLS - calls) + 1

    def _renew(self, clock: Clock, calls: int) -> None:
        for block in clock.close():
            self._judge(clock, block)
        clock.begin_window(calls)

    def _judge(self, clock: Clock, block: Block) -> None:
        clock.judge(block)
        if self.verdict is not None or clock.value < clock.limit:
            return
        errors, *slow = clock.tests
        by_errors, by_latency = errors.value, (slow[0].value + slow[1].value) / 2 if slow else 0.0
        if self._floor is not None and self._floor.value < self._floor_limit:
            if by_latency / 2 < clock.limit:
                return  # so few failures do not matter, whatever their ratio
            by_errors = 0.0
        kind = "errors" if by_errors >= by_latency else "latency"
        self.verdict = Verdict(kind, clock.name, clock.window, clock.value, clock.limit)


def as_numbers(evidence: Evidence) -> Mapping[str, Any]:
    """Evidence as plain JSON values, for an event."""
    return {name: list(value) if isinstance(value, tuple) else value for name, value in evidence._asdict().items()}
