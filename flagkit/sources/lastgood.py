"""``LastGood``: a folder with the last good document of one source, and the form of the files in it.

    definitions.0, definitions.1    two generations: a line about the document, then its bytes as they came
    confirmed                       a line: when the newest was last confirmed
    definitions.bad                 the latest that was found damaged

A line is a JSON object, a space, and the beginning of its sha256. Any number of processes share a folder: each file is
replaced whole, the newest is never the one written over, and nobody removes anything. A later format will have other
names. Loaded by ``Cached``, when there is one.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from hashlib import sha256
from typing import Any, Final, NamedTuple

from flagkit.boundary import contained
from flagkit.disk import Folder, FolderError
from flagkit.log import logger
from flagkit.sources.source import Fetched, Kept

_FORMAT: Final = 1
_GENERATIONS: Final = ("definitions.0", "definitions.1")
_CONFIRMED: Final = "confirmed"
_BAD: Final = "definitions.bad"
_MAX_VALIDATOR: Final = 4096
_MAX_LINE: Final = 6 * _MAX_VALIDATOR + 1024  # JSON makes at most six characters of one
_CHECK: Final = 16
_FRESH_MS: Final = 60_000


class _Line(NamedTuple):
    """What is known of a document; in ``confirmed``, of the one with this generation and digest."""

    generation: int
    length: int
    sha256: str
    validator: str | None
    confirmed_ms: int

    def is_of(self, other: _Line | None) -> bool:
        """Whether both are of the same document on disk."""
        return other is not None and (self.generation, self.sha256) == (other.generation, other.sha256)


class LastGood:
    """See the module. One thread at a time. Raises OSError, and nothing else.

    Args: open_folder: opens the folder; called for every use, because a folder may go and come.
    """

    def __init__(self, open_folder: Callable[[], Folder]) -> None:
        self._open = open_folder
        self._log = logger()
        #: Of the document in use, once it is on disk.
        self._used: _Line | None = None

    def recall(self, max_bytes: int) -> Iterator[Kept]:
        """What is whole, newest first. Whoever asks for no more has taken the latest one into use."""
        folder, failure = self._open(), None
        found: list[tuple[_Line, bytes]] = []
        for name in _GENERATIONS:
            try:
                found += self._load(folder, name, max_bytes)
            except OSError as error:
                failure = error
        for line, data in sorted(found, key=lambda loaded: loaded[0].generation, reverse=True):
            self._used = line = _latest(folder, line)
            yield Kept(data, line.validator, line.confirmed_ms)
        if failure is not None:
            raise failure

    def keep(self, document: Fetched | None, confirmed_ms: int) -> None:
        """Have on disk what is in use: ``document``, or with None the one before, confirmed again."""
        folder = self._open()
        lines = [line for name in _GENERATIONS if (line := _line(folder, name)) is not None]
        newest = max(lines, key=lambda line: line.generation, default=None)
        if document is not None:
            digest, validator = sha256(document.data).hexdigest(), _short(document.validator)
            if newest is None or newest.sha256 != digest or not self._load(folder, _name(newest), newest.length):
                generation = 1 if newest is None else newest.generation + 1
                line = _Line(generation, len(document.data), digest, validator, confirmed_ms)
                folder.replace(_name(line), _encoded(line) + document.data)
                self._used = line
                return
            self._used = newest._replace(validator=validator)
        # Another process may have taken another document into use since. How it stands with that, it says itself.
        if newest is not None and self._used is not None and newest.is_of(self._used):
            noted = _latest(folder, newest)
            # Not more than once a minute, by whichever process.
            if noted.validator != self._used.validator or not 0 <= confirmed_ms - noted.confirmed_ms < _FRESH_MS:
                folder.replace(_CONFIRMED, _encoded(self._used._replace(confirmed_ms=confirmed_ms)))

    def _load(self, folder: Folder, name: str, max_bytes: int) -> list[tuple[_Line, bytes]]:
        """The document in a file, if it is whole, with its line. What is damaged or not ours is put aside."""
        try:
            text = folder.read(name, 0, _MAX_LINE + max_bytes)
        except FileNotFoundError:
            return []
        except FolderError as error:
            self._put_aside(folder, name, str(error.strerror))
            return []
        head, _, data = text.partition(b"\n")
        line = _parsed(head)
        if line is not None and line.length > max_bytes:
            return []  # too large by the settings of today
        if line is None or sha256(data).hexdigest() != line.sha256:
            self._put_aside(folder, name, "is damaged")
            return []
        return [(line, data)]

    def _put_aside(self, folder: Folder, name: str, why: str) -> None:
        with suppress(OSError):
            folder.rename(name, _BAD)
            said = "last good definitions: %s in %s %s: now %s"
            contained(self._log.warning, said, name, folder.name, why, _BAD, otherwise=None)


def _name(line: _Line) -> str:
    return _GENERATIONS[line.generation % 2]


def _line(folder: Folder, name: str) -> _Line | None:
    """The first line of a file; None when it is missing, damaged or not ours. Raises: OSError."""
    try:
        return _parsed(folder.read(name, 0, _MAX_LINE).partition(b"\n")[0])
    except (FileNotFoundError, FolderError):
        return None


def _latest(folder: Folder, line: _Line) -> _Line:
    """What is known last of the document of ``line``. Raises: nothing; the line itself says enough."""
    with suppress(OSError):
        confirmed = _line(folder, _CONFIRMED)
        if confirmed is not None and confirmed.is_of(line):
            return confirmed
    return line


def _short(validator: str | None) -> str | None:
    return validator if validator is not None and len(validator) <= _MAX_VALIDATOR else None


def _encoded(line: _Line) -> bytes:
    text = json.dumps({"format": _FORMAT, **line._asdict()}).encode()
    return b"%b %b\n" % (text, _check(text))


def _parsed(text: bytes) -> _Line | None:
    fields, _, check = text.rpartition(b" ")
    if check != _check(fields):
        return None
    # Ours, then, and not to be doubted; but perhaps of another format.
    found: dict[str, Any] = json.loads(fields)
    return _Line(**found) if found.pop("format", None) == _FORMAT else None


def _check(text: bytes) -> bytes:
    return sha256(text).hexdigest()[:_CHECK].encode()
