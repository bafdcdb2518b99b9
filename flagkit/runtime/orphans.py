"""``Orphans``: the folders of processes that ended and left events behind, to be delivered by one that lives.

A folder whose lock can be had belongs to nobody any more. It is held until all its segments are settled, and removed.
It knows which segments there are and how many bytes; what is in them the spool finds out, one at a time.
"""

from __future__ import annotations

import re
from contextlib import suppress
from typing import Final

from flagkit.disk import Folder, Lock
from flagkit.runtime.home import LOCK
from flagkit.runtime.segment import SUFFIX, Segment

_is_home = re.compile(r"\d{13,}-\d+-[0-9a-f]{8}").fullmatch
#: Folders held at a time: each costs a descriptor, and a process that crashes at every start leaves many.
_MOST: Final = 16


class Orphans:
    """See the module. ``root``: where the folders are."""

    def __init__(self, root: Folder) -> None:
        self._root = root
        self._held: dict[str, tuple[Lock, int]] = {}
        #: Folders with something in them that could not be read or removed.
        self._left_alone: set[str] = set()
        #: Whether there may be further ones, which were too many to hold.
        self.more = False

    def look(self, own: str) -> tuple[list[Segment], int]:
        """Segments of folders that nobody owned until now, oldest first; and the bytes in all folders. Raises: OSError.

        ``own``: the name of this process's, "" for none.
        """
        found: list[Segment] = []
        total = 0
        self.more = False
        for name in filter(_is_home, self._root.names()):
            # Somebody else may be removing it, or have planted it: it is left alone then.
            with suppress(OSError):
                folder = self._root.folder(name)
                files = folder.names()
                total += sum(folder.size(file) for file in files if file != LOCK)
                if name == own or name in self._held or name in self._left_alone:
                    continue
                if len(self._held) >= _MOST:
                    self.more = True
                elif (lock := folder.lock(LOCK)) is not None:
                    found += self._take(name, folder, lock)
        return found, total

    def _take(self, name: str, folder: Folder, lock: Lock) -> list[Segment]:
        self._held[name] = lock, 1
        try:
            # Listed again: between the first time and the lock its owner may have written.
            segments = [Segment(folder, name, file, adopted=True) for file in folder.names() if file.endswith(SUFFIX)]
            self._held[name] = lock, len(segments) + 1
        finally:
            self._done(name)
        return segments

    def settled(self, segment: Segment) -> None:
        """There is nothing left to do for a segment. Its folder is removed after the last one."""
        if segment.owner in self._held:
            self._done(segment.owner)

    def _done(self, name: str) -> None:
        lock, left = self._held.pop(name)
        if left > 1:
            self._held[name] = lock, left - 1
            return
        if not self.remove(name):
            self._left_alone.add(name)
        lock.release()

    def remove(self, name: str) -> bool:
        """Remove a folder whose lock is held, unless there is a segment in it; return whether it is gone."""
        with suppress(OSError):
            if not any(file.endswith(SUFFIX) for file in self._root.folder(name).names()):
                self._root.remove_folder(name)
                return True
        return False

    def release(self) -> None:
        """Let others have what is left."""
        while self._held:
            _, (lock, _) = self._held.popitem()
            lock.release()

    def forget(self) -> None:
        """In a forked child: let go of what is the parent's."""
        for lock, _ in self._held.values():
            lock.forget()
