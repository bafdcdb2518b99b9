"""A client with one guarded flag and a clock of the test's own, and calls through its gate."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from flagkit import Client, Config, sinks, sources
from flagkit.clock import Waitable
from flagkit.core.policy import GuardPolicy
from flagkit.runtime.stats import Status
from tests.unit.fakes import FakeClock

HALF: dict[str, Any] = {"rules": [{"name": "half", "rollout": {"percent": 50}, "serve": "on"}]}


class Failed(Exception):
    pass


class Clock(FakeClock):
    """Time that passes when the test says so; threads wait until they are woken."""

    def wait(self, event: Waitable, timeout_s: float) -> bool:
        self.waits.append(timeout_s)
        return event.wait(60)


class Site:
    """``client`` has the flag ``f``, half of the units on, and what ``flag`` says of it."""

    def __init__(self, flag: dict[str, Any] | None = None, *, policy: GuardPolicy | None = None, **config: Any) -> None:
        self.clock = Clock()
        self.sink = sinks.Memory()
        self.random = random.Random(7)
        self.flag = {**HALF, "guard": {}, **(flag or {})}
        self.source = Changing(self.document())
        self.client = Client(source=self.source, sink=self.sink, config=Config(processes=1, **config), clock=self.clock)
        #: Chance of a failure, and seconds a call takes, by variant.
        self.failing: dict[str | None, float] = {}
        self.taking: dict[str | None, float] = {}
        self.served: list[str | None] = []
        self._policy = policy

    def document(self) -> dict[str, Any]:
        return {"schema": 1, "environment": "test", "flags": {"f": self.flag}}

    def edit(self, **fields: Any) -> None:
        """Publish the flag with other fields."""
        self.flag = {**self.flag, **fields}
        self.source.document = self.document()
        self.client._feed.poller.poll()

    def call(self, unit: Any = None, *, wait: bool = True) -> str | None:
        """One call of somebody, or of ``unit``; return the variant that ran."""
        unit = f"user-{self.random.randrange(10**9)}" if unit is None else unit
        try:
            with self.client.gate("f", unit, guard=self._policy) as gate:
                variant = gate.variant
                self.served.append(variant)
                took_s = self.taking.get(variant, 0.01)
                self.clock.advance(took_s * self.random.lognormvariate(0, 0.2) if wait else took_s)
                if self.random.random() < self.failing.get(variant, 0.0):
                    raise Failed
        except Failed:
            pass
        return variant

    def calls(self, most: int, until: Callable[[], Any] = lambda: False) -> int:
        """Calls until something holds, at most so many; return how many there were of the candidates."""
        before = len(self.served)
        for number in range(most):
            self.call()
            if number % 50 == 49:
                self.tick()
            if until():
                break
        return sum(variant not in ("off", None) for variant in self.served[before:])

    def tick(self, seconds: float = 0.0) -> None:
        """Let time pass, and the guards' thread have its round."""
        self.clock.advance(seconds)
        self.client._guarding._watch.step()

    @property
    def tripped(self) -> bool:
        return bool(self.client._guards.book.notices)

    @property
    def status(self) -> Status:
        self.tick()
        return self.client.status

    @property
    def trips(self) -> list[dict[str, Any]]:
        """What the collector was told of trips."""
        self.client.flush()
        return [event["properties"] for event in self.sink.events if event.get("name") == "flagkit.trip"]


class Changing(sources.Static):
    """A document in the program that another can take the place of."""

    def __init__(self, document: dict[str, Any]) -> None:
        super().__init__(document)
        self.document = document
        self._number = 0

    def fetch(self, validator: str | None, *, deadline_s: float, max_bytes: int) -> Any:
        return sources.Static(self.document).fetch(None, deadline_s=deadline_s, max_bytes=max_bytes)
