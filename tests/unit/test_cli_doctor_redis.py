"""``flagkit doctor`` at a real Redis on loopback: it names what is wrong, says what to do, and shows no password."""

from __future__ import annotations

import json
import socket
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from loopback import refusing
from redises import RedisServer, needs_redis, redis_server

from flagkit.cli import main
from flagkit.cli.doctor import redis as examination
from flagkit.sources import Redis

pytestmark = needs_redis
PASSWORD = "hunter2-0123456789"
LONG_S = 10.0
FLAGS = {"schema": 1, "version": "7", "flags": {"checkout": {}, "search": {}}}

Report = dict[str, list[tuple[str, str]]]


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with redis_server() as server:
        yield server


@pytest.fixture(scope="module")
def guarded() -> Iterator[RedisServer]:
    """One with a password, and a user ``deaf`` who may read and not listen."""
    acl = ["deaf", "on", f">{PASSWORD}", "~*", "resetchannels", "+@all"]
    with redis_server("--requirepass", PASSWORD, "--user", *acl) as server:
        yield server


@pytest.fixture
def place(server: RedisServer, request: pytest.FixtureRequest) -> Redis:
    """A place of its own in the server."""
    return Redis(server.url, key=f"{request.node.name}:flags")


def run(*arguments: str, url: str | None = None) -> Result:
    result = CliRunner().invoke(main, ["doctor", *arguments], env={"FLAGKIT_REDIS_URL": url})
    assert result.exception is None or isinstance(result.exception, SystemExit)
    assert PASSWORD not in result.output
    return result


def doctor(*arguments: str, url: str | None = None) -> Report:
    result = run("--json", *arguments, url=url)
    report: Report = {}
    for each in json.loads(result.stdout):
        report.setdefault(each["check"], []).append((each["verdict"], f"{each['found']}; {each['fix']}"))
    assert result.exit_code == int(any(verdict == "problem" for found in report.values() for verdict, _ in found))
    return report


def only(report: Report, check: str, verdict: str, *texts: str) -> None:
    """The one finding of ``check`` has this verdict and says these things."""
    ((found, text),) = report[check]
    assert found == verdict, text
    assert all(part in text for part in texts), text


def publish(url: str, tmp_path: Path, *options: str) -> None:
    file = tmp_path / "flags.json"
    file.write_text(json.dumps(FLAGS))
    assert CliRunner().invoke(main, ["publish", str(file), "--redis", url, *options]).exit_code == 0


def put(place: Redis, value: Any) -> None:
    client = place.client(LONG_S)
    client.set(place.key, value)
    client.close()


def test_a_redis_that_is_well_is_well_and_what_it_cannot_tell_is_said(
    place: Redis, server: RedisServer, tmp_path: Path
) -> None:
    publish(server.url, tmp_path, "--key", place.key, "--channel", "other:channel")
    report = doctor(server.url, "--redis-key", place.key, "--redis-channel", "other:channel")
    only(report, "address", "ok", "127.0.0.1", "connected in")
    only(report, "redis", "ok", f"what is under {place.key} comes in ")
    only(report, "password", "ok", "none is given, and none is needed to read")
    only(report, "definitions", "ok", "2 flags, version 7, number 1, ")
    only(report, "stream", "ok", "on the channel other:channel")
    only(report, "clock", "skipped", "each client's own clock", "NTP")
    only(report, "events", "skipped", "a Redis takes none", "flagkit doctor URL")
    assert "number" not in report
    assert "service" not in report


def test_a_redis_is_only_looked_at(place: Redis, server: RedisServer, tmp_path: Path) -> None:
    publish(server.url, tmp_path, "--key", place.key)
    client = place.client(LONG_S)
    before = client.dbsize(), client.get(place.key)
    doctor(server.url, "--redis-key", place.key)
    assert (client.dbsize(), client.get(place.key)) == before
    assert client.pubsub_numsub(place.key) == [(place.key.encode(), 0)]
    client.close()


def test_nothing_under_the_key(server: RedisServer) -> None:
    report = doctor(f"{server.url}/3")
    only(report, "definitions", "problem", "nothing under the key", "flagkit publish", "--redis-key", "the database")
    assert "stream" not in report


