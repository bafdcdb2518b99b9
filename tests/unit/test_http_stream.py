"""The HTTP source as one that tells: when it does, what it sends, and every way in which a stream goes wrong."""

from __future__ import annotations

import socket
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from loopback import GOOD_CERTIFICATE, Call, Loopback, server_tls, serving
from test_http_connections import in_a_fork

from flagkit.errors import FetchError
from flagkit.sources import Alive, Changed, Http, Teller

DOCUMENT = b'{"schema": 1, "flags": {}}'
KEY = "sk-read-0123456789"
HERE = b'id: e:1\ndata: {"epoch": "e", "number": 1}\n\n'
EVENTS = {"Content-Type": "text/event-stream; charset=utf-8", "Flagkit-Heartbeat": "2.5"}
LONG_S = 10.0
MAX = 1 << 16


def begin(call: Call, headers: dict[str, str] = EVENTS) -> None:
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    call.send(f"HTTP/1.1 200 OK\r\n{lines}Transfer-Encoding: chunked\r\n\r\n".encode())


def say(call: Call, data: bytes) -> None:
    call.send(b"%x\r\n%s\r\n" % (len(data), data))


@contextmanager
def streaming(
    script: Callable[[Call], None], offered: str | None = "stream", **settings: object
) -> Iterator[tuple[Http, Loopback]]:
    """A source that has fetched its document, and the server, which runs ``script`` for other requests."""

    def answer(call: Call) -> None:
        if call.path == "/v1/definitions":
            more = {} if offered is None else {"Flagkit-Stream": offered}
            call.answer(200, DOCUMENT, {"Content-Type": "application/json", **more})
        else:
            script(call)

    with serving(answer) as server:
        source = Http(server.url, key=KEY, **settings)
        source.fetch(None, deadline_s=LONG_S, max_bytes=MAX)
        yield source, server
        source.close()


def listen(source: Http, mark: str | None = None, deadline_s: float = LONG_S, max_bytes: int = MAX):
    return source.listen(mark, deadline_s=deadline_s, max_bytes=max_bytes)


def heard(call: Call) -> None:
    begin(call)
    say(call, HERE)
    call.hang()


def test_it_tells_when_the_server_says_so_and_nobody_else_is_asked() -> None:
    assert isinstance(Http("https://flags.example.com"), Teller)
    assert not Http("https://flags.example.com").tells
    with streaming(heard, offered=None) as (source, server):
        assert not source.tells
        with pytest.raises(FetchError) as raised:
            listen(source)
        assert raised.value.reason == "no_stream"
    assert [call.path for call in server.calls] == ["/v1/definitions"]


@pytest.mark.parametrize(
    ("offered", "path"), [("stream", "/v1/stream"), ("/x/y", "/x/y"), ("../z", "/z"), ("stream?a=b", "/v1/stream?a=b")]
)
def test_the_address_is_seen_from_that_of_the_definitions(offered: str, path: str) -> None:
    with streaming(heard, offered) as (source, server):
        listening = listen(source)
        assert listening.next(LONG_S) == Changed(b'{"epoch": "e", "number": 1}')
        listening.close()
    assert [call.path for call in server.calls] == ["/v1/definitions", path]


@pytest.mark.parametrize("offered", ["https://evil.example/stream", "//evil.example/", "http://u@127.0.0.1/", ""])
def test_an_address_elsewhere_is_no_offer(offered: str) -> None:
    with streaming(heard, offered) as (source, _):
        assert not source.tells


def test_the_key_and_what_is_in_use_are_sent_and_nothing_may_compress() -> None:
    with streaming(heard) as (source, server):
        listen(source, "e:7").close()
        listen(source).close()
        for epoch in ("\u20ac", " e", "x" * 600):
            listen(source, f"{epoch}:7").close()
    first, *others = (call.headers for call in server.calls[1:])
    assert (first["authorization"], first["accept"]) == (f"Bearer {KEY}", "text/event-stream")
    assert (first["last-event-id"], first["accept-encoding"]) == ("e:7", "identity")
    assert not any("last-event-id" in other for other in others), "nothing that a header cannot carry"


def test_news_come_one_by_one_however_they_are_sent() -> None:
    def script(call: Call) -> None:
        begin(call)
        say(call, b": hello\n\n" + HERE + HERE[:10])
        say(call, HERE[10:])
        call.hang()

    with streaming(script) as (source, _):
        listening = listen(source)
        here = Changed(b'{"epoch": "e", "number": 1}')
        assert [listening.next(LONG_S) for _ in range(3)] == [Alive(), here, here]
        listening.close()
        listening.close()


def test_silence_is_three_heartbeats_as_the_server_has_them() -> None:
    for value, silence_s in (("2.5", 7.5), ("none", 45), ("-1", 45), ("1e9", 45), ("nan", 45)):
        with streaming(lambda call: begin(call, {**EVENTS, "Flagkit-Heartbeat": value})) as (source, _):  # noqa: B023
            listening = listen(source)
            assert listening.silence_s == silence_s
            listening.close()


def failure(script: Callable[[Call], None], *, timeout_s: float = LONG_S, deadline_s: float = LONG_S, max_bytes=MAX):
    """How a stream fails, sooner or later."""

    def hear(source: Http) -> None:
        listening = listen(source, deadline_s=deadline_s, max_bytes=max_bytes)
        try:
            for _ in range(1000):
                listening.next(timeout_s)
        finally:
            listening.close()

    with streaming(script) as (source, _), pytest.raises(FetchError) as raised:
        hear(source)
    assert KEY not in str(raised.value)
    assert "/v1/stream" in str(raised.value)
    return raised.value


