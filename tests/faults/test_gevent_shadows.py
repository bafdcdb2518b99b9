"""Shadow runs where threads are greenlets: the control's callers see nothing of the candidate, and nothing stays.

Each test is a process of its own, which gevent patches before anything else. A greenlet that computes holds up all
others, whoever it belongs to: what bounds that is ``cpu_share``, as it does for threads.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
pytest.importorskip("gevent", reason="not installed: gevent; see the extra faults")
pytestmark = pytest.mark.full

PATCHED = """
from gevent import monkey
monkey.patch_all()

import copy, gc, sys, threading, time, tracemalloc
import gevent, greenlet
from gevent.pool import Pool
from flagkit import Client, ShadowPolicy, sources

client = Client(source=sources.Static({"schema": 1, "flags": {"f": {"default": "on"}}}), sink=None)


def status():
    return client.status.shadows[0]


def greenlets():
    gc.collect()
    return sum(isinstance(each, greenlet.greenlet) and not each.dead for each in gc.get_objects())


def settled():
    stop_s = time.monotonic() + 30
    while status().pending:
        assert time.monotonic() < stop_s, status()
        gevent.sleep(0.001)
"""

#: What the candidate does -> how its runs end, where any end.
CANDIDATES = {
    "hang": ("gevent.event.Event().wait()", {"timeout", "hung", "queue_full", "over_share"}),
    "hang on what was patched": ("threading.Event().wait()", {"timeout", "hung", "queue_full", "over_share"}),
    "wait": ("time.sleep(0.1); return [items[-1]]", {"match", "queue_full", "over_share"}),
    "raise": ("raise ValueError(items)", {"error", "queue_full", "over_share"}),
    "exit": ("sys.exit(3)", {"error", "queue_full", "over_share"}),
    "end its greenlet": ("raise gevent.GreenletExit", {"error", "queue_full", "over_share"}),
    "compute": ("return sum(range(2_000_000))", {"mismatch", "queue_full", "over_share"}),
    "change its arguments": ("items.clear()", {"mismatch", "queue_full", "over_share"}),
}
CALLED = """
import gevent.event


def candidate(items):
    {does}


@client.shadow("f", candidate, context="u", policy=ShadowPolicy(copy=copy.deepcopy, budget_s=0.2))
def control(items):
    time.sleep(0.001)
    return [items[-1]]


def call(number):
    began_s = time.monotonic()
    items = [number, number + 1]
    assert control(items) == [number + 1]
    assert items == [number, number + 1]
    return time.monotonic() - began_s


took = sorted(Pool(10).map(call, range(500)))
# A call takes 1 ms, in ten greenlets; one that waited for the candidate would take 100, or for ever.
assert took[250] < 0.05, took[250]
gevent.sleep(0.3)
told = status()
assert told.sampled == 500, told
assert sum(told.outcomes.values()) + sum(told.dropped.values()) + told.pending == 500, told
assert told.outcomes or told.pending, told
assert not told.failures, told
client.close()
print(*told.outcomes, *told.dropped, sep=",")
"""
KEPT = """
def candidate(number):
    if number % 3 == 0:
        raise ValueError(number)
    if number % 3 == 1:
        gevent.sleep(0)
    return [number] * (number % 7)


policy = ShadowPolicy(copy=copy.deepcopy, cpu_share=1)
shadowed = client.shadow("f", candidate, context="u", policy=policy)(lambda number: [number] * 3)


def many(calls):
    for number in range(calls):
        assert shadowed(number) == [number] * 3
        if number % 10 == 0:
            gevent.sleep(0)
    settled()


many(2_000)
before = greenlets(), threading.active_count()
tracemalloc.start()
many(1_000)
gc.collect()
used = tracemalloc.get_traced_memory()[0]
many(10_000)
gc.collect()
grown = tracemalloc.get_traced_memory()[0] - used
tracemalloc.stop()
assert grown < 64 * 1024, grown
assert (greenlets(), threading.active_count()) == before, (greenlets(), threading.active_count(), before)
told = status()
assert sum(told.outcomes.values()) + sum(told.dropped.values()) == told.sampled == 13_000, told
client.close()
settled()
gevent.sleep(0.05)
assert greenlets() < before[0], (greenlets(), before)  # those of the pool have ended
"""


def run(program: str) -> str:
    command = [sys.executable, "-W", "error", "-c", PATCHED + program]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.mark.parametrize("kind", CANDIDATES)
def test_callers_in_greenlets_see_nothing_of_the_candidate(kind: str) -> None:
    does, endings = CANDIDATES[kind]
    told = run(CALLED.format(does=does)).strip().split(",")
    assert {each for each in told if each} <= endings


def test_of_ten_thousand_calls_in_greenlets_nothing_stays() -> None:
    run(KEPT)
