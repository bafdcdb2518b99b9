"""Rows C7, C8, D1 and D9 to D11 with a folder for the state: spools that are damaged or large, kills and exits."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import pytest

from flagkit.disk import Folder
from flagkit.events import encode_metric
from flagkit.runtime.home import Home
from flagkit.runtime.records import HEAD, parse
from flagkit.sinks import Http as HttpSink
from tests.faults import answers
from tests.faults.disks import (
    FAILING,
    NEVER,
    crash,
    finished,
    running,
    segments,
    state,
    stored_once,
    track,
)
from tests.faults.stage import KEY, Stage, check_secrets
from tests.faults.test_events import batches_once

# -- C7, C8: damaged and large spools


def flipped(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 0x10]) + data[at + 1 :]


def starts(data: bytes) -> list[int]:
    """Where in a segment each event begins."""
    found, at = [], HEAD
    for _, size in parse(data[HEAD:])[0]:
        found.append(at)
        at += size
    return found


#: What is done to the first segment, and of so many events in it how many can be sent and how many are damaged.
BROKEN: dict[str, tuple[Callable[[bytes], bytes], Callable[[int], tuple[int, int]]]] = {
    "a torn tail": (lambda data: data[:-20], lambda count: (count - 1, 0)),
    "a torn length": (lambda data: data[: starts(data)[-1] + 5], lambda count: (count - 1, 0)),
    "a flipped bit": (lambda data: flipped(data, starts(data)[20] + 60), lambda count: (20, count - 20)),
    "a flipped bit in a length": (lambda data: flipped(data, starts(data)[20]), lambda count: (20, count - 20)),
    "a zeroed tail": (lambda data: data[: starts(data)[30]].ljust(len(data), b"\0"), lambda count: (30, 1)),
    "a record of an unknown type": (lambda data: data + b"\x7f\0\0\1" + b"{" * 30, lambda count: (count, 1)),
    "a head of an unknown type": (lambda data: flipped(data, 9), lambda count: (0, count)),
    "nothing in it": (lambda data: b"", lambda count: (0, 0)),
}


@pytest.mark.parametrize("what", BROKEN)
def test_c07_a_damaged_segment_is_sent_as_far_as_it_can_be_read(stage: Stage, what: str) -> None:
    damage, fate = BROKEN[what]
    stage.server.collector = answers.status(503)
    app = running(stage, config={"max_spool_bytes": 128 * 1024})
    for first in (0, 100, 200):
        track(app, first, 100)
    crash(app, stage)
    one, *others = segments(stage)
    assert others
    whole = one.read_bytes()
    one.write_bytes(damage(whole))
    good, damaged = fate(len(starts(whole)))
    stage.server.heal()
    app = running(stage, callers=1, track_every=NEVER)
    app.may_lose = {"damaged"}
    account = finished(app)
    assert account["lost"] == ({"damaged": damaged} if damaged else {})
    stored_once(stage, [*range(good), *range(len(starts(whole)), 300)])
    kept = list(state(stage).glob("sinks/*/dead/*.bad"))
    assert len(kept) == bool(damaged)
    assert sum(path.stat().st_size for path in kept) <= 1 << 20
    assert segments(stage) == []


def backlog(stage: Stage, megabytes: int) -> int:
    """Have a process that ended have left so much; return how many events that is."""
    name = sha256(HttpSink(stage.server.url, key=KEY).name.encode()).hexdigest()[:12]
    root = Folder.open(state(stage)).folder("sinks").folder(name)
    now_ms = int(time.time() * 1000)
    home = Home(root, now_ms, 1 << 20)
    count = size = 0
    while size < megabytes << 20:
        numbers = range(count, count + 50)
        texts = [encode_metric("old", "u", now_ms, 1, {"n": n, "x": "x" * 4000}, "test") for n in numbers]
        size += home.write(texts, 0, now_ms)
        assert home.segment is not None
        home.segment.grow(0, len(texts))
        count += len(texts)
    home.leave()
    return count


@pytest.mark.parametrize("megabytes", [60, pytest.param(1024, marks=pytest.mark.full)])
def test_c08_a_large_backlog_costs_no_time_at_the_start_and_new_events_give_way(stage: Stage, megabytes: int) -> None:
    count = backlog(stage, megabytes)
    stage.server.collector = answers.slow(stage.server, 0.3)
    app = running(stage, callers=2, track_every=NEVER, config={"max_spool_bytes": 32 << 20, "deadline_s": 10})
    app.may_lose, app.may_keep = {"spool_full"}, None
    took_s = app.do("""
