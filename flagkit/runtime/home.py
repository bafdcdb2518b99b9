"""``Home``: the folder that this process writes its events to, locked for as long as it lives.

Owns the open segment: when it begins, when it is synced, when the next one takes over. Whoever holds it serialises the
calls; it knows nothing of accounts, bounds, or other processes' folders.
"""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from typing import Final

from flagkit.disk import Appender, Folder, Lock
from flagkit.runtime.records import HEAD, framed, head
from flagkit.runtime.segment import SUFFIX, Segment

LOCK: Final = "lock"
_SEGMENT_S: Final = 60.0
#: An event survives a power loss once so many were written after the last sync, or so long after that.
_SYNC_EVENTS: Final = 100
_SYNC_S: Final = 1.0


class Home:
    """See the module. ``created_ms``: the wall time now. Raises: OSError, also where the file system has no locks."""

    def __init__(self, root: Folder, created_ms: int, most_bytes: int) -> None:
        for _ in range(3):  # somebody who looks for what the dead left may take a folder that is not locked yet
            self.name = f"{created_ms:013d}-{os.getpid()}-{os.urandom(4).hex()}"
            with suppress(FileNotFoundError):
                folder = root.folder(self.name)
                lock = folder.lock(LOCK)
                if lock is not None:
                    break
        else:
            raise OSError(errno.EAGAIN, "no folder stays ours", root.name)
        self._folder = folder
        self._lock: Lock = lock
        self._most_bytes = most_bytes
        self._number = 0
        self._size = 0
        self._file: Appender | None = None
        self._unsynced = 0
        self._unsynced_s = 0.0
        #: The one that is written to, or was last.
        self.segment: Segment | None = None

    def write(self, texts: list[str], now_s: float, now_ms: int, *, afresh: bool = False) -> int:
        """Write events to ``segment``, a new one if it is time or ``afresh`` is asked; return the bytes they take.

        Raises: OSError; then none of them counts as written, and ``abandon`` should be called.
        """
        data = framed(texts)
        if self._file is None or self._size >= self._most_bytes or afresh:
            self.roll()
            self._number += 1
            self.segment = Segment(self._folder, self.name, f"{self._number:06d}{SUFFIX}")
            self.segment.born_s, self.segment.created_ms = now_s, now_ms
            self._file = self._folder.append(self.segment.name)
            self._file.write(head(now_ms) + data)
            self._size = HEAD
        else:
            self._file.write(data)
        self._size += len(data)
        if not self._unsynced:
            self._unsynced_s = now_s
        self._unsynced += len(texts)
        return len(data)

    def tend(self, now_s: float, *, at_once: bool = False) -> None:
        """Sync if it is time, or ``at_once``, and end a segment of a certain age. Raises: OSError, as ``write``."""
        if self._unsynced and (at_once or self._unsynced >= _SYNC_EVENTS or now_s >= self._unsynced_s + _SYNC_S):
            self.sync()
        if self._file is not None and self.segment is not None and now_s >= self.segment.born_s + _SEGMENT_S:
            self.roll()

    def sync(self) -> None:
        """Have what was written survive a power loss. Raises: OSError, as ``write``."""
        if self._unsynced and self._file is not None:
            self._file.sync()
        self._unsynced = 0

    def due_s(self) -> float:
        """When ``tend`` has something to do, on the monotonic clock."""
        if self._unsynced:
            return self._unsynced_s + _SYNC_S
        return self.segment.born_s + _SEGMENT_S if self._file is not None and self.segment is not None else float("inf")

    def roll(self) -> None:
        """End the segment; the next event begins another. Raises: OSError, as ``write``."""
        self.sync()
        self.abandon()

    def abandon(self) -> None:
        """End the segment as it is: what a failed sync may have dropped, no later one is to vouch for."""
        segment = self.segment
        if self._file is not None:
            self._file.close()
            self._file = None
            if segment is not None and not segment.used:  # what is in it is still in memory
                with suppress(OSError):
                    self._folder.remove(segment.name)
        if segment is not None:
            segment.closed = True
        self._unsynced = 0

    def leave(self) -> None:
        """Let others have what is in it."""
        self.abandon()
        self._lock.release()

    def forget(self) -> None:
        """In a forked child: let go of what is the parent's."""
        if self._file is not None:
            self._file.forget()
        self._lock.forget()
