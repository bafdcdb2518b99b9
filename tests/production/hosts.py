"""Worker processes of one host, whose candidate does what a good one never would.

python hosts.py STATE_DIR FLAGS CANDIDATE CALLS      # prints the variants it served, then "done"
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

from flagkit import Client, Config

ROOT = Path(__file__).parents[2]


def abort() -> None:
    os.abort()


def loop() -> None:
    while True:
        pass


def hang() -> None:
    threading.Event().wait()


def give_up() -> None:
    sys.exit(3)


def leave() -> None:
    sys.exit()


def fail() -> None:
    raise ValueError


def well() -> None: ...


def serve(state_dir: str, flags: str, candidate: str, calls: int, pause_s: float) -> None:
    config = Config(state_dir=state_dir, processes=1, poll_interval_s=0.2)
    with Client.from_file(flags, config=config) as client:
        for number in range(calls):
            try:
                with client.gate("f", f"user-{os.getpid()}-{number}") as gate:
                    print(gate.variant, flush=True)
                    if gate.on:
                        globals()[candidate]()
            except ValueError:
                pass
            time.sleep(pause_s)
    print("done", flush=True)


class Worker:
    """A process that serves. ``kill_after_s``: what its server does when it answers nothing for so long."""

    def __init__(self, state_dir: Path, flags: Path, candidate: str, calls: int = 200, pause_s: float = 0.002) -> None:
        command = [sys.executable, __file__, str(state_dir), str(flags), candidate, str(calls), str(pause_s)]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment)

    def end(self, kill_after_s: float = 60) -> list[str]:
        """What it said, once it has ended, or is killed."""
        try:
            said, _ = self.process.communicate(timeout=kill_after_s)
        except subprocess.TimeoutExpired:
            self.process.kill()
            said, _ = self.process.communicate()
        return said.decode().split()


if __name__ == "__main__":
    serve(*sys.argv[1:4], int(sys.argv[4]), float(sys.argv[5]))
