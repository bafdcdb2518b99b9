"""Guards on Unleash's features: also where being on and being off have one name there."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest

from flagkit import Client, Config, sinks, sources
from flagkit.core.policy import GuardPolicy
from tests.production.guarded import Clock


class Failed(Exception):
    pass


def site(sink: sinks.Memory | None = None, **strategy: Any) -> tuple[Client, Clock]:
    parameters = {"rollout": "50", "stickiness": "default", "groupId": "f"}
    rollout = {"name": "flexibleRollout", "parameters": parameters, **strategy}
    document = {"version": 2, "features": [{"name": "f", "enabled": True, "strategies": [rollout]}]}
    clock = Clock()
    source = sources.Static(json.dumps(document), dialect="unleash")
    return Client(source=source, sink=sink or sinks.Memory(), config=Config(processes=1), clock=clock), clock


def calls(client: Client, clock: Clock, most: int, failing: float) -> int:
    """So many calls, or until a trip; return how many found the feature on."""
    chance, on = random.Random(7), 0
    for _ in range(most):
        try:
            with client.gate("f", f"user-{chance.randrange(10**9)}", guard=GuardPolicy()) as gate:
                clock.advance(0.01)
                on += gate.on
                if gate.on and chance.random() < failing:
                    raise Failed
        except Failed:
            pass
        if client.status.trips:
            break
    return on


@pytest.mark.parametrize("variants", [[], [{"name": "new", "weight": 1000}]])
def test_a_feature_that_fails_is_rolled_back(variants: list[Any]) -> None:
    client, clock = site(variants=variants)
    candidate = "new" if variants else "on"
    assert 0 < calls(client, clock, 20_000, failing=0.15) < 600
    assert client.status.trips["f"].startswith(f"{candidate}: ")
    assert calls(client, clock, 1, failing=1) == 0
    assert not client.enabled("f", "user-1")
    (guard,) = client.status.guards
    assert (guard.candidate, guard.state) == (candidate, "tripped")
    client.close(0)


def test_a_healthy_one_is_not_and_both_sides_are_seen() -> None:
    client, clock = site()
    assert 1700 < calls(client, clock, 4000, failing=0.0) < 2300
    assert client.status.trips == {}
    assert sorted(each.variant for each in client.status.variants) == ["disabled", "on"]
    client.close(0)


def test_exposures_tell_on_from_off() -> None:
    memory = sinks.Memory()
    client, _ = site(memory)
    for number in range(40):
        client.enabled("f", f"user-{number}")
    client.close()
    assert {event["feature_flag.result.variant"] for event in memory.events} == {"on", "disabled"}
