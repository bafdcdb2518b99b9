"""``Delivery``: takes events from a queue to the sink: seals batches, sends them, waits when told, counts the fate.

A batch that could not be delivered is sent again as it is, same id and same bytes, until the collector has it
or refuses it; then its events are sealed again into smaller ones, until the event at fault is alone. One thread at a
time drives the sink: normally a worker calling ``step``, or whoever calls ``flush``, so that a flush works while the
interpreter exits and no thread can be started. It knows nothing of decisions.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from random import Random
from typing import Any, Final

from flagkit.boundary import contained
from flagkit.clock import Clock
from flagkit.config import Config
from flagkit.events import Batch, Delivered, ExposureEncoder, Rejected, Retry, Sent, TooLarge
from flagkit.runtime.backoff import SYSTEM_RANDOM, Backoff
from flagkit.runtime.bell import Bell
from flagkit.runtime.buffer import Queue, Seal
from flagkit.runtime.episode import Episode
from flagkit.runtime.exposures import Exposures
from flagkit.runtime.link import Link, standing
from flagkit.runtime.stats import LinkState
from flagkit.sinks.sink import Sink

_MAX_BATCH_BYTES: Final = 512 * 1024
_RETRY_S: Final = 1.0
_RETRY_CAP_S: Final = 10.0
#: An outage that lasts is looked at so often, by the one batch that waits anyway: 6 requests a minute.
_PROBE_S: Final = 10.0
_RETRY_AFTER_CEILING_S: Final = 3600.0
#: What an event's content can make an encoder raise. It then costs that event, and holds up no other.
UNENCODABLE: Final = (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError)


class _Sealed:
    """A batch on its way, with what has to be written into the account once its fate is known."""

    __slots__ = ("batch", "spoiled", "told")

    def __init__(
        self,
        texts: list[str],
        seal: Seal,
        spoiled: Mapping[str, int],
        told: Mapping[str, int],
        losses: Mapping[str, int],
    ) -> None:
        if seal.again:
            losses = told  # let the next batch report them, which is sure to be heard
        unreported = {reason: count - told.get(reason, 0) for reason, count in losses.items()}
        dropped = {reason: count for reason, count in unreported.items() if count}
        self.batch = Batch.seal(tuple(texts), dropped, seal.id)
        #: reason -> events among the batch's that are not in it.
        self.spoiled = spoiled
        #: reason -> losses the collector knows of once it has this batch.
        self.told = losses


class Delivery:
    """Delivers one queue's events to one sink."""

    __slots__ = (
        "_asked_s",
        "_backoff",
        "_clock",
        "_closed",
        "_config",
        "_driver",
        "_due_s",
        "_encode",
        "_exposures",
        "_goal",
        "_link",
        "_locks",
        "_most_bytes",
        "_queue",
        "_resume_s",
        "_sealed",
        "_sink",
        "_spoiling",
        "_suspects",
        "_told",
    )

    def __init__(
        self,
        sink: Sink,
        queue: Queue,
        exposures: Exposures,
        encoder: ExposureEncoder,
        config: Config,
        clock: Clock,
        random: Random = SYSTEM_RANDOM,
    ) -> None:
        self._sink = sink
        self._queue = queue
        self._exposures = exposures
        self._encode: Callable[[Any], str] = encoder.encode
        self._config = config
        self._clock = clock
        self._backoff = Backoff(
            min(_RETRY_S, config.flush_interval_s),
            _RETRY_CAP_S,
            random,
            ceiling_s=_RETRY_AFTER_CEILING_S,
            probe_s=_PROBE_S,
        )
        self._link = Link("sink", sink.name, clock)
        self._spoiling = Episode("events", clock)
        self._closed = False
        #: The largest batch, in bytes of events, that the collector seems to take.
        self._most_bytes = _MAX_BATCH_BYTES
        self.after_fork()

    def after_fork(self) -> None:
        """Forget the parent's batch and locks. Assigns only; the queue forgets the events themselves."""
        self._locks: dict[str, threading.Lock] = {}
        self._driver: int | None = None
        self._sealed: _Sealed | None = None
        self._told: Mapping[str, int] = {}
        #: So many of the oldest events were refused together.
        self._suspects = 0
        #: Everything admitted to the queue before this count is to be sent even if it fills no batch.
        self._goal = 0
        self._due_s = self._clock.monotonic_s() + self._config.flush_interval_s
        #: Not before these times: by our own backoff, and by the collector's wish.
        self._resume_s = self._asked_s = float("-inf")
        self._backoff.succeeded()

    @property
    def _driving(self) -> threading.Lock:
        """Held by whoever drives the sink. Made at first use: until then gevent may patch what a lock is."""
        return self._locks.setdefault("driving", threading.Lock())

    @property
    def state(self) -> LinkState:
        return self._link.state

    def step(self) -> float:
        """Send what is due, at most one batch; return the seconds until there may be more to do, 0 for at once."""
        driving = self._driving
        if self._closed or not driving.acquire(blocking=False):
            return self._config.flush_interval_s  # someone in flush() is doing this work
        try:
            pause_s = self._round()
        finally:
            self._release(driving)
        # However long the collector is left alone, look in now and then: windows turn, and a flush may have succeeded.
        return min(pause_s, self._config.flush_interval_s)

    def flush(self, timeout_s: float) -> int:
        """Send all that was recorded before the call, on the calling thread; return how many of those still wait.

        It makes one attempt even when an earlier one failed just now, but heeds a collector that asked for time.
        Called from within the sink it sends nothing. Any thread; at most ``timeout_s`` seconds. Raises: nothing.
        """
        deadline_s = self._clock.monotonic_s() + timeout_s
        goal = self._queue.admitted
        tried = False
        while self._queue.left(goal) and not self._closed and self._driver != threading.get_ident():
            left_s = deadline_s - self._clock.monotonic_s()
            driving = self._driving
            if left_s <= 0 or not driving.acquire(timeout=left_s):
                break
            try:
                now_s = self._clock.monotonic_s()
                wait_s = (self._resume_s if tried else self._asked_s) - now_s
                left_s = deadline_s - now_s  # after the turn was waited for
                if wait_s <= 0 < left_s:
                    self._goal = max(self._goal, goal)
                    tried = self._send(min(self._config.deadline_s, left_s)) > 0
            finally:
                self._release(driving)
            if wait_s > 0:
                if self._clock.monotonic_s() + wait_s >= deadline_s:
                    break
                self._clock.wait(Bell(), wait_s)
        return self._queue.left(goal)

    def close(self, timeout_s: float) -> int:
        """Refuse further events, flush, and close the sink; return how many events are left behind. Raises: nothing."""
        self._queue.close()
        left = self.flush(timeout_s)
        self._closed = True
        contained(self._sink.close, otherwise=None)
        return left

    # -- everything below runs on the thread that holds _driving

    def _release(self, driving: threading.Lock) -> None:
        driving.release()
        self._link.tell()
        self._spoiling.tell()

    def _round(self) -> float:
        now_s = self._clock.monotonic_s()
        self._exposures.turn()
        if now_s < self._resume_s:
            return self._resume_s - now_s
        self._queue.listen()
        if now_s >= self._due_s or len(self._queue) >= self._queue.crowd:
            self._due_s = now_s + self._config.flush_interval_s
            self._goal = self._queue.admitted
        if not self._queue.left(self._goal):
            return self._due_s - now_s
        return self._send(self._config.deadline_s)

    def _send(self, deadline_s: float) -> float:
        """Send one batch, new or not; return the seconds to wait before the next."""
        sealed = self._sealed or self._seal()
        if not isinstance(sealed, _Sealed):
            return sealed
        self._driver = threading.get_ident()
        sent, cause = self._hand_over(sealed.batch, deadline_s)
        self._driver = None
        if isinstance(sent, Retry):
            return self._postpone(sent, cause)
        self._sealed = None
        self._resume_s = self._asked_s = float("-inf")
        if isinstance(sent, Delivered):
            return self._delivered(sealed, sent.rejected)
        return self._refused(sealed, sent)

    def _delivered(self, sealed: _Sealed, refused: Mapping[str, int]) -> float:
        self._backoff.succeeded()
        self._link.succeeded()
        self._told = sealed.told
        # Collectors are reconfigured, so what one took once is tried again: twice as much after 70 batches.
        self._most_bytes = min(self._most_bytes + self._most_bytes // 100 + 1, _MAX_BATCH_BYTES)
        self._settle(sealed, refused)
        return 0.0

    def _refused(self, sealed: _Sealed, sent: Rejected | TooLarge) -> float:
        """See to it that the next batch is smaller, or lose this one; return the seconds to wait before the next."""
        events = sealed.batch.events
        divisible = isinstance(sent, TooLarge) or sent.divisible
        if divisible and len(events) > 1:
            # Nothing is lost yet: the next batch is sealed from the same events, and reports the same losses.
            if isinstance(sent, TooLarge):
                self._most_bytes = sum(map(len, events)) // 2
            else:
                self._suspects = len(events) + sum(sealed.spoiled.values())
            return 0.0
        self._settle(sealed, {sent.reason: len(events)})
        self._link.failed("rejected", f"batch refused: {sent.reason}")
        if not divisible:
            self._backoff.succeeded()
            return 0.0
        alone = self._backoff.failures == 0
        pause_s = self._backoff.failed()
        if alone:
            return 0.0  # a bad event among good ones holds them up no longer
        self._resume_s = self._clock.monotonic_s() + pause_s
        return pause_s

    def _settle(self, sealed: _Sealed, refused: Mapping[str, int]) -> None:
        lost = dict(sealed.spoiled)
        for reason, count in refused.items():
            lost[reason] = lost.get(reason, 0) + count
        delivered = len(sealed.batch.events) - sum(refused.values())
        self._suspects = max(0, self._suspects - delivered - sum(lost.values()))
        self._queue.settle(delivered, lost)

    def _postpone(self, retry: Retry, cause: Exception | None) -> float:
        now_s = self._clock.monotonic_s()
        pause_s = self._backoff.failed(retry.after_s, lasting=retry.lasting)
        self._resume_s = now_s + pause_s
        if retry.after_s > 0:
            self._asked_s = now_s + min(retry.after_s, _RETRY_AFTER_CEILING_S)
        error = retry.reason if cause is None else f"{retry.reason}: {type(cause).__name__}"
        self._link.failed(standing(retry.reason, lasting=retry.lasting), error, cause)
        return pause_s

    def _most_events(self) -> int:
        """How many events the next batch may take."""
        if self._backoff.failures > 1:
            return 1  # one loss after another: perhaps the collector refuses everything, which one event can find out
        return max(1, self._suspects // 2) if self._suspects else self._config.batch_size

    def _seal(self) -> _Sealed | float:
        """A batch of the oldest events; when none of them can be sent they are settled: the seconds to wait for more.

        A queue that gives none although some wait has trouble with its disk, and is left alone for a while.
        """
        encode = self._encode
        largest = self._config.max_event_bytes
        texts: list[str] = []
        spoiled: dict[str, int] = {}
        total = 0
        for event in self._queue.head(self._most_events()):
            try:
                text: str = event if event.__class__ is str else encode(event)
            except UNENCODABLE as error:
                self._spoiling.failed("unencodable", type(error).__name__, error)
                spoiled["unencodable"] = spoiled.get("unencodable", 0) + 1
                continue
            size = len(text)  # encoded events are ASCII
            if size > largest:
                spoiled["too_large"] = spoiled.get("too_large", 0) + 1
                continue
            total += size
            if total > self._most_bytes and texts:
                break
            texts.append(text)
        count = sum(spoiled.values())
        if not texts:
            if not count:
                self._resume_s = self._clock.monotonic_s() + _RETRY_S
                return _RETRY_S
            self._suspects = max(0, self._suspects - count)
            self._queue.settle(0, spoiled)
            return 0.0
        seal = self._queue.seal(len(texts) + count)
        self._sealed = _Sealed(texts, seal, spoiled, self._told, self._queue.losses())
        return self._sealed

    def _hand_over(self, batch: Batch, deadline_s: float) -> tuple[Sent, Exception | None]:
        """What the sink answers, with what it raised; a sink may be the application's own and do anything."""
        raised: list[Exception] = []

        def send() -> Any:
            return _checked(self._sink.send(batch, deadline_s=deadline_s), len(batch.events))

        sent: Sent = contained(send, otherwise=Retry("sink_error"), failed=raised.append)
        return sent, raised[0] if raised else None


def _checked(sent: Sent, size: int) -> Sent:
    """``sent`` as the contract has it, never refusing more than was given: the account balances whatever a sink says.

    Raises: TypeError or ValueError when it is no answer at all.
    """
    if isinstance(sent, Delivered):
        refused = {}
        for reason, count in sent.rejected.items():
            refused[str(reason)] = count = max(0, min(int(count), size))
            size -= count
        return Delivered(refused)
    if isinstance(sent, Retry):
        return Retry(str(sent.reason), float(sent.after_s), lasting=bool(sent.lasting))
    if isinstance(sent, Rejected):
        return Rejected(str(sent.reason), divisible=bool(sent.divisible))
    if isinstance(sent, TooLarge):
        return TooLarge(str(sent.reason))
    raise TypeError(f"a sink answers Delivered, Retry, Rejected or TooLarge, not {type(sent).__name__}")
