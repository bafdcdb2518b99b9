"""``Pool``: where the calls counted by the processes of a fleet meet and are judged; it owns the tables of units.

``take`` is fed what ``Tally.drain`` packs. What one process hands in at once is a block of its own, since processes may
have different shares; only what is too little of an arm to be one is put together over processes. It can be dumped, so
that whoever judges next goes on with the same evidence. Pure: times come in. One thread at a time.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Sequence
from math import exp, isfinite, log
from typing import Any, Final, NamedTuple, TypeAlias

from flagkit.production.clocks import (
    CANDIDATE,
    CELL,
    COLD_GROUPS,
    CONTROL,
    ERRORS,
    HAD,
    LEAST_ARM,
    P90,
    P99,
    Clock,
    Evidence,
    Verdict,
    groups_of,
    look_for_verdict,
    window_ends,
)
from flagkit.production.sequential import SloEProcess
from flagkit.production.tally import ARM_AT, COLD_AT, EVENTS_AT, LATE, RULE_AT, Counted, unpack

#: Rules compared, and processes remembered, at most.
MAX_RULES: Final = 64
MAX_PROCESSES: Final = 2_048
#: A process that was not heard of for so long may be forgotten when there are too many, seconds.
_GONE_S: Final = 300.0
#: First calls of processes meet those of other processes in so many seconds only: an outage in between would be one
#: arm's alone, as that of the larger share has its first calls earlier.
_COLD_S: Final = 5.0
#: Numbers of flushes that are told apart behind a process's latest.
_REMEMBERED: Final = 64
_VERSION: Final = 1
_MOST_DUMPED: Final = 1 << 23
_FAILED, _SLOW = 1 << ERRORS, 1 << P90
_UNKNOWN: Final = 1 << P90 | 1 << P99

#: Rule, coldness, group.
Place: TypeAlias = tuple[str, int, int]
#: At the arm, calls; then for each kind and arm, events; then for each, calls that say nothing.
Row: TypeAlias = list[int]
_EVENTS_FROM, _MISSING_FROM, _ROW = 2, 8, 14


class Reply(NamedTuple):
    """verdict: the first there was. windows, of the long clock and the short one, and pace: for ``Tally.windows``."""

    verdict: Verdict | None
    windows: tuple[int, int]
    pace: tuple[float, float] | None


class Pool:
    """See the module.

    Args: as of ``Comparison``. verdict: the first; it stays. pace: as of ``Reply``. held: what a judge has to remember
    beside the counts, a text.
    """

    def __init__(
        self,
        *,
        alpha: float = 0.01,
        error_tolerance: float = 0.25,
        latency_tolerance: float | None = 0.2,
        calls_per_unit: int = 31,
        min_rate: float | None = None,
    ) -> None:
        kinds = 1 if latency_tolerance is None else 3
        self._clocks = tuple(Clock(name, kinds, 1 + error_tolerance, alpha / 2) for name in ("long", "short"))
        self._group_of = groups_of(calls_per_unit)
        self._floor = None if min_rate is None else SloEProcess(min_rate)
        self._floor_limit = 1 / alpha
        #: For each clock, what waits for more of an arm, and since when.
        self._open: tuple[dict[Place, tuple[float, Row]], ...] = ({}, {})
        self._rules: set[str] = set()
        #: Process -> number of its latest flush, a bit for each of those before that was heard, and when it was heard.
        self._processes: dict[str, tuple[int, int, float]] = {}
        self._sums = [0] * 4
        #: Calls that have passed, for the windows: where units were sampled, as many as would have been of the sample.
        self._passed = 0
        self._slow = [0, 0]
        self.pace: tuple[float, float] | None = None
        self.verdict: Verdict | None = None
        self.held = ""

    def take(self, process: str, sequence: int, packed: bytes, now_s: float) -> Reply:
        """Take in what a process has counted; a flush that was taken in before changes nothing.

        Args: sequence, numbers the process's flushes, from 0. packed, from ``Tally.drain``; may be empty. now_s,
            seconds, of any clock that does not stop with the judge.
        Raises: ValueError when ``packed`` is malformed, before anything of it has counted.
        """
        counted = unpack(packed)
        if self._is_new(process[:128], sequence, now_s):
            if counted.anew:
                self.settle()  # processes hear of a change one after another, and it is over with the last
            self._end_cold(now_s)
            self._count(counted, now_s)
            self._pass_windows()
        long, short = self._clocks
        return Reply(self.verdict, (long.window, short.window), self.pace)

    def settle(self) -> None:
        """Rules or shares have changed: what is compared from here on does not meet what was before."""
        for clock, waiting in zip(self._clocks, self._open, strict=True):
            self._close(clock, waiting)
            clock.forget_risks(bytes(clock.table))
        self._rules.clear()

    def evidence(self) -> Evidence:
        """What was counted so far, by all processes."""
        long, short = self._clocks
        sums = self._sums
        return Evidence(
            (sums[0], sums[1]),
            (sums[2], sums[3]),
            long.counted,
            (long.value, short.value),
            (long.limit, short.limit),
            (long.window, short.window),
            (self._slow[0], self._slow[1]),
        )

    @property
    def share(self) -> float:
        """The candidate's share of the calls so far; 0 before the first."""
        return self._sums[1] / (self._sums[0] + self._sums[1]) if any(self._sums[:2]) else 0.0

    def control_rate(self) -> tuple[int, int]:
        """Failures and calls of the control so far: for a baseline."""
        return self._sums[2], self._sums[0]

    # -- counting

    def _is_new(self, process: str, sequence: int, now_s: float) -> bool:
        """Whether this flush was not heard before, as far as that is remembered."""
        known = self._processes.get(process)
        if known is None:
            if len(self._processes) >= MAX_PROCESSES:
                self._processes = {
                    name: each for name, each in self._processes.items() if abs(now_s - each[2]) < _GONE_S
                }
            if len(self._processes) >= MAX_PROCESSES:
                return False
            self._processes[process] = sequence, 1, now_s
            return True
        latest, heard, _ = known
        ahead = sequence - latest
        if ahead > 0:
            heard = heard << ahead & (1 << _REMEMBERED) - 1 if ahead < _REMEMBERED else 0
            self._processes[process] = sequence, heard | 1, now_s
            return True
        if -ahead >= _REMEMBERED or heard >> -ahead & 1:
            return False
        self._processes[process] = latest, heard | 1 << -ahead, now_s
        return True

    def _count(self, counted: Counted, now_s: float) -> None:
        rules = [self._admitted(rule) for rule in counted.rules]
        if counted.pace is not None:
            p90, p99 = self.pace or counted.pace
            self.pace = _between(p90, counted.pace[0]), _between(p99, counted.pace[1])
        for totals in counted.totals:
            self._sums = [have + more for have, more in zip(self._sums, totals, strict=True)]
            self._passed += (totals[0] + totals[1]) >> counted.halvings
        for clock, waiting in zip(self._clocks, self._open, strict=True):
            short = clock is self._clocks[1]
            rows: dict[Place, Row] = {}
            for call in counted.calls:
                rule = rules[call >> RULE_AT]
                if rule is not None:
                    self._count_call(clock, rows, rule, call, short)
            for place, row in rows.items():
                if place[1] == COLD_GROUPS and row[CONTROL] >= LEAST_ARM and row[CANDIDATE] >= LEAST_ARM:
                    self._judge(clock, row)
                else:
                    self._add(clock, waiting, place, row, now_s)

    def _count_call(self, clock: Clock, rows: dict[Place, Row], rule: str, call: int, short: bool) -> None:
        """Pass a call through a clock's table, as ``Comparison`` does, into the rows of its flush."""
        cell, arm, events, cold = call & CELL, call >> ARM_AT & 1, call >> EVENTS_AT & 7, call >> COLD_AT & 7
        if cold == LATE:
            if clock.late(rule, arm, cell, (0, 0)):
                self._look_for_verdict(clock)
            if short:
                self._sums[2 + arm] += 1
            return
        table = clock.table
        seen = table[cell]
        group = self._group_of[seen]
        if group is None:
            return
        clock.counted += 1
        if not group:
            clock.risk(rule).came[arm] += 1
        row = rows.get((rule, cold, group))
        if row is None:
            row = rows[rule, cold, group] = [0] * _ROW
        row[arm] += 1
        had = seen >> HAD
        fresh = events & ~had
        table[cell] = seen + 1 | fresh << HAD
        if short:
            self._slow[arm] += events >> P90 & 1
            if arm and self._floor is not None:
                self._floor.add(bool(events & _FAILED))
        if not had and not fresh:
            return
        if fresh & _FAILED:
            clock.risk(rule).gone[arm] += 1
        silent = had | _UNKNOWN if events & (_FAILED | _SLOW) == _FAILED else had
        for kind in (ERRORS, P90, P99):
            if silent >> kind & 1:
                row[_MISSING_FROM + 2 * kind + arm] += 1
            elif fresh >> kind & 1:
                row[_EVENTS_FROM + 2 * kind + arm] += 1

    def _admitted(self, rule: str) -> str | None:
        if rule not in self._rules:
            if len(self._rules) >= MAX_RULES:
                return None
            self._rules.add(rule)
        return rule

    def _add(self, clock: Clock, waiting: dict[Place, tuple[float, Row]], place: Place, row: Row, now_s: float) -> None:
        """Put what is too little for a block, or cold, to that of other processes."""
        since_s, before = waiting.get(place, (now_s, None))
        if before is not None:
            row = [have + more for have, more in zip(before, row, strict=True)]
        # No block waits for more calls than that: the first ones of eight processes tell a gross failure at once.
        if min(row[CONTROL], row[CANDIDATE]) >= LEAST_ARM:
            waiting.pop(place, None)
            self._judge(clock, row)
        else:
            waiting[place] = since_s, row

    def _end_cold(self, now_s: float) -> None:
        """First calls that began to wait too long ago to meet any more are nothing."""
        for waiting in self._open:
            for place, (since_s, _) in tuple(waiting.items()):
                if place[1] < COLD_GROUPS and not 0 <= now_s - since_s < _COLD_S:
                    del waiting[place]

    def _close(self, clock: Clock, waiting: dict[Place, tuple[float, Row]]) -> None:
        for _, row in waiting.values():
            self._judge(clock, row)
        waiting.clear()

    def _pass_windows(self) -> None:
        calls = self._passed
        for clock, waiting in zip(self._clocks, self._open, strict=True):
            if window_ends(clock, calls):
                self._close(clock, waiting)
                clock.begin_window(calls)

    def _judge(self, clock: Clock, row: Row) -> None:
        for kind, test in enumerate(clock.tests):
            at = _EVENTS_FROM + 2 * kind
            failed, failed_candidates = row[at], row[at + 1]
            if failed or failed_candidates:
                gone = _MISSING_FROM + 2 * kind
                test.add_block(row[0] - row[gone], row[1] - row[gone + 1], failed, failed_candidates)
        self._look_for_verdict(clock)

    def _look_for_verdict(self, clock: Clock) -> None:
        if self.verdict is None:
            self.verdict = look_for_verdict(clock, self._floor, self._floor_limit)

    # -- handing over

    def dump(self) -> bytes:
        """All there is to remember, for ``load`` by whoever judges next: some KiB to some 100 KiB."""
        header = {
            "clocks": [clock.state() for clock in self._clocks],
            "open": [[[*place, since_s, row] for place, (since_s, row) in waiting.items()] for waiting in self._open],
            "rules": sorted(self._rules),
            "processes": self._processes,
            "sums": self._sums,
            "slow": self._slow,
            "passed": self._passed,
            "pace": self.pace,
            "floor": None if self._floor is None else self._floor.state(),
            "verdict": self.verdict,
            "held": self.held,
        }
        tables = b"".join(table for clock in self._clocks for table in (clock.table, clock.before or b""))
        text = json.dumps(header, separators=(",", ":"), allow_nan=False).encode()
        return bytes([_VERSION]) + zlib.compress(len(text).to_bytes(4, "little") + text + tables, 1)

    def load(self, dumped: bytes) -> None:
        """Go on from a dump. Raises: ValueError when it is none; then nothing has changed."""
        try:
            self._load(dumped)
        except (zlib.error, KeyError, IndexError, TypeError, AttributeError, OverflowError, RecursionError) as error:
            raise ValueError(f"not a dump of a pool: {type(error).__name__}") from None

    def _load(self, dumped: bytes) -> None:
        if dumped[:1] != bytes([_VERSION]):
            raise ValueError("not a dump of a pool of this version")
        unzip = zlib.decompressobj()
        content = unzip.decompress(dumped[1:], _MOST_DUMPED)
        if not unzip.eof:
            raise ValueError("not a whole dump of a pool")
        end = 4 + int.from_bytes(content[:4], "little")
        header, tables = json.loads(content[4:end]), content[end:]
        floor = None
        if self._floor is not None and header["floor"] is not None:
            floor = SloEProcess(self._floor.rate)
            floor.resume(header["floor"])
        clocks = []
        for clock, state in zip(self._clocks, header["clocks"], strict=True):
            fresh, size = clock.resumed(state, tables)
            clocks.append(fresh)
            tables = tables[size:]
        waiting = tuple({_place(entry): _waiting(entry) for entry in each} for each in header["open"])
        rules = {_text(rule) for rule in header["rules"]}
        processes = {_text(name): _heard(each) for name, each in header["processes"].items()}
        sums, slow, (passed,) = _wholes(header["sums"], 4), _wholes(header["slow"], 2), _wholes([header["passed"]], 1)
        pace = None if header["pace"] is None else (_seconds(header["pace"][0]), _seconds(header["pace"][1]))
        if pace is not None and not 0 < pace[0] <= pace[1]:
            raise ValueError("no latencies of a control")
        verdict = None if header["verdict"] is None else _verdict(header["verdict"])
        held = header.get("held", "")  # which an earlier version did not remember
        if type(held) is not str:
            raise ValueError("not what is held")
        if tables or len(waiting) != 2 or len(rules) > MAX_RULES or len(processes) > MAX_PROCESSES:
            raise ValueError("not a dump of a pool of this size")
        self._clocks, self._open, self._rules, self._processes = tuple(clocks), waiting, rules, processes
        self._sums, self._slow, self._passed = sums, slow, passed
        self.pace, self.verdict, self.held = pace, verdict, held
        self._floor = floor or self._floor


