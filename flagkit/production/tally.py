"""``Tally``: what one process of a fleet counts for a candidate, and hands on to be judged where all processes meet.

It keeps a table of units so that only calls that may count are handed on, holds calls back until all that began with
them have ended (an arm that is reported late looks like a regression), and bounds what it hands on by a sample of
units, never of outcomes. ``pool`` takes in what it packs; the wire form is here. Pure: one thread at a time, no time.
"""

from __future__ import annotations

import struct
from math import inf
from typing import Final, NamedTuple, TypeAlias

from flagkit.core.bucketing import digest
from flagkit.production.clocks import (
    CELL,
    CELLS,
    COLD_GROUPS,
    COUNT,
    ERRORS,
    HAD,
    P90,
    P99,
    SEED,
    Evidence,
    Ordinals,
    Verdict,
    groups_of,
)
from flagkit.production.sequential import Bounds, Pace

#: Calls handed on at once, at most.
MAX_CALLS: Final = 2_000
#: Rules named at once, and bytes of a name, at most.
MAX_RULES: Final = 64
_MAX_NAME: Final = 200
#: So many calls begun one after another wait for each other's end, at most.
_BATCH: Final = 64
_VERSION: Final = 1
#: A call on the wire, from the lowest bit: cell 16, arm 1, events 3, coldness 3, rule 9.
ARM_AT, EVENTS_AT, COLD_AT, RULE_AT = 16, 17, 20, 23
#: In place of coldness: not a call, but a failure reported of a unit afterwards.
LATE: Final = 7
_FAILED, _SLOW, _SLOWEST = 1 << ERRORS, 1 << P90, 1 << P99
_HEADER: Final = struct.Struct("<BBBdd")
_TOTALS: Final = struct.Struct("<4I")
_MOST_CALLS: Final = 10_000_000
_LEAST_S, _MOST_S = 1e-9, 1e6
_MOST_HALVINGS: Final = 16
_ANEW: Final = 0x80


class Counted(NamedTuple):
    """A flush.

    anew: rules or shares had changed when these calls began, since those that the process handed on before. halvings:
    how often the sample of units was halved. pace: p90 and p99 of the control in that process, seconds; None while it
    does not know. totals: by rule, calls of control and candidate, counted or not, then failures. calls: see
    ``ARM_AT``.
    """

    anew: bool
    halvings: int
    pace: tuple[float, float] | None
    rules: tuple[str, ...]
    totals: tuple[tuple[int, int, int, int], ...]
    calls: tuple[int, ...]


class Batch:
    """Calls begun one after another, which are handed on once all have ended.

    mask: of their cells, only those with none of its bits are in the sample. rules: names, by their numbers in calls.
    """

    __slots__ = ("bounds", "calls", "ended", "goal", "mask", "rules", "total")

    def __init__(self, bounds: Bounds, mask: int, rules: dict[str, int]) -> None:
        self.bounds = bounds
        self.mask = mask
        self.rules = rules
        self.total = 0
        self.ended = 0
        self.goal = -1
        self.calls: list[int] = []


#: A call: arm, cell of its unit, its group if it counts for errors, its rule's totals, its batch (None: not counted),
#: and what of it is known for the wire.
Handle: TypeAlias = "tuple[int, int, int | None, list[int], Batch | None, int]"
_NOTHING: Final = [0, 0, 0, 0]
_NEVER_SLOW: Final[Bounds] = (inf, inf, inf, inf)


