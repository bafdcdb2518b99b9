from __future__ import annotations

import json
import threading
from collections.abc import Callable

from fakes import WALL_MS, FakeClock, Rings, decision, in_threads

from flagkit.config import Config
from flagkit.decision import Decision
from flagkit.events import Exposure, ExposureEncoder
from flagkit.runtime.buffer import Buffer
from flagkit.runtime.exposures import Exposures


def exposures(clock: FakeClock | None = None, **settings: int) -> tuple[Exposures, Buffer]:
    config = Config(**settings)
    buffer = Buffer(config.max_pending, config.batch_size)
    encoder = ExposureEncoder(lambda: "test", config.exposure_window_s)
    return Exposures(config, clock or FakeClock(), buffer, encoder.constant), buffer


def waiting(buffer: Buffer) -> list[Exposure]:
    return [Exposure(*event) for event in buffer.head(1_000_000)]


def meet(exposures: Exposures, met: Decision, key: bytes) -> None:
    """What the evaluation path does."""
    assert met._exposed is not None
    if key not in met._exposed:
        exposures.record(met, key)


def test_a_unit_is_recorded_once_per_decision_and_window() -> None:
    recorder, buffer = exposures()
    on, off = decision(variant="on"), decision(variant="off")
    for _ in range(3):
        meet(recorder, on, b"anna")
        meet(recorder, on, b"bert")
        meet(recorder, off, b"anna")
    said = [
        (event.key, event.time_ms, json.loads("{" + event.text)["feature_flag.result.variant"])
        for event in waiting(buffer)
    ]
    assert said == [(b"anna", WALL_MS, "on"), (b"bert", WALL_MS, "on"), (b"anna", WALL_MS, "off")]


def test_windows_turn_at_the_same_wall_time_everywhere() -> None:
    clock = FakeClock(WALL_MS - WALL_MS % 3_600_000 + 3_599_000)  # a second before the hour
    recorder, buffer = exposures(clock)
    met = decision()
    meet(recorder, met, b"anna")
    clock.advance(0.5)
    recorder.turn()
    meet(recorder, met, b"anna")
    assert len(buffer) == 1
    clock.advance(1)
    recorder.turn()
    meet(recorder, met, b"anna")
    assert len(buffer) == 2


def test_a_new_unit_turns_the_window_even_if_the_delivery_thread_is_held_up() -> None:
    clock = FakeClock()
    recorder, buffer = exposures(clock)
    met = decision()
    meet(recorder, met, b"anna")
    clock.advance(3600)
    meet(recorder, met, b"bert")
    meet(recorder, met, b"anna")
    assert [event.key for event in waiting(buffer)] == [b"anna", b"bert", b"anna"]


def test_the_units_remembered_are_bounded_over_all_flags() -> None:
    recorder, buffer = exposures(max_exposed_units=100)
    flags = [decision(f"flag-{number}") for number in range(5)]
    for number in range(1000):
        meet(recorder, flags[number % 5], b"%d" % number)
        recorder.turn()
        assert sum(len(flag._exposed or ()) for flag in flags) <= 101
    assert len(buffer) == 1000


def test_units_that_a_parent_process_met_count_in_its_child() -> None:
    recorder, buffer = exposures(max_exposed_units=100)
    met = decision()
    for number in range(90):
        meet(recorder, met, b"%d" % number)
    buffer.after_fork()
    recorder.after_fork()
    for number in range(100, 200):
        meet(recorder, met, b"%d" % number)
        recorder.turn()
        assert len(met._exposed or ()) <= 101


def test_metric_events_do_not_count_as_remembered_units() -> None:
    recorder, buffer = exposures(max_exposed_units=100)
    met = decision()
    meet(recorder, met, b"anna")
    for _ in range(500):
        buffer.append("{}")
        recorder.turn()
    assert met._exposed == {b"anna"}


