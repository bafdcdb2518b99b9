"""A delivery that reads from a spool, on a disk in memory and a clock that stands still; and what a disk holds."""

from __future__ import annotations

from typing import Any

from fakes import FakeClock, FixedRandom, ScriptedSink, metric
from folders import MemoryDisk, MemoryFolder

from flagkit.config import Config
from flagkit.disk import Folder
from flagkit.events import ExposureEncoder
from flagkit.runtime.buffer import Buffer
from flagkit.runtime.delivery import Delivery
from flagkit.runtime.exposures import Exposures
from flagkit.runtime.spool import Spool


class World:
    """What is there whatever processes come and go: time, a disk, a collector."""

    def __init__(self, *script: Any) -> None:
        self.clock = FakeClock()
        self.disk = MemoryDisk(now_ms=self.clock.wall_ms)
        self.sink = ScriptedSink(script)
        self.tracked = 0

    def process(self, **settings: Any) -> Process:
        return Process(self, **settings)

    def root(self) -> MemoryFolder:
        """The folder of the sink, as somebody else sees it."""
        sinks = MemoryFolder(self.disk).folder("sinks")
        return sinks.folder(sinks.names()[0])

    def homes(self) -> list[MemoryFolder]:
        root = self.root()
        return [root.folder(name) for name in root.names() if name[0].isdigit()]

    def files(self) -> dict[str, bytes]:
        """What is in the folders of processes, by name of the file, locks aside."""
        return {name: home.read(name) for home in self.homes() for name in home.names() if name != "lock"}

    def used(self) -> int:
        """Bytes in all folders of processes."""
        return sum(home.size(name) for home in self.homes() for name in home.names())

    def dead(self) -> dict[str, bytes]:
        root = self.root()
        if "dead" not in root.names():
            return {}
        folder = root.folder("dead")
        return {name: folder.read(name) for name in folder.names()}


class Process:
    """One process: it tracks, spools, sends, and ends one way or another."""

    def __init__(self, world: World, folder: Folder | None = None, chance: float = 1.0, **settings: Any) -> None:
        self.world = world
        self.folder = MemoryFolder(world.disk) if folder is None else folder
        self.config = Config(**{"batch_size": 10, "flush_interval_s": 5, "state_dir": self.folder, **settings})
        self.buffer = Buffer(self.config.max_pending, self.config.batch_size)
        encoder = ExposureEncoder(lambda: "test", self.config.exposure_window_s)
        self.exposures = Exposures(self.config, world.clock, self.buffer, encoder.constant)
        random: Any = FixedRandom(chance)
        self.spool = Spool(self.buffer, encoder, world.sink.name, self.config, world.clock, random)
        self.spooler = self.spool.spooler
        self.delivery = Delivery(world.sink, self.spool, self.exposures, encoder, self.config, world.clock, random)

    def track(self, count: int = 1) -> None:
        for _ in range(count):
            self.buffer.append(metric(self.world.tracked))
            self.world.tracked += 1

    def write(self) -> float:
        """A round of the spool's thread."""
        return self.spooler.step()

    def run(self, seconds: float) -> None:
        """Drive both threads as workers would."""
        clock = self.world.clock
        until_s = clock.monotonic_s() + seconds
        while True:
            pause_s = min(self.spooler.step(), self.delivery.step())
            if clock.monotonic_s() + pause_s > until_s:
                break
            clock.advance(max(pause_s, 0.001))
        clock.advance(until_s - clock.monotonic_s())

    def kill(self) -> None:
        """kill -9"""
        assert isinstance(self.folder, MemoryFolder)
        self.folder.kill()

    def close(self, timeout_s: float = 5) -> int:
        left = self.delivery.close(timeout_s)
        self.spool.release()
        return left

    @property
    def account(self) -> Any:
        return self.buffer.account()

    @property
    def sizes(self) -> list[int]:
        return [len(batch.events) for batch in self.world.sink.batches]


def numbers(world: World) -> list[int]:
    """Which of the tracked events the collector has, in the order they came."""
    return [int(event, 16) for event in world.sink.stored]
