"""The chronicle: every change of what is served, written down once, beside the exposures that it explains.

A change made by an order is in the history of the file, with who and why; what changed without such a line was edited
by hand. It reads what was served before and after, and that history; ``store`` keeps the rows, ``summary`` reads them.
It never stands in the way of a change: what cannot be written down now is kept, and written with the next one.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sqlite3
import threading
from collections.abc import Callable, Iterator, Mapping
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final, NamedTuple

from flagkit.changes import Author, Change
from flagkit.changes.history import history_from
from flagkit.changes.logbook import history_of
from flagkit.core.dates import parse_date_ms
from flagkit.dialects import edits
from flagkit.server.definitions import Served
from flagkit.server.store import Store

_log = logging.getLogger("flagkit")

_MOST_WAITING: Final = 1000
_SECTIONS: Final = ("segments", "layers", "holdouts", "environment")
#: What guards have found, in a guard as it is served.
_FOUND: Final = frozenset({"tripped", "held"})
_NOBODY: Final = Author("", "", "edit")


class Noted(NamedTuple):
    """One change as it is stored.

    change: its number in the file's history; None when it is not in it. number: of the definitions served since.
    flag: None when it is about no single flag. by, reason: None when nobody said. before, after: JSON text; None when
    it was, or is, not there.
    """

    id: bytes
    time_ms: int
    number: int | None
    change: int | None
    command: str
    flag: str | None
    by: str | None
    reason: str | None
    summary: str
    before: str | None
    after: str | None


class Chronicle:
    """Of one definitions file. ``open`` it once the store is open, then have it ``follow`` what is served."""

    def __init__(self, path: Path, store: Store, now_ms: Callable[[], int]) -> None:
        self._path = path
        self._store = store
        self._now_ms = now_ms
        self._turn = threading.Lock()
        self._read_to = 0
        self._known: set[bytes] = set()
        self._orders: dict[str, list[Change]] = {}  # in the history, and not yet seen in what is served
        self._authors: dict[str, Author] = {}
        self._waiting: list[Noted] = []

    def open(self) -> None:
        """Remember what is written down already. Raises: sqlite3.Error."""
        self._known = self._store.noted()

    def follow(self, before: Served | None, after: Served) -> None:
        """Write down how what is served has changed. Raises: nothing."""
        with self._turn:
            if before is not None:
                self._forget_seen(before)
            self._catch_up(None if before is None else after.number)
            if before is None:
                self._orders.clear()  # it is all the past
            else:
                self._waiting.extend(self._otherwise(before, after))
            self._write()

    def catch_up(self, number: int) -> None:
        """Write down what is new in the history of the file. Raises: nothing."""
        with self._turn:
            self._catch_up(number)
            self._write()

    @contextlib.contextmanager
    def ordered(self, flag: str, author: Author) -> Iterator[None]:
        """Whatever becomes of the flag within is by this author's order, although the file's history has none."""
        self._authors[flag] = author
        try:
            yield
        finally:
            del self._authors[flag]

    def _catch_up(self, number: int | None) -> None:
        try:
            with open(history_of(Path(os.path.realpath(self._path))), "rb") as file:
                if file.seek(0, os.SEEK_END) < self._read_to:
                    self._read_to = 0  # another file
                file.seek(self._read_to)
                data = file.read()
        except OSError:
            return  # nothing was ever ordered, or it cannot be read: changes are by hand then
        lines = data[: data.rfind(b"\n") + 1]
        self._read_to += len(lines)
        for line in lines.splitlines():
            identity = blake2b(line, digest_size=16).digest()
            if identity not in self._known:
                for change in history_from(line).changes:
                    self._known.add(identity)
                    self._orders.setdefault(change.flag, []).append(change)
                    self._waiting.append(_ordered(identity, change, number))

    def _otherwise(self, before: Served, after: Served) -> Iterator[Noted]:
        """What no line of the history explains."""
        old, new = json.loads(before.body), json.loads(after.body)
        for flag, (was, now) in _differences(old["flags"], new["flags"]).items():
            orders = self._orders.pop(flag, [])
            # The history may be ahead of the file as it was read: what comes later is still to be seen.
            seen = [place for place, order in enumerate(orders, 1) if now is not None and _explains(order, now)]
            if seen:
                self._orders[flag] = orders[seen[-1] :]
            else:
                left = orders[-1].after if orders else was
                yield self._edit(flag, _said(left, now), left, now, after.number)
        for section in _SECTIONS:
            was, now = _text(old.get(section)), _text(new.get(section))
            if was != now:
                yield self._edit(None, f"{section} edited", was, now, after.number)

    def _forget_seen(self, served: Served) -> None:
        """Orders that changed nothing in the end, such as a kill and its revert between two looks at the file."""
        flags = json.loads(served.body)["flags"] if any(self._orders.values()) else {}
        for flag, orders in list(self._orders.items()):
            if not orders or (flag in flags and _explains(orders[-1], json.dumps(flags[flag]))):
                del self._orders[flag]

    def _edit(self, flag: str | None, summary: str, was: str | None, now: str | None, number: int) -> Noted:
        author = self._authors.get(flag or "", _NOBODY)
        return Noted(
            os.urandom(16), self._now_ms(), number, None, author.command, flag, author.by or None,
            author.reason or None, summary, was, now,
        )  # fmt: skip

    def _write(self) -> None:
        if not self._waiting:
            return
        try:
            self._store.note(self._waiting).result()
            self._waiting = []
        except sqlite3.Error as error:
            _log.warning("%d changes are not written down yet: %s", len(self._waiting), error)
            del self._waiting[:-_MOST_WAITING]


def _ordered(identity: bytes, change: Change, number: int | None) -> Noted:
    return Noted(
        identity,
        parse_date_ms(change.time) or 0,
        number,
        change.number,
        change.command,
        _clean(change.flag),
        _clean(change.by),
        _clean(change.reason),
        _clean(change.summary),
        _clean(change.before),
        _clean(change.after),
    )


def _differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, tuple[str | None, str | None]]:
    """Key -> its value before and after as JSON text, of those that say something else; None: not there."""
    texts = {
        key: (_text(old[key]) if key in old else None, _text(new[key]) if key in new else None)
        for key in [*new, *(key for key in old if key not in new)]
    }
    return {key: (was, now) for key, (was, now) in texts.items() if was != now}


def _explains(change: Change, now: str) -> bool:
    """Whether the flag is as the change left it, or off by it: of a bad file only that is served.

    What has tripped, or is held, is served on top of it, whoever changed the flag.
    """
    left, is_now = _without_trips(change.after), _without_trips(now)
    return edits.same(left, is_now) or _is_on(left) is _is_on(is_now) is False


def _without_trips(text: str) -> str:
    flag = json.loads(text)
    guard = flag.get("guard") if isinstance(flag, dict) else None
    if not isinstance(guard, dict) or guard.keys().isdisjoint(_FOUND):
        return text
    return json.dumps({**flag, "guard": {name: value for name, value in guard.items() if name not in _FOUND}})


def _said(was: str | None, now: str | None) -> str:
    if was is None or now is None:
        return "added" if was is None else "removed"
    if _is_on(was) is _is_on(now):
        return "edited"
    return "enabled -> disabled" if _is_on(was) else "disabled -> enabled"


def _is_on(flag: str) -> bool:
    return json.loads(flag).get("enabled") is not False


def _text(value: Any) -> str | None:
    return None if value is None else json.dumps(value, sort_keys=True)


def _clean(text: str) -> str:
    """``text`` without lone surrogates, which no database takes: names of users can have them."""
    return text.encode("utf-8", "replace").decode()
