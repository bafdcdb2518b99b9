"""Eight processes of one service, through gates as applications use them: each flag is a run of its own.

python -m tests.guard.fleet_processes SETTINGS      # one process; JSON in, a JSON line out for each group of flags
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from flagkit import Client, Config, Reason, fleets, sources
from tests.e2e.processes import KEY, Service
from tests.unit.redises import redis_server

ROOT = Path(__file__).parents[2]
PROCESSES = 8
UNITS = 200_000
_LOOK_S = 0.02
#: What the last calls say may be on its way for so long.
_ON_ITS_WAY_S = 2.5


def definitions(runs: int) -> dict[str, Any]:
    half = {"rules": [{"name": "half", "rollout": {"percent": 50}, "serve": "on"}], "guard": {}}
    return {f"run-{number}": half for number in range(runs)}


@contextmanager
def through_service(folder: Path, runs: int) -> Iterator[dict[str, Any]]:
    service = Service(folder)
    service.publish(definitions(runs), "1")
    service.start()
    try:
        yield {"url": service.url, "key": KEY}
    finally:
        service.kill()


@contextmanager
def through_redis(folder: Path, runs: int) -> Iterator[dict[str, Any]]:
    flags = folder / "flags.json"
    flags.write_text(json.dumps({"schema": 1, "environment": "test", "flags": definitions(runs)}))
    with redis_server() as server:
        yield {"redis": server.url, "flags": str(flags)}


class Fleet:
    """The processes, running. ``serve`` has all of them make calls of some flags at the same time."""

    def __init__(self, where: dict[str, Any], on: float, off: float, rate: float) -> None:
        self.processes = []
        for seed in range(PROCESSES):
            settings = json.dumps({**where, "seed": seed, "on": on, "off": off, "rate": rate})
            command = [sys.executable, "-m", "tests.guard.fleet_processes", settings]
            environment = {**os.environ, "PYTHONPATH": str(ROOT)}
            pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
            self.processes.append(subprocess.Popen(command, env=environment, cwd=ROOT, **pipes))
        for process in self.processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"

    def serve(self, flags: list[str], calls: int) -> list[dict[str, Any]]:
        """At most ``calls`` calls of each flag by each process; what each says of it: see ``_served``."""
        for process in self.processes:
            assert process.stdin is not None
            process.stdin.write(json.dumps([flags, calls]) + "\n")
            process.stdin.flush()
        told = []
        for process in self.processes:
            assert process.stdout is not None
            told.append(json.loads(process.stdout.readline()))
        return told

    def close(self) -> None:
        for process in self.processes:
            process.communicate(timeout=60)


def _served(client: Client, flags: list[str], calls: int, chance: random.Random, settings: dict[str, Any]) -> Any:
    """Flag -> calls of the candidate; when the control would be served instead of it, seconds since 1970, and why."""
    said: dict[str, Any] = {flag: {"candidates": 0, "off_at": None, "why": None} for flag in flags}
    failing = {True: settings["on"], False: settings["off"]}
    going, next_s = {flag: _candidate_of(client, flag) for flag in flags}, time.monotonic()

    def look() -> None:
        for flag, unit in tuple(going.items()):
            if client.peek(flag, unit).reason is Reason.GUARD:
                said[flag] |= {"off_at": time.time(), "why": client.status.trips[flag]}
                del going[flag]

    for _ in range(calls):
        for flag in going:
            try:
                with client.gate(flag, f"user-{chance.randrange(UNITS)}") as gate:
                    said[flag]["candidates"] += gate.on
                    if chance.random() < failing[gate.on]:
                        raise ValueError
            except ValueError:
                pass
        next_s += 1 / settings["rate"]
        look()
        while going and time.monotonic() < next_s:
            time.sleep(min(_LOOK_S, max(0.0, next_s - time.monotonic())))
            look()
        if not going:
            return said
    ends_s = time.monotonic() + _ON_ITS_WAY_S
    while going and time.monotonic() < ends_s:
        time.sleep(_LOOK_S)
        look()
    return said


def _candidate_of(client: Client, flag: str) -> str:
    """A unit that has the candidate, so that it is seen at once when it no longer has."""
    units = (f"user-{number}" for number in range(1000))
    return next(unit for unit in units if client.peek(flag, unit).variant == "on")


def main(settings: dict[str, Any]) -> None:
    config = Config(poll_interval_s=1.0, processes=1)
    if "url" in settings:
        client = Client(settings["url"], key=settings["key"], sink=None, config=config)
    else:
        fleet = fleets.Redis(settings["redis"])
        client = Client(source=sources.File(settings["flags"]), fleet=fleet, sink=None, config=config)
    chance = random.Random(settings["seed"])
    with client:
        assert client.wait_ready(20)
        print("ready", flush=True)
        for line in sys.stdin:
            flags, calls = json.loads(line)
            print(json.dumps(_served(client, flags, calls, chance, settings)), flush=True)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
