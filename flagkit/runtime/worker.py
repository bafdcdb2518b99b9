"""``Worker``: one supervised background thread that runs a step, waits as long as the step said, and runs it again.

It is started late (at first use), started again when it died or the process forked, and ends by itself when nobody
holds the worker any more. It knows nothing of polls or deliveries; the client gives it their ``step``.
"""

from __future__ import annotations

import os
import sys
import threading
import weakref
from collections.abc import Callable
from contextlib import suppress
from random import Random
from typing import Final

from flagkit.clock import Clock
from flagkit.runtime.backoff import SYSTEM_RANDOM, Backoff
from flagkit.runtime.bell import Bell
from flagkit.runtime.episode import Episode
from flagkit.runtime.process import process

_PAUSE_S: Final = 1.0
_LONGEST_PAUSE_S: Final = 60.0
#: The rubbish collector tells a thread that its worker is gone before it asks the worker's owner for a last wish.
_WILL_S: Final = 0.1


class Worker:
    """A daemon thread around ``step``.

    Args: name: the thread's. step: does one round and returns the seconds until the next, 0 for at once. If it
        raises, the fault is counted, logged once an episode, and followed by a pause that grows. bell: makes what a
        thread waits for between rounds. ended: told that the thread is ending although nobody asked it to; somebody
        has to call ``start`` again.
    """

    __slots__ = (
        "__weakref__",
        "_backoff",
        "_bell",
        "_clock",
        "_ended",
        "_episode",
        "_new_bell",
        "_pid",
        "_resume_s",
        "_starting",
        "_step",
        "_stopped",
        "_thread",
        "_will",
        "failed_starts",
        "faults",
        "name",
    )

    def __init__(
        self,
        name: str,
        step: Callable[[], float],
        clock: Clock,
        random: Random = SYSTEM_RANDOM,
        *,
        bell: Callable[[], Bell] = Bell,
        ended: Callable[[], object] = lambda: None,
    ) -> None:
        self.name = name
        self._ended = ended
        #: Rounds that ended in an exception, whether or not the thread survived it.
        self.faults = 0
        #: Times the system refused a thread.
        self.failed_starts = 0
        self._step = step
        self._clock = clock
        self._backoff = Backoff(_PAUSE_S, _LONGEST_PAUSE_S, random)
        self._episode = Episode(f"thread {name}", clock)
        self._stopped = False
        self._new_bell = bell
        self.after_fork()

    def after_fork(self) -> None:
        """Forget the parent's thread. Assigns only; the next ``start`` starts one here."""
        self._pid = os.getpid()
        self._bell = self._new_bell()
        self._will: list[Callable[[], object]] = []
        self._starting = threading.Lock()
        self._thread: threading.Thread | None = None
        self._resume_s = float("-inf")

    @property
    def running(self) -> bool:
        thread = self._thread
        return thread is not None and thread.is_alive()

    def start(self) -> None:
        """Make sure the thread runs. Cheap when it does, safe from any thread, never waits for another caller.

        Does nothing after ``stop``, at the interpreter's exit, and during the pause after a death. Raises: nothing.
        """
        if self._pid != os.getpid():
            process.notice_fork()
            if self._pid != os.getpid():
                self.after_fork()  # nobody adopted what this worker belongs to
        # On Python 3.11 a thread started while the interpreter finalizes is waited for, for ever.
        if self.running or self._stopped or process.exiting or process.preforking or sys.is_finalizing():
            return
        starting = self._starting
        if self._clock.monotonic_s() < self._resume_s or not starting.acquire(blocking=False):
            return
        try:
            if not self.running:
                self._launch()
        finally:
            starting.release()

    def wake(self) -> None:
        """Run the next round now (or right after the present one), starting the thread if need be. Raises: nothing."""
        self.start()
        self._bell.set()

    def stop(self, timeout_s: float = 0.0) -> bool:
        """Ask the thread to end after its present round, wait at most ``timeout_s`` seconds; return whether it has.

        Final: ``start`` does nothing from here on. Called from the thread itself it does not wait.
        """
        self._stopped = True
        self._bell.set()
        thread = self._thread
        if thread is None or self._pid != os.getpid():
            return True
        with suppress(RuntimeError):  # called from the thread itself, or just before it starts
            thread.join(timeout_s)
        return not thread.is_alive()

    def bequeath(self, last: Callable[[], object]) -> bool:
        """Have the thread do one last thing and end; return whether there is one.

        For a ``__del__``: whoever held this worker is being forgotten, and may be kept by ``last`` until that is done.
        """
        if self._pid != os.getpid() or not self.running:
            return False
        self._will.append(last)
        self._bell.set()
        return True

    def _launch(self) -> None:
        process.watch_exit()
        # Of the kind that threads are now: gevent may have patched both since the last one.
        bell = self._bell = self._new_bell()
        # The thread holds its worker weakly while it waits, so that a client dropped without close() leaves no thread.
        me = weakref.ref(self, lambda _: bell.set())
        thread = threading.Thread(target=_run, args=(me, bell, self._clock, self._will), name=self.name, daemon=True)
        self._thread = thread
        try:
            thread.start()
        except RuntimeError:  # no more threads, or the interpreter is on its way out
            self.failed_starts += 1
            self._resume_s = self._clock.monotonic_s() + _PAUSE_S

    def _round(self) -> float:
        try:
            pause_s = self._step()
        except Exception as error:  # noqa: BLE001 - the loop's body: whatever a round does, there is a next one
            return self._faulted(error)
        except (
            BaseException
        ) as error:  # SystemExit and the like end the thread; the next start() replaces it, in a while
            self._resume_s = self._clock.monotonic_s() + self._faulted(error)
            raise
        if self._backoff.failures:
            self._backoff.succeeded()
            self._episode.over()
            self._episode.tell()
        return pause_s

    def _faulted(self, error: BaseException) -> float:
        self.faults += 1
        self._episode.failed("failing", type(error).__name__, error)
        self._episode.tell()
        return self._backoff.failed()


def _run(me: weakref.ref[Worker], bell: Bell, clock: Clock, will: list[Callable[[], object]]) -> None:
    try:
        _rounds(me, bell, clock, will)
        if me() is None and not will:
            bell.clear()
            clock.wait(bell, _WILL_S)
        while will:
            will.pop()()
    except BaseException:
        worker = me()
        if worker is not None and worker._bell is bell:
            worker._thread = None  # as good as gone, for whoever is told
            worker._ended()
        raise


def _rounds(me: weakref.ref[Worker], bell: Bell, clock: Clock, will: list[Callable[[], object]]) -> None:
    while not will and (worker := me()) is not None and worker._bell is bell and not worker._stopped:
        pause_s = worker._round()
        del worker
        if pause_s > 0:
            clock.wait(bell, pause_s)
        bell.clear()
