"""Clients for tests: they record in a list, on a clock that stands still, and are closed when the test ends."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from documents import FLAGS, ON, SPLIT, Edited, StillClock

from flagkit import Client, sinks, sources

Json = dict[str, Any]
Make = Callable[..., Client]


@pytest.fixture
def clock() -> StillClock:
    return StillClock()


@pytest.fixture
def sink() -> sinks.Memory:
    return sinks.Memory()


@pytest.fixture
def make(clock: StillClock, sink: sinks.Memory) -> Iterator[Make]:
    """Makes clients of given flags, which record in ``sink`` and are closed when the test ends."""
    made: list[Client] = []

    def make_one(flags: Json = FLAGS, **settings: Any) -> Client:
        head = {key: settings.pop(key) for key in ("segments", "environment", "layers", "holdouts") if key in settings}
        source = settings.pop("source", None) or sources.Static({"schema": 1, "flags": flags, **head})
        made.append(Client(source=source, **{"sink": sink, "clock": clock, **settings}))
        return made[-1]

    yield make_one
    for client in made:
        client.close()


@pytest.fixture
def edited() -> Edited:
    return Edited({"f": SPLIT, "g": ON, "parent": ON, "child": {"default": "on"}})
