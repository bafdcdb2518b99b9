"""What the repository offers to try out works as it stands: the examples, and the quickstart with a real service."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import requests
from click.testing import CliRunner

from flagkit.cli import main
from tests.pages import ROOT, Block, Reader

EXAMPLES = ROOT / "examples"
#: Examples with definitions of their own beside them.
NAMES = sorted(path.stem for path in EXAMPLES.glob("*.json"))
FLAGKIT = (sys.executable, "-m", "flagkit")
#: The checkout's own flagkit, whether or not it is installed.
ENVIRONMENT = os.environ | {"PYTHONPATH": str(ROOT)}
SERVICE = {"FLAGKIT_READ_KEY": "key", "FLAGKIT_WRITE_KEY": "key"}


class Server:
    """A process that says on its first lines where it listens, and ends when told to."""

    def __init__(self, *command: str, directory: Path, said: str, **environment: str) -> None:
        self._process = subprocess.Popen(
            command,
            cwd=directory,
            env=ENVIRONMENT | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert self._process.stdout is not None
        self._output = self._process.stdout
        self.url, lines = "", []
        while not self.url and (line := self._output.readline()):
            lines.append(line)
            if found := re.search(rf"{said} (http://\S+)", line):
                self.url = found[1]
        # Whatever else it says is read, so that it never waits for us.
        self._rest = threading.Thread(target=self._output.read)
        self._rest.start()
        if not self.url:
            self.stop()
            pytest.fail("".join(lines))

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(20)
        self._rest.join()
        self._output.close()


@pytest.fixture
def servers() -> Iterator[list[Server]]:
    started: list[Server] = []
    yield started
    for server in started:
        server.stop()


def run(name: str, **environment: str) -> str:
    """What an example prints, warnings being errors."""
    result = subprocess.run(
        [sys.executable, "-W", "error", EXAMPLES / f"{name}.py"],
        env=ENVIRONMENT | environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (result.returncode, result.stderr) == (0, "")
    return result.stdout


def service(servers: list[Server], directory: Path, definitions: Path) -> Server:
    """A service of these definitions, whose one key reads and writes."""
    server = Server(
        *FLAGKIT, "serve", str(definitions), "--port", "0", directory=directory, said="listening on", **SERVICE
    )
    servers.append(server)
    return server


def stored(server: Server) -> Any:
    return requests.get(f"{server.url}/v1/summary", headers={"Authorization": "Bearer key"}, timeout=10).json()


@pytest.mark.parametrize("name", NAMES)
def test_the_definitions_of_the_example_are_valid_and_fit_its_code(name: str) -> None:
    definitions, code = str(EXAMPLES / f"{name}.json"), str(EXAMPLES / f"{name}.py")
    for arguments in (["validate", definitions], ["lint", definitions, code, "--today", "2026-11-23"]):
        result = CliRunner().invoke(main, arguments)
        assert result.exit_code == 0, result.output


def test_the_quickstart_example_decides_explains_and_raises() -> None:
    printed = run("quickstart")
    assert 'new-search = off (SPLIT, rule "canary")' in printed
    assert re.search(r"at 25 %: 2,\d{3}, and 0 of the first \d{3} fell out", printed)
    assert "inside:  Decision(flag='new-search', variant='on', reason=OVERRIDE)" in printed


def test_the_backends_example_answers_alike_for_staff_and_for_half_of_the_others_by_every_backend() -> None:
    lines = run("backends").splitlines()
    assert len(lines) == 5
    for line in lines:
        found = re.fullmatch(r"\w+ +staff: new \(TARGETING_MATCH, .+\), of 999 others (\d+)", line)
        assert found is not None, line
        assert 430 < int(found[1]) < 570


def test_the_web_example_serves_and_records_each_user_once() -> None:
    printed = run("web_app")
    new = int(re.findall(r"60 users saw: \{'new': (\d+), 'old': \d+\}", printed)[0])
    assert "excluded, although opted in: {'checkout': 'old', 'why': 'EXCLUDED'}" in printed
    assert "without a user: {'checkout': 'old', 'why': 'DEFAULT'}" in printed
    # 60 users, and one of them again, who was excluded then.
    assert "recorded:  61 exposure events of new-checkout" in printed
    assert "recorded:  60 exposure events of max-items" in printed
    assert f"recorded: {new:3} metric events of order" in printed


def test_the_web_example_keeps_concurrent_requests_apart(servers: list[Server], tmp_path: Path) -> None:
    web = Server(
        *(sys.executable, "-m", "uvicorn", "--app-dir", str(EXAMPLES), "--port", "0", "web_app:app"),
        directory=tmp_path,
        said="running on",
    )
    servers.append(web)

    def asked(number: int) -> tuple[str, str]:
        country = "US" if number % 2 else "SE"
        headers = {"X-User": f"user-{number}", "X-Country": country, "Cookie": "beta=yes"}
        return country, requests.get(web.url, headers=headers, timeout=10).json()["checkout"]

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(asked, range(200))) == {("US", "old"), ("SE", "new")}


def test_the_cron_example_sends_its_events_while_it_exits() -> None:
    printed = run("cron_job")
    done = "done; 15 events are still to be sent\n"
    events = [json.loads(line) for line in printed.partition(done)[2].splitlines()]
    assert [event["type"] for event in events].count("exposure") == 10
    assert [event["type"] for event in events].count("metric") == 5


def test_a_service_stores_what_the_cron_example_sent_at_its_exit(servers: list[Server], tmp_path: Path) -> None:
    server = service(servers, tmp_path, EXAMPLES / "cron_job.json")
    run("cron_job", FLAGKIT_URL=server.url, FLAGKIT_KEY="key")
    run("cron_job", FLAGKIT_URL=server.url, FLAGKIT_KEY="key")
    summary = stored(server)
    # Exposures are the same events in the second run, unless an hour began in between; orders are not.
    assert summary["flags"]["compress-archives"]["units"] == 5
    assert summary["stored"]["metrics"] == 10


def test_the_web_example_runs_against_a_service(servers: list[Server], tmp_path: Path) -> None:
    server = service(servers, tmp_path, EXAMPLES / "web_app.json")
    run("web_app", FLAGKIT_URL=server.url, FLAGKIT_KEY="key")
    assert stored(server)["flags"]["max-items"]["units"] == 60


class QuickstartReader(Reader):
    """Starts the service where the page says so, on a port that is free, and exports its read key."""

    def __init__(self, directory: Path, servers: list[Server], monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__(ROOT / "docs" / "quickstart.md")
        self._directory = directory
        self._servers = servers
        self._monkeypatch = monkeypatch

    def _sh(self, block: Block) -> None:
        if not block.text.startswith("flagkit serve "):
            return
        server = Server(
            *FLAGKIT, *block.text.split()[1:], "--port", "0", directory=self._directory, said="listening on"
        )
        self._servers.append(server)
        self.stand_ins["http://127.0.0.1:8400"] = server.url
        keys = json.loads((self._directory / "flagkit.db.keys.json").read_text(encoding="utf-8"))
        self._monkeypatch.setenv("FLAGKIT_READ_KEY", keys["read"])


def test_the_quickstart_works_as_it_is_written(
    servers: list[Server], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    QuickstartReader(tmp_path, servers, monkeypatch).follow()
