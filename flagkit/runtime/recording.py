"""``Recording``: everything between a verb that records and the sink, put together once.

The client calls it; the parts know nothing of each other's threads. Without a sink there is no recording at all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from flagkit.boundary import contained
from flagkit.clock import Clock
from flagkit.config import Config
from flagkit.context import Context
from flagkit.events import ExposureEncoder, encode_metric
from flagkit.runtime.buffer import Buffer
from flagkit.runtime.delivery import Delivery
from flagkit.runtime.exposures import Exposures
from flagkit.runtime.stats import Account, LinkState
from flagkit.runtime.worker import Worker
from flagkit.sinks import Sink


class Recording:
    """See the module. ``exposures.record`` is for the evaluation path; all else is thread-safe and never raises."""

    def __init__(self, sink: Sink, config: Config, clock: Clock, environment: Callable[[], str | None]) -> None:
        self._sink = sink
        self._config = config
        self._clock = clock
        self._environment = environment
        # A crowd is a quarter of the room, not a batch: while events pour in, the threads that record them keep the
        # interpreter to themselves.
        self._buffer = Buffer(config.max_pending, max(1, config.max_pending // 4))
        encoder = ExposureEncoder(environment, config.exposure_window_s)
        self.exposures = Exposures(config, clock, self._buffer, encoder.constant)
        self._delivery = Delivery(sink, self._buffer, self.exposures, encoder, config, clock)
        self._worker = Worker("flagkit-delivery", self._delivery.step, clock)
        self._buffer.consumer = self._worker

    def start(self) -> None:
        self._worker.start()

    def track(self, event: str, context: Context, value: float | None, properties: Mapping[str, Any]) -> None:
        """Record a metric event; one that cannot be sent is lost alone."""
        if context.synthetic:
            return
        if context._key is False:
            self._buffer.refuse("invalid_context")
            return
        now_ms, environment = self._clock.wall_ms(), self._environment()
        text = contained(encode_metric, event, context.unit_text, now_ms, value, properties, environment, otherwise="")
        if not text:
            self._buffer.refuse("unencodable")
            return
        if len(text) > self._config.max_event_bytes:
            self._buffer.refuse("too_large")
            return
        self._buffer.append(text)

    def flush(self, timeout_s: float) -> int:
        """Send what waits; return how many events are left after at most ``timeout_s`` seconds."""
        return self._delivery.flush(timeout_s)

    def close(self, timeout_s: float) -> int:
        """Flush, then refuse everything; return how many events are left."""
        left = self._delivery.close(timeout_s)
        self._worker.stop()
        return left

    def account(self) -> Account:
        return self._buffer.account()

    @property
    def state(self) -> LinkState:
        return self._delivery.state

    @property
    def faults(self) -> int:
        """Rounds of the delivery thread that ended in an unexpected exception."""
        return self._worker.faults

    def after_fork(self) -> None:
        self._buffer.after_fork()
        self.exposures.after_fork()
        self._delivery.after_fork()
        self._worker.after_fork()
        contained(self._sink.after_fork, otherwise=None)
