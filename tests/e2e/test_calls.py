"""Calls through gates of several processes, some of which end and begin again, come together at a service."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from processes import KEY, Service, python

ROOT = Path(__file__).parents[2]
FLAGS = {"new-search": {"rules": [{"name": "half", "rollout": {"percent": 50}, "serve": "on"}]}}
_APP = """
import contextlib, json, sys
from flagkit import Client

url, key, calls = json.loads(sys.argv[1])

with Client(url, key=key) as client:
    assert client.wait_ready(20), client.status
    for number in range(calls):
        with contextlib.suppress(ValueError), client.gate("new-search", f"user-{number}") as gate:
            if gate.on and number % 10 == 0:
                raise ValueError("of ann@example.com")
        if number == calls // 2:
            client.flush()
    told = {each.variant: [each.calls, each.failures] for each in client.status.variants}
print(json.dumps(told))
"""


def test_the_summary_has_the_calls_of_all_processes_exactly(tmp_path: Path) -> None:
    service = Service(tmp_path)
    service.publish(FLAGS, "1")
    service.start()
    try:
        apps = [python(_APP, [service.url, KEY, calls], stdout=subprocess.PIPE) for calls in (500, 300)]
        told = [json.loads(app.communicate(timeout=60)[0]) for app in apps]
        again = python(_APP, [service.url, KEY, 200], stdout=subprocess.PIPE)
        told.append(json.loads(again.communicate(timeout=60)[0]))
        environment = {**os.environ, "FLAGKIT_READ_KEY": KEY}
        command = [sys.executable, "-m", "flagkit", "summary", service.url]
        for given in (["--json"], []):
            said = subprocess.run(
                [*command, *given], capture_output=True, text=True, timeout=60, check=True, cwd=ROOT, env=environment
            ).stdout
            if given:
                found = json.loads(said)["calls"]["new-search"]
        for variant in ("on", "off"):
            together = [sum(each[variant][index] for each in told) for index in (0, 1)]
            assert [found[variant]["calls"], found[variant]["failures"]] == together
        assert found["on"]["calls"] + found["off"]["calls"] == 1000
        assert found["on"]["errors"] == {"ValueError": found["on"]["failures"]}
        assert 0 < found["on"]["p50_s"] <= found["on"]["p99_s"]
        assert any(line.startswith("all   new-search  on ") for line in said.splitlines())
        stored = service.query("SELECT sums FROM calls")
        assert "ann@example.com" not in str(stored)
        assert '"places":{"ValueError":"<string>:' in str(stored)
    finally:
        service.kill()
