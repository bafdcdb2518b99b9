"""A definitions file, changed under a lock, and the history of its changes beside it: ``FILE.history.jsonl``.

The history is one JSON object a line, only ever appended to; it is also what is locked, because the definitions file
is replaced with every change. It knows no order and does not judge an edit. Called by the commands that change a file,
and by the service for the file it serves.
"""

from __future__ import annotations

import contextlib
import fcntl
import io
import json
import os
import stat
import tempfile
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Final

from flagkit.changes.history import Author, Change, History, history_from
from flagkit.clock import Clock, SystemClock
from flagkit.dialects.edits import Edit
from flagkit.errors import FlagkitError

_PATIENCE_S: Final = 10.0
_LOOK_EVERY_S: Final = 0.02
_MAX_BYTES: Final = 1 << 30


class LogbookError(FlagkitError):
    """The file or its history cannot be read or written; the message names it and says why."""


class Busy(LogbookError):
    """Somebody else has been changing the file for ten seconds; try again."""


class Logbook:
    """A file whose ``text`` and ``history`` stay what they are until ``enter`` changes both. Made by ``opened``."""

    def __init__(self, path: Path, log: io.FileIO, clock: Clock) -> None:
        self._path = path
        self._log = log
        self._clock = clock
        log.seek(0)
        self.history = history_from(log.read())
        data = path.read_bytes()
        self._digest = sha256(data).hexdigest()
        try:
            self.text = data.decode()
        except UnicodeDecodeError as error:
            raise LogbookError(f"{path}: not UTF-8 at byte {error.start}") from None

    def made(self, request: str) -> Change | None:
        """The change made under this request id. One that a crash left in the history alone was not made."""
        found = self.history.requested(request)
        undone = found is not None and found == self.history.changes[-1] and self._digest == found.document_before
        return None if undone else found

    def enter(self, edit: Edit, author: Author) -> Change:
        """Write the edited document and its line of history; both are on disk when this returns. Raises: OSError."""
        data = edit.text.encode()
        change = Change(
            number=max((change.number for change in self.history.changes), default=0) + 1,
            time=datetime.fromtimestamp(self._clock.wall_ms() // 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            by=author.by,
            reason=author.reason,
            command=author.command,
            flag=edit.flag,
            summary=edit.summary,
            before=edit.before,
            after=edit.after,
            document_before=self._digest,
            document_after=sha256(data).hexdigest(),
            request=author.request,
        )
        draft = _draft(self._path, data)
        try:
            with self._logged(change):
                os.replace(draft, self._path)
        except BaseException:
            draft.unlink(missing_ok=True)
            raise
        with contextlib.suppress(OSError):  # the change is made; not every file system lets a folder be synced
            _sync(self._path.parent)
        return change

    @contextlib.contextmanager
    def _logged(self, change: Change) -> Iterator[None]:
        """The change is in the history first: one that was made is never missing. It is taken out if it fails."""
        end = self._log.seek(0, os.SEEK_END)
        self._log.seek(max(end - 1, 0))
        torn = self._log.read(1) not in (b"", b"\n")
        line = b"\n" * torn + json.dumps(change.record()).encode() + b"\n"
        try:
            while line:
                line = line[self._log.write(line) or 0 :]
            os.fsync(self._log.fileno())
            yield
        except BaseException:
            os.ftruncate(self._log.fileno(), end)
            raise


@contextlib.contextmanager
def opened(file: str | Path, clock: Clock | None = None) -> Iterator[Logbook]:
    """The logbook of ``file``, which nobody else can change through one meanwhile. Symbolic links are followed.

    Raises: LogbookError when the file cannot be read or written, Busy when somebody else holds it for ten seconds.
    """
    clock = clock or SystemClock()
    path = Path(os.path.realpath(file))
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise LogbookError(f"{file}: not a regular file")
        if status.st_size > _MAX_BYTES:
            raise LogbookError(f"{file}: larger than 1 GiB")
        # Unbuffered: what a failed write left in a buffer would be written at the close.
        with open(history_of(path), "a+b", buffering=0) as log:
            _lock(log, clock, file)
            if log.seek(0, os.SEEK_END) == 0:
                _like(log.fileno(), status)
            yield Logbook(path, log, clock)
    except OSError as error:
        where = error.filename or file
        raise LogbookError(f"{where}: cannot be changed: {error.strerror or error}") from None


def history_of(path: Path) -> Path:
    """Where the history of the file at ``path`` (no symbolic link) is kept."""
    return path.with_name(f"{path.name}.history.jsonl")


def read_history(file: str | Path) -> History:
    """The history of ``file``, empty if there is none. Raises: LogbookError when it cannot be read."""
    path = history_of(Path(os.path.realpath(file)))
    try:
        return history_from(path.read_bytes())
    except FileNotFoundError:
        if not os.path.exists(file):
            raise LogbookError(f"{file}: cannot be read: No such file or directory") from None
        return History((), 0)
    except OSError as error:
        raise LogbookError(f"{path}: cannot be read: {error.strerror or error}") from None


def _lock(log: io.FileIO, clock: Clock, file: str | Path) -> None:
    until_s = clock.monotonic_s() + _PATIENCE_S
    while True:
        try:
            fcntl.flock(log, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if clock.monotonic_s() >= until_s:
                raise Busy(f"{file}: somebody else is changing it; try again") from None
            clock.wait(threading.Event(), _LOOK_EVERY_S)


def _draft(path: Path, data: bytes) -> Path:
    """A file beside ``path`` with ``data`` on disk, and mode and owner of ``path``."""
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with open(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            _like(descriptor, path.stat())
            os.fsync(descriptor)
    except BaseException:
        os.unlink(name)
        raise
    return Path(name)


def _like(descriptor: int, status: os.stat_result) -> None:
    """Give a file the mode and, where that is allowed, the owner of another: whoever could read it still can."""
    with contextlib.suppress(PermissionError):
        os.fchown(descriptor, status.st_uid, status.st_gid)
    with contextlib.suppress(PermissionError):
        os.fchmod(descriptor, stat.S_IMODE(status.st_mode))


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
