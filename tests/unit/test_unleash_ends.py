"""An Unleash server's client API as source and sink: what is sent, and what each answer means."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from loopback import Call, Loopback, deaf, refusing, serving

from flagkit import Client, Config
from flagkit.errors import ConfigError, FetchError
from flagkit.events import Delivered, FlagUsage, Rejected, Retry, Usage
from flagkit.http import NoReply, Wire
from flagkit.sinks import Log, UsageSink
from flagkit.sinks import Unleash as Sink
from flagkit.sources import Bootstrapped, Cached, Fetched, NotModified
from flagkit.sources import Unleash as Source

TOKEN = "default:development.0123456789abcdef"
HEADERS = {"Content-Type": "application/json; charset=utf-8", "ETag": '"abc:7:v1"'}
DOCUMENT = json.dumps({"version": 2, "features": [{"name": "f", "enabled": True, "strategies": []}]}).encode()
USAGE = Usage(1_795_443_200_000, 1_795_443_260_500, {"f": FlagUsage(3, 1, {"red": 2}), "ü": FlagUsage(0, 1, {})})


@contextmanager
def server(
    features: Callable[[Call], None] | None = None,
    register: Callable[[Call], None] | None = None,
    metrics: Callable[[Call], None] | None = None,
) -> Iterator[Loopback]:
    def script(call: Call) -> None:
        path = call.path.partition("?")[0]
        own = {"/api/client/features": features, "/api/client/register": register, "/api/client/metrics": metrics}[path]
        if own is not None:
            own(call)
        elif path.endswith("features"):
            call.answer(304) if call.headers.get("if-none-match") else call.answer(200, DOCUMENT, HEADERS)
        else:
            call.answer(202)

    with serving(script) as running:
        yield running


def fetch(source: Source, validator: str | None = None) -> Any:
    return source.fetch(validator, deadline_s=5, max_bytes=1 << 20)


def called(running: Loopback, path: str) -> list[Call]:
    return [call for call in running.calls if call.path.partition("?")[0] == f"/api/client/{path}"]


def registered(running: Loopback) -> None:
    for thread in threading.enumerate():
        if thread.name == "flagkit-register":
            thread.join(10)


# -- the source


def test_a_request_says_who_asks_and_what_is_there_already() -> None:
    with server() as running:
        source = Source(
            running.url, token=TOKEN, app_name="shop", instance_id="web-1", custom_headers={"X-Proxy": "secret"}
        )
        assert fetch(source) == Fetched(DOCUMENT, '"abc:7:v1"', None)
        assert isinstance(fetch(source, '"abc:7:v1"'), NotModified)
        first, second = called(running, "features")
    assert first.headers["authorization"] == TOKEN
    assert first.headers["unleash-appname"] == "shop"
    assert first.headers["unleash-instanceid"] == "web-1"
    assert first.headers["x-proxy"] == "secret"
    assert first.headers["unleash-client-spec"] == "6.1.0"
    assert first.headers["unleash-sdk"].startswith("flagkit-python:")
    assert len(first.headers["unleash-connection-id"]) == 36
    assert second.headers["if-none-match"] == '"abc:7:v1"'
    assert second.headers["unleash-connection-id"] == first.headers["unleash-connection-id"]


@pytest.mark.parametrize(("end", "path"), [("", "/api"), ("/", "/api"), ("/api", "/api"), ("/api/", "/api")])
def test_the_api_s_address_may_be_given_with_or_without_its_path(end: str, path: str) -> None:
    source = Source(f"https://unleash.example.com{end}", token=TOKEN)
    assert source.name == f"https://unleash.example.com{path}/client/features"
    assert Source("https://example.com/flags/api", token=TOKEN).name == "https://example.com/flags/api/client/features"


def test_projects_are_asked_for_and_tell_sources_apart() -> None:
    with server() as running:
        source = Source(running.url, token=TOKEN, project=["a b", "c"], register=False)
        fetch(source)
        assert running.calls[0].path == "/api/client/features?project=a+b&project=c"
        assert "project" not in source.name
        others = (Source(running.url, token=TOKEN), Source(running.url, token="another"))
        assert len({each.identity for each in (source, *others)}) == 3


@pytest.mark.parametrize(
    ("status", "headers", "reason", "lasting"),
    [
        (401, {}, "http_401", True),
        (403, {}, "http_403", True),
        (404, {}, "http_404", True),
        (429, {"Retry-After": "7"}, "http_429", False),
        (503, {}, "http_503", False),
        (304, {}, "spurious_304", False),
        (200, {"Content-Type": "text/html"}, "not_json", False),
    ],
)
def test_what_is_no_document_is_a_failure_with_a_word(status: int, headers: Any, reason: str, lasting: bool) -> None:
    with server(features=lambda call: call.answer(status, b"", headers)) as running:
        with pytest.raises(FetchError) as raised:
            fetch(Source(running.url, token=TOKEN))
        assert (raised.value.reason, raised.value.lasting) == (reason, lasting)
        assert raised.value.retry_after_s == (7.0 if status == 429 else None)
        assert called(running, "register") == []


def test_the_application_is_registered_once_in_each_process_and_says_what_it_can() -> None:
    with server() as running:
        source = Source(running.url, token=TOKEN, app_name="shop")
        for _ in range(3):
            fetch(source)
        registered(running)
        (call,) = called(running, "register")
        body = json.loads(call.body)
        assert call.headers["authorization"] == TOKEN
        assert (body["appName"], body["specVersion"], body["interval"]) == ("shop", "6.1.0", 30)
        assert {"default", "flexibleRollout", "userWithId", "applicationHostname"} <= set(body["strategies"])
        assert body["connectionId"] == call.headers["unleash-connection-id"]
        assert body["started"].endswith("Z")
        source.after_fork()
        fetch(source)
        registered(running)
        assert len(called(running, "register")) == 2


def test_a_registration_that_fails_or_hangs_costs_nothing_but_a_line(caplog: pytest.LogCaptureFixture) -> None:
    with server(register=lambda call: call.answer(500)) as running:
        source = Source(running.url, token=TOKEN)
        fetch(source)
        registered(running)
        fetch(source)
        assert source.failed_registrations == 1
        assert [record.message for record in caplog.records if "register" in record.message] == [
            f"source {source.name}: could not register, which changes nothing else: status 500"
        ]
    hanging = threading.Event()

    def hang(call: Call) -> None:
        hanging.set()
        call.hang()

    with server(register=hang) as running:
        source = Source(running.url, token=TOKEN)
        assert isinstance(fetch(source), Fetched)
        assert hanging.wait(10)
        assert isinstance(fetch(source), Fetched)
    with server() as running:
        fetch(Source(running.url, token=TOKEN, register=False))
        assert called(running, "register") == []


@pytest.mark.parametrize("form", ["mapping", "bytes", "path"])
def test_a_bootstrap_serves_from_the_first_question_on(form: str, tmp_path: Path) -> None:
    path = tmp_path / "features.json"
    path.write_bytes(DOCUMENT)
    given = {"mapping": json.loads(DOCUMENT), "bytes": DOCUMENT, "path": path}[form]
    with refusing() as url:
        source = Source(url, token=TOKEN, bootstrap=given)
        assert isinstance(source, Bootstrapped)
        assert json.loads(source.bootstrap() or b"") == json.loads(DOCUMENT)
        for config in (Config(), Config(state_dir=tmp_path)):
            client = Client(source=source, sink=None, config=config)
            assert client.status.ready
            assert client.enabled("f", "u")
            client.close()


def test_what_was_kept_comes_before_a_bootstrap_and_the_server_before_both(tmp_path: Path) -> None:
    brought = json.dumps({"version": 2, "features": [{"name": "g", "enabled": True, "strategies": []}]}).encode()
    config = Config(state_dir=tmp_path, poll_interval_s=1)
    with server() as running:
        with Client(source=Source(running.url, token=TOKEN, bootstrap=brought), sink=None, config=config) as client:
            assert client.enabled("g", "u")
            assert client.refresh(10)
            assert (client.enabled("f", "u"), client.enabled("g", "u")) == (True, False)
        again = Client(source=Source(running.url, token=TOKEN, bootstrap=brought), sink=None, config=config)
        assert (again.peek("f", "u").enabled, again.status.origin) == (True, "disk")
        again.close()


def test_a_bad_bootstrap_is_said_and_changes_nothing_else() -> None:
    with server() as running:
        client = Client(source=Source(running.url, token=TOKEN, bootstrap=b"{"), sink=None)
        assert client.status.problems
        with client:
            assert client.wait_ready(10)
            assert client.enabled("f", "u")


def test_what_is_kept_on_disk_has_the_application_s_facts_too(tmp_path: Path) -> None:
    source = Source("https://unleash.example.com", token=TOKEN, app_name="shop")
    assert source.facts["appName"] == "shop"
    assert source.facts["hostname"]
    assert Cached(source, tmp_path).facts == source.facts


def test_the_host_s_name_may_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("hostname", "web-7")
    assert Source("https://unleash.example.com", token=TOKEN).facts["hostname"] == "web-7"


# -- the sink


def report(sink: Sink, *, deadline_s: float = 5) -> Any:
    return sink.report(USAGE, deadline_s=deadline_s)


def test_a_report_is_a_bucket_of_unleash_s() -> None:
    with server() as running:
        sink = Sink(running.url, token=TOKEN, app_name="shop", interval_s=30)
        assert isinstance(sink, UsageSink)
        assert report(sink) == Delivered()
        (call,) = called(running, "metrics")
    body = json.loads(call.body)
    assert body["appName"] == "shop"
    assert body["bucket"] == {
        "start": "2026-11-23T14:13:20.000Z",
        "stop": "2026-11-23T14:14:20.500Z",
        "toggles": {
            "f": {"yes": 3, "no": 1, "variants": {"red": 2}},
            "ü": {"yes": 0, "no": 1, "variants": {}},
        },
    }
    assert call.headers["authorization"] == TOKEN
    assert call.headers["unleash-interval"] == "30000"


@pytest.mark.parametrize(
    ("status", "headers", "meant"),
    [
        (200, {}, Delivered()),
        (202, {}, Delivered()),
        (401, {}, Retry("http_401", lasting=True)),
        (404, {}, Retry("http_404", lasting=True)),
        (429, {"Retry-After": "9"}, Retry("http_429", 9.0)),
        (503, {}, Retry("http_503")),
        (400, {}, Rejected("http_400")),
        (413, {}, Rejected("http_413")),
        (500, {}, Rejected("unconfirmed")),
        (502, {}, Rejected("unconfirmed")),
        (504, {}, Rejected("unconfirmed")),
        (302, {"Location": "/elsewhere"}, Rejected("unconfirmed")),
    ],
)
def test_each_status_means_taken_or_not_or_that_nobody_knows(status: int, headers: Any, meant: object) -> None:
    with server(metrics=lambda call: call.answer(status, b"", headers)) as running:
        assert report(Sink(running.url, token=TOKEN)) == meant


def test_without_a_connection_nothing_was_taken_and_after_the_request_nobody_knows() -> None:
    with refusing() as url:
        assert report(Sink(url, token=TOKEN)) == Retry("refused")
    with server(metrics=Call.hang_up) as running:
        assert report(Sink(running.url, token=TOKEN)) == Rejected("unconfirmed")
    with server(metrics=Call.hang) as running:
        assert report(Sink(running.url, token=TOKEN), deadline_s=0.2) == Rejected("unconfirmed")


def test_a_failure_says_whether_anything_can_have_been_written() -> None:
    def written(url: str) -> bool:
        with pytest.raises(NoReply) as raised:
            Wire(url, "/").post(b"{}", {}, deadline_s=0.3, max_bytes=100)
        return raised.value.written

    with refusing() as url:
        assert written(url) is False
    with serving(Call.hang_up) as running:
        assert written(running.url) is True
    with serving(Call.hang) as running:
        assert written(running.url) is True
    with deaf() as url:  # takes the connection, and says nothing in the TLS handshake
        assert written(url.replace("http:", "https:")) is False


def test_a_fresh_connection_is_used_for_every_report() -> None:
    with server() as running:
        sink = Sink(running.url, token=TOKEN)
        assert [report(sink), report(sink)] == [Delivered(), Delivered()]
        assert running.connections == 2
        sink.close()


# -- both


@pytest.mark.parametrize("end", [Source, Sink])
def test_no_secret_is_shown(end: type[Any], caplog: pytest.LogCaptureFixture) -> None:
    made = end("https://unleash.example.com/api", token=TOKEN, custom_headers={"X-Key": "hush-hush"})
    for secret in (TOKEN, "hush-hush"):
        assert secret not in f"{made.name} {made!r} {vars(made)}"
    with pytest.raises(ConfigError) as raised:
        end("https://unleash.example.com", token="bad\ntoken")
    assert raised.value.field == "token"
    assert "bad" not in str(raised.value)


@pytest.mark.parametrize("end", [Source, Sink])
@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("url", "http://unleash.example.com/api"),
        ("url", "https://unleash.example.com/api?x=1"),
        ("app_name", ""),
        ("app_name", "a\nb"),
        ("instance_id", "é"),
        ("custom_headers", {"Authorization": "x"}),
        ("custom_headers", {"no name": "x"}),
        ("custom_headers", ["x"]),
    ],
)
def test_a_wrong_argument_is_named(end: type[Any], field: str, value: Any) -> None:
    settings = {"url": "https://unleash.example.com", "token": TOKEN, field: value}
    with pytest.raises(ConfigError) as raised:
        end(settings.pop("url"), **settings)
    assert raised.value.field == field


@pytest.mark.parametrize(
    ("end", "field", "value"),
    [
        (Source, "project", []),
        (Source, "project", 7),
        (Source, "bootstrap", "/nowhere/at/all"),
        (Source, "bootstrap", {"a": float("nan")}),
        (Sink, "interval_s", 0),
        (Sink, "interval_s", True),
        (Sink, "events", Log),
        (Sink, "events", 7),
    ],
)
def test_a_wrong_argument_of_one_end_is_named(end: type[Any], field: str, value: Any) -> None:
    with pytest.raises(ConfigError) as raised:
        end("https://unleash.example.com", token=TOKEN, **{field: value})
    assert raised.value.field == field


def test_a_client_of_both_counts_what_it_answers() -> None:
    with server() as running:
        source, sink = Source(running.url, token=TOKEN), Sink(running.url, token=TOKEN, app_name="shop")
        with Client(source=source, sink=sink) as client:
            assert client.wait_ready(10)
            for _ in range(3):
                assert client.enabled("f", "u")
            assert client.variant("f", "u") == "disabled"
            assert client.flush(10) == 0
        toggles = json.loads(called(running, "metrics")[0].body)["bucket"]["toggles"]
        assert toggles == {"f": {"yes": 4, "no": 0, "variants": {"disabled": 1}}}
        registered(running)