import time
began_s = time.thread_time()
another = made()
answer = time.thread_time() - began_s
another.close(0)
""")
    assert took_s < 0.05
    app.until(lambda: app.account["adopted"] > 0 and app.account["delivered"] > 0)
    app.until(lambda: app.do("track(); answer = client.status.account.lost.get('spool_full', 0)") > 0)
    numbers = list(stage.server.numbers)
    assert numbers == list(range(len(numbers))), "the oldest first"
    before = sum(path.stat().st_size for path in segments(stage))
    app.do("for _ in range(1000): track()")
    time.sleep(0.2)
    assert sum(path.stat().st_size for path in segments(stage)) <= before
    assert app.do("answer = memory_kb()") < 200_000
    app.finish(0.5)
    assert len(stage.server.numbers) < count


def test_c08_a_full_spool_refuses_new_events_and_says_how_many(stage: Stage) -> None:
    stage.server.collector = answers.status(503)
    app = running(stage, config={"max_spool_bytes": 64 * 1024})
    app.may_lose = {"spool_full"}
    another = "track(); answer = client.status.account.lost.get('spool_full', 0)"
    app.do("for _ in range(3000): track()")
    app.until(lambda: app.do(another) > 0)
    app.do("for _ in range(500): track()")
    time.sleep(0.3)
    assert sum(path.stat().st_size for path in state(stage).rglob("*") if path.is_file()) < 80 * 1024
    stage.server.heal()
    app.until(lambda: app.account["pending"] == 0)
    lost = app.account["lost"]
    stored = stage.server.numbers
    assert sorted(stored) == list(range(len(stored))), "what came first was kept"
    assert len(stored) > 200
    app.until(lambda: app.do(another) == lost["spool_full"])  # it takes events again
    account = finished(app)
    assert stage.server.dropped == account["lost"]
    batches_once(stage)


# -- D: events outlive the process


@pytest.mark.parametrize("how", ["refused", "503"])
@pytest.mark.parametrize("seconds", [6, pytest.param(60, marks=pytest.mark.full)])
def test_d01_an_outage_is_waited_out_on_disk(stage: Stage, seconds: int, how: str) -> None:
    """Memory alone would not do: it has room for a second or two."""
    app = running(stage, callers=1, pause_s=0.05, track_every=1, config={"max_pending": 50, "flush_interval_s": 1})
    if how == "refused":
        stage.server.refuse()
    else:
        stage.server.collector = answers.status(503)
    time.sleep(seconds)
    recorded = app.account["recorded"]
    assert recorded > 10 * seconds
    stage.server.heal()
    if how == "refused":
        stage.server.accept()
    assert app.until(lambda: app.account["delivered"] >= recorded) < 15
    assert finished(app)["lost"] == {}
    assert app.report is not None
    stored_once(stage, range(app.report["tracked"]))


@pytest.mark.parametrize("how", ["hangs", "fails", "refuses"])
def test_d09_killed_while_the_collector_is_away_it_loses_nothing(stage: Stage, how: str) -> None:
    app = running(stage)
    if how == "refuses":
        stage.server.refuse()
    else:
        stage.server.collector = answers.hang if how == "hangs" else answers.status(500)
    track(app, 0, 500)
    app.until(lambda: app.status["sink"]["failures"] > 0)
    crash(app, stage)
    assert stage.server.stored == {}
    stage.server.heal()
    if how == "refuses":
        stage.server.accept()
    app = running(stage)
    account = finished(app)
    assert (account["adopted"], account["delivered"], account["lost"]) == (500, 500, {})
    stored_once(stage, range(500))
    assert segments(stage) == []


def test_d09_killed_before_the_answer_it_sends_the_same_batch_again(stage: Stage) -> None:
    app = running(stage)
    stage.server.collector = answers.stored_unsaid(stage.server)
    track(app, 0, 200)
    app.until(lambda: app.status["sink"]["failures"] > 0)
    crash(app, stage)
    first = stage.server.batches[0]
    sent = len(stage.server.batches)
    stage.server.heal()
    finished(running(stage))
    assert (stage.server.batches[sent].id, stage.server.batches[sent].ids) == (first.id, first.ids)
    stored_once(stage, range(200))


#: A thread that tracks without a pause to speak of, and writes down at once what it tracked.
WITNESS = """
import time
numbering = itertools.count()
witness = os.open(os.path.join(SETTINGS["directory"], "witness"), os.O_CREAT | os.O_WRONLY, 0o600)
def tell():
    while True:
        number = next(numbering)
        client.track("order", "u", n=number)
        os.write(witness, f"{number} {time.monotonic()}\\n".encode())
        time.sleep(0.001)
