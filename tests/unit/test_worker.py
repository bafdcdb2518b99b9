from __future__ import annotations

import gc
import logging
import os
import signal
import threading
import weakref
from queue import SimpleQueue
from types import FrameType

import pytest
from fakes import FakeClock, FixedRandom, in_threads

from flagkit.clock import SystemClock
from flagkit.runtime.bell import Bell
from flagkit.runtime.process import process
from flagkit.runtime.worker import Worker

LONG_S = 3600.0
PATIENCE_S = 10.0


class Rounds:
    """A step that reports each round and answers from a list, then waits long."""

    def __init__(self, *pauses: float | BaseException) -> None:
        self.pauses = list(pauses)
        self.done: SimpleQueue[threading.Thread] = SimpleQueue()

    def __call__(self) -> float:
        pause = self.pauses.pop(0) if self.pauses else LONG_S
        self.done.put(threading.current_thread())
        if isinstance(pause, BaseException):
            raise pause
        return pause

    def next(self) -> threading.Thread:
        return self.done.get(timeout=PATIENCE_S)


def test_nothing_runs_before_start() -> None:
    rounds = Rounds()
    worker = Worker("w", rounds, SystemClock())
    assert not worker.running
    assert rounds.done.empty()


def test_the_step_runs_again_after_the_time_it_said() -> None:
    clock = FakeClock()
    worker: Worker
    rounds = Rounds(5, 0, 7)
    counted = 0

    def step() -> float:
        nonlocal counted
        counted += 1
        if counted == 4:
            worker.stop()
        return rounds()

    worker = Worker("w", step, clock)
    worker.start()
    for _ in range(4):
        thread = rounds.next()
    thread.join(PATIENCE_S)
    assert clock.waits == [5, 7, LONG_S], "0 means at once"


def test_the_thread_is_a_daemon_with_a_name() -> None:
    rounds = Rounds()
    worker = Worker("flagkit-test", rounds, SystemClock())
    worker.start()
    thread = rounds.next()
    assert (thread.daemon, thread.name) == (True, "flagkit-test")
    assert worker.stop(PATIENCE_S)


def test_starting_from_many_threads_at_once_makes_one_thread() -> None:
    rounds = Rounds()
    worker = Worker("only-one", rounds, SystemClock())
    in_threads(8, lambda _: worker.start())
    worker.start()
    rounds.next()
    assert sum(thread.name == "only-one" for thread in threading.enumerate()) == 1
    assert worker.stop(PATIENCE_S)
    assert rounds.done.empty()


def test_waking_runs_the_next_round_now_and_starts_the_thread_if_need_be() -> None:
    rounds = Rounds()
    worker = Worker("w", rounds, SystemClock())
    worker.wake()
    rounds.next()
    worker.wake()
    rounds.next()
    assert worker.stop(PATIENCE_S)
    assert rounds.done.empty(), "each wake is one round"


def test_a_wake_during_a_round_is_not_lost() -> None:
    inside, go_on = threading.Event(), threading.Event()
    rounds = Rounds()

    def step() -> float:
        inside.set()
        assert go_on.wait(PATIENCE_S)
        return rounds()

    worker = Worker("w", step, SystemClock())
    worker.start()
    assert inside.wait(PATIENCE_S)
    worker.wake()
    go_on.set()
    rounds.next()
    rounds.next()
    assert worker.stop(PATIENCE_S)


