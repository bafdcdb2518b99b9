"""What the stored events say: units, exposures and calls by flag, variant and hour, metric events joined, changes.

It only reads, through a connection that cannot write and does not block the writer, and in one transaction, so that the
figures belong together. The application calls it on the thread that owns the connection.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, NamedTuple

from flagkit.server import calls

_UNITS: Final = "SELECT COUNT(DISTINCT unit), COUNT(*) FROM exposures WHERE flag = :flag AND time_ms >= :since_ms"
_VARIANTS: Final = """
SELECT variant, COUNT(DISTINCT unit), COUNT(*) FROM exposures WHERE flag = :flag AND time_ms >= :since_ms
GROUP BY variant ORDER BY variant"""
_HOURS: Final = """
SELECT variant, hour, COUNT(DISTINCT unit), COUNT(*) FROM exposures WHERE flag = :flag AND time_ms >= :since_ms
GROUP BY variant, hour ORDER BY hour"""
# Where each unit was first. `variant` beside MIN is that of the row which has the minimum: SQLite promises it.
_FIRST: Final = """
CREATE TEMP TABLE first AS
SELECT unit, variant, MIN(time_ms) AS since_ms FROM exposures WHERE flag = :flag AND time_ms >= :since_ms
GROUP BY unit"""
_FIRST_UNITS: Final = "SELECT variant, COUNT(*) FROM first GROUP BY variant"
_METRICS: Final = """
SELECT variant, name, COUNT(DISTINCT metrics.unit), COUNT(*), SUM(value), AVG(value)
FROM metrics JOIN first ON metrics.unit = first.unit AND metrics.time_ms >= first.since_ms
WHERE name NOT IN ('flagkit.feedback', 'flagkit.enrolment')
GROUP BY variant, name ORDER BY name"""
# What users say of a flag names it and the variant they had. CASE: what other events hold may be no JSON to SQLite.
_FEEDBACK: Final = """
SELECT flag, COALESCE(variant, ''), COUNT(DISTINCT unit), COUNT(*), COUNT(value), AVG(value), COUNT(text) FROM (
    SELECT unit, value, CASE name WHEN 'flagkit.feedback' THEN json_extract(properties, '$.flag') END AS flag,
        CASE name WHEN 'flagkit.feedback' THEN json_extract(properties, '$.variant') END AS variant,
        CASE name WHEN 'flagkit.feedback' THEN json_extract(properties, '$.text') END AS text
    FROM metrics WHERE name = 'flagkit.feedback' AND time_ms >= :since_ms)
WHERE :flag IS NULL OR flag = :flag GROUP BY flag, variant ORDER BY flag, variant"""
_ENROLLED: Final = """
SELECT flag, units AS enrolled, opted_out, refused FROM enrolled WHERE :flag IS NULL OR flag = :flag ORDER BY flag"""
_STORED: Final = "SELECT (SELECT COUNT(*) FROM exposures) AS exposures, (SELECT COUNT(*) FROM metrics) AS metrics"
_RECEIVED: Final = """
SELECT COUNT(*) AS batches, COALESCE(SUM(deliveries), 0) AS deliveries, COALESCE(SUM(events), 0) AS events,
    COALESCE(SUM(accepted), 0) AS accepted, COALESCE(SUM(duplicates), 0) AS duplicates FROM batches"""
# The newest ones, oldest first.
_CHANGES: Final = """
SELECT * FROM (
    SELECT rowid AS place, time_ms, number, change, command, flag, who AS by, why AS reason, summary, before, after
    FROM changes WHERE time_ms >= :since_ms AND (:flag IS NULL OR flag = :flag) ORDER BY place DESC LIMIT :most)