@pytest.mark.parametrize(("status", "lasting"), [(401, True), (404, True), (503, False), (302, False), (204, False)])
def test_a_refusal_is_told_as_for_a_document(status: int, lasting: bool) -> None:
    error = failure(lambda call: call.answer(status, b"", {"Retry-After": "60", "Location": "/v1/definitions"}))
    assert (error.reason, error.lasting, error.retry_after_s) == (f"http_{status}", lasting, 60)


@pytest.mark.parametrize(
    "headers", [{"Content-Type": "text/html"}, {"Content-Type": "text/event-stream", "Content-Encoding": "gzip"}, {}]
)
def test_what_is_no_stream_of_events_is_refused(headers: dict[str, str]) -> None:
    assert failure(lambda call: begin(call, headers)).reason == "no_stream"
    assert failure(lambda call: call.answer(200, b"", headers)).reason == "no_stream"


def test_an_answer_that_does_not_come_ends_at_the_deadline() -> None:
    began = time.monotonic()
    assert failure(lambda call: call.hang(), deadline_s=0.2).reason == "deadline"
    assert (
        failure(lambda call: call.drip(b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 100), deadline_s=0.2).reason == "deadline"
    )
    assert time.monotonic() - began < LONG_S


def silent(call: Call) -> None:
    begin(call)
    say(call, HERE)
    call.hang()


def dripping(call: Call) -> None:
    begin(call)
    while True:
        say(call, b"x")
        call.pause(0.01)


def dripping_in_a_chunk_size(call: Call) -> None:
    begin(call)
    call.drip(b"0" * 10_000, every_s=0.01)


@pytest.mark.parametrize("script", [silent, dripping, dripping_in_a_chunk_size])
def test_without_news_for_too_long_it_is_broken_whatever_drips(script: Callable[[Call], None]) -> None:
    began = time.monotonic()
    assert failure(script, timeout_s=0.2).reason == "deadline"
    assert time.monotonic() - began < LONG_S / 2


def ending(call: Call) -> None:
    begin(call)
    call.send(b"0\r\n\r\n")


def hung_up(call: Call) -> None:
    begin(call)
    call.hang_up()


def torn(call: Call) -> None:
    begin(call)
    call.send(b"ff\r\ndata: ")
    call.hang_up()


@pytest.mark.parametrize(("script", "reason"), [(ending, "ended"), (hung_up, "truncated"), (torn, "truncated")])
def test_an_end_is_told(script: Callable[[Call], None], reason: str) -> None:
    assert failure(script).reason == reason


def test_an_endless_event_is_not_collected() -> None:
    def script(call: Call) -> None:
        begin(call)
        while True:
            say(call, b"x" * 1000)

    assert failure(script, max_bytes=5000).reason == "too_large"


def test_news_without_a_stated_length_are_read_too() -> None:
    def script(call: Call) -> None:
        call.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n" + HERE)
        call.hang_up()

    with streaming(script) as (source, _):
        listening = listen(source)
        assert isinstance(listening.next(LONG_S), Changed)
        with pytest.raises(FetchError):
            listening.next(LONG_S)
        listening.close()


@pytest.mark.parametrize("secure", [False, True])
def test_hanging_up_ends_the_listening_of_another_thread_at_once(tmp_path, secure: bool) -> None:
    context, ca_file = server_tls(tmp_path, GOOD_CERTIFICATE) if secure else (None, None)

    def answer(call: Call) -> None:
        if call.path == "/v1/definitions":
            call.answer(200, DOCUMENT, {"Content-Type": "application/json", "Flagkit-Stream": "stream"})
        else:
            heard(call)

    with serving(answer, tls=context) as server:
        source = Http(server.url, ca_file=ca_file)
        source.fetch(None, deadline_s=LONG_S, max_bytes=MAX)
        listening = listen(source)
        listening.next(LONG_S)
        ended: list[float] = []

        def wait() -> None:
            with pytest.raises(FetchError):
                listening.next(60)
            ended.append(time.monotonic())

        waiting = threading.Thread(target=wait)
        waiting.start()
        waiting.join(0.1)
        hung_up_s = time.monotonic()
        listening.hang_up()
        waiting.join(LONG_S)
        assert ended[0] - hung_up_s < 1
        listening.hang_up()
        listening.close()
        listening.hang_up()
        source.close()


def test_polls_and_the_stream_have_connections_of_their_own() -> None:
    with streaming(heard) as (source, server):
        listening = listen(source)
        listening.next(LONG_S)
        for _ in range(3):
            source.fetch(None, deadline_s=LONG_S, max_bytes=MAX)
        assert server.connections == 2
        listening.close()


def test_a_forked_child_leaves_the_parents_stream_alone_and_has_its_own() -> None:
    go_on = threading.Event()

    def script(call: Call) -> None:
        begin(call)
        say(call, HERE)
        go_on.wait(LONG_S)
        say(call, HERE)
        call.hang()

    with streaming(script) as (source, _):
        listening = listen(source)
        listening.next(LONG_S)

        def child() -> bool:
            source.after_fork()
            own = listen(source)
            return isinstance(own.next(LONG_S), Changed)

        assert in_a_fork(child)
        go_on.set()
        assert isinstance(listening.next(LONG_S), Changed)
        listening.close()


def test_an_exception_nobody_expected_shows_no_key_in_its_local_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    with streaming(heard) as (source, _):

        def unforeseen(*_: object) -> None:
            raise ZeroDivisionError

        monkeypatch.setattr(socket.socket, "sendall", unforeseen)
        with pytest.raises(ZeroDivisionError) as raised:
            listen(source)
        monkeypatch.undo()
    below = raised.value.with_traceback(raised.tb.tb_next)  # the key is in this frame, with the server's records
    seen = traceback.TracebackException.from_exception(below, capture_locals=True)
    assert KEY not in "".join(seen.format())
