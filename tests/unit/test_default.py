"""The default client: before it is configured, when it is, and when it is again."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from documents import HALF, ON, StillClock

import flagkit
from flagkit import ConfigError, ErrorCode, Flag, default, sinks, sources

DEFINITIONS: dict[str, Any] = {
    "schema": 1,
    "flags": {"on": ON, "half": HALF, "text": {"variants": {"v": "a"}, "off": "v"}},
}


@pytest.fixture(autouse=True)
def nobody_configured(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(default, "_client", None)
    yield
    if default._client is not None:
        default._client.close()


def configured(**settings: Any) -> flagkit.Client:
    return flagkit.configure(source=sources.Static(DEFINITIONS), **{"sink": sinks.Memory(), **settings})


def test_before_it_is_configured_every_answer_is_the_callers(caplog: pytest.LogCaptureFixture) -> None:
    assert flagkit.enabled("on", "u") is False
    assert flagkit.enabled("on", "u", default=True) is True
    assert flagkit.variant("on", "u", default="v") == "v"
    assert flagkit.value("text", "u", default="mine") == "mine"
    assert flagkit.value(Flag("text", default=7), "u") == 7
    assert flagkit.decide("on", "u").error_code is ErrorCode.PROVIDER_NOT_READY
    flagkit.track("event", "u")
    assert "not been called" in caplog.text
    assert len(caplog.records) == 1


def test_once_it_is_configured_the_functions_ask_it() -> None:
    client = configured()
    assert flagkit.enabled("on", "u") is True
    assert flagkit.variant("text", "u") == "v"
    assert flagkit.value("text", "u", default="mine") == "a"
    assert flagkit.value(Flag("text", default=""), "u") == "a"
    assert flagkit.decide("half", "u") is client.decide("half", "u")
    flagkit.track("event", "u", value=1, size=2)
    client.flush()
    assert [event["name"] for event in client._recording._sink.events if event["type"] == "metric"] == ["event"]  # type: ignore[union-attr]


def test_functions_taken_before_it_is_configured_ask_the_client_of_the_moment() -> None:
    enabled = flagkit.enabled
    assert enabled("on", "u") is False
    configured()
    assert enabled("on", "u") is True
    flagkit.configure(source=sources.Static({"schema": 1, "flags": {}}))
    assert enabled("on", "u") is False


def test_configuring_again_closes_the_client_before_and_sends_what_it_had() -> None:
    before, sink = sinks.Memory(), sinks.Memory()
    first = configured(sink=before)
    flagkit.enabled("on", "u")
    second = configured(sink=sink)
    assert len(before.events) == 1
    assert second is not first
    first.enabled("half", "u")
    assert first.status.account is not None
    assert first.status.account.lost == {"closed": 1}
    flagkit.enabled("on", "u")
    second.flush()
    assert len(sink.events) == 1


def test_a_wrong_argument_leaves_the_client_before_in_place() -> None:
    configured()
    with pytest.raises(ConfigError, match=r"^url: got"):
        flagkit.configure("flags.example.com")
    assert flagkit.enabled("on", "u") is True


def test_it_takes_what_a_client_takes_and_starts() -> None:
    client = configured(config=flagkit.Config(environment="test"), clock=StillClock())
    assert client._config.environment == "test"
    assert flagkit.configure(source=sources.Static(DEFINITIONS)).status.sink is None
