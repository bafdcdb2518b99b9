"""Shadow runs stay within their bounds: time, threads, queue, memory; and end with the client and the process."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from shadows import PATIENCE_S, Bench, eventually

from flagkit import Client, ShadowPolicy, sources
from flagkit.clock import SystemClock
from flagkit.production.shadow_desk import MOST_FLAGS, ShadowDesks
from flagkit.production.shadow_policy import CPU_SHARE
from flagkit.production.shadow_pool import MOST_THREADS, Pace, ShadowPool
from flagkit.production.shadow_share import AHEAD_S, FIRST_S, Allowance


@pytest.fixture
def bench() -> Iterator[Bench]:
    bench = Bench()
    yield bench
    bench.client.close()


class Hang:
    """A candidate that runs until it is let go. ``begun``: released once a call."""

    def __init__(self) -> None:
        self.begun = threading.Semaphore(0)
        self.go = threading.Event()

    def __call__(self, *args: object) -> int:
        self.begun.release()
        self.go.wait(PATIENCE_S)
        return 0

    def wait(self, calls: int = 1) -> None:
        for _ in range(calls):
            assert self.begun.acquire(timeout=PATIENCE_S)


def zero(*args: object) -> int:
    return 0


def threads_of_shadows() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("flagkit-shadow-")]


# -- time


def test_a_candidate_past_its_budget_counts_as_a_timeout_once_and_is_published(bench: Bench) -> None:
    hang = Hang()
    assert bench.shadow(hang, zero, budget_s=2)() == 0
    hang.wait()
    bench.clock.advance(1.9)
    assert (bench.status.outcomes, bench.status.pending) == ({}, 1)
    bench.clock.advance(0.2)
    assert (bench.status.outcomes, bench.status.pending) == ({"timeout": 1}, 0)
    bench.client._shadowing.step()
    assert bench.result().outcome == "timeout"
    hang.go.set()
    eventually(lambda: len(bench.desk()._room) == 2)
    assert bench.status.outcomes == {"timeout": 1}
    assert bench.results.empty()


@pytest.mark.parametrize("mode", ["inline", "pool"])
def test_a_candidate_that_ends_past_its_budget_is_not_compared(bench: Bench, mode: str) -> None:
    def candidate() -> int:
        bench.clock.advance(3)
        return 1

    bench.shadow(candidate, zero, mode=mode, budget_s=2)()
    assert bench.result().outcome == "timeout"
    assert bench.status.outcomes == {"timeout": 1}


def test_a_slow_control_does_not_use_up_the_candidates_budget() -> None:
    bench = Bench(random=0.0)
    bench.shadow(zero, lambda: bench.clock.advance(100) or 0, mode="inline", budget_s=2)()
    assert (bench.result().outcome, bench.results.empty()) == ("match", True)
    bench.client.close()


# -- room


def test_what_hangs_keeps_its_room_and_further_runs_are_dropped_and_counted(bench: Bench) -> None:
    hang = Hang()
    shadowed = bench.shadow(hang, zero, max_running=2, max_waiting=3, budget_s=2)
    for _ in range(2):
        shadowed()
    hang.wait(2)
    for _ in range(5):
        assert shadowed() == 0
    assert (bench.status.dropped, bench.status.pending) == ({"queue_full": 2}, 5)
    bench.clock.advance(3)
    assert bench.status.outcomes == {"timeout": 2}
    assert bench.status.dropped == {"queue_full": 2, "hung": 3}  # what waited would wait for ever
    shadowed()
    told = bench.desk().tally.status()  # before anybody looks again
    assert (told.dropped["hung"], told.pending) == (4, 0)
    assert len(threads_of_shadows()) == 2
    hang.go.set()
    eventually(lambda: len(bench.desk()._room) == 2)
    shadowed()
    eventually(lambda: bench.status.outcomes.get("match") == 1)


def test_one_that_hangs_does_not_hold_up_the_next_while_there_is_room(bench: Bench) -> None:
    hang = Hang()
    shadowed = bench.shadow(lambda wait: hang() if wait else 0, zero, max_running=2)
    for _ in range(50):
        bench_hang = bench.shadow(hang, zero, max_running=2)
        bench_hang()
        hang.wait()
        shadowed(False)
        assert bench.result().outcome == "match"
        hang.go.set()
        bench.result()
        hang.go.clear()


def test_flags_do_not_wait_for_each_other() -> None:
    bench, hang = Bench({"f": {"default": "on"}, "g": {"default": "on"}}), Hang()
    bench.shadow(hang, zero, max_running=1)()
    hang.wait()
    bench.client.shadow("g", zero, policy=bench.policy(max_running=1))(zero)()
    assert bench.result().flag == "g"
    hang.go.set()
    bench.client.close()


@pytest.mark.parametrize("mode", ["inline", "after"])
def test_runs_that_others_see_to_need_room_too(bench: Bench, mode: str) -> None:
    hang = Hang()
    bench.shadow(hang, zero, max_running=1)()
    hang.wait()
    how = {"mode": mode} if mode == "inline" else {"mode": mode, "after": lambda run: run()}
    assert bench.shadow(zero, zero, **how)() == 0
    assert (bench.status.dropped, bench.status.pending) == ({"busy": 1}, 1)
    hang.go.set()
    bench.result()


def test_flags_past_the_bound_are_not_shadowed() -> None:
    desks = ShadowDesks(lambda: 0.0, lambda: 0.0, lambda: 0.0)
    policy = ShadowPolicy()
    assert all(desks.desk(f"f{number}", policy) for number in range(MOST_FLAGS))
    assert desks.desk("one more", policy) is None
    assert desks.desk("f0", policy) is not None


FREE = Pace(Allowance(1, float), float)


class Work:
    def __init__(self, do: Callable[[], object] = lambda: None) -> None:
        self.do = do
        self.dropped: list[str] = []

    def __call__(self) -> None:
        self.do()

    def drop(self, reason: str) -> None:
        self.dropped.append(reason)


def test_all_pools_together_have_so_many_threads_and_no_more() -> None:
    desks, hang = ShadowDesks(lambda: 0.0, lambda: 0.0, lambda: 0.0), Hang()
    before = len(threads_of_shadows())
    pools = [ShadowPool(f"flagkit-shadow-{number}", 40, 40, desks.spare, FREE) for number in range(3)]
    work = [[Work(hang) for _ in range(40)] for _ in pools]
    for pool, pieces in zip(pools, work, strict=True):
        for piece in pieces:
            pool.submit(piece)
    hang.wait(MOST_THREADS)
    assert len(threads_of_shadows()) - before == MOST_THREADS
    assert {reason for piece in work[2] for reason in piece.dropped} == {"no_thread"}
    hang.go.set()
    for pool in pools:
        pool.close()
    eventually(lambda: len(desks.spare) == MOST_THREADS)


def test_where_no_thread_can_be_started_runs_are_dropped(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    shadowed = bench.shadow(zero, zero)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        assert shadowed() == 0
        assert (bench.status.dropped, bench.status.pending) == ({"no_thread": 1}, 0)
    assert shadowed() == 0
    assert bench.result().outcome == "match"


def test_a_thread_that_ends_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    desks, done = ShadowDesks(float, float, float), threading.Event()
    monkeypatch.setattr(threading, "excepthook", lambda _: None)

    def end() -> None:
        raise SystemExit

    pool = ShadowPool("flagkit-shadow-f", 1, 4, desks.spare, FREE)
    pool.submit(Work(end))
    eventually(lambda: len(desks.spare) == MOST_THREADS)
    eventually(lambda: not threads_of_shadows())
    work = Work(done.set)
    pool.submit(work)
    assert done.wait(PATIENCE_S)
    assert work.dropped == []
    pool.close()


# -- what they may compute


class Meter:
    """Runs of a pool of one thread, each of which takes ``takes_s`` of a CPU clock that only this moves."""

    def __init__(self, share: float, takes_s: float) -> None:
        self.bench = Bench()
        self.used_s = 0.0
        self.takes_s = takes_s
        self.bench.desk(cpu_share=share, max_running=1)  # the flag's first policy
        desk = self.bench.desk()
        desk._pool._pace = desk._pool._pace._replace(cpu_s=lambda: self.used_s)
        self.copied = 0
        self.shadowed = self.bench.shadow(self.candidate, zero, copy=self.copy)

    def copy(self, given: Any) -> Any:
        self.copied += 1
        return given

    def candidate(self) -> int:
        self.used_s += self.takes_s
        return 0

    def call(self) -> None:
        """One call, and whatever comes of it."""
        self.shadowed()
        eventually(lambda: self.bench.status.pending == 0 and len(self.bench.desk()._room) == 1)
        eventually(lambda: bool(self.bench.desk()._pool._crew[0].idle) if self.copied else True)


@pytest.mark.parametrize("takes_s", [0.02, 0.0004, 3.0])
def test_runs_take_no_more_than_their_share_of_a_processor(takes_s: float) -> None:
    meter, seconds = Meter(CPU_SHARE, takes_s), 1000
    for _ in range(200):
        meter.call()
        meter.bench.clock.advance(seconds / 200)
    bound_s = AHEAD_S + CPU_SHARE * seconds
    assert meter.used_s <= bound_s + takes_s
    # What it may take it does take: as far as there were calls for it.
    assert meter.used_s >= min(bound_s, 199 * takes_s) - takes_s
    status = meter.bench.status
    assert (status.sampled, status.pending) == (200, 0)
    assert sum(status.outcomes.values()) + status.dropped.get("over_share", 0) == 200
    meter.bench.client.close()


def test_a_call_past_the_share_is_dropped_before_its_arguments_are_copied() -> None:
    meter = Meter(0.5, 3.0)
    meter.call()
    for _ in range(5):
        assert meter.shadowed() == 0
    assert (meter.copied, meter.bench.status.dropped) == (1, {"over_share": 5})
    meter.bench.clock.advance(2 * 3 - 2 * AHEAD_S + 0.001)
    meter.call()
    assert meter.bench.status.outcomes == {"match": 2}
    meter.bench.client.close()


def test_what_waits_behind_a_run_that_took_all_of_the_share_is_dropped(bench: Bench) -> None:
    hang = Hang()
    desk = bench.desk(cpu_share=0.5, max_running=1)
    used_s = iter((0.0, 1000.0))
    desk._pool._pace = desk._pool._pace._replace(cpu_s=lambda: next(used_s))
    shadowed = bench.shadow(hang, zero)
    for _ in range(4):
        shadowed()
    hang.wait()
    hang.go.set()
    eventually(lambda: bench.status.pending == 0)
    assert (bench.status.outcomes, bench.status.dropped) == ({"match": 1}, {"over_share": 3})


@pytest.mark.parametrize("mode", ["inline", "after"])
def test_runs_outside_of_the_pool_have_no_share_to_keep_to(bench: Bench, mode: str) -> None:
    desk = bench.desk(cpu_share=0.5)
    desk._allowance.settle(0, 1000)
    how = {"mode": mode} if mode == "inline" else {"mode": mode, "after": lambda run: run()}
    bench.shadow(zero, zero, **how)()
    assert bench.result().outcome == "match"
    bench.shadow(zero, zero)()
    assert bench.status.dropped == {"over_share": 1}


def test_until_it_is_known_what_a_candidate_takes_there_is_one_at_a_time() -> None:
    now_s = [100.0]
    allowance = Allowance(CPU_SHARE, lambda: now_s[0])
    first_s = allowance.take()
    assert (first_s, allowance.take()) == (FIRST_S, None)
    allowance.settle(FIRST_S, 0.001)  # cheap: several may run
    assert (allowance.take(), allowance.take()) == (0.001, 0.001)
    allowance.settle(0.001, 0.09)  # not at all
    assert allowance.spent
    now_s[0] += 0.09 / CPU_SHARE
    assert (allowance.take(), allowance.take()) == (0.09, None)
    # One that hangs and takes nothing holds up the next for no longer than what is kept aside for it is worth.
    now_s[0] += 0.09 / CPU_SHARE
    assert allowance.take() is not None


def test_a_share_of_one_is_no_bound() -> None:
    allowance = Allowance(1, float)
    allowance.settle(0, 1000)
    assert allowance.take() is not None


def test_by_default_less_than_one_call_in_a_hundred_may_meet_a_candidate() -> None:
    assert ShadowPolicy().cpu_share == CPU_SHARE < 0.01 / 2


# -- handed to somebody else


def test_a_run_that_nobody_calls_is_counted_when_it_is_let_go(bench: Bench) -> None:
    kept: list[Any] = []
    shadowed = bench.shadow(zero, zero, mode="after", after=kept.append)
    shadowed()
    assert bench.status.pending == 1
    kept.clear()
    assert (bench.status.dropped, bench.status.pending) == ({"never_run": 1}, 0)


def test_no_more_runs_are_handed_over_than_may_wait(bench: Bench) -> None:
    kept: list[Any] = []
    shadowed = bench.shadow(zero, zero, mode="after", after=kept.append, max_waiting=3)
    for _ in range(5):
        shadowed()
    assert (len(kept), bench.status.dropped) == (3, {"queue_full": 2})
    kept.pop()()
    kept.clear()
    for _ in range(4):
        shadowed()
    assert (len(kept), bench.status.dropped) == (3, {"queue_full": 3, "never_run": 2})
    for run in kept:
        run()
    assert bench.status.pending == 0


def test_a_run_that_is_called_twice_runs_once(bench: Bench) -> None:
    bench.shadow(zero, zero, mode="after", after=lambda run: (run(), run()))()
    assert (bench.status.outcomes, bench.result().outcome) == ({"match": 1}, "match")


def test_an_after_that_fails_is_named(bench: Bench) -> None:
    def after(run: object) -> None:
        raise LookupError

    assert bench.shadow(zero, zero, mode="after", after=after)() == 0
    assert (bench.status.dropped, bench.status.failures) == ({"after_error": 1}, {"after: LookupError": 1})


def test_a_run_of_the_process_before_a_fork_counts_nowhere(bench: Bench) -> None:
    kept: list[Any] = []
    bench.shadow(zero, zero, mode="after", after=kept.append)()
    bench.client.after_fork()
    kept.clear()
    assert (bench.status.sampled, bench.status.dropped) == (0, {})


# -- nothing is left behind


def test_arguments_and_results_are_let_go_of(bench: Bench) -> None:
    class Thing:
        pass

    def candidate(thing: object) -> object:
        raise ValueError(thing)

    for mode in ("pool", "inline"):
        thing = Thing()
        alive = weakref.ref(thing)
        bench.shadow(candidate, lambda given: given, mode=mode)(thing)
        del thing
        assert bench.result().outcome == "error"
        eventually(lambda: len(bench.desk()._room) == 2)
        gc.collect()
        eventually(lambda alive=alive: alive() is None)  # type: ignore[misc]


def test_a_run_that_is_kept_keeps_nothing_of_the_call(bench: Bench) -> None:
    class Thing:
        pass

    kept: list[Any] = []
    thing = Thing()
    alive = weakref.ref(thing)
    bench.shadow(lambda given: given, lambda given: given, mode="after", after=kept.append)(thing)
    kept[0]()
    bench.result()
    del thing
    gc.collect()
    assert alive() is None


def test_the_threads_end_when_the_client_closes(bench: Bench) -> None:
    hang = Hang()
    shadowed = bench.shadow(hang, zero, max_running=1)
    shadowed(), hang.wait(), shadowed()
    mine = threads_of_shadows()
    bench.client.close()
    assert bench.status.dropped == {"closed": 1}
    hang.go.set()
    for thread in mine:
        thread.join(PATIENCE_S)
    assert not any(thread.is_alive() for thread in mine)


def test_the_threads_end_when_nobody_holds_the_client() -> None:
    before = set(threads_of_shadows())
    bench = Bench()
    shadowed = bench.shadow(zero, zero)
    shadowed()
    bench.result()
    mine = [thread for thread in threads_of_shadows() if thread not in before]
    assert mine
    del shadowed, bench
    gc.collect()
    for thread in mine:
        thread.join(PATIENCE_S)
    assert not any(thread.is_alive() for thread in mine)


def test_nothing_starts_before_a_call_is_drawn() -> None:
    before = threading.active_count()
    client = Client(source=sources.Static({"schema": 1, "flags": {"f": {}}}))
    client.shadow("f", zero)(zero)
    assert (threading.active_count(), client._shadowing) == (before, None)
    client.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_child_has_a_pool_of_its_own() -> None:
    bench, hang = Bench(clock=SystemClock()), Hang()
    shadowed = bench.shadow(hang, zero, max_running=1, max_waiting=2)
    shadowed(), hang.wait(), shadowed()
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        told = b"no"
        try:
            fresh = bench.client.shadow("f", zero, policy=bench.policy(max_running=1, max_waiting=2))(zero)
            if bench.client.status.shadows[0].pending == 0 and fresh() == 0 and bench.result().outcome == "match":
                gc.collect()
                told = b"yes" if bench.status.outcomes == {"match": 1} and not bench.status.dropped else b"counted"
        finally:
            os.write(write, told)
            os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        assert pipe.read() == b"yes"
    os.waitpid(child, 0)
    assert bench.status.pending == 2
    hang.go.set()
    bench.result(), bench.result()
    bench.client.close()


HANGING_EXIT = """
import threading
from flagkit import Client, sources
client = Client(source=sources.Static({"schema": 1, "flags": {"f": {"default": "on"}}}))
begun = threading.Event()
def candidate():
    begun.set()
    threading.Event().wait()
