from __future__ import annotations

import gc
import signal
import threading
from types import FrameType

from fakes import Rings, in_threads, metric

from flagkit.runtime.buffer import Buffer


def test_events_wait_in_the_order_they_came() -> None:
    buffer = Buffer(10, 5)
    for number in range(4):
        assert buffer.append(metric(number))
    assert buffer.head(3) == [metric(0), metric(1), metric(2)]
    assert len(buffer) == 4, "looking takes nothing away"


def test_the_newest_events_are_lost_when_it_is_full_and_counted() -> None:
    buffer = Buffer(3, 100)
    kept = [buffer.append(metric(number)) for number in range(5)]
    assert kept == [True, True, True, False, False]
    assert buffer.head(10) == [metric(0), metric(1), metric(2)]
    assert buffer.account() == (5, 0, 0, {"overflow": 2}, 3)


def test_events_leave_together_with_their_entry_in_the_account() -> None:
    buffer = Buffer(10, 5)
    for number in range(6):
        buffer.append(metric(number))
    buffer.settle(2, {"too_large": 1, "http_400": 1})
    assert buffer.account() == (6, 0, 2, {"too_large": 1, "http_400": 1}, 2)
    assert buffer.head(10) == [metric(4), metric(5)]
    assert buffer.account().balanced


def test_a_closed_buffer_refuses_and_counts_but_keeps_what_waits() -> None:
    buffer = Buffer(10, 5)
    buffer.append(metric(0))
    buffer.close()
    assert not buffer.append(metric(1))
    assert buffer.account() == (2, 0, 0, {"closed": 1}, 1)


def test_a_child_starts_with_nothing_on_its_account() -> None:
    buffer = Buffer(2, 5)
    for number in range(5):
        buffer.append(metric(number))
    buffer.after_fork()
    assert buffer.account() == (0, 0, 0, {}, 0)
    assert buffer.append(metric(0))


def test_reasons_a_server_makes_up_do_not_grow_the_account_without_bound() -> None:
    buffer = Buffer(1000, 5)
    for number in range(500):
        buffer.append(metric(number))
        buffer.settle(0, {f"reason {number}": 1})
    account = buffer.account()
    assert len(account.lost) <= 65
    assert account.lost["other"] > 400
    assert account.balanced


def test_the_consumer_is_started_by_the_first_event_and_woken_by_a_crowd() -> None:
    buffer = Buffer(100, 3)
    buffer.consumer = rings = Rings()
    buffer.append(metric(0))
    assert (rings.starts, rings.wakes) == (1, 0)
    buffer.append(metric(1))
    assert (rings.starts, rings.wakes) == (1, 0)
    buffer.append(metric(2))
    assert (rings.starts, rings.wakes) == (1, 1)


def test_the_consumer_is_woken_once_until_it_listens_again() -> None:
    buffer = Buffer(100, 3)
    buffer.consumer = rings = Rings()
    for number in range(50):
        buffer.append(metric(number))
    assert rings.wakes == 1
    buffer.listen()
    buffer.append(metric(50))
    buffer.append(metric(51))
    assert rings.wakes == 2


def test_a_crowd_of_one_wakes_the_consumer_at_every_event() -> None:
    buffer = Buffer(100, 1)
    buffer.consumer = rings = Rings()
    for number in range(3):
        buffer.append(metric(number))
        buffer.settle(1, {})
        buffer.listen()
    assert (rings.starts, rings.wakes) == (0, 3)


def test_the_account_is_exact_while_many_threads_record_lose_and_deliver() -> None:
    buffer = Buffer(500, 50)
    each, recorders = 20_000, 4
    done = threading.Event()
    unbalanced = []

    def deliver() -> None:
        while not done.is_set() or len(buffer):
            taken = len(buffer.head(50))
            buffer.settle(taken - taken // 10, {"http_400": taken // 10})

    def watch() -> None:
        previous = 0
        while not done.is_set():
            account = buffer.account()
            if not account.balanced or account.recorded < previous:
                unbalanced.append(account)
            previous = account.recorded

    def record(_: int) -> None:
        for _ in range(each):
            buffer.append("{}")

    others = [threading.Thread(target=deliver), threading.Thread(target=watch)]
    for thread in others:
        thread.start()
    in_threads(recorders, record)
    done.set()
    for thread in others:
        thread.join()
    assert unbalanced == []
    account = buffer.account()
    assert account.recorded == each * recorders
    assert account.delivered + sum(account.lost.values()) == each * recorders


class Noisy:
    """An object whose end is recorded, as instrumented applications do."""

    def __init__(self, buffer: Buffer) -> None:
        self.buffer = buffer
        self.itself = self  # only the garbage collector can end it

    def __del__(self) -> None:
        self.buffer.append("{}")


def test_recording_from_finalizers_that_interrupt_recording_loses_no_count() -> None:
    buffer = Buffer(1000, 10)
    threshold = gc.get_threshold()
    gc.set_threshold(5)
    try:
        for _ in range(10_000):
            Noisy(buffer)
            buffer.append("{}")
    finally:
        gc.set_threshold(*threshold)
    gc.collect()
    assert buffer.account() == (20_000, 0, 0, {"overflow": 19_000}, 1000)


def test_losing_an_event_while_one_is_being_lost_on_the_same_thread_deadlocks_nobody() -> None:
    buffer = Buffer(1, 10)
    buffer.append("{}")

    class Reentrant(str):
        def __hash__(self) -> int:
            buffer.append("{}")
            return str.__hash__(self)

    losing = threading.Thread(target=buffer.refuse, args=(Reentrant("odd"),), daemon=True)
    losing.start()
    losing.join(10)
    assert not losing.is_alive()
    account = buffer.account()
    assert account.balanced
    assert account.lost["odd"] == 1


def test_recording_from_a_signal_handler_never_deadlocks() -> None:
    buffer = Buffer(1000, 10)
    handled = 0

    def record(_: int, __: FrameType | None) -> None:
        nonlocal handled
        handled += 1
        buffer.append("{}")

    before = signal.signal(signal.SIGALRM, record)
    signal.setitimer(signal.ITIMER_REAL, 0.0002, 0.0002)
    own = 0
    try:
        while handled < 200:
            buffer.append("{}")
            own += 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert buffer.account().recorded == own + handled
