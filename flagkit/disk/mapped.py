"""``Mapped``: a small file in memory, of which every byte written outlives the process, however that ends.

Writing to it is writing to memory: no call into the system, no waiting. A power loss may lose it. Made in a ``Folder``.
"""

from __future__ import annotations

import io
import mmap
from contextlib import suppress


class Mapped:
    """``view`` is the file: as long as it was made, writable, shared with whoever opens the file."""

    __slots__ = ("_map", "view")

    def __init__(self, file: io.FileIO, size: int) -> None:
        file.truncate(size)
        self._map = mmap.mmap(file.fileno(), size)
        self.view = memoryview(self._map)

    def close(self) -> None:
        """Let go of it. May be called twice; a write that is under way in another thread is not disturbed."""
        with suppress(BufferError, ValueError):
            self.view.release()
            self._map.close()
