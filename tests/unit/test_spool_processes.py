"""The spool in real processes, on a real disk: kills, exits, and several processes in one folder."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path

import pytest
from spool_processes import Place, ended, once


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_killed_with_a_hung_collector_it_loses_nothing(place: Place) -> None:
    process = place.start(
        """
flags = client(Hung)
track(flags, "first", 500)
on_disk(flags)
Hung.asked.wait()
said("now")
time.sleep(60)
"""
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "now\n"
    process.kill()
    ended(process, -signal.SIGKILL)
    assert place.units() == {}
    assert place.deliver() == {"recorded": 0, "adopted": 500, "delivered": 500, "lost": {}, "pending": 0}
    assert place.units() == once("first", 500)
    assert place.homes() == []


def test_terminated_without_a_handler_it_loses_no_more_than_the_last_moment(place: Place) -> None:
    process = place.start(
        "flags = client(Hung)\ntrack(flags, 'first', 300)\non_disk(flags)\nsaid('now')\ntime.sleep(60)"
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "now\n"
    process.terminate()
    ended(process, -signal.SIGTERM)
    place.deliver()
    assert place.units() == once("first", 300)


@pytest.mark.parametrize("sink", ["Hung", "Down"])
def test_at_exit_everything_is_on_disk_soon_and_sent_at_the_next_start(place: Place, sink: str) -> None:
    process = place.start(
        f"""
flags = client({sink}, flush_interval_s=60)
time.sleep(0.2)
spooler.Spooler.step = lambda self: 60  # the exit alone has to do it
track(flags, "last", 1000)
said("now")
"""
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "now\n"
    started_s = time.monotonic()
    while sum(path.stat().st_size for path in place.state.glob("sinks/*/*/*.seg")) < 100_000:
        assert time.monotonic() < started_s + 1.5, "0.2 s, on a machine that has nothing else to do"
    ended(process)
    assert time.monotonic() - started_s < 4
    assert place.deliver()["adopted"] == 1000
    assert place.units() == once("last", 1000)


def test_at_exit_what_can_be_sent_is(place: Place) -> None:
    place.run("flags = client(flush_interval_s=60)\ntrack(flags, 'last', 1000)")
    assert place.units() == once("last", 1000)
    assert place.homes() == []


def test_one_that_lives_sends_what_one_that_was_killed_left(place: Place) -> None:
    living = place.start(
        """
spooler._LOOK_S = 0.3
flags = client()
track(flags, "living", 5)
until(lambda: flags.status.account.delivered == 5)
said("ready")
until(lambda: flags.status.account.adopted == 50 and not flags.status.account.pending)
said(json.dumps(flags.status.account._asdict()))
"""
    )
    assert living.stdout is not None
    living.stdout.readline()
    dying = place.start("flags = client(Hung)\ntrack(flags, 'dying', 50)\non_disk(flags)\nsaid('now')\ntime.sleep(60)")
    assert dying.stdout is not None
    dying.stdout.readline()
    time.sleep(0.7)
    assert place.units() == once("living", 5), "not while it lives"
    dying.kill()
    ended(dying, -signal.SIGKILL)
    account = json.loads(ended(living))
    assert (account["recorded"], account["adopted"], account["delivered"]) == (5, 50, 55)
    assert place.units() == {**once("living", 5), **once("dying", 50)}


def test_many_that_start_together_send_what_one_left_once(place: Place) -> None:
    place.run("flags = client(Down, exit_deadline_s=0)\ntrack(flags, 'first', 400)")
    script = "flags = client()\ntime.sleep(0.5)\nassert flags.flush(20) == 0\nprint(flags.status.account.adopted)"
    accounts = [int(ended(process)) for process in [place.start(script) for _ in range(4)]]
    assert sorted(accounts) == [0, 0, 0, 400]
    assert place.units() == once("first", 400)


def test_two_clients_of_one_process_keep_apart(place: Place) -> None:
    place.run(
        """
spooler._LOOK_S = 0.2
one, other = client(), client()
track(one, "one", 40)
track(other, "other", 40)
time.sleep(0.6)
assert one.close() == other.close() == 0
assert [each.status.account.adopted for each in (one, other)] == [0, 0]
"""
    )
    assert place.units() == {**once("one", 40), **once("other", 40)}


def test_a_client_takes_over_from_one_that_was_closed(place: Place) -> None:
    place.run(
        """
one = client(Down)
track(one, "one", 40)
assert one.close(0.1) == 40
other = client()
until(lambda: other.status.account.delivered == 40)
assert one.status.account.pending == 40
"""
    )
    assert place.units() == once("one", 40)


def test_a_folder_that_cannot_be_used_costs_one_warning_and_no_event(place: Place) -> None:
    place.state.write_text("not a folder")
    printed = place.run(
        """
import logging
class Kept(logging.Handler):
    lines = []
    def emit(self, record):
        self.lines.append(record.getMessage())
logging.getLogger("flagkit").addHandler(Kept())
flags = client()
track(flags, "memory", 300)
time.sleep(0.3)
track(flags, "later", 300)
assert flags.flush(5) == 0
assert flags.status.disk == "off"
print([line for line in Kept.lines if line.startswith("event spool")])
"""
    )
    assert printed.count("event spool: off") == 1
    assert place.units() == {**once("memory", 300), **once("later", 300)}


def test_there_is_a_third_thread_only_with_a_folder(place: Place) -> None:
    place.run(
        """
def names():
    return sorted(thread.name for thread in threading.enumerate() if thread.name.startswith("flagkit"))
plain = client(state_dir=None)
assert names() == ["flagkit-delivery"]
assert plain.close() == 0
until(lambda: names() == [])
flags = client()
assert names() == ["flagkit-delivery", "flagkit-spool"]
assert flags.close() == 0
until(lambda: names() == [])
"""
    )


def test_recording_never_waits_for_a_disk_that_hangs(place: Place) -> None:
    place.run(
        """
from flagkit.disk import Appender
flags = client()
track(flags, "first", 5)
on_disk(flags)
hang = threading.Event()
write = Appender.write
def hung(self, data):
    hang.wait(20)
    write(self, data)
Appender.write = hung
slowest = 0
for number in range(2000):
    began = time.perf_counter()
    flags.track("event", f"slow-{number}")
    flags.status
    slowest = max(slowest, time.perf_counter() - began)
    if number % 100 == 0:
        time.sleep(0.01)
assert slowest < 0.3, slowest
began = time.monotonic()
flags.flush(1)
assert time.monotonic() - began < 4
hang.set()
assert flags.flush(10) == 0
"""
    )
    assert len(place.units()) == 2005
