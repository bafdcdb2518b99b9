"""``Bell``: an event that may be rung from anywhere: a signal handler, a ``__del__``, a weak reference's callback.

``threading.Event.set`` holds a lock while it runs, so a signal that arrives inside it and sets it again never
returns. A bell is one bare lock, released to ring: one atomic step, a sixth of the price. One thread waits for it
(runtime.worker); it knows nothing of what it is rung for.
"""

from __future__ import annotations

import threading
from contextlib import suppress


class Bell:
    """A ``threading.Event`` for a single waiting thread, safe to set while it is being set."""

    __slots__ = ("_silent",)

    def __init__(self) -> None:
        self._silent = threading.Lock()
        self._silent.acquire()

    def is_set(self) -> bool:
        return not self._silent.locked()

    def set(self) -> None:
        """Wake the waiting thread, or spare it its next wait. Raises: nothing; never blocks."""
        if self._silent.locked():
            with suppress(RuntimeError):  # someone else rang in between
                self._silent.release()

    def clear(self) -> None:
        self._silent.acquire(blocking=False)

    def wait(self, timeout: float) -> bool:
        """Block until the bell rings or ``timeout`` seconds have passed; return whether it rang. It stays set."""
        rang = self._silent.acquire(timeout=min(max(timeout, 0.0), threading.TIMEOUT_MAX))
        if rang:
            self.set()
        return rang
