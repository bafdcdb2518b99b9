"""A client whose flag ``f`` draws every call, and what its shadow runs come to."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import Any

from guarded import Clock

from flagkit import Client, ShadowPolicy, sinks, sources
from flagkit.production.shadow_result import ShadowResult, ShadowStatus

#: Long enough for any machine, and never waited for when all is well.
PATIENCE_S = 30

Json = dict[str, Any]


def eventually(is_so: Callable[[], bool]) -> None:
    """Wait for what another thread is about to do."""
    waiting = threading.Event()
    for _ in range(PATIENCE_S * 200):
        if is_so():
            return
        waiting.wait(0.005)
    raise AssertionError


class Bench:
    """``results`` is what was published, in order. ``clock``: None for the machine's."""

    def __init__(self, flags: Json | None = None, clock: Any = None, random: float | None = None) -> None:
        self.sink = sinks.Memory()
        document = {"schema": 1, "flags": {"f": {"default": "on"}} if flags is None else flags}
        self.client = Client(source=sources.Static(document), sink=self.sink, clock=clock or Clock())
        self.clock: Any = self.client._clock
        self.results: queue.Queue[ShadowResult] = queue.Queue()
        self._random = random

    def policy(self, **settings: Any) -> ShadowPolicy:
        # The clock of most tests stands still, so that no allowance of CPU time would grow.
        return ShadowPolicy(**{"publish": self.results.put, "cpu_share": 1, **settings})

    def shadow(self, candidate: Callable[..., Any], control: Callable[..., Any], **settings: Any) -> Any:
        """The control, shadowed; by a policy of ``settings``."""
        shadowed = self.client.shadow("f", candidate, policy=self.policy(**settings))(control)
        if self._random is not None:
            self.desk(**settings).random = lambda: self._random
        return shadowed

    def desk(self, **settings: Any) -> Any:
        return self.client.sample("f", "u", self.policy(**settings))

    def result(self) -> ShadowResult:
        """The next result that is published."""
        return self.results.get(timeout=PATIENCE_S)

    @property
    def status(self) -> ShadowStatus:
        return self.client.status.shadows[0]

    def events(self, name: str = "flagkit.shadow") -> list[Json]:
        """What metric events of that name say, once they are sent."""
        self.client.flush()
        return [event["properties"] for event in self.sink.events if event.get("name") == name]
