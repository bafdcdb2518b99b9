"""A disk that fails: events are delivered from memory meanwhile, and it is used again as soon as it works."""

from __future__ import annotations

import errno

import pytest
from folders import Failing, MemoryFolder
from spools import World, numbers

from flagkit.events import Delivered, Retry, TooLarge

HUNG = [Retry("deadline")] * 10_000


@pytest.mark.parametrize("step", ["write", "create", "sync", "open", "list", "lock", "sync_folder"])
def test_while_the_disk_fails_events_are_delivered_from_memory_and_it_comes_back(
    step: str, caplog: pytest.LogCaptureFixture
) -> None:
    world = World()
    process = world.process()
    process.track(5)
    process.run(6)
    world.disk.faults = failing = Failing(step)
    for _ in range(20):
        process.track(10)
        process.run(7)
        world.clock.advance(60)
    assert process.account == (205, 0, 205, {}, 0)
    assert numbers(world) == list(range(205))
    assert process.spooler.disk == ("failing" if step not in ("open", "lock") else "ok")
    failing.on = False
    process.run(30)
    process.track(5)
    process.write()
    assert len(process.buffer) == 0
    assert process.spooler.disk == "ok"
    process.run(10)
    assert process.account == (210, 0, 210, {}, 0)
    assert len(caplog.records) <= 30


def test_a_disk_that_never_works_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    world = World()
    world.disk.faults = Failing(code=errno.EROFS)
    process = world.process()
    process.track(25)
    process.run(100)
    assert process.account == (25, 0, 25, {}, 0)
    assert process.spooler.disk == "off"
    assert len(caplog.records) == 1


def test_events_on_their_way_from_memory_go_to_the_disk_when_it_works_again() -> None:
    world = World(*HUNG)
    first = world.process()
    world.disk.faults = failing = Failing("write")
    first.track(25)
    first.run(20)
    assert world.sink.batches
    failing.on = False
    first.run(11)
    assert first.account == (25, 0, 0, {}, 25)
    first.kill()
    world.sink.script.clear()
    second = world.process()
    second.run(1)
    assert numbers(world) == list(range(25))


def test_events_on_their_way_from_memory_that_arrive_later_are_not_sent_again() -> None:
    world = World(*HUNG)
    process = world.process()
    world.disk.faults = failing = Failing("write")
    process.track(25)
    process.run(20)
    failing.on = False
    process.run(11)
    world.sink.script.clear()
    world.sink.batches.clear()
    process.run(20)
    assert process.sizes == [10, 10, 5]
    assert process.account == (25, 0, 25, {}, 0)
    process.kill()
    again = world.process()
    again.run(10)
    assert again.account == (0, 0, 0, {}, 0)


def test_after_a_failed_sync_a_new_segment_begins() -> None:
    world = World(*HUNG)
    process = world.process()
    process.track(3)
    process.run(2)
    process.track(3)
    process.write()
    world.disk.faults = failing = Failing("sync", code=errno.EIO)
    process.run(2)
    failing.on = False
    process.run(20)
    process.track(3)
    process.run(2)
    assert [name for name in world.files() if name.endswith(".seg")] == ["000001.seg", "000002.seg"]
    world.sink.script.clear()
    process.run(20)
    account = process.account
    assert (account.pending, account.delivered) == (0, 6)
    assert account.lost == {"damaged": 3}, "the disk dropped them"


def test_after_a_failed_sync_events_stay_in_memory_until_one_has_worked() -> None:
    world = World(*HUNG)
    process = world.process()
    world.disk.faults = failing = Failing("sync", code=errno.EIO)
    process.track(3)
    process.run(2)
    for _ in range(5):
        process.track(1)
        process.run(60)
    failing.on = False
    world.sink.script.clear()
    process.run(20)
    assert process.account == (8, 0, 5, {"damaged": 3}, 0)


def test_a_full_disk_is_not_littered_with_empty_files() -> None:
    world = World(*HUNG)
    process = world.process()
    process.track(3)
    process.write()
    world.disk.faults = Failing("write")
    process.track(3)
    process.run(600)
    assert [name for name in world.files() if name.endswith(".seg")] == ["000001.seg"]


def test_a_disk_that_cannot_be_read_for_a_moment_costs_nothing() -> None:
    world = World()
    process = world.process()
    process.track(10)
    process.write()
    world.disk.faults = failing = Failing("read", code=errno.EMFILE)
    process.run(30)
    assert process.account == (10, 0, 0, {}, 10)
    failing.on = False
    process.run(2)
    assert process.account == (10, 0, 10, {}, 0)


def test_flush_does_not_hammer_a_disk_that_cannot_be_read() -> None:
    world = World()
    process = world.process()
    process.track(10)
    process.write()
    world.disk.faults = Failing("read", code=errno.EMFILE)
    assert process.delivery.flush(10) == 10
    assert world.disk.count("read") <= 25


def test_what_is_settled_and_cannot_be_removed_is_not_sent_again() -> None:
    world = World(*HUNG)
    process = world.process()
    process.track(20)
    process.run(70)
    world.disk.faults = failing = Failing("remove", code=errno.EPERM)
    world.sink.script.clear()
    process.run(100)
    assert process.account.pending == process.close() == 0
    failing.on = False
    process.kill()
    again = world.process()
    again.run(10)
    assert again.account == (0, 0, 0, {}, 0)
    assert world.homes() == []


def test_a_folder_that_disappears_is_replaced() -> None:
    world = World()
    process = world.process()
    process.track(10)
    process.run(6)
    MemoryFolder(world.disk).remove_folder("sinks")
    process.track(10)
    process.run(0.1)
    process.track(10)
    process.run(30)
    account = process.account
    assert account.balanced
    assert account.pending == 0
    assert account.delivered >= 20
    assert process.spooler.disk == "ok"


def test_what_was_lent_and_delivered_in_part_is_found_where_it_landed() -> None:
    world = World(TooLarge(), Delivered(), *[Retry("deadline")] * 4)
    first = world.process(batch_size=4)
    world.disk.faults = failing = Failing("write")
    first.track(4)
    first.run(6)  # four are lent, two delivered
    failing.on = False
    first.run(11)  # the other two land
    first.track(4)
    first.run(0.1)
    world.sink.script[:] = [Delivered(), Delivered(), *[Retry("deadline")] * 100]
    first.run(20)
    first.kill()
    world.sink.script.clear()
    second = world.process()
    second.run(20)
    assert numbers(world) == list(range(8))
