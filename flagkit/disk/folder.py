"""``Folder``: a private directory, and the few things that are ever done to what is in it.

Every call opens the directory anew and looks whose it is, so that nothing is held, nothing is inherited by a fork, and
a directory swapped for somebody else's is noticed. Links are not followed. Every failure is an OSError.
"""

from __future__ import annotations

import errno
import io
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

from flagkit.disk.held import Appender, Lock
from flagkit.disk.mapped import Mapped

_POSIX: Final = os.open in os.supports_dir_fd and hasattr(os, "O_NOFOLLOW")
_CAREFUL: Final = getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOFOLLOW", 0)
# Opening a pipe that somebody put there would otherwise wait for its writer.
_READ: Final = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | _CAREFUL
_DIRECTORY: Final = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | _CAREFUL
_TEMPORARY: Final = ".tmp"
#: A temporary file this much older than a new one has nobody writing it any more.
_ABANDONED_S: Final = 3600.0


class FolderError(OSError):
    """The path is there, and may not be used. The message says why."""

    def __init__(self, path: str, why: str) -> None:
        super().__init__(errno.EPERM, why, path)


class Folder:
    """A directory of ours, 0700, with files of ours, 0600. Safe from any thread; every method raises OSError only.

    name: its path, for logs.
    """

    __slots__ = ("name",)

    def __init__(self, path: str) -> None:
        self.name = path

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> Folder:
        """The folder at ``path``, made when missing; its parent is not. An open folder is looked at again.

        Raises: OSError, FolderError when it belongs to somebody else or everybody may write to it.
        """
        # Absolute, for a daemon goes elsewhere; and without a slash at the end, which would follow a link.
        folder = path if isinstance(path, Folder) else cls(os.path.abspath(os.fspath(path)))
        folder.check()
        return folder

    def check(self) -> None:
        """Make the directory if it is missing. Raises: OSError when it may not be used."""
        if not _POSIX:
            raise FolderError(self.name, "this system cannot keep a folder private")
        try:
            with self._held():
                return
        except FileNotFoundError:
            with suppress(FileExistsError):  # another process was quicker
                os.mkdir(self.name, 0o700)
        with self._held():
            pass
        with suppress(OSError):  # we need not be able to read the parent
            _sync_path(os.path.dirname(self.name))

    def __fspath__(self) -> str:
        return self.name

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r})"

    def folder(self, name: str) -> Folder:
        """The folder ``name`` in this one, made when missing."""
        return Folder.open(os.path.join(self.name, name))

    def names(self) -> list[str]:
        """What is in it, sorted."""
        with self._held() as here:
            return sorted(name for name in os.listdir(here) if not name.endswith(_TEMPORARY))

    def size(self, name: str) -> int:
        """Bytes in a file."""
        return self._stat(name).st_size

    def modified_ms(self, name: str) -> int:
        """When a file was last written to, in wall time, ms since 1970."""
        return self._stat(name).st_mtime_ns // 1_000_000

    def read(self, name: str, start: int = 0, count: int = -1) -> bytes:
        """``count`` bytes of a file from ``start``, fewer at its end; -1: all of them.

        Raises: OSError, FolderError when it is no file of ours that only we may write to.
        """
        with self._held() as here, io.FileIO(os.open(name, _READ, dir_fd=here)) as file:
            found = os.fstat(file.fileno())
            if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o022:
                raise FolderError(os.path.join(self.name, name), "is not a private file of this user")
            file.seek(start)
            if count < 0:
                return file.read()
            parts = []
            while count > 0 and (part := file.read(count)):
                parts.append(part)
                count -= len(part)
            return b"".join(parts)

    def replace(self, name: str, data: bytes) -> None:
        """Write a whole file: whoever reads it, and whatever crashes, finds the old one or the new one."""
        temporary = f"{name}.{os.urandom(6).hex()}{_TEMPORARY}"
        with self._held() as here:
            try:
                with io.FileIO(_create(temporary, here, os.O_WRONLY | os.O_EXCL), "w") as file:
                    rest = memoryview(data)
                    while rest:
                        rest = rest[file.write(rest) or 0 :]
                    os.fsync(file.fileno())
                os.rename(temporary, name, src_dir_fd=here, dst_dir_fd=here)
            except BaseException:
                with suppress(OSError):
                    os.unlink(temporary, dir_fd=here)
                raise
            _sync(here)
            _sweep(here, os.stat(name, dir_fd=here, follow_symlinks=False).st_mtime)

    def append(self, name: str) -> Appender:
        """A file to append to, made when missing."""
        with self._held() as here:
            # Whether it is new is not asked: one that a crash left without a sync is as good as new.
            return Appender(_create(name, here, os.O_WRONLY | os.O_APPEND), self._settle)

    def mapped(self, name: str, size: int) -> Mapped:
        """A new file of ``size`` zero bytes, in memory. Raises: FileExistsError when it is there."""
        with self._held() as here, io.FileIO(_create(name, here, os.O_RDWR | os.O_EXCL), "r+") as file:
            return Mapped(file, size)

    def rename(self, old: str, new: str) -> None:
        """Call a file or folder something else, in place of what was called that."""
        with self._held() as here:
            os.rename(old, new, src_dir_fd=here, dst_dir_fd=here)
            _sync(here)

    def remove(self, name: str) -> None:
        """Remove a file. After a power loss it may be back."""
        with self._held() as here:
            os.unlink(name, dir_fd=here)

    def remove_folder(self, name: str) -> None:
        """Remove a folder and the files in it."""
        with self._held() as here:
            with Folder(os.path.join(self.name, name))._held() as inside:
                for file in os.listdir(inside):
                    os.unlink(file, dir_fd=inside)
            os.rmdir(name, dir_fd=here)

    def lock(self, name: str) -> Lock | None:
        """The lock that is the file ``name``, held until it is released; None while somebody else has it.

        Raises: OSError, where the file system has no locks too.
        """
        with self._held() as here:
            while (lock := Lock.on(file := io.FileIO(_create(name, here, os.O_RDWR), "r+"))) is not None:
                # Its last owner may have removed the file since we opened it: then this locks nothing.
                with suppress(FileNotFoundError):
                    if os.path.samestat(os.fstat(file.fileno()), os.stat(name, dir_fd=here, follow_symlinks=False)):
                        return lock
                lock.release()
            return None

    def _stat(self, name: str) -> os.stat_result:
        with self._held() as here:
            return os.stat(name, dir_fd=here, follow_symlinks=False)

    def _settle(self) -> None:
        with self._held() as here:
            _sync(here)

    @contextmanager
    def _held(self) -> Iterator[int]:
        """A descriptor of the directory. Raises: OSError, FolderError when it is not ours alone to write to."""
        descriptor = os.open(self.name, _DIRECTORY)
        try:
            found = os.fstat(descriptor)
            if found.st_uid != os.geteuid():
                raise FolderError(self.name, "belongs to another user")
            if found.st_mode & stat.S_IWOTH:
                raise FolderError(self.name, "everybody may write to it")
            yield descriptor
        finally:
            os.close(descriptor)


def _create(name: str, here: int, flags: int) -> int:
    descriptor = os.open(name, flags | os.O_CREAT | os.O_NONBLOCK | _CAREFUL, 0o600, dir_fd=here)
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return descriptor
    os.close(descriptor)
    raise FolderError(name, "is not a file")


def _sync(descriptor: int) -> None:
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # this file system syncs no directories
            raise


def _sync_path(path: str) -> None:
    descriptor = os.open(path, _DIRECTORY)
    try:
        _sync(descriptor)
    finally:
        os.close(descriptor)


def _sweep(here: int, now_s: float) -> None:
    """Remove what crashes left half written. ``now_s``: on the clock of the file system."""
    for name in os.listdir(here):
        if name.endswith(_TEMPORARY):
            with suppress(OSError):
                if os.stat(name, dir_fd=here, follow_symlinks=False).st_mtime < now_s - _ABANDONED_S:
                    os.unlink(name, dir_fd=here)