def _between(before: float, now: float) -> float:
    """A tenth of the way, in proportions."""
    return before * exp(0.1 * log(now / before))


def _wholes(value: Any, count: int) -> list[int]:
    if type(value) is not list or len(value) != count or not all(type(n) is int and 0 <= n < 1 << 62 for n in value):
        raise ValueError("not whole numbers")
    return value


def _seconds(value: Any) -> float:
    if type(value) not in (int, float) or not isfinite(value):
        raise ValueError("not a time")
    return float(value)


def _text(value: Any) -> str:
    if type(value) is not str or len(value) > 256:
        raise ValueError("not a name")
    return value


def _place(entry: Sequence[Any]) -> Place:
    rule, (cold, group) = _text(entry[0]), _wholes(list(entry[1:3]), 2)
    if cold > COLD_GROUPS or group > 4:
        raise ValueError("not a place of a block")
    return rule, cold, group


def _waiting(entry: Sequence[Any]) -> tuple[float, Row]:
    return _seconds(entry[3]), _wholes(entry[4], _ROW)


def _heard(value: Sequence[Any]) -> tuple[int, int, float]:
    latest, heard = value[0], value[1]
    if type(latest) is not int or type(heard) is not int or not 0 <= heard < 1 << _REMEMBERED:
        raise ValueError("not what is known of a process")
    return latest, heard, _seconds(value[2])


def _verdict(value: Sequence[Any]) -> Verdict:
    kind, clock, window, evidence, limit = value
    return Verdict(_text(kind), _text(clock), _wholes([window], 1)[0], _seconds(evidence), _seconds(limit))
