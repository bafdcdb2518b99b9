"""The two moments that belong to the process and not to a client: a fork, and the interpreter's exit.

One fork hook and one exit hook serve all clients, through weak references, and exist only once a client has started.
The fork hook assigns and nothing more: no logging, no I/O, no join, no thread, because any lock may have been held by
a thread that does not exist in the child. Hosts that skip fork hooks (uWSGI) are noticed by their process id.
"""

from __future__ import annotations

import atexit
import os
import sys
import threading
from typing import Final, Protocol
from weakref import WeakSet

from flagkit.boundary import contained
from flagkit.clock import SystemClock

_CLOCK: Final = SystemClock()


class Resident(Protocol):
    """What lives in the process and wants to know of both moments. Must be hashable and weakly referable."""

    def after_fork(self) -> None:
        """This is a child: forget threads, locks, connections and the parent's events. Assign only."""
        ...

    def at_exit(self, elapsed_s: float) -> None:
        """The interpreter is about to exit and has spent ``elapsed_s`` seconds on others. Start no thread."""
        ...


class _Process:
    __slots__ = ("__weakref__", "exiting", "hooked", "noticing", "pid", "residents", "watched_pid")

    def __init__(self) -> None:
        self.residents: WeakSet[Resident] = WeakSet()
        self.pid = os.getpid()
        self.hooked = False
        self.exiting = False
        self.watched_pid = 0
        self.noticing = threading.Lock()

    @property
    def preforking(self) -> bool:
        """Whether uWSGI is still to fork this process into its workers, which then hear of it from nobody."""
        uwsgi = sys.modules.get("uwsgi")
        if uwsgi is None:
            return False
        return contained(
            lambda: not (uwsgi.worker_id() or uwsgi.mule_id() or uwsgi.i_am_the_spooler()), otherwise=False
        )

    def adopt(self, resident: Resident) -> None:
        """Tell ``resident`` of forks and of the exit for as long as somebody else holds it."""
        self.notice_fork()
        if not self.hooked:
            self.hooked = True
            os.register_at_fork(after_in_child=self.forked)
            atexit.register(self.leave)
        self.watch_exit()
        self.residents.add(resident)

    def forked(self) -> None:
        """Runs in a forked child, from the hook or because ``notice_fork`` saw another process id."""
        self.exiting = False
        for resident in list(self.residents):
            resident.after_fork()
        self.pid = os.getpid()
        self.noticing = threading.Lock()

    def notice_fork(self) -> None:
        """The second line: do what the hook would have done, if it did not run. Call it before anything is recorded."""
        if self.pid != os.getpid():
            # A worker's threads may all notice at once: one forgets the parent's events, before any records its own.
            with self.noticing:
                if self.pid != os.getpid():
                    self.forked()

    def watch_exit(self) -> None:
        """Have ``leave`` called in children of multiprocessing and Celery too, which run no atexit hooks."""
        if self.watched_pid == self.pid:
            return
        self.watched_pid = self.pid
        util = sys.modules.get("multiprocessing.util")
        if util is not None:
            util.register_after_fork(self, _Process.finalize)  # what is registered before a child begins, it forgets
            if sys.modules["multiprocessing.process"].parent_process() is not None:
                self.finalize()
        signals = sys.modules.get("celery.signals")
        if signals is not None:
            signals.worker_process_shutdown.connect(self.leave, weak=False, dispatch_uid="flagkit")

    def finalize(self) -> None:
        """Have ``leave`` called at the end of this child of multiprocessing."""
        sys.modules["multiprocessing.util"].Finalize(None, self.leave, exitpriority=0)

    def leave(self, **_: object) -> None:
        """Let every resident finish, once; from here on no thread is started."""
        self.notice_fork()
        if self.exiting:
            return
        self.exiting = True
        started_s = _CLOCK.monotonic_s()
        for resident in list(self.residents):
            resident.at_exit(_CLOCK.monotonic_s() - started_s)


process: Final = _Process()
