from __future__ import annotations

import pytest
from fakes import WALL_MS, Hopeless, decision
from spools import World, numbers

from flagkit.events import Delivered, Retry

HUNG = [Retry("deadline")] * 10_000


def test_what_is_recorded_is_on_disk_after_a_round_and_sent_from_there() -> None:
    world = World()
    process = world.process()
    process.track(25)
    process.write()
    assert len(process.buffer) == 0
    assert list(world.files()) == ["000001.seg"]
    assert process.account == (25, 0, 0, {}, 25)
    process.run(6)
    assert process.sizes == [10, 10, 5]
    assert numbers(world) == list(range(25))
    assert process.account == (25, 0, 25, {}, 0)


def test_killed_with_a_hung_collector_it_loses_nothing() -> None:
    world = World(*HUNG)
    first = world.process()
    first.track(500)
    first.run(1.5)
    first.kill()
    world.sink.script.clear()
    second = world.process()
    second.run(1)
    assert numbers(world) == list(range(500))
    assert second.account == (0, 500, 500, {}, 0)
    assert world.homes() == []


def test_a_batch_is_the_same_after_a_restart() -> None:
    world = World(*HUNG)
    first = world.process(batch_size=7)
    first.track(12)
    first.run(1)
    first.kill()
    sent = world.sink.batches[-1]
    assert len(sent.events) == 7
    world.sink.script.clear()
    second = world.process()
    second.run(1)
    again = world.sink.batches[len(world.sink.batches) - 2]
    assert (again.id, again.events) == (sent.id, sent.events)
    assert second.account.delivered == 12


def test_what_the_collector_has_is_not_sent_again() -> None:
    world = World(Delivered(), Delivered(), *HUNG)
    first = world.process()
    first.track(35)
    first.run(6)
    assert first.account.delivered == 20
    first.kill()
    world.sink.script.clear()
    world.sink.batches.clear()
    second = world.process()
    second.run(6)
    assert second.sizes == [10, 5]
    assert second.account == (0, 15, 15, {}, 0)


def test_close_leaves_what_it_could_not_send_for_the_next() -> None:
    world = World(*HUNG)
    first = world.process()
    first.track(1000)
    assert first.close(2) == 1000
    first.track(1)
    assert first.account == (1001, 0, 0, {"closed": 1}, 1000)
    world.sink.script.clear()
    second = world.process()
    second.run(1)
    assert numbers(world) == list(range(1000))


def test_close_leaves_nothing_behind_when_all_is_sent() -> None:
    world = World()
    process = world.process()
    process.track(15)
    assert process.close() == 0
    assert world.homes() == []
    assert numbers(world) == list(range(15))


def test_exposures_are_encoded_when_they_are_written() -> None:
    world = World()
    process = world.process()
    process.exposures.record(decision(), "Zoë".encode())
    process.write()
    assert b"Zo\\u00eb" in world.files()["000001.seg"]
    assert process.delivery.flush(5) == 0
    (event,) = world.sink.stored.values()
    assert (event["feature_flag.context.id"], event["time_ms"]) == ("Zoë", WALL_MS)


def test_what_cannot_be_written_costs_itself_only(caplog: pytest.LogCaptureFixture) -> None:
    world = World()
    process = world.process(max_event_bytes=256)
    process.track(3)
    process.buffer.append(Hopeless())  # type: ignore[arg-type]
    process.buffer.append('"' + "x" * 300 + '"')
    process.buffer.append('"é"')
    process.track(3)
    process.write()
    assert process.account == (9, 0, 0, {"unencodable": 2, "too_large": 1}, 6)
    process.run(6)
    assert numbers(world) == list(range(6))
    assert [record.getMessage() for record in caplog.records] == ["events: unencodable: TypeError"]


def test_flush_writes_and_sends_on_the_calling_thread() -> None:
    world = World()
    process = world.process()
    process.track(25)
    assert process.delivery.flush(5) == 0
    assert process.sizes == [10, 10, 5]


def test_flush_sends_what_the_dead_left_too() -> None:
    world = World(*HUNG)
    first = world.process()
    first.track(30)
    first.write()
    first.kill()
    second = world.process()
    second.track(5)
    second.write()
    assert second.delivery.flush(1) == 35, "the dead's are counted once they are looked into"
    world.sink.script.clear()
    assert second.delivery.flush(5) == 0
    assert numbers(world) == list(range(35))


def test_two_that_live_never_take_each_others() -> None:
    world = World(*HUNG)
    processes = [world.process() for _ in range(3)]
    for process in processes:
        process.track(20)
        process.write()
    world.sink.script.clear()
    world.clock.advance(120)
    for process in processes:
        process.run(120)
        assert process.account == (20, 0, 20, {}, 0)
    assert len(world.sink.batches) == 6


def test_two_that_look_for_the_dead_share_them() -> None:
    world = World(*HUNG)
    for _ in range(3):
        process = world.process()
        process.track(10)
        process.write()
        process.kill()
        world.clock.advance(1)
    world.sink.script.clear()
    heirs = [world.process(), world.process()]
    for heir in heirs:
        heir.run(1)
    assert sorted(heir.account.adopted for heir in heirs) == [0, 30]
    assert numbers(world) == list(range(30)), "the oldest first"


def test_what_somebody_leaves_is_found_by_one_that_runs_already() -> None:
    world = World(*HUNG)
    first, second = world.process(), world.process()
    second.track(1)
    second.run(1)
    first.track(10)
    first.write()
    first.kill()
    world.sink.script.clear()
    second.run(75)
    assert second.account == (1, 10, 11, {}, 0)


