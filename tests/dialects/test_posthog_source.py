"""The PostHog source: what it asks for, what the answers mean, and that its keys go nowhere else."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import responses

from flagkit import Client, Config, ConfigError, Context
from flagkit.dialects import posthog
from flagkit.errors import FetchError
from flagkit.runtime.current import Current
from flagkit.runtime.poller import Poller
from flagkit.sources import Fetched, NotModified, PostHog, Source
from tests.dialects.posthogs import document, flag, matching
from tests.unit.fakes import FakeClock
from tests.unit.loopback import Call, refusing, serving

TOKEN, KEY = "phc_0123456789abcdef", "phx_0123456789abcdef"
JSON = {"Content-Type": "application/json"}
ON: Any = flag("f", matching(), id=1, version=1)


def source(host: str | None = None, **settings: Any) -> PostHog:
    keys = {"project_token": TOKEN, "personal_key": KEY, **settings}
    return PostHog(**keys) if host is None else PostHog(host, **keys)


def fetch(from_: Source, validator: str | None = None) -> Any:
    return from_.fetch(validator, deadline_s=5, max_bytes=1 << 20)


def failure(from_: Source) -> FetchError:
    with pytest.raises(FetchError) as raised:
        fetch(from_)
    return raised.value


@contextmanager
def polling(url: str) -> Iterator[tuple[Poller, Current]]:
    """What fetches, step by step, and what its documents become."""
    config, clock, asking = Config(), FakeClock(), source(url)
    current = Current(posthog.parse, lambda *_: None, config, clock, observe=False, fixed=False)
    yield Poller(asking, current, config, clock), current
    asking.close()


def answers(*scripted: tuple[int, Any, dict[str, str]]) -> Callable[[Call], None]:
    """One answer after the other, the last for ever."""
    left = list(scripted)

    def script(call: Call) -> None:
        status, body, headers = left.pop(0) if len(left) > 1 else left[0]
        call.answer(status, json.dumps(body).encode(), {**JSON, **headers})

    return script


# -- requests


@pytest.mark.parametrize(
    ("host", "asked"),
    [
        (None, "https://us.i.posthog.com"),
        ("https://app.posthog.com", "https://us.i.posthog.com"),
        ("https://us.posthog.com/", "https://us.i.posthog.com"),
        ("https://eu.posthog.com", "https://eu.i.posthog.com"),
        ("https://eu.i.posthog.com/", "https://eu.i.posthog.com"),
        ("https://flags.example.com/posthog", "https://flags.example.com/posthog"),
    ],
)
def test_the_request_is_posthog_s(host: str | None, asked: str) -> None:
    with responses.RequestsMock() as mocked:
        mocked.get(f"{asked}/flags/definitions", json=document(), headers={"ETag": 'W/"7"'})
        answer = fetch(source(host), 'W/"6"')
        (call,) = mocked.calls
    assert answer == Fetched(json.dumps(document()).encode(), 'W/"7"', None)
    assert call.request.url == f"{asked}/flags/definitions?token={TOKEN}&send_cohorts"
    assert call.request.headers["Authorization"] == f"Bearer {KEY}"
    assert call.request.headers["If-None-Match"] == 'W/"6"'
    assert call.request.headers["Accept"] == "application/json"
    assert call.request.headers["User-Agent"].startswith("flagkit/")


def test_on_the_wire_it_is_the_same() -> None:
    with serving(answers((200, document(ON), {"ETag": 'W/"7"'}), (304, None, {}))) as server:
        asking = source(server.url)
        assert fetch(asking).validator == 'W/"7"'
        assert isinstance(fetch(asking, 'W/"7"'), NotModified)
        asking.close()
    assert [call.path for call in server.calls] == [f"/flags/definitions?token={TOKEN}&send_cohorts"] * 2
    assert [call.headers.get("if-none-match") for call in server.calls] == [None, 'W/"7"']
    assert server.connections == 1


def test_a_token_is_quoted() -> None:
    with serving(answers((200, document(), {}))) as server:
        asking = source(server.url, project_token="a&b=c d/%")
        fetch(asking)
        asking.close()
    assert server.calls[0].path == "/flags/definitions?token=a%26b%3Dc%20d%2F%25&send_cohorts"


def test_a_redirect_is_not_followed() -> None:
    with serving(answers((302, None, {"Location": "/elsewhere"}))) as server:
        asking = source(server.url)
        assert failure(asking).reason == "redirect"
        asking.close()
    assert len(server.calls) == 1


# -- what answers mean


@pytest.mark.parametrize(
    ("status", "lasting"),
    [(400, True), (401, True), (402, True), (403, True), (429, False), (500, False), (503, False)],
)
def test_a_refusal_says_how_long_it_lasts(status: int, lasting: bool) -> None:
    with responses.RequestsMock() as mocked:
        mocked.get("https://us.i.posthog.com/flags/definitions", status=status, headers={"Retry-After": "17"})
        error = failure(source())
    assert (error.reason, error.lasting, error.retry_after_s) == (f"http_{status}", lasting, 17.0)


QUOTA = {"flags": [], "quotaLimited": ["feature_flags"]}


@pytest.mark.parametrize(
    "refused",
    [
        (401, {"type": "authentication_error", "detail": "Invalid key"}, {}),
        (402, {"detail": "quota"}, {}),
        (429, None, {"Retry-After": "0"}),
        (200, QUOTA, {"ETag": 'W/"quota"'}),
        (200, {"flags": []}, {}),
        (200, {}, {}),
        (503, None, {}),
    ],
    ids=lambda answer: f"{answer[0]}-{json.dumps(answer[1])[:30]}",
)
def test_no_refusal_wipes_the_definitions(refused: tuple[int, Any, dict[str, str]]) -> None:
    with (
        serving(answers((200, document(ON), {"ETag": 'W/"1"'}), refused)) as server,
        polling(server.url) as (poller, current),
    ):
        poller.step()
        assert poller.state.state == "ok"
        poller.step()
        assert poller.state.failures == 1
        assert current.snapshot.decide("f", Context("user-1")).enabled is True
        poller.step()
    # The validator is still the good document's: a later 304 confirms that one.
    assert [call.headers.get("if-none-match") for call in server.calls] == [None, 'W/"1"', 'W/"1"']


def test_a_server_that_asks_for_time_gets_it() -> None:
    with (
        serving(answers((200, document(ON), {}), (429, None, {"Retry-After": "120"}))) as server,
        polling(server.url) as (poller, _),
    ):
        poller.step()
        assert poller.step() >= 120


def test_definitions_come_back_after_a_refusal() -> None:
    back = document(flag("f"), flag("g", matching()))
    with (
        serving(answers((200, document(ON), {}), (200, QUOTA, {}), (401, None, {}), (200, back, {}))) as server,
        polling(server.url) as (poller, current),
    ):
        for _ in range(4):
            poller.step()
    assert poller.state.state == "ok"
    assert [current.snapshot.decide(key, Context("user-1")).enabled for key in "fg"] == [False, True]


def test_a_client_starts_with_it_and_decides_by_what_it_said() -> None:
    with (
        serving(answers((200, document(ON), {}))) as server,
        Client(source=source(server.url), sink=None) as client,
    ):
        assert client.wait_ready(5)
        assert client.variant("f", "user-1") == "true"


# -- keys


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("project_token", KEY),
        ("project_token", ""),
        ("project_token", None),
        ("project_token", "phc_é"),
        ("project_token", "p" * 201),
        ("personal_key", TOKEN),
        ("personal_key", ""),
        ("personal_key", None),
        ("personal_key", "phx_1\n"),
    ],
)
def test_a_key_in_the_wrong_place_is_refused_and_not_shown(field: str, value: Any) -> None:
    with pytest.raises(ConfigError) as raised:
        source(**{field: value})
    assert raised.value.field == field
    assert value is None or not value or value not in str(raised.value)


@pytest.mark.parametrize(
    "host", ["http://posthog.example.com", "ftp://x", "x", None, 7, "https://a?b", "https://u:p@h"]
)
def test_a_host_that_cannot_be_right_is_refused(host: Any) -> None:
    with pytest.raises(ConfigError) as raised:
        PostHog(host, project_token=TOKEN, personal_key=KEY)
    assert raised.value.field == "host"
    assert ":p@" not in str(raised.value)


def test_nothing_shows_the_keys(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    shown: list[str] = []
    with serving(answers((200, document(ON), {}), (401, None, {}))) as server:
        asking = source(server.url)
        fetch(asking)
        shown += [str(failure(asking)), repr(asking), asking.name, asking.identity, repr(vars(asking))]
        asking.close()
    with refusing() as url:
        shown.append(str(failure(source(url))))
    shown += [f"{record.getMessage()} {record.args}" for record in caplog.records]
    assert any("/flags/definitions" in text for text in shown)
    for secret in (TOKEN, KEY):
        assert not [text for text in shown if secret in text]


def test_projects_are_told_apart() -> None:
    one, other = source(), source(project_token="phc_other")
    assert one.identity != other.identity
    assert one.identity == source().identity
    assert one.dialect == "posthog"
    assert isinstance(one, Source)
    assert not one.local
