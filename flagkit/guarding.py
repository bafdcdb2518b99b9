"""``Guarding``: everything between gates and a way back, put together once, as ``Feed`` and ``Recording`` are.

The client asks it for branches and trips, and starts it. Guards, their clockwork, the fleet and alerts know nothing of
each other's threads, which are made here; none runs before a flag has a guard.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from flagkit.clock import Clock
from flagkit.config import Config
from flagkit.core.model import Definitions, FlagDefinition
from flagkit.core.policy import GuardPolicy
from flagkit.core.snapshot import Trips
from flagkit.production.comparison import Comparison
from flagkit.production.guards import Guards, Told
from flagkit.production.host import Host
from flagkit.production.trial import Trial
from flagkit.production.watch import Watch
from flagkit.runtime.backoff import SYSTEM_RANDOM
from flagkit.runtime.stats import Standing
from flagkit.runtime.storage import Storage
from flagkit.runtime.worker import Worker


class Guarding:
    """See the module.

    Args: track, records a metric event with these properties. ended: told that a thread is ending although nobody asked
        it to, so that somebody calls ``start`` again.
    """

    def __init__(
        self,
        config: Config,
        clock: Clock,
        track: Callable[[str, dict[str, Any]], None],
        ended: Callable[[], object],
    ) -> None:
        self._config = config
        self._track = track
        self._owner = os.urandom(16).hex()
        self.guards = Guards(clock, self._trial, self._told, lambda: self._owner)
        self._learned: Definitions | None = None
        self._recalled = False
        self._storage = Storage("guards", clock)
        host = Host(config.state_dir) if config.state_dir is not None else None
        self._watch = Watch(self.guards, host, self._storage, clock, self._owner)
        self._worker = Worker("flagkit-guards", self._watch.step, clock, ended=ended)

    def use(self, retrip: Callable[[], None]) -> None:
        """What takes other ``trips`` into use. For a constructor."""
        self.guards.retrip = retrip

    def trips(self, definitions: Definitions) -> Trips:
        """What is served instead of what has tripped, in definitions that come into use.

        The first time that there is something to guard the disk is asked: nobody gets an answer before.
        """
        if definitions is not self._learned:
            self._learned = definitions
            self.guards.learn(definitions)
        if self.guards.any and not self._recalled:
            self._recalled = True
            retrip, self.guards.retrip = self.guards.retrip, _later
            self._watch.recall()
            self.guards.retrip = retrip
        return self.guards.trips(definitions)

    def start(self) -> None:
        """Have the clockwork run, if there is anything to guard. Cheap when it does. Raises: nothing."""
        if self.guards.any:
            self._worker.start()

    @property
    def running(self) -> bool:
        return self._worker.running or not self.guards.any

    def close(self, timeout_s: float) -> None:
        """End in peace, within ``timeout_s`` seconds."""
        self._worker.stop(timeout_s)
        self._watch.leave()

    def after_fork(self) -> None:
        """In a forked child: count anew; what has tripped stays so. Closes descriptors and assigns."""
        self._owner = os.urandom(16).hex()
        self.guards.after_fork()
        self._watch.after_fork(self._owner)
        self._worker.after_fork()

    @property
    def faults(self) -> int:
        return self._worker.faults + self.guards.faults

    @property
    def disk(self) -> Standing | None:
        """How it stands with what the host shares; None without a ``state_dir``, or anything to guard."""
        return self._storage.standing if self._recalled and self._config.state_dir is not None else None

    def _trial(self, flag: FlagDefinition, policy: GuardPolicy, candidate: str, candidates: int) -> Trial:
        alpha = policy.alpha / candidates / self._config.processes
        counting = Comparison(
            alpha=alpha,
            error_tolerance=policy.error_tolerance,
            latency_tolerance=policy.latency_tolerance,
            calls_per_unit=policy.calls_per_unit,
            min_rate=policy.min_rate,
        )
        return Trial(flag.key, candidate, policy, alpha, counting, SYSTEM_RANDOM.random)

    def _told(self, told: Told) -> None:
        notice = told.notice
        properties = {
            "feature_flag.key": notice.flag,
            "candidate": notice.candidate,
            "control": notice.control,
            "revision": notice.revision,
            "kind": notice.kind,
            "why": notice.why,
            "rolled_back": told.rolled_back,
            **told.evidence,
        }
        self._track("flagkit.trip", properties)
        self._worker.wake()  # it tells the other processes


def _later() -> None:
    """What has tripped is asked for in a moment, as definitions come into use."""