threading.Thread(target=tell, daemon=True).start()
"""


def test_d09_killed_at_any_moment_it_loses_the_last_moment_at_most(stage: Stage) -> None:
    app = running(stage)
    stage.server.collector = answers.hang
    app.do(WITNESS)
    time.sleep(1.0)
    app.kill()
    stage.server.heal()
    finished(running(stage))
    told = [line.split() for line in (app.directory / "witness").read_text().splitlines()]
    stored = stage.server.numbers
    assert sorted(stored) == list(range(len(stored))), "the last ones"
    lost = [float(at_s) for number, at_s in told if int(number) not in stored]
    assert len(stored) > 100
    assert not lost or float(told[-1][1]) - lost[0] < 0.5  # 50 ms on a machine that has nothing else to do


def test_d10_a_power_loss_costs_what_was_written_in_the_last_second_at_most(stage: Stage) -> None:
    """What was not synced is cut off before the next start."""
    stage.server.collector = answers.status(503)
    app = running(stage, prelude=FAILING)

    def unsynced() -> list[Path]:
        sizes = app.do("answer = sizes")
        return [path for path in segments(stage) if sizes.get(str(path), 0) != path.stat().st_size]

    track(app, 0, 150)
    assert app.until(lambda: app.do("answer = any(name.endswith('.seg') for name in sizes)")) < 0.9, "so many at once"
    track(app, 150, 30)
    app.until(lambda: not unsynced())
    track(app, 180, 20)
    sizes = app.do("answer = sizes")
    crash(app, stage)
    for path in segments(stage):
        os.truncate(path, sizes[str(path)])
    stage.server.heal()
    finished(running(stage))
    assert set(range(180)) <= set(stage.server.numbers) <= set(range(200))
    stored_once(stage, range(len(stage.server.numbers)))


@pytest.mark.parametrize("how", ["works", "hangs", "fails", "refuses"])
def test_d11_what_the_exit_could_not_deliver_the_next_start_does(stage: Stage, how: str) -> None:
    config = {"flush_interval_s": 3600, "deadline_s": 10, "exit_deadline_s": 2}
    app = running(stage, config=config)
    if how == "refuses":
        stage.server.refuse()
    elif how != "works":
        stage.server.collector = answers.hang if how == "hangs" else answers.status(500)
    app.do("for number in range(1000): track()")
    began_s = time.monotonic()
    assert app.end() == 0, app.words()
    assert time.monotonic() - began_s < 4  # two seconds for the flush, the rest for a busy interpreter
    assert len(stage.server.numbers) == (1000 if how == "works" else 0)
    check_secrets(stage)
    stage.server.heal()
    if how == "refuses":
        stage.server.accept()
    app = running(stage)
    assert finished(app)["adopted"] == (0 if how == "works" else 1000)
    stored_once(stage, range(1000))
    assert segments(stage) == []
