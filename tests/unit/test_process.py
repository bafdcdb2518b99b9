"""Forks and exits, in real processes: what happens there cannot be pretended."""

from __future__ import annotations

import collections
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

HERE = Path(__file__).parent
PRELUDE = """
import os, sys, threading, time, warnings
from fakes import App, FakeClock, FileSink
from flagkit.events import Retry
from flagkit.runtime.process import process

def fork():
    with warnings.catch_warnings():  # newer Pythons warn of what this is the test of
        warnings.simplefilter("ignore", DeprecationWarning)
        return os.fork()

def join(child):
    assert os.waitpid(child, 0)[1] == 0

class Hung:
    name = "hung"
    def send(self, batch, *, deadline_s):
        threading.Event().wait(deadline_s)
        return Retry("deadline")
    def close(self): ...
    def after_fork(self): ...
"""


def run(script: str, path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE.parent.parent), str(HERE)])}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", PRELUDE + script, str(path), *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done


def senders(path: Path) -> dict[str, set[str]]:
    """Unit -> the processes that sent it. Each event arrived once."""
    units: dict[str, set[str]] = collections.defaultdict(set)
    lines = path.read_text().splitlines()
    ids = []
    for line in lines:
        pid, text = line.split(" ", 1)
        event = json.loads(text)
        ids.append(event["id"])
        units[event["feature_flag.context.id"]].add(pid)
    assert len(ids) == len(set(ids)), "an event was sent twice"
    return units


def test_importing_the_runtime_starts_and_registers_nothing(tmp_path: Path) -> None:
    run(
        """
import atexit
before = threading.active_count(), atexit._ncallbacks()
import flagkit.runtime.delivery, flagkit.runtime.poller, flagkit.runtime.worker
assert (threading.active_count(), atexit._ncallbacks()) == before
assert not process.hooked
""",
        tmp_path / "out",
    )


