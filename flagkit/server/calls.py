"""What the gates of all processes have counted, added up by flag, variant and hour: a table's rows, in and out.

Each summary is taken once by its event's id. Space is bounded: of rows and of ids the oldest give way. ``store`` calls
``add`` within its transaction, ``summary`` reads through its own connection.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple

from flagkit.production.metrics import Sums

#: The name of the metric events that are such summaries.
NAME: Final = "flagkit.calls"
HOUR_MS: Final = 3_600_000
#: Rows and ids that are kept; a row is a flag, variant and hour.
MOST_ROWS: Final = 100_000
MOST_IDS: Final = 200_000

TABLES: Final = """
CREATE TABLE IF NOT EXISTS calls (
    flag TEXT NOT NULL, variant TEXT NOT NULL, hour INTEGER NOT NULL, sums TEXT NOT NULL, UNIQUE (flag, variant, hour));
CREATE TABLE IF NOT EXISTS calls_taken (id BLOB NOT NULL UNIQUE);
"""
_TAKEN: Final = "INSERT OR IGNORE INTO calls_taken VALUES (?)"
_FORGET: Final = "DELETE FROM calls_taken WHERE rowid <= ?"
_ROW: Final = "SELECT rowid, sums FROM calls WHERE flag = ? AND variant = ? AND hour = ?"
_NEW: Final = "INSERT INTO calls VALUES (?, ?, ?, ?)"
_MORE: Final = "UPDATE calls SET sums = ? WHERE rowid = ?"
_DROP: Final = "DELETE FROM calls WHERE rowid <= ?"
_READ: Final = """
SELECT flag, variant, hour, sums FROM calls WHERE hour >= :hour AND (:flag IS NULL OR flag = :flag)
ORDER BY flag, variant, hour"""


class Counted(NamedTuple):
    """One process's summary of a flag and variant, at ``time_ms``; ``id``: of its event."""

    id: bytes
    flag: str
    variant: str
    time_ms: int
    sums: Sums


def add(connection: sqlite3.Connection, summaries: Iterable[Counted]) -> int:
    """Add summaries that were not there before; return how many those were. Raises: sqlite3.Error."""
    added = 0
    for identity, flag, variant, time_ms, sums in summaries:
        taken = connection.execute(_TAKEN, (identity,))
        if not taken.rowcount:
            continue
        added += 1
        connection.execute(_FORGET, ((taken.lastrowid or 0) - MOST_IDS,))
        place = (flag, variant, time_ms // HOUR_MS)
        row = connection.execute(_ROW, place).fetchone()
        if row is None:
            made = connection.execute(_NEW, (*place, _text(sums)))
            connection.execute(_DROP, ((made.lastrowid or 0) - MOST_ROWS,))
        else:
            connection.execute(_MORE, (_text(_sums(row[1]).plus(sums)), row[0]))
    return added


def read(connection: sqlite3.Connection, flag: str | None, since_ms: int) -> dict[str, Any]:
    """What ``GET /v1/summary`` says of calls: flag -> variant -> figures, of whole hours. Raises: sqlite3.Error."""
    told: dict[str, Any] = {}
    totals: dict[tuple[str, str], Sums] = {}
    for name, variant, hour, text in connection.execute(_READ, {"flag": flag, "hour": since_ms // HOUR_MS}):
        sums = _sums(text)
        totals[name, variant] = totals.get((name, variant), Sums()).plus(sums)
        hours = told.setdefault(name, {}).setdefault(variant, {"hours": []})["hours"]
        hours.append({"hour": hour, "calls": sums.calls, "failures": sums.failures, **sums.times()})
    for (name, variant), sums in totals.items():
        figures = {"calls": sums.calls, "failures": sums.failures, "errors": sums.errors, "places": sums.places}
        told[name][variant] = {**figures, **sums.times(), **told[name][variant]}
    return told


def _text(sums: Sums) -> str:
    return json.dumps(sums.to_json(), separators=(",", ":"))


def _sums(text: str) -> Sums:
    row: Mapping[str, Any] = json.loads(text)
    return Sums(row["errors"], row["places"], {int(bucket): count for bucket, count in row["buckets"].items()})
