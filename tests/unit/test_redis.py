"""Definitions in Redis, a real one on loopback: what is fetched and told, what goes wrong, and no password anywhere."""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest
from loopback import deaf, refusing
from redises import RedisServer, needs_redis, redis_server
from test_http_connections import in_a_fork

from flagkit import Client
from flagkit.errors import ConfigError, FetchError
from flagkit.sources import Alive, Changed, Missed, Redis, Teller

pytestmark = needs_redis
LONG_S = 10.0
MAX = 1 << 20
PASSWORD = "p&ss/w:rd"
FLAGS: dict[str, Any] = {"a": {"default": "on"}, "b": {}}


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with redis_server() as server:
        yield server


@pytest.fixture
def place(server: RedisServer, request: pytest.FixtureRequest) -> Redis:
    """A place of its own in the server."""
    return Redis(server.url, key=f"{request.node.name}:flags")


def failure(work: Callable[[], Any]) -> FetchError:
    with pytest.raises(FetchError) as raised:
        work()
    assert raised.value.__context__ is None, "what redis-py says may repeat anything"
    return raised.value


def fetch(source: Redis, *, deadline_s: float = LONG_S, max_bytes: int = MAX) -> Any:
    return source.fetch(None, deadline_s=deadline_s, max_bytes=max_bytes)


def listen(source: Redis, max_bytes: int = MAX) -> Any:
    return source.listen("e:1", deadline_s=LONG_S, max_bytes=max_bytes)


# -- arguments


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1",
        "redis://",
        "redis://flags.example.com",
        "rediss://flags.example.com/0?ssl_cert_reqs=none",
        "rediss://flags.example.com/#x",
        "rediss://flags.example.com:port",
        "rediss://flags.example.com/zero",
        "redis://127.0.0.1/ 1",
        None,
    ],
)
def test_an_address_that_cannot_be_right_is_refused_and_not_shown(url: Any) -> None:
    with pytest.raises(ConfigError) as raised:
        Redis(url)
    assert raised.value.field == "url"
    assert str(url) not in str(raised.value)


@pytest.mark.parametrize(
    ("settings", "field"),
    [({"key": ""}, "key"), ({"channel": "a\nb"}, "channel"), ({"key": 7}, "key"), ({"ca_file": "/nowhere"}, "ca_file")],
)
def test_a_wrong_argument_is_named(settings: dict[str, Any], field: str) -> None:
    with pytest.raises(ConfigError) as raised:
        Redis("rediss://flags.example.com", **settings)
    assert raised.value.field == field


def test_it_says_who_it_is_without_the_password_and_tells_apart_by_it() -> None:
    one = Redis(f"rediss://ann:{PASSWORD.replace('/', '%2F')}@[::1]:6380/3", key="k")
    other = Redis("rediss://ann:other@[::1]:6380/3", key="k")
    assert one.name == other.name == "rediss://[::1]:6380/3 k"
    assert one.identity != other.identity
    assert one.channel == "k"
    assert "pass" not in f"{one!r}{one.identity}{vars(one)}".replace("password", "")
    assert isinstance(one, Teller)
    assert one.tells
    assert Redis("redis://flags.example.com", allow_insecure_redis=True).name.startswith(
        "redis://flags.example.com:6379/0"
    )


# -- fetching


def test_what_is_missing_too_large_or_no_string_is_told(place: Redis) -> None:
    client = place.client(LONG_S)
    assert failure(lambda: fetch(place)).reason == "missing"
    client.set(place.key, b"x" * 1001)
    read = client.info("commandstats")["cmdstat_get"]["calls"]
    assert failure(lambda: fetch(place, max_bytes=1000)).reason == "too_large"
    assert client.info("commandstats")["cmdstat_get"]["calls"] == read, "it is not even read"
    client.delete(place.key)
    client.rpush(place.key, "x")
    error = failure(lambda: fetch(place))
    assert (error.reason, error.lasting) == ("refused_command", True)
    client.close()


def test_an_empty_document_is_one(place: Redis) -> None:
    client = place.client(LONG_S)
    client.set(place.key, b"")
    assert fetch(place).data == b""
    client.close()


