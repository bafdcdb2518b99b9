"""What a collector refuses: the event at fault is found and lost alone, and everything else arrives once, in order."""

from __future__ import annotations

import gzip
import json
import math
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise

import pytest
from fakes import Hopeless, Rig, metric, picky
from loopback import Call, Loopback, serving

import flagkit
from flagkit.events import Rejected, Retry, TooLarge

DIVIDE = Rejected("http_400", divisible=True)


def refusing(*poison: int, most_bytes: int | None = None, **settings: object) -> Rig:
    return Rig(*[picky(*poison, most_bytes=most_bytes)] * 5000, **settings)


def arrived(rig: Rig) -> list[int]:
    return [int(event, 16) for event in rig.sink.stored]


# -- an event that spoils every batch it is in


@pytest.mark.parametrize("poison", [0, 41, 99])
def test_an_event_that_a_collector_refuses_is_lost_alone(poison: int) -> None:
    rig = refusing(poison, batch_size=100)
    rig.track(100)
    rig.run(0)
    assert rig.buffer.account() == (100, 0, 99, {"http_400": 1}, 0)
    assert arrived(rig) == [number for number in range(100) if number != poison]


@pytest.mark.parametrize("size", [2, 3, 4, 5, 7, 12, 31, 100])
def test_it_is_found_with_two_more_requests_for_each_halving_at_most(size: int) -> None:
    for poison in range(size):
        rig = refusing(poison, batch_size=size)
        rig.track(size)
        rig.run(0)
        assert rig.buffer.account().pending == 0
        assert len(rig.sink.batches) - 1 <= 2 * math.log2(size)


def test_every_smaller_batch_has_an_id_of_its_own() -> None:
    rig = refusing(7)
    rig.track(10)
    rig.run(0)
    assert rig.sizes == [10, 5, 2, 1, 1, 1]
    assert len({batch.id for batch in rig.sink.batches}) == 6


def test_several_bad_events_in_a_batch_are_found_one_by_one() -> None:
    rig = refusing(3, 4, 17, 50, 99, batch_size=100)
    rig.track(250)
    rig.run(30)
    assert rig.buffer.account() == (250, 0, 245, {"http_400": 5}, 0)
    assert len(arrived(rig)) == 245


def test_losses_are_told_once_though_the_batch_that_told_them_was_divided() -> None:
    rig = refusing(2, max_pending=10)
    rig.track(13)
    rig.run(0)
    assert rig.sizes[:4] == [10, 5, 2, 1], "the third is the first that arrives"
    assert [batch.dropped for batch in rig.sink.batches[:4]] == [{"overflow": 3}] * 3 + [{}]
    assert rig.sink.dropped == {"overflow": 3, "http_400": 1}


def test_a_smaller_batch_that_fails_is_sent_again_as_it_was() -> None:
    rig = Rig(DIVIDE, Retry("http_503"), Retry("deadline"))
    rig.track(10)
    rig.run(30)
    assert rig.sizes[:4] == [10, 5, 5, 5]
    assert rig.sink.batches[1] == rig.sink.batches[2] == rig.sink.batches[3]
    assert rig.buffer.account() == (10, 0, 10, {}, 0)


def test_events_that_cannot_be_encoded_do_not_hide_the_one_that_is_refused() -> None:
    rig = refusing(5)
    for number in range(10):
        rig.buffer.append(Hopeless() if number in (0, 1, 4, 6, 9) else metric(number))  # type: ignore[arg-type]
    rig.run(0)
    assert rig.buffer.account() == (10, 0, 4, {"unencodable": 5, "http_400": 1}, 0)
    assert arrived(rig) == [2, 3, 7, 8]


def test_events_that_cannot_be_encoded_cost_no_request() -> None:
    rig = refusing(9)
    for number in range(10):
        rig.buffer.append(Hopeless() if number < 8 else metric(number))  # type: ignore[arg-type]
    rig.run(0)
    assert rig.sizes == [2, 1, 1]
    assert rig.buffer.account() == (10, 0, 1, {"unencodable": 8, "http_400": 1}, 0)


def test_flush_finds_the_bad_event_too() -> None:
    rig = refusing(11)
    rig.track(25)
    assert rig.delivery.flush(5) == 0
    assert rig.clock.waits == []
    assert rig.buffer.account() == (25, 0, 24, {"http_400": 1}, 0)


def test_a_child_does_not_suspect_the_events_its_parent_did() -> None:
    rig = Rig(DIVIDE)
    rig.track(10)
    rig.delivery.step()
    rig.buffer.after_fork()
    rig.delivery.after_fork()
    rig.track(10)
    rig.run(0)
    assert rig.sizes == [10, 10]


def test_the_state_of_the_sink_speaks_of_losses_and_not_of_divided_batches() -> None:
    rig = refusing(0)
    rig.track(10)
    states = []
    for _ in range(5):
        rig.delivery.step()
        states.append(rig.delivery.state.state)
    assert rig.sizes == [10, 5, 2, 1, 1]
    assert states == ["starting", "starting", "starting", "rejected", "ok"]
    assert rig.delivery.state.last_error == "batch refused: http_400"


