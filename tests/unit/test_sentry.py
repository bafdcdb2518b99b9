"""Sentry's reports say which flags a request had met: its own SDK, and a transport that keeps what it would send."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import sentry_sdk
from sentry_sdk.envelope import Envelope
from sentry_sdk.transport import Transport

from flagkit import Client, ConfigError
from flagkit.integrations.sentry import FlagkitIntegration

Make = Callable[..., Client]


class Kept(Transport):
    """Sends nothing."""

    def __init__(self, options: Any = None) -> None:
        super().__init__(options)
        self.events: list[dict[str, Any]] = []

    def capture_envelope(self, envelope: Envelope) -> None:
        event = envelope.get_event()
        if event is not None:
            self.events.append(dict(event))


@pytest.fixture
def client(make: Make) -> Client:
    return make()


@pytest.fixture
def kept(client: Client) -> Iterator[Kept]:
    transport = Kept()
    with sentry_sdk.isolation_scope():
        sentry_sdk.init(
            "http://public@127.0.0.1:9/1",
            transport=transport,
            default_integrations=False,
            auto_enabling_integrations=False,
            integrations=[FlagkitIntegration(client)],
        )
        yield transport
        sentry_sdk.get_client().close(0)
        sentry_sdk.get_global_scope().set_client(None)


def flags(kept: Kept) -> list[tuple[str, bool]]:
    (event,) = kept.events
    return [(each["flag"], each["result"]) for each in event["contexts"]["flags"]["values"]]


def test_an_error_s_report_has_the_flags_that_were_asked_for(client: Client, kept: Kept) -> None:
    client.enabled("on", "user-1")
    client.decide("off", {"unit": "user-1", "email": "ann@example.com"})
    client.variant("text", "user-1")
    with pytest.raises(ZeroDivisionError), client.gate("disabled", "user-1") as gate:
        1 / gate.on
    sentry_sdk.capture_exception(ZeroDivisionError())
    assert flags(kept) == [("on", True), ("off", False), ("text", True), ("text:v", True), ("disabled", False)]
    assert "user-1" not in str(kept.events)
    assert "ann@example.com" not in str(kept.events)


def test_a_flag_that_has_no_answer_is_none_of_them(client: Client, kept: Kept) -> None:
    client.enabled("on", "user-1")
    client.enabled("no-such-flag", "user-1", default=True)
    sentry_sdk.capture_message("m")
    assert flags(kept) == [("on", True)]


def test_an_answer_that_changed_is_there_as_it_was_last(client: Client, kept: Kept) -> None:
    client.enabled("off", "user-1")
    with client.override({"off": True}):
        client.enabled("off", "user-1")
    sentry_sdk.capture_message("m")
    assert flags(kept) == [("off", True)]


def test_requests_do_not_see_each_other_s(client: Client, kept: Kept) -> None:
    with sentry_sdk.isolation_scope():
        client.enabled("off", "user-1")
    with sentry_sdk.isolation_scope():
        client.enabled("on", "user-1")
        sentry_sdk.capture_message("m")
    assert flags(kept) == [("on", True)]


def test_what_is_no_client_is_refused() -> None:
    with pytest.raises(ConfigError, match="client"):
        FlagkitIntegration("https://flags.example.com")  # type: ignore[arg-type]
