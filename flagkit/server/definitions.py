"""The definitions file as clients see it: read when it changes, judged, numbered, and kept ready to send.

Writers (the watching thread, an operator's) take turns and replace ``served`` as a whole; requests read that attribute
and nothing else. An edit with any mistake changes nothing but ``problems``: the last good content stays, also over a
restart. It knows no HTTP.
"""

from __future__ import annotations

import gzip
import json
import logging
import sqlite3
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol

from flagkit.clock import Clock
from flagkit.core.holds import hold_document
from flagkit.core.model import Definitions
from flagkit.dialects import native
from flagkit.dialects.native_envelope import enveloped, one_flag_a_line, without_envelope
from flagkit.errors import DefinitionsError, Problem, shown
from flagkit.server.store import Numbered
from flagkit.server.trips import Trip, Trips

_log = logging.getLogger("flagkit")

_LOOK_EVERY_S: Final = 0.05


class Ledger(Protocol):
    """Who numbers contents and remembers the last one accepted, what has tripped, and who is enrolled."""

    def accepted(self) -> Numbered | None: ...

    def accept(self, content: bytes, at_least: int = 1) -> Numbered: ...

    def trips(self) -> Sequence[Trip]: ...

    def keep_trip(self, trip: Trip) -> object: ...

    def members(self) -> Mapping[str, Sequence[str]]: ...


class Served(NamedTuple):
    """One accepted content, ready to send: ``etag`` names exactly these bytes; ``compressed`` is their gzip."""

    body: bytes
    compressed: bytes
    etag: str
    epoch: str
    number: int
    flag_count: int
    definitions: Definitions


