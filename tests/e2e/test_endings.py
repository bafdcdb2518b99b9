"""How a client's process ends or divides: what was recorded is delivered, with no help from the application."""

from __future__ import annotations

import json
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from processes import KEY, Service, python


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    running = Service(tmp_path_factory.mktemp("service"))
    running.publish({"checkout": {"default": "on"}}, "1")
    running.start()
    yield running
    running.kill()


PRELUDE = """
import os, sys, threading, time, warnings
import flagkit
url, key = sys.argv[1:3]
def client(**settings):
    return flagkit.Client(url, key=key, config=flagkit.Config(flush_interval_s=60, **settings))
def fork():
    with warnings.catch_warnings():  # newer Pythons warn of what this is the test of
        warnings.simplefilter("ignore", DeprecationWarning)
        return os.fork()
def join(child):
    assert os.waitpid(child, 0)[1] == 0
"""


PIPES: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}


def run(service: Service, script: str, warn: str = "ignore::ResourceWarning") -> tuple[str, float]:
    """What a script prints, and how long its process took, seconds."""
    started_s = time.monotonic()
    process = python(PRELUDE + script, service.url, KEY, warn=warn, **PIPES)
    printed, errors = process.communicate(timeout=30)
    assert (process.returncode, errors) == (0, "")
    return printed, time.monotonic() - started_s


def metrics(service: Service, name: str) -> Counter[Any]:
    return Counter(unit for (unit,) in service.query(f"SELECT unit FROM metrics WHERE name = '{name}'"))


def test_a_script_that_asks_and_tracks_and_just_ends_delivers_it_all(service: Service) -> None:
    run(
        service,
        """
flags = client()
assert flags.wait_ready(10)
for number in range(250):
    assert flags.enabled("checkout", f"asks-{number}")
    flags.track("asked", f"asks-{number}")
""",
    )
    assert len(metrics(service, "asked")) == 250
    ((exposed,),) = service.query("SELECT COUNT(*) FROM exposures WHERE unit LIKE 'asks-%'")
    assert exposed == 250


def test_a_script_that_only_tracks_delivers_it_too(service: Service) -> None:
    run(service, "flags = client()\nfor number in range(50): flags.track('only', number)")
    assert len(metrics(service, "only")) == 50


@pytest.mark.parametrize("ending", ["sys.exit(0)", "flagkit.configure(source=flagkit.sources.Static({}))", "del flags"])
def test_however_it_ends(service: Service, ending: str) -> None:
    name = f"ending {len(ending)}"
    script = (
        f"flags = flagkit.configure(url, key=key)\nflagkit.enabled('checkout', 'u')\nflagkit.track({name!r}, 'u')\n"
    )
    run(service, script + ending)
    assert metrics(service, name) == {"u": 1}


def test_nothing_is_left_open_at_the_end(service: Service) -> None:
    run(service, "flags = client()\nassert flags.wait_ready(10)\nflags.track('open', 'u')", warn="error")


def test_a_dead_collector_does_not_hold_the_end_for_longer_than_it_may(service: Service) -> None:
    _, base_s = run(service, "flags = client()\nflags.close()")
    script = """
import socket
listener = socket.create_server(("127.0.0.1", 0))  # takes connections, and never says a word
flags = flagkit.Client("http://127.0.0.1:%d" % listener.getsockname()[1], config=flagkit.Config(exit_deadline_s=1))
flags.enabled("checkout", "u")
flags.track("event", "u")
"""
    _, taken_s = run(service, script)
    assert taken_s - base_s < 1 + 1.5


def test_a_child_answers_at_once_and_both_deliver_their_own(service: Service) -> None:
    printed, _ = run(
        service,
        """
flags = client(poll_interval_s=0.2)
assert flags.wait_ready(10)
def names():
    return sorted(thread.name for thread in threading.enumerate() if thread.name.startswith("flagkit"))
def all_run():
    while names() != ["flagkit-delivery", "flagkit-poll", "flagkit-stream"]:
        time.sleep(0.005)
flags.track("forked", "before")
all_run()
child = fork()
if not child:
    assert names() == []
    assert flags.status.account.recorded == 0
    started = time.perf_counter()
    assert flags.enabled("checkout", "child")
    assert time.perf_counter() - started < 0.5
    all_run()
    assert flags.wait_ready(0)
    flags.track("forked", "child")
    polls = flags.status.source.attempts
    while flags.status.source.attempts == polls:
        time.sleep(0.01)
    sys.exit(0)
join(child)
flags.track("forked", "parent")
print(flags.status.account.recorded)
""",
    )
    assert printed.split() == ["2"]
    assert metrics(service, "forked") == {"before": 1, "parent": 1, "child": 1}


def test_a_child_of_a_client_that_was_never_asked_is_like_any_client(service: Service) -> None:
    run(
        service,
        """
flags = client()
children = []
for number in range(3):
    child = fork()
    if not child:
        assert flags.wait_ready(10)
        assert flags.enabled("checkout", number)
        flags.track("prefork", number)
        sys.exit(0)
    children.append(child)
for child in children:
    join(child)
assert threading.active_count() == 1
""",
    )
    assert metrics(service, "prefork") == {"0": 1, "1": 1, "2": 1}


def test_a_child_keeps_the_definitions_of_its_parent_when_the_service_is_gone(tmp_path: Path) -> None:
    service = Service(tmp_path)
    service.publish({"checkout": {"default": "on"}}, "1")
    service.start()
    process = python(
        PRELUDE
        + """
flags = client(poll_interval_s=0.1)
assert flags.wait_ready(10)
print("ready", flush=True)
sys.stdin.readline()
child = fork()
if not child:
    answers = [flags.enabled("checkout", number) for number in range(10)]
    assert all(answers), answers
    os._exit(0)
join(child)
flags.close(0)
""",
        service.url,
        KEY,
        stdin=subprocess.PIPE,
        **PIPES,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    service.kill()
    _, errors = process.communicate("\n", timeout=20)
    assert (process.returncode, errors) == (0, "")


def test_importing_starts_and_opens_nothing() -> None:
    script = """
import sys, threading, json
opened = []
def noted(event, given):
    if event.startswith(("open", "socket.", "os.fork")):
        opened.append([event, str(given[0])])
sys.addaudithook(noted)
import flagkit
assert threading.active_count() == 1
mine = [what for what in opened if not what[1].endswith((".py", ".pyc", ".so")) and not "__pycache__" in what[1]]
print(json.dumps([mine, [name for name in ("requests", "uuid", "asyncio", "ssl") if name in sys.modules]]))
"""
    process = python(script, stdout=subprocess.PIPE)
    printed, _ = process.communicate(timeout=20)
    assert json.loads(printed) == [[], []]
