"""Schedules of faults drawn by seed: whatever goes wrong, and whenever, the promises hold, and in the end all is well.

A schedule that fails prints its seed; ``pytest tests/simulation --seed N`` runs it again, step by step the same.
"""

from __future__ import annotations

from hashlib import md5

from tests.simulation.schedule import Task
from tests.simulation.world import World


def test_whatever_goes_wrong_every_promise_holds(seed: int) -> None:
    World(seed).play()


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
