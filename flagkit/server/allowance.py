"""``Allowance``: how many requests a second somebody may make, and how long to wait for the next.

A bucket that fills by itself and holds what one second brings. It knows no requests; the HTTP face asks.
"""

from __future__ import annotations

from collections.abc import Callable


class Allowance:
    """Args: per_s, requests a second, above 0; as many may come at once. now_s: monotonic seconds."""

    def __init__(self, per_s: float, now_s: Callable[[], float]) -> None:
        self._per_s = per_s
        self._now_s = now_s
        self._most = max(1.0, per_s)
        self._left = self._most
        self._seen_s = now_s()

    def take(self) -> float:
        """0.0 when a request may go on, and is counted; else the seconds after which one may. One thread at a time."""
        now_s = self._now_s()
        self._left = min(self._most, self._left + (now_s - self._seen_s) * self._per_s)
        self._seen_s = now_s
        if self._left < 1.0:
            return (1.0 - self._left) / self._per_s
        self._left -= 1.0
        return 0.0