def test_a_unit_whose_event_was_lost_is_recorded_at_its_next_call() -> None:
    recorder, buffer = exposures(max_pending=1)
    met = decision()
    meet(recorder, met, b"anna")
    meet(recorder, met, b"bert")
    assert met._exposed == {b"anna"}
    buffer.settle(1, {})
    meet(recorder, met, b"bert")
    assert waiting(buffer)[0].key == b"bert"
    assert buffer.account() == (3, 0, 1, {"overflow": 1}, 1)


def test_the_consumer_is_looked_after_once_a_second() -> None:
    clock = FakeClock()
    recorder, buffer = exposures(clock)
    met = decision()
    meet(recorder, met, b"first")
    buffer.consumer = rings = Rings()
    for number in range(40):
        clock.advance(0.1)
        meet(recorder, met, b"%d" % number)
    assert rings.starts == 4


def test_a_wall_clock_set_back_a_day_stops_neither_windows_nor_the_looking_after() -> None:
    clock = FakeClock()
    recorder, buffer = exposures(clock)
    met = decision()
    meet(recorder, met, b"anna")
    clock.set_wall(WALL_MS - 86_400_000)
    recorder.turn()
    meet(recorder, met, b"anna")
    assert len(buffer) == 2
    buffer.consumer = rings = Rings()
    clock.advance(2)
    meet(recorder, met, b"bert")
    assert rings.starts == 1


class Interrupted(set[bytes]):
    """A set whose first ``add`` is followed by what another thread might do at that moment."""

    def __init__(self, meanwhile: Callable[[], None]) -> None:
        super().__init__()
        self.meanwhile: Callable[[], None] | None = meanwhile

    def add(self, key: bytes) -> None:
        super().add(key)
        meanwhile, self.meanwhile = self.meanwhile, None
        if meanwhile is not None:
            meanwhile()


def test_units_that_arrive_between_two_steps_of_each_other_are_forgotten_by_the_next_turn() -> None:
    clock = FakeClock()
    recorder, buffer = exposures(clock)
    met = decision()
    met._exposed = Interrupted(lambda: meet(recorder, met, b"bert"))
    meet(recorder, met, b"anna")
    clock.advance(3600)
    recorder.turn()
    assert met._exposed == set()
    assert len(buffer) == 2


def test_a_turn_between_two_steps_of_a_recording_leaves_no_unit_remembered_for_ever() -> None:
    clock = FakeClock()
    recorder, _ = exposures(clock)
    met = decision()

    def turn() -> None:
        clock.advance(3600)
        recorder.turn()

    met._exposed = Interrupted(turn)
    meet(recorder, met, b"anna")
    turn()
    assert met._exposed == set()


def test_decisions_of_replaced_definitions_are_let_go_when_the_window_turns() -> None:
    clock = FakeClock()
    recorder, _ = exposures(clock)
    meet(recorder, decision(), b"anna")
    clock.advance(3600)
    recorder.turn()
    assert recorder._touched == set()


def test_threads_that_race_for_a_unit_record_it_at_least_once_and_at_most_once_each() -> None:
    recorder, buffer = exposures(max_pending=1_000_000)
    flags = [decision(f"flag-{number}") for number in range(3)]

    def work(_: int) -> None:
        for number in range(3000):
            meet(recorder, flags[number % 3], b"%d" % number)

    in_threads(4, work)
    events = waiting(buffer)
    assert len({(event.identity, event.key) for event in events}) == 3000
    assert len(events) <= 12_000


def test_whoever_is_remembered_is_forgotten_by_the_next_turn_however_threads_race() -> None:
    clock = FakeClock()
    recorder, _ = exposures(clock, max_pending=1_000_000)
    flags = [decision(f"flag-{number}") for number in range(50)]
    done = threading.Event()

    def keep_turning() -> None:
        while not done.is_set():
            clock.advance(3600)
            recorder.turn()

    turning = threading.Thread(target=keep_turning)
    turning.start()

    def work(index: int) -> None:
        for number in range(4000):
            meet(recorder, flags[number % 50], b"%d-%d" % (index, number))

    in_threads(3, work)
    done.set()
    turning.join()
    clock.advance(3600)
    recorder.turn()
    assert all(not flag._exposed for flag in flags)
