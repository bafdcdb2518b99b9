"""A state directory, used as a client uses it: may it be, does a file survive, do locks hold, and what waits in it.

It makes what a client would make and leaves behind what it found. It reads no event and no document.
"""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import suppress
from typing import Final, NamedTuple

from flagkit.cli.doctor.finding import Finding, Verdict, ok, problem, warning
from flagkit.cli.text import counted
from flagkit.config import Config
from flagkit.disk import Folder
from flagkit.runtime.home import LOCK
from flagkit.runtime.segment import SUFFIX

_LITTLE: Final = 256 * 1024 * 1024
_MIB: Final = 1024 * 1024
_DEAD: Final = "dead"
_OLD_S: Final = 3600.0
_CHOOSE: Final = (
    "run this as the user of your clients; have that user own the directory, on a local disk, or give another as "
    "state_dir: without it clients keep everything in memory"
)


def examine(path: str, now_ms: int) -> Iterator[Finding]:
    """Raises: nothing."""
    fresh = not os.path.lexists(path)
    try:
        folder = Folder.open(path)
    except OSError as error:
        yield problem("disk", f"{path}: {error.strerror or error}", _CHOOSE)
        return
    try:
        (found,) = _usable(folder, fresh=fresh)
        yield found
        if not fresh and found.verdict is not Verdict.PROBLEM:
            yield from _waiting(folder, now_ms)
    finally:
        if fresh:
            with suppress(OSError):
                os.rmdir(folder.name)


def _usable(folder: Folder, *, fresh: bool) -> Iterator[Finding]:
    try:
        _try_a_file(folder)
    except OSError as error:
        yield problem("disk", f"{folder.name}: a file cannot be kept: {error.strerror or error}", _CHOOSE)
        return
    try:
        held = _try_a_lock(folder)
    except OSError as error:
        yield problem("disk", f"{folder.name}: no locks there: {error.strerror or error}", "use a local disk")
        return
    if not held:
        yield problem("disk", f"{folder.name}: two processes can have the same lock", "use a local disk")
        return
    status, space = os.stat(folder.name), os.statvfs(folder.name)
    free = space.f_bavail * space.f_frsize
    made = "can be made" if fresh else f"mode {stat.S_IMODE(status.st_mode):04o}"
    found = f"{folder.name}: {made}, files and locks work, {free // _MIB:,} MiB free"
    if free < _LITTLE or (space.f_files and not space.f_favail):
        yield warning("disk", found, "free some space: a full disk leaves events in memory, where a crash loses them")
    elif status.st_mode & 0o077:
        yield warning("disk", found, f"chmod 700 {folder.name}: others may look into it")
    else:
        yield ok("disk", found)


def _try_a_file(folder: Folder) -> None:
    name = f"doctor-{secrets.token_hex(6)}"
    try:
        folder.replace(name, b"x")
        file = folder.append(name)
        try:
            file.write(b"y")
            file.sync()
        finally:
            file.close()
        if folder.read(name) != b"xy":
            raise OSError("what was written is not what is read")
    finally:
        with suppress(OSError):
            folder.remove(name)


def _try_a_lock(folder: Folder) -> bool:
    """Whether a lock keeps a second one out."""
    name = f"doctor-{secrets.token_hex(6)}"
    first = folder.lock(name)
    try:
        second = folder.lock(name)
        if second is not None:
            second.release()
        return first is not None and second is None
    finally:
        if first is not None:
            first.release()
        with suppress(OSError):
            folder.remove(name)


class _Backlog(NamedTuple):
    """What waits in the spool of one collector."""

    segments: int = 0
    size: int = 0
    oldest_ms: int | None = None
    living: int = 0
    refused: int = 0


def _waiting(folder: Folder, now_ms: int) -> Iterator[Finding]:
    found = []
    try:
        if "sinks" in folder.names():
            sinks = _inside(folder, "sinks")
            found = [_backlog(_inside(sinks, name)) for name in sinks.names()]
    except OSError as error:
        yield problem("spool", f"cannot be read: {error.strerror or error}", "have all of it belong to one user")
        return
    for backlog in found:
        yield from _judged(backlog, now_ms)
    if not found:
        yield ok("spool", "nothing was ever in it")


def _judged(backlog: _Backlog, now_ms: int) -> Iterator[Finding]:
    at_work = f"{counted(backlog.living, 'client')} at work"
    if backlog.oldest_ms is None:
        yield ok("spool", f"nothing waits, {at_work}")
    else:
        age_s = max(0, now_ms - backlog.oldest_ms) / 1000
        waits = f"{_size(backlog.size)} in {counted(backlog.segments, 'segment')}, the oldest for {age_s / 60:,.0f} min"
        found = f"{waits}, {at_work}"
        most = Config().max_spool_bytes
        if backlog.size > most // 2:
            yield warning("spool", found, f"beyond max_spool_bytes ({_size(most)} unless you say) new events are lost")
        elif age_s <= _OLD_S:
            yield ok("spool", found)
        elif backlog.living:
            yield warning("spool", found, "see that the collector takes events")
        else:
            yield warning("spool", found, "start a client with this state_dir: it delivers what others left")
    if backlog.refused:
        fix = f"the reasons stand in {_DEAD}/ below sinks/; remove it when you have seen them"
        yield warning("spool", f"{_size(backlog.refused)} of events that will never be sent", fix)


def _backlog(sink: Folder) -> _Backlog:
    backlog = _Backlog()
    for name in sink.names():
        owner = _inside(sink, name)
        if not os.path.isdir(owner):
            continue
        files = owner.names()
        if name == _DEAD:
            backlog = backlog._replace(refused=sum(owner.size(file) for file in files))
            continue
        segments = [file for file in files if file.endswith(SUFFIX)]
        times_ms = [owner.modified_ms(file) for file in segments]
        if backlog.oldest_ms is not None:
            times_ms.append(backlog.oldest_ms)
        backlog = backlog._replace(
            segments=backlog.segments + len(segments),
            size=backlog.size + sum(owner.size(file) for file in segments),
            oldest_ms=min(times_ms, default=None),
            living=backlog.living + (LOCK in files and _is_held(owner)),
        )
    return backlog


def _inside(folder: Folder, name: str) -> Folder:
    """The folder of that name, which is not made."""
    return Folder(os.path.join(folder.name, name))


def _is_held(owner: Folder) -> bool:
    lock = owner.lock(LOCK)
    if lock is None:
        return True
    lock.release()
    return False


def _size(size: int) -> str:
    return f"{size / _MIB:.1f} MiB" if size >= _MIB else f"{size / 1024:.1f} KiB"
