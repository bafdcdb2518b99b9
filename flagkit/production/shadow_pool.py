"""``ShadowPool``: a flag's threads for candidates: few, started when needed, behind a queue of bounded length.

Whoever hands in work never waits, not even for a lock. A thread cannot be ended from outside, so work that
hangs keeps its thread, and what does not fit any more is refused, as is what would compute more than the flag's
``Allowance``. The threads are daemons and end when the pool is closed or gone; in a forked child there are none until
the next work comes.
"""

from __future__ import annotations

import queue
import threading
import weakref
from collections import deque
from collections.abc import Callable
from typing import Final, NamedTuple, Protocol

from flagkit.production.shadow_share import Allowance

#: Threads of all pools of a client.
MOST_THREADS: Final = 64


class Work(Protocol):
    """What a pool does. Neither raises anything."""

    def __call__(self) -> None: ...

    def drop(self, reason: str) -> None:
        """It is not going to be done."""
        ...


class Pace(NamedTuple):
    """How much the threads may compute. cpu_s: the clock of a thread's CPU time."""

    allowance: Allowance
    cpu_s: Callable[[], float]


class _Crew:
    """The threads of one pool in one process, and what they share with whoever hands in work."""

    __slots__ = ("__weakref__", "idle", "over", "pace", "places", "queue", "spare", "starting", "threads")

    def __init__(self, most: int, waiting: int, spare: deque[None], pace: Pace) -> None:
        #: Of the kind that may be put to from a signal handler, or a finalizer.
        self.queue: queue.SimpleQueue[Work | None] = queue.SimpleQueue()
        #: One entry for each that may still wait, start or idle: taking one from a deque is atomic.
        self.places: deque[None] = deque([None] * waiting)
        self.threads: deque[None] = deque([None] * most)
        self.spare = spare
        self.idle: deque[None] = deque()
        self.starting = threading.Lock()
        self.over = False
        self.pace = pace


class ShadowPool:
    """See the module.

    Args: most, threads of this pool. waiting, pieces of work that wait. spare: an entry for every thread that all pools
        together may still start. pace: of the threads, all together.
    """

    __slots__ = ("__weakref__", "_crew", "_left", "_most", "_name", "_pace", "_spare", "_waiting")

    def __init__(self, name: str, most: int, waiting: int, spare: deque[None], pace: Pace) -> None:
        self._name = name
        self._most = most
        self._waiting = waiting
        self._pace = pace
        #: The threads, and what has them end when nobody holds this pool any more.
        self._crew: tuple[_Crew, weakref.finalize[..., ShadowPool]] | None = None
        #: The parent's, let go of when there is somebody to wait for whatever that frees.
        self._left: tuple[_Crew, weakref.finalize[..., ShadowPool]] | None = None
        self._spare = spare

    def after_fork(self) -> None:
        """Forget the parent's threads and what waited for them. Assigns only."""
        self._pace.allowance.after_fork()
        self._left, self._crew = self._crew, None
        if self._left is not None:
            self._left[0].over = True
            self._left[1].detach()

    @property
    def full(self) -> bool:
        """Whether nothing more may wait now. Any thread; never waits."""
        crew = self._crew
        return crew is not None and not crew[0].places

    def submit(self, work: Work) -> None:
        """Have ``work`` done, or dropped at once. Never waits. Raises: nothing."""
        crew = self._threads()
        if crew.over:
            work.drop("closed")
            return
        try:
            crew.places.pop()
        except IndexError:
            work.drop("queue_full")
            return
        crew.queue.put(work)
        if not crew.idle:
            _reinforce(crew, self._name, patient=False)
        if len(crew.threads) == self._most and not crew.starting.locked():
            self.clear("no_thread")  # not one could be started: nobody would ever come for it

    def clear(self, reason: str) -> None:
        """Drop what still waits. Raises: nothing."""
        crew = self._crew[0] if self._crew is not None else None
        while crew is not None and (work := _take(crew)) is not None:
            work.drop(reason)

    def close(self) -> None:
        """Drop what waits, and have the threads end after what they are at. Final. Raises: nothing."""
        crew = self._threads()
        crew.over = True
        self.clear("closed")
        _dismiss(crew, self._most)

    def _threads(self) -> _Crew:
        known = self._crew
        if known is None:
            crew = _Crew(self._most, self._waiting, self._spare, self._pace)
            last = weakref.finalize(self, _dismiss, crew, self._most)
            last.atexit = False
            known = self._crew = (crew, last)
            self._left = None
        return known[0]


def _take(crew: _Crew) -> Work | None:
    try:
        work = crew.queue.get_nowait()
    except queue.Empty:
        return None
    if work is None:
        crew.queue.put(None)  # it is for a thread, and nothing of use is behind it
    else:
        crew.places.append(None)
    return work


def _dismiss(crew: _Crew, threads: int) -> None:
    crew.over = True
    for _ in range(threads):
        crew.queue.put(None)


def _reinforce(crew: _Crew, name: str, *, patient: bool) -> None:
    """Start another thread, if there may be one. ``patient``: this is a thread of ours, and may wait for its turn."""
    if not crew.starting.acquire(blocking=patient):
        return  # whoever starts one sees to it, or the one that is started does
    try:
        if crew.over or not crew.threads or not crew.spare:
            return
        crew.threads.pop()
        try:
            crew.spare.pop()
        except IndexError:
            crew.threads.append(None)
            return
        try:
            threading.Thread(target=_serve, args=(crew, name), name=name, daemon=True).start()
        except RuntimeError:  # no more threads, or the interpreter is on its way out
            crew.threads.append(None)
            crew.spare.append(None)
    finally:
        crew.starting.release()


def _serve(crew: _Crew, name: str) -> None:
    """The life of one thread."""
    allowance, cpu_s = crew.pace
    try:
        while not crew.over:
            crew.idle.append(None)
            work = crew.queue.get()
            crew.idle.pop()
            if work is None:
                return
            crew.places.append(None)
            # Two may have come while this one was idle: what is left is not to wait for what may hang.
            if not crew.idle and not crew.queue.empty():
                _reinforce(crew, name, patient=True)
            taken_s = allowance.take()
            if taken_s is None:
                work.drop("over_share")  # it was let in before those ahead of it had shown what they take
            else:
                began_s = cpu_s()
                work()
                allowance.settle(taken_s, cpu_s() - began_s)
            del work
    finally:
        crew.spare.append(None)
        crew.threads.append(None)  # whatever ended it, another may take its place
