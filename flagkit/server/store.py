"""Where everything is kept: one SQLite file in WAL mode, written by one thread that commits in groups.

It owns the tables, the writer and the rule "stored once by event id". Whoever hands in work gets a future that is done
when the commit is on disk; requests that arrive together share one. It knows rows, not requests; the summary reads
the same file through a connection of its own.
"""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import sqlite3
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, Final, NamedTuple, TypeAlias

from flagkit.errors import ConfigError
from flagkit.server import calls, enrolments
from flagkit.server.intake import Received
from flagkit.server.trips import Trip

_log = logging.getLogger("flagkit")

_VERSION: Final = 1
_GROUP: Final = 64  # pieces of work in one transaction, at most: bounds how long the first one waits
_ROWS: Final = 200  # rows in one INSERT: it runs without the interpreter's lock from the first row to the last

# An event's row keeps the place of its batch, not the 32 characters of its id. `hour` is computed, not stored.
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS definitions (
    only INTEGER PRIMARY KEY CHECK (only = 1), epoch TEXT NOT NULL, number INTEGER NOT NULL, content BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS batches (
    batch INTEGER PRIMARY KEY, batch_id TEXT NOT NULL UNIQUE, received_ms INTEGER NOT NULL, sent_at INTEGER,
    events INTEGER NOT NULL, accepted INTEGER NOT NULL, duplicates INTEGER NOT NULL, deliveries INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS dropped (reason TEXT PRIMARY KEY, events INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS exposures (
    id BLOB NOT NULL UNIQUE, flag TEXT NOT NULL, variant TEXT NOT NULL, reason TEXT NOT NULL, rule TEXT, assigned TEXT,
    analysable INTEGER NOT NULL, version TEXT, unit TEXT NOT NULL, environment TEXT, time_ms INTEGER NOT NULL,
    batch INTEGER NOT NULL, hour INTEGER AS (time_ms / 3600000) VIRTUAL);
CREATE INDEX IF NOT EXISTS exposures_by_unit ON exposures (flag, unit, time_ms, variant);
CREATE TABLE IF NOT EXISTS metrics (
    id BLOB NOT NULL UNIQUE, name TEXT NOT NULL, unit TEXT, value REAL, properties TEXT NOT NULL, environment TEXT,
    time_ms INTEGER NOT NULL, batch INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS changes (
    id BLOB NOT NULL UNIQUE, time_ms INTEGER NOT NULL, number INTEGER, change INTEGER, command TEXT NOT NULL, flag TEXT,
    who TEXT, why TEXT, summary TEXT NOT NULL, before TEXT, after TEXT);
CREATE TABLE IF NOT EXISTS trips (
    flag TEXT NOT NULL, candidate TEXT NOT NULL, revision INTEGER NOT NULL, why TEXT NOT NULL,
    PRIMARY KEY (flag, candidate)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS trials (place TEXT PRIMARY KEY, state BLOB NOT NULL, heard_ms INTEGER NOT NULL);
CREATE INDEX IF NOT EXISTS trials_by_time ON trials (heard_ms);
"""
_EXPOSURES: Final = "exposures (id,flag,variant,reason,rule,assigned,analysable,version,unit,environment,time_ms,batch)"
_METRICS: Final = "metrics (id,name,unit,value,properties,environment,time_ms,batch)"
_NOTE: Final = "INSERT OR IGNORE INTO changes VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_TRIAL: Final = "SELECT state FROM trials WHERE place = ?"
_REMEMBER: Final = "INSERT OR REPLACE INTO trials VALUES (?, ?, ?)"
#: Trials remembered, at most: those heard of last.
_MOST_TRIALS: Final = 2000
_FORGET: Final = "DELETE FROM trials WHERE rowid IN (SELECT rowid FROM trials ORDER BY heard_ms DESC LIMIT -1 OFFSET ?)"
_TRIPS: Final = "SELECT flag, candidate, revision, why FROM trips"
_KEEP_TRIP: Final = "INSERT OR REPLACE INTO trips VALUES (?, ?, ?, ?)"
_NOTED: Final = "SELECT id FROM changes"


class Numbered(NamedTuple):
    """Accepted definitions: ``number`` counts the contents accepted in this ``epoch``, the life of one database."""

    epoch: str
    number: int
    content: bytes


Work: TypeAlias = Callable[[sqlite3.Connection], Any]


class Store:
    """The database. ``open`` it before use and ``close`` it after; every other method is thread-safe.

    max_units: enrolled in a flag at any time, by events; further ones are refused, and counted.
    """

    def __init__(self, path: Path, now_ms: Callable[[], int], max_units: int = 10_000) -> None:
        self.path = path
        self._max_units = max_units
        self._now_ms = now_ms
        self._queue: SimpleQueue[tuple[Work, Future[Any]] | None] = SimpleQueue()
        self._writer: threading.Thread | None = None
        self._storing = 0
        #: Events stored, over the life of the database.
        self.stored = 0
        #: Whether the last commit worked.
        self.healthy = True

    def open(self) -> None:
        """Make or open the file and start the writer. Raises: ConfigError when it is not a database of ours."""
        try:
            # The file holds units, so it is made for its owner only; SQLite gives its side files the same mode.
            os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
            connection = sqlite3.connect(
                self.path, timeout=5.0, isolation_level=None, check_same_thread=False, cached_statements=512
            )
            try:
                self.stored = _prepare(connection)
            except BaseException:
                connection.close()
                raise
        except (OSError, sqlite3.Error) as error:
            raise ConfigError("db", str(self.path), f"a file that SQLite can use ({error})") from error
        self._writer = threading.Thread(target=self._write, args=(connection,), name="flagkit-writer", daemon=True)
        self._writer.start()

    def close(self) -> None:
        """Return when all work handed in is committed and the file is closed. A second call does nothing."""
        if self._writer is not None:
            self._queue.put(None)
            self._writer.join()
            self._writer = None

    def add(self, received: Received, offered: frozenset[str] = frozenset()) -> Future[int]:
        """Store a batch; the result is the number of events that were not there before.

        offered: the flags in which units may enrol.

        The same batch may come again: its events are there already, and its counts are not taken twice.
        The future raises sqlite3.Error when nothing was stored.
        """
        return self.submit(lambda connection: self._add(connection, received, offered))

    def accepted(self) -> Numbered | None:
        """The definitions accepted last, also by an earlier process. Raises: sqlite3.Error."""
        row: Numbered | None = self.submit(_numbered).result()
        return row

    def accept(self, content: bytes, at_least: int = 1) -> Numbered:
        """Number ``content``: one more than before, unless it is what was accepted last. Raises: sqlite3.Error.

        at_least: a number that is not to be fallen short of, because smaller ones have been served.
        """
        row: Numbered = self.submit(lambda connection: _accept(connection, content, at_least)).result()
        return row

    def note(self, changes: Sequence[tuple[Any, ...]]) -> Future[None]:
        """Store changes of the definitions, rows of the table, each once by its id. The future raises sqlite3.Error."""
        rows = list(changes)
        return self.submit(lambda connection: connection.executemany(_NOTE, rows) and None)

    def noted(self) -> set[bytes]:
        """The ids of the changes stored. Raises: sqlite3.Error."""
        rows: list[tuple[bytes]] = self.submit(lambda connection: list(connection.execute(_NOTED))).result()
        return {identity for (identity,) in rows}

    def trial(self, place: str) -> bytes | None:
        """What a judge last remembered of a trial. Raises: sqlite3.Error."""
        row = self.submit(lambda connection: connection.execute(_TRIAL, (place,)).fetchone()).result()
        return None if row is None else bytes(row[0])

    def remember(self, place: str, state: bytes, heard_ms: int) -> Future[None]:
        """Keep what a judge remembers of a trial, the oldest of many giving way. The future raises sqlite3.Error."""

        def work(connection: sqlite3.Connection) -> None:
            connection.execute(_REMEMBER, (place, state, heard_ms))
            connection.execute(_FORGET, (_MOST_TRIALS,))

        return self.submit(work)

    def trips(self) -> list[Trip]:
        """What has tripped, by flag and candidate. Raises: sqlite3.Error."""
        rows = self.submit(lambda connection: list(connection.execute(_TRIPS))).result()
        return [Trip(*row) for row in rows]

    def keep_trip(self, trip: Trip) -> Future[None]:
        """Remember it, in place of an earlier one of the candidate's. The future raises sqlite3.Error."""
        return self.submit(lambda connection: connection.execute(_KEEP_TRIP, trip) and None)

    def members(self) -> dict[str, list[str]]:
        """The units enrolled, by flag. Raises: sqlite3.Error."""
        found: dict[str, list[str]] = self.submit(enrolments.members).result()
        return found

    def refused(self) -> int:
        """How many enrolments there was no room for. Raises: sqlite3.Error."""
        count: int = self.submit(enrolments.refused).result()
        return count

    def submit(self, work: Work) -> Future[Any]:
        """Run ``work`` on the writer's connection, in one transaction with whatever else waits."""
        future: Future[Any] = Future()
        self._queue.put((work, future))
        return future

    def _add(self, connection: sqlite3.Connection, received: Received, offered: frozenset[str]) -> int:
        events = len(received.exposures) + len(received.metrics) + len(received.calls)
        known = connection.execute("SELECT batch FROM batches WHERE batch_id = ?", (received.id,)).fetchone()
        if known is None:
            head = (received.id, self._now_ms(), received.sent_at_ms, events + len(received.rejected), events)
            batch = connection.execute(
                "INSERT INTO batches (batch_id, received_ms, sent_at, events, accepted, duplicates, deliveries)"
                " VALUES (?, ?, ?, ?, ?, 0, 1)",
                head,
            ).lastrowid
            connection.executemany(
                "INSERT INTO dropped VALUES (?, ?) ON CONFLICT DO UPDATE SET events = events + excluded.events",
                received.dropped.items(),
            )
        else:
            batch = known[0]
        if received.enrolments:
            enrolments.Entering(connection, offered, self._max_units).enter(received.enrolments, self._now_ms())
        stored = _insert(connection, _EXPOSURES, received.exposures, batch)
        stored += _insert(connection, _METRICS, received.metrics, batch)
        stored += calls.add(connection, received.calls)
        if known is None and stored < events:
            connection.execute("UPDATE batches SET duplicates = ? WHERE batch = ?", (events - stored, batch))
        elif known is not None:
            # accepted - duplicates is what the batch stored, whatever a retry under the same id contained.
            connection.execute(
                "UPDATE batches SET deliveries = deliveries + 1, events = events + ?1, accepted = accepted + ?1"
                " WHERE batch = ?2",
                (stored, batch),
            )
        self._storing += stored
        return stored

    def _write(self, connection: sqlite3.Connection) -> None:
        with contextlib.closing(connection):
            while (job := self._queue.get()) is not None:
                group = [job]
                with contextlib.suppress(Empty):
                    while len(group) < _GROUP:
                        if (job := self._queue.get_nowait()) is None:
                            self._queue.put(None)  # the group first, then the end
                            break
                        group.append(job)
                # A caller that gave up before its turn stores nothing, and will come again.
                self._commit(connection, [job for job in group if job[1].set_running_or_notify_cancel()])

    def _commit(self, connection: sqlite3.Connection, group: list[tuple[Work, Future[Any]]]) -> None:
        self._storing = 0
        try:
            connection.execute("BEGIN IMMEDIATE")
            results = [work(connection) for work, _ in group]
            connection.execute("COMMIT")
        except Exception as error:  # noqa: BLE001 - the writer's loop body: whatever fails, the next group gets its turn
            with contextlib.suppress(sqlite3.Error):
                connection.execute("ROLLBACK")
            if len(group) > 1:  # one piece of work must not cost the others theirs
                for job in group:
                    self._commit(connection, [job])
                return
            if self.healthy:
                _log.error("the store cannot write: %s", error)
            self.healthy = False
            for _, future in group:
                future.set_exception(error)
            return
        if not self.healthy:
            _log.warning("the store can write again")
        self.healthy = True
        self.stored += self._storing
        for (_, future), result in zip(group, results, strict=True):
            future.set_result(result)


def _prepare(connection: sqlite3.Connection) -> int:
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if version not in (0, _VERSION):
        raise sqlite3.DatabaseError(f"its tables have version {version}, this service knows version {_VERSION}")
    if version == 0 and connection.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()[0]:
        raise sqlite3.DatabaseError("it holds the tables of something else")
    connection.execute("PRAGMA journal_mode = WAL")
    # An answered batch outlives a power cut: each commit reaches the disk, and a group shares its cost.
    connection.execute("PRAGMA synchronous = FULL")
    connection.executescript(
        f"BEGIN IMMEDIATE; {_SCHEMA} {enrolments.SCHEMA} {calls.TABLES} PRAGMA user_version = {_VERSION}; COMMIT;"
    )
    return int(connection.execute("SELECT COALESCE(SUM(accepted - duplicates), 0) FROM batches").fetchone()[0])


def _insert(connection: sqlite3.Connection, table: str, rows: Sequence[tuple[Any, ...]], batch: int | None) -> int:
    stored = 0
    for start in range(0, len(rows), _ROWS):
        part = rows[start : start + _ROWS]
        marks = f"({'?,' * len(part[0])}?)"
        values = [value for row in part for value in (*row, batch)]
        statement = f"INSERT OR IGNORE INTO {table} VALUES {','.join([marks] * len(part))}"  # noqa: S608 - marks only
        stored += connection.execute(statement, values).rowcount
    return stored


def _numbered(connection: sqlite3.Connection) -> Numbered | None:
    row = connection.execute("SELECT epoch, number, content FROM definitions").fetchone()
    return None if row is None else Numbered(*row)


def _accept(connection: sqlite3.Connection, content: bytes, at_least: int) -> Numbered:
    last = _numbered(connection) or Numbered(secrets.token_hex(8), 0, b"")
    if last.content == content and last.number >= at_least:
        return last
    accepted = Numbered(last.epoch, max(last.number + 1, at_least), content)
    connection.execute("INSERT OR REPLACE INTO definitions VALUES (1, ?, ?, ?)", accepted)
    return accepted
