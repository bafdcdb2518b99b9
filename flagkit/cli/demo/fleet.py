"""The processes of the demo: the service, the workers, and the promise that none of them outlives it.

It owns starting, killing and stopping, and asks workers how they stand. It knows nothing of acts and checks; the story
tells it when.
"""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import click

from flagkit.cli.demo.interrupts import held_off
from flagkit.cli.demo.traffic import Line, Unanswered
from flagkit.cli.service import Service
from flagkit.cli.summary import fetch

_START_S: Final = 20.0
_STOP_S: Final = 8.0
_DAY_S: Final = 86_400
_LONGEST_RUN_S: Final = 1_200
_ANNOUNCED: Final = "listening on "


class Fleet:
    """The service and its workers, all on 127.0.0.1.

    Args: directory: for the definitions, the database and the logs; the caller's to make and remove.
    """

    def __init__(self, directory: Path) -> None:
        self.definitions = directory / "flags.json"
        self.service_url = ""
        self.worker_urls: list[str] = []
        self._directory = directory
        self._keys = {f"FLAGKIT_{role}_KEY": secrets.token_urlsafe(24) for role in ("READ", "WRITE")}
        self._processes: list[subprocess.Popen[str]] = []
        self._service: subprocess.Popen[str] | None = None
        self._lines: list[Line] = []

    def start_service(self) -> None:
        """Start the service: on a free port, and later on the one it had. Raises: ClickException."""
        port = self.service_url.rpartition(":")[2] or "0"
        files = [str(self.definitions), "--db", str(self._directory / "flagkit.db")]
        self._service = self._start("service", ["flagkit", "serve", *files, "--port", port], self._keys)
        self.service_url = self._announced("service", self._service)

    def kill_service(self) -> None:
        """End the service as a crash would: at once, in the middle of whatever it does."""
        assert self._service is not None  # noqa: S101 - the story starts it first
        self._service.send_signal(signal.SIGKILL)
        self._service.wait()

    def start_workers(self, count: int) -> None:
        """Start ``count`` workers, each with its own client of the service. Raises: ClickException."""
        settings = {"FLAGKIT_URL": self.service_url, "FLAGKIT_WINDOW_S": str(exposure_window_s(time.time()))}
        environment = {**self._keys, **settings}
        names = [f"worker-{number + 1}" for number in range(count)]
        processes = [self._start(name, ["flagkit.cli.demo.worker"], environment) for name in names]
        self.worker_urls = [self._announced(name, process) for name, process in zip(names, processes, strict=True)]
        self._lines = [Line(url) for url in self.worker_urls]

    def stats(self, page: str = "/_stats") -> list[Any]:
        """What each worker says of itself. Raises: ClickException when one does not answer."""
        return [self._ask(line, "GET", page) for line in self._lines]

    def flush(self) -> None:
        """Have every worker deliver what it has recorded. Raises: ClickException when one does not answer."""
        for line in self._lines:
            self._ask(line, "POST", "/_flush")

    def summary(self, since_ms: int = 0) -> Any:
        """The service's summary of what it has stored. Raises: ClickException."""
        return fetch(self.service_url, {"since": str(since_ms)}, self._keys["FLAGKIT_READ_KEY"], insecure=False)

    def changes(self, flag: str) -> list[Any]:
        """The changes of a flag, oldest first. Raises: ClickException."""
        service = Service(self.service_url, self._keys["FLAGKIT_READ_KEY"], insecure=False)
        return list(service.get("/v1/changes", {"flag": flag})["changes"])

    def stop(self) -> None:
        """End every process: politely, then not. Returns when there are none."""
        for line in self._lines:
            line.close()
        workers = [process for process in self._processes if process is not self._service]
        for group in (workers, self._processes):  # the service last, so that the workers' last events find it
            for process in group:
                process.terminate()
            for process in group:
                _ended(process)

    def _start(self, name: str, arguments: Sequence[str], environment: Mapping[str, str]) -> subprocess.Popen[str]:
        with open(self._directory / f"{name}.log", "a") as log, held_off():
            process = subprocess.Popen(  # noqa: S603 - this interpreter, our own modules
                [sys.executable, "-m", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                env={**os.environ, **environment},
                text=True,
                start_new_session=True,  # Ctrl-C is for the demo alone, which ends them in order
            )
            self._processes.append(process)
        return process

    def _announced(self, name: str, process: subprocess.Popen[str]) -> str:
        """The address a process prints when it listens. Raises: ClickException when it ends or takes too long."""
        assert process.stdout is not None  # noqa: S101 - started with a pipe
        watchdog = threading.Timer(_START_S, process.kill)
        watchdog.daemon = True
        watchdog.start()
        try:
            for line in process.stdout:
                if line.startswith(_ANNOUNCED):
                    return line.removeprefix(_ANNOUNCED).strip()
        finally:
            watchdog.cancel()
        raise click.ClickException(f"the {name} did not start{self._last_words(name)}")

    def _ask(self, line: Line, method: str, page: str) -> Any:
        try:
            return line.ask(method, page)
        except Unanswered as error:
            name = f"worker-{self._lines.index(line) + 1}"
            raise click.ClickException(f"{name} did not answer: {error}{self._last_words(name)}") from None

    def _last_words(self, name: str) -> str:
        lines = (self._directory / f"{name}.log").read_text(errors="replace").splitlines()
        return "".join(f"\n  {line}" for line in lines[-5:])


def exposure_window_s(now_s: float) -> int:
    """An exposure window that does not turn during the run, which would record people twice; seconds.

    Windows are aligned to 1970. Those of a second less than a day turn at some other time of the day, for decades.
    """
    return _DAY_S if now_s % _DAY_S < _DAY_S - _LONGEST_RUN_S else _DAY_S - 1


def _ended(process: subprocess.Popen[str]) -> None:
    """Wait until a process that was asked to end has ended; in the end, make it."""
    if process.stdout is not None:
        process.stdout.close()
    try:
        process.wait(_STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
