"""Servers of two processes each, started, asked and stopped as their users would; nothing waits without a bound.

A fleet answers ``ask`` from whichever of its processes takes the question. It knows nothing of what is asked.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
import urllib.request
from contextlib import suppress
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
UWSGI = Path(sys.executable).with_name("uwsgi")
PATIENCE_S = 15.0

Told = dict[str, Any]


class Fleet:
    """A server that is running: what starts it, and where its words go."""

    def __init__(self, command: list[str], settings: dict[str, Any], directory: Path, **pipes: Any) -> None:
        self.log = directory / "server.log"
        environment = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "HOME": str(directory),  # where some servers leave sockets
            "FLAGKIT_FAULTS": json.dumps(settings),
        }
        with self.log.open("w") as log:
            self.process = subprocess.Popen(command, cwd=ROOT, env=environment, stderr=log, **{"stdout": log, **pipes})

    def ask(self, path: str, count: int = 0) -> Told:
        raise NotImplementedError

    def stop(self) -> None:
        """Ask it to end, as a supervisor does, and wait until it has."""
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(PATIENCE_S)

    def kill(self) -> None:
        """Leave nothing behind, whatever happened."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


class Web(Fleet):
    """A server of HTTP on a socket that is there already, ``{descriptor}`` in its command."""

    def __init__(self, command: list[str], settings: dict[str, Any], directory: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            descriptor = listener.fileno()
            self.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
            command = [part.replace("{descriptor}", str(descriptor)) for part in command]
            super().__init__(command, settings, directory, pass_fds=[descriptor], start_new_session=True)

    def ask(self, path: str, count: int = 0) -> Told:
        with urllib.request.urlopen(f"{self.url}{path}?count={count}", timeout=PATIENCE_S) as reply:
            told: Told = json.load(reply)
            return told


class Lines(Fleet):
    """A program that answers lines, and ends when there are no more."""

    def __init__(self, command: list[str], settings: dict[str, Any], directory: Path) -> None:
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "start_new_session": True}
        super().__init__(command, settings, directory, **pipes)

    def ask(self, path: str, count: int = 0) -> Told:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps([path, count]) + "\n")
        self.process.stdin.flush()
        answered, _, _ = select.select([self.process.stdout], [], [], PATIENCE_S)
        assert answered, self.log.read_text()[-4000:]
        told: Told = json.loads(self.process.stdout.readline())
        return told

    def stop(self) -> None:
        self.process.communicate(timeout=PATIENCE_S)
        assert self.process.returncode == 0


def gunicorn(kind: str, *options: str) -> list[str]:
    web = ["-b", "fd://{descriptor}", "-w", "2", "-k", kind, *options]
    return [sys.executable, "-m", "gunicorn", *web, "tests.faults.app:application"]


def uwsgi(*options: str) -> list[str]:
    # Without the hook SIGTERM is no end but a reload, and --die-on-term skips the exit of workers that seem busy.
    graceful = ["--master", "--hook-master-start", "unix_signal:15 gracefully_kill_them_all"]
    web = ["--http-socket", "fd://{descriptor}", "-p", "2", "--disable-logging", "--virtualenv", sys.prefix]
    application = ["--pythonpath", str(ROOT), "--wsgi", "tests.faults.app:application"]
    return [str(UWSGI), *graceful, *web, *application, *options]


def program(name: str, *arguments: str) -> list[str]:
    return [sys.executable, "-m", f"tests.faults.{name}", *arguments]
