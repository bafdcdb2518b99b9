"""``flagkit publish``, and clients that have what was published at once: a real Redis on loopback."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from loopback import refusing
from redises import RedisServer, needs_redis, redis_server

from flagkit import Client, Config
from flagkit.cli import main
from flagkit.errors import FetchError
from flagkit.sources import Fetched, Redis

pytestmark = needs_redis
LONG_S = 10.0
MAX = 1 << 20
FLAGS: dict[str, Any] = {"a": {"default": "on"}, "b": {}}


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with redis_server() as server:
        yield server


@pytest.fixture
def place(server: RedisServer, request: pytest.FixtureRequest) -> Redis:
    """A place of its own in the server."""
    return Redis(server.url, key=f"{request.node.name}:flags")


def fetch(source: Redis) -> Any:
    return source.fetch(None, deadline_s=LONG_S, max_bytes=MAX)


def listen(source: Redis) -> Any:
    return source.listen("e:1", deadline_s=LONG_S, max_bytes=MAX)


def publish(place: Redis, server: RedisServer, flags: Any, tmp_path: Path, *options: str) -> Result:
    file = tmp_path / "flags.json"
    file.write_text(flags if isinstance(flags, str) else json.dumps({"schema": 1, "flags": flags}))
    return CliRunner().invoke(main, ["publish", str(file), "--redis", server.url, "--key", place.key, *options])


def published(place: Redis) -> dict[str, Any]:
    answer = fetch(place)
    assert isinstance(answer, Fetched)
    document: dict[str, Any] = json.loads(answer.data)
    return document


def test_publishing_numbers_the_content_and_tells_of_it(place: Redis, server: RedisServer, tmp_path: Path) -> None:
    listening = listen(place)
    listening.next(LONG_S)
    first = publish(place, server, FLAGS, tmp_path)
    assert first.output == f"{place.name}: number 1, 2 flags, told to 1 listener\n"
    assert published(place)["flag_count"] == 2
    assert json.loads(listening.next(LONG_S).data)["reload"] is True
    second = publish(place, server, {**FLAGS, "a": {"enabled": False}}, tmp_path)
    assert "number 2" in second.output
    told = json.loads(listening.next(LONG_S).data)
    assert (told["number"], told["base"], told["flags"]) == (2, 1, {"a": {"enabled": False}})
    answer = fetch(place)
    assert told["etag"] == answer.validator
    listening.close()


def test_the_same_content_again_publishes_nothing(place: Redis, server: RedisServer, tmp_path: Path) -> None:
    publish(place, server, FLAGS, tmp_path)
    before = fetch(place)
    again = publish(place, server, json.dumps({"flags": FLAGS, "schema": 1}), tmp_path)
    assert "number 2" in again.output, "another order is another content"
    same = publish(place, server, json.dumps({"flags": FLAGS, "schema": 1, "number": 7}, indent=4), tmp_path)
    assert (same.exit_code, "has this content already, number 2" in same.output) == (0, True)
    assert fetch(place).validator != before.validator


@pytest.mark.parametrize("flags", ["{", {"a": {"default": 7}}, {"a": 7}])
def test_a_file_with_a_mistake_that_costs_a_flag_is_refused(
    place: Redis, server: RedisServer, tmp_path: Path, flags: Any
) -> None:
    result = publish(place, server, flags, tmp_path)
    assert result.exit_code == 1
    with pytest.raises(FetchError, match="nothing under the key"):
        fetch(place)


def test_each_mistake_of_a_refused_file_is_a_line_of_its_own(place: Redis, server: RedisServer, tmp_path: Path) -> None:
    result = publish(place, server, {"a": 7, "b": {"default": 7}}, tmp_path)
    first, *lines = result.stderr.splitlines()
    assert first.endswith("flags.json: not published:")
    assert [line[:11] for line in lines] == ["  $.flags.a", "  $.flags.b"]


def test_what_cannot_be_read_is_replaced_and_another_channel_may_be_told(
    place: Redis, server: RedisServer, tmp_path: Path
) -> None:
    client = place.client(LONG_S)
    client.set(place.key, b"nonsense")
    other = Redis(server.url, key=place.key, channel="other:channel")
    listening = listen(other)
    listening.next(LONG_S)
    assert publish(place, server, FLAGS, tmp_path, "--channel", "other:channel").exit_code == 0
    assert json.loads(listening.next(LONG_S).data)["number"] == 1
    assert published(place)["number"] == 1
    listening.close()
    client.close()


def test_two_who_publish_at_once_number_one_after_the_other(place: Redis, server: RedisServer, tmp_path: Path) -> None:
    from flagkit.cli.publish import publish as put

    numbers: list[int] = []

    def one(index: int) -> None:
        for each in range(10):
            document = {"schema": 1, "flags": {"a": {"description": f"{index} {each}"}}}
            numbers.append(put(Redis(server.url, key=place.key), document)[0])

    threads = [threading.Thread(target=one, args=(index,)) for index in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(numbers) == list(range(1, 31))


def test_a_redis_that_is_not_there_is_one_line_without_the_password(tmp_path: Path) -> None:
    file = tmp_path / "flags.json"
    file.write_text(json.dumps({"schema": 1, "flags": {}}))
    with refusing() as url:
        address = url.replace("http://", "redis://ann:s3cret@")
        result = CliRunner().invoke(main, ["publish", str(file)], env={"FLAGKIT_REDIS_URL": address})
    assert (result.exit_code, "connection refused" in result.output, "s3cret" in result.output) == (1, True, False)


# -- a client


def test_a_client_has_a_change_at_once_and_the_next_poll_needs_nothing(
    place: Redis, server: RedisServer, tmp_path: Path
) -> None:
    publish(place, server, FLAGS, tmp_path)
    others = set(threading.enumerate())
    client = Client(source=place, config=Config(poll_interval_s=600))
    assert client.wait_ready(LONG_S)
    wait_for(lambda: client.status.stream.state == "ok" and client.status.source.attempts == 2)
    publish(place, server, {**FLAGS, "a": {"enabled": False}}, tmp_path)
    wait_for(lambda: not client.enabled("a", "u"))
    assert client.status.source.attempts == 2
    before = client._feed.current.generation
    client._feed.worker.wake()
    wait_for(lambda: client.status.source.attempts == 3)
    assert client._feed.current.generation == before
    client.close()
    assert not [thread for thread in set(threading.enumerate()) - others if thread.name.startswith("flagkit-")]


def test_a_client_outlives_its_redis_and_has_what_it_missed_when_it_is_back(tmp_path: Path) -> None:
    with redis_server() as server:
        place = Redis(server.url)
        publish(place, server, FLAGS, tmp_path)
        client = Client(source=place, config=Config(poll_interval_s=0.2))
        assert client.wait_ready(LONG_S)
        wait_for(lambda: client.status.stream.state == "ok")
        server.stop()
        wait_for(lambda: client.status.stream.state == "failing")
        assert client.enabled("a", "u")
        server.start()
        publish(place, server, {**FLAGS, "a": {}}, tmp_path)
        wait_for(lambda: not client.enabled("a", "u") and client.status.stream.state == "ok")
        client.close()


def wait_for(holds: Callable[[], bool]) -> None:
    patience = threading.Event()
    for _ in range(4000):
        if holds():
            return
        patience.wait(0.005)
    raise AssertionError("it never came to be")