# -- a collector that refuses everything


@pytest.mark.parametrize("answer", [DIVIDE, TooLarge()])
def test_a_collector_that_refuses_everything_is_asked_rarely_and_costs_few_events(answer: object) -> None:
    rig = Rig(*[answer] * 100)
    rig.track(1000)
    rig.run(600)
    assert 50 <= len(rig.sizes) <= 65, "one event every ten to twelve seconds, once it is clear"
    assert set(rig.sizes[10:]) == {1}
    rig.sink.script.clear()
    rig.run(10)
    lost = sum(rig.buffer.account().lost.values())
    assert lost < 70
    assert arrived(rig) == list(range(lost, 1000))


# -- a collector that takes no large batches


def test_a_batch_that_is_too_large_arrives_in_smaller_ones() -> None:
    rig = refusing(most_bytes=1000, batch_size=100)
    rig.track(100)
    rig.run(0)
    assert rig.buffer.account() == (100, 0, 100, {}, 0)
    assert arrived(rig) == list(range(100))


def test_the_size_that_fits_is_remembered_and_tried_again_with_more_now_and_then() -> None:
    rig = refusing(most_bytes=16 * len(metric(0)), batch_size=100)
    rig.track(6000)
    rig.run(0)
    too_large = [index for index, size in enumerate(rig.sizes) if size > 16]
    assert too_large[:3] == [0, 1, 2]
    assert [rig.sizes[index] for index in too_large] == [100, 50, 25] + [17] * (len(too_large) - 3)
    assert min(after - before for before, after in pairwise(too_large[2:])) > 25
    assert arrived(rig) == list(range(6000))


def test_batches_grow_back_to_their_size_when_the_collector_takes_it() -> None:
    rig = Rig(TooLarge(), TooLarge(), TooLarge(), batch_size=100)
    rig.track(15_000)
    rig.run(0)
    assert rig.sizes[:4] == [100, 50, 25, 12]
    assert 60 <= rig.sizes.index(24) <= 80
    assert 100 in rig.sizes[3:]


def test_a_child_knows_the_size_its_parent_learned() -> None:
    rig = Rig(TooLarge())
    rig.track(10)
    rig.delivery.step()
    rig.buffer.after_fork()
    rig.delivery.after_fork()
    rig.track(10)
    rig.run(5)
    assert rig.sizes == [10, 5, 5]


def test_an_event_that_is_too_large_by_itself_is_lost_alone_and_makes_no_batch_small_for_long() -> None:
    rig = refusing(most_bytes=5000, batch_size=20)
    rig.track(7)
    rig.buffer.append(json.dumps({"id": "f" * 32, "type": "metric", "x": "x" * 6000}))
    rig.track(72)
    rig.run(0)
    assert rig.buffer.account() == (80, 0, 79, {"too_large": 1}, 0)
    assert arrived(rig) == list(range(79))
    assert max(rig.sizes[-3:]) == 20


# -- over the wire


@contextmanager
def collector(stored: list[str]) -> Iterator[Loopback]:
    """Answers 413 to more than 8 kB of JSON and 400 to a batch that is about user-57; stores all else as it comes."""

    def collect(call: Call) -> None:
        body = gzip.decompress(call.body)
        batch = json.loads(body)
        units = [event["feature_flag.context.id"] for event in batch["events"]]
        if len(body) > 8000:
            call.answer(413)
        elif "user-57" in units:
            call.answer(400, b"bad event")
        else:
            stored.extend(units)
            call.answer(202, json.dumps({"batch_id": batch["batch_id"], "accepted": len(units)}).encode())

    with serving(collect) as server:
        yield server


@contextmanager
def client(url: str) -> Iterator[flagkit.Client]:
    definitions = {"schema": 1, "flags": {"new-checkout": {"enabled": True}}}
    with flagkit.Client(source=flagkit.sources.Static(definitions), sink=flagkit.sinks.Http(url)) as ready:
        yield ready


def test_of_200_events_a_real_collector_gets_199_when_it_refuses_one() -> None:
    stored: list[str] = []
    with collector(stored) as server, client(server.url) as sender:
        for number in range(200):
            sender.track("paid", f"user-{number}", value=number)
        assert sender.flush(10) == 0
        assert sender.status.account == (200, 0, 199, {"http_400": 1}, 0)
    assert Counter(stored) == Counter(f"user-{number}" for number in range(200) if number != 57)
    assert {call.headers["idempotency-key"] for call in server.calls} == {
        json.loads(gzip.decompress(call.body))["batch_id"] for call in server.calls
    }


def test_of_200_events_a_real_collector_gets_all_though_it_takes_small_batches_only() -> None:
    stored: list[str] = []
    with collector(stored) as server, client(server.url) as sender:
        for number in range(1000, 1200):
            sender.track("paid", f"user-{number}", value=number)
        assert sender.flush(10) == 0
        assert sender.status.account == (200, 0, 200, {}, 0)
    assert stored == [f"user-{number}" for number in range(1000, 1200)]
    assert any(len(gzip.decompress(call.body)) > 8000 for call in server.calls)