def test_parent_and_child_each_send_their_own_events_once(tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(
        """
app = App(FileSink(sys.argv[1]), batch_size=10)
app.expose("before", 25)
child = fork()
if child:
    app.expose("parent", 50)
    join(child)
    assert app.delivery.flush(5) == 0
    assert app.buffer.account() == (75, 0, 75, {}, 0)
else:
    assert app.buffer.account() == (0, 0, 0, {}, 0)
    assert not app.worker.running
    app.expose("child", 50)
    assert app.worker.running
    assert app.delivery.flush(5) == 0
    assert app.buffer.account() == (50, 0, 50, {}, 0)
    os._exit(0)
""",
        out,
    )
    units = senders(out)
    assert len(units) == 125
    by_kind = {
        kind: {pid for unit in units if unit.startswith(kind) for pid in units[unit]}
        for kind in ("before", "parent", "child")
    }
    assert by_kind["before"] == by_kind["parent"]
    assert len(by_kind["parent"] | by_kind["child"]) == 2


def test_thirty_forks_while_every_lock_is_taken_hang_nobody(tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(
        """
import logging
app = App(FileSink(sys.argv[1]), batch_size=5, flush_interval_s=0.05)
held, over = threading.Event(), threading.Event()
logging.getLogger("flagkit").addHandler(handler := logging.StreamHandler())

def hold():
    with handler.lock, app.delivery._driving, app.buffer._lock, app.worker._starting:
        held.set()
        over.wait()

app.expose("before", 7)
holding = threading.Thread(target=hold)
holding.start()
held.wait()
children = []
for number in range(30):
    child = fork()
    if not child:
        app.expose(f"child-{number}", 5)
        os._exit(app.delivery.flush(5))
    children.append(child)
for child in children:
    join(child)
over.set()
holding.join()
app.delivery.flush(5)
""",
        out,
    )
    assert sum(unit.startswith("child") for unit in senders(out)) == 150


def test_a_host_that_skips_fork_hooks_is_noticed_by_its_process_id(tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(
        """
os.register_at_fork = lambda **hooks: None
class Still(FakeClock):
    def wait(self, event, timeout_s):  # or the child's delivery, waiting, would have its flush out of time
        return event.wait(timeout_s)
clock = Still()
app = App(FileSink(sys.argv[1]), clock=clock)
app.expose("before", 7)
child = fork()
if not child:
    clock.advance(1)
    app.expose("child", 50)
    assert app.buffer.account().recorded == 50
    os._exit(app.delivery.flush(5))
join(child)
assert app.delivery.flush(5) == 0
""",
        out,
    )
    assert len(senders(out)) == 57


def test_what_waits_at_exit_is_sent_without_anybodys_help(tmp_path: Path) -> None:
    out = tmp_path / "out"
    run("app = App(FileSink(sys.argv[1])); app.expose('last', 1000)", out)
    assert len(senders(out)) == 1000


def test_what_waits_when_the_main_thread_raises_is_sent_too(tmp_path: Path) -> None:
    out = tmp_path / "out"
    run("app = App(FileSink(sys.argv[1])); app.expose('last', 10); sys.exit(0)", out)
    assert len(senders(out)) == 10


def test_a_hung_collector_holds_the_exit_no_longer_than_the_deadline_for_all_clients(tmp_path: Path) -> None:
    done = run(
        """
apps = [App(Hung(), exit_deadline_s=0.4) for _ in range(5)]
for app in apps:
    app.expose("last", 10)
print(time.monotonic())  # one clock for all processes, and from here on it only exits
""",
        tmp_path / "out",
    )
    assert time.monotonic() - float(done.stdout) < 1.8, "not 0.4 s for each of the five"


def test_recording_while_modules_are_torn_down_neither_hangs_nor_raises(tmp_path: Path) -> None:
    run(
        """
app = App(FileSink(sys.argv[1]))
class Late:
    def __init__(self, app): self.app, self.itself = app, self
    def __del__(self): self.app.expose("late", 300)
late = Late(app)
""",
        tmp_path / "out",
    )


def test_a_client_nobody_holds_is_not_kept_alive_for_the_exit(tmp_path: Path) -> None:
    run(
        """
import gc
app = App(FileSink(sys.argv[1]))
app.expose("last", 1)
thread = app.worker._thread
del app
gc.collect()
thread.join(10)
assert not thread.is_alive()
assert len(process.residents) == 0
""",
        tmp_path / "out",
    )


def test_residents_are_told_of_the_exit_once_and_how_much_time_others_took(tmp_path: Path) -> None:
    run(
        """
class Quiet:
    told = []
    def after_fork(self): ...
    def at_exit(self, elapsed_s): self.told.append(elapsed_s)
quiet = Quiet()
process.adopt(quiet)
process.leave()
process.leave()
assert len(quiet.told) == 1 and 0 <= quiet.told[0] < 1
""",
        tmp_path / "out",
    )


@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
def test_children_of_multiprocessing_send_what_waits_when_they_end(tmp_path: Path, method: str) -> None:
    out = tmp_path / "out"
    script = tmp_path / "job.py"
    script.write_text(
        PRELUDE
        + """
import multiprocessing

def work(path, number):
    global app
    if multiprocessing.get_start_method() != "fork":
        app = App(FileSink(path))
    app.expose(f"child-{number}", 20)

if __name__ == "__main__":
    multiprocessing.set_start_method(sys.argv[2])
    app = App(FileSink(sys.argv[1]))
    app.expose("parent", 5)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        children = [multiprocessing.Process(target=work, args=(sys.argv[1], number)) for number in range(2)]
        for child in children:
            child.start()
    for child in children:
        child.join()
        assert child.exitcode == 0
"""
    )
    run(f"import runpy; sys.argv[0] = {str(script)!r}; runpy.run_path(sys.argv[0], run_name='__main__')", out, method)
    units = senders(out)
    assert sum(unit.startswith("child") for unit in units) == 40
    assert sum(unit.startswith("parent") for unit in units) == 5
