from __future__ import annotations

import threading

from fakes import Rig

from flagkit.events import Batch, Delivered, Retry, Sent


def test_flush_sends_everything_on_the_calling_thread() -> None:
    rig = Rig()
    rig.track(25)
    assert rig.delivery.flush(5) == 0
    assert rig.sizes == [10, 10, 5]


def test_flush_of_nothing_sends_nothing() -> None:
    rig = Rig()
    assert rig.delivery.flush(5) == 0
    assert rig.sizes == []


def test_flush_retries_within_its_time_and_says_how_many_are_left() -> None:
    rig = Rig(*[Retry("refused")] * 50)
    rig.track(15)
    start_s = rig.clock.monotonic_s()
    assert rig.delivery.flush(10) == 15
    assert rig.clock.monotonic_s() - start_s <= 10
    assert len(rig.sizes) == 3, "at 0, 2 and 6 seconds; the next would come too late"


def test_flush_gives_the_sink_no_more_time_than_it_has() -> None:
    rig = Rig()
    rig.track(1)
    rig.delivery.flush(3)
    rig.track(1)
    rig.delivery.flush(300)
    assert rig.sink.deadlines == [3, rig.config.deadline_s]


def test_flush_counts_the_wait_for_its_turn_as_time_spent() -> None:
    rig = Rig()
    rig.track(1)
    driving = rig.delivery._driving

    class Turn:
        """A lock that somebody else holds for two seconds."""

        def acquire(self, timeout: float) -> bool:
            rig.clock.advance(2)
            return driving.acquire(timeout=timeout)

        def release(self) -> None:
            driving.release()

    rig.delivery._locks["driving"] = Turn()  # type: ignore[assignment]
    assert rig.delivery.flush(3) == 0
    rig.track(1)
    assert rig.delivery.flush(1.5) == 1, "its turn came too late"
    assert rig.sink.deadlines == [1]


def test_flush_tries_once_although_a_retry_is_not_due_yet() -> None:
    rig = Rig(Retry("refused"))
    rig.track(10)
    rig.delivery.step()
    assert rig.delivery.flush(1) == 0


def test_flush_heeds_a_collector_that_asked_for_time() -> None:
    rig = Rig(Retry("http_503", 30.0), chance=0.0)
    rig.track(10)
    rig.delivery.step()
    assert rig.delivery.flush(10) == 10
    assert rig.sizes == [10]
    assert rig.delivery.flush(31) == 0


def test_flush_from_within_the_sink_returns_at_once() -> None:
    rig = Rig()
    answers = []

    def flushing(_: Batch) -> Sent:
        answers.append(rig.delivery.flush(60))
        return Delivered()

    rig.sink.script = [flushing]
    rig.track(10)
    rig.delivery.step()
    assert answers == [10]
    assert rig.sizes == [10]


def test_one_thread_at_a_time_drives_the_sink() -> None:
    rig = Rig()
    inside, go_on = threading.Event(), threading.Event()

    def slow(_: Batch) -> Sent:
        inside.set()
        assert go_on.wait(10)
        return Delivered()

    rig.sink.script = [slow]
    rig.track(10)
    stepping = threading.Thread(target=rig.delivery.step)
    stepping.start()
    assert inside.wait(10)
    assert rig.delivery.step() == 5, "the worker leaves it alone"
    assert rig.delivery.flush(0.01) == 10, "and so does a flush, for as long as it has"
    go_on.set()
    stepping.join()
    assert rig.sizes == [10]
    assert rig.buffer.account() == (10, 0, 10, {}, 0)


def test_close_flushes_and_refuses_what_comes_later() -> None:
    rig = Rig()
    rig.track(3)
    assert rig.delivery.close(5) == 0
    rig.track(2)
    assert rig.delivery.flush(5) == 0
    assert rig.delivery.step() == 5
    assert rig.sink.closed
    assert rig.buffer.account() == (5, 0, 3, {"closed": 2}, 0)


def test_close_with_a_dead_collector_returns_in_time_and_tells_what_is_left() -> None:
    rig = Rig(*[Retry("refused")] * 50)
    rig.track(3)
    assert rig.delivery.close(5) == 3
    assert rig.buffer.account() == (3, 0, 0, {}, 3)


def test_what_a_flush_delivered_ends_the_workers_long_pause() -> None:
    rig = Rig(Retry("http_401", lasting=True))
    rig.track(10)
    rig.delivery.step()
    assert rig.delivery.flush(1) == 0
    rig.track(1)
    rig.run(10)
    assert rig.sizes == [10, 10, 1]
