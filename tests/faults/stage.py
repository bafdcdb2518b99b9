"""The stage of one scenario: a server that misbehaves, applications in processes of their own, and the closing check.

What must hold after whatever happened is checked here, for every application, when its scenario ends. Tests say only
what their row asks for. Nothing waits without a bound.
"""

from __future__ import annotations

import json
import os
import select
import signal
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from tests.faults.server import Server

ROOT = Path(__file__).resolve().parents[2]
#: Where the applications find flagkit: here, or in a copy that lacks a protection.
PACKAGE = os.environ.get("FLAGKIT_PACKAGE", str(ROOT))
PATIENCE_S = 30.0
KEY = "sk-live-Zp7wQnHr2VtKxYzq"
PRIVATE = "ada.lovelace@vip.example"
#: Short, so that a test sees many polls and deliveries.
QUICK = {"poll_interval_s": 0.1, "flush_interval_s": 0.1, "deadline_s": 1.0, "batch_size": 50, "exit_deadline_s": 1}
#: A caller that waits for the network waits as long as a deadline, a second here. One that waits only for its turn
#: on a busy machine waits no longer than a thread that does nothing else.
LONGEST_WAIT_S = 0.25
WORDS = ("stderr.txt", "app.log")

Told = dict[str, Any]


class App:
    """An application that is running. ``expected``: what the closing check is to expect of it."""

    def __init__(self, server: Server, directory: Path, *, url: str | None = None, **given: Any) -> None:
        self.server = server
        self.directory = directory
        directory.mkdir()
        self.settings = {
            "url": url or server.url,
            "key": KEY,
            "private": PRIVATE,
            "directory": str(directory),
            "config": {**QUICK, **given.pop("config", {})},
            "ca_file": given.pop("ca_file", None),
            "prelude": given.pop("prelude", ""),
            "callers": given.pop("callers", 2),
            "pause_s": given.pop("pause_s", 0.003),
            "track_every": given.pop("track_every", 10),
        }
        assert not given, given
        command = [sys.executable, "-W", "error", str(Path(__file__).with_name("application.py"))]
        self._asking = threading.Lock()
        self._stderr = (directory / "stderr.txt").open("wb")
        self.process = subprocess.Popen(
            [*command, json.dumps(self.settings)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            env={**os.environ, "PYTHONPATH": PACKAGE, "HOME": str(directory)},
            text=True,
        )
        #: Events that may be left when the application has closed; None: any number.
        self.may_keep: int | None = 0
        #: Reasons for which events may be lost.
        self.may_lose: set[str] = set()
        #: Whether its own account can be held against what the collector stored.
        self.alone = True
        #: False: a document may be followed by an older one.
        self.onward = True
        #: Whether exposures may be sent again, under the ids they had.
        self.may_repeat = False
        #: Whether a question may have failed inside, and got the default.
        self.may_fail = False
        #: Whether a background thread may have failed where nobody expected it.
        self.may_fault = False
        self.report: Told | None = None

    # -- asking ------------------------------------------------------------------------------------------------------

    def ask(self, verb: str, *arguments: Any, patience_s: float = 4 * PATIENCE_S) -> Any:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        with self._asking:  # a server's thread may ask as well
            self.process.stdin.write(json.dumps([verb, *arguments]) + "\n")
            self.process.stdin.flush()
            answered, _, _ = select.select([self.process.stdout], [], [], patience_s)
            line = self.process.stdout.readline() if answered else ""
        assert line, f"no answer to {verb}\n{self.words()}"
        ok, answer = json.loads(line)
        assert ok, f"{answer}\n{self.words()}"
        return answer

    def do(self, code: str, **values: Any) -> Any:
        """Run code in the application; return what it called ``answer``."""
        return self.ask("do", code, values)

    def run(self) -> None:
        """Let its threads ask and track from now on."""
        self.ask("run")

    @property
    def status(self) -> Told:
        told: Told = self.ask("status")
        if told["account"]:
            check_sum(told["account"])
        return told

    @property
    def source(self) -> Told:
        return self.status["source"]  # type: ignore[no-any-return]

    @property
    def account(self) -> Told:
        return self.status["account"]  # type: ignore[no-any-return]

    def until(self, holds: Callable[[], Any], within_s: float = PATIENCE_S / 2) -> float:
        """Wait until something holds; return how long it took, seconds."""
        began_s = time.monotonic()
        while not holds():
            waited_s = time.monotonic() - began_s
            assert waited_s < within_s, f"not within {within_s} s: {self.status}\n{self.words()}"
            time.sleep(0.02)
        return time.monotonic() - began_s

    def sees(self, number: int, within_s: float = PATIENCE_S / 2) -> float:
        """Wait until this document is in use; return how long it took, seconds."""
        return self.until(lambda: self.status["version"] == str(number), within_s)

    def keeps(self, number: int, for_s: float) -> None:
        """See to it that this document stays in use for a while."""
        ends_s = time.monotonic() + for_s
        while time.monotonic() < ends_s:
            assert self.status["version"] == str(number)
            time.sleep(0.05)
        assert self.do('answer = client.peek("number", "someone").value') == number

    def words(self) -> str:
        """The last that was heard of it."""
        texts = [path.read_text(errors="replace") for name in WORDS if (path := self.directory / name).exists()]
        return "\n".join([line[:300] for text in texts for line in text.splitlines() if " DEBUG " not in line][-40:])

    # -- ending ------------------------------------------------------------------------------------------------------

    def finish(self, timeout_s: float = 10.0) -> Told:
        """Have it flush and close, and return its report."""
        if self.report is None:
            self.report = self.ask("finish", timeout_s)
            self.end()
        return self.report

    def end(self) -> int:
        """Let it run out of work; return its exit status."""
        if self.process.stdin is not None and not self.process.stdin.closed:
            with suppress(BrokenPipeError):
                self.process.stdin.close()
        return self.process.wait(PATIENCE_S)

    def kill(self) -> None:
        with suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout, self._stderr):
            with suppress(OSError):
                pipe.close()  # type: ignore[union-attr]


