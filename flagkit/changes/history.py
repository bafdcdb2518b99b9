"""The history of a definitions file, as values: who changed which flag, when, why, and what it was before and after.

Pure: lines of JSON in and out. ``logbook`` keeps them on disk, ``orders`` goes back by them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from flagkit.dialects import edits


class Author(NamedTuple):
    """Who makes a change, why, with which command, and under which request id, if it came with one."""

    by: str
    reason: str
    command: str
    request: str = ""


class Change(NamedTuple):
    """One line of the history. ``before`` and ``after`` are the flag as written, ``document_*`` SHA-256 of the file."""

    number: int
    time: str
    by: str
    reason: str
    command: str
    flag: str
    summary: str
    before: str
    after: str
    document_before: str
    document_after: str
    request: str = ""

    def record(self) -> dict[str, Any]:
        """As it is written: a request id only where there is one."""
        record = self._asdict()
        if not self.request:
            del record["request"]
        return record


class History(NamedTuple):
    """The changes, oldest first, and how many lines could not be read (a crash can leave half a line)."""

    changes: tuple[Change, ...]
    unread: int

    def of(self, flag: str) -> tuple[Change, ...]:
        return tuple(change for change in self.changes if change.flag == flag)

    def requested(self, request: str) -> Change | None:
        """The change made under this request id; None for the empty one."""
        return next((change for change in self.changes if request and change.request == request), None)


def history_from(data: bytes) -> History:
    """The history written in ``data``. Raises: nothing; what cannot be read is counted."""
    changes, unread = [], 0
    for line in data.splitlines():
        try:
            changes.append(_change(json.loads(line)))
        except (ValueError, TypeError, RecursionError):
            unread += bool(line.strip())
    return History(tuple(changes), unread)


def undoing(change: Change, history: History) -> tuple[str, ...]:
    """The command that undoes ``change``, without saying where. A revert is not undone by a second one."""
    words = ("revert", change.flag)
    if change.command != "revert":
        return words
    earlier = [each for each in history.of(change.flag) if each.number < change.number]
    known = bool(earlier) and edits.same(earlier[-1].after, change.before)
    return (*words, "--to", str(earlier[-1].number)) if known else (*words, "--force")


def _change(record: Mapping[str, Any]) -> Change:
    """Raises: TypeError, ValueError: not a change."""
    change = Change(**record)
    if not isinstance(change.number, int) or not all(isinstance(value, str) for value in change[1:]):
        raise TypeError("expected a number and texts")
    json.loads(change.before)
    json.loads(change.after)
    return change