def test_what_the_network_did_is_told() -> None:
    with refusing() as url:
        assert failure(lambda: fetch(Redis(url.replace("http", "redis")))).reason == "refused"
    with deaf() as url:
        began = time.monotonic()
        assert failure(lambda: fetch(Redis(url.replace("http", "redis")), deadline_s=0.2)).reason == "deadline"
        assert time.monotonic() - began < LONG_S / 2


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "bad_response"),
        (b"", "reset"),
        (b"-LOADING Redis is loading\r\n", "loading"),
    ],
)
def test_what_answers_and_is_no_redis_at_work_is_told(answer: bytes, reason: str) -> None:
    def respond(sock: socket.socket) -> None:
        sock.recv(4096)
        sock.sendall(answer)

    with conversing(respond) as url:
        assert failure(lambda: fetch(Redis(url))).reason == reason


@contextmanager
def conversing(respond: Callable[[socket.socket], None]) -> Iterator[str]:
    """A URL where ``respond`` talks to the first who connects."""

    def converse() -> None:
        with suppress(OSError), listener.accept()[0] as sock:
            respond(sock)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=converse)
        thread.start()
        try:
            yield f"redis://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


def test_a_reply_that_drips_is_cut_off_at_the_deadline() -> None:
    pause = threading.Event()

    def drip(sock: socket.socket) -> None:
        sock.recv(4096)
        sock.sendall(b"+")
        for _ in range(1000):
            sock.sendall(b"x")
            pause.wait(0.01)

    with conversing(drip) as url:
        began = time.monotonic()
        assert failure(lambda: fetch(Redis(url), deadline_s=0.3)).reason == "deadline"
        assert time.monotonic() - began < LONG_S / 2


def test_a_wrong_password_lasts_and_is_not_shown(caplog: pytest.LogCaptureFixture) -> None:
    with redis_server("--requirepass", "right") as locked, caplog.at_level(logging.DEBUG):
        for url in (f"redis://:wr0ng-s3cret@127.0.0.1:{locked.port}", locked.url):
            error = failure(lambda: fetch(Redis(url)))  # noqa: B023
            assert (error.reason, error.lasting) == ("auth", True)
        client = Client(source=Redis(f"redis://:wr0ng-s3cret@127.0.0.1:{locked.port}"))
        assert not client.wait_ready(0.5)
        assert client.status.source is not None
        assert client.status.source.state == "auth_failed"
        shown = f"{error}{client.status}{client._feed._source!r}{caplog.text}"
        client.close()
    assert "s3cret" not in shown


# -- listening


def test_a_channel_begins_with_what_may_have_been_missed_and_tells_then(place: Redis) -> None:
    listening, client = listen(place, max_bytes=100), place.client(LONG_S)
    assert listening.next(LONG_S) == Missed()
    client.publish(place.channel, b"one")
    client.publish("elsewhere", b"other")
    client.publish(place.channel, b"x" * 101)
    client.publish(place.channel, b"")
    assert [listening.next(LONG_S) for _ in range(3)] == [Changed(b"one"), Missed(), Changed(b"")]
    listening.close()
    listening.close()
    client.close()


def test_in_silence_it_asks_for_a_sign_of_life(place: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flagkit.sources.redis._HEARTBEAT_S", 0.02)
    listening = listen(place)
    listening.next(LONG_S)
    assert [listening.next(LONG_S) for _ in range(3)] == [Alive()] * 3
    listening.close()


def test_a_server_that_has_fallen_silent_is_given_up(place: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flagkit.sources.redis._HEARTBEAT_S", 0.1)
    listening, client = listen(place), place.client(LONG_S)
    listening.next(LONG_S)
    client.execute_command("CLIENT", "PAUSE", "700", "ALL")
    assert failure(lambda: listening.next(0.3)).reason == "deadline"
    listening.close()
    client.close()


def test_hanging_up_ends_the_listening_of_another_thread_at_once(place: Redis) -> None:
    listening = listen(place)
    listening.next(LONG_S)
    ended: list[str] = []
    waiting = threading.Thread(target=lambda: ended.append(failure(lambda: listening.next(60)).reason))
    waiting.start()
    waiting.join(0.1)
    listening.hang_up()
    waiting.join(LONG_S)
    assert ended == ["reset"]
    listening.close()
    listening.hang_up()
    assert place._wire._open == set()


def test_a_forked_child_leaves_the_parents_connection_alone_and_has_its_own(place: Redis) -> None:
    listening, client = listen(place), place.client(LONG_S)
    listening.next(LONG_S)

    def child() -> bool:
        place.after_fork()
        own = listen(place)
        return own.next(LONG_S) == Missed() and place._wire._open == {own._connection}

    assert in_a_fork(child)
    client.publish(place.channel, b"one")
    assert listening.next(LONG_S) == Changed(b"one")
    listening.close()
    client.close()