class DefinitionsFile:
    """The definitions a service serves. ``open`` first; then ``watch`` in a thread of its own, or ``look`` by hand."""

    def __init__(self, path: Path, ledger: Ledger) -> None:
        self._path = path
        self._ledger = ledger
        self._served: Served | None = None
        self._seen: object = None  # what the last look saw
        self._read: object = None  # what was seen when the file was last read
        self._data: bytes | None = None
        self._turn = threading.Lock()
        self._trips = Trips((), ledger.keep_trip)
        self._enrolled: Mapping[str, Sequence[str]] = {}
        self._unstored: Numbered | None = None  # served, because it could not wait, and not in the ledger yet
        #: Called after each change with what was served before (None: nothing) and what is served now.
        self.listeners: list[Callable[[Served | None, Served], None]] = []
        #: Whether the file as it is now is what is served.
        self.ok = True
        #: Why it is not; remarks about it when it is.
        self.problems: tuple[Problem, ...] = ()

    @property
    def served(self) -> Served:
        """The last good definitions. One attribute read; any thread."""
        if self._served is None:
            raise RuntimeError("not opened")
        return self._served

    def check(self) -> None:
        """Do nothing, if the file is good. Raises: DefinitionsError, having logged why, when there is nothing good."""
        try:
            good, problems = _judged(self._path.read_bytes(), None)
        except OSError as error:
            good, problems = None, (_unreadable(error),)
        if good is None:
            self._refuse(problems)
            raise DefinitionsError(problems)

    def open(self) -> None:
        """Serve the file; if it is bad, what was accepted last, by an earlier process.

        Raises: DefinitionsError with the file's problems when there is nothing good to serve. sqlite3.Error.
        """
        self._trips = Trips(self._ledger.trips(), self._ledger.keep_trip)
        self._enrolled = self._ledger.members()
        kept = self._ledger.accepted()
        if kept is not None:
            try:
                self._served = _ready(kept)
            except DefinitionsError:
                _log.warning("the definitions kept from the last run cannot be read by this version; the file counts")
        self._load()
        if self._served is None:
            raise DefinitionsError(self.problems)

    def watch(self, stop: threading.Event, clock: Clock) -> None:
        """Look twenty times a second until ``stop`` is set."""
        while not clock.wait(stop, _LOOK_EVERY_S):
            try:
                self.look()
            except Exception as error:  # noqa: BLE001 - the loop body: whatever one file did, the next edit is read
                self._refuse((_not_taken(error),))

    def look(self) -> None:
        """Read the file if it has changed and then stayed the same for a look: half an edit is not read."""
        try:
            status = self._path.stat()
            now: object = (status.st_mtime_ns, status.st_size, status.st_ino)
        except OSError as error:
            now = str(error)
        seen, self._seen = self._seen, now
        if now == seen and now != self._read:
            with self._turn:
                self._load()
            self._read = now

    def take(self) -> None:
        """Read the file now, because it has just been changed as a whole. Raises: nothing; see ``problems``."""
        with self._turn:
            try:
                self._load()
            except sqlite3.Error as error:
                self._refuse((_not_taken(error),))

    def switch_off(self, keys: Collection[str]) -> frozenset[str]:
        """Serve these flags disabled, whatever the file says, until it is next taken; return those that were not."""
        with self._turn:
            return self._switch_off(keys)

    def trip(self, key: str, revision: int, candidate: str, why: str) -> bool:
        """Serve it written in a flag's guard that a candidate has tripped; return whether it was not there yet.

        It stays through every edit of the file until the guard has a higher revision. Raises: nothing.
        """
        with self._turn:
            served = self.served.definitions
            flag = served.flags.get(key)
            if flag is None or flag.guard is None or flag.guard.revision != revision:
                return False
            if candidate in flag.tripped or candidate not in flag.variants:
                return False
            self._trips.add(Trip(key, candidate, revision, why))
            document = without_envelope(json.loads(self.served.body))
            self._serve(self._trips.laid_over(document, served, None), waits=False)
        _log.warning("number %d has rolled back %s of %s: %s", self.served.number, candidate, key, why)
        return True

    def hold(self, key: str, revision: int, rules: Mapping[str, Any], why: str) -> bool:
        """Serve it written in a flag's guard that these rules are held; return whether some were not yet.

        rules: ``core.holds.hold_document``. It stays as ``trip`` does. Raises: nothing.
        """
        with self._turn:
            served = self.served.definitions
            flag = served.flags.get(key)
            if flag is None or flag.guard is None or flag.guard.revision != revision:
                return False
            known = hold_document(flag.held) if flag.held is not None else {}
            if rules.keys() <= known.keys():
                return False
            held = json.dumps({"rules": {**rules, **known}, "why": why})
            self._trips.add(Trip(key, "", revision, held))
            document = without_envelope(json.loads(self.served.body))
            self._serve(self._trips.laid_over(document, served, None), waits=False)
        _log.warning("number %d holds rules of %s at an earlier step: %s", self.served.number, key, why)
        return True

    def enrol(self, enrolled: Mapping[str, Sequence[str]]) -> None:
        """Serve these units, by flag, as those who have opted in, beside whatever the file says.

        Raises: sqlite3.Error when that cannot be numbered; what was served stays.
        """
        with self._turn:
            before, self._enrolled = self._enrolled, enrolled
            try:
                self._serve(without_envelope(json.loads(self.served.body)))
            except sqlite3.Error:
                self._enrolled = before
                raise

    def _load(self) -> None:
        try:
            data = self._path.read_bytes()
        except OSError as error:
            self._data = None
            self._refuse((_unreadable(error),))
            return
        if data == self._data:
            return
        good, problems = _judged(data, None if self._served is None else self._served.definitions)
        if good is not None:
            try:
                self._accept(without_envelope(json.loads(data)), good, problems)
            except sqlite3.Error:
                self._switch_off(_off_in(data))
                raise
        else:
            self._refuse(problems)
            self._switch_off(_off_in(data))
        self._data = data

    def _accept(self, document: dict[str, Any], good: Definitions, problems: tuple[Problem, ...]) -> None:
        self._serve(self._trips.laid_over(document, good, None if self._served is None else self._served.definitions))
        if problems:
            _log.warning("definitions number %d:\n%s", self.served.number, _lines(problems))
        self.ok, self.problems = True, problems

    def _refuse(self, problems: tuple[Problem, ...]) -> None:
        if self.ok or problems != self.problems:
            stays = "nothing is served" if self._served is None else f"number {self._served.number} stays served"
            _log.error("the definitions file is refused, %s:\n%s", stays, _lines(problems))
        self.ok, self.problems = False, problems

    def _switch_off(self, keys: Collection[str]) -> frozenset[str]:
        """The one thing that is never refused: what is served, with these flags off."""
        if self._served is None or not keys:
            return frozenset()
        document = without_envelope(json.loads(self._served.body))
        flags = document["flags"]
        off = frozenset(key for key in flags.keys() & set(keys) if flags[key].get("enabled") is not False)
        if off:
            flags.update((key, {**flags[key], "enabled": False}) for key in off)
            self._serve(document, waits=False)
            _log.warning("number %d, all the same, has switched off: %s", self.served.number, ", ".join(sorted(off)))
        return off

    def _serve(self, document: dict[str, Any], *, waits: bool = True) -> None:
        """Number and serve. Raises: sqlite3.Error when it cannot be numbered and may wait until it can."""
        content, before = one_flag_a_line(self._with_enrolled(document)), self._served
        try:
            numbered = self._ledger.accept(content, self._least(content))
            self._unstored = None
        except sqlite3.Error:
            if waits or before is None:
                raise
            numbered = self._unstored = Numbered(before.epoch, before.number + 1, content)
        if before is None or (before.epoch, before.number) != (numbered.epoch, numbered.number):
            self._served = _ready(numbered)
        if before is not self._served or not self.ok:
            count = self.served.flag_count
            _log.info(
                "definitions number %d are served: %d flag%s", self.served.number, count, "" if count == 1 else "s"
            )
        if before is not self._served:
            for listen in self.listeners:
                listen(before, self.served)

    def _with_enrolled(self, document: dict[str, Any]) -> dict[str, Any]:
        """The content with who is enrolled, in place of what a copy of something served may say of it."""
        flags = document["flags"]
        offered = {
            key: list(units)
            for key, units in self._enrolled.items()
            if isinstance(flag := flags.get(key), dict) and flag.get("early_access") is True
        }
        content = {name: value for name, value in document.items() if name != "enrolments"}
        return {**content, "enrolments": offered} if offered else content

    def _least(self, content: bytes) -> int:
        """The number that ``content`` must have at least, after contents that were served without being stored."""
        if self._unstored is None:
            return 1
        return self._unstored.number + (content != self._unstored.content)


