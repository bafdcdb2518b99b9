"""The loop on real parts: a service process, client processes, sockets, a database."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from processes import Service, all_do, day, working

import flagkit

UNITS = [f"user-{number}" for number in range(10_000)]
STANDARD_ERRORS = 3


def ramp(percent: float) -> dict[str, Any]:
    return {"rules": [{"name": "ramp", "rollout": {"percent": percent}, "serve": "on"}]}


ON, OFF, KILLED = {"default": "on"}, {"default": "off"}, {"enabled": False}


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    running = Service(tmp_path)
    running.publish({"checkout": ramp(5), "marker": OFF}, "1")
    running.start()
    yield running
    running.kill()


def share_is(variants: list[str], percent: float) -> bool:
    """Whether as many are on as chance allows around ``percent``."""
    expected = len(variants) * percent / 100
    return abs(variants.count("on") - expected) <= STANDARD_ERRORS * (expected * (1 - percent / 100)) ** 0.5


def test_ten_thousand_units_at_five_and_then_at_twenty_five_percent(service: Service) -> None:
    today = day()
    settings = {"batch_size": 1000, "max_pending": 50_000, "exposure_window_s": 86_400}
    with working(service.url, 2, **settings) as workers:
        all_do(workers, "ready", 10)
        five, same = all_do(workers, "variants", "checkout", UNITS)
        assert five == same
        assert share_is(five, 5)
        service.publish({"checkout": ramp(25), "marker": ON}, "2")
        all_do(workers, "until", "marker", "u", "on", 10)
        twenty_five, same = all_do(workers, "variants", "checkout", UNITS)
        assert twenty_five == same
        assert share_is(twenty_five, 25)
        assert [unit for unit, a, b in zip(UNITS, five, twenty_five, strict=True) if a == "on" != b] == []
        assert all_do(workers, "flush", 20) == [0, 0]
        accounts = [status["account"] for status in all_do(workers, "status")]
    for account in accounts:
        assert (account["lost"], account["pending"], account["recorded"]) == ({}, 0, account["delivered"])
    delivered = sum(account["delivered"] for account in accounts)
    ((stored,),) = service.query("SELECT COUNT(*) FROM exposures")
    ((accepted, duplicates),) = service.query("SELECT SUM(accepted), SUM(duplicates) FROM batches")
    assert (accepted, accepted - duplicates) == (delivered, stored)
    by_version = service.query("SELECT COUNT(*), COUNT(DISTINCT unit) FROM exposures GROUP BY version")
    assert [units for _, units in by_version] == [10_000, 10_000]
    if day() == today:
        assert (stored, delivered) == (20_000, 40_000)
        assert dict(service.query("SELECT variant, COUNT(*) FROM exposures GROUP BY variant")) == {
            "on": five.count("on") + twenty_five.count("on"),
            "off": five.count("off") + twenty_five.count("off"),
        }


def test_a_change_reaches_every_worker_within_the_poll_interval_and_a_second(service: Service) -> None:
    interval_s = 1.0
    with working(service.url, 2, poll_interval_s=interval_s) as workers:
        all_do(workers, "ready", 10)
        taken_s = []
        for version, flag, variant in ((2, ON, "on"), (3, KILLED, "off")):
            published = service.publish({"checkout": ramp(5), "marker": flag}, str(version))
            taken_s += [seen - published for seen in all_do(workers, "until", "marker", "u", variant, 10)]
    assert max(taken_s) <= interval_s + 1


def test_an_outage_in_the_middle_costs_no_answer_and_no_event(service: Service) -> None:
    today = day()
    with working(service.url, 2, exposure_window_s=86_400) as workers:
        all_do(workers, "ready", 10)
        before = all_do(workers, "variants", "checkout", UNITS[:500])
        service.kill()
        stopped_s = time.monotonic()
        units = UNITS
        during: list[Any] = [[], []]
        while time.monotonic() - stopped_s < 3:
            batch, units = units[:250], units[250:]
            for answers, more in zip(during, all_do(workers, "variants", "checkout", batch), strict=True):
                answers += more
        assert during[0][:500] == before[0]
        assert during[0] == during[1]
        assert None not in during[0]
        for status in all_do(workers, "status"):
            assert (status["ready"], status["source"]["state"], status["errors"]) == (True, "failing", {})
            assert status["account"]["pending"] > 0
        service.start()
        assert all_do(workers, "flush", 15) == [0, 0]
        statuses = all_do(workers, "status")
    for status in statuses:
        assert (status["account"]["lost"], status["account"]["pending"], status["worker_faults"]) == ({}, 0, 0)
        assert status["account"]["recorded"] == status["account"]["delivered"]
    asked = len(UNITS) - len(units)
    ((stored, distinct),) = service.query("SELECT COUNT(*), COUNT(DISTINCT unit) FROM exposures")
    assert distinct == asked
    if day() == today:
        assert stored == asked
        assert sum(status["account"]["delivered"] for status in statuses) == 2 * asked


def test_a_start_without_the_service_gives_defaults_and_then_the_answers(service: Service) -> None:
    service.kill()
    with working(service.url) as (worker,):
        assert worker.do("decision", "marker", "u") == ["ERROR", "PROVIDER_NOT_READY"]
        assert worker.do("variants", "checkout", UNITS[:3]) == [None] * 3
        while worker.do("status")["source"]["failures"] < 2:
            pass
        service.start()
        started = time.time()
        longest_pause_s = 8.0
        assert worker.do("ready", 20) - started <= longest_pause_s + 1
        assert worker.do("decision", "marker", "u") == ["STATIC", None]
        assert None not in worker.do("variants", "checkout", UNITS[:3])
        assert worker.do("status")["source"]["state"] == "ok"


def test_a_wrong_key_is_a_state_and_never_an_exception(service: Service) -> None:
    config = flagkit.Config(poll_interval_s=0.1, flush_interval_s=0.1)
    with flagkit.Client(service.url, key="open-barley", config=config) as client:
        assert client.wait_ready(0.5) is False
        assert client.enabled("marker", "u", default=True) is True
        client.track("event", "u")
        assert client.flush(1) == 1
        status = client.status
        assert status.source is not None
        assert status.sink is not None
        assert (status.source.state, status.sink.state) == ("auth_failed", "auth_failed")
        assert "401" in f"{status.source.last_error}{status.sink.last_error}"
        assert "barley" not in repr(status)
        client.close(0)
    assert service.query("SELECT COUNT(*) FROM metrics") == [(0,)]


def test_metrics_join_the_exposures_of_their_unit(service: Service) -> None:
    with working(service.url) as (worker,):
        worker.do("ready", 10)
        for unit in UNITS[:20]:
            worker.do("variants", "marker", [unit])
            worker.do("track", "purchase", unit)
        worker.do("close")
    joined = "metrics JOIN exposures ON metrics.unit = exposures.unit AND metrics.time_ms >= exposures.time_ms"
    assert service.query(f"SELECT COUNT(*) FROM {joined}") == [(20,)]
