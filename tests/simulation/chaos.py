"""What goes wrong of its own accord: the weather of networks and disk, deaths, damage, clocks that are set.

Also what goes on of its own accord: contents are published, heartbeats sent, files written back. Each is a task of the
world's that waits, does something, and waits again, until the world is healing.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from tests.simulation.disk import CLEAR, DiskWeather
from tests.simulation.ledger import event_id
from tests.simulation.network import HEARTBEAT_S
from tests.simulation.weather import KINDS, Mood

if TYPE_CHECKING:
    from tests.simulation.life import Life
    from tests.simulation.world import World


class Chaos:
    """See the module."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._hub = world.hub
        self._random = world.random
        self._network = world.network
        self._disk = world.disk
        #: Who will be killed in the middle of which disk step from now.
        self._doomed: tuple[Life, int] | None = None

    def begin(self) -> None:
        settings = self._world.settings
        works = [self._heartbeats, self._publishing, self._writing_back]
        works += [partial(self._weather, role) for role in ("definitions", "events", "stream")]
        if settings["disk_faults"]:
            works.append(self._disk_weather)
        if settings["deaths"]:
            works.append(self._killing)
            self._disk.fatal = self._fatal
        if settings["steps"]:
            works.append(self._stepping)
        if settings["damage"]:
            works.append(self._damaging)
        if settings["threads"]:
            works.append(self._refusing)
        for work in works:
            self._hub.spawn(work, self._world, "chaos")

    def _every(self, mean_s: float) -> bool:
        """Wait about so long; whether there is anything still to go wrong."""
        self._hub.sleep(self._random.expovariate(1 / mean_s))
        return not self._world.healing

    def _heartbeats(self) -> None:
        while True:
            self._hub.sleep(HEARTBEAT_S * (0.8 + 0.2 * self._random.random()))
            self._network.heartbeat()

    def _writing_back(self) -> None:
        while True:
            self._hub.sleep(10.0)
            self._disk.write_back()

    def _publishing(self) -> None:
        while self._every(25.0):
            self._world.notice("content published")
            if self._random.random() < 0.04:
                self._world.notice("epoch begun")
                self._network.publish(self._world.author.begin_anew())
            else:
                self._network.publish(self._world.author.revise())

    def _weather(self, role: str) -> None:
        kinds = KINDS[role]
        random = self._random
        if self._world.settings["config"]["environment"] is None:
            kinds = tuple(kind for kind in kinds if kind != "environment")  # it would be the first that somebody meets
        while self._every(self._world.settings["weather_s"]):
            self._network.moods[role] = Mood.drawn(random, kinds)

    def _disk_weather(self) -> None:
        while self._every(25.0):
            self._disk.turns(DiskWeather.drawn(self._random) if self._random.random() < 0.5 else CLEAR)

    def _killing(self) -> None:
        while self._every(50.0):
            if not self._world.living:
                continue
            life, kind = self._random.choice(self._world.living), self._random.random()
            if kind < 0.4:
                self._kill(life)
            elif kind < 0.8:
                self._doomed = (life, self._random.randint(1, 25))
            else:
                self._power_fails()

    def _fatal(self, step: str, name: str) -> None:
        """A disk step begins: perhaps it is the last thing that a process does."""
        task = self._hub.current
        if self._doomed is None or task is None or task.owner is not self._doomed[0] or self._world.healing:
            return
        life, left = self._doomed
        self._doomed = (life, left - 1)
        if left <= 1:
            self._doomed = None
            self._kill(life, f"killed in {step}")
            self._hub.park()

    def _kill(self, life: Life, how: str = "killed") -> None:
        self._world.notice(how)
        self._world.end(life)
        if self._random.random() < 0.2:
            self._tear()

    def _tear(self) -> None:
        """The end of a file did not make it."""
        before = self._disk.spooled()
        for path, file in self._disk.files():
            if before.get(path) and file.data != file.synced and not self._is_open(path):
                self._world.notice("tail torn")
                self._disk.clean = False
                least = max(len(file.synced), len(file.data) - len(before[path][-1]) - 8)
                file.data = file.data[: self._random.randint(least, len(file.data))]
        self._excuse_since(before, "torn")

    def _is_open(self, path: str) -> bool:
        """Whether a living process writes there."""
        name = path.rsplit("/", 2)[-2]
        return any(f"-{life.pid}-" in name for life in self._world.living)

    def _power_fails(self) -> None:
        self._world.notice("power lost")
        pids = [f"-{life.pid}-" for life in self._world.living]
        for life in list(self._world.living):
            self._world.end(life)
        before = self._disk.spooled()
        self._disk.crash(self._random if self._random.random() < 0.7 else None)
        self._disk.clean = False
        self._world.invariants.lost_power(before, self._disk.spooled(), pids)

    def _stepping(self) -> None:
        while self._every(90.0):
            self._world.notice("wall clock stepped")
            self._hub.wall_s += self._random.choice((-3600.0, -60.0, -1.0, 1.0, 60.0, 3600.0))

    def _damaging(self) -> None:
        while self._every(60.0):
            files = [(path, file) for path, file in self._disk.files() if file.data]
            if files:
                self._world.notice("bit flipped")
                path, file = self._random.choice(files)
                before = self._disk.spooled()
                self._disk.flip(path, file)
                self._excuse_since({path: before.get(path, [])}, "flipped", all_of_it=True)

    def _refusing(self) -> None:
        while self._every(40.0):
            self._world.threads_refused = not self._world.threads_refused
        self._world.threads_refused = False

    def _excuse_since(self, before: dict[str, list[str]], why: str, *, all_of_it: bool = False) -> None:
        after = self._disk.spooled()
        for path, texts in before.items():
            there = set() if all_of_it else {event_id(text) for text in after.get(path, [])}
            self._world.ledger.excuse([text for text in texts if event_id(text) not in there], why)
