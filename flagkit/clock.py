"""Time, injected everywhere: nothing else in flagkit asks the operating system what time it is.

Intervals and deadlines use ``monotonic_s``; ``wall_ms`` is only ever written into events and compared with
dates that people wrote. ``wait`` belongs to the clock so that a test can let an hour pass in no time.
"""

from __future__ import annotations

import time
from typing import Protocol, runtime_checkable


class Waitable(Protocol):
    """What a clock can wait for: a ``threading.Event``, or anything that waits like one."""

    def is_set(self) -> bool: ...
    def wait(self, timeout: float) -> bool: ...


@runtime_checkable
class Clock(Protocol):
    """What flagkit needs of time. Implementations must be thread-safe."""

    def monotonic_s(self) -> float:
        """Seconds since some fixed point; never goes back, whatever happens to the wall clock."""
        ...

    def wall_ms(self) -> int:
        """Milliseconds since 1970-01-01T00:00:00Z, as the machine believes."""
        ...

    def wait(self, event: Waitable, timeout_s: float) -> bool:
        """Block until ``event`` is set or ``timeout_s`` has passed; return whether it is set."""
        ...


class SystemClock:
    """The machine's own clock."""

    __slots__ = ()

    #: The system's function itself: gates call it twice a call.
    monotonic_s = staticmethod(time.monotonic)

    def wall_ms(self) -> int:
        return time.time_ns() // 1_000_000

    def wait(self, event: Waitable, timeout_s: float) -> bool:
        return event.wait(timeout_s)


class DefinitionsClock:
    """Wall time as rollout steps and date conditions see it: it stands still while nobody could stop a ramp.

    Definitions are confirmed by every answer of their source (200, 304, heartbeat). Time runs on for ``grace_s``
    after the last one and then waits for the next. It follows the server's Date when the source gives one.
    One writer (the poller) calls ``confirm``; any thread calls ``now_ms``, which takes no lock.
    """

    __slots__ = ("_clock", "_grace_s", "_served", "_state")

    def __init__(self, clock: Clock, grace_s: float) -> None:
        self._clock = clock
        self._grace_s = grace_s
        now_s = clock.monotonic_s()
        self._served = False  # whether that is the wall clock of a server
        # (offset from monotonic to wall, the monotonic time at which this clock stops): one tuple, one store.
        self._state = (clock.wall_ms() - now_s * 1000, now_s + grace_s)

    def confirm(self, server_ms: int | None = None, *, age_s: float = 0.0) -> None:
        """The definitions in use were confirmed ``age_s`` seconds ago.

        ``server_ms`` is what the server's wall clock says now, if known. If it was known before, that runs on.
        """
        now_s = self._clock.monotonic_s()
        offset_ms, _ = self._state
        if server_ms is not None:
            offset_ms, self._served = server_ms - now_s * 1000, True
        elif not self._served:
            offset_ms = self._clock.wall_ms() - now_s * 1000
        self._state = (offset_ms, now_s - age_s + self._grace_s)

    def now_ms(self) -> int:
        """Milliseconds since 1970-01-01T00:00:00Z, at the latest ``grace_s`` after the last confirmation."""
        offset_ms, stops_s = self._state
        return int(offset_ms + min(self._clock.monotonic_s(), stops_s) * 1000)
