"""A fleet through Redis, a real one on loopback: judged together and in turn, whatever becomes of judge and server."""

from __future__ import annotations

import itertools
import json
import logging
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, Self

import pytest
from loopback import deaf, refusing
from redises import RedisServer, needs_redis, redis_server, until_caught_up
from test_http_connections import in_a_fork

from flagkit.errors import ConfigError, FetchError
from flagkit.fleets import Counts, Fleet, Judged, Redis, Report, Trial
from flagkit.fleets.redis_places import MOST_WAITING, TURN_MS, Places
from flagkit.redis_wire import Deadline

pytestmark = needs_redis
LONG_S = 10.0
USUAL_MS = TURN_MS
TRIAL = Trial("production", "new-checkout", 1, "on")
OTHER = TRIAL._replace(flag="one-click")
LIMIT = 100


def judge(trial: Trial, policy: str, state: bytes | None, counts: Sequence[Counts], now_s: float) -> Judged:
    """Adds up numbers, each once, and has its final word at ``LIMIT``."""
    known: dict[str, Any] = json.loads(state) if state else {"total": 0, "heard": {}}
    for process, sequence, received_s, counted in counts:
        assert -1 <= now_s - received_s <= 61
        if known["heard"].get(process, 0) < sequence:
            known["heard"][process] = sequence
            known["total"] += int(counted)
    word = {"total": known["total"], "policy": policy}
    return Judged(json.dumps(known).encode(), json.dumps(word), known["total"] >= LIMIT)


class Process:
    """One process of a fleet. What it hears is the total of each trial."""

    def __init__(self, url: str, number: int = 1, judge: Any = judge, **settings: Any) -> None:
        self.fleet = Redis(url, **settings)
        self.id = f"{number:032x}"
        self.judge = judge
        self.sequence = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.fleet.close()

    def exchange(self, *counted: int | tuple[Trial, int], deadline_s: float = LONG_S) -> dict[str, int]:
        """Flag -> total; a plain number is counted for ``TRIAL``, 0 means nothing."""
        reports = [each if isinstance(each, tuple) else (TRIAL, each) for each in counted or (0,)]
        self.sequence += 1
        words = self.fleet.exchange(
            self.id,
            self.sequence,
            [Report(trial, '{"alpha":0.01}', str(number).encode() if number else b"") for trial, number in reports],
            self.judge,
            deadline_s=deadline_s,
        )
        return {word.trial.flag: json.loads(word.word)["total"] for word in words}

    def fails(self, *counted: int, deadline_s: float = LONG_S) -> FetchError:
        with pytest.raises(FetchError) as raised:
            self.exchange(*counted, deadline_s=deadline_s)
        assert raised.value.__context__ is None, "what redis-py says may repeat anything"
        return raised.value


@pytest.fixture(autouse=True)
def long_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """A turn ends when a test says so, however slow the machine."""
    monkeypatch.setattr("flagkit.fleets.redis_places.TURN_MS", 60_000)


@pytest.fixture(scope="module")
def shared() -> Iterator[RedisServer]:
    with redis_server() as server:
        yield server


@pytest.fixture
def server(shared: RedisServer, client: Any) -> RedisServer:
    """A Redis in which nothing is."""
    client.flushall()
    return shared


@pytest.fixture
def client(shared: RedisServer) -> Iterator[Any]:
    import redis

    with redis.Redis(port=shared.port) as client:
        yield client


@pytest.fixture
def make(server: RedisServer) -> Iterator[Callable[..., Process]]:
    numbers = itertools.count(1)

    def make_one(judge: Any = judge, **settings: Any) -> Process:
        return made.enter_context(Process(server.url, next(numbers), judge, **settings))

    with ExitStack() as made:
        yield make_one


Make = Callable[..., Process]


def keys(trial: Trial = TRIAL) -> Places:
    return Places("flagkit", trial)


def next_turn(client: Any, *trials: Trial) -> None:
    """As if a second had passed."""
    client.delete(*(keys(trial).turn for trial in trials or (TRIAL,)))


