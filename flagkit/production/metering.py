"""``SharedMeter``: a meter that callers on any thread tell of their calls, at the price of appending to a list.

What they say waits there, and whoever finds the list full has it counted, unless somebody else is at it. ``guards``
has one for each variant of a flag that runs through gates.
"""

from __future__ import annotations

import threading
from collections import deque
from typing import Final

from flagkit.production.metrics import Meter, Sums, VariantMetrics

#: Calls that may wait to be counted.
CROWD: Final = 256


class SharedMeter:
    """See the module.

    times: seconds of calls without a failure that wait to be counted. Whoever appends to it sees to it that ``settle``
    is called once there are ``CROWD`` of them. All of it is for any thread, never waits and raises nothing.
    """

    __slots__ = ("_failed", "_turn", "meter", "times")

    def __init__(self, flag: str, variant: str | None) -> None:
        self.meter = Meter(flag, variant)
        self.times: list[float] = []
        self.after_fork()

    def after_fork(self) -> None:
        """In a forked child: count anew. Takes no lock."""
        self.meter.clear()
        self._failed: deque[str] = deque()
        self._turn = threading.Lock()
        self.times.clear()  # branches keep the list

    def add(self, seconds: float, error: str | None) -> None:
        """A call took ``seconds``; ``error`` is what it failed of, None if it did not."""
        if error is None:
            self.times.append(seconds)
            if len(self.times) >= CROWD:
                self.settle()
        else:
            self._failed.append(error)
            self.settle()

    def settle(self) -> None:
        """Count what waits, or leave it to who is at it already."""
        if not self._turn.acquire(False):
            return
        try:
            times, failed = self.times, self._failed
            if times:
                batch = times[:]  # others may append at any time
                del times[: len(batch)]
                self.meter.add_times(batch)
            while failed:
                self.meter.add(0.0, failed.popleft())
        finally:
            self._turn.release()

    def read(self) -> VariantMetrics:
        """What was counted so far; a call that ends meanwhile may be in it or not."""
        self.settle()
        return self.meter.read()

    def take(self) -> Sums | None:
        """What was counted since the last time; None when nothing was. One thread at a time."""
        self.settle()
        return self.meter.take()
