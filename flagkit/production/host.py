"""``Host``: what the processes of one machine tell each other of trips, and leave behind when they are killed.

In the folder ``guards`` of the ``state_dir``: a file a trip, which every process reads once a second and before its
first answer; and a folder a process, locked for as long as it lives, with the marks of the calls under way. Whoever
finds one unlocked has found a death. It judges nothing. Driven by one thread at a time; every failure is an OSError.
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from typing import Any, Final, NamedTuple

from flagkit.disk import Folder, Lock, Mapped
from flagkit.production import marks
from flagkit.production.marks import Mark, Marks

_FOLDER: Final = "guards"
_TRIP: Final = ".trip"
_LIVE: Final = "live-"
_LOCK: Final = "lock"
_MARKS: Final = "marks"
_MOST_BYTES: Final = 16 * 1024
_MOST_TRIPS: Final = 1000


class Notice(NamedTuple):
    """What one machine knows of a candidate, in one revision of its guard.

    kind: ``errors``, ``latency``, ``slo``, ``breaker``, ``fleet``, ``interference``; or ``""`` while there were only
    deaths. candidate: ``""`` where the flag is held at an earlier step, all candidates alike.
    latched: it stays until a higher revision; else whoever put it there, ``owner``, tries again at ``until_ms``.
    deaths: processes that died with nothing but calls of the candidate under way.
    held: of what is held, ``core.holds.hold_document`` as JSON.
    """

    environment: str
    flag: str
    revision: int
    candidate: str
    control: str
    kind: str
    why: str
    at_ms: int
    latched: bool = True
    until_ms: int = 0
    tries: int = 0
    deaths: int = 0
    owner: str = ""
    held: str = ""

    @property
    def name(self) -> str:
        """The name of its file: one a candidate."""
        from hashlib import blake2b  # loads OpenSSL, which only those who share a host need

        place = json.dumps([self.environment, self.flag, self.candidate]).encode()
        return blake2b(place, digest_size=12).hexdigest() + _TRIP


_BLANK: Final = Notice("", "", 0, "", "", "", "", 0)


class Host:
    """See the module. ``state_dir``: the client's. Nothing is opened before it is asked."""

    def __init__(self, state_dir: str | os.PathLike[str]) -> None:
        self._state_dir = state_dir
        self._root: Folder | None = None
        self._seen: dict[str, tuple[tuple[int, int], Notice | None]] = {}
        self.after_fork()

    def after_fork(self) -> None:
        """In a forked child: let go of what is the parent's. Closes descriptors and assigns, no more."""
        lock = getattr(self, "_lock", None)
        if lock is not None:
            lock.forget()
        self._lock: Lock | None = None
        self._mapped: Mapped | None = None
        self._name = ""
        #: Of this process, once ``live`` was called.
        self.marks: Marks | None = None

    # -- trips

    def read(self) -> list[Notice]:
        """The notices there are; what is no notice is left out. Raises: OSError."""
        root = self._folder()
        seen, self._seen = self._seen, {}
        for name in [name for name in root.names() if name.endswith(_TRIP)][:_MOST_TRIPS]:
            with suppress(FileNotFoundError):  # just withdrawn
                stamp = root.modified_ms(name), root.size(name)
                known = seen.get(name)
                changed = known is None or known[0] != stamp
                self._seen[name] = (stamp, _notice(root.read(name, 0, _MOST_BYTES))) if changed else known  # type: ignore[assignment]
        return [notice for _, notice in self._seen.values() if notice is not None]

    def put(self, notice: Notice) -> None:
        """Tell the other processes. Raises: OSError."""
        told = notice._asdict()
        if not notice.held:
            del told["held"]  # which processes of an earlier version would not know
        self._folder().replace(notice.name, json.dumps(told).encode())

    def withdraw(self, notice: Notice) -> None:
        """Tell them that it is over. Raises: OSError."""
        with suppress(FileNotFoundError):
            self._folder().remove(notice.name)

    # -- lives

    def live(self, now_ms: int) -> None:
        """Have ``marks`` for this process, if it has none. Raises: OSError."""
        if self.marks is not None:
            return
        root = self._folder()
        for _ in range(3):  # somebody who looks for the dead may take a folder that is not locked yet
            name = f"{_LIVE}{now_ms:013d}-{os.getpid()}-{os.urandom(4).hex()}"
            with suppress(FileNotFoundError):
                folder = root.folder(name)
                lock = folder.lock(_LOCK)
                if lock is None:
                    continue
                self._mapped = folder.mapped(_MARKS, marks.SIZE)
                self._lock, self._name, self.marks = lock, name, Marks(self._mapped.view)
                return

    def deaths(self) -> list[list[Mark]]:
        """The marks of every process that has died since somebody last looked. Raises: OSError."""
        root, found = self._folder(), []
        for name in root.names():
            if not name.startswith(_LIVE) or name == self._name:
                continue
            with suppress(OSError):  # somebody else may be removing it
                folder = root.folder(name)
                lock = folder.lock(_LOCK)
                if lock is not None:
                    with suppress(FileNotFoundError):
                        found.append(marks.read(folder.read(_MARKS)))
                    root.remove_folder(name)
                    lock.release()
        return found

    def leave(self) -> None:
        """This process ends in peace. Marks that are left, of calls that hang, stay for who finds them."""
        if self._lock is None or self.marks is None:
            return
        if not self.marks.under_way:
            with suppress(OSError):
                self._folder().remove_folder(self._name)
        self._lock.release()
        self.after_fork()

    def _folder(self) -> Folder:
        if self._root is None:
            self._root = Folder.open(self._state_dir).folder(_FOLDER)
        return self._root


def _notice(data: bytes) -> Notice | None:
    try:
        read: Any = json.loads(data)
        notice = Notice(**read)
    except (ValueError, TypeError, RecursionError):
        return None
    alike = all(type(value) is type(blank) for value, blank in zip(notice, _BLANK, strict=True))
    return notice if alike else None
