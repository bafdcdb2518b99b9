"""The embedded service as a process of its own: real sockets, real signals, real files."""

from __future__ import annotations

import gzip
import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import requests

from flagkit.decision import Decision, Reason
from flagkit.events import Batch, Exposure, ExposureEncoder

READ, WRITE = {"Authorization": "Bearer read-key"}, {"Authorization": "Bearer write-key"}
KEYS = {"read_keys": ["read-key"], "write_keys": ["write-key"]}
SERVE = """
import json, sys
from flagkit.errors import FlagkitError
from flagkit.server import ServerConfig, serve
settings = json.loads(sys.argv[1])
try:
    serve(ServerConfig(**settings))
except FlagkitError as error:
    sys.exit(str(error))
"""


class Running:
    """A service process and the directory it works in."""

    def __init__(self, directory: Path) -> None:
        self.path, self.db = directory / "flags.json", directory / "flagkit.db"
        self.write({"schema": 1, "environment": "production", "flags": {"checkout": {}}})
        self.process: subprocess.Popen[str] | None = None
        self.printed: list[str] = []
        self.url = ""

    def write(self, definitions: Any) -> None:
        self.path.write_text(json.dumps(definitions))

    def start(self, **settings: Any) -> None:
        given = {"definitions": str(self.path), "db": str(self.db), "port": 0, **KEYS, **settings}
        self.process = subprocess.Popen(
            [sys.executable, "-c", SERVE, json.dumps(given)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        self.printed = []
        while not self.url and (line := self.process.stdout.readline()):
            self.printed.append(line.rstrip())
            if line.startswith("listening on "):
                self.url = line.split()[-1]

    def stop(self, number: signal.Signals = signal.SIGTERM) -> tuple[int, str]:
        """The process's exit status and what it wrote to stderr, after a signal."""
        assert self.process is not None
        self.process.send_signal(number)
        return self.end()

    def end(self) -> tuple[int, str]:
        assert self.process is not None
        process, self.process, self.url = self.process, None, ""
        _, errors = process.communicate(timeout=20)
        return process.returncode, errors

    def stored(self) -> set[str]:
        connection = sqlite3.connect(self.db)
        try:
            return {row[0].hex() for row in connection.execute("SELECT id FROM exposures")}
        finally:
            connection.close()


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Running]:
    running = Running(tmp_path)
    yield running
    if running.process is not None:
        running.stop(signal.SIGKILL)


@pytest.fixture
def session() -> Iterator[requests.Session]:
    with requests.Session() as session:
        session.trust_env = False
        yield session


def sealed(units: range) -> Batch:
    decision = Decision("checkout", "on", True, Reason.SPLIT, rule="ramp", assigned="on", analysable=True, version="1")
    encoder = ExposureEncoder(lambda: "production", 3600)
    constant = encoder.constant(decision)
    return Batch.seal(tuple(encoder.encode(Exposure(*constant, b"user-%d" % n, 1_000)) for n in units), {})


def post(session: requests.Session, url: str, batch: Batch) -> requests.Response:
    headers = {**WRITE, "Content-Encoding": "gzip", "Idempotency-Key": batch.id}
    return session.post(f"{url}/v1/events", data=gzip.compress(batch.body(1_000)), headers=headers, timeout=10)


def ids(batch: Batch) -> set[str]:
    return {json.loads(event)["id"] for event in batch.events}


def assert_calm(errors: str) -> None:
    """Nothing on stderr but what a service says that is well."""
    assert all(" INFO " in line for line in errors.splitlines()), errors


def test_an_edit_of_the_file_reaches_clients(service, session):
    service.start()
    first = session.get(f"{service.url}/v1/definitions", headers=READ, timeout=10)
    assert first.json()["number"] == 1
    assert "Date" in first.headers
    unchanged = session.get(
        f"{service.url}/v1/definitions", headers={**READ, "If-None-Match": first.headers["ETag"]}, timeout=10
    )
    assert (unchanged.status_code, unchanged.content) == (304, b"")

    service.write({"schema": 1, "flags": {"checkout": {"enabled": False}, "search": {}}})
    edited = time.monotonic()
    while session.get(f"{service.url}/healthz", timeout=10).json()["number"] == 1:
        assert time.monotonic() - edited < 5
    assert session.get(f"{service.url}/v1/definitions", headers=READ, timeout=10).json()["flag_count"] == 2


def test_a_refusal_reaches_a_client_that_is_still_sending(service, session):
    service.start()
    large = os.urandom(4_000_000)
    for headers, status in ((WRITE, 413), (READ, 401), (WRITE, 413)):
        answer = session.post(f"{service.url}/v1/events", data=large, headers=headers, timeout=10)
        assert answer.status_code == status
        assert answer.json()["error"]
    assert post(session, service.url, sealed(range(1))).json()["accepted"] == 1


def send_until_it_fails(url: str, worker: int, acknowledged: list[Batch], started: threading.Barrier) -> None:
    with requests.Session() as session:
        session.trust_env = False
        for n in range(worker * 1_000_000, worker * 1_000_000 + 1_000_000, 50):
            batch = sealed(range(n, n + 50))
            try:
                if post(session, url, batch).status_code != 202:
                    return
            except requests.RequestException:
                return
            acknowledged.append(batch)
            if n == worker * 1_000_000 + 200:
                started.wait(10)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_what_was_acknowledged_is_stored_however_the_service_ends(service, number):
    service.start()
    acknowledged: list[Batch] = []
    started = threading.Barrier(5)
    with ThreadPoolExecutor(4) as threads:
        for worker in range(4):
            threads.submit(send_until_it_fails, service.url, worker, acknowledged, started)
        started.wait(10)
        status, errors = service.stop(number)
    assert status == -number
    assert_calm(errors)
    promised = set().union(*map(ids, acknowledged))
    assert len(promised) >= 4 * 250
    assert promised <= service.stored()


def test_a_batch_sent_again_after_a_restart_is_stored_once(service, session):
    batch = sealed(range(100))
    service.start()
    first = post(session, service.url, batch).json()
    service.stop(signal.SIGKILL)
    service.start()
    again = post(session, service.url, batch).json()
    assert first == again == {"batch_id": batch.id, "accepted": 100, "rejected": []}
    summary = session.get(f"{service.url}/v1/summary", headers=READ, timeout=10).json()
    assert summary["flags"]["checkout"]["variants"]["on"]["units"] == 100
    assert summary["stored"] == {"exposures": 100, "metrics": 0}
    assert summary["received"] == {"batches": 1, "deliveries": 2, "events": 100, "accepted": 100, "duplicates": 0}


def test_an_interrupt_ends_it_well(service):
    service.start()
    status, errors = service.stop(signal.SIGINT)
    assert status == 0
    assert_calm(errors)


def test_generated_keys_are_in_a_file_and_not_in_the_output(service, session):
    service.start(read_keys=[], write_keys=[])
    generated = json.loads(Path(f"{service.db}.keys.json").read_text())
    assert service.printed[0] == f"keys in {service.db}.keys.json"
    headers = {"Authorization": f"Bearer {generated['read']}"}
    assert session.get(f"{service.url}/v1/definitions", headers=headers, timeout=10).status_code == 200
    printed = "\n".join(service.printed)
    _, errors = service.stop()
    assert not any(key in printed + errors for key in generated.values())


def test_a_bad_edit_is_told_on_stderr_line_by_line(service, session):
    service.start()
    service.write({"schema": 1, "flags": {"checkout": {"default": "maybe"}, "search": 7}})
    edited = time.monotonic()
    while session.get(f"{service.url}/healthz", timeout=10).json()["definitions"]["ok"]:
        assert time.monotonic() - edited < 5
    _, errors = service.stop()
    first, lines = errors.partition("ERROR")[2].split("\n", 1)
    assert "refused, number 1 stays served" in first
    assert [line.split(":")[0].strip() for line in lines.splitlines()] == ["$.flags.checkout.default", "$.flags.search"]


def test_a_port_in_use_is_one_clear_line(service):
    with socket.create_server(("127.0.0.1", 0)) as other:
        service.start(port=other.getsockname()[1])
        status, errors = service.end()
    assert status == 1
    assert len(errors.splitlines()) == 1
    assert errors.startswith("host, port: ")


@pytest.mark.parametrize(
    ("ruin", "said"), [("definitions", "$.flags.checkout.default: "), ("db", "db: "), ("keys", "keys file: ")]
)
def test_a_start_that_cannot_work_says_why_without_a_traceback(service, ruin, said):
    if ruin == "definitions":
        service.write({"schema": 1, "flags": {"checkout": {"default": "maybe"}}})
    elif ruin == "db":
        service.db.write_text("no database " * 100)
    else:
        Path(f"{service.db}.keys.json").mkdir()
    service.start(**({"read_keys": []} if ruin == "keys" else {}))
    status, errors = service.end()
    assert status == 1
    assert said in errors
    assert "Traceback" not in errors
    assert service.printed == []


MOST_EVENTS = """
import sys
import flagkit
config = flagkit.Config(max_pending=200_000, batch_size=1000, flush_interval_s=0.1)
with flagkit.Client(sys.argv[1], key="both-keys", config=config) as client:
    client.wait_ready(10)
    for number in range(20_000):
        client.track("order", f"user-{number}", value=number)
    print(client.flush(60), client.status.account.delivered)
"""


@pytest.mark.full
def test_four_processes_store_at_least_5000_events_a_second_each_once(service: Running) -> None:
    service.start(read_keys=["both-keys"], write_keys=["both-keys"])
    began_s = time.monotonic()
    clients = [
        subprocess.Popen([sys.executable, "-c", MOST_EVENTS, service.url], stdout=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    assert [client.communicate()[0] for client in clients] == ["0 20000\n"] * 4
    rate = 80_000 / (time.monotonic() - began_s)  # the start of four interpreters included
    with sqlite3.connect(service.db) as db:
        (stored,) = db.execute("SELECT count(*), count(DISTINCT id) FROM metrics").fetchall()
    print(f"\n{rate:,.0f} events/s stored from 4 processes")
    assert stored == (80_000, 80_000)
    assert rate >= 5_000
