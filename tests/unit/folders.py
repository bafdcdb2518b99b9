"""A disk in memory with the members of ``flagkit.disk.Folder``, that can fail at any step and lose its power.

    disk = MemoryDisk()
    one, other = MemoryFolder(disk), MemoryFolder(disk)     # two processes in the same folder
    disk.faults = Failing("sync")                           # or any callable of (step, name) that raises OSError
    one.replace("a", b"...")                                # OSError(ENOSPC)
    disk.crash()                                            # power loss: what was not synced is gone
    one.kill()                                              # kill -9: what was written stays, the locks are free

Steps: open, list, stat, read, create, write, sync, rename, sync_folder, remove, lock. ``disk.steps`` lists those taken.
A ``MemoryFolder`` passes wherever a path does: ``Config(state_dir=MemoryFolder())``.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from random import Random
from typing import Any

from flagkit.disk import Folder

Faults = Callable[[str, str], None]


class Failing:
    """Faults: every one of these steps fails, all steps when none are named. Set ``on`` to False to mend the disk.

    spared: so many of them succeed first.
    """

    def __init__(self, *steps: str, code: int = errno.ENOSPC, spared: int = 0) -> None:
        self.on = True
        self.raised = 0
        self._steps = steps
        self._code = code
        self._spared = spared

    def __call__(self, step: str, name: str) -> None:
        if not self.on or (self._steps and step not in self._steps):
            return
        if self._spared:
            self._spared -= 1
            return
        self.raised += 1
        raise OSError(self._code, os.strerror(self._code), name)


class _File:
    def __init__(self, modified_ms: int) -> None:
        self.data = b""
        self.synced = b""
        self.modified_ms = modified_ms
        self.owner: object | None = None  # of its lock


class _Node:
    def __init__(self) -> None:
        self.entries: dict[str, _File | _Node] = {}
        self.synced: dict[str, _File | _Node] = {}


class MemoryDisk:
    """What survives a process. ``now_ms``: the wall clock of the file system."""

    def __init__(self, faults: Faults | None = None, now_ms: Callable[[], int] = lambda: 0) -> None:
        self.faults = faults
        self.now_ms = now_ms
        self.steps: list[tuple[str, str]] = []
        self.root = _Node()

    def crash(self, random: Random | None = None) -> None:
        """Power loss. What was synced is there; of the rest nothing, or with ``random`` any part of it."""
        _crash(self.root, random)

    def step(self, step: str, name: str) -> None:
        self.steps.append((step, name))
        if self.faults is not None:
            self.faults(step, name)

    def count(self, *steps: str) -> int:
        """How often any of these was done."""
        return sum(step in steps for step, _ in self.steps)


class MemoryFolder(Folder):
    """See the module. Folders made from one another are the same process; so many made of one disk are as many."""

    __slots__ = ("_disk", "_path", "_process")

    def __init__(
        self,
        disk: MemoryDisk | None = None,
        *,
        faults: Faults | None = None,
        path: tuple[str, ...] = (),
        process: object = None,
    ) -> None:
        self._disk = disk or MemoryDisk(faults)
        self._path = path
        self._process = process or object()
        super().__init__("/".join(("memory:", *path)))

    @property
    def disk(self) -> MemoryDisk:
        return self._disk

    def kill(self) -> None:
        """End the process: its locks are free."""
        _free(self._disk.root, self._process)

    def check(self) -> None:
        self._disk.step("open", self.name)
        node: Any = self._disk.root
        for part in self._path:
            if part not in node.entries:
                node.entries[part] = node.synced[part] = _Node()
            node = node.entries[part]
            if isinstance(node, _File):
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), self.name)

    def folder(self, name: str) -> MemoryFolder:
        inner = MemoryFolder(self._disk, path=(*self._path, name), process=self._process)
        inner.check()
        return inner

    def names(self) -> list[str]:
        self._disk.step("list", self.name)
        return sorted(self._node().entries)

    def size(self, name: str) -> int:
        self._disk.step("stat", name)
        return len(self._file(name).data)

    def modified_ms(self, name: str) -> int:
        self._disk.step("stat", name)
        return self._file(name).modified_ms

    def read(self, name: str, start: int = 0, count: int = -1) -> bytes:
        self._disk.step("read", name)
        data = self._file(name).data
        return data[start:] if count < 0 else data[start : start + count]

    def replace(self, name: str, data: bytes) -> None:
        node = self._node()
        self._disk.step("create", name)
        file = _File(self._disk.now_ms())
        self._disk.step("write", name)
        file.data = bytes(data)
        self._disk.step("sync", name)
        file.synced = file.data
        self._disk.step("rename", name)
        node.entries[name] = file
        self._disk.step("sync_folder", self.name)
        node.synced = dict(node.entries)

    def append(self, name: str) -> MemoryAppender:  # type: ignore[override]
        self._disk.step("create", name)
        node = self._node()
        found = node.entries.setdefault(name, _File(self._disk.now_ms()))
        assert isinstance(found, _File)
        return MemoryAppender(self, name, found)

    def rename(self, old: str, new: str) -> None:
        self._disk.step("rename", old)
        node = self._node()
        if old not in node.entries:
            raise _missing(old)
        node.entries[new] = node.entries.pop(old)
        self._disk.step("sync_folder", self.name)
        node.synced = dict(node.entries)

    def remove(self, name: str) -> None:
        self._disk.step("remove", name)
        self._file(name)
        del self._node().entries[name]

    def remove_folder(self, name: str) -> None:
        self._disk.step("remove", name)
        if not isinstance(self._node().entries.get(name), _Node):
            raise _missing(name)
        del self._node().entries[name]

    def lock(self, name: str) -> MemoryLock | None:  # type: ignore[override]
        self._disk.step("lock", name)
        found = self._node().entries.setdefault(name, _File(self._disk.now_ms()))
        assert isinstance(found, _File)
        if found.owner is not None:
            return None
        found.owner = self._process
        return MemoryLock(found)

    def put(self, name: str, data: bytes) -> None:
        """As if the file had been there all along."""
        file = _File(self._disk.now_ms())
        file.data = file.synced = data
        node = self._node()
        node.entries[name] = node.synced[name] = file

    def settle(self) -> None:
        self._disk.step("sync_folder", self.name)
        node = self._node()
        node.synced = dict(node.entries)

    def _node(self) -> _Node:
        node: _File | _Node = self._disk.root
        for part in self._path:
            if not isinstance(node, _Node) or part not in node.entries:
                raise _missing(self.name)
            node = node.entries[part]
        if isinstance(node, _File):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), self.name)
        return node

    def _file(self, name: str) -> _File:
        found = self._node().entries.get(name)
        if found is None:
            raise _missing(name)
        if isinstance(found, _Node):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), name)
        return found


class MemoryAppender:
    def __init__(self, folder: MemoryFolder, name: str, file: _File) -> None:
        self._folder = folder
        self._name = name
        self._file: _File | None = file
        self._new = True

    def write(self, data: bytes) -> None:
        file = self._open()
        self._folder.disk.step("write", self._name)
        file.data += data
        file.modified_ms = self._folder.disk.now_ms()

    def sync(self) -> None:
        file = self._open()
        try:
            self._folder.disk.step("sync", self._name)
        except OSError:
            # As Linux has it: what could not be written is dropped from memory too, and the next sync says it is fine.
            file.data = file.synced
            raise
        file.synced = file.data
        if self._new:
            self._folder.settle()
            self._new = False

    def close(self) -> None:
        self._file = None

    def forget(self) -> None:
        self._file = None

    def _open(self) -> _File:
        if self._file is None:
            raise ValueError("I/O operation on closed file")
        return self._file


class MemoryLock:
    def __init__(self, file: _File) -> None:
        self._file: _File | None = file

    def release(self) -> None:
        if self._file is not None:
            self._file.owner = None
        self._file = None

    def forget(self) -> None:
        self._file = None


def _missing(name: str) -> FileNotFoundError:
    return FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), name)


def _crash(node: _Node, random: Random | None) -> None:
    for name in sorted(node.entries.keys() | node.synced.keys()):  # a seed means the same in every process
        if random is None or random.random() < 0.5:
            if name in node.synced:
                node.entries[name] = node.synced[name]
            else:
                del node.entries[name]
    node.synced = dict(node.entries)
    for found in node.entries.values():
        if isinstance(found, _Node):
            _crash(found, random)
            continue
        found.owner = None
        if found.data != found.synced:
            grown = len(found.data) - len(found.synced)
            kept = len(found.synced) + (random.randint(0, grown) if random is not None and grown > 0 else 0)
            found.data = found.synced = found.data[:kept]


def _free(node: _Node, process: object) -> None:
    for found in node.entries.values():
        if isinstance(found, _Node):
            _free(found, process)
        elif found.owner is process:
            found.owner = None