def test_something_of_another_kind_under_the_key(place: Redis, server: RedisServer) -> None:
    client = place.client(LONG_S)
    client.rpush(place.key, "x")
    client.close()
    report = doctor(server.url, "--redis-key", place.key)
    only(report, "definitions", "problem", "something of another kind", "under another key")


def test_definitions_that_cannot_be_used(place: Redis, server: RedisServer) -> None:
    put(place, b"nonsense")
    report = doctor(server.url, "--redis-key", place.key)
    only(report, "definitions", "problem", "cannot be used: $: not JSON", "flagkit validate")
    assert "number" not in report


def test_definitions_that_were_put_there_by_hand(place: Redis, server: RedisServer) -> None:
    put(place, json.dumps(FLAGS))
    report = doctor(server.url, "--redis-key", place.key)
    only(report, "definitions", "ok", "2 flags")
    only(report, "number", "warning", "has no number", "flagkit publish")


def test_a_redis_that_is_slow(
    place: Redis, server: RedisServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(server.url, tmp_path, "--key", place.key)
    monkeypatch.setattr(examination, "_SLOW_MS", 0.0)
    only(doctor(server.url, "--redis-key", place.key), "redis", "warning", "look at the network")


# -- who is asking ----------------------------------------------------------------------------------------------------


def test_a_password_is_taken_from_the_environment_and_never_shown(guarded: RedisServer, tmp_path: Path) -> None:
    url = guarded.url.replace("//", f"//:{PASSWORD}@")
    publish(url, tmp_path)
    for report in (doctor(url=url), doctor(url)):
        only(report, "password", "ok", "taken")
        only(report, "definitions", "ok", "2 flags")
        assert "service" not in report
    assert "ok       password     taken\n" in run(url=url).stdout


@pytest.mark.parametrize("user", ["", f":{PASSWORD}x@", f"nobody:{PASSWORD}@"])
def test_a_password_that_is_not_taken_is_not_shown(guarded: RedisServer, user: str) -> None:
    report = doctor(guarded.url.replace("//", f"//{user}"))
    only(report, "password", "problem", "refuses the user name, the password or the command", "FLAGKIT_REDIS_URL")
    assert "nobody" not in str(report)


def test_a_user_who_may_read_and_not_listen(guarded: RedisServer, tmp_path: Path) -> None:
    publish(guarded.url.replace("//", f"//:{PASSWORD}@"), tmp_path)
    report = doctor(guarded.url.replace("//", f"//deaf:{PASSWORD}@"))
    only(report, "definitions", "ok", "2 flags")
    only(report, "stream", "warning", "refuses", "SUBSCRIBE to flagkit:definitions", "with the polls")


# -- an address that leads elsewhere ----------------------------------------------------------------------------------


def test_a_port_where_no_redis_listens() -> None:
    with refusing() as url:
        report = doctor(url.replace("http://", f"redis://ann:{PASSWORD}@"))
    only(report, "address", "problem", "refuses connections")
    assert "redis" not in report


def test_something_else_than_a_redis() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            for _ in range(2):  # whether the port answers, and then the question
                sock, _ = listener.accept()
                with sock:
                    if sock.recv(1024):
                        sock.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        report = doctor(f"redis://127.0.0.1:{listener.getsockname()[1]}")
        thread.join(LONG_S)
    only(report, "redis", "problem", "does not answer as Redis does", "see what listens there")
    assert "definitions" not in report


@pytest.mark.parametrize(
    ("url", "text"),
    [
        (f"redis://ann:{PASSWORD}@redis.example.com", "expected rediss://, or redis:// on loopback"),
        (f"redis://ann:{PASSWORD}@127.0.0.1/0?db=1", "without query and fragment"),
        (f"rediss://ann:{PASSWORD}@", "expected a URL such as rediss://"),
    ],
)
def test_an_address_that_is_none_is_not_shown(url: str, text: str) -> None:
    only(doctor(url), "address", "problem", text, "a value not shown here", "what your clients are given")


def test_a_key_that_is_none(server: RedisServer) -> None:
    only(doctor(server.url, "--redis-key", ""), "key", "problem", "printable characters")


def test_without_redis_py_the_extra_is_named(server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "redis", None)
    result = run(server.url)
    assert (result.exit_code, "pip install 'flagkit[redis]'" in result.stderr) == (1, True)
