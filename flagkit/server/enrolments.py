"""Who is enrolled in which flag: the rows, and the rule by which an event changes them.

For each flag and unit the latest word counts, by the time of the event, whatever order events arrive in and however
often; of two of the same millisecond, the one that opts out. Opting out is never refused; opting in is, when a flag or
all of them together have as many units as they may. ``store`` calls it on the writer's connection, inside the
transaction that stores the batch; it knows no definitions and no HTTP.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable
from typing import Final, NamedTuple

#: What the units enrolled may take in the definitions, all flags together, in bytes of JSON. Those are sent to
#: everyone, and clients refuse more than they have asked for: early access must not cost anybody the kill switch.
MOST_BYTES: Final = 2 * 1024 * 1024
SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS enrolments (
    flag TEXT NOT NULL, unit TEXT NOT NULL, enrolled INTEGER NOT NULL, time_ms INTEGER NOT NULL,
    PRIMARY KEY (flag, unit)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS enrolled (
    flag TEXT PRIMARY KEY, units INTEGER NOT NULL, opted_out INTEGER NOT NULL, bytes INTEGER NOT NULL,
    refused INTEGER NOT NULL) WITHOUT ROWID;
"""
_KNOWN: Final = "SELECT enrolled, time_ms FROM enrolments WHERE flag = ? AND unit = ?"
_PUT: Final = "INSERT OR REPLACE INTO enrolments VALUES (?, ?, ?, ?)"
_COUNT: Final = """
INSERT INTO enrolled VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT DO UPDATE SET units = units + ?2,
    opted_out = opted_out + ?3, bytes = bytes + ?4, refused = refused + ?5"""
_UNITS: Final = "SELECT units FROM enrolled WHERE flag = ?"
_BYTES: Final = "SELECT flag, bytes FROM enrolled"
_MET: Final = "SELECT 1 FROM metrics WHERE id = ?"
_MEMBERS: Final = "SELECT flag, unit FROM enrolments WHERE enrolled ORDER BY flag, unit"


class Enrolment(NamedTuple):
    """One event: this unit opts in to a flag, or out of it. ``id``: of the event; time_ms: since 1970, as it says."""

    id: bytes
    flag: str
    unit: str
    enrolled: bool
    time_ms: int


def members(connection: sqlite3.Connection) -> dict[str, list[str]]:
    """The units enrolled, sorted, by flag. Raises: sqlite3.Error."""
    found: dict[str, list[str]] = {}
    for flag, unit in connection.execute(_MEMBERS):
        found.setdefault(flag, []).append(unit)
    return found


def refused(connection: sqlite3.Connection) -> int:
    """How many enrolments there was no room for. Raises: sqlite3.Error."""
    return int(connection.execute("SELECT COALESCE(SUM(refused), 0) FROM enrolled").fetchone()[0])


class Entering:
    """Events being entered, within one transaction.

    Args: offered, the flags in which units may enrol; max_units, enrolled at a time in each of them.
    """

    def __init__(self, connection: sqlite3.Connection, offered: frozenset[str], max_units: int) -> None:
        self._connection = connection
        self._offered = offered
        self._max_units = max_units

    def enter(self, events: Iterable[Enrolment], now_ms: int) -> None:
        """Let events count that came at ``now_ms``, before their batch is stored. Raises: sqlite3.Error."""
        for event in events:
            # Events that are stored have counted. Of one that comes again, the time would depend on when it comes.
            if event.flag in self._offered and self._connection.execute(_MET, (event.id,)).fetchone() is None:
                # Not later than now, or a clock in the future would have the last word for ever.
                self._enter(event._replace(time_ms=min(event.time_ms, now_ms)))

    def _enter(self, event: Enrolment) -> None:
        known = self._connection.execute(_KNOWN, (event.flag, event.unit)).fetchone()
        was_in, was_out = (False, False) if known is None else (bool(known[0]), not known[0])
        if known is not None and (event.time_ms, not event.enrolled) <= (known[1], was_out):
            return
        size = len(json.dumps(event.unit)) + 1
        if event.enrolled and not was_in and not self._has_room(event.flag, size):
            self._connection.execute(_COUNT, (event.flag, 0, 0, 0, 1))
            return
        self._connection.execute(_PUT, (event.flag, event.unit, event.enrolled, event.time_ms))
        more = event.enrolled - was_in
        self._connection.execute(_COUNT, (event.flag, more, (not event.enrolled) - was_out, more * size, 0))

    def _has_room(self, flag: str, size: int) -> bool:
        units = self._connection.execute(_UNITS, (flag,)).fetchone()
        taken = sum(each for key, each in self._connection.execute(_BYTES) if key in self._offered)
        return (0 if units is None else units[0]) < self._max_units and taken + size <= MOST_BYTES
