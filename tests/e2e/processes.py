"""A service and its clients, each in a process of its own, driven by a test over pipes."""

from __future__ import annotations

import json
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

KEY = "sesame"
ADMIN_KEY = "open-sesame"
_SERVE = """
import json, sys
from flagkit.server import ServerConfig, serve
serve(ServerConfig(**json.loads(sys.argv[1])))
"""
_WORK = """
import json, sys, time
from flagkit import Client, Config

settings = json.loads(sys.argv[1])
client = Client(settings["url"], key=settings["key"], config=Config(**settings["config"]))

def until(flag, unit, variant, timeout_s):
    stop = time.monotonic() + timeout_s
    while client.peek(flag, unit).variant != variant:
        assert time.monotonic() < stop, client.status
        time.sleep(0.005)
    return time.time()

def ready(timeout_s):
    assert client.wait_ready(timeout_s), client.status
    return time.time()

def status():
    now = client.status
    return {"ready": now.ready, "version": now.version, "source": now.source._asdict(), "sink": now.sink._asdict(),
            "account": now.account._asdict(), "errors": now.errors, "worker_faults": now.worker_faults}

verbs = {
    "variants": lambda flag, units: [client.variant(flag, unit) for unit in units],
    "decision": lambda flag, unit: [str(client.decide(flag, unit).reason), client.decide(flag, unit).error_code],
    "track": lambda event, unit: client.track(event, unit),
    "enroll": client.enroll, "unenroll": client.unenroll,
    "flush": client.flush, "close": client.close, "until": until, "ready": ready, "status": status,
}
for line in sys.stdin:
    verb, *arguments = json.loads(line)
    print(json.dumps(verbs[verb](*arguments)), flush=True)
"""


def python(code: str, *arguments: Any, warn: str = "error", **pipes: Any) -> subprocess.Popen[str]:
    """A fresh interpreter that runs ``code`` and treats every warning as an error, unless ``warn`` says otherwise."""
    given = [argument if isinstance(argument, str) else json.dumps(argument) for argument in arguments]
    return subprocess.Popen([sys.executable, "-W", warn, "-c", code, *given], text=True, **pipes)


class Service:
    """The embedded service, its definitions file and its database."""

    def __init__(self, directory: Path) -> None:
        self.path, self.db = directory / "flags.json", directory / "flagkit.db"
        self._port = 0
        self._process: subprocess.Popen[str] | None = None
        self.url = ""

    def publish(self, flags: dict[str, Any], version: str) -> float:
        """Write new definitions, as an editor would that replaces the file; return the wall time."""
        new = self.path.with_suffix(".new")
        new.write_text(json.dumps({"schema": 1, "version": version, "environment": "test", "flags": flags}))
        new.replace(self.path)
        return time.time()

    def start(self, **settings: Any) -> None:
        """Start, or start again at the same address."""
        given = {
            "definitions": str(self.path),
            "db": str(self.db),
            "port": self._port,
            "read_keys": [KEY],
            "write_keys": [KEY],
            "admin_keys": [ADMIN_KEY],
            **settings,
        }
        self._process = python(_SERVE, given, stdout=subprocess.PIPE)
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line.startswith("listening on "), line
        self.url = line.split()[-1]
        self._port = int(self.url.rsplit(":", 1)[1])

    def kill(self) -> None:
        """End as a machine does that loses its power."""
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.communicate(timeout=20)
            self._process = None

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        """What the database holds."""
        connection = sqlite3.connect(self.db)
        try:
            return list(connection.execute(sql))
        finally:
            connection.close()


class Worker:
    """A process with a client of its own."""

    def __init__(self, url: str, key: str = KEY, **config: Any) -> None:
        settings = {"url": url, "key": key, "config": {"poll_interval_s": 0.2, "flush_interval_s": 0.2, **config}}
        self.process = python(_WORK, settings, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def ask(self, verb: str, *arguments: Any) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps([verb, *arguments]) + "\n")
        self.process.stdin.flush()

    def answer(self) -> Any:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, self.process.stderr and self.process.stderr.read()
        return json.loads(line)

    def do(self, verb: str, *arguments: Any) -> Any:
        self.ask(verb, *arguments)
        return self.answer()

    def end(self) -> tuple[int, str]:
        """The status and the last words of a process that nobody needs any more."""
        _, errors = self.process.communicate(timeout=20)
        return self.process.returncode, errors


def all_do(workers: list[Worker], verb: str, *arguments: Any) -> list[Any]:
    """The answers of workers that are asked at the same time."""
    for worker in workers:
        worker.ask(verb, *arguments)
    return [worker.answer() for worker in workers]


@contextmanager
def working(url: str, count: int = 1, **settings: Any) -> Iterator[list[Worker]]:
    workers = [Worker(url, **settings) for _ in range(count)]
    try:
        yield workers
    finally:
        for worker in workers:
            if worker.process.poll() is None:
                worker.process.kill()
            worker.process.communicate()


def day() -> int:
    """The number of the day: the longest window of exposures."""
    return int(time.time() // 86_400)
