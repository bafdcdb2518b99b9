"""A candidate that hangs under a real gunicorn, which kills workers that answer nothing: rolled back on that host."""

from __future__ import annotations

import http.client
import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytest.importorskip("gunicorn", reason="not installed: gunicorn; see the extra faults")

ROOT = Path(__file__).parents[2]
HALF = {"guard": {}, "rules": [{"name": "half", "rollout": {"percent": 50}, "serve": "on"}]}


def ask(address: tuple[str, int], user: str) -> str | None:
    """The variant that served a user; None: the worker was killed over it."""
    connection = http.client.HTTPConnection(*address, timeout=30)
    try:
        connection.request("GET", f"/?{user}")
        response = connection.getresponse()
        body = response.read().decode()
        return body.split()[0] if response.status == 200 else None
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()


def test_a_candidate_for_which_the_server_s_timeout_kills_its_workers_is_rolled_back(tmp_path: Path) -> None:
    flags = tmp_path / "flags.json"
    flags.write_text(json.dumps({"schema": 1, "environment": "test", "flags": {"f": HALF}}))
    settings = {"state_dir": str(tmp_path / "state"), "flags": str(flags)}
    with socket.create_server(("127.0.0.1", 0)) as listener, (tmp_path / "log").open("wb") as log:
        address = listener.getsockname()
        options = ["-b", f"fd://{listener.fileno()}", "-w", "2", "-k", "sync", "--timeout", "2"]
        server = subprocess.Popen(
            [sys.executable, "-m", "gunicorn", *options, "tests.production.timeouts:application"],
            env={**os.environ, "FLAGKIT_HOST": json.dumps(settings), "PYTHONPATH": str(ROOT)},
            pass_fds=[listener.fileno()],
            stdout=log,
            stderr=log,
        )
        killed, ends_s = 0, time.monotonic() + 60
        try:
            served: list[str] = []
            number = 0
            while len(served) < 40:
                assert time.monotonic() < ends_s, (served, killed, (tmp_path / "log").read_text()[-3000:])
                answer, number = ask(address, f"user-{number}"), number + 1
                if answer is None:
                    killed, served = killed + 1, []
                else:
                    served.append(answer)
        finally:
            server.terminate()
            server.wait(30)
    assert set(served) == {"off"}
    assert killed <= 4
    assert "WORKER TIMEOUT" in (tmp_path / "log").read_text()
