"""The database: stored once, committed in groups, and never half."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from server_events import batch, exposure, metric

from flagkit.errors import ConfigError
from flagkit.server.intake import Received, read_batch
from flagkit.server.store import Store

BATCHES = "SELECT events, accepted, duplicates, deliveries FROM batches"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(tmp_path / "flagkit.db", lambda: 1_000)
    store.open()
    yield store
    store.close()


@pytest.fixture
def held(store: Store) -> Iterator[threading.Event]:
    """While this is not set, the writer is busy: what is handed in then becomes one group."""
    busy, release = threading.Event(), threading.Event()

    def hold(_: sqlite3.Connection) -> None:
        busy.set()
        release.wait(10)

    store.submit(hold)
    busy.wait(10)
    yield release
    release.set()


def received(*events: dict, batch_id: str | None = None, dropped: dict[str, int] | None = None) -> Received:
    return read_batch(batch(*events, batch_id=batch_id, dropped=dropped), "")


def rows(store: Store, query: str) -> list[tuple]:
    connection = sqlite3.connect(store.path)
    try:
        return connection.execute(query).fetchall()
    finally:
        connection.close()


def test_an_event_is_in_the_file_when_its_future_is_done(store):
    assert store.add(received(exposure(), metric())).result(10) == 2
    assert rows(store, "SELECT flag, unit, time_ms / 3600000 = hour FROM exposures") == [("checkout", "user-1", 1)]
    assert rows(store, "SELECT name, unit FROM metrics") == [("purchase", "user-1")]
    assert store.stored == 2


def test_an_event_is_stored_once_whoever_sends_it(store):
    event = exposure()
    assert store.add(received(event)).result(10) == 1
    assert store.add(received(event, exposure(unit="other"))).result(10) == 1
    assert rows(store, BATCHES) == [(1, 1, 0, 1), (2, 2, 1, 1)]
    assert store.stored == 2


def test_an_id_that_stands_twice_in_a_batch_is_stored_once(store):
    assert store.add(received(exposure(), exposure())).result(10) == 1
    assert rows(store, BATCHES) == [(2, 2, 1, 1)]


def test_the_same_batch_again_counts_as_a_delivery_and_as_nothing_else(store):
    again = received(exposure(), metric(), exposure(time_ms=-1), batch_id="b-1", dropped={"full": 3})
    for _ in range(3):
        store.add(again).result(10)
    assert rows(store, BATCHES) == [(3, 2, 0, 3)]
    assert rows(store, "SELECT * FROM dropped") == [("full", 3)]
    assert store.stored == 2


def test_new_events_under_a_known_batch_id_are_not_lost(store):
    store.add(received(exposure(unit="a"), batch_id="b-1")).result(10)
    store.add(received(exposure(unit="a"), exposure(unit="b"), batch_id="b-1")).result(10)
    assert rows(store, BATCHES) == [(2, 2, 0, 2)]
    assert rows(store, "SELECT unit FROM exposures ORDER BY unit") == [("a",), ("b",)]


def test_what_clients_lost_is_summed_by_reason(store):
    store.add(received(dropped={"full": 3, "too_large": 1})).result(10)
    store.add(received(dropped={"full": 4})).result(10)
    assert rows(store, "SELECT * FROM dropped ORDER BY reason") == [("full", 7), ("too_large", 1)]


def test_a_batch_larger_than_one_statement_is_stored_whole(store):
    events = [exposure(unit=f"user-{n}") for n in range(1_001)]
    assert store.add(received(*events)).result(10) == 1_001
    assert rows(store, "SELECT COUNT(*) FROM exposures") == [(1_001,)]


def test_four_threads_with_the_same_events_store_each_once(store):
    events = [exposure(unit=f"user-{n}") for n in range(200)]
    batches = [received(*events[start : start + 20]) for start in range(0, 200, 20)]

    def send(order: int) -> int:
        shuffled = batches[order:] + batches[:order]
        return sum(store.add(one).result(10) for one in shuffled)

    with ThreadPoolExecutor(4) as threads:
        assert sum(threads.map(send, range(4))) == 200
    assert rows(store, "SELECT COUNT(*), COUNT(DISTINCT id) FROM exposures") == [(200, 200)]
    assert rows(store, "SELECT SUM(deliveries), SUM(accepted - duplicates) FROM batches") == [(40, 200)]


def test_requests_that_wait_together_share_a_commit(store, held):
    statements: list[str] = []
    store.submit(lambda connection: connection.set_trace_callback(statements.append))
    futures = [store.add(received(exposure(unit=f"user-{n}"))) for n in range(20)]
    held.set()
    assert [future.result(10) for future in futures] == [1] * 20
    store.submit(lambda connection: connection.set_trace_callback(None)).result(10)
    # The next transaction, which ends the trace, shows as a BEGIN only.
    assert statements.count("COMMIT") == 1
    assert sum(statement.startswith("INSERT OR IGNORE") for statement in statements) == 20


def test_work_that_fails_costs_the_others_in_its_group_nothing(store, held):
    def fail(connection: sqlite3.Connection) -> None:
        connection.execute("INSERT INTO dropped VALUES ('half', 1)")
        raise ZeroDivisionError

    before = store.add(received(exposure(unit="a")))
    failing = store.submit(fail)
    after = store.add(received(exposure(unit="b")))
    held.set()
    assert (before.result(10), after.result(10)) == (1, 1)
    assert isinstance(failing.exception(10), ZeroDivisionError)
    assert rows(store, "SELECT * FROM dropped") == []
    assert store.stored == 2


def test_a_caller_that_gave_up_stores_nothing(store, held):
    given_up = store.add(received(exposure(unit="a")))
    kept = store.add(received(exposure(unit="b")))
    assert given_up.cancel()
    held.set()
    kept.result(10)
    assert rows(store, "SELECT unit FROM exposures") == [("b",)]


def test_a_disk_that_fails_is_told_to_the_caller_and_said_once(store, caplog):
    store.submit(lambda connection: connection.execute("PRAGMA max_page_count = 1")).result(10)  # full as it is
    events = [exposure(unit=f"user-{n}") for n in range(500)]
    for _ in range(3):
        assert isinstance(store.add(received(*events)).exception(10), sqlite3.OperationalError)
    assert not store.healthy
    assert store.stored == 0
    assert rows(store, "SELECT COUNT(*) FROM exposures") == [(0,)]
    store.submit(lambda connection: connection.execute("PRAGMA max_page_count = 1000000")).result(10)
    assert store.add(received(*events)).result(10) == 500
    assert store.healthy
    assert [record.levelname for record in caplog.records] == ["ERROR", "WARNING"]


def test_closing_writes_what_was_handed_in(store, held):
    futures = [store.add(received(exposure(unit=f"user-{n}"))) for n in range(200)]
    closing = threading.Thread(target=store.close)
    closing.start()
    held.set()
    closing.join(10)
    assert sum(future.result(0) for future in futures) == 200
    assert rows(store, "SELECT COUNT(*) FROM exposures") == [(200,)]
    store.close()


def test_a_restart_remembers_events_and_how_many_there_are(store):
    event = exposure()
    store.add(received(event)).result(10)
    store.close()
    again = Store(store.path, lambda: 1_000)
    again.open()
    assert again.stored == 1
    assert again.add(received(event)).result(10) == 0
    again.close()


def test_the_file_is_for_its_owner_only(store):
    store.add(received(exposure())).result(10)
    assert {path.stat().st_mode & 0o777 for path in store.path.parent.iterdir()} == {0o600}


@pytest.mark.parametrize("kind", ["text", "directory", "later version", "tables of others", "no directory"])
def test_a_file_that_is_no_database_of_ours_is_named(tmp_path, kind):
    path = tmp_path / "flagkit.db"
    if kind == "text":
        path.write_text("definitely not a database, but long enough to be looked at " * 20)
    elif kind == "directory":
        path.mkdir()
    elif kind == "no directory":
        path = tmp_path / "missing" / "flagkit.db"
    else:
        connection = sqlite3.connect(path)
        connection.execute("PRAGMA user_version = 2" if kind == "later version" else "CREATE TABLE theirs (id)")
        connection.close()
    with pytest.raises(ConfigError, match=r"flagkit\.db") as error:
        Store(path, lambda: 0).open()
    assert error.value.field == "db"
