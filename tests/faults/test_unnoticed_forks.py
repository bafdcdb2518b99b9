"""Hosts that fork without running Python's hooks, uWSGI above all: nobody tells the child, and it just works."""

from __future__ import annotations

import collections
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PRELUDE = """
import os, sys, threading, types, warnings
from fakes import FileSink, ScriptedSource, unavailable
from flagkit import Client, Config
from flagkit.sources import Fetched, NotModified, Static

os.register_at_fork = lambda **hooks: None

def document(on, version):
    text = '{"schema": 1, "version": "%s", "flags": {"f": {"default": "%s"}}}' % (version, "on" if on else "off")
    return Fetched(text.encode(), version)

def made(source, **settings):
    return Client(source=source, sink=FileSink(sys.argv[1]), config=Config(**{"flush_interval_s": 3600, **settings}))

def fork():
    with warnings.catch_warnings():  # newer Pythons warn of what this is the test of
        warnings.simplefilter("ignore", DeprecationWarning)
        return os.fork()

def join(child):
    assert os.waitpid(child, 0)[1] == 0

class Host(types.ModuleType):
    worker = mule = 0
    def worker_id(self): return self.worker
    def mule_id(self): return self.mule
    def i_am_the_spooler(self): return False

def uwsgi():
    sys.modules["uwsgi"] = Host("uwsgi")
    return sys.modules["uwsgi"]
"""


def run(script: str, out: Path) -> dict[str, collections.Counter[int]]:
    """Unit -> how often which process sent an event about it, after running a script in a process of its own."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests" / "unit")])}
    command = [sys.executable, "-W", "error", "-c", PRELUDE + script, str(out)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    sent: dict[str, collections.Counter[int]] = collections.defaultdict(collections.Counter)
    for line in out.read_text().splitlines() if out.exists() else ():
        pid, text = line.split(" ", 1)
        sent[json.loads(text)["feature_flag.context.id"]][int(pid)] += 1
    return sent


def test_the_first_thing_tracked_in_a_child_arrives_and_nothing_of_the_parent_twice(tmp_path: Path) -> None:
    sent = run(
        """
client = made(Static({"schema": 1, "flags": {"f": {}}}))
client.track("order", "parent")
client.enabled("f", "parent")
child = fork()
if not child:
    client.track("order", "child")
    os._exit(client.flush(5))
join(child)
assert client.flush(5) == 0
""",
        tmp_path / "out",
    )
    assert [sum(sent[unit].values()) for unit in ("parent", "child")] == [2, 1]
    assert sent["parent"].keys().isdisjoint(sent["child"])


def test_a_child_that_only_ends_sends_nothing_of_the_parent(tmp_path: Path) -> None:
    sent = run(
        """
client = made(Static({"schema": 1, "flags": {"f": {}}}))
client.track("order", "parent")
child = fork()
if child:
    join(child)
""",
        tmp_path / "out",
    )
    assert sum(sent["parent"].values()) == 1


def test_threads_that_notice_at_once_lose_nothing(tmp_path: Path) -> None:
    sent = run(
        """
from fakes import in_threads
sys.setswitchinterval(1e-6)
client = made(Static({"schema": 1, "flags": {"f": {}}}))
for number in range(20):
    client.track("order", "parent")
    child = fork()
    if not child:
        in_threads(6, lambda index: [client.track("order", f"child-{number}") for _ in range(5)])
        os._exit(client.flush(5))
    join(child)
""",
        tmp_path / "out",
    )
    assert [sum(sent[f"child-{number}"].values()) for number in range(20)] == [30] * 20
    assert sum(sent["parent"].values()) == 20


def test_a_uwsgi_master_runs_no_thread_and_its_workers_get_what_is_new(tmp_path: Path) -> None:
    sent = run(
        """
host = uwsgi()
source = ScriptedSource(document(True, "1"))
client = made(source, poll_interval_s=0.05)
assert client.enabled("f", "seen") is False, "nobody has waited for definitions yet"
assert client.wait_ready(5)
assert client.enabled("f", "seen")
client.track("order", "master")
assert threading.active_count() == 1
children = []
for host.worker in 1, 2:
    child = fork()
    if not child:
        assert client.enabled("f", "seen"), "at once"
        source.script = [document(False, "2")]
        while client.enabled("f", "seen"):
            pass
        client.track("order", str(host.worker))
        os._exit(client.flush(5))
    children.append(child)
for child in children:
    join(child)
host.worker = 0
client.flush(5)  # what nobody but the master has, it can send when told to
""",
        tmp_path / "out",
    )
    assert {unit: sum(counts.values()) for unit, counts in sent.items()} == {"seen": 4, "1": 1, "2": 1, "master": 1}
    assert list(sent["seen"].values()) == [2, 2], "each worker met the unit with the flag on, and off"


def test_waiting_in_a_uwsgi_master_ends_in_time_when_there_are_no_definitions(tmp_path: Path) -> None:
    run(
        """
import time
uwsgi()
client = made(ScriptedSource(unavailable()))
started_s = time.monotonic()
assert not client.wait_ready(0.2)
assert time.monotonic() - started_s < 1.5
""",
        tmp_path / "out",
    )


@pytest.mark.parametrize("host", ["uwsgi().worker = 1", "uwsgi().mule = 1", "sys.modules['uwsgi'] = object()"])
def test_where_uwsgi_does_not_fork_any_more_threads_run(tmp_path: Path, host: str) -> None:
    run(
        f"""
{host}
client = made(ScriptedSource(document(True, "1")))
assert client.wait_ready(5)
assert client.enabled("f", "u")
assert threading.active_count() == 3
""",
        tmp_path / "out",
    )


def test_a_source_or_a_sink_that_raises_at_a_fork_costs_the_child_nothing(tmp_path: Path) -> None:
    sent = run(
        """
class Bad(ScriptedSource):
    def after_fork(self): raise OSError("mine")

class BadToo(FileSink):
    def after_fork(self): raise OSError("mine")

client = Client(source=Bad(document(True, "1")), sink=BadToo(sys.argv[1]), config=Config(flush_interval_s=3600))
assert client.wait_ready(5)
client.track("order", "parent")
child = fork()
if not child:
    client.track("order", "child")
    os._exit(client.flush(5))
join(child)
""",
        tmp_path / "out",
    )
    assert {unit: sum(counts.values()) for unit, counts in sent.items()} == {"parent": 1, "child": 1}