def test_a_step_that_raises_is_counted_logged_once_and_followed_by_growing_pauses(
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock = FakeClock()
    rounds = Rounds(*[ZeroDivisionError(str(number)) for number in range(4)])
    ended = threading.Event()
    worker: Worker

    def step() -> float:
        if not rounds.pauses:
            worker.stop()
            ended.set()
        return rounds()

    with caplog.at_level(logging.INFO, "flagkit"):
        worker = Worker("w", step, clock, FixedRandom(1.0))
        worker.start()
        assert ended.wait(PATIENCE_S)
        worker._thread.join(PATIENCE_S)  # type: ignore[union-attr]
    assert worker.faults == 4
    assert clock.waits[:4] == [2, 4, 8, 16]
    assert [record.getMessage() for record in caplog.records] == [
        "thread w: failing: ZeroDivisionError",
        "thread w: ok again after 4 failures",
    ]
    assert caplog.records[0].exc_info, "with a traceback: nobody expected it"


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_thread_that_was_killed_is_replaced_by_a_later_start_but_not_in_a_tight_loop() -> None:
    clock = FakeClock()
    rounds = Rounds(SystemExit(), SystemExit())
    worker = Worker("w", rounds, clock, FixedRandom(1.0))
    worker.start()
    rounds.next().join(PATIENCE_S)
    assert not worker.running
    worker.start()
    assert not worker.running, "not during the pause"
    clock.advance(2)
    worker.start()
    rounds.next().join(PATIENCE_S)
    assert worker.faults == 2
    clock.advance(3)
    worker.start()
    assert not worker.running, "the pause has grown"


def test_stop_ends_the_thread_for_good() -> None:
    rounds = Rounds()
    worker = Worker("w", rounds, SystemClock())
    worker.start()
    thread = rounds.next()
    assert worker.stop(PATIENCE_S)
    assert not thread.is_alive()
    worker.wake()
    assert not worker.running
    assert rounds.done.empty()


def test_stop_says_when_the_round_outlives_its_patience() -> None:
    inside, go_on = threading.Event(), threading.Event()

    def step() -> float:
        inside.set()
        go_on.wait(PATIENCE_S)
        return LONG_S

    worker = Worker("w", step, SystemClock())
    worker.start()
    assert inside.wait(PATIENCE_S)
    assert not worker.stop(0.01)
    go_on.set()
    assert worker.stop(PATIENCE_S)


def test_a_step_may_stop_its_own_worker() -> None:
    answers: SimpleQueue[bool] = SimpleQueue()
    worker = Worker("w", lambda: answers.put(worker.stop(PATIENCE_S)) or LONG_S, SystemClock())
    worker.start()
    assert answers.get(timeout=PATIENCE_S) is False, "it did not wait for itself"
    thread = worker._thread
    assert thread is not None
    thread.join(PATIENCE_S)
    assert not thread.is_alive()


def test_stopping_what_never_started_is_fine() -> None:
    assert Worker("w", Rounds(), SystemClock()).stop(PATIENCE_S)


def test_a_worker_nobody_holds_any_more_ends_its_thread() -> None:
    rounds = Rounds()
    worker = Worker("w", rounds, SystemClock())
    worker.start()
    thread = rounds.next()
    gone = weakref.ref(worker)
    del worker
    gc.collect()
    thread.join(PATIENCE_S)
    assert gone() is None
    assert not thread.is_alive()


def test_a_system_that_refuses_threads_raises_nothing_and_is_asked_again_later(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = FakeClock()
    worker = Worker("w", Rounds(), clock)

    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    worker.start()
    worker.start()
    assert worker.failed_starts == 1
    clock.advance(1)
    worker.wake()
    assert worker.failed_starts == 2


def test_no_thread_is_started_while_the_interpreter_exits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "exiting", True)
    worker = Worker("w", Rounds(), SystemClock())
    worker.wake()
    assert not worker.running


def test_a_forked_child_starts_a_thread_of_its_own() -> None:
    rounds = Rounds()
    worker = Worker("w", rounds, SystemClock())
    worker.start()
    rounds.next()
    theirs, bell = worker._thread, worker._bell
    worker._pid = -1  # as if this were another process, whose hooks did not run
    worker.start()
    assert rounds.next() is not theirs
    assert worker._pid == os.getpid()
    bell.set()
    assert theirs is not None
    theirs.join(PATIENCE_S)
    assert not theirs.is_alive(), "a thread that survives the fork, as the one that forked does, ends"
    assert worker.stop(PATIENCE_S)


def test_a_bell_stays_rung_until_it_is_cleared() -> None:
    bell = Bell()
    assert not bell.is_set()
    assert not bell.wait(0)
    bell.set()
    bell.set()
    assert bell.is_set()
    assert bell.wait(-5)
    assert bell.wait(float("inf"))
    bell.clear()
    bell.clear()
    assert not bell.is_set()


def test_a_bell_may_be_rung_by_a_signal_that_interrupts_its_ringing() -> None:
    bell = Bell()
    handled = 0

    def ring(_: int, __: FrameType | None) -> None:
        nonlocal handled
        handled += 1
        bell.set()

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, 0.0002, 0.0002)
    try:
        while handled < 200:
            bell.set()
            bell.clear()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    bell.set()
    assert bell.wait(0)