def _ready(numbered: Numbered) -> Served:
    """Raises: DefinitionsError when the content is not good."""
    epoch, number, content = numbered
    body, etag, flag_count = enveloped(json.loads(content), epoch, number)
    return Served(
        body, gzip.compress(body, 6, mtime=0), etag, epoch, number, flag_count, native.parse(body).definitions
    )


def _judged(data: bytes, served: Definitions | None) -> tuple[Definitions | None, tuple[Problem, ...]]:
    """What ``data`` says, None when it cannot be served, and what is to be said about it."""
    try:
        definitions, problems = native.parse(data, served)
    except DefinitionsError as error:
        return None, error.problems
    return None if any(problem.refused for problem in problems) else definitions, problems


def _unreadable(error: OSError) -> Problem:
    return Problem("$", f"the file cannot be read: {error.strerror}")


def _off_in(data: bytes) -> frozenset[str]:
    """The flags that a document, however bad, plainly says are off."""
    try:
        flags = json.loads(data)["flags"]
        return frozenset(key for key, flag in flags.items() if isinstance(flag, dict) and flag.get("enabled") is False)
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
        return frozenset()


def _not_taken(error: Exception) -> Problem:
    return Problem("$", f"the file could not be taken: {shown(error)}")


def _lines(problems: tuple[Problem, ...]) -> str:
    return "\n".join(f"  {problem}" for problem in problems)