assert client.shadow("f", candidate)(lambda: 7)() == 7
begun.wait(30)
print("done")
"""


def test_a_candidate_that_hangs_does_not_hold_up_the_end_of_the_process() -> None:
    done = subprocess.run([sys.executable, "-c", HANGING_EXIT], capture_output=True, text=True, timeout=PATIENCE_S)
    assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")


def test_a_shadow_in_a_signal_handler_or_finalizer_waits_for_nobody(bench: Bench) -> None:
    shadowed = bench.shadow(zero, zero)

    def trace(*_: object) -> Any:
        sys.settrace(None)
        assert shadowed() == 0
        return None

    # Wherever a call is interrupted by another, both come to an end.
    for _ in range(20):
        sys.settrace(trace)
        try:
            shadowed()
        finally:
            sys.settrace(None)
    eventually(lambda: bench.status.pending == 0)


def test_many_threads_at_once_lose_no_count(bench: Bench) -> None:
    shadowed = bench.shadow(zero, zero, max_waiting=10_000, publish=None)

    def work() -> None:
        for _ in range(500):
            assert shadowed() == 0

    callers = [threading.Thread(target=work) for _ in range(8)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    eventually(lambda: bench.status.pending == 0)
    assert (bench.status.sampled, sum(bench.status.outcomes.values())) == (4000, 4000)
