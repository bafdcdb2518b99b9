"""Guards of several processes that count together, through a service and through Redis: one verdict, heard by all."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from fleets import Process

from flagkit import Client, Config, sources
from flagkit import fleets as shared
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
    (alert,) = [alert for report in reports for alert in report["alerts"]]  # people are told once, not by each
    assert alert.startswith("trip of f: on is rolled back to off, revision 0: fails more often")


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


@needs_redis
def test_while_redis_is_down_hung_or_flushed_the_breaker_works_nobody_waits_and_verdicts_resume(tmp_path: Path) -> None:
    chance = random.Random(3)

    def call(client: Client, failing: float, base: float = 0.01) -> None:
        try:
            with client.gate("f", f"user-{chance.randrange(10**9)}") as gate:
                if chance.random() < (failing if gate.on else base):
                    raise ValueError
        except ValueError:
            pass

    def made(url: str, revision: int) -> Client:
        flags = {"f": {**HALF, "guard": {"revision": revision}}}
        document = {"schema": 1, "environment": "test", "flags": flags}
        return Client(source=sources.Static(document), fleet=shared.Redis(url), config=Config(processes=1))

    with redis_server() as server:
        for revision, trouble in enumerate(("hung", "down", "flushed")):
            with made(server.url, revision) as client:
                call(client, 0.0)
                pid = server._process.pid if server._process is not None else 0
                if trouble == "hung":
                    os.kill(pid, signal.SIGSTOP)
                elif trouble == "down":
                    server.stop()
                longest_s = 0.0
                for _ in range(600):
                    began_s = time.monotonic()
                    call(client, 0.0)
                    longest_s = max(longest_s, time.monotonic() - began_s)
                assert longest_s < 0.5
                if trouble != "flushed":
                    for _ in range(100):
                        call(client, 1.0)
                    assert "breaker" in client.status.trips["f"]
                else:
                    resumes(client, call, server.port)
            if trouble == "hung":
                os.kill(pid, signal.SIGCONT)
            elif trouble == "down":
                server.start()


def resumes(client: Client, call: Any, port: int) -> None:
    """Redis is flushed in the middle of it; a verdict comes all the same."""
    redis = pytest.importorskip("redis")
    stop_s, flushed = time.monotonic() + 25, False
    while not client.status.trips:
        assert time.monotonic() < stop_s, client.status
        for _ in range(40):
            call(client, 0.12)
        time.sleep(0.05)
        if not flushed and time.monotonic() > stop_s - 24.6:
            redis.Redis(port=port).flushall()
            flushed = True
    assert flushed
    assert "fails more often" in client.status.trips["f"]


def ramp(percent: int, **guard: Any) -> dict[str, Any]:
    rules = [{"name": "ramp", "rollout": {"percent": percent}, "serve": "on"}]
    return {"rules": rules, "guard": {"latency_tolerance": None, **guard}}


class Fleet:
    """Clients of one fleet in this process, whose calls fail as often as is said."""

    def __init__(self, where: dict[str, Any]) -> None:
        self.where = where
        self.clients: list[Client] = []
        self.chance = random.Random(3)

    def publish(self, flag: dict[str, Any], number: str) -> None:
        if "service" in self.where:
            self.where["service"].publish({"f": flag}, number)
        else:
            document = {"schema": 1, "environment": "test", "flags": {"f": flag}}
            Path(self.where["flags"]).write_text(json.dumps(document))

    def client(self) -> Client:
        config = Config(poll_interval_s=1.0, processes=1)
        if "service" in self.where:
            made = Client(self.where["url"], key=self.where["key"], config=config)
        else:
            made = Client(
                source=sources.File(self.where["flags"]), fleet=shared.Redis(self.where["redis"]), config=config
            )
        made.start()
        assert made.wait_ready(10)
        self.clients.append(made)
        return made

    def calls(self, client: Client, count: int, failing: float) -> None:
        for _ in range(count):
            if client.status.holds:
                return
            try:
                with client.gate("f", f"user-{self.chance.randrange(10**9)}") as gate:
                    if gate.variant and self.chance.random() < failing:
                        raise ValueError
            except ValueError:
                pass


def share(client: Client) -> set[int]:
    return {user for user in range(2000) if client.peek("f", user).variant == "on"}


def until(holds: Any, seconds: float = 5.0) -> None:
    end_s = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end_s
        time.sleep(0.01)


@pytest.mark.parametrize("way", WAYS)
def test_what_one_process_finds_of_a_step_all_of_them_go_back_from_and_a_reset_ends_it(
    way: Any, tmp_path: Path
) -> None:
    with way(tmp_path) as where:
        fleet = Fleet(where)
        fleet.publish(ramp(5), "2")
        first, second = fleet.client(), fleet.client()
        until(lambda: 50 < len(share(first)) < 150 and share(first) == share(second))
        five = share(first)
        fleet.calls(first, 3000, 0.01)
        fleet.calls(second, 10, 0.0)
        fleet.publish(ramp(25), "3")
        until(lambda: share(first) == share(second) > five)
        fleet.calls(first, 3000, 0.2)
        assert share(first) == five
        until(lambda: share(second) == five, 3.0)
        assert second.status.holds["f"].startswith('rule "ramp" at 5 %: all arms fail more often')
        late = fleet.client()
        fleet.calls(late, 1, 0.0)
        until(lambda: share(late) == five, 3.0)
        fleet.publish(ramp(25, revision=1), "4")
        until(lambda: all(share(each) > five and not each.status.holds for each in fleet.clients))
        for client in fleet.clients:
            client.close()


def test_a_service_serves_what_is_held_with_the_first_answer_and_after_a_restart(tmp_path: Path) -> None:
    with through_service(tmp_path) as where:
        service, fleet = where["service"], Fleet(where)
        fleet.publish(ramp(5), "2")
        first = fleet.client()
        until(lambda: 50 < len(share(first)) < 150)
        five = share(first)
        fleet.calls(first, 3000, 0.01)
        fleet.publish(ramp(25), "3")
        until(lambda: share(first) > five)
        fleet.calls(first, 3000, 0.2)
        until(lambda: first._feed.snapshot.definitions.flags["f"].held is not None)
        first.close()
        service.kill()
        service.start()
        fleet.where["url"] = service.url
        later = fleet.client()
        assert share(later) == five
        assert later.status.holds.keys() == {"f"}
        later.close()
