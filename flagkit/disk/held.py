"""What stays open: a file that is appended to, and a lock held for life.

Both close themselves when nobody holds them. In a forked child ``forget`` gives the child's copy of the descriptor
back and leaves the parent's alone.
"""

from __future__ import annotations

import errno
import io
import os
from collections.abc import Callable
from contextlib import suppress
from typing import Final

try:
    import fcntl
except ImportError:  # not POSIX, where no folder opens
    fcntl = None  # type: ignore[assignment]

#: macOS has none. Size changes reach the disk with either.
sync_data: Final[Callable[[int], None]] = getattr(os, "fdatasync", os.fsync)


class Appender:
    """A file that only grows. One writer at a time."""

    __slots__ = ("_file", "_settle")

    def __init__(self, descriptor: int, settle: Callable[[], None] | None = None) -> None:
        # As an object and not a number, so that it is closed when it is dropped.
        self._file = io.FileIO(descriptor, "a")
        self._settle = settle

    def write(self, data: bytes) -> None:
        """Append all of ``data`` in one write, or nothing. Raises: OSError."""
        written = self._file.write(data)
        if written == len(data):
            return
        with suppress(OSError):
            self._file.truncate(self._file.tell() - (written or 0))
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def sync(self) -> None:
        """Have what was written survive a power loss. Raises: OSError; then what was written may be gone: use another.

        The first call also makes the file itself survive, if it is new.
        """
        sync_data(self._file.fileno())
        if self._settle is not None:
            self._settle()
            self._settle = None

    def close(self) -> None:
        """Let go of the file, without a sync. May be called twice. Raises: nothing."""
        with suppress(OSError):
            self._file.close()

    def forget(self) -> None:
        """In a forked child: let go of what is the parent's."""
        self.close()


class Lock:
    """An exclusive lock on a file, between processes and within one. It ends with ``release`` or the process."""

    __slots__ = ("_file", "_pid")

    def __init__(self, file: io.FileIO) -> None:
        self._file = file
        self._pid = os.getpid()

    @classmethod
    def on(cls, file: io.FileIO) -> Lock | None:
        """The lock on an open file, which is closed when somebody else has it. Raises: OSError."""
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            file.close()
            if isinstance(error, BlockingIOError):
                return None
            raise
        return cls(file)

    def release(self) -> None:
        """Let others have it. In a forked child: the same as ``forget``. May be called twice. Raises: nothing."""
        if self._pid == os.getpid() and not self._file.closed:
            # A child that was forked meanwhile and forgot nothing shares the lock, so that closing would not end it.
            with suppress(OSError):
                fcntl.flock(self._file, fcntl.LOCK_UN)
        self.forget()

    def forget(self) -> None:
        """In a forked child: let go of the child's share and leave the parent its lock."""
        with suppress(OSError):
            self._file.close()
