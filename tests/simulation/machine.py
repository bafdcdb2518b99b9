"""What an operating system gives a process, simulated: threads, locks, a number, bytes of chance, a fork, a kill.

Clients run as they are: while a ``Machine`` is entered, what Python offers of these things is replaced, and every
simulated process finds its own copy of what flagkit knows of the process it is in. A killed process simply has no
further turns; a forked child goes on with everything its parent had in memory, locks held by other threads included.
"""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Callable
from typing import Any
from weakref import WeakSet

import pytest

from flagkit.runtime.process import process as known
from tests.simulation.schedule import Ended, Hub, Task

_KNOWN = ("residents", "pid", "hooked", "exiting", "watched_pid", "noticing")


class Process:
    """One simulated process. ``alive`` until it is killed or has ended."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.pid = machine.next_pid()
        self.alive = True
        self._known: dict[str, Any] = {
            "residents": WeakSet(),
            "pid": self.pid,
            "hooked": True,
            "exiting": False,
            "watched_pid": self.pid,
            "noticing": Lock(machine.hub),
        }

    def spawn(self, work: Callable[[], Any], name: str) -> Task:
        return self.machine.hub.spawn(work, self, name)

    def enter(self) -> None:
        """Its thread has a turn."""
        machine = self.machine
        if machine.inside is self:
            return
        if machine.inside is not None:
            machine.inside.stand_aside()
        for name, value in self._known.items():
            setattr(known, name, value)
        machine.inside = self

    @property
    def noticed(self) -> bool:
        """Whether flagkit knows which process this is; False in a child of a fork that nobody has told it of yet."""
        self.enter()
        return bool(known.pid == self.pid)

    def stand_aside(self) -> None:
        self._known = {name: getattr(known, name) for name in _KNOWN}

    def ended(self, task: Task) -> None:
        """A thread came to its end."""

    def kill(self) -> None:
        """kill -9: no thread of it runs again, not even to its next line."""
        self.alive = False

    def fork(self, task: Task, *, hooks: bool) -> None:
        """``task`` goes on as the only thread of a child, of which the hooks are told or not; the parent is no more.

        The child takes this process's place: same memory, another number.
        """
        hub = self.machine.hub
        parent = _Gone()
        for other in hub.tasks:
            if other.owner is self and other is not task:
                other.owner = parent
        self.pid = self.machine.next_pid()
        if hooks:
            known.forked()  # what the hook calls


class _Gone:
    """Owner of threads that did not survive."""

    alive = False

    def ended(self, task: Task) -> None: ...


class Machine:
    """Enter it to run clients. ``threads``: asked before a thread starts; raises RuntimeError to refuse."""

    def __init__(self, hub: Hub) -> None:
        self.hub = hub
        self.inside: Process | None = None
        self.threads: Callable[[], None] = lambda: None
        self._pid = 100
        self._chance = random.Random(hub.random.getrandbits(64))
        self._patch = pytest.MonkeyPatch()

    def next_pid(self) -> int:
        self._pid += 1
        return self._pid

    def __enter__(self) -> Machine:
        for name in _KNOWN:
            self._patch.setattr(known, name, getattr(known, name))  # as it is, to be put back
        self._ident = threading.get_ident()
        self._others = os.getpid, threading.get_ident
        self._patch.setattr(os, "getpid", self._getpid)
        self._patch.setattr(os, "urandom", self._chance.randbytes)
        self._patch.setattr(random, "_urandom", self._chance.randbytes)
        self._patch.setattr(time, "monotonic", lambda: self.hub.now_s)
        self._patch.setattr(threading, "Lock", lambda: Lock(self.hub))
        self._patch.setattr(threading, "Thread", self._thread)
        self._patch.setattr(threading, "get_ident", self._get_ident)
        return self

    def __exit__(self, *_: object) -> None:
        self.hub.end()
        self._patch.undo()

    # A thread that some other test has left behind is where it was.

    def _getpid(self) -> int:
        if self._others[1]() != self._ident:
            return self._others[0]()
        task = self.hub.current
        return task.owner.pid if task is not None and isinstance(task.owner, Process) else 1

    def _get_ident(self) -> int:
        ident = self._others[1]()
        if ident != self._ident:
            return ident
        task = self.hub.current
        return 0 if task is None else task.ident

    def _thread(self, target: Callable[..., Any], args: tuple[Any, ...], name: str, daemon: bool) -> Thread:
        return Thread(self, lambda: target(*args), name)


class Thread:
    """A ``threading.Thread``, as far as flagkit uses one."""

    def __init__(self, machine: Machine, work: Callable[[], Any], name: str) -> None:
        self.name = name
        self._machine = machine
        self._work = work
        self._task: Task | None = None

    def start(self) -> None:
        hub = self._machine.hub
        self._machine.threads()
        assert hub.current is not None
        self._task = hub.spawn(self._work, hub.current.owner, self.name)

    def is_alive(self) -> bool:
        # In a forked child Python says of every other thread that it ended.
        task = self._task
        return task is not None and not task.done and task.owner.alive

    def join(self, timeout: float | None = None) -> None:
        hub = self._machine.hub
        if self._task is None or self._task is hub.current:
            raise RuntimeError("cannot join this thread")
        ends_s = hub.now_s + (1e9 if timeout is None else timeout)
        while self.is_alive() and hub.now_s < ends_s:
            hub.sleep(min(0.01, ends_s - hub.now_s))


class Lock:
    """A ``threading.Lock``. Whoever waits for it gives up his turn."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._held = False
        self._waiting: list[Task] = []

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        hub = self._hub
        if blocking:
            hub.maybe_interrupt()
        ends_s = hub.now_s + timeout if timeout >= 0 else 1e12
        while self._held:
            task = hub.current
            if not blocking or hub.now_s >= ends_s:
                return False
            assert task is not None, "nobody may wait outside of the schedule"
            self._waiting.append(task)
            try:
                hub.sleep(ends_s - hub.now_s)
            finally:
                if task in self._waiting:
                    self._waiting.remove(task)
        if hub.over:
            raise Ended
        self._held = True
        return True

    def release(self) -> None:
        if not self._held:
            raise RuntimeError("release unlocked lock")
        self._held = False
        hub = self._hub
        waiting = [task for task in self._waiting if task.owner.alive]
        if waiting:
            task = hub.random.choice(waiting)
            self._waiting.remove(task)
            hub.wake(task)

    def locked(self) -> bool:
        return self._held

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(self, *_: object) -> None:
        self.release()
