"""A webhook: what it says, what answers mean, and that nobody ever sees its URL."""

from __future__ import annotations

import json
import logging
import pickle
import traceback
from typing import Any

import pytest
from loopback import GOOD_CERTIFICATE, deaf, refusing, server_tls, serving
from test_http_connections import in_a_fork

from flagkit.errors import ConfigError
from flagkit.events import Delivered, Rejected, Retry, Sent
from flagkit.http import Wire
from flagkit.sinks import Webhook

LONG_S = 10.0
SECRET = "/services/T0/B0/s3cret?token=t0ken"


def send(webhook: Webhook, text: str = "hello", deadline_s: float = LONG_S, **fields: Any) -> Sent:
    sent = webhook.send(text, fields, deadline_s=deadline_s)
    webhook.close()
    return sent


def answered(status: int, headers: dict[str, str] | None = None) -> Sent:
    with serving(lambda call: call.answer(status, b"no_service", headers)) as server:
        return send(Webhook(server.url + SECRET))


@pytest.mark.parametrize(
    "url",
    [
        "http://hooks.example.com/s3cret",
        "https://user:s3cret@hooks.example.com/",
        "https://hooks.example.com/s3cret#x",
        "https://hooks.example.com/s3 cret",
        "https://hooks.example.com\\s3cret",
        "https://hooks.example.com/s3cret\n",
        "https://hooks.example.com/s3crét",
        "https://hooks.example.com:s3cret/",
        "https://",
        "ftp://hooks.example.com/s3cret",
        "https://hooks.example.com/s3cret" + "x" * 2048,
        "s3cret",
        None,
        b"https://hooks.example.com/s3cret",
    ],
)
def test_a_url_that_cannot_be_right_is_refused_and_not_shown(url: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="url: got a value not shown here") as raised:
        Webhook(url)
    assert "s3cret" not in str(raised.value)
    assert raised.value.__suppress_context__ or raised.value.__context__ is None
    if isinstance(url, str):
        monkeypatch.setenv("FLAGKIT_WEBHOOK_URL", url)
        with pytest.raises(ConfigError, match="FLAGKIT_WEBHOOK_URL: got a value not shown here"):
            Webhook.from_environment()


def test_its_url_may_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FLAGKIT_WEBHOOK_URL", raising=False)
    assert Webhook.from_environment() is None
    monkeypatch.setenv("FLAGKIT_WEBHOOK_URL", "")
    assert Webhook.from_environment() is None
    with serving(lambda call: call.answer(200, b"ok")) as server:
        monkeypatch.setenv("FLAGKIT_WEBHOOK_URL", server.url + SECRET)
        webhook = Webhook.from_environment()
        assert webhook is not None
        assert send(webhook) == Delivered()
    assert server.calls[0].path == SECRET


def test_http_beyond_loopback_has_to_be_allowed() -> None:
    assert "example" not in Webhook("http://hooks.example.com/s3cret", allow_insecure_http=True).name


def test_what_it_says_is_json_as_slack_reads_it_with_fields_beside() -> None:
    with serving(lambda call: call.answer(200, b"ok")) as server:
        send(Webhook(server.url + SECRET), "a < b & <!channel>", kind="trip", about="new-checkout", at_ms=7)
        send(Webhook(server.url), "x" * 5000)
    first, second = server.calls
    assert (first.method, first.path) == ("POST", SECRET)
    assert first.headers["content-type"] == "application/json"
    assert first.headers["host"] == server.url.removeprefix("http://")
    assert json.loads(first.body) == {
        "text": "a &lt; b &amp; &lt;!channel&gt;",
        "kind": "trip",
        "about": "new-checkout",
        "at_ms": 7,
    }
    assert second.path == "/"
    assert json.loads(second.body) == {"text": "x" * 3000}


@pytest.mark.parametrize(
    ("status", "sent"),
    [
        (200, Delivered()),
        (204, Delivered()),
        (400, Rejected("http_400")),
        (403, Rejected("http_403")),
        (404, Rejected("http_404")),
        (408, Retry("http_408")),
        (500, Retry("http_500")),
        (503, Retry("http_503")),
    ],
)
def test_what_a_status_means_for_a_message(status: int, sent: Sent) -> None:
    assert answered(status) == sent


