"""Guards of several processes that count together, through a service and through Redis: one verdict, heard by all."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from fleets import Process

from tests.e2e.processes import KEY, Service
from tests.unit.redises import needs_redis, redis_server

HALF: dict[str, Any] = {"rules": [{"name": "half", "rollout": {"percent": 50}, "serve": "on"}], "guard": {}}


@contextmanager
def through_service(tmp_path: Path) -> Iterator[dict[str, Any]]:
    service = Service(tmp_path)
    service.publish({"f": HALF}, "1")
    service.start()
    try:
        yield {"url": service.url, "key": KEY, "service": service}
    finally:
        service.kill()


@contextmanager
def through_redis(tmp_path: Path) -> Iterator[dict[str, Any]]:
    flags = tmp_path / "flags.json"
    flags.write_text(json.dumps({"schema": 1, "environment": "test", "flags": {"f": HALF}}))
    with redis_server() as server:
        yield {"redis": server.url, "flags": str(flags)}


WAYS = [through_service, pytest.param(through_redis, marks=needs_redis)]


def run(where: dict[str, Any], processes: int, **settings: Any) -> list[dict[str, Any]]:
    given = {name: value for name, value in where.items() if name != "service"}
    fleet = [Process(seed=seed, **given, **settings) for seed in range(processes)]
    return [process.report() for process in fleet]


@pytest.mark.parametrize("way", WAYS)
def test_what_none_of_them_could_tell_all_of_them_can_and_each_is_back_within_two_seconds(
    way: Any, tmp_path: Path
) -> None:
    with way(tmp_path) as where:
        reports = run(where, 4, rate=150, calls=3000, on=0.12, off=0.01)
    off_at = [report["off_at"] for report in reports]
    assert None not in off_at, reports
    assert max(off_at) - min(off_at) < 2.0
    assert all("fails more often" in report["trips"]["f"] for report in reports)
    assert sum(report["candidates"] for report in reports) < 2500


@pytest.mark.parametrize("way", WAYS)
def test_a_healthy_candidate_stays(way: Any, tmp_path: Path) -> None:
    with way(tmp_path) as where:
        reports = run(where, 3, rate=300, calls=900, on=0.05, off=0.05)
    assert [report["trips"] for report in reports] == [{}, {}, {}]
    assert [report["fleet"]["state"] for report in reports] == ["ok", "ok", "ok"]


def test_the_service_keeps_a_trip_over_edits_and_restarts_until_a_higher_revision(tmp_path: Path) -> None:
    with through_service(tmp_path) as where:
        service = where["service"]
        run(where, 2, rate=300, calls=4000, on=0.12, off=0.01)
        late = {**where, "rate": 50, "calls": 20, "on": 0.0, "off": 0.0}
        assert run(late, 1)[0]["candidates"] == 0, "one that starts afterwards knows"
        service.publish({"f": {**HALF, "owner": "search"}}, "2")
        time.sleep(0.5)
        service.kill()
        service.start()
        again = {**late, "url": service.url}
        assert run(again, 1)[0]["candidates"] == 0
        service.publish({"f": {**HALF, "guard": {"revision": 1}}}, "3")
        time.sleep(0.5)
        assert run(again, 1)[0]["candidates"] > 3


def test_a_service_without_the_lane_leaves_each_process_to_itself(tmp_path: Path) -> None:
    from http.server import BaseHTTPRequestHandler, HTTPServer
    from threading import Thread

    document = json.dumps({"schema": 1, "environment": "test", "flags": {"f": HALF}}).encode()

    class Old(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(document)))
            self.end_headers()
            self.wfile.write(document)

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(404)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *args: Any) -> None: ...

    server = HTTPServer(("127.0.0.1", 0), Old)
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        where = {"url": f"http://127.0.0.1:{server.server_port}", "key": KEY}
        (report,) = run(where, 1, rate=400, calls=4000, on=0.12, off=0.01)
    finally:
        server.shutdown()
        server.server_close()
    assert "fails more often" in report["trips"]["f"]
