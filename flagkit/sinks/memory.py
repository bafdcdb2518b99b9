"""Events in a list, for tests and notebooks.

Owns the events of this process. A forked child starts with none: the parent's were the parent's to report.
"""

from __future__ import annotations

import json
import threading
from typing import Any

from flagkit.errors import ConfigError
from flagkit.events import Batch, Delivered, Rejected, Sent


class Memory:
    """Keeps events as parsed JSON, oldest first. Thread-safe.

    Args:
        max_events: events kept, 1 and up; a batch that does not fit is rejected whole, as ``full``.

    Raises: ConfigError naming the field.
    """

    name = "memory"

    def __init__(self, max_events: int = 100_000) -> None:
        if isinstance(max_events, bool) or not isinstance(max_events, int) or max_events < 1:
            raise ConfigError("max_events", max_events, "a whole number from 1")
        self._max_events = max_events
        self.after_fork()

    @property
    def events(self) -> list[dict[str, Any]]:
        """What was delivered so far; a new list at each reading."""
        with self._lock:
            return list(self._events)

    def clear(self) -> None:
        """Forget all events."""
        with self._lock:
            self._events.clear()

    def send(self, batch: Batch, *, deadline_s: float) -> Sent:  # noqa: ARG002 - local
        """See ``Sink``."""
        events = [json.loads(event) for event in batch.events]
        with self._lock:
            if len(self._events) + len(events) > self._max_events:
                return Rejected("full")
            self._events.extend(events)
        return Delivered()

    def close(self) -> None:
        """Keeps the events: they are read after the client is closed."""

    def after_fork(self) -> None:
        self._lock = threading.Lock()
        self._events: list[dict[str, Any]] = []
