"""Early access end to end: one process opts a unit in, and the service tells every other, over restarts too."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.processes import Service, Worker, all_do, working

FLAGS: dict[str, Any] = {
    "new": {"early_access": True, "rules": [{"name": "opted in", "when": [{"enrolled": True}], "serve": "on"}]}
}


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    service = Service(tmp_path)
    service.publish(FLAGS, "1")
    service.start()
    yield service
    service.kill()


def both_see(workers: list[Worker], unit: str, variant: str) -> None:
    all_do(workers, "until", "new", unit, variant, 20)


def test_what_one_process_enrols_every_process_serves_until_any_of_them_takes_it_back(service: Service) -> None:
    before = service.path.read_bytes()
    with working(service.url, 2) as (one, other):
        all_do([one, other], "ready", 20)
        assert one.do("enroll", "new", "user-1") is True
        both_see([one, other], "user-1", "on")
        assert all_do([one, other], "variants", "new", ["user-2"]) == [["off"], ["off"]]
        assert other.do("unenroll", "new", "user-1") is True
        both_see([one, other], "user-1", "off")
        assert all_do([one, other], "flush", 10) == [0, 0]
        assert [worker.do("status")["account"]["lost"] for worker in (one, other)] == [{}, {}]
    assert service.path.read_bytes() == before


def test_who_is_enrolled_outlives_a_service_that_was_killed(service: Service) -> None:
    with working(service.url, 2) as (one, other):
        all_do([one, other], "ready", 20)
        one.do("enroll", "new", "user-1")
        both_see([one, other], "user-1", "on")
        service.kill()
        service.start()
        other.do("enroll", "new", "user-2")
        both_see([one, other], "user-2", "on")
        assert all_do([one, other], "variants", "new", ["user-1"]) == [["on"], ["on"]]
    with working(service.url) as (late,):
        late.do("ready", 20)
        assert late.do("variants", "new", ["user-1", "user-2", "user-3"]) == ["on", "on", "off"]
    assert service.query("SELECT flag, unit, enrolled FROM enrolments ORDER BY unit") == [
        ("new", "user-1", 1),
        ("new", "user-2", 1),
    ]


def test_without_a_stream_a_poll_brings_it(service: Service) -> None:
    service.kill()
    service.start(max_streams=0)
    with working(service.url, 2) as (one, other):
        all_do([one, other], "ready", 20)
        one.do("enroll", "new", "user-1")
        both_see([one, other], "user-1", "on")
        assert json.loads(service.path.read_text())["flags"] == FLAGS