class Tally:
    """See the module. ``start``, ``finish``, ``late`` and ``settle`` as in ``Comparison``.

    Args: latency_tolerance, calls_per_unit: as in ``GuardPolicy``. cold: whether the first calls of the process meet
        only those of others.
    verdict: what the judge has said, once somebody puts it here.
    """

    def __init__(self, *, latency_tolerance: float | None = 0.2, calls_per_unit: int = 31, cold: bool = True) -> None:
        self._group_of = groups_of(calls_per_unit)
        self._slower = None if latency_tolerance is None else 1 + latency_tolerance
        self._table = bytearray(CELLS)
        self._ordinals: Ordinals | None = Ordinals() if cold else None
        self._pace = Pace()
        self._rules: dict[str, int] = {}
        self._handed_on = self._rules  # under which rules those calls began that were handed on last
        self._totals: dict[str, list[int]] = {}
        self._batches: list[Batch] = []
        self._batch: Batch | None = None
        self._waiting = 0  # calls in all batches
        self._mask = 0
        self._windows = (0, 0)
        self._sums = [0] * 4
        self._slow = [0, 0]
        self._counted = 0
        self.verdict: Verdict | None = None

    def start(self, rule: str, arm: int, key: bytes) -> Handle:
        """A call begins: of the arm 0 (control) or 1, by a unit that ``rule`` placed. For ``finish``."""
        totals = self._totals.get(rule)
        if totals is None:
            totals = self._totals.setdefault(rule, [0] * 4) if len(self._totals) < MAX_RULES else [0] * 4
        totals[arm] += 1
        self._sums[arm] += 1
        cold = COLD_GROUPS if self._ordinals is None else self._coldness(arm)
        cell = digest(key, SEED) & CELL
        seen = self._table[cell]
        group = self._group_of[seen]
        if group is None or cell & self._mask:
            return arm, cell, None, totals, None, cell
        batch = self._batch or self._begin()
        number = batch.rules.get(rule)
        if number is None:
            if len(batch.rules) >= MAX_RULES:
                return arm, cell, None, totals, None, cell
            number = batch.rules[rule] = len(batch.rules)
        self._table[cell] = seen + 1
        self._counted += 1
        batch.total = total = batch.total + 1
        if total >= _BATCH:
            self._seal()
        if seen >> HAD & _FAILED:
            group = None
        return arm, cell, group, totals, batch, cell | arm << ARM_AT | cold << COLD_AT | number << RULE_AT

    def finish(self, handle: Handle, failed: bool, seconds: float) -> None:
        """It has ended. ``seconds``: infinite when nobody knows how long it would have taken: failed, and slow."""
        arm, _, _, totals, batch, call = handle
        if failed:
            totals[2 + arm] += 1
            self._sums[2 + arm] += 1
        if batch is None:
            return
        batch.ended += 1
        events = _FAILED if failed else 0
        if (not failed or seconds == inf) and seconds > batch.bounds[arm]:
            events |= _SLOW | _SLOWEST if seconds > batch.bounds[2 + arm] else _SLOW
            self._slow[arm] += 1
        if events:
            self._table[call & CELL] |= events << HAD
            call |= events << EVENTS_AT
        self._put(batch, call)
        if not arm and not failed:
            self._pace.add(seconds)

    def late(self, rule: str, arm: int, key: bytes) -> bool:
        """A failure is reported of a unit, after its calls; return whether it is one of calls that were counted here.

        Whether it is an event is for the judge to see.
        """
        self._sums[2 + arm] += 1
        cell = digest(key, SEED) & CELL
        if self._table[cell] >> HAD & _FAILED:
            return False
        ours = bool(self._table[cell] & COUNT)
        if cell & self._mask:
            return ours
        batch = self._batch or self._begin()
        number = batch.rules.get(rule)
        if number is not None or len(batch.rules) < MAX_RULES:
            number = batch.rules.setdefault(rule, len(batch.rules))
            if ours:
                self._table[cell] |= _FAILED << HAD
            self._put(batch, cell | arm << ARM_AT | _FAILED << EVENTS_AT | LATE << COLD_AT | number << RULE_AT)
        return ours

    def settle(self) -> None:
        """Rules or shares have changed: what begins from here on is handed on apart, and the judge is told."""
        self._seal()
        self._rules = {}

    def drain(self) -> bytes:
        """Pack what has been counted and is complete, for ``Pool.take``; empty if there is nothing.

        At most ``MAX_CALLS`` calls, 4 bytes each. What is packed is forgotten here. Raises: nothing.
        """
        self._seal()
        ready = [batch for batch in self._batches if batch.ended == batch.goal]
        ready = [batch for batch in ready if batch.rules is ready[0].rules]
        self._batches = [batch for batch in self._batches if batch not in ready]
        anew = bool(ready) and ready[0].rules is not self._handed_on
        if ready:
            self._handed_on = ready[0].rules
        totals, self._totals = self._totals, {}
        calls: list[int] = []
        numbers: dict[str, int] = {}
        for batch in ready:
            self._waiting -= len(batch.calls)
            names = list(batch.rules)
            for call in batch.calls:
                name = names[call >> RULE_AT]
                number = numbers.get(name)
                if number is None:
                    if len(numbers) >= MAX_RULES:
                        continue  # rules have changed so often since the last time
                    number = numbers[name] = len(numbers)
                calls.append(call & (1 << RULE_AT) - 1 | number << RULE_AT)
        for name in totals:
            if len(numbers) < MAX_RULES:
                numbers.setdefault(name, len(numbers))
        halvings, self._mask = self._mask.bit_length(), 0
        if not numbers:
            return b""
        sums = tuple(_four(totals.get(name, _NOTHING)) for name in numbers)
        pace = self._pace.quantiles
        return pack(Counted(anew, halvings, pace, tuple(numbers), sums, tuple(calls)))

    def windows(self, ids: tuple[int, int], pace: tuple[float, float] | None = None) -> None:
        """What the judge said of its windows: with a new one of the short clock, every unit may count again.

        pace: what the fleet knows of the control's p90 and p99, for a process that has not seen enough calls itself.
        """
        if pace is not None and not self._pace.known:
            self._pace.p90, self._pace.p99 = pace
        if ids[1] != self._windows[1]:
            self._table = bytearray(CELLS)
        self._windows = ids

    def fails_first(self, handle: Handle) -> bool:
        """As of ``Comparison``."""
        return not self._table[handle[1]] >> HAD & _FAILED

    def evidence(self) -> Evidence:
        """What this process counted. Evidence and limits are the judge's: 0 of 1 here."""
        sums = self._sums
        calls, failures, slow = (sums[0], sums[1]), (sums[2], sums[3]), (self._slow[0], self._slow[1])
        return Evidence(calls, failures, self._counted, (0.0, 0.0), (1.0, 1.0), self._windows, slow)

    @property
    def share(self) -> float:
        """The candidate's share of this process's calls so far; 0 before the first."""
        return self._sums[1] / (self._sums[0] + self._sums[1]) if any(self._sums[:2]) else 0.0

    def control_rate(self) -> tuple[int, int]:
        """Failures and calls of the control in this process so far."""
        return self._sums[2], self._sums[0]

    @property
    def deadline_s(self) -> float:
        """How long a call may take before it counts as failed and slow."""
        return self._pace.deadline_s()

    # -- within

    def _begin(self) -> Batch:
        bounds = _NEVER_SLOW if self._slower is None else self._pace.bounds(self._slower)
        batch = self._batch = Batch(bounds, self._mask, self._rules)
        self._batches.append(batch)
        return batch

    def _seal(self) -> None:
        if self._batch is not None:
            self._batch.goal = self._batch.total
            self._batch = None

    def _coldness(self, arm: int) -> int:
        ordinals = self._ordinals
        if ordinals is None:
            return COLD_GROUPS
        cold, over = ordinals.next(arm)
        if over == COLD_GROUPS - 1:
            self._ordinals = None
        return cold

    def _put(self, batch: Batch, call: int) -> None:
        """Keep a call for the wire, if its unit is in the sample; when there are too many, halve the sample."""
        if call & batch.mask:
            return
        batch.calls.append(call)
        self._waiting += 1
        while self._waiting > MAX_CALLS and self._mask < CELL:
            # A batch has one sample for all its calls, those that are still under way included.
            self._mask = mask = self._mask << 1 | 1
            for each in self._batches:
                each.mask |= mask
                each.calls = [call for call in each.calls if not call & each.mask]
            self._waiting = sum(len(each.calls) for each in self._batches)