# -- arguments


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"url": "http://127.0.0.1"}, "url"),
        ({"url": "redis://flags.example.com"}, "url"),
        ({"prefix": ""}, "prefix"),
        ({"prefix": "a{b}"}, "prefix"),
        ({"prefix": "a\nb"}, "prefix"),
        ({"ca_file": "/nowhere"}, "ca_file"),
    ],
)
def test_a_wrong_argument_is_named(settings: dict[str, Any], field: str) -> None:
    with pytest.raises(ConfigError) as raised:
        Redis(**{"url": "rediss://flags.example.com", **settings})
    assert raised.value.field == field


def test_it_is_a_fleet_and_says_which_without_the_password() -> None:
    fleet = Redis("rediss://ann:s3cret@[::1]:6380/3", prefix="shop")
    assert isinstance(fleet, Fleet)
    assert (fleet.name, repr(fleet)) == ("rediss://[::1]:6380/3 shop", "fleets.Redis('rediss://[::1]:6380/3 shop')")
    assert "s3cret" not in f"{vars(fleet)}"


# -- judging


def test_what_processes_count_is_judged_together_and_each_hears_the_word(make: Make, client: Any) -> None:
    one, two, three = make(), make(), make()
    assert one.exchange(1) == {"new-checkout": 1}
    assert two.exchange(2) == {"new-checkout": 1}, "it is not its turn"
    assert three.exchange(4) == {"new-checkout": 1}
    next_turn(client)
    assert two.exchange(8) == {"new-checkout": 15}
    assert [each.exchange(0) for each in (one, two, three)] == [{"new-checkout": 15}] * 3
    assert client.xlen(keys().counts) == 0


def test_whoever_has_the_turn_keeps_it_to_its_end(make: Make) -> None:
    alone = make()
    assert [alone.exchange(1)["new-checkout"] for _ in range(3)] == [1, 2, 3]


def test_trials_are_judged_each_by_itself(make: Make) -> None:
    later = TRIAL._replace(revision=2)
    process = make()
    assert process.exchange((TRIAL, 1), (OTHER, 2)) == {"new-checkout": 1, "one-click": 2}
    assert process.exchange((later, 5)) == {"new-checkout": 5}
    assert make(prefix="elsewhere").exchange(7) == {"new-checkout": 7}


def test_a_process_that_counted_nothing_hears_the_word_and_judges_what_others_left(make: Make, client: Any) -> None:
    one, two = make(), make()
    assert two.exchange() == {}, "nobody has judged"
    assert one.exchange(3) == {}, "it is not its turn"
    next_turn(client)
    assert two.exchange() == {"new-checkout": 3}


def test_a_sequence_that_was_heard_before_does_not_count_again(make: Make) -> None:
    process = make()
    process.exchange(3)
    process.sequence -= 1
    assert process.exchange(3) == {"new-checkout": 3}


def test_evidence_outlives_those_who_judged(make: Make, client: Any) -> None:
    make().exchange(3)
    next_turn(client)
    assert make().exchange(4) == {"new-checkout": 7}


def test_the_judge_has_the_policy_and_the_servers_time(make: Make, client: Any) -> None:
    asked: list[Any] = []

    def noting(*args: Any) -> Judged:
        asked.append(args)
        return judge(*args)

    make(noting).exchange(3)
    ((trial, policy, state, (counts,), now_s),) = asked
    assert (trial, policy, state) == (TRIAL, '{"alpha":0.01}', None)
    assert (counts.process, counts.sequence, counts.counted) == (f"{1:032x}", 1, b"3")
    seconds, _ = client.time()
    assert seconds - 60 < counts.received_s - 0.001 <= now_s <= seconds + 1


