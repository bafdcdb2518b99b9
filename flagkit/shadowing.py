"""``Shadowing``: everything between decorated controls and what is said of their shadow runs, put together once.

The client makes it when something is decorated first, and asks it whether a call is drawn. One background thread, from
the first call that is, settles runs past their budget and sends a summary of each flag now and then.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from time import thread_time
from typing import Any

from flagkit.clock import Clock
from flagkit.context import Context, Scope
from flagkit.core.snapshot import Snapshot
from flagkit.production.shadow_desk import ShadowDesk, ShadowDesks
from flagkit.production.shadow_policy import ShadowPolicy
from flagkit.production.shadow_result import ShadowStatus
from flagkit.production.shadow_tally import Failure
from flagkit.runtime.backoff import SYSTEM_RANDOM
from flagkit.runtime.process import process
from flagkit.runtime.worker import Worker


class Shadowing:
    """See the module.

    Args: interval_s, between two summaries. answers, the snapshot that answers now. tell, records a metric event of
        these properties; raises nothing.
    """

    def __init__(
        self,
        interval_s: float,
        clock: Clock,
        answers: Callable[[], Snapshot],
        tell: Callable[[Mapping[str, Any]], None],
    ) -> None:
        self._interval_s = interval_s
        self._answers = answers
        self._tell = tell
        self._desks = ShadowDesks(clock.monotonic_s, thread_time, SYSTEM_RANDOM.random)
        self._worker = Worker("flagkit-shadows", self.step, clock)

    def sample(
        self, flag: str, asker: Context, scope: Scope | None, policy: ShadowPolicy, failure: str | None = None
    ) -> ShadowDesk | None:
        """See ``Sampler``. Not for calls in a shadow run, for synthetic contexts, or before a server has forked."""
        if self._desks.closed or asker.synthetic or (scope is not None and scope.shadow) or process.preforking:
            return None
        if failure is not None:
            desk = self._desks.desk(flag, policy)
            if desk is not None:
                self._worker.start()
                desk.add(Failure(failure))
            return None
        forced = scope.forced if scope is not None else None
        if not self._answers().sample(flag, asker, forced).enabled:
            return None
        self._worker.start()
        return self._desks.desk(flag, policy)

    def step(self) -> float:
        """One round of the thread: returns when the next is due."""
        for desk in self._desks.all():
            desk.look()
        self.tell()
        return self._interval_s

    def tell(self) -> None:
        """Record what is new of every flag. Raises: nothing."""
        for desk in self._desks.all():
            summary = desk.tally.summary()
            if summary is not None:
                self._tell(summary)

    @property
    def statuses(self) -> tuple[ShadowStatus, ...]:
        return self._desks.statuses()

    @property
    def faults(self) -> int:
        return self._worker.faults + self._desks.faults

    def close(self) -> None:
        """From here on controls run plainly. What waits is dropped, and what runs is left to end."""
        self._desks.close()
        self._worker.stop()
        self.tell()

    def after_fork(self) -> None:
        """In a forked child: no thread, no run, no count of the parent's."""
        self._desks.after_fork()
        self._worker.after_fork()
