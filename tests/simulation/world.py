"""One schedule: a host with some processes and a disk, two servers, everything that goes wrong, and how it ends.

``World(seed).play()`` draws what there is and what happens from the seed, lets it happen for some minutes of virtual
time, mends everything, waits until nothing is left to be done, closes what runs, and has the invariants reckon up.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable
from random import Random
from typing import Any

from tests.simulation import settings
from tests.simulation.chaos import Chaos
from tests.simulation.contents import Author
from tests.simulation.disk import CLEAR, Disk
from tests.simulation.invariants import Invariants
from tests.simulation.ledger import Ledger
from tests.simulation.life import Life
from tests.simulation.machine import Machine
from tests.simulation.network import Network
from tests.simulation.schedule import Clock, Hub, Task, Violation
from tests.simulation.weather import Mood
from tests.unit.folders import _free


class World:
    """See the module. It is also the owner of what happens outside of all processes."""

    alive = True

    def __init__(self, seed: int, **given: Any) -> None:
        """given: settings that are not left to chance."""
        self.seed = seed
        self.random = random = Random(seed)
        self.faults: Counter[str] = Counter()
        self.settings = settings.drawn(random)
        for name, value in given.items():
            (self.settings if name in self.settings else self.settings["config"])[name] = value
        self.invariants = Invariants(self)
        self.hub = Hub(random, self._after, self.settings["chance"])
        self.clock = Clock(self.hub, self.invariants.paused)
        self.machine = Machine(self.hub)
        self.machine.threads = self._thread
        self.author = Author(random, 12)
        self.ledger = Ledger()
        self.network = Network(self.hub, random, self.author, self.ledger, self.notice)
        self.network.streams = self.settings["streams"]
        self.disk = Disk(random, lambda: self.hub.now_s, self.clock.wall_ms, self._slow, self.notice)
        self.disk.unsynced = self._unsynced
        self.living: list[Life] = []
        self.lives = 0
        #: Losses that processes counted, by reason.
        self.lost: Counter[str] = Counter()
        self.healing = self.ending = False
        #: Things happened after which a thread may be late without anybody's fault.
        self.troubled = False
        self.divided = self.retold = False
        #: Threads cannot be started; some thread was missing at some time.
        self.threads_refused = self.threads_hurt = False
        self.slow_s = 0.0
        self.most_spooled = 0
        self.figures: dict[str, Any] = {}
        self._numbers = 0
        self._last = False
        self.chaos = Chaos(self)

    def play(self) -> World:
        """Let it all happen. Raises: Violation, with the seed."""
        log = logging.getLogger("flagkit")
        before, log.disabled = log.disabled, True
        try:
            with self.machine:
                self._play()
        except BaseException as error:
            error.add_note(f"seed {self.seed}, at {self.hub.now_s:.3f} s, turn {self.hub.turns}: {self.settings}")
            raise
        finally:
            log.disabled = before
            for life in self.living:
                life.kill()
        return self

    def _play(self) -> None:
        hub = self.hub
        for slot in range(self.settings["slots"]):
            self._start(slot, self.random.random() * 3)
        self.chaos.begin()
        hub.run(hub.now_s + self.settings["length_s"])
        self._heal()
        self._get_well(self._patience_s())
        self.figures["healed after"] = hub.now_s - self._healed_s
        hub.run(hub.now_s + 1.0)
        for life in self.living:
            self.invariants.at_rest(life)
        self._end_all()
        # Whatever somebody gave up for a disk that he could not read, the next may find.
        self._start(0, 0.0)
        self.settings["slots"], self._last = 1, True
        self._get_well(hub.now_s + 200.0)
        self._end_all()
        self.invariants.reckon()
        self.figures |= {"turns": hub.turns, "events": self.ledger.recorded, "answers": self.invariants.answers}
        self.figures |= {"batches": len(self.invariants.batches), "lives": self.lives, "seconds": hub.now_s - 1000}

    def _get_well(self, until_s: float) -> None:
        while not self._well() and self.hub.now_s < until_s:
            self.hub.run(self.hub.now_s + 1.0)
        if not self._well():
            lacks = {life.name: self.invariants.lacks(life) for life in self.living}
            raise Violation(
                f"not well {self.hub.now_s - self._healed_s:.0f} s after all else: {lacks}, {self._orphans()}"
            )

    def _end_all(self) -> None:
        self.ending = True
        for life in list(self.living):
            life.spawn(life.leave, "main")
        self.hub.run(self.hub.now_s + 10.0)
        if self.living:
            raise Violation(f"{self.living[0].name} does not end")
        self.ending = False

    # -- as an owner of tasks

    def enter(self) -> None: ...
    def ended(self, task: Task) -> None: ...

    def _after(self, task: Task) -> None:
        self.invariants.after(task)

    # -- what parts ask of it

    def notice(self, fault: str) -> None:
        self.faults[fault] += 1
        if fault.endswith((" exit", " bug")):
            self.troubled = True
            self.threads_hurt = self.threads_hurt or fault == "events exit"

    def next_number(self) -> int:
        self._numbers += 1
        return self._numbers

    def later(self, seconds: float, work: Callable[[], object]) -> None:
        def wait() -> None:
            self.hub.sleep(seconds)
            work()

        self.hub.spawn(wait, self, "later")

    def free(self, token: object) -> None:
        """What a process had locked is not any more."""
        _free(self.disk.root, token)

    def forked(self, life: Life) -> None:
        """The parent is no more, and what it had in memory is not its child's."""
        self.invariants.killed(life)
        self.lost.update(life.account().lost)
        self._disconnect(life)

    def end(self, life: Life) -> None:
        """It is killed."""
        self.invariants.killed(life)
        if life.client is not None:
            self.lost.update(life.account().lost)
        self._bury(life)

    def gone(self, life: Life) -> None:
        """It ended by itself."""
        self.lost.update(life.account().lost)
        self._bury(life)

    def _disconnect(self, life: Life) -> None:
        self.network.flows[:] = [flow for flow in self.network.flows if flow._client is not life]

    def _bury(self, life: Life) -> None:
        life.kill()
        self._disconnect(life)
        self.free(life.token)
        self.living.remove(life)
        if not self.ending:
            self._start(life.slot, 0.0 if self.healing else self.random.expovariate(1 / 8))

    def _start(self, slot: int, after_s: float) -> None:
        healing = self.healing

        def begin() -> None:
            if self.healing is not healing:
                return  # somebody else has taken its place by now
            life = Life(self, slot)
            self.living.append(life)
            self.lives += 1
            life.spawn(life.run, "main")

        self.later(after_s, begin)

    def _slow(self, seconds: float) -> None:
        self.troubled = True
        self.slow_s += seconds
        self.hub.sleep(seconds)

    def _unsynced(self, name: str) -> None:
        for path, file in self.disk.files():
            if path.endswith(f"/{name}") and name.endswith(".seg"):
                synced = len(file.synced)
                lost = [text for text in self.disk.spooled()[path] if text.encode() not in file.data[:synced]]
                self.ledger.excuse(lost, "sync")

    def _thread(self) -> None:
        if self.threads_refused and self.random.random() < 0.7:
            self.notice("thread refused")
            self.troubled = self.threads_hurt = True
            raise RuntimeError("can't start new thread")

    # -- how it ends

    def _heal(self) -> None:
        self.healing = True
        self._healed_s = self.hub.now_s
        self.threads_refused = False
        self.disk.turns(CLEAR)
        for role in self.network.moods:
            self.network.moods[role] = Mood()
        if any(flag.bad for flag in self.network.now.flags.values()):
            self.network.publish(self.author.mend())
        for slot in range(self.settings["slots"]):
            if all(life.slot != slot for life in self.living):
                self._start(slot, 0.0)

    def _patience_s(self) -> float:
        """When it should be well at the latest."""
        poisoned = sum(entry.stored is None for entry in self.ledger.entries.values())
        return max([self.hub.now_s, *(life.patience_s for life in self.living)]) + 400.0 + 12.0 * poisoned

    def _well(self) -> bool:
        return (
            len(self.living) == self.settings["slots"]
            and all(self.invariants.lacks(life) is None for life in self.living)
            and not (self._orphans() and (self.disk.clean or self._last))
        )

    def _orphans(self) -> list[str]:
        """Files with events of processes that are no more."""
        living = [f"-{life.pid}-" for life in self.living]
        spooled = self.disk.spooled()
        return [path for path in spooled if spooled[path] and not any(name in path for name in living)]
