"""Processes with a spool, on a real disk: scripts that run in them, and what they left and sent."""

from __future__ import annotations

import collections
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
PRELUDE = """
import json, os, signal, sys, threading, time, warnings
import flagkit
from fakes import FileSink
from flagkit.events import Retry
from flagkit.runtime import spooler

out, state = sys.argv[1:3]

class Hung(FileSink):
    asked = threading.Event()
    def send(self, batch, *, deadline_s):
        Hung.asked.set()
        threading.Event().wait(deadline_s)
        return Retry("deadline")

class Down(FileSink):
    def send(self, batch, *, deadline_s):
        return Retry("refused")

class Switched(FileSink):
    on = False
    def send(self, batch, *, deadline_s):
        return super().send(batch, deadline_s=deadline_s) if Switched.on else Retry("refused")

def client(sink=FileSink, **settings):
    settings = {"state_dir": state, "flush_interval_s": 0.1, **settings}
    source = flagkit.sources.Static({"schema": 1, "flags": {}})
    made = flagkit.Client(source=source, sink=sink(out), config=flagkit.Config(**settings))
    made.start()
    return made

def fork():
    with warnings.catch_warnings():  # newer Pythons warn of what this is the test of
        warnings.simplefilter("ignore", DeprecationWarning)
        return os.fork()

def join(child):
    assert os.waitpid(child, 0)[1] == 0

def track(client, who, count):
    for number in range(count):
        client.track("event", f"{who}-{number}")

def until(condition, timeout_s=20):
    ends = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < ends
        time.sleep(0.01)

def on_disk(client):
    # Its own thread writes within 50 ms, on a machine that has nothing else to do.
    until(lambda: not len(client._recording._spool.spooler._memory))

def said(what):
    print(what, flush=True)
"""


class Place:
    """A folder for the state of processes, and what they sent."""

    def __init__(self, path: Path) -> None:
        self.out, self.state = path / "out", path / "state"

    def start(self, script: str) -> subprocess.Popen[str]:
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE.parent.parent), str(HERE)])}
        command = [sys.executable, "-W", "error", "-c", PRELUDE + script, str(self.out), str(self.state)]
        pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        return subprocess.Popen(command, env=environment, text=True, **pipes)

    def run(self, script: str) -> str:
        return ended(self.start(script))

    def deliver(self) -> dict[str, Any]:
        """Start a process that sends what others left; return its account."""
        script = "flags = client()\nassert flags.flush(20) == 0\nprint(json.dumps(flags.status.account._asdict()))"
        account: dict[str, Any] = json.loads(self.run(script))
        return account

    def units(self) -> collections.Counter[str]:
        """The units of the events that arrived, by how often they did."""
        lines = self.out.read_text().splitlines() if self.out.exists() else []
        return collections.Counter(json.loads(line.split(" ", 1)[1])["feature_flag.context.id"] for line in lines)

    def homes(self) -> list[Path]:
        return [path for path in self.state.glob("sinks/*/*") if path.is_dir()]


def ended(process: subprocess.Popen[str], status: int = 0) -> str:
    printed, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (status, ""), errors
    return printed


def once(who: str, count: int) -> dict[str, int]:
    return {f"{who}-{number}": 1 for number in range(count)}
