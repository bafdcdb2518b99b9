"""A fleet through Redis with the mathematics of guards: what many processes count is judged as one, and soon known."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Sequence
from random import Random
from typing import Any

import pytest
from redises import RedisServer, needs_redis, redis_server

from flagkit.fleets import Judged, Redis, Report, Trial
from flagkit.production.judge import Said, judge, read_word
from flagkit.production.tally import Tally

pytestmark = needs_redis
TRIAL = Trial("production", "new-checkout", 1, "on")
POLICY = json.dumps({"alpha": 0.01, "error_tolerance": 0.25, "latency_tolerance": 0.2})
LONG_S = 10.0
SLOW_S = 0.050


class Process(threading.Thread):
    """A process that calls and exchanges once a second, and notes when it first heard of a trip."""

    def __init__(self, server: RedisServer, number: int, *, calls: int, rate: float, rounds: int) -> None:
        super().__init__(name=f"process-{number}")
        self.fleet = Redis(server.url)
        self.id = f"{number:032x}"
        self.heard_s: float | None = None
        self.calls: Sequence[int] = (0, 0)
        self.took_s: list[float] = []
        self.cpu_s = 0.0
        self.judging_s: list[float] = []
        self.tripped_s: float | None = None
        self._tally = Tally()
        self._random = Random(number)
        self._number, self._calls, self._rate, self._rounds = number, calls, rate, rounds
        self.start()

    def run(self) -> None:
        next_s = time.monotonic() + self._random.random()
        for sequence in range(1, self._rounds + 1):
            time.sleep(max(0.0, next_s - time.monotonic()))
            next_s += 1.0
            self._call()
            counted = self._tally.drain()
            began_s, began_cpu_s = time.monotonic(), time.thread_time()
            report = Report(TRIAL, POLICY, counted)
            words = self.fleet.exchange(self.id, sequence, [report], self._judge, deadline_s=LONG_S)
            self.cpu_s += time.thread_time() - began_cpu_s
            self.took_s.append(time.monotonic() - began_s)
            self._hear([said for each in words if (said := read_word(each.word)) is not None])
        self.cpu_s -= sum(self.judging_s)
        self.fleet.close()

    def _call(self) -> None:
        for number in range(self._calls):
            unit = b"unit-%d-%d" % (self._number, self._random.randrange(100_000))
            arm = number % 10 == 0
            handle = self._tally.start("canary", arm, unit)
            self._tally.finish(handle, self._random.random() < (self._rate if arm else 0.01), SLOW_S)

    def _judge(self, *args: Any) -> Judged:
        began_s = time.thread_time()
        judged = judge(*args)
        self.judging_s.append(time.thread_time() - began_s)
        if judged.final:
            self.tripped_s = time.monotonic()
        return judged

    def _hear(self, words: list[Said]) -> None:
        for said in words:
            self.calls = said.evidence["calls"]
            self._tally.windows(said.windows, said.pace)
            if said.why is not None and self.heard_s is None:
                self.heard_s = time.monotonic()


def run(server: RedisServer, processes: int, **settings: Any) -> list[Process]:
    fleet = [Process(server, number, **settings) for number in range(processes)]
    for each in fleet:
        each.join()
    return fleet


def test_a_bad_candidate_is_found_by_all_together_and_known_to_all_within_two_seconds() -> None:
    with redis_server() as server:
        fleet = run(server, 8, calls=60, rate=0.5, rounds=5)
        tripped_s = min(each.tripped_s for each in fleet if each.tripped_s is not None)
        heard_s = [each.heard_s for each in fleet]
    assert None not in heard_s
    assert max(each for each in heard_s if each is not None) - tripped_s < 2.0
    assert sum(fleet[0].calls) <= 8 * 60 * 5


def test_what_all_count_is_judged_once() -> None:
    with redis_server() as server:
        fleet = run(server, 8, calls=20, rate=0.01, rounds=3)
        last = Redis(server.url)
        time.sleep(1.1)  # for the turn
        words = last.exchange("f" * 32, 1, [Report(TRIAL, POLICY, b"")], judge, deadline_s=LONG_S)
        last.close()
    assert all(each.heard_s is None for each in fleet)
    assert sum(json.loads(words[0].word)["evidence"]["calls"]) == 8 * 20 * 3


@pytest.mark.full
def test_what_fifty_processes_ask_of_redis_and_of_themselves() -> None:
    import redis

    rounds = 15
    with redis_server() as server, redis.Redis(port=server.port) as client:
        fleet = run(server, 50, calls=100, rate=0.01, rounds=rounds)
        info = client.info("everything")
        size = client.memory_usage(next(iter(client.scan_iter("*:state"))))
    exchanges = 50 * rounds
    commands = sum(each["calls"] for name, each in info.items() if name.startswith("cmdstat_"))
    redis_cpu_s = info["used_cpu_user"] + info["used_cpu_sys"]
    cpu_s = sum(each.cpu_s for each in fleet)
    judging_s = [took_s for each in fleet for took_s in each.judging_s]
    took_s = sorted(took_s for each in fleet for took_s in each.took_s)
    figures = {
        "commands an exchange": commands / exchanges,
        "commands a second": commands / rounds,
        "of a core, Redis": redis_cpu_s / rounds,
        "MB at most in Redis": info["used_memory_peak"] / 1e6,
        "kB of state": size / 1e3,
        "kB/s to Redis": info["total_net_input_bytes"] / rounds / 1e3,
        "kB/s from Redis": info["total_net_output_bytes"] / rounds / 1e3,
        "ms of CPU an exchange": cpu_s / exchanges * 1e3,
        "judgements a second": len(judging_s) / rounds,
        "ms of CPU a judgement": sum(judging_s) / len(judging_s) * 1e3,
        "ms an exchange, median": took_s[len(took_s) // 2] * 1e3,
        "ms an exchange, p99": took_s[len(took_s) * 99 // 100] * 1e3,
    }
    print("\n50 processes, one exchange and 100 calls a second each:")
    print(*(f"{value:10.3g} {name}" for name, value in figures.items()), sep="\n")
    assert commands / exchanges < 12
    assert redis_cpu_s / rounds < 0.10
    assert cpu_s / exchanges < 0.010
    assert sum(each.heard_s is not None for each in fleet) == 0