def test_the_turn_of_a_process_that_died_is_over_in_a_second(
    make: Make, client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flagkit.fleets.redis_places.TURN_MS", USUAL_MS)
    make().exchange(1)
    heir, began_s = make(), time.monotonic()
    assert -1 != client.pttl(keys().turn) <= USUAL_MS <= 1000, "it has an end, or had one"
    total = heir.exchange(2)["new-checkout"]
    while total != 3:
        time.sleep(0.05)
        total = heir.exchange(0)["new-checkout"]
    assert time.monotonic() - began_s < 5


def test_whoever_is_overtaken_while_judging_changes_nothing_and_nothing_counts_twice(make: Make, client: Any) -> None:
    quick = make()

    def slow(*args: Any) -> Judged:
        if not overtaken:
            overtaken.append(True)
            next_turn(client)
            assert quick.exchange(2) == {"new-checkout": 3}
        return judge(*args)

    overtaken: list[bool] = []
    loser = make(slow)
    assert loser.exchange(1) == {}, "as it stood when it read"
    next_turn(client)
    assert loser.exchange(4) == {"new-checkout": 7}
    assert client.xlen(keys().counts) == 0


def test_what_is_too_old_or_not_readable_is_left_out_and_removed(make: Make, client: Any) -> None:
    seconds, _ = client.time()
    client.xadd(keys().counts, {"p": "x" * 32, "s": 1, "c": 50}, id=f"{(seconds - 62) * 1000}-0")
    client.xadd(keys().counts, {"p": "x" * 32, "s": 1, "c": 2}, id=f"{(seconds - 50) * 1000}-0")
    client.xadd(keys().counts, {"something": "else"}, id=f"{(seconds - 40) * 1000}-0")
    client.xadd(keys().counts, {"p": "y", "s": "one", "c": 5}, id=f"{(seconds - 40) * 1000}-1")
    assert make().exchange(1) == {"new-checkout": 3}
    assert client.xlen(keys().counts) == 0


def test_a_judge_out_of_time_leaves_trials_to_others_and_hears_all_words(
    make: Make, client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slow(*args: Any) -> Judged:
        if args[3][0].counted == b"2":
            late.setattr(Deadline, "left_s", lambda deadline: LONG_S * 0.4)
        return judge(*args)

    process = make(slow)
    process.exchange((TRIAL, 1), (OTHER, 1))
    with monkeypatch.context() as late:
        assert process.exchange((TRIAL, 2), (OTHER, 2)) == {"new-checkout": 3, "one-click": 1}
    next_turn(client, OTHER)
    assert make().exchange((OTHER, 0)) == {"one-click": 3}


def test_a_judge_that_breaks_its_word_is_heard_of_and_blocks_nobody(make: Make, client: Any) -> None:
    def raising(*_: Any) -> Judged:
        raise ZeroDivisionError

    def garrulous(*_: Any) -> Judged:
        return Judged(b"", "x" * 4097)

    for bad, error in ((raising, ZeroDivisionError), (garrulous, ValueError)):
        with pytest.raises(error):
            make(bad).exchange(1)
        next_turn(client)
    assert make().exchange(1) == {"new-checkout": 3}
    next_turn(client)

    def exact(*_: Any) -> Judged:
        return Judged(b"", json.dumps({"total": 7}).ljust(4096))

    assert make(exact).exchange(1) == {"new-checkout": 7}
    assert make().exchange(0) == {"new-checkout": 7}


# -- what is kept


def test_every_key_has_an_end(make: Make, client: Any) -> None:
    one, two = make(), make()
    one.exchange(1)
    two.exchange(1)
    ends_s = {name.rpartition(b":")[2]: client.pttl(name) / 1000 for name in client.keys("*")}
    assert set(ends_s) == {b"counts", b"state", b"turn", b"word"}
    assert 0 < ends_s[b"turn"] <= 60
    assert 55 < ends_s[b"counts"] <= 60
    assert 29.9 * 86_400 < ends_s[b"state"] <= 30 * 86_400
    assert 29.9 * 86_400 < ends_s[b"word"] <= 30 * 86_400


def test_counts_that_nobody_judges_are_bounded(make: Make, client: Any) -> None:
    client.set(keys().turn, "nobody", ex=600)
    process = make()
    batch = 50
    for _ in range((MOST_WAITING + 500) // batch):
        process.exchange(*[1] * batch)
    assert MOST_WAITING <= client.xlen(keys().counts) < MOST_WAITING + 200
    next_turn(client)
    totals = [process.exchange(0)["new-checkout"]]
    while client.xlen(keys().counts):
        totals.append(process.exchange(0)["new-checkout"])
    assert len(totals) == 3, "two thousand at a time"


@pytest.mark.parametrize("name", ["a:b", "a{b", "a}b", "{}", "å/ß %", "\ud800", "*", "x" * 300])
def test_the_keys_of_a_trial_are_in_one_slot_whatever_it_is_called(make: Make, client: Any, name: str) -> None:
    from redis.crc import key_slot

    trial = Trial(name, name, 1, name)
    assert make().exchange((trial, 1)) == {name: 1}
    found = client.keys()
    assert len({key_slot(key) for key in found}) == 1
    assert len(found) == 4
    assert key_slot(found[0]) == key_slot(keys(trial._replace(revision=2, candidate="other")).word)


def test_names_do_not_run_into_each_other() -> None:
    assert keys(Trial("a", "b:c", 1, "d")).word != keys(Trial("a:b", "c", 1, "d")).word
    assert keys(Trial("a", "b", 1, "c:1:d")).word != keys(Trial("a", "b", 1, "c")).word


# -- final words


def test_after_the_final_word_nothing_is_counted_and_nothing_judged(make: Make, client: Any) -> None:
    one, two = make(), make()
    assert one.exchange(LIMIT) == {"new-checkout": LIMIT}
    for process in (two, one, two):
        next_turn(client)
        assert process.exchange(5) == {"new-checkout": LIMIT}
    state = client.get(keys().state)
    client.expire(keys().word, 100)
    next_turn(client)
    assert make().exchange(5) == {"new-checkout": LIMIT}
    assert client.get(keys().state) == state
    one.exchange(0)
    assert client.ttl(keys().word) > 29 * 86_400, "those who have heard it see to it that it stays"


def test_a_final_word_survives_a_flush_and_is_told_to_those_who_come_later(make: Make, client: Any) -> None:
    one = make()
    one.exchange(LIMIT)
    client.flushall()
    assert one.exchange(0) == {"new-checkout": LIMIT}
    assert make().exchange(1) == {"new-checkout": LIMIT}


def test_a_final_word_goes_before_what_was_judged_after_a_flush(make: Make, client: Any) -> None:
    one, late = make(), make()
    one.exchange(LIMIT)
    client.flushall()
    assert late.exchange(1) == {"new-checkout": 1}, "it cannot know"
    assert one.exchange(0) == {"new-checkout": LIMIT}
    assert late.exchange(1) == {"new-checkout": LIMIT}


def test_a_final_word_that_comes_while_another_judges_is_not_overwritten(make: Make, client: Any) -> None:
    one = make()
    one.exchange(LIMIT)
    client.flushall()

    def slow(*args: Any) -> Judged:
        one.exchange(0)
        return judge(*args)

    late = make(slow)
    assert late.exchange(1) == {}
    next_turn(client)
    assert late.exchange(1) == {"new-checkout": LIMIT}


def test_of_two_final_words_all_come_to_hear_one(make: Make, client: Any) -> None:
    one, two = make(), make()
    one.exchange(LIMIT)
    client.flushall()
    two.exchange(LIMIT + 7)
    assert one.exchange(0) == two.exchange(0) == {"new-checkout": LIMIT + 7}
    client.flushall()
    assert one.exchange(0) == two.exchange(0) == {"new-checkout": LIMIT + 7}


def test_a_higher_revision_begins_anew(make: Make) -> None:
    process = make()
    process.exchange(LIMIT)
    assert process.exchange((TRIAL._replace(revision=2), 1)) == {"new-checkout": 1}


def test_final_words_that_are_remembered_are_bounded(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flagkit.fleets.redis._MOST_FINAL", 3)
    process = make()
    for revision in range(10):
        process.exchange((TRIAL._replace(revision=revision), LIMIT))
    assert [trial.revision for trial in process.fleet._final] == [7, 8, 9]


# -- what goes wrong


def test_a_server_that_is_not_there_or_says_nothing_is_a_failure_within_the_deadline() -> None:
    with refusing() as url:
        assert Process(url.replace("http", "redis")).fails().reason == "refused"
    with deaf() as url:
        began_s = time.monotonic()
        assert Process(url.replace("http", "redis")).fails(deadline_s=0.2).reason == "deadline"
        assert time.monotonic() - began_s < LONG_S / 2


def test_a_server_that_was_stopped_fails_within_the_deadline_and_goes_on_when_it_does() -> None:
    with redis_server() as server, Process(server.url) as process:
        process.exchange(1)
        server.signal(signal.SIGSTOP)
        began_s = time.monotonic()
        assert process.fails(2, deadline_s=0.3).reason == "deadline"
        assert process.fails(4, deadline_s=0.3).reason == "deadline"
        assert time.monotonic() - began_s < LONG_S / 2
        server.signal(signal.SIGCONT)
        assert process.exchange(8)["new-checkout"] >= 9, "what was sent in the meantime may count"


def test_a_server_that_comes_back_between_two_exchanges_is_no_failure() -> None:
    with redis_server() as server, Process(server.url) as process:
        assert process.exchange(1) == {"new-checkout": 1}
        server.stop()
        server.start()
        assert process.exchange(2) == {"new-checkout": 2}
        server.stop()
        assert process.fails(4).reason == "refused"
        server.start()
        assert process.exchange(8) == {"new-checkout": 8}


def test_a_server_that_dies_in_the_middle_of_a_transaction_is_a_failure_once() -> None:
    def killing(*args: Any) -> Judged:
        server.stop()
        return judge(*args)

    with redis_server() as server, Process(server.url, judge=killing) as process:
        assert process.fails(1).reason == "reset"
        process.judge = judge
        server.start()
        assert process.exchange(2) == {"new-checkout": 2}


def test_a_flush_in_the_middle_of_a_transaction_leaves_a_trial_that_is_judged_on(make: Make, client: Any) -> None:
    def flushing(*args: Any) -> Judged:
        client.flushall()
        return judge(*args)

    process = make(flushing)
    process.exchange(1)
    client.set(keys().state, b"1" + judge(TRIAL, "", None, (), 0.0).state)
    process.exchange(2)
    process.judge = judge
    assert process.exchange(4)["new-checkout"] in (4, 5, 6, 7)
    assert make().exchange(0) != {}


@contextmanager
def forwarding(*ports: int) -> Iterator[tuple[str, list[int]]]:
    """A URL that leads to the first of the ports, at each new connection."""
    leads_to = list(ports)
    sockets: list[socket.socket] = []
    pumps: list[threading.Thread] = []

    def pump(source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
        hang_up(source, sink)

    def accept() -> None:
        with suppress(OSError):
            while True:
                sockets.append(near := listener.accept()[0])
                sockets.append(far := socket.create_connection(("127.0.0.1", leads_to[0])))
                for pair in ((near, far), (far, near)):
                    pumps.append(threading.Thread(target=pump, args=pair))
                    pumps[-1].start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        accepting = threading.Thread(target=accept)
        accepting.start()
        try:
            yield f"redis://127.0.0.1:{listener.getsockname()[1]}", leads_to
        finally:
            hang_up(listener)
            accepting.join(LONG_S)
            hang_up(*sockets)
            for thread in pumps:
                thread.join(LONG_S)
            for each in sockets:
                each.close()


def hang_up(*sockets: socket.socket) -> None:
    """Wakes whoever waits for them."""
    for each in sockets:
        with suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)


def test_a_failover_in_the_middle_of_a_transaction_loses_nothing_and_counts_nothing_twice(tmp_path: Path) -> None:
    import redis

    def failing_over(*args: Any) -> Judged:
        until_caught_up(second, first)
        new.replicaof("NO", "ONE")
        old.replicaof("127.0.0.1", second.port)
        leads_to[0] = second.port
        return judge(*args)

    with (
        redis_server("--repl-diskless-sync-delay", "0", "--dir", str(tmp_path)) as first,
        redis_server("--dir", str(tmp_path)) as second,
        redis.Redis(port=first.port) as old,
        redis.Redis(port=second.port) as new,
        forwarding(first.port) as (url, leads_to),
        Process(url) as process,
    ):
        new.replicaof("127.0.0.1", first.port)
        until_caught_up(second, first)
        assert process.exchange(1) == {"new-checkout": 1}
        process.judge = failing_over
        assert process.fails(2).reason in ("read_only", "reset")
        process.judge = judge
        assert process.exchange(4) == {"new-checkout": 7}


def test_a_full_server_is_a_failure_that_passes(make: Make, client: Any) -> None:
    process = make()
    client.config_set("maxmemory", 1)
    try:
        error = process.fails(1)
        assert (error.reason, error.lasting) == ("full", False)
    finally:
        client.config_set("maxmemory", 0)
    assert process.exchange(1) == {"new-checkout": 1}


def test_something_else_under_a_key_is_a_failure_that_lasts(make: Make, client: Any) -> None:
    client.lpush(keys().counts, "x")
    error = make().fails(1)
    assert (error.reason, error.lasting) == ("refused_command", True)
    client.delete(keys().counts)
    client.lpush(keys().word, "x")
    assert make().fails(1).reason == "refused_command"


def test_what_is_no_state_and_no_word_is_taken_for_none(make: Make, client: Any) -> None:
    client.set(keys().state, b"something else")
    client.set(keys().word, b"something else")
    one, two = make(), make()
    client.set(keys().turn, two.id)
    assert one.exchange(1) == {}
    assert two.exchange(2) == {"new-checkout": 3}


def test_a_wrong_password_lasts_and_is_not_shown(caplog: pytest.LogCaptureFixture) -> None:
    with redis_server("--requirepass", "right") as locked, caplog.at_level(logging.DEBUG):
        wrong = Process(f"redis://:wr0ng-s3cret@127.0.0.1:{locked.port}")
        error = wrong.fails(1)
        assert (error.reason, error.lasting) == ("auth", True)
        assert "s3cret" not in f"{error}{wrong.fleet!r}{caplog.text}"
        with Process(f"redis://:right@127.0.0.1:{locked.port}") as right:
            assert right.exchange(1) == {"new-checkout": 1}


# -- connections


def test_one_connection_is_kept_between_exchanges(make: Make, client: Any) -> None:
    process = make()
    before = client.info("stats")["total_connections_received"]
    for _ in range(5):
        process.exchange(1)
    assert client.info("stats")["total_connections_received"] == before + 1
    server_side = [each for each in client.client_list() if each["id"] != str(client.client_id())]
    for each in server_side:
        client.client_kill(each["addr"])
    assert process.exchange(1) == {"new-checkout": 6}, "nobody need know"


def test_it_may_be_closed_twice_and_go_on(make: Make) -> None:
    process = make()
    process.exchange(1)
    process.fleet.close()
    process.fleet.close()
    assert process.fleet._wire._open == set()
    assert process.exchange(2) == {"new-checkout": 3}


def test_closing_ends_an_exchange_on_another_thread() -> None:
    with deaf() as url:
        process = Process(url.replace("http", "redis"))
        ended: list[str] = []
        waiting = threading.Thread(target=lambda: ended.append(process.fails(deadline_s=60).reason))
        waiting.start()
        while waiting.is_alive():
            process.fleet.close()
            waiting.join(0.05)
        assert ended == ["reset"]


def test_a_forked_child_leaves_the_parents_connection_alone_and_has_its_own(make: Make) -> None:
    process = make()
    process.exchange(LIMIT)
    process.exchange((OTHER, 1))

    def child() -> bool:
        process.fleet.after_fork()
        assert process.fleet._wire._open == set()
        child = Process("redis://127.0.0.1", 99)
        child.fleet = process.fleet
        return child.exchange((TRIAL, 0), (OTHER, 2))["new-checkout"] == LIMIT

    assert in_a_fork(child)
    assert process.exchange((OTHER, 4)) == {"one-click": 7}


def test_with_nothing_to_ask_nobody_is_asked() -> None:
    assert Redis("redis://127.0.0.1:1").exchange("0" * 32, 1, [], judge, deadline_s=LONG_S) == []