def test_a_wait_that_is_asked_for_is_told_up_to_an_hour() -> None:
    assert answered(429, {"Retry-After": "30"}) == Retry("http_429", 30.0)
    assert answered(503, {"Retry-After": "86400"}) == Retry("http_503", 3600.0)


def test_a_redirect_is_not_followed() -> None:
    with serving(lambda call: call.answer(200)) as elsewhere:
        for status in (301, 302, 307, 308):
            assert answered(status, {"Location": elsewhere.url}) == Rejected(f"http_{status}")
    assert elsewhere.calls == []


def test_what_the_network_did_is_a_reason_to_try_again() -> None:
    with refusing() as url:
        assert send(Webhook(url + SECRET)) == Retry("refused")
    with deaf() as url:
        assert send(Webhook(url + SECRET), deadline_s=0.2) == Retry("deadline")


def test_an_answer_without_end_is_not_read() -> None:
    def endless(call: Any) -> None:
        call.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        call.hang()

    with serving(endless) as server:
        assert send(Webhook(server.url + SECRET)) == Delivered()


def test_nothing_shows_its_url(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    logging.getLogger("urllib3").setLevel(logging.DEBUG)
    with serving(lambda call: call.answer(503)) as server:
        webhook = Webhook(server.url + SECRET)
        send(webhook)
    send(webhook, deadline_s=0.2)
    port = server.url.rpartition(":")[2]
    assert '"POST /- HTTP/1.1" 503' in caplog.text, "what urllib3 logs of any request"
    shown = f"{webhook!r}{webhook.name}{vars(webhook)}{caplog.text}"
    assert not any(secret in shown for secret in ("s3cret", "t0ken", "T0/B0"))
    assert port not in f"{webhook!r}{webhook.name}"
    with pytest.raises(TypeError):
        pickle.dumps(webhook._wire._target)


@pytest.mark.parametrize("step", ["_output", "_send_output"])
def test_a_fault_nobody_expects_shows_no_url_in_its_traceback(step: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(f"http.client.HTTPConnection.{step}", broken)
    with serving(lambda call: call.answer()) as server, pytest.raises(ZeroDivisionError) as raised:
        send(Webhook(server.url + SECRET))
    shown = "".join(traceback.TracebackException.from_exception(raised.value, capture_locals=True).format())
    library = shown.partition("sinks/webhook.py")[2]
    assert "POST" in library
    assert not any(secret in library for secret in ("s3cret", "t0ken"))


def test_over_tls_it_asks_for_the_same_and_a_forked_child_leaves_the_connection_alone(tmp_path: Any) -> None:
    context, ca_file = server_tls(tmp_path, GOOD_CERTIFICATE)
    with serving(lambda call: call.answer(200), tls=context) as server:
        assert send(Webhook(server.url + SECRET)) == Retry("tls", lasting=True)
        webhook = Webhook(server.url + SECRET, ca_file=ca_file)
        assert webhook.send("one", {}, deadline_s=LONG_S) == Delivered()

        def child() -> bool:
            webhook.after_fork()
            return webhook.send("two", {}, deadline_s=LONG_S) == Delivered()

        assert in_a_fork(child)
        assert webhook.send("three", {}, deadline_s=LONG_S) == Delivered()
        webhook.close()
    assert [json.loads(call.body)["text"] for call in server.calls] == ["one", "two", "three"]
    assert {call.path for call in server.calls} == {SECRET}


def test_two_urls_are_told_apart_and_a_wire_that_is_not_hidden_asks_for_what_it_shows() -> None:
    assert Webhook("https://a.example.com/1").name != Webhook("https://a.example.com/2").name
    with serving(lambda call: call.answer(200, b"{}")) as server:
        wire = Wire(server.url, "/v1/definitions")
        wire.get(deadline_s=LONG_S, max_bytes=10)
        wire.close()
    assert server.calls[0].path == "/v1/definitions"
