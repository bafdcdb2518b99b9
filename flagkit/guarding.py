"""``Guarding``: everything between gates and a way back, put together once, as ``Feed`` and ``Recording`` are.

The client asks it for branches and what is taken back, and starts it. Guards, their clockwork, the fleet and alerts
know nothing of each other's threads, which are made here; none runs before a flag has a guard.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from flagkit.boundary import contained
from flagkit.clock import Clock
from flagkit.config import Config
from flagkit.core.model import Definitions, FlagDefinition
from flagkit.core.policy import GuardPolicy
from flagkit.core.snapshot import TakenBack
from flagkit.fleets import Fleet
from flagkit.production.comparison import Comparison
from flagkit.production.guards import Guards
from flagkit.production.host import Host
from flagkit.production.lane import Lane
from flagkit.production.tally import Tally
from flagkit.production.told import Told
from flagkit.production.trial import Counting, Trial
from flagkit.production.watch import Watch
from flagkit.runtime.backoff import SYSTEM_RANDOM
from flagkit.runtime.link import Link
from flagkit.runtime.stats import LinkState, Standing
from flagkit.runtime.storage import Storage
from flagkit.runtime.worker import Worker


class Guarding:
    """See the module.

    Args: fleet, where the processes of the service count together; None: each by itself. tell, told of trips as they
        happen, on whichever thread is counting. ended, told that a thread is ending although nobody asked it to, so
        that somebody calls ``start`` again.
    """

    def __init__(
        self,
        config: Config,
        clock: Clock,
        fleet: Fleet | None,
        tell: Callable[[Told], None],
        ended: Callable[[], object],
    ) -> None:
        self._config = config
        self._tell = tell
        self._fleet = fleet
        self._owner = ""
        self.guards = Guards(clock, self._trial, self._told, self.owner, config.processes)
        self._learned: Definitions | None = None
        self._recalled = False
        self._storage = Storage("guards", clock)
        host = Host(config.state_dir) if config.state_dir is not None else None
        self._watch = Watch(self.guards, host, self._storage, clock, self.owner)
        self._worker = Worker("flagkit-guards", self._watch.step, clock, ended=ended)
        self._workers = [self._worker]
        self._link = Link("fleet", fleet.name, clock) if fleet is not None else None
        self._lane: Lane | None = None
        if fleet is not None and self._link is not None:
            self._lane = Lane(self.guards, fleet, self._link, self.owner, tell, self._alone)
            self._workers.append(Worker("flagkit-fleet", self._lane.step, clock, ended=ended))

    def use(self, retrip: Callable[[], None], now_ms: Callable[[], int]) -> None:
        """What takes another ``taken_back`` into use, and the clock that definitions go by. For a constructor."""
        self.guards.retrip, self.guards.now_ms = retrip, now_ms

    def owner(self) -> str:
        """What the others know this process by: 32 hex digits, made when first asked for."""
        self._owner = self._owner or os.urandom(16).hex()
        return self._owner

    def taken_back(self, definitions: Definitions) -> TakenBack:
        """What is served instead of what has tripped, and what is held, in definitions that come into use.

        The first time that there is something to guard the disk is asked: nobody gets an answer before.
        """
        if definitions is not self._learned:
            self._learned = definitions
            self.guards.learn(definitions)
            if self.guards.any and self.running:
                self._workers[-1].wake()  # what is at a new step is exchanged sooner
        if self.guards.any and not self._recalled:
            self._recalled = True
            retrip, self.guards.retrip = self.guards.retrip, _later
            self._watch.recall()
            self.guards.retrip = retrip
        return self.guards.taken_back(definitions)

    def start(self) -> None:
        """Have the clockwork run, if there is anything to guard. Cheap when it does. Raises: nothing."""
        if self.guards.any:
            for worker in self._workers:
                worker.start()

    @property
    def running(self) -> bool:
        return not self.guards.any or all(worker.running for worker in self._workers)

    @property
    def fleet(self) -> LinkState | None:
        """How it stands with the fleet; None without one."""
        return self._link.state if self._link is not None else None

    def close(self, timeout_s: float) -> None:
        """End in peace, within ``timeout_s`` seconds."""
        for worker in self._workers:
            worker.stop()
        for worker in self._workers:
            worker.stop(timeout_s / len(self._workers))
        self._watch.leave()
        if self._fleet is not None:
            contained(self._fleet.close, otherwise=None)

    def after_fork(self) -> None:
        """In a forked child: count anew; what has tripped stays so. Closes descriptors and assigns."""
        self._owner = ""
        self.guards.after_fork()
        self._watch.after_fork()
        for worker in self._workers:
            worker.after_fork()
        if self._fleet is not None and self._lane is not None:
            self._lane.after_fork()
            contained(self._fleet.after_fork, otherwise=None)

    @property
    def faults(self) -> int:
        return sum(worker.faults for worker in self._workers) + self.guards.faults

    @property
    def disk(self) -> Standing | None:
        """How it stands with what the host shares; None without a ``state_dir``, or anything to guard."""
        return self._storage.standing if self._recalled and self._config.state_dir is not None else None

    def _trial(self, flag: FlagDefinition, policy: GuardPolicy, candidate: str, candidates: int) -> Trial:
        # Of what the policy allows for all processes: in a fleet for the test against a known rate, which each has.
        alpha = policy.alpha / candidates / self._config.processes
        counting: Counting
        if self._lane is not None and self._lane.offered:
            counting = Tally(latency_tolerance=policy.latency_tolerance, calls_per_unit=policy.calls_per_unit)
        else:
            counting = Comparison(
                alpha=alpha,
                error_tolerance=policy.error_tolerance,
                latency_tolerance=policy.latency_tolerance,
                calls_per_unit=policy.calls_per_unit,
                min_rate=policy.min_rate,
            )
        return Trial(flag.key, candidate, policy, alpha, counting, SYSTEM_RANDOM.random)

    def _alone(self) -> None:
        """There is no fleet after all: each process compares by itself."""
        for guard in tuple(self.guards.guards.values()):
            guard.renew()

    def _told(self, told: Told) -> None:
        self._tell(told)
        self._worker.wake()  # the other processes of the host are to know


def _later() -> None:
    """What has tripped is asked for in a moment, as definitions come into use."""