ORDER BY place"""
_COUNT_CHANGES: Final = """
SELECT COUNT(*) FROM changes WHERE time_ms >= :since_ms AND (:flag IS NULL OR flag = :flag)"""
_MOST_CHANGES: Final = 1000


class Question(NamedTuple):
    """What to sum up: one flag or all (None), and only what happened at ``since_ms`` or later."""

    flag: str | None = None
    since_ms: int = 0


def summarise(path: Path, question: Question) -> dict[str, Any]:
    """The answer to ``GET /v1/summary``, as JSON values.

    A unit counts once in each figure, however many hours it was seen in. A metric event belongs to the variant its unit
    was exposed to first, if that was not after the event. Cost: reads every exposure asked about; seconds for millions.
    Calls are those of whole hours. Raises: sqlite3.Error.
    """
    with _reading(path) as connection:
        flags = [flag for (flag,) in connection.execute("SELECT DISTINCT flag FROM exposures ORDER BY flag")]
        if question.flag is not None:
            flags = [flag for flag in flags if flag == question.flag]
        return {
            **question._asdict(),
            "flags": {flag: _of_flag(connection, question._replace(flag=flag)) for flag in flags},
            "calls": _calls(connection, question),
            "stored": _row(connection, _STORED),
            "received": _row(connection, _RECEIVED),
            "feedback": _feedback(connection, question),
            "early_access": _early_access(connection, question),
            "dropped": dict(connection.execute("SELECT reason, events FROM dropped ORDER BY reason")),
            "changes": [_without(change, "before", "after") for change in _changes(connection, question)],
        }


def changes_of(path: Path, question: Question) -> dict[str, Any]:
    """The answer to ``GET /v1/changes``: the newest changes of the definitions, oldest first, and how many are older.

    Raises: sqlite3.Error.
    """
    with _reading(path) as connection:
        changes = _changes(connection, question)
        (found,) = connection.execute(_COUNT_CHANGES, question._asdict()).fetchone()
        return {**question._asdict(), "changes": changes, "older": found - len(changes)}


def _of_flag(connection: sqlite3.Connection, question: Question) -> dict[str, Any]:
    asked = question._asdict()
    units, exposures = connection.execute(_UNITS, asked).fetchone()
    variants: dict[str, dict[str, Any]] = {
        variant: {"units": units, "exposures": exposures, "hours": [], "metrics": {}}
        for variant, units, exposures in connection.execute(_VARIANTS, asked)
    }
    for variant, hour, hour_units, hour_exposures in connection.execute(_HOURS, asked):
        row = {"hour": _hour_text(hour), "units": hour_units, "exposures": hour_exposures}
        variants[variant]["hours"].append(row)
    connection.execute(_FIRST, asked)
    first_units = dict(connection.execute(_FIRST_UNITS))
    for variant, name, with_event, events, total, mean in connection.execute(_METRICS):
        variants[variant]["metrics"][name] = {
            "units": first_units[variant],
            "units_with_event": with_event,
            "events": events,
            "sum": total,
            "mean": mean,
        }
    connection.execute("DROP TABLE first")
    return {"units": units, "exposures": exposures, "variants": variants}


def _feedback(connection: sqlite3.Connection, question: Question) -> dict[str, dict[str, Any]]:
    """Flag -> variant ("" when there was none) -> what users said."""
    found: dict[str, dict[str, Any]] = {}
    for flag, variant, *figures in connection.execute(_FEEDBACK, question._asdict()):
        names = ("units", "events", "scores", "mean", "texts")
        found.setdefault(flag, {})[variant] = dict(zip(names, figures, strict=True))
    return found


def _early_access(connection: sqlite3.Connection, question: Question) -> dict[str, dict[str, int]]:
    cursor = connection.execute(_ENROLLED, {"flag": question.flag})
    return {
        flag: {"enrolled": enrolled, "opted_out": opted_out, "refused": refused}
        for flag, enrolled, opted_out, refused in cursor
    }


def _calls(connection: sqlite3.Connection, question: Question) -> dict[str, Any]:
    told = calls.read(connection, question.flag, question.since_ms)
    for hour in (hour for flag in told.values() for figures in flag.values() for hour in figures["hours"]):
        hour["hour"] = _hour_text(hour["hour"])
    return told


def _changes(connection: sqlite3.Connection, question: Question) -> list[dict[str, Any]]:
    cursor = connection.execute(_CHANGES, {**question._asdict(), "most": _MOST_CHANGES})
    names = [column[0] for column in cursor.description]
    rows = [dict(zip(names, row, strict=True)) for row in cursor]
    return [{"time": _time_text(row["time_ms"]), **_without(row, "place")} for row in rows]


def _without(row: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name not in names}


def _row(connection: sqlite3.Connection, query: str) -> dict[str, int]:
    cursor = connection.execute(query)
    return dict(zip((column[0] for column in cursor.description), cursor.fetchone(), strict=True))


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=5.0, isolation_level=None)
    with contextlib.closing(connection):
        connection.execute("BEGIN")
        yield connection


def _hour_text(hour: int) -> str:
    return _time_text(hour * 3_600_000)


def _time_text(ms: int) -> str:
    return datetime.fromtimestamp(ms // 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
