"""``FakeClock``: time that passes when a test says so, for everything in flagkit that takes a clock.

It owns its time and nothing else. Threads that wait on it are woken by what they wait for, or by ``advance``.
"""

from __future__ import annotations

import threading
from typing import Final

from flagkit.clock import Waitable
from flagkit.errors import ConfigError

#: 2026-01-01T00:00:00Z.
_START_MS: Final = 1_767_225_600_000
#: How soon a waiting thread notices that time was advanced, in real seconds: it waits for something else.
_LOOK_S: Final = 0.005


class FakeClock:
    """A clock that stands still until ``advance``. Thread-safe.

    Args: wall_ms, where it begins: milliseconds since 1970-01-01T00:00:00Z, a whole number from 0. Not given: the first
        moment of 2026, so that what goes by dates goes alike whenever the test runs.
    Raises: ConfigError naming the field.
    """

    def __init__(self, wall_ms: int = _START_MS) -> None:
        if isinstance(wall_ms, bool) or not isinstance(wall_ms, int) or wall_ms < 0:
            raise ConfigError("wall_ms", wall_ms, "milliseconds since 1970, a whole number from 0")
        self._lock = threading.Lock()
        self._start_ms = wall_ms
        self._passed_s = 0.0

    def monotonic_s(self) -> float:
        """Seconds since the clock was made, of its own time."""
        return self._passed_s

    def wall_ms(self) -> int:
        """Milliseconds since 1970-01-01T00:00:00Z."""
        return self._start_ms + round(self._passed_s * 1000)

    def advance(self, seconds: float) -> None:
        """Let ``seconds`` pass, 0 or more. Whoever waited for that long goes on. Raises: ConfigError."""
        if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not 0 <= seconds < float("inf"):
            raise ConfigError("seconds", seconds, "a number of seconds, 0 or more")
        with self._lock:
            self._passed_s += seconds

    def wait(self, event: Waitable, timeout_s: float) -> bool:
        """Block until ``event`` is set, or ``timeout_s`` have passed on this clock; return whether it is set.

        If nobody advances the clock or sets the event, it blocks: a test that lets a client wait needs another thread.
        """
        ends_s = self._passed_s + timeout_s
        while self._passed_s < ends_s:
            if event.wait(_LOOK_S):
                return True
        return event.is_set()
