"""Definitions documents, snapshots and clients in one line each, shared by the tests of the core and the client."""

from __future__ import annotations

import json
from typing import Any

from fakes import WALL_MS, FakeClock, ScriptedSource
from hypothesis import HealthCheck, settings

from flagkit import Client, sinks, sources
from flagkit.clock import Waitable
from flagkit.core.model import Definitions
from flagkit.core.snapshot import Snapshot
from flagkit.dialects import Parsed, native
from flagkit.sources import Fetched

Json = dict[str, Any]
#: The same examples in every run, and no opinion on how fast this machine is.
STEADY = settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
ON: Json = {"default": "on"}
HALF: Json = {"rules": [{"name": "half", "rollout": {"percent": 50}, "serve": "on"}]}
SPLIT: Json = {
    "variants": {"a": 1, "b": 2},
    "off": "a",
    "rules": [{"name": "test", "split": [{"variant": "a", "weight": 1}, {"variant": "b", "weight": 1}]}],
}

VALUES: Json = {
    "text": "a",
    "int": 7,
    "float": 1.5,
    "true": True,
    "null": None,
    "list": [1, [2], {"a": 3}],
    "object": {"a": [1], "b": {"c": 2}},
    "huge": 10**400,
}
FLAGS: Json = {
    "on": ON,
    "off": {},
    "disabled": {"enabled": False},
    "half": HALF,
    "split": SPLIT,
    "parent": {"rules": [{"rollout": {"percent": 50}, "serve": "on"}]},
    "child": {"default": "on", "prerequisites": [{"flag": "parent", "variants": ["on"]}]},
    "member": {"rules": [{"when": [{"attribute": "a", "op": "in", "values": ["x"]}], "serve": "on"}]},
    **{name: {"variants": {"v": value, "o": None}, "off": "o", "default": "v"} for name, value in VALUES.items()},
}


class StillClock(FakeClock):
    """Time that passes only when a test says so: background threads wait until they are woken."""

    def wait(self, event: Waitable, timeout_s: float) -> bool:
        self.waits.append(timeout_s)
        return event.wait(600)


def document(flags: Json | None = None, **head: Any) -> bytes:
    return json.dumps({"schema": 1, "flags": flags or {}, **head}).encode()


def when(condition: Json) -> Json:
    """A flag that is on where ``condition`` holds."""
    return {"rules": [{"when": [condition], "serve": "on"}]}


def attribute(operator: str, *values: Any, **more: Any) -> Json:
    """A flag that is on where the attribute ``a`` answers ``operator``."""
    return when({"attribute": "a", "op": operator, "values": list(values), **more})


def rollout(percent: Any, **more: Any) -> Json:
    return {"rules": [{"rollout": {"percent": percent, **more}, "serve": "on"}]}


def parsed(flags: Json | None = None, previous: Definitions | None = None, **head: Any) -> Parsed:
    return native.parse(document(flags, **head), previous)


def snapshot(flags: Json | None = None, *, observe: bool = False, **head: Any) -> Snapshot:
    """Definitions ready to answer, without a single problem, at the fakes' wall time."""
    result = parsed(flags, **head)
    assert result.problems == ()
    return Snapshot(result.definitions, now_ms=lambda: WALL_MS, observe=observe)


def client(
    flags: Json | None = None, *, sink: Any = None, clock: Any = None, config: Any = None, **head: Any
) -> Client:
    """A client of definitions that never change."""
    source = sources.Static({"schema": 1, "flags": flags or {}, **head})
    return Client(source=source, sink=sink, clock=clock, config=config)


def exposures(client: Client, sink: sinks.Memory) -> list[tuple[str, str | None, str]]:
    """Flag, unit and variant of what was recorded and not looked at yet."""
    assert client.flush() == 0
    events = [event for event in sink.events if event["type"] == "exposure"]
    sink.clear()
    return [
        (event["feature_flag.key"], event["feature_flag.context.id"], event["feature_flag.result.variant"])
        for event in events
    ]


class Edited(ScriptedSource):
    """Definitions that a test edits; the client is told at once."""

    local = True

    def __init__(self, flags: Json) -> None:
        super().__init__(Fetched(document(flags)))

    def edit(self, client: Client, flags: Json) -> None:
        self.script = [Fetched(document(flags))]
        client._feed.poller.poll()
