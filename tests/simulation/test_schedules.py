"""Schedules of faults drawn by seed: whatever goes wrong, and whenever, the promises hold, and in the end all is well.

A schedule that fails prints its seed; ``pytest tests/simulation --seed N`` runs it again, step by step the same.
"""

from __future__ import annotations

from hashlib import md5
from typing import Any

import pytest

from tests.simulation.schedule import Task
from tests.simulation.world import World


def test_whatever_goes_wrong_every_promise_holds(seed: int) -> None:
    World(seed).play()


@pytest.mark.parametrize(
    ("found", "settings"),
    [
        # Events that were lent, delivered in part and then written to disk.
        (375, {"disk_faults": True, "spooled": True, "deaths": True, "batch_size": 5, "poison": 0.02, "weather_s": 10.0}
         | {"slots": 1, "max_spool_age_s": 604_800, "burst": 10}),
        # The same on a disk so slow that nobody waited for it.
        (1197, {}),
    ],
)  # fmt: skip
def test_what_a_schedule_has_found_it_does_not_find_again(found: int, settings: dict[str, Any]) -> None:
    World(found, **settings).play()


def test_a_seed_means_the_same_every_time() -> None:
    assert [_trace(7), _trace(8)] == [_trace(7), _trace(8)]


def test_schedules_are_what_they_are_for() -> None:
    worlds = [World(seed).play() for seed in range(200, 220)]
    happened = set().union(*(world.faults for world in worlds))
    for kind in ("killed", "power lost", "events unheard", "definitions older", "disk ENOSPC", "content published"):
        assert kind in happened, kind
    assert any(kind.startswith("fork") for kind in happened)
    assert sum(world.ledger.recorded for world in worlds) > 1000
    assert sum(world.network.collector.repeated for world in worlds) > 10


def _trace(seed: int) -> str:
    """What happened, turn by turn, in few words."""
    world, digest = World(seed), md5()
    after = world.invariants.after

    def noted(task: Task) -> None:
        digest.update(f"{world.hub.now_s} {task.ident} {task.name}".encode())
        after(task)

    world.invariants.after = noted  # type: ignore[method-assign]
    world.play()
    return digest.hexdigest()
