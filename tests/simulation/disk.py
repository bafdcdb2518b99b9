"""A disk of one host: it fails for a while, is slow, loses its power, and can be read behind everybody's back.

The files are those of ``tests.unit.folders``. What is in the spool's files is read here a second time, by the form that
``flagkit.runtime.records`` documents and without its code, because what counts is what the next process could read.
"""

from __future__ import annotations

import errno
import os
import struct
import zlib
from collections.abc import Callable, Iterator
from random import Random
from typing import NamedTuple

from tests.unit.folders import MemoryDisk, MemoryFolder, _File, _Node

_HEAD = 24
_FRAME = struct.Struct(">II")
_CODES = (errno.ENOSPC, errno.EIO, errno.EDQUOT, errno.EROFS, errno.EMFILE)
_WRITING = frozenset({"create", "write", "sync", "rename", "sync_folder", "remove"})


class DiskWeather(NamedTuple):
    """steps: those that fail; chance: how often; code: with what; slow_s: how long some of the others take."""

    steps: frozenset[str] = frozenset()
    chance: float = 0.0
    code: int = errno.EIO
    slow_s: float = 0.0

    @classmethod
    def drawn(cls, random: Random) -> DiskWeather:
        kind = random.randrange(5)
        if kind == 0:
            return cls(_WRITING, 1.0, errno.ENOSPC)
        if kind == 1:
            return cls(frozenset({random.choice(sorted(_WRITING))}), random.random(), random.choice(_CODES))
        if kind == 2:
            return cls(_WRITING | {"open", "list", "stat", "read", "lock"}, 1.0, random.choice(_CODES))
        if kind == 3:
            return cls(frozenset({"read", "list", "stat", "open", "lock"}), 0.5, random.choice(_CODES))
        return cls(slow_s=random.choice((0.01, 0.3, 3.0)))


CLEAR = DiskWeather()


class Disk(MemoryDisk):
    """Args: sleep: lets time pass for who asked for a step. noticed: told of every fault by its kind."""

    def __init__(
        self,
        random: Random,
        now_s: Callable[[], float],
        now_ms: Callable[[], int],
        sleep: Callable[[float], None],
        noticed: Callable[[str], None],
    ) -> None:
        super().__init__(now_ms=now_ms)
        self.weather = CLEAR
        #: Nothing ever went wrong with it; no bit of it was ever flipped. changes: how often somebody wrote to it.
        self.clean = self.whole = True
        self.changes = 0
        #: What a process is about to do when it is killed; it is asked at every step.
        self.fatal: Callable[[str, str], None] = lambda step, name: None
        #: Told of a file whose data the disk is about to drop.
        self.unsynced: Callable[[str], None] = lambda name: None
        self._random = random
        self._sleep = sleep
        self._noticed = noticed
        self._now_s = now_s
        self._ill_s = -1e9
        self._dirty: dict[_File, tuple[int, float]] = {}

    def well(self, for_s: float) -> bool:
        """Whether nothing has gone wrong for so long."""
        return self.weather == CLEAR and self._now_s() - self._ill_s >= for_s

    def turns(self, weather: DiskWeather) -> None:
        """The weather does."""
        if self.weather != CLEAR:
            self._ill_s = self._now_s()
        self.weather = weather
        self.clean = self.clean and not weather.steps

    def step(self, step: str, name: str) -> None:
        self.fatal(step, name)
        weather = self.weather
        if weather.slow_s and self._random.random() < 0.3:
            self._noticed("disk slow")
            self._sleep(self._random.random() * weather.slow_s)
        if step in weather.steps and self._random.random() < weather.chance:
            self._noticed(f"disk {errno.errorcode[weather.code]}")
            if step == "sync":
                self.unsynced(name)
            raise OSError(weather.code, os.strerror(weather.code), name)
        self.changes += step in _WRITING

    # -- for whoever looks on

    def files(self) -> Iterator[tuple[str, _File]]:
        """All files with their paths, in order."""
        yield from _files(self.root, "")

    def spooled(self) -> dict[str, list[str]]:
        """File of the spool -> the events in it that nobody has settled, as the next process would find them."""
        files = dict(self.files())
        found: dict[str, list[str]] = {}
        for path, file in files.items():
            if path.endswith(".seg"):
                notes = files.get(path.removesuffix(".seg") + ".ack")
                found[path] = list(_events(file.data, _settled(notes.data if notes is not None else b"")))
        return found

    def spool_bytes(self) -> int:
        """What the folders of processes take, without the notes."""
        return sum(len(file.data) for path, file in self.files() if path.endswith(".seg"))

    def write_back(self) -> None:
        """What an operating system does in its own time: what was written half a minute ago is on the disk for good."""
        dirty: dict[_File, tuple[int, float]] = {}
        for node, name, file in _unsynced(self.root):
            size, since_s = self._dirty.get(file, (0, 0.0))
            if size != len(file.data):
                size, since_s = len(file.data), self._now_s()
            if self._now_s() - since_s < 30.0:
                dirty[file] = size, since_s
            else:
                file.synced = file.data
                node.synced[name] = file
        self._dirty = dirty
        _forget(self.root)

    def flip(self, path: str, file: _File) -> None:
        """One bit of a file is not what it was."""
        self.clean = self.whole = False
        if file.data:
            at = self._random.randrange(len(file.data))
            data = bytearray(file.data)
            data[at] ^= 1 << self._random.randrange(8)
            file.data = bytes(data)
            if len(file.synced) == len(data):
                file.synced = file.data


def folder(disk: Disk, process: object) -> MemoryFolder:
    """The state directory, as one process has it."""
    return MemoryFolder(disk, process=process)


def _files(node: _Node, path: str) -> Iterator[tuple[str, _File]]:
    for name in sorted(node.entries):
        entry = node.entries[name]
        if isinstance(entry, _Node):
            yield from _files(entry, f"{path}{name}/")
        else:
            yield f"{path}{name}", entry


def _unsynced(node: _Node) -> Iterator[tuple[_Node, str, _File]]:
    for name, entry in node.entries.items():
        if isinstance(entry, _Node):
            yield from _unsynced(entry)
        elif entry.data != entry.synced or node.synced.get(name) is not entry:
            yield node, name, entry


def _forget(node: _Node) -> None:
    """What was removed is gone for good."""
    node.synced = {name: entry for name, entry in node.synced.items() if name in node.entries}
    for entry in node.entries.values():
        if isinstance(entry, _Node):
            _forget(entry)


def _events(data: bytes, at: int) -> Iterator[str]:
    at = max(at, _HEAD)
    while at + _FRAME.size <= len(data):
        size, checksum = _FRAME.unpack_from(data, at)
        text = data[at + _FRAME.size : at + _FRAME.size + size]
        if not size or len(text) < size or zlib.crc32(text) != checksum:
            return
        yield text.decode()
        at += _FRAME.size + size


def _settled(notes: bytes) -> int:
    settled = 0
    for line in notes.splitlines():
        words = line.split()
        if len(words) != 4 or b"%08x" % zlib.crc32(b" ".join(words[:3])) != words[3]:
            break
        if words[0] == b"a":
            settled = int(words[2])
    return settled
