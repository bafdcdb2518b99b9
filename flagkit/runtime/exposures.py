"""``Exposures``: each unit's exposure to a decision is recorded once a window, and the memory of it is bounded.

The memory is a set of unit keys on each Decision, because the check ``key not in decision._exposed`` is on the
evaluation path; this module owns those sets. Forgetting early is always safe: the event is sent again with the same
id and stored once. Evaluation calls ``record``; the delivery thread calls ``turn``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from flagkit.clock import Clock
from flagkit.config import Config
from flagkit.decision import Decision
from flagkit.runtime.buffer import Buffer

_LOOK_UP_MS: Final = 1000


class Exposures:
    """See the module. Windows are aligned to the epoch, so every process turns at the same wall time."""

    __slots__ = (
        "_append",
        "_base",
        "_buffer",
        "_constant",
        "_look_up_ms",
        "_max_units",
        "_touch",
        "_touched",
        "_wall_ms",
        "_window_ms",
        "window",
    )

    def __init__(
        self, config: Config, clock: Clock, buffer: Buffer, constant: Callable[[Decision], tuple[str, bytes]]
    ) -> None:
        self._buffer = buffer
        self._append = buffer.append
        self._constant = constant
        self._wall_ms = clock.wall_ms
        self._window_ms = config.exposure_window_s * 1000
        self._max_units = config.max_exposed_units
        self._touched: set[Decision] = set()
        self._touch = self._touched.add
        #: The number of the present window.
        self.window = clock.wall_ms() // self._window_ms
        self.after_fork()

    def after_fork(self) -> None:
        """Keep the memory: what the parent recorded, the parent sends. Assigns only."""
        self._look_up_ms = 0
        #: The count of admitted events at which nobody was remembered; below any, so that the first look counts.
        self._base = -self._max_units

    def record(self, decision: Decision, key: bytes) -> None:
        """Record that the unit met ``decision``, whose ``_exposed`` is a set that lacks ``key``.

        No lock: threads that meet a new unit at the same moment may each record it, with one id. Raises: nothing.
        """
        now_ms = self._wall_ms()
        if now_ms >= self._look_up_ms:
            self._look_up(now_ms)
        exposed: set[bytes] = decision._exposed  # type: ignore[assignment]
        # Remember, then register: `_forget` unregisters, then empties, so no set is ever left behind full.
        exposed.add(key)
        self._touch(decision)
        wire = decision._wire
        if wire is None:
            wire = decision._wire = self._constant(decision)
        # An Exposure in all but the class, at a third of its price.
        event: Any = (wire[0], wire[1], key, now_ms)
        if not self._append(event):
            exposed.discard(key)  # lost: the unit's next call tries again

    def turn(self) -> None:
        """Forget everyone when a new window has begun, or when more units are remembered than allowed."""
        now_ms = self._wall_ms()
        self._look_up_ms = min(self._look_up_ms, now_ms + _LOOK_UP_MS)  # the wall clock may have been set back
        if now_ms // self._window_ms != self.window:
            self._forget(now_ms)
            return
        # Each remembered unit came through the buffer, so counting has to be exact only when that many did.
        admitted = self._buffer.admitted
        if admitted - self._base > self._max_units:
            remembered = sum(len(decision._exposed or ()) for decision in self._touched.copy())
            if remembered > self._max_units:
                self._forget(now_ms)
            else:
                self._base = admitted - remembered

    def _look_up(self, now_ms: int) -> None:
        # Once a second on the caller's thread: what is too dear for every event, and must not wait for a thread
        # that may have died, or stayed behind in a parent process without anybody noticing the fork.
        self._look_up_ms = now_ms + _LOOK_UP_MS
        if now_ms // self._window_ms != self.window:
            self._forget(now_ms)
        consumer = self._buffer.consumer
        if consumer is not None:
            consumer.start()

    def _forget(self, now_ms: int) -> None:
        self._base = self._buffer.admitted
        self.window = now_ms // self._window_ms
        for decision in self._touched.copy():
            self._touched.discard(decision)
            if decision._exposed is not None:
                decision._exposed.clear()