def test_a_process_that_leaves_many_folders_is_taken_in_by_and_by() -> None:
    world = World(*HUNG)
    for _ in range(40):
        process = world.process()
        process.track(1)
        process.write()
        process.kill()
    world.sink.script.clear()
    heir = world.process()
    heir.run(3)
    assert heir.account == (0, 40, 40, {}, 0)
    assert world.homes() == []


def test_a_long_segment_is_followed_by_another_and_removed_when_it_is_settled() -> None:
    world = World(*HUNG)
    process = world.process(max_pending=100_000)
    process.track(40_000)
    process.write()
    assert list(world.files()) == ["000001.seg", "000002.seg", "000003.seg"]
    assert all(1024 * 1024 <= len(data) < 1536 * 1024 for name, data in world.files().items() if name < "000003.seg")
    world.sink.script.clear()
    process.run(30)
    assert process.account.delivered == 40_000
    assert list(world.files()) in ([], ["000003.ack", "000003.seg"])
    process.run(60)
    assert world.files() == {}


def test_a_segment_lasts_a_minute() -> None:
    world = World(*HUNG)
    process = world.process()
    for _ in range(3):
        process.track(1)
        process.run(61)
    assert [name for name in world.files() if name.endswith(".seg")] == ["000001.seg", "000002.seg", "000003.seg"]


def test_it_is_synced_every_second_or_hundred_events() -> None:
    world = World(*HUNG)
    process = world.process()
    process.track(1)
    process.write()
    assert world.disk.count("sync") == 0
    process.run(1.1)
    assert world.disk.count("sync") == 1
    process.track(99)
    process.write()
    assert world.disk.count("sync") == 1
    process.track(1)
    process.write()
    assert world.disk.count("sync") == 2


def test_a_power_loss_costs_no_more_than_the_last_second() -> None:
    world = World(*HUNG)
    first = world.process()
    first.track(30)
    first.run(1.2)
    first.track(20)
    first.write()
    world.disk.crash()
    world.sink.script.clear()
    second = world.process()
    second.run(1)
    assert numbers(world) == list(range(30))


def test_an_idle_process_sleeps_until_there_is_an_event() -> None:
    class Rung:
        def __init__(self) -> None:
            self.starts = self.wakes = 0

        def start(self) -> None:
            self.starts += 1

        def wake(self) -> None:
            self.wakes += 1

    world = World()
    process = world.process()
    process.spooler.writer, process.spooler.sender = writer, sender = Rung(), Rung()
    process.buffer.consumer = process.spooler
    assert process.write() > 50
    process.track(1)
    assert (writer.wakes, sender.starts) == (1, 1)
    process.track(1)
    assert process.write() == 0.05
    process.track(1)
    assert writer.wakes == 1, "it comes by itself"
    assert process.write() == 0.05
    assert process.write() <= 1
    process.track(20)
    process.write()
    assert sender.wakes == 1, "there is a batch to send"


def test_a_backlog_is_looked_into_a_segment_at_a_time() -> None:
    world = World(*HUNG)
    first = world.process(max_pending=100_000)
    first.track(40_000)
    first.write()
    first.kill()
    world.disk.steps.clear()
    second = world.process()
    second.write()
    assert world.disk.count("read") == 0
    assert second.account.adopted == 0
    second.delivery.step()
    assert 0 < second.account.adopted < 20_000
    assert second.account.balanced


@pytest.mark.parametrize("outage", [Retry("refused"), Retry("http_503"), Retry("http_503", 3.0), OSError("reset")])
def test_an_outage_of_a_minute_loses_nothing_and_is_made_up_for_soon(outage: object) -> None:
    world = World(*[outage] * 10_000)
    process = world.process(flush_interval_s=1, batch_size=100, max_pending=500)
    for _ in range(1200):
        process.track(1)
        process.run(0.05)
    world.sink.script.clear()
    process.run(15)
    assert numbers(world) == list(range(1200))
    assert process.account == (1200, 0, 1200, {}, 0)


def test_memory_holds_a_batch_or_two_whatever_waits_on_disk() -> None:
    world = World(*HUNG)
    process = world.process(max_pending=10_000)
    for _ in range(20):
        process.track(2500)
        process.run(0.1)
    process.run(10)
    assert process.account.pending == 50_000
    assert sum(len(segment.texts()) for segment in process.spooler.own) < 2500


# -- forks


def test_a_child_starts_with_nothing_and_a_folder_of_its_own() -> None:
    world = World(*HUNG)
    process = world.process()
    process.track(10)
    process.run(1)
    for part in (process.buffer, process.exposures, process.delivery, process.spool):
        part.after_fork()  # type: ignore[attr-defined]
    assert process.account == (0, 0, 0, {}, 0)
    world.sink.script.clear()
    process.track(10)
    process.run(10)
    assert process.account == (10, 0, 10, {}, 0)
    assert len(world.homes()) == 2


def test_a_fork_that_nobody_told_it_of_is_noticed_before_anything_is_written() -> None:
    world = World(*HUNG)
    process = world.process()
    process.track(5)
    process.write()
    process.spooler._pid -= 1
    process.track(5)
    process.write()
    assert len(world.homes()) == 2
    assert [len(home.read("000001.seg")) for home in world.homes()] == [len(world.files()["000001.seg"])] * 2


def test_a_process_that_records_nothing_leaves_the_disk_alone() -> None:
    world = World(*HUNG)
    first = world.process()
    first.track(5)
    first.write()
    first.kill()
    world.disk.steps.clear()
    assert world.process().close() == 0
    assert world.disk.steps == []
