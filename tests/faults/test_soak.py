"""Ten minutes of faults at two thousand decisions a second: memory stays flat, threads and descriptors do not grow.

Marked full. ``FLAGKIT_SOAK_S`` makes it shorter or longer; ``pytest -s`` shows the figures.
"""

from __future__ import annotations

import itertools
import json
import os
import statistics
import time
from collections.abc import Callable

import pytest

from tests.faults import answers
from tests.faults.server import Server
from tests.faults.stage import Stage
from tests.unit.loopback import Script

SECONDS = float(os.environ.get("FLAGKIT_SOAK_S", "600"))
EVERY_S = 5.0
#: More than a leak of one small object an event, an answer or a poll would hide in: 75 events and 20 polls a second.
MOST_KB_A_MINUTE = {"traced_kb": 30.0, "rss_kb": 300.0}
#: The first part fills what is bounded: units seen, memos, pools.
WARM = 0.25

MEASURE = """
import gc
gc.collect()
answer = {
    "at_s": time.monotonic(), "rss_kb": memory_kb("VmRSS"), "traced_kb": tracemalloc.get_traced_memory()[0] / 1024,
    "threads": threading.active_count(), "descriptors": len(os.listdir("/proc/self/fd")),
    "decisions": sum(wait.count for name, wait in waits.items() if name == "enabled") * 3,
}
"""
#: What is measured without end must not grow either.
BOUNDED = """
import collections, tracemalloc
class Last(collections.deque):
    count = 0
    def append(self, taken):
        self.count += 1
        super().append(taken)
for wait in waits.values():
    wait.taken = Last(maxlen=1_000)
Waits.count = property(lambda wait: wait.taken.count)
tracemalloc.start()
"""


def faults(server: Server) -> dict[str, Callable[[], None]]:
    def both(script: Script) -> Callable[[], None]:
        def begin() -> None:
            server.definitions = server.collector = script

        return begin

    def collector(script: Script) -> Callable[[], None]:
        def begin() -> None:
            server.collector = script

        return begin

    def definitions(script: Script) -> Callable[[], None]:
        def begin() -> None:
            server.definitions = script

        return begin

    return {
        "500": both(answers.status(500)),
        "hang": both(answers.hang),
        "drip": both(answers.drip_body),
        "reset": both(answers.reset),
        "refused": server.refuse,
        "portal": both(answers.portal),
        "retry after": both(answers.status(503, Retry_After="1")),
        "unauthorized": collector(answers.status(401)),
        "answer lost": collector(answers.stored_unsaid(server)),
        "redirect": both(answers.redirect("/elsewhere")),
        "endless": definitions(answers.endless),
        "half": definitions(answers.half(server)),
        "bomb": definitions(answers.bomb(20)),
        "slow": collector(answers.slow(server, 0.3)),
    }


def slope(samples: list[dict[str, float]], field: str) -> float:
    """The median slope of all pairs (Theil and Sen), a minute: what waits at the moment of one sample is no trend."""
    pairs = itertools.combinations(samples, 2)
    return statistics.median(
        60 * (later[field] - earlier[field]) / (later["at_s"] - earlier["at_s"]) for earlier, later in pairs
    )


@pytest.mark.full
def test_ten_minutes_with_a_fault_every_five_seconds_leave_nothing_behind(stage: Stage) -> None:
    server = stage.server
    # Who has met which version of a flag is remembered for a window, and each publication makes a version.
    config = {"flush_interval_s": 0.5, "exposure_window_s": 60}
    app = stage.start(callers=3, pause_s=0.0035, track_every=30, config=config)
    app.may_repeat = True
    app.do(BOUNDED)
    app.run()
    app.sees(server.number)
    samples = [app.do(MEASURE)]
    began_s = time.monotonic()
    for name, begin in itertools.cycle(faults(server).items()):
        if time.monotonic() - began_s >= SECONDS:
            break
        begin()
        time.sleep(EVERY_S / 2)
        server.heal()
        if name == "refused":
            server.accept()
        server.publish()
        time.sleep(EVERY_S / 2)
        samples.append(app.do(MEASURE))
    took_s = samples[-1]["at_s"] - samples[0]["at_s"]
    rate = (samples[-1]["decisions"] - samples[0]["decisions"]) / took_s
    settled = samples[int(len(samples) * WARM) :]
    slopes = {field: slope(settled, field) for field in MOST_KB_A_MINUTE}
    counts = {field: sorted({sample[field] for sample in settled}) for field in ("threads", "descriptors")}
    for field in slopes:
        print(f"\n{field}:", *(round(sample[field]) for sample in samples))
    print(
        f"\nsoak: {took_s:.0f} s, {rate:,.0f} decisions/s, {len(samples) - 1} faults; kB a minute: "
        f"{json.dumps({field: round(value, 1) for field, value in slopes.items()})}; {json.dumps(counts)}"
    )
    app.may_keep = None
    assert rate > 1000
    for field, most in MOST_KB_A_MINUTE.items():
        assert slopes[field] < most, field
    # A look-up of a host name or an exchange under way is at most one thread or two sockets more.
    assert counts["threads"][-1] - counts["threads"][0] <= 2, counts
    assert counts["descriptors"][-1] - counts["descriptors"][0] <= 4, counts
