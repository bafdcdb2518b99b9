"""``Episode``: what the log hears of one thing's bad times, so that an outage of a day is 300 lines and not 86,400.

A warning when it begins or changes, one every five minutes with a count while it lasts, a word when it is over.
Lines are written down first and told later: a logging handler is foreign code, and must never run while flagkit
holds a lock.
"""

from __future__ import annotations

from functools import partial
from typing import Final

from flagkit.boundary import contained
from flagkit.clock import Clock
from flagkit.log import INFO, WARNING, logger

_REMIND_S: Final = 300.0


class Episode:
    """One thing's run of failures. Driven by one thread at a time; ``tell`` may be called by any."""

    __slots__ = ("_clock", "_count", "_lines", "_log", "_remind_s", "_said", "_what")

    def __init__(self, what: str, clock: Clock) -> None:
        self._what = what
        self._clock = clock
        self._log = logger()
        self._lines: list[tuple[int, str, BaseException | None]] = []
        self._said: set[str] = set()
        self._count = 0
        self._remind_s = 0.0

    def failed(self, state: str, error: str, cause: BaseException | None = None) -> None:
        """Note a failure. ``cause``: an exception nobody expected, whose traceback the log should show."""
        self._count += 1
        now_s = self._clock.monotonic_s()
        if state in self._said and now_s < self._remind_s:
            return
        still = f" ({self._count} times in a row)" if self._count > 1 else ""
        self._lines.append((WARNING, f"{self._what}: {state}{still}: {error}", cause))
        self._said.add(state)
        self._remind_s = now_s + _REMIND_S

    def over(self) -> None:
        """Note a success; it is worth a line only after failures."""
        if self._count:
            self._lines.append((INFO, f"{self._what}: ok again after {self._count} failures", None))
            self._said.clear()
            self._count = 0

    def tell(self) -> None:
        """Log what was noted. Call it with no lock held."""
        if self._lines:
            lines, self._lines = self._lines, []
            for level, text, cause in lines:
                # Handlers are foreign code: one that raises would end the thread that tells it so.
                contained(partial(self._log.log, level, "%s", text, exc_info=cause), otherwise=None)
