"""``Summaries``: what gates have counted is recorded as metric events, one a flag and variant in a flush, if any.

It owns when: with every flush, and not while so many events wait that exposures might find no room; what is not
recorded then is in the next ones. What is counted it is given. ``Recording`` drives it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from itertools import islice
from typing import Any, Final, TypeAlias

from flagkit.boundary import contained
from flagkit.clock import Clock
from flagkit.config import Config

#: The name of the metric events.
CALLS: Final = "flagkit.calls"
_PATIENCE_S: Final = 1.0

#: Gives what was counted since it was last asked, as properties of metric events.
Take: TypeAlias = Callable[[], Iterable[Mapping[str, Any]]]


class Summaries:
    """See the module. Any thread.

    Args: pending, how many events wait. track, records a metric event of the name and the properties.
    """

    __slots__ = ("_clock", "_due_s", "_interval_s", "_locks", "_most", "_pending", "_take", "_track")

    def __init__(
        self,
        take: Take,
        pending: Callable[[], int],
        track: Callable[[str, Mapping[str, Any]], None],
        config: Config,
        clock: Clock,
    ) -> None:
        self._take = take
        self._pending = pending
        self._track = track
        self._interval_s = config.flush_interval_s
        #: So many events may wait, of which these are no more than the others leave.
        self._most = max(1, config.max_pending // 2)
        self._clock = clock
        self.after_fork()

    def after_fork(self) -> None:
        """Assigns only; what the parent counted, the parent tells."""
        self._locks: dict[str, threading.Lock] = {}
        self._due_s = self._clock.monotonic_s() + self._interval_s

    def step(self) -> float:
        """Record what was counted, if it is time to; return the seconds until it is."""
        now_s = self._clock.monotonic_s()
        if now_s >= self._due_s:
            self._due_s = now_s + self._interval_s
            self.record()
        return self._due_s - now_s

    def record(self) -> None:
        """Record what was counted since the last time; nothing if there is nothing. Raises: nothing."""
        taking = self._locks.setdefault("taking", threading.Lock())  # late, as gevent may have patched what a lock is
        room = self._most - self._pending()
        if room <= 0 or not taking.acquire(timeout=_PATIENCE_S):
            return
        try:
            contained(self._tell, room, otherwise=None)
        finally:
            taking.release()

    def _tell(self, room: int) -> None:
        for properties in islice(self._take(), room):
            self._track(CALLS, properties)
