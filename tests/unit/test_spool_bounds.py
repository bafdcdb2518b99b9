"""What a spool does not keep: what it has no room for, what is too old, and what the collector refuses."""

from __future__ import annotations

import json

from fakes import WALL_MS, metric
from spools import World, numbers

from flagkit.events import Delivered, Rejected, Retry

HUNG = [Retry("deadline")] * 10_000


def test_when_it_is_full_new_events_are_refused_and_counted() -> None:
    world = World(*HUNG)
    process = world.process(max_spool_bytes=64 * 1024)
    for _ in range(100):
        process.track(20)
        process.run(0.1)
    account = process.account
    assert account.balanced
    assert set(account.lost) == {"spool_full"}
    assert world.used() <= 64 * 1024 + 4096
    world.sink.script.clear()
    process.run(60)
    assert process.account.pending == 0
    assert numbers(world) == list(range(account.pending)), "the first are kept"
    assert world.sink.dropped == {"spool_full": account.lost["spool_full"]}
    process.track(10)
    process.run(10)
    assert process.account.lost == account.lost, "and then it takes more"


def test_it_takes_events_again_soon_after_a_burst_that_filled_it_was_delivered() -> None:
    world = World(*HUNG)
    process = world.process(max_spool_bytes=64 * 1024)
    for number in range(300):
        process.buffer.append(json.dumps({"id": f"{number:032x}", "x": "x" * 250}))
    process.write()
    assert list(world.files()) == ["000001.seg"]
    process.track(1)
    assert process.account.lost == {"spool_full": 1}
    world.sink.script.clear()
    process.run(10)
    process.track(1)
    process.run(10)
    assert process.account == (302, 0, 301, {"spool_full": 1}, 0)


def test_what_did_not_fit_is_not_kept_waiting_by_a_segment_that_is_sent_and_still_open() -> None:
    world = World(*HUNG)
    process = world.process(max_spool_bytes=64 * 1024, batch_size=100)
    for number in range(1000):
        process.buffer.append(json.dumps({"id": f"{number:032x}", "x": "x" * 250}))
    process.write()
    world.sink.script.clear()
    process.run(20)
    assert process.account == (1000, 0, 1000, {}, 0)
    assert numbers(world) == list(range(1000))


def test_the_bound_is_one_for_all_processes() -> None:
    world = World(*HUNG)
    processes = [world.process(max_spool_bytes=64 * 1024) for _ in range(4)]
    for _ in range(300):
        for process in processes:
            process.track(5)
            process.write()
        world.clock.advance(0.1)
    assert world.used() <= 64 * 1024 + 4 * 8 * 1024
    assert all(process.account.balanced and process.account.lost["spool_full"] for process in processes)


def test_a_backlog_over_the_bound_is_kept_and_new_events_are_refused() -> None:
    world = World(*HUNG)
    first = world.process(max_pending=100_000)
    first.track(3000)
    first.write()
    first.kill()
    second = world.process(max_spool_bytes=64 * 1024)
    second.track(1)
    second.write()
    second.track(5)
    second.write()
    assert second.account.lost == {"spool_full": 5}
    world.sink.script.clear()
    second.run(30)
    assert second.account.delivered == 3001


def test_events_that_are_too_old_are_lost_and_counted() -> None:
    world = World(*HUNG)
    process = world.process(max_spool_age_s=3600)
    process.track(20)
    process.run(100)
    process.track(20)
    process.run(100)
    process.track(5)
    process.run(3570)
    account = process.account
    assert account.balanced
    assert account.lost == {"expired": 20}, "the first segment may be on its way"
    world.sink.script.clear()
    process.run(20)
    assert process.account.lost == {"expired": 30}
    assert process.account.delivered == 15


def test_what_the_dead_left_too_long_ago_is_lost_and_counted() -> None:
    world = World(*HUNG)
    first = world.process()
    first.track(20)
    first.write()
    first.kill()
    world.clock.advance(8 * 86_400)
    world.sink.script.clear()
    second = world.process()
    second.run(10)
    assert second.account == (0, 20, 0, {"expired": 20}, 0)
    assert world.homes() == []


def test_a_wall_clock_that_jumps_makes_no_event_of_ours_old() -> None:
    world = World(*HUNG)
    process = world.process()
    process.track(20)
    process.run(100)
    world.clock.set_wall(WALL_MS + 10**12)
    process.run(200)
    world.sink.script.clear()
    process.run(20)
    assert process.account == (20, 0, 20, {}, 0)


# -- what a collector refuses


def test_what_a_collector_refuses_is_kept_and_never_sent() -> None:
    def picky(batch: object) -> object:
        return Rejected("http_400", divisible=True) if metric(7) in batch.events else Delivered()  # type: ignore[attr-defined]

    world = World(*[picky] * 50)
    process = world.process()
    process.track(20)
    process.run(10)
    assert process.account == (20, 0, 19, {"http_400": 1}, 0)
    ((name, kept),) = world.dead().items()
    assert name.endswith(".jsonl")
    assert json.loads(kept) == {"reason": "http_400", "event": json.loads(metric(7))}
    process.close()
    again = world.process()
    again.run(100)
    assert again.account == (0, 0, 0, {}, 0)


def test_what_is_kept_of_refused_events_is_bounded() -> None:
    world = World(*[Rejected("full")] * 10_000)
    process = world.process(max_pending=100_000, batch_size=1000)
    process.track(30_000)
    process.run(400)
    assert process.account.lost == {"full": 30_000}
    assert 1024 * 1024 - 1000 < sum(map(len, world.dead().values())) <= 1024 * 1024


def test_every_smaller_batch_has_an_id_that_follows_from_its_range() -> None:
    world = World(*[Rejected("http_400", divisible=True)] * 2, *HUNG)
    first = world.process()
    first.track(20)
    first.run(1)
    assert first.sizes[:3] == [10, 5, 2]
    first.kill()
    sent = world.sink.batches[-1]
    world.sink.script.clear()
    second = world.process()
    second.run(1)
    assert world.sink.batches[-2].id != sent.id
    assert next(batch for batch in reversed(world.sink.batches) if batch.events == sent.events).id == sent.id


def test_a_batch_the_collector_may_know_reports_no_losses() -> None:
    world = World(*HUNG)
    first = world.process()
    first.track(5)
    first.run(6)
    first.kill()
    second = world.process()
    second.buffer.refuse("too_large")
    second.track(5)
    world.sink.script.clear()
    second.run(10)
    known, fresh = world.sink.batches[-2:]
    assert (known.dropped, fresh.dropped) == ({}, {"too_large": 1})
