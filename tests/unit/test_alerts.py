"""Alerts: one an episode, to the log, handlers and a webhook that may fail, and nobody waits for any of it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from typing import Any

import pytest
from fakes import WALL_MS, FakeClock, FixedRandom
from loopback import serving

from flagkit.clock import SystemClock
from flagkit.events import Delivered, Rejected, Retry, Sent
from flagkit.production.alerts import Alert, Alerts, AlertStatus
from flagkit.runtime.worker import Worker
from flagkit.sinks import Webhook

HOUR_S = 3600.0


class Chat:
    """A webhook that answers what it was given, in order; the last answer again and again."""

    name = "chat"

    def __init__(self, *script: Sent | Exception) -> None:
        self.script = list(script) or [Delivered()]
        self.said: list[tuple[str, Mapping[str, Any]]] = []
        self.forks = self.closes = 0

    def send(self, text: str, fields: Mapping[str, Any], *, deadline_s: float) -> Sent:
        assert deadline_s == 10.0
        self.said.append((text, fields))
        answer = self.script.pop(0) if len(self.script) > 1 else self.script[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    def close(self) -> None:
        self.closes += 1

    def after_fork(self) -> None:
        self.forks += 1


class Rig:
    """Alerts on a clock that stands still, and what came of them."""

    def __init__(self, *script: Sent | Exception, **settings: Any) -> None:
        self.clock = FakeClock()
        self.chat = Chat(*script)
        self.emitted: list[Alert] = []
        settings = {"webhook": self.chat, "emit": self.emitted.append, "random": FixedRandom(1.0), **settings}
        self.alerts = Alerts(self.clock, **settings)

    def run(self) -> list[float]:
        """Step until nothing is pending; the pauses in between."""
        pauses = []
        while self.alerts.status.pending:
            pauses.append(self.alerts.step())
            self.clock.advance(pauses[-1] if self.alerts.status.pending else 0)
            assert len(pauses) < 10_000
        return pauses


def test_an_alert_is_told_to_the_log_the_handlers_and_the_webhook(caplog: pytest.LogCaptureFixture) -> None:
    rig = Rig(labels=lambda: {"environment": "production"})
    rig.alerts.raise_("trip", "new-checkout", "on is rolled back to off: 5.1 % of calls failed, 1.0 % of the control's")
    assert (rig.emitted, rig.chat.said, caplog.text) == ([], [], ""), "not by whoever raises it"
    assert rig.alerts.step() == HOUR_S
    (alert,) = rig.emitted
    assert alert == Alert("trip", "new-checkout", alert.message, WALL_MS)
    assert alert.flags == {"new-checkout"}
    ((text, fields),) = rig.chat.said
    assert text == f"flagkit (production): trip of new-checkout: {alert.message}"
    assert fields == {
        "environment": "production",
        "kind": "trip",
        "about": "new-checkout",
        "message": alert.message,
        "at_ms": WALL_MS,
    }
    (record,) = caplog.records
    assert (record.name, record.levelno) == ("flagkit", logging.WARNING)
    assert record.getMessage() == f"alert: trip of new-checkout: {alert.message}"
    assert rig.alerts.status == AlertStatus(1, 1, 1, 0, {}, None)


def test_there_is_one_an_episode_and_another_when_it_begins_again() -> None:
    rig = Rig()
    for _ in range(3):
        rig.alerts.raise_("stale", "https://flags.example.com", "not confirmed for 60 s")
        rig.run()
    assert len(rig.emitted) == len(rig.chat.said) == 1
    rig.alerts.over("stale", "https://flags.example.com")
    rig.alerts.over("stale", "https://flags.example.com")
    rig.run()
    assert len(rig.emitted) == 1, "an end is no alert"
    rig.alerts.raise_("stale", "https://flags.example.com", "not confirmed for 60 s")
    rig.run()
    assert len(rig.emitted) == len(rig.chat.said) == 2
    assert rig.alerts.status == AlertStatus(2, 1, 2, 0, {}, None)


def test_episodes_are_told_apart_by_kind_and_by_what_they_are_about() -> None:
    rig = Rig()
    for kind, about in (("trip", "a"), ("trip", "b"), ("lost", "a"), ("trip", "a")):
        rig.alerts.raise_(kind, about, "x")  # type: ignore[arg-type]
    rig.run()
    assert [(alert.kind, alert.about, alert.flags) for alert in rig.emitted] == [
        ("trip", "a", {"a"}),
        ("trip", "b", {"b"}),
        ("lost", "a", frozenset()),
    ]


def test_an_alert_that_is_over_before_it_is_told_is_told_all_the_same() -> None:
    rig = Rig()
    rig.alerts.raise_("lost", "overflow", "100 events")
    rig.alerts.over("lost", "overflow")
    rig.run()
    assert len(rig.chat.said) == 1


def test_whoever_steps_is_woken_once_an_episode() -> None:
    rig, woken = Rig(), []
    rig.alerts.wake = lambda: woken.append(True)
    for _ in range(3):
        rig.alerts.raise_("trip", "a", "x")
    assert len(woken) == 1


def test_without_a_webhook_the_log_and_the_handlers_hear_of_it() -> None:
    rig = Rig(webhook=None)
    rig.alerts.raise_("trip", "a", "x")
    assert rig.alerts.step() == HOUR_S
    assert len(rig.emitted) == 1
    assert rig.alerts.status == AlertStatus(1, 1, 0, 0, {}, None)
    rig.alerts.close()
    rig.alerts.after_fork()


# -- a webhook that fails


def test_a_webhook_that_fails_is_tried_again_with_pauses_that_grow() -> None:
    rig = Rig(*[Retry("http_503")] * 4, Delivered())
    rig.alerts.raise_("trip", "a", "x")
    assert rig.run() == [2, 4, 8, 16, HOUR_S]
    assert len(rig.chat.said) == 5
    assert rig.alerts.status == AlertStatus(1, 1, 1, 0, {}, "http_503")


def test_pauses_are_spread() -> None:
    rig = Rig(Retry("http_503"), Delivered(), random=FixedRandom(0.0))
    rig.alerts.raise_("trip", "a", "x")
    assert rig.run() == [1, HOUR_S]


def test_what_the_webhook_asks_for_is_waited() -> None:
    rig = Rig(Retry("http_429", after_s=30.0), Delivered())
    rig.alerts.raise_("trip", "a", "x")
    assert rig.run()[0] == 30


def test_before_its_time_the_webhook_is_left_alone_whatever_is_raised() -> None:
    rig = Rig(Retry("http_503"), Delivered())
    rig.alerts.raise_("trip", "a", "x")
    assert rig.alerts.step() == 2
    rig.clock.advance(0.5)
    rig.alerts.raise_("trip", "b", "x")
    assert rig.alerts.step() == 1.5
    assert (len(rig.emitted), len(rig.chat.said)) == (2, 1)
    rig.run()
    assert [fields["about"] for _, fields in rig.chat.said] == ["a", "a", "b"]


def test_after_ten_attempts_an_alert_is_lost_and_said_to_be(caplog: pytest.LogCaptureFixture) -> None:
    rig = Rig(Retry("refused"))
    rig.alerts.raise_("trip", "a", "x")
    pauses = rig.run()
    assert (len(rig.chat.said), max(pauses[:-1])) == (10, 300)
    assert rig.alerts.status == AlertStatus(1, 1, 0, 0, {"refused": 1}, "refused")
    assert caplog.messages[-1] == "chat: the alert trip of a is lost: refused"


def test_what_is_refused_is_lost_at_once_and_the_next_is_tried() -> None:
    rig = Rig(Rejected("http_404"), Delivered())
    rig.alerts.raise_("trip", "a", "x")
    rig.alerts.raise_("trip", "b", "x")
    rig.run()
    assert rig.alerts.status == AlertStatus(2, 2, 1, 0, {"http_404": 1}, "http_404")


def test_what_waits_for_an_hour_is_old_news() -> None:
    rig = Rig(Retry("refused"))
    for number in range(20):
        rig.alerts.raise_("trip", f"flag-{number}", "x")
    rig.run()
    status = rig.alerts.status
    assert status.lost == {"refused": 1, "expired": 19}
    assert len(rig.chat.said) < 30


def test_a_webhook_or_a_handler_that_raises_is_contained_and_its_words_are_not_shown(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def raising(_: object) -> None:
        raise ValueError("s3cret")

    rig = Rig(RuntimeError("https://hooks.example.com/s3cret"), Delivered(), emit=raising, labels=lambda: raising(1))
    rig.alerts.raise_("trip", "a", "x")
    rig.run()
    assert rig.alerts.status == AlertStatus(1, 1, 1, 0, {}, "raised")
    assert "chat raised RuntimeError" in caplog.text
    assert "s3cret" not in caplog.text


def test_a_log_handler_that_raises_keeps_no_alert_from_the_others() -> None:
    class Raising(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            raise OSError("disk full")

    handler, log = Raising(), logging.getLogger("flagkit")
    log.addHandler(handler)
    try:
        rig = Rig()
        rig.alerts.raise_("trip", "a", "x")
        rig.run()
    finally:
        log.removeHandler(handler)
    assert len(rig.emitted) == len(rig.chat.said) == 1


# -- bounds


def test_what_waits_and_what_is_remembered_are_bounded_and_every_loss_is_counted() -> None:
    rig = Rig(Retry("refused"))
    for number in range(1500):
        rig.alerts.raise_("trip", f"flag-{number}", "x")
    rig.alerts.step()
    for number in range(1500, 2000):
        rig.alerts.raise_("trip", f"flag-{number}", "x")
    rig.alerts.step()
    status = rig.alerts.status
    assert (status.raised, status.under_way, status.pending) == (2000, 1000, 100)
    assert status.lost == {"overflow": 1900}
    assert status.raised == status.delivered + status.pending + sum(status.lost.values())


def test_texts_are_cut_and_are_one_line(caplog: pytest.LogCaptureFixture) -> None:
    rig = Rig()
    rig.alerts.raise_("trip", "a\nWARNING forged " + "a" * 1000, "x\r\x1b[31m\ud800" + "x" * 5000)
    rig.run()
    (alert,) = rig.emitted
    assert (len(alert.about), len(alert.message)) == (256, 1000)
    assert alert.about.startswith("a WARNING")
    assert alert.message.startswith("x  [31m x")
    assert "\n" not in caplog.messages[0]
    rig.alerts.over("trip", "a\nWARNING forged " + "a" * 1000)
    assert rig.alerts.status.under_way == 0


# -- forks, threads


def test_a_forked_child_tells_nothing_that_its_parent_tells_and_no_episode_again() -> None:
    rig = Rig(Retry("refused"))
    rig.alerts.raise_("trip", "a", "x")
    rig.alerts.step()
    rig.alerts.raise_("trip", "b", "x")
    rig.alerts.after_fork()
    rig.alerts.raise_("trip", "b", "x")
    assert rig.alerts.step() == HOUR_S
    assert rig.alerts.status == AlertStatus(0, 2, 0, 0, {}, None)
    assert (len(rig.chat.said), rig.chat.forks) == (1, 1)


def test_threads_that_raise_at_once_raise_each_episode_once() -> None:
    rig = Rig()
    barrier = threading.Barrier(8)

    def raise_all() -> None:
        barrier.wait()
        for number in range(50):
            rig.alerts.raise_("trip", f"flag-{number}", "x")

    threads = [threading.Thread(target=raise_all) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    rig.run()
    assert sorted(alert.about for alert in rig.emitted) == sorted(f"flag-{number}" for number in range(50))


def test_driven_by_a_worker_it_reaches_a_server_and_whoever_raises_does_not_wait() -> None:
    received = threading.Event()

    def slow(call: Any) -> None:
        call.pause(0.2)
        call.answer(200, b"ok")
        received.set()

    with serving(slow) as server:
        clock = SystemClock()
        alerts = Alerts(clock, emit=lambda _: None, webhook=Webhook(f"{server.url}/services/T0/B0/s3cret"))
        worker = Worker("alerts", alerts.step, clock)
        alerts.wake = worker.wake
        alerts.raise_("trip", "a", "x")
        assert not received.is_set()
        assert received.wait(10)
        assert worker.stop(10)
        assert alerts.status.delivered == 1
        alerts.close()
    (call,) = server.calls
    assert (call.method, call.path) == ("POST", "/services/T0/B0/s3cret")
