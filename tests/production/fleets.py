"""Processes of one service whose guards count together: each calls its gates, and says when it was rolled back.

python fleets.py SETTINGS      # JSON; prints JSON lines: ready, off (with times), report
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from flagkit import Client, Config, fleets, sources

ROOT = Path(__file__).parents[2]


def made(settings: dict[str, Any]) -> Client:
    config = Config(poll_interval_s=1.0, processes=1)
    if "url" in settings:
        return Client(settings["url"], key=settings["key"], config=config)
    return Client(source=sources.File(settings["flags"]), fleet=fleets.Redis(settings["redis"]), config=config)


def serve(settings: dict[str, Any]) -> None:
    """Calls at a rate, until it is told to stop or has made them all."""
    chance = random.Random(settings["seed"])
    failing = {"on": settings["on"], "off": settings["off"]}
    candidates = calls = 0
    off_at: float | None = None
    alerts: list[str] = []
    with made(settings) as client:
        client.wait_ready(10)
        client.add_handler("alert", lambda told: alerts.append(str(told.message)))
        print(json.dumps({"ready": client.status.ready}), flush=True)
        next_s = time.monotonic()
        for _ in range(settings["calls"]):
            calls += 1
            try:
                with client.gate("f", f"user-{chance.randrange(10**9)}") as gate:
                    variant = gate.variant
                    candidates += gate.on
                    if chance.random() < failing[variant or "off"]:
                        raise ValueError
            except ValueError:
                pass
            if calls % 10 == 0 and client.peek("f", "user-1").reason is not None and client.status.trips:
                off_at = time.time()
                time.sleep(1.5)  # an answer may be on its way that says who is to tell people
                break
            next_s += 1 / settings["rate"]
            time.sleep(max(0.0, next_s - time.monotonic()))
        status = client.status
    report = {"calls": calls, "candidates": candidates, "off_at": off_at, "trips": dict(status.trips), "alerts": alerts}
    print(json.dumps({**report, "fleet": status.fleet._asdict() if status.fleet else None}), flush=True)


class Process:
    """One of them."""

    def __init__(self, **settings: Any) -> None:
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        self.process = subprocess.Popen(
            [sys.executable, __file__, json.dumps(settings)], stdout=subprocess.PIPE, text=True, env=environment
        )

    def report(self, timeout_s: float = 60) -> dict[str, Any]:
        said, _ = self.process.communicate(timeout=timeout_s)
        report: dict[str, Any] = json.loads(said.splitlines()[-1])
        return report


if __name__ == "__main__":
    serve(json.loads(sys.argv[1]))
