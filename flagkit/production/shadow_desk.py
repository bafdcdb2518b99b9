"""``ShadowDesk``: everything of one flag's shadow runs in one place; ``ShadowDesks``: those of a client.

A desk begins runs, gives them room, hands them to its pool or to the policy's ``after``, and counts. Nothing of it
waits on a caller's thread. ``look`` is for a background thread: it settles runs that are past their budget.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, Final

from flagkit.production.shadow_compare import Judge
from flagkit.production.shadow_policy import AFTER, POOL, ShadowPolicy
from flagkit.production.shadow_pool import MOST_THREADS, Pace, ShadowPool
from flagkit.production.shadow_result import ShadowResult, ShadowStatus, type_of
from flagkit.production.shadow_run import Run, from_outside
from flagkit.production.shadow_share import Allowance
from flagkit.production.shadow_tally import SAMPLED, Failure, ShadowTally

#: Flags of a client that have a desk; calls of a further one are not shadowed.
MOST_FLAGS: Final = 1_000
#: Runs past their budget that wait to be published; further ones are counted only.
_MOST_LATE: Final = 100


class ShadowDesk:
    """One flag's. Its first policy says how many may run, and wait, and how much those in the pool may compute."""

    def __init__(self, flag: str, policy: ShadowPolicy, desks: ShadowDesks) -> None:
        self.flag = flag
        self.judge = desks.judge
        self.now_s = desks.now_s
        self.cpu_s = desks.cpu_s
        self.random = desks.random
        #: Of this process; a run of an earlier one counts nowhere.
        self.generation = 0
        self.tally = ShadowTally(flag)
        self.add = self.tally.add
        self._most = policy.max_running
        self._waiting = policy.max_waiting
        self._allowance = Allowance(policy.cpu_share, desks.now_s)
        name = f"flagkit-shadow-{flag}"[:64]
        self._pool = ShadowPool(
            name, policy.max_running, policy.max_waiting, desks.spare, Pace(self._allowance, desks.cpu_s)
        )
        self._late: deque[tuple[Run, ShadowResult]] = deque(maxlen=_MOST_LATE)
        self._clear()

    def _clear(self) -> None:
        #: One entry for each run that may still begin, and for each that whoever ``after`` gives it to may still keep.
        self._room: deque[None] = deque([None] * self._most)
        self._places: deque[None] = deque([None] * self._waiting)
        self._running: dict[int, Run] = {}

    def after_fork(self) -> None:
        """In a forked child: no run of the parent's is here. Assigns, and forgets."""
        self.generation += 1
        self._pool.after_fork()
        self.tally.after_fork()
        self._clear()
        self._late.clear()

    # -- on callers' threads

    def begin(self, policy: ShadowPolicy, candidate: Any, args: Any, kwargs: dict[str, Any]) -> Run | None:
        """A run of this call, which was drawn; None when the policy leaves it out, its arguments cannot be had, or the
        pool would refuse it: then nothing is copied for it."""
        if policy.when is not None:
            try:
                if not policy.when(*args, **kwargs):
                    return None
            except BaseException as error:
                if from_outside(error):
                    raise
                self._refuse("when", error)
                return None
        if policy.mode == POOL and not policy.inline and (reason := self._refusal()) is not None:
            self.add(SAMPLED)
            self.add(reason)
            return None
        if policy.copy is not None:
            try:
                args, kwargs = policy.copy((args, kwargs))
            except BaseException as error:
                if from_outside(error):
                    raise
                self._refuse("copy", error)
                return None
        self.add(SAMPLED)
        return Run(self, policy, candidate, args, kwargs)

    def hand_over(self, run: Run, policy: ShadowPolicy, *, asynchronous: bool) -> None:
        """Have ``run`` done where the policy says. Never waits. Raises: nothing."""
        if run.settled:
            return
        if policy.mode == AFTER:
            if not run.take_place(self._places):
                run.drop("queue_full")
                return
            try:
                policy.after(run.asynchronously if asynchronous else run)  # type: ignore[misc]
            except BaseException as error:
                if from_outside(error):
                    raise
                self.add(Failure(f"after: {type_of(error)}"))
                run.drop("after_error")
        elif self._is_hung():
            run.drop("hung")
        else:
            self._pool.submit(run)

    def enter(self, run: Run) -> bool:
        """Whether there is room for ``run`` to begin."""
        try:
            self._room.pop()
        except IndexError:
            return False
        self._running[id(run)] = run
        return True

    def leave(self, run: Run) -> None:
        """``run`` has ended. A second time: does nothing."""
        if self._running.pop(id(run), None) is not None:
            self._room.append(None)

    # -- on a background thread

    def look(self) -> None:
        """Settle what is past its budget, drop what waits behind runs that hang, and publish."""
        self.settle()
        while self._late:
            run, result = self._late.popleft()
            run.publish(result)

    def settle(self) -> None:
        """Count what is past its budget; quick, for any thread."""
        for run in tuple(self._running.values()):
            if self._is_late(run):
                late = run.expire()
                if late is not None:
                    self._late.append((run, late))
        if self._is_hung():
            self._pool.clear("hung")

    def close(self) -> None:
        self._pool.close()

    # -- within

    def _refusal(self) -> str | None:
        """Why the pool would not do another run now, if it would not."""
        if not self._room and self._is_hung():
            return "hung"
        if self._allowance.spent:
            return "over_share"
        return "queue_full" if self._pool.full else None

    def _refuse(self, function: str, error: BaseException) -> None:
        self.add(SAMPLED)
        self.add(Failure(f"{function}: {type_of(error)}"))
        self.add(f"{function}_error")

    def _is_late(self, run: Run) -> bool:
        began_s = run.began_s
        return began_s is not None and self.now_s() - began_s > run.policy.budget_s

    def _is_hung(self) -> bool:
        return not self._room and all(map(self._is_late, tuple(self._running.values())))


class ShadowDesks:
    """Those of one client. now_s, cpu_s: clocks. random: a number from 0 to 1, for the order of inline runs."""

    def __init__(self, now_s: Callable[[], float], cpu_s: Callable[[], float], random: Callable[[], float]) -> None:
        self.now_s = now_s
        self.cpu_s = cpu_s
        self.random = random
        self.judge = Judge()
        #: One entry for every thread that all pools together may still start.
        self.spare: deque[None] = deque([None] * MOST_THREADS)
        self.closed = False
        self._desks: dict[str, ShadowDesk] = {}

    def desk(self, flag: str, policy: ShadowPolicy) -> ShadowDesk | None:
        """The flag's desk; None past the bound, or after ``close``. Raises: nothing."""
        desk = self._desks.get(flag)
        if desk is None and len(self._desks) < MOST_FLAGS:
            desk = self._desks.setdefault(flag, ShadowDesk(flag, policy, self))
        return None if self.closed else desk

    def all(self) -> tuple[ShadowDesk, ...]:
        return tuple(self._desks.copy().values())

    def statuses(self) -> tuple[ShadowStatus, ...]:
        for desk in self.all():
            desk.settle()
        return tuple(desk.tally.status() for desk in self.all())

    def after_fork(self) -> None:
        """Assigns, and forgets."""
        self.spare.clear()
        self.spare.extend([None] * MOST_THREADS)
        for desk in self.all():
            desk.after_fork()

    def close(self) -> None:
        """No more runs; what waits is dropped, and what runs is left to end."""
        self.closed = True
        for desk in self.all():
            desk.close()

    @property
    def faults(self) -> int:
        return sum(desk.tally.faults for desk in self.all())
