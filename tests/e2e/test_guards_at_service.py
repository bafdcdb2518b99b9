"""Guards at a real service: what is judged there reaches clients that count nothing, and outlives it."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from processes import ADMIN_KEY, KEY, Service

import flagkit
from flagkit import Reason, fleets
from flagkit.fleets import Counts, Report, Trial, Word
from flagkit.production.judge import Said, judge, read_word
from tests.unit.tallies import packed, report, text_of

ROOT = Path(__file__).parents[2]
HALF: dict[str, Any] = {"rules": [{"name": "half", "rollout": {"percent": 100}, "serve": "on"}], "guard": {}}
TRIAL = Trial("test", "f", 0, "on")
#: So rarely that whatever is seen in time was told.
NEVER_S = 600.0


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    running = Service(tmp_path)
    running.publish({"f": HALF}, "1")
    running.start()
    yield running
    running.kill()


class Process:
    """A process of the fleet, whose candidate fails in one of ``failing`` calls."""

    def __init__(self, service: Service, number: int, failing: int = 0) -> None:
        self._fleet = fleets.Http(service.url, key=KEY)
        self._id = f"{number:032x}"
        self._counts = packed(number, failing)
        self.sequence = 0

    def hand_in(self, counts: bytes | None = None, trial: Trial = TRIAL) -> Said:
        self.sequence += 1
        report = Report(trial, "{}", self._counts if counts is None else counts)
        words = self._fleet.exchange(self._id, self.sequence, [report], _nobody, deadline_s=10.0)
        assert [word.trial for word in words] == [trial]
        said = _said(words[0])
        self._fleet.close()
        return said


def _nobody(*_: Any) -> Any:
    raise AssertionError("the service judges")


def _said(word: Word) -> Said:
    said = read_word(word.word)
    assert said is not None
    return said


def trip(service: Service) -> float:
    """Two processes hand in what convicts the candidate, and neither could alone; when the second was answered."""
    assert not any(judge(TRIAL, "{}", None, [Counts("0" * 32, 1, 0.0, packed(n, 6))], 0.0).final for n in (1, 2))
    assert Process(service, 1, failing=6).hand_in().why is None
    assert Process(service, 2, failing=6).hand_in().why is not None
    return time.monotonic()


def client_of(service: Service) -> flagkit.Client:
    config = flagkit.Config(poll_interval_s=NEVER_S)
    return flagkit.Client(service.url, key=KEY, sink=None, config=config)


def until(holds: Callable[[], bool], timeout_s: float = 10.0) -> float:
    ends_s, patience = time.monotonic() + timeout_s, threading.Event()
    while not holds():
        assert time.monotonic() < ends_s, "it never came to be"
        patience.wait(0.002)
    return time.monotonic()


def listens(client: flagkit.Client) -> bool:
    stream = client.status.stream
    return stream is not None and stream.state == "ok"


def flagkit_command(*arguments: str, key: str = ADMIN_KEY) -> str:
    keys = {"FLAGKIT_ADMIN_KEY": key, "FLAGKIT_READ_KEY": key}
    command = [sys.executable, "-m", "flagkit", *arguments]
    ran = subprocess.run(
        command, capture_output=True, text=True, timeout=60, check=False, cwd=ROOT, env={**os.environ, **keys}
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    return ran.stdout


def test_a_verdict_reaches_a_client_that_counts_nothing_within_a_second_and_one_that_comes_later_at_once(
    service: Service,
) -> None:
    with client_of(service) as client:
        until(lambda: listens(client) and client.enabled("f", "u"))
        heard_s: list[float] = []
        waiting = threading.Thread(target=lambda: heard_s.append(until(lambda: not client.enabled("f", "u"), 60)))
        waiting.start()
        told_s = trip(service)
        waiting.join(70)
        assert heard_s[0] - told_s < 1
        assert client.decide("f", "u").reason is Reason.GUARD
    with client_of(service) as late:
        assert late.wait_ready(10)
        assert (late.variant("f", "u"), late.decide("f", "u").reason) == ("off", Reason.GUARD)


def test_evidence_and_trips_outlive_a_service_that_loses_its_power(service: Service) -> None:
    one = Process(service, 1)
    calls = one.hand_in().evidence["calls"]
    time.sleep(5.1)  # evidence is written every five seconds
    assert one.hand_in(packed(50)).evidence["calls"] == [2 * arm for arm in calls]
    until(lambda: service.query("SELECT COUNT(*) FROM trials") == [(1,)])
    service.kill()
    service.start()
    again = Process(service, 1)
    assert again.hand_in().evidence["calls"] == [2 * arm for arm in calls], "as much as was handed in, and once"
    assert [Process(service, number, failing=6).hand_in().why is None for number in (2, 3, 4, 5)][-1] is False
    service.kill()
    service.start()
    with client_of(service) as client:
        assert client.wait_ready(10)
        assert client.variant("f", "u") == "off"
    assert Process(service, 7).hand_in(b"").why is not None


def test_reset_gives_a_new_try_and_reaches_clients_as_it_happens(service: Service) -> None:
    trip(service)
    table = flagkit_command("summary", service.url, key=KEY)
    (row,) = [line for line in table.splitlines() if line.startswith("f ")]
    assert row.split()[1:4] == ["on", "0", "tripped"]
    assert "fails more often" in row
    with client_of(service) as client:
        until(lambda: listens(client) and not client.enabled("f", "u"))
        said = flagkit_command("reset", "f", "--by", "ann", "--reason", "fixed", "--url", service.url)
        assert "guard: revision 0 -> 1" in said
        until(lambda: client.enabled("f", "u"))
    fresh = Process(service, 9).hand_in(trial=TRIAL._replace(revision=1))
    assert (fresh.why, fresh.evidence["failures"]) == (None, [0, 0])


HOSTILE: list[tuple[bytes, dict[str, str], int]] = [
    (b"", {}, 400),
    (b"{", {}, 400),
    (b"\xff\xfe\x00", {}, 400),
    (b"[" * 200_000, {}, 400),
    (b"not gzip", {"Content-Encoding": "gzip"}, 400),
    (gzip.compress(b" " * (64 << 20)), {"Content-Encoding": "gzip"}, 413),
    (b"{}", {"Content-Encoding": "br"}, 415),
    (b" " * (2 << 20), {}, 413),
    (json.dumps({"process": "x" * 32, "sequence": 1, "reports": []}).encode(), {}, 400),
    (json.dumps({"process": "0" * 32, "sequence": 1e999, "reports": []}).encode(), {}, 400),
    (json.dumps({"process": "0" * 32, "sequence": 1, "reports": [report()] * 1001}).encode(), {}, 400),
    (json.dumps({"process": "0" * 32, "sequence": 1, "reports": [report(counted="?!")]}).encode(), {}, 400),
    (json.dumps({"process": "0" * 32, "sequence": 1, "reports": [report(flag={})]}).encode(), {}, 400),
    (
        json.dumps({"process": "0" * 32, "sequence": 1, "reports": [report(counted=text_of(bytes(99_999)))]}).encode(),
        {},
        413,
    ),
]


def test_hostile_bodies_are_refused_with_a_reason_and_nothing_else_suffers(service: Service) -> None:
    headers, stop = {"Authorization": f"Bearer {KEY}"}, threading.Event()
    answers: list[tuple[int, int, str]] = []

    def hostile() -> None:
        with requests.Session() as session:
            while not stop.is_set():
                for body, more, expected in HOSTILE:
                    with session.post(service.url + "/v1/guards", body, headers={**headers, **more}) as answer:
                        answers.append((expected, answer.status_code, answer.json().get("error", "")))

    hosts = [threading.Thread(target=hostile) for _ in range(3)]
    for host in hosts:
        host.start()
    try:
        slowest_s = 0.0
        with requests.Session() as session:
            for number in range(40):
                began_s = time.monotonic()
                with session.get(service.url + "/v1/definitions", headers=headers) as answer:
                    assert answer.status_code == 200
                slowest_s = max(slowest_s, time.monotonic() - began_s)
                assert Process(service, 500 + number).hand_in().evidence["calls"][1] == 200 * (number + 1)
    finally:
        stop.set()
        for host in hosts:
            host.join(30)
    assert slowest_s < 2
    assert len(answers) >= len(HOSTILE)
    assert [answer for answer in answers if answer[0] != answer[1] or not answer[2]] == []
