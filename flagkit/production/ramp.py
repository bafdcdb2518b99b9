"""``Ramp``: what a flag deals by now, whether that was a step up, and what the step does to all arms together.

Told of every edit, and asked once a second for steps that come by schedule. One thread at a time, the guard's serial.
It knows which rules to hold at what; who serves it, and who is told, is ``guards``' business.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flagkit.core.holds import dealt, raised
from flagkit.core.model import FlagDefinition, Hold
from flagkit.production.interference import Interference


class Ramp:
    """Of one flag, whatever the revision of its guard.

    Args: now_ms, the clock that definitions go by. processes, how many test by themselves.
    """

    __slots__ = ("_dealt", "_interference", "_now_ms", "_processes", "_was", "ended")

    def __init__(self, definition: FlagDefinition, now_ms: Callable[[], int], processes: int) -> None:
        self._now_ms = now_ms
        self._processes = processes
        self._dealt = dealt(definition, now_ms())
        self.after_fork()

    def after_fork(self) -> None:
        """In a forked child: it counts anew. Assigns only."""
        self._was: dict[str, Any] = {}
        self._interference = Interference(self._processes)
        #: A call has ended; returns whether interference has just been found: see ``Interference.ended``.
        self.ended = self._interference.ended

    def look(self, definition: FlagDefinition, control: str, now_s: float) -> bool:
        """See what is dealt by now; return whether that is otherwise than it was."""
        now = dealt(definition, self._now_ms())
        if now == self._dealt:
            return False
        self._was = raised(self._dealt, now, control, definition.off)
        self._dealt = now
        self._interference.step(bool(self._was), now_s)
        return True

    def back(self, control: str) -> Hold:
        """The step before the latest one, of the rules that it raised."""
        return Hold(self._was, control)

    def evidence(self) -> dict[str, Any]:
        """What a verdict rests on: see ``Interference.evidence``."""
        return self._interference.evidence()
