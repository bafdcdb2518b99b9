"""Guards through gates as applications use them: how often a healthy candidate is rolled back, and how soon a bad one.

On threads, on asyncio with cancellations, and in one thread. The few runs that every test run makes look for accidents;
the bar of docs/guards.md is held against 200 runs of 100,000 calls each, marked full.
"""

from __future__ import annotations

import asyncio
import random
import statistics
import threading
from collections.abc import Callable
from typing import Any

import pytest

from flagkit import Client, Config, sources

HALF: dict[str, Any] = {"rules": [{"name": "half", "rollout": {"percent": 50}, "serve": "on"}]}
RATE = 0.01
UNITS = 200_000
#: Candidate calls until x50 is found, the median of many (docs/guards.md), and how many more it may take here.
X50, SLACK = 34, 1.5


class Failed(Exception):
    pass


class Run:
    """One client, and calls of it by ``failing``, variant -> chance of a failure."""

    def __init__(self, seed: int, calls: int, failing: dict[bool, float], **guard: Any) -> None:
        flag = {**HALF, "salt": f"run-{seed}", "guard": guard}
        self.client = Client(source=sources.Static({"schema": 1, "flags": {"f": flag}}), config=Config(processes=1))
        self.seed = seed
        self.calls = calls
        self.failing = failing
        self.candidates = 0

    @property
    def tripped(self) -> bool:
        return bool(self.client._guards.book.notices)

    def __enter__(self) -> Run:
        self.client.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.client.close()

    def some(self, seed: int, calls: int) -> None:
        chance = random.Random(seed).random
        gate, failing = self.client.gate, self.failing
        for number in range(calls):
            try:
                with gate("f", f"user-{int(chance() * UNITS)}") as passage:
                    on = passage.on
                    self.candidates += on
                    if chance() < failing[on]:
                        raise Failed
            except Failed:
                if on and self.tripped:
                    return
            if not number & 1023 and self.tripped:
                return


def in_one_thread(run: Run) -> None:
    run.some(run.seed, run.calls)


def in_threads(run: Run) -> None:
    threads = [threading.Thread(target=run.some, args=(run.seed * 100 + index, run.calls // 8)) for index in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def in_tasks(run: Run) -> None:
    """Fifty tasks at a time; one call in fifty is cancelled by somebody else, whatever its arm."""
    chance = random.Random(run.seed).random

    async def call(number: int) -> None:
        async with run.client.gate("f", f"user-{int(chance() * UNITS)}") as passage:
            on = passage.on
            run.candidates += on
            await asyncio.sleep(0)
            if chance() < run.failing[on]:
                raise Failed

    async def main() -> None:
        for start in range(0, run.calls, 50):
            tasks = [asyncio.create_task(call(start + number)) for number in range(50)]
            await asyncio.sleep(0)
            tasks[int(chance() * 50)].cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            if run.tripped:
                return

    asyncio.run(main())


WAYS = [in_one_thread, in_threads, in_tasks]


def false_trips(way: Callable[[Run], None], runs: int, calls: int) -> int:
    found = 0
    for seed in range(runs):
        with Run(seed, calls, {True: RATE, False: RATE}) as run:
            way(run)
            found += run.tripped
    return found


def calls_to_find(way: Callable[[Run], None], ratio: float, runs: int) -> float:
    found = []
    for seed in range(runs):
        with Run(1000 + seed, 5000, {True: RATE * ratio, False: RATE}) as run:
            way(run)
            assert run.tripped
            found.append(run.candidates)
    return statistics.median(found)


@pytest.mark.parametrize("way", WAYS)
def test_a_healthy_candidate_is_hardly_ever_rolled_back(way: Callable[[Run], None]) -> None:
    assert false_trips(way, 4, 20_000) <= 1


@pytest.mark.parametrize("way", WAYS)
def test_a_candidate_that_fails_fifty_times_as_often_is_found_soon(way: Callable[[Run], None]) -> None:
    # Tasks are fifty at a time: those under way when it trips have begun all the same.
    slack = 50 if way is in_tasks else 8 if way is in_threads else 0
    assert calls_to_find(way, 50, 15) <= X50 * SLACK + slack


@pytest.mark.full
@pytest.mark.parametrize("way", WAYS)
def test_at_most_two_of_two_hundred_healthy_runs_are_rolled_back(way: Callable[[Run], None]) -> None:
    found = false_trips(way, 200, 100_000)
    print(f"\n{way.__name__}: {found} of 200 runs of 100,000 healthy calls rolled back")
    assert found <= 2


@pytest.mark.full
@pytest.mark.parametrize("way", WAYS)
def test_how_soon_regressions_are_found_through_gates(way: Callable[[Run], None]) -> None:
    found = calls_to_find(way, 50, 100)
    print(f"\n{way.__name__}: x50 after {found:.0f} candidate calls (median of 100)")
    assert found <= X50 * SLACK + (50 if way is in_tasks else 8 if way is in_threads else 0)