def pack(counted: Counted) -> bytes:
    """The wire form: version, halvings (with ``_ANEW``), rules, pace (0 if unknown), rules with their totals, calls."""
    p90, p99 = counted.pace or (0.0, 0.0)
    parts = [_HEADER.pack(_VERSION, counted.halvings | _ANEW * counted.anew, len(counted.rules), p90, p99)]
    for rule, totals in zip(counted.rules, counted.totals, strict=True):
        name = _name(rule)
        parts.append(struct.pack("<B", len(name)) + name + _TOTALS.pack(*(min(n, _MOST_CALLS) for n in totals)))
    parts.append(struct.pack(f"<H{len(counted.calls)}I", len(counted.calls), *counted.calls))
    return b"".join(parts)


def unpack(packed: bytes) -> Counted:
    """What was packed. Raises: ValueError when it is not of this form."""
    try:
        return _unpack(packed)
    except (struct.error, IndexError, UnicodeDecodeError) as error:
        raise ValueError(f"not a flush of counted calls: {error}") from None


def _unpack(packed: bytes) -> Counted:
    if not packed:
        return Counted(False, 0, None, (), (), ())
    version, halvings, count, p90, p99 = _HEADER.unpack_from(packed)
    anew, halvings = bool(halvings & _ANEW), halvings & ~_ANEW
    if version != _VERSION or halvings > _MOST_HALVINGS or count > MAX_RULES:
        raise ValueError("not a flush of counted calls of this version")
    if not (p90 == p99 == 0 or _LEAST_S <= p90 <= p99 <= _MOST_S):
        raise ValueError("no latencies of a control")
    rules, totals, at = [], [], _HEADER.size
    for _ in range(count):
        end = at + 1 + packed[at]
        if end - at - 1 > _MAX_NAME:
            raise ValueError("a rule with too long a name")
        rules.append(packed[at + 1 : end].decode())
        totals.append(_four(_TOTALS.unpack_from(packed, end)))
        at = end + _TOTALS.size
    (number,) = struct.unpack_from("<H", packed, at)
    if number > MAX_CALLS or len(packed) != at + 2 + 4 * number or len(set(rules)) != count:
        raise ValueError("more, or less, than a flush of counted calls")
    calls = struct.unpack_from(f"<{number}I", packed, at + 2)
    for call in calls:
        if call >> RULE_AT >= count or COLD_GROUPS < call >> COLD_AT & 7 != LATE:
            raise ValueError("a call of no rule, or of no coldness")
    if any(number > _MOST_CALLS for each in totals for number in each):
        raise ValueError("more calls than there can be")
    return Counted(anew, halvings, (p90, p99) if p90 else None, tuple(rules), tuple(totals), calls)


def _name(rule: str) -> bytes:
    name = rule.encode("utf-8", "backslashreplace")
    if len(name) > _MAX_NAME:  # what is cut off still tells rules apart
        name = name[: _MAX_NAME - 12].decode("utf-8", "ignore").encode() + b"#%08x" % digest(name)
    return name


def _four(numbers: tuple[int, ...] | list[int]) -> tuple[int, int, int, int]:
    a, b, c, d = numbers
    return a, b, c, d
