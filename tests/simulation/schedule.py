"""Virtual time, and whose turn it is: the threads of all simulated processes, one at a time, in an order drawn by seed.

A task is a greenlet. It runs until it waits: for time, a lock, the network, a disk. It may also be interrupted where
it asks the time or takes a lock, as a thread may be. Nothing here knows of flags; what is to be looked at between two
turns is called by whoever made the hub.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from random import Random
from typing import Any

from greenlet import getcurrent, greenlet

#: Turns without any time passing, after which something is spinning.
_MOST_TURNS_AT_ONCE = 3000


class Violation(BaseException):
    """Something that must never happen, happened. No product code may contain it."""


class Ended(BaseException):
    """Thrown into what is left of a process when the schedule is over. No product code may contain it."""


class Task:
    """One thread of a process. ``owner``: whatever it belongs to."""

    def __init__(self, hub: Hub, work: Callable[[], Any], owner: Any, name: str) -> None:
        self.owner = owner
        self.name = name
        self.ident = len(hub.tasks) + 1
        self.done = False
        #: It runs code that must not wait for anything.
        self.hurried = False
        self.turn = 0
        self._hub = hub
        self._work = work
        self.greenlet = greenlet(self._run, hub.main)

    def _run(self) -> None:
        try:
            self._work()
        except (Ended, SystemExit):
            pass
        except BaseException as error:  # noqa: BLE001 - it is raised again, by the hub
            self._hub.failures.append(error)
        finally:
            self.done = True
            self.owner.ended(self)


class Hub:
    """The clock and the queue of turns.

    Args: after: called after every turn with the task that had it. chance: that a task is interrupted where it may be.
    """

    def __init__(self, random: Random, after: Callable[[Task], None], chance: float = 0.02) -> None:
        self.random = random
        self.main = getcurrent()
        self.now_s = 1000.0
        self.turns = 0
        self.tasks: list[Task] = []
        self.failures: list[BaseException] = []
        self.current: Task | None = None
        #: Seconds the wall clock is ahead of the time since 1970 that it should show.
        self.wall_s = 1_795_443_200.0 - self.now_s
        self.over = False
        self._after = after
        self._chance = chance
        self._queue: list[tuple[float, float, int, Task, int]] = []
        self._count = 0

    # -- for the world

    def spawn(self, work: Callable[[], Any], owner: Any, name: str) -> Task:
        task = Task(self, work, owner, name)
        self.tasks.append(task)
        self._put(task, self.now_s)
        return task

    def run(self, until_s: float) -> None:
        """Let things happen until it is that late."""
        here_s, at_once = self.now_s, 0
        while self._queue and self._queue[0][0] <= until_s:
            at_s, _, _, task, turn = heapq.heappop(self._queue)
            if task.done or turn != task.turn or not task.owner.alive:
                continue
            self.now_s = max(self.now_s, at_s)
            at_once = at_once + 1 if self.now_s == here_s else 0
            here_s = self.now_s
            if at_once > _MOST_TURNS_AT_ONCE:
                raise Violation(f"{task.name} and others spin: {at_once} turns without any time passing")
            self._turn(task)
        self.now_s = max(self.now_s, until_s)

    def end(self) -> None:
        """Take down what is left. From here on whatever a task calls says that it is over."""
        self.over = True
        for task in self.tasks:
            if not task.done and task.greenlet:
                self.current = task
                task.greenlet.throw(Ended)
        self.current = None

    def _turn(self, task: Task) -> None:
        self.turns += 1
        self.current = task
        task.turn += 1
        task.owner.enter()
        task.greenlet.switch()
        self.current = None
        if self.failures:
            raise self.failures[0]
        self._after(task)

    # -- for tasks

    def sleep(self, seconds: float) -> None:
        """Let time pass, and others have their turns."""
        task = self._mine()
        self._put(task, self.now_s + max(0.0, seconds))
        self._leave(task)

    def park(self) -> None:
        """Wait for ``wake``, or for ever."""
        self._leave(self._mine())

    def wake(self, task: Task) -> None:
        """Its turn is now."""
        self._put(task, self.now_s)

    def maybe_interrupt(self) -> None:
        """A place where a thread may be interrupted in favour of others."""
        if self.over:
            raise Ended
        task = self.current
        if task is not None and not task.hurried and self.random.random() < self._chance:
            # Nobody knows for how long: mostly for no time at all.
            self.sleep(0.0 if self.random.random() < 0.9 else self.random.random() * 0.02)

    def _mine(self) -> Task:
        if self.over:
            raise Ended
        task = self.current
        assert task is not None, "only a task can wait"
        if task.hurried:
            raise Violation(f"{task.name} waits where nothing may wait")
        return task

    def _leave(self, task: Task) -> None:
        self.main.switch()
        if self.over:
            raise Ended

    def _put(self, task: Task, at_s: float) -> None:
        self._count += 1
        heapq.heappush(self._queue, (at_s, self.random.random(), self._count, task, task.turn))


class Clock:
    """Time as flagkit asks for it."""

    def __init__(self, hub: Hub, looked_at: Callable[[Task, float], None]) -> None:
        self._hub = hub
        self._looked_at = looked_at

    def monotonic_s(self) -> float:
        self._hub.maybe_interrupt()
        return self._hub.now_s

    def wall_ms(self) -> int:
        return int((self._hub.now_s + self._hub.wall_s) * 1000)

    def wait(self, event: Any, timeout_s: float) -> bool:
        task = self._hub.current
        if task is not None:
            self._looked_at(task, timeout_s)
        rang: bool = event.wait(timeout_s)
        return rang
