"""``Recording``: everything between a verb that records and the sink, put together once.

The client calls it; the parts know nothing of each other's threads. Without a sink there is no recording at all.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from flagkit.boundary import contained
from flagkit.clock import Clock
from flagkit.config import Config
from flagkit.context import ANONYMOUS, Context
from flagkit.events import ExposureEncoder, encode_metric
from flagkit.runtime.buffer import Buffer, Queue
from flagkit.runtime.delivery import Delivery
from flagkit.runtime.exposures import Exposures
from flagkit.runtime.stats import Account, LinkState, Standing
from flagkit.runtime.summaries import Summaries, Take
from flagkit.runtime.worker import Worker
from flagkit.sinks import Sink

if TYPE_CHECKING:
    from flagkit.runtime.spool import Spool


class Recording:
    """See the module. ``exposures.record`` is for the evaluation path; all else is thread-safe and never raises.

    ended: told that a thread is ending although nobody asked it to, so that somebody calls ``start`` again.
    counted: what gates have counted, for a sink that says ``takes_calls``.
    """

    def __init__(
        self,
        sink: Sink,
        config: Config,
        clock: Clock,
        environment: Callable[[], str | None],
        ended: Callable[[], object] = lambda: None,
        counted: Take = tuple,
    ) -> None:
        self._sink = sink
        self._config = config
        self._clock = clock
        self._environment = environment
        # A crowd is a quarter of the room, not a batch: while events pour in, the threads that record them keep the
        # interpreter to themselves.
        self._buffer = Buffer(config.max_pending, max(1, config.max_pending // 4))
        encoder = ExposureEncoder(environment, config.exposure_window_s)
        self.exposures = Exposures(config, clock, self._buffer, encoder.constant)
        self._spool: Spool | None = None
        queue: Queue = self._buffer
        if config.state_dir is not None:
            from flagkit.runtime.spool import Spool  # only those who have one should pay for it

            queue = self._spool = Spool(self._buffer, encoder, sink.name, config, clock)
        self._delivery = Delivery(sink, queue, self.exposures, encoder, config, clock)
        self._summaries: Summaries | None = None
        if getattr(sink, "takes_calls", False) is True:
            self._summaries = Summaries(counted, self._buffer.__len__, self._summarise, config, clock)
        self._worker = Worker("flagkit-delivery", self._step, clock, ended=ended)
        self._workers = [self._worker]
        self._buffer.consumer = self._worker
        if self._spool is not None:
            spooler = self._spool.spooler
            writer = Worker("flagkit-spool", spooler.step, clock, ended=ended)
            self._workers.append(writer)
            self._buffer.consumer = spooler
            spooler.sender, spooler.writer = self._worker, writer

    def start(self) -> None:
        for worker in self._workers:
            worker.start()

    @property
    def running(self) -> bool:
        return all(worker.running for worker in self._workers)

    def refuse(self, reason: str) -> None:
        """Count an event that was recorded and lost at once."""
        self._buffer.refuse(reason)

    def track(self, event: str, context: Context, value: float | None, properties: Mapping[str, Any]) -> bool:
        """Record a metric event; one that cannot be sent is lost alone. Return whether it waits to be sent."""
        if context.synthetic:
            return False
        if context._key is False:
            self._buffer.refuse("invalid_context")
            return False
        now_ms, environment = self._clock.wall_ms(), self._environment()
        text = contained(encode_metric, event, context.unit_text, now_ms, value, properties, environment, otherwise="")
        if not text:
            self._buffer.refuse("unencodable")
            return False
        if len(text) > self._config.max_event_bytes:
            self._buffer.refuse("too_large")
            return False
        return self._buffer.append(text)

    def flush(self, timeout_s: float) -> int:
        """Send what waits, on disk too; return how many events are left after at most ``timeout_s`` seconds."""
        if self._summaries is not None:
            self._summaries.record()
        if self._spool is not None:
            ends_s = self._clock.monotonic_s() + timeout_s
            self._spool.gather(timeout_s)
            timeout_s = max(0.0, ends_s - self._clock.monotonic_s())
        return self._delivery.flush(timeout_s)

    def close(self, timeout_s: float) -> int:
        """Refuse everything, then flush; return how many events are left, for the next process if there is a spool."""
        if self._summaries is not None:
            self._summaries.record()
        left = self._delivery.close(timeout_s)
        for worker in self._workers:
            worker.stop()
        if self._spool is not None:
            self._spool.release()
        return left

    def bequeath(self, last: Callable[[], object]) -> bool:
        """Have the delivery thread do one last thing; return whether it will. See ``Worker.bequeath``."""
        return self._worker.bequeath(last)

    def join(self, timeout_s: float) -> None:
        """Wait for the delivery thread to end, which it was asked to."""
        self._worker.stop(timeout_s)

    def account(self) -> Account:
        return self._buffer.account()

    @property
    def state(self) -> LinkState:
        return self._delivery.state

    @property
    def faults(self) -> int:
        """Rounds of the threads here that ended in an unexpected exception."""
        return sum(worker.faults for worker in self._workers)

    @property
    def disk(self) -> Standing | None:
        """How it stands with the spool; None without one."""
        return self._spool.spooler.disk if self._spool is not None else None

    def after_fork(self) -> None:
        self._buffer.after_fork()
        self.exposures.after_fork()
        if self._summaries is not None:
            self._summaries.after_fork()
        self._delivery.after_fork()
        if self._spool is not None:
            self._spool.after_fork()
        for worker in self._workers:
            worker.after_fork()
        contained(self._sink.after_fork, otherwise=None)

    # -- within

    def _step(self) -> float:
        """What the delivery thread does, over and over."""
        due_s = math.inf if self._summaries is None else self._summaries.step()
        return min(due_s, self._delivery.step())

    def _summarise(self, name: str, properties: Mapping[str, Any]) -> None:
        self.track(name, ANONYMOUS, None, properties)
