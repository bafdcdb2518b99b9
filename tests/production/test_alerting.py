"""People hear of trips, stale definitions and lost events: by handlers, the log and a webhook, once an episode."""

from __future__ import annotations

import json
import logging
import queue
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from flagkit import Client, Config, ConfigError, sinks, sources
from flagkit.alerting import Alerting
from flagkit.runtime.handlers import EventDetails
from tests.unit.fakes import FakeClock

HALF = {"rules": [{"name": "half", "rollout": {"percent": 50}, "serve": "on"}], "guard": {}}


@pytest.fixture
def chat() -> Iterator[tuple[str, queue.Queue[Any]]]:
    """A chat's webhook on loopback, and what was posted there."""
    heard: queue.Queue[Any] = queue.Queue()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            heard.put(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *args: Any) -> None: ...

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/services/secret-path", heard
    server.shutdown()
    server.server_close()


def fail(client: Client, calls: int = 300) -> None:
    for number in range(calls):
        try:
            with client.gate("f", number) as gate:
                if gate.on:
                    raise ValueError
        except ValueError:
            pass


def test_a_trip_is_told_to_handlers_the_log_and_a_webhook_once(
    chat: tuple[str, queue.Queue[Any]], caplog: pytest.LogCaptureFixture
) -> None:
    url, posted = chat
    told: queue.Queue[EventDetails] = queue.Queue()
    document = {"schema": 1, "environment": "production", "flags": {"f": HALF}}
    with (
        caplog.at_level(logging.WARNING, "flagkit"),
        Client(source=sources.Static(document), webhook=sinks.Webhook(url), config=Config(processes=1)) as client,
    ):
        client.add_handler("alert", told.put)
        fail(client)
        details, message = told.get(timeout=10), posted.get(timeout=10)
        fail(client)
    assert (details.event, details.flags_changed) == ("alert", {"f"})
    assert details.message is not None
    assert "on is rolled back to off" in details.message
    assert "rolled back to off" in message["text"]
    assert message["environment"] == "production"
    assert [*posted.queue, *told.queue] == []
    assert sum("alert: trip of f" in line for line in caplog.messages) == 1
    assert "secret-path" not in caplog.text


def test_the_webhook_s_url_may_come_from_the_environment(
    chat: tuple[str, queue.Queue[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    url, posted = chat
    monkeypatch.setenv("FLAGKIT_WEBHOOK_URL", url)
    with Client(source=sources.Static({"schema": 1, "flags": {"f": HALF}}), config=Config(processes=1)) as client:
        fail(client)
        assert "trip of f" in posted.get(timeout=10)["text"]
        assert "secret-path" not in repr(client.status)


@pytest.mark.parametrize(("field", "value"), [("webhook", "https://hooks.example.com/x"), ("fleet", "redis://x")])
def test_what_is_no_webhook_or_fleet_is_refused_where_it_is_given(field: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=rf"^{field}: "):
        Client(source=sources.Static({"schema": 1, "flags": {}}), **{field: value})


def test_stale_definitions_and_lost_events_are_told_once_until_they_are_over() -> None:
    told: list[str] = []
    alerting = Alerting(None, FakeClock(), lambda details: told.append(details.message or ""), dict)
    stale, ready = EventDetails("stale"), EventDetails("ready")

    def look(standing: EventDetails | None, **losses: int) -> None:
        alerting.look(standing, "https://flags.example.com", losses)
        alerting.alerts.step()

    for standing in (ready, stale, stale, ready, stale):
        look(standing)
    assert [message.split(":")[0] for message in told] == ["stale of https"] * 2
    told.clear()
    for overflow in (0, 3, 8, 8, 9):
        look(None, overflow=overflow)
    assert told == ["lost of overflow: 3 now, 3 since the start", "lost of overflow: 1 now, 9 since the start"]
    alerting.close(0.0)
