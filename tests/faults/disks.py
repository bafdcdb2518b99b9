"""Applications that keep their state in a folder: restarts, kills, and a look at what they left there."""

from __future__ import annotations

import re
import stat
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tests.faults.stage import App, Stage, Told, check_caller, check_secrets
from tests.faults.test_events import batches_once

#: What is done once a minute or after ten seconds, done soon.
SOON = """
import os
import flagkit.runtime.keeping as keeping, flagkit.runtime.spooler as spooler
keeping._RETRY_S = spooler._LOOK_S = spooler._RETRY_S = spooler._RETRY_CAP_S = 0.3
"""
#: Each thread tracks when it begins, whatever it is asked to do later.
NEVER, OTHERS = 10**9, 10**6
ANSWERS = """
answer = [[client.value("number", f"u{n}", default=-1), client.enabled("half", f"u{n}")] for n in range(50)]
"""
#: Any write, or any sync, fails while ``broken`` is an error's number.
FAILING = """
import errno, io, os
broken, syncs, sizes = {"write": 0, "sync": 0}, {name: getattr(os, name) for name in ("fsync", "fdatasync")}, {}
class File(io.FileIO):
    def write(self, data):
        if broken["write"]:
            raise OSError(broken["write"], os.strerror(broken["write"]))
        return super().write(data)
io.FileIO = File
def syncing(name):
    def sync(descriptor):
        if broken["sync"]:
            raise OSError(broken["sync"], os.strerror(broken["sync"]))
        size = os.fstat(descriptor).st_size
        syncs[name](descriptor)
        sizes[os.readlink(f"/proc/self/fd/{descriptor}")] = size
    return sync
os.fsync, os.fdatasync = syncing("fsync"), syncing("fdatasync")
"""


def state(stage: Stage) -> Path:
    return stage.directory / "state"


def start(stage: Stage, **given: Any) -> App:
    """An application that keeps its state in the folder; several of them, at once or in turn, share the server."""
    config = {"state_dir": str(state(stage)), **given.pop("config", {})}
    prelude = given.pop("prelude", "") + SOON
    app = stage.start(config=config, prelude=prelude, callers=given.pop("callers", 0), **given)
    app.alone = False
    return app


def running(stage: Stage, **given: Any) -> App:
    """One that has the server's document. What its threads track, unless they are asked to, has numbers from OTHERS."""
    app = start(stage, **given)
    if given.get("track_every") == NEVER:
        app.do("numbering = itertools.count(first)", first=OTHERS)
    app.run()
    app.do("client.start()")
    app.sees(stage.server.number)
    return app


def track(app: App, first: int, count: int) -> None:
    """Track events with these numbers, and wait until they are on disk."""
    app.do("numbering = itertools.count(first)\nfor _ in range(count): track()", first=first, count=count)
    spooled(app)


def spooled(app: App) -> None:
    app.until(lambda: app.do("answer = len(client._recording._buffer)") == 0)


def crash(app: App, stage: Stage) -> Told:
    """Kill an application whose threads have come to rest; return its last report, which is checked like any other."""
    app.ask("rest")
    spooled(app)
    report: Told = app.ask("report")
    check_caller(app, report)
    app.kill()
    check_secrets(stage)
    return report


def finished(app: App) -> Told:
    """Have it deliver everything; return its last account."""
    app.until(lambda: app.account["pending"] == 0)
    report = app.finish()
    assert report["left"] == report["left_at_close"] == 0
    account: Told = report["status"]["account"]
    assert account["pending"] == 0
    return account


def stored_once(stage: Stage, numbers: Iterable[int]) -> None:
    expected = Counter(numbers)
    stored = stage.server.numbers
    assert {n: count for n, count in stored.items() if n < OTHERS or n in expected} == expected
    batches_once(stage)


def definitions(stage: Stage) -> Path:
    """The folder of the last good definitions."""
    return next(state(stage).glob("sources/*"))


def kept_number(stage: Stage, folder: Path | None = None) -> int:
    """The number of the newest document on disk, 0 for none."""
    found = [0]
    for path in (folder or state(stage)).glob("sources/*/definitions.[01]"):
        match = re.search(rb'"version": "(\d+)"', path.read_bytes())
        found += [int(match[1])] if match else []
    return max(found)


def segments(stage: Stage) -> list[Path]:
    return sorted(state(stage).glob("sinks/*/*-*-*/*.seg"))


def warnings(app: App) -> list[str]:
    lines = (app.directory / "app.log").read_text().splitlines()
    return [line for line in lines if " WARNING flagkit " in line]


def modes(stage: Stage) -> set[tuple[str, int]]:
    paths = [path for path in (state(stage), *state(stage).rglob("*")) if not path.is_symlink()]
    return {("folder" if path.is_dir() else "file", stat.S_IMODE(path.stat().st_mode)) for path in paths}
