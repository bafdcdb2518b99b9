"""``UsageCounts`` and ``Reporting``: how often flags are asked for, for a sink that wants to know.

Counting takes a lookup and one step of an ``itertools.count``, which is exact without a lock whatever threads, signals
and greenlets do; what it has come to is read by taking a step oneself. Counts are kept in memory only: they have no
identity by which a collector would know them again, so that what is on disk after a crash could be counted twice.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from itertools import count
from random import Random
from typing import Any, Final, TypeAlias

from flagkit.boundary import contained
from flagkit.clock import Clock
from flagkit.config import Config
from flagkit.events import Delivered, FlagUsage, Rejected, Retry, Usage
from flagkit.frozen import ReadOnly
from flagkit.runtime.backoff import SYSTEM_RANDOM, Backoff
from flagkit.runtime.link import Link, standing
from flagkit.runtime.stats import Account, UsageState
from flagkit.runtime.worker import Worker
from flagkit.sinks.sink import UsageSink

#: Flag, whether it was enabled, and the variant if the caller was told one.
Answer: TypeAlias = tuple[str, bool, str | None]

MAX_ANSWERS: Final = 100_000
_MAX_NAME: Final = 1024
_FLAGS_A_REPORT: Final = 1000
_MAX_REASONS: Final = 64
_CAP: Final = 10  # intervals


class UsageCounts:
    """Counts by answer. Any thread counts; one at a time takes."""

    __slots__ = ("_read", "_ticks")

    def __init__(self) -> None:
        self.after_fork()

    def after_fork(self) -> None:
        """What the parent counted, the parent reports. Assigns only."""
        self._ticks: dict[Answer, Callable[[], int]] = {}
        #: What the next step would be, had nobody counted since the last ``take``.
        self._read: dict[Answer, int] = {}

    def count(self, flag: str, enabled: bool, variant: str | None = None) -> None:
        """Count one answer. No lock. Raises: nothing."""
        answer = (flag, enabled, variant)
        tick = self._ticks.get(answer)
        if tick is None:
            if len(self._ticks) >= MAX_ANSWERS or len(flag) > _MAX_NAME:
                answer = ("", enabled, None)  # no flag's name, and lost as overflow
            tick = self._ticks.setdefault((str(answer[0]), *answer[1:]), count().__next__)
        tick()

    def take(self) -> dict[Answer, int]:
        """The answers counted since the last time, with how often."""
        taken = {}
        for answer, tick in self._ticks.copy().items():
            at = tick()
            new = at - self._read.get(answer, 0)
            self._read[answer] = at + 1
            if new:
                taken[answer] = new
        return taken


class Reporting:
    """Sends counts to one sink. ``counts.count`` is for the verbs; all else is thread-safe and never raises.

    Args: ended: told that the thread is ending although nobody asked it to, so that somebody calls ``start`` again.
    """

    def __init__(
        self,
        sink: UsageSink,
        config: Config,
        clock: Clock,
        ended: Callable[[], object] = lambda: None,
        random: Random = SYSTEM_RANDOM,
    ) -> None:
        self._sink = sink
        self._config = config
        self._clock = clock
        self._interval_s = sink.usage_interval_s
        self._backoff = Backoff(self._interval_s, _CAP * self._interval_s, random)
        self._link = Link("usage", sink.name, clock)
        self.counts = UsageCounts()
        self._worker = Worker("flagkit-usage", self.step, clock, ended=ended)
        self._closed = False
        self.after_fork()

    def after_fork(self) -> None:
        """In a forked child: nothing of the parent's is counted here. Assigns only."""
        #: Held by whoever sends, for as long as that takes; and by whoever reads or writes the fields below.
        self._sending, self._turn = threading.Lock(), threading.Lock()
        self.counts.after_fork()
        self._worker.after_fork()
        self._waiting: dict[Answer, int] = {}
        #: Calls that are being handed over.
        self._flying = 0
        self._since_ms = self._clock.wall_ms()
        self._counted = self._delivered = 0
        self._lost: dict[str, int] = {}
        self._backoff.succeeded()
        self._due_s = self._clock.monotonic_s() + self._interval_s
        contained(self._sink.after_fork, otherwise=None)

    def start(self) -> None:
        self._worker.start()

    @property
    def running(self) -> bool:
        return self._worker.running

    @property
    def faults(self) -> int:
        return self._worker.faults

    @property
    def state(self) -> UsageState:
        with self._turn:
            self._gather()
            pending = self._flying + sum(self._waiting.values())
            return UsageState(
                self._link.state, Account(self._counted, 0, self._delivered, ReadOnly(self._lost), pending)
            )

    def step(self) -> float:
        """Send what was counted if it is time to; return the seconds until it is."""
        left_s = self._due_s - self._clock.monotonic_s()
        if left_s <= 0 and not self._closed and self._sending.acquire(blocking=False):
            try:
                self._due_s = self._clock.monotonic_s() + self._send(self._config.deadline_s)
            finally:
                self._sending.release()
            self._link.tell()
        return max(0.0, self._due_s - self._clock.monotonic_s())

    def flush(self, timeout_s: float) -> int:
        """Send what was counted, on the calling thread; return how many calls wait after ``timeout_s`` at most."""
        ends_s = self._clock.monotonic_s() + timeout_s
        if not self._closed and self._sending.acquire(timeout=max(0.0, timeout_s)):
            try:
                left_s = ends_s - self._clock.monotonic_s()
                if left_s > 0:
                    self._send(min(left_s, self._config.deadline_s))
            finally:
                self._sending.release()
            self._link.tell()
        with self._turn:
            self._gather()
            return self._flying + sum(self._waiting.values())

    def close(self, timeout_s: float) -> int:
        """Flush, stop, let go of connections; return how many calls were not reported. They are lost as ``closed``."""
        left = self.flush(timeout_s)
        with self._turn:
            self._closed = True
            self._lose("closed", sum(self._waiting.values()))
            self._waiting = {}
        self._worker.stop()
        contained(self._sink.close, otherwise=None)
        return left

    # -- within

    def _gather(self) -> None:
        """Put what was counted with what waits. With the turn."""
        taken = self.counts.take()
        for answer, number in taken.items():
            self._counted += number
            if self._closed or not answer[0]:
                self._lose("closed" if self._closed else "overflow", number)
            else:
                self._waiting[answer] = self._waiting.get(answer, 0) + number

    def _send(self, deadline_s: float) -> float:
        """Report all that waits, a part at a time; return the seconds until the next time."""
        ends_s = self._clock.monotonic_s() + deadline_s
        with self._turn:
            self._gather()
            waiting, self._waiting = self._waiting, {}
            self._flying = sum(waiting.values())
            start_ms, stop_ms = self._since_ms, max(self._since_ms, self._clock.wall_ms())
        parts = _parts(waiting)
        try:
            while parts:
                usage = Usage(start_ms, stop_ms, _by_flag(parts[-1]))
                left_s = ends_s - self._clock.monotonic_s()
                sent = Retry("deadline")
                if left_s > 0:
                    part = parts.pop()
                    sent = self._report(usage, left_s, part)
                    if isinstance(sent, Retry):
                        parts.append(part)
                if isinstance(sent, Retry):
                    self._link.failed(standing(sent.reason, lasting=sent.lasting), sent.reason)
                    return self._backoff.failed(sent.after_s, lasting=sent.lasting)
        finally:
            self._put_back(parts)
        self._since_ms = stop_ms
        self._backoff.succeeded()
        return self._interval_s

    def _put_back(self, parts: list[dict[Answer, int]]) -> None:
        with self._turn:
            self._flying = 0
            for answer, number in (pair for part in parts for pair in part.items()):
                self._waiting[answer] = self._waiting.get(answer, 0) + number

    def _report(self, usage: Usage, deadline_s: float, part: dict[Answer, int]) -> Any:
        """Hand over one part and enter what became of it, unless it may be handed over again."""

        def report() -> Any:
            return self._sink.report(usage, deadline_s=deadline_s)

        sent: Any = Rejected("interrupted")  # by whatever ends this thread
        try:
            sent = contained(report, otherwise=None)
            if not isinstance(sent, (Delivered, Retry, Rejected)):
                sent = Rejected("sink_error")
        finally:
            with self._turn:
                calls = 0 if isinstance(sent, Retry) else sum(part.values())
                self._flying -= calls
                if isinstance(sent, Delivered):
                    self._delivered += calls
                elif isinstance(sent, Rejected):
                    self._lose(sent.reason, calls)
        if isinstance(sent, Delivered):
            self._link.succeeded()
        elif isinstance(sent, Rejected):
            self._link.failed("rejected" if sent.reason.startswith("http_4") else "failing", sent.reason)
        return sent

    def _lose(self, reason: str, number: int) -> None:
        if not number:
            return
        known = reason in self._lost or len(self._lost) < _MAX_REASONS
        reason = reason if known else "other"
        self._lost[reason] = self._lost.get(reason, 0) + number


def _parts(waiting: dict[Answer, int]) -> list[dict[Answer, int]]:
    """What waits in parts of so many flags as one report may have."""
    flags = sorted({answer[0] for answer in waiting})
    part_of = {flag: index // _FLAGS_A_REPORT for index, flag in enumerate(flags)}
    parts: list[dict[Answer, int]] = [{} for _ in range(0, len(flags), _FLAGS_A_REPORT)]
    for answer, number in waiting.items():
        parts[part_of[answer[0]]][answer] = number
    return parts


def _by_flag(part: dict[Answer, int]) -> dict[str, FlagUsage]:
    yes: dict[str, int] = {}
    no: dict[str, int] = {}
    variants: dict[str, dict[str, int]] = {}
    for (flag, enabled, variant), number in part.items():
        counted = yes if enabled else no
        counted[flag] = counted.get(flag, 0) + number
        named = variants.setdefault(flag, {})
        if variant is not None:
            named[variant] = named.get(variant, 0) + number
    return {flag: FlagUsage(yes.get(flag, 0), no.get(flag, 0), named) for flag, named in variants.items()}
