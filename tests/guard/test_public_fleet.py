"""Guards of eight processes through gates, with a service and with Redis: the bars of docs/guards.md, with real parts.

Long: ``.ci/run --full``. What every test run makes of it is in tests/production/test_fleets.py.
"""

from __future__ import annotations

import re
import statistics
from pathlib import Path
from typing import Any

import pytest

from tests.guard.fleet_processes import PROCESSES, Fleet, through_redis, through_service
from tests.unit.redises import needs_redis

WAYS = [through_service, pytest.param(through_redis, marks=needs_redis)]
RATE = 0.01
#: Candidate calls until x50 is found, the median of many (docs/guards.md), and how many more it may take here.
X50, SLACK = 34, 1.5

pytestmark = [pytest.mark.full, pytest.mark.parametrize("way", WAYS)]


def test_at_most_two_of_two_hundred_healthy_runs_of_eight_processes_are_rolled_back(way: Any, tmp_path: Path) -> None:
    runs, calls, together = 200, 100_000, 20
    found: set[str] = set()
    with way(tmp_path, runs) as where:
        fleet = Fleet(where, RATE, RATE, rate=600)
        for first in range(0, runs, together):
            flags = [f"run-{number}" for number in range(first, first + together)]
            told = fleet.serve(flags, calls // PROCESSES)
            found |= {flag for each in told for flag, said in each.items() if said["off_at"] is not None}
        fleet.close()
    print(f"\n{way.__name__}: {len(found)} of {runs} runs of {calls:,} healthy calls rolled back: {sorted(found)}")
    assert len(found) <= 2


def test_x50_is_found_soon_and_the_last_process_is_back_within_two_seconds(way: Any, tmp_path: Path) -> None:
    runs, together = 40, 10
    judged, candidates, apart_s = [], [], []
    with way(tmp_path, runs) as where:
        fleet = Fleet(where, 50 * RATE, RATE, rate=4)
        for first in range(0, runs, together):
            flags = [f"run-{number}" for number in range(first, first + together)]
            told = fleet.serve(flags, 400)
            for flag in flags:
                back_s = {each[flag]["off_at"]: each[flag]["why"] for each in told}
                assert None not in back_s, (flag, told)
                # A breaker is its process's own; the fleet's verdict is what all are to hear of.
                verdict_s = [at_s for at_s, why in back_s.items() if "breaker" not in why]
                apart_s.append(max(back_s) - min(verdict_s, default=max(back_s)))
                candidates.append(sum(each[flag]["candidates"] for each in told))
                said = [re.search(r"of (\d+) calls, the control", why) for why in back_s.values()]
                judged.append(next((int(found[1]) for found in said if found is not None), candidates[-1]))
        fleet.close()
    median, all_of_them, latest_s = statistics.median(judged), statistics.median(candidates), max(apart_s)
    print(
        f"\n{way.__name__}: x50 is found in {median:.0f} candidate calls, {all_of_them:.0f} until the last process is"
    )
    print(f"back (medians of {runs}), which is {latest_s:.2f} s after the first at most")
    assert latest_s < 2
    assert median <= X50 * SLACK