class Stage:
    """One scenario's server and applications."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="flagkit-", ignore_cleanup_errors=True)
        self.directory = Path(self._folder.name)
        self.servers: list[Server] = []
        self.apps: list[App] = []
        self.server = self.serve()
        self.server.publish()

    def serve(self, tls: ssl.SSLContext | None = None) -> Server:
        """One more server."""
        self.servers.append(Server(tls))
        return self.servers[-1]

    def start(self, **given: Any) -> App:
        """An application that has made its client and nothing else."""
        app = App(given.pop("server", self.server), self.directory / f"app-{len(self.apps)}", **given)
        self.apps.append(app)
        return app

    def running(self, **given: Any) -> App:
        """An application that has the server's document, and asks and tracks."""
        app = self.start(**given)
        app.run()
        app.do("client.start()")
        app.sees(app.server.number)
        return app

    def check(self) -> None:
        """The closing check: whatever was done to them, the applications never noticed, and no event is unaccounted."""
        for server in self.servers:
            server.heal()
        for app in self.apps:
            if app.process.poll() is None and app.report is None:
                app.finish()
            if app.report is not None:
                check_caller(app, app.report)
                check_events(app, app.report)
        for server in self.servers:
            check_store(server)
        check_secrets(self)

    def close(self) -> None:
        for app in self.apps:
            app.kill()
        for server in self.servers:
            server.close()
        self._folder.cleanup()


def check_sum(account: Told) -> None:
    """Every event is somewhere, and nowhere twice."""
    came = account["recorded"] + account["adopted"]
    assert came == account["delivered"] + sum(account["lost"].values()) + account["pending"], account
    assert account["balanced"]


def check_caller(app: App, report: Told) -> None:
    """No exception, no wrong value, no wait."""
    assert report["raised"] == [], "\n".join(report["raised"])
    assert report["status"]["worker_faults"] == 0 or app.may_fault, app.words()
    for seen in report["numbers"]:
        # The default until there are definitions, then documents that were good, each newer than the one before.
        assert set(seen) <= {-1, *range(1, app.server.number + 1)}, seen
        good = [number for number in seen if number > 0]
        assert -1 not in seen[1:] or app.may_fail, f"definitions were taken away: {seen}"
        assert not app.onward or good == sorted(good), seen
    for unit, seen in {**report["halves"], **report["vips"]}.items():
        assert seen in ([True], [False], [False, True]) or app.may_fail, (unit, seen)
    check_waits(report["waits"])


def check_waits(waits: Told, longest_s: float = LONGEST_WAIT_S) -> None:
    """Callers waited for their turn on the machine at most, as did a thread that does nothing else."""
    noise_s = 2 * waits["control"]["worst_s"]
    for verb in ("enabled", "track"):
        assert waits[verb]["worst_s"] < max(longest_s, noise_s), waits
        if waits[verb]["count"] >= 2000:  # or else it is the worst, or nearly
            assert waits[verb]["p999_s"] < max(longest_s / 10, noise_s), waits


def check_events(app: App, report: Told) -> None:
    """The account balances, and says what the collector stored."""
    account, stored = report["status"]["account"], app.server.stored
    check_sum(account)
    assert account["lost"].keys() <= app.may_lose, account
    if not app.alone:
        return
    kept = app.may_keep
    assert kept is None or account["pending"] <= kept, (account, report["left"], app.words())
    taken = sum(map(len, app.server.kept.values()))
    assert account["delivered"] <= taken <= account["delivered"] + account["pending"], (account, taken)
    # An exposure may be sent again, by the same id, when two threads met the unit at the same time.
    assert app.may_repeat or taken - len(stored) <= 0.02 * taken, (taken, len(stored))
    if not account["lost"] and not account["pending"]:
        assert app.server.numbers == Counter(range(report["tracked"]))


def check_store(server: Server) -> None:
    """A metric event came in one batch only, however often that was sent."""
    batches = Counter(event for ids in server.kept.values() for event in ids)
    again = [server.stored[event] for event, count in batches.items() if count > 1]
    assert not [event for event in again if event["type"] == "metric"]


def check_secrets(stage: Stage) -> None:
    """Neither the key nor an attribute was written anywhere, or sent where it does not belong."""
    for path in stage.directory.rglob("*"):
        if path.is_file():
            assert_clean(path.read_bytes(), str(path.relative_to(stage.directory)))
    for app in stage.apps:
        assert_clean(json.dumps(app.report).encode(), "report")
    for server in stage.servers:
        for asked in server.asked:
            others = {name: value for name, value in asked.headers.items() if name != "authorization"}
            assert_clean(f"{asked.path} {others}".encode(), "request")
        assert PRIVATE not in json.dumps(list(server.stored.values()))


def assert_clean(data: bytes, where: str) -> None:
    for secret in (KEY, PRIVATE):
        found = data.find(secret.encode())
        assert found < 0, f"a secret in {where}: …{data[max(0, found - 300) : found]!r}"
