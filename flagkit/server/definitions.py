"""The definitions file as clients see it: read when it changes, judged, numbered, and kept ready to send.

One writer (the watching thread) replaces ``served`` as a whole; requests read that attribute and nothing else. An edit
with any mistake changes nothing but ``problems``: the last good content stays, also over a restart. It knows no HTTP.
"""

from __future__ import annotations

import gzip
import json
import logging
import threading
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol

from flagkit.clock import Clock
from flagkit.core.model import Definitions
from flagkit.dialects import native
from flagkit.errors import DefinitionsError, Problem, shown
from flagkit.server.store import Numbered

_log = logging.getLogger("flagkit")

_LOOK_EVERY_S: Final = 0.2
_ENVELOPE: Final = ("epoch", "number", "flag_count")


class Ledger(Protocol):
    """Who numbers contents and remembers the last one accepted."""

    def accepted(self) -> Numbered | None: ...

    def accept(self, content: bytes) -> Numbered: ...


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

    def open(self) -> None:
        """Serve the file; if it is bad, what was accepted last, by an earlier process.

        Raises: DefinitionsError with the file's problems when there is nothing good to serve. sqlite3.Error.
        """
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
        """Look five times a second until ``stop`` is set."""
        while not clock.wait(stop, _LOOK_EVERY_S):
            try:
                self.look()
            except Exception as error:  # noqa: BLE001 - the loop body: whatever one file did, the next edit is read
                self._refuse((Problem("$", f"the file could not be taken: {shown(error)}"),))

    def look(self) -> None:
        """Read the file if it has changed and then stayed the same for a look: half an edit is not read."""
        try:
            status = self._path.stat()
            now: object = (status.st_mtime_ns, status.st_size, status.st_ino)
        except OSError as error:
            now = str(error)
        seen, self._seen = self._seen, now
        if now == seen and now != self._read:
            self._load()
            self._read = now

    def _load(self) -> None:
        try:
            data = self._path.read_bytes()
        except OSError as error:
            self._data = None
            self._refuse((Problem("$", f"the file cannot be read: {error.strerror}"),))
            return
        if data == self._data:
            return
        try:
            _, problems = native.parse(data, None if self._served is None else self._served.definitions)
            good = not any(problem.refused for problem in problems)
        except DefinitionsError as error:
            good, problems = False, error.problems
        if good:
            self._accept({name: value for name, value in json.loads(data).items() if name not in _ENVELOPE}, problems)
        else:
            self._refuse(problems)
            self._switch_off(data)
        self._data = data

    def _accept(self, document: dict[str, Any], problems: tuple[Problem, ...]) -> None:
        self._serve(document)
        if problems:
            _log.warning("definitions number %d:\n%s", self.served.number, _lines(problems))
        self.ok, self.problems = True, problems

    def _refuse(self, problems: tuple[Problem, ...]) -> None:
        if self.ok or problems != self.problems:
            stays = "nothing is served" if self._served is None else f"number {self._served.number} stays served"
            _log.error("the definitions file is refused, %s:\n%s", stays, _lines(problems))
        self.ok, self.problems = False, problems

    def _switch_off(self, data: bytes) -> None:
        """Obey the one thing that is never refused: flags that a refused edit plainly says are off."""
        if self._served is None:
            return
        try:
            edit = json.loads(data)["flags"]
            off = {key for key, flag in edit.items() if isinstance(flag, dict) and flag.get("enabled") is False}
        except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
            return
        document = {name: value for name, value in json.loads(self._served.body).items() if name not in _ENVELOPE}
        flags = document["flags"]
        off = {key for key in off & flags.keys() if flags[key].get("enabled") is not False}
        if off:
            flags.update((key, {**flags[key], "enabled": False}) for key in off)
            self._serve(document)
            _log.warning("number %d, all the same, has switched off: %s", self.served.number, ", ".join(sorted(off)))

    def _serve(self, document: dict[str, Any]) -> None:
        numbered = self._ledger.accept(one_flag_a_line(document))
        before = self._served
        if before is None or (before.epoch, before.number) != (numbered.epoch, numbered.number):
            self._served = _ready(numbered)
        if before is not self._served or not self.ok:
            count = self.served.flag_count
            _log.info(
                "definitions number %d are served: %d flag%s", self.served.number, count, "" if count == 1 else "s"
            )


def one_flag_a_line(document: Mapping[str, Any]) -> bytes:
    """The document as JSON with every entry of its objects (flags, segments ...) on a line of its own.

    Clients keep what they made of a line that has not changed.
    """
    fields = []
    for name, value in document.items():
        if isinstance(value, dict) and value:
            entries = ",\n".join(f"{_json(key)}:{_json(entry)}" for key, entry in value.items())
            fields.append(f"{_json(name)}:{{\n{entries}\n}}")
        else:
            fields.append(f"{_json(name)}:{_json(value)}")
    return ("{" + ",\n".join(fields) + "}\n").encode()


def _ready(numbered: Numbered) -> Served:
    """Raises: DefinitionsError when the content is not good."""
    epoch, number, content = numbered
    document = json.loads(content)
    flag_count = len(document["flags"])
    body = one_flag_a_line({"epoch": epoch, "number": number, "flag_count": flag_count, **document})
    etag = f'"{sha256(body).hexdigest()[:32]}"'
    return Served(
        body, gzip.compress(body, 6, mtime=0), etag, epoch, number, flag_count, native.parse(body).definitions
    )


def _json(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))


def _lines(problems: tuple[Problem, ...]) -> str:
    return "\n".join(f"  {problem}" for problem in problems)
