"""Any schedule of recording, sending and failing: every event is delivered, pending, or lost with a reason."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from fakes import Hopeless, Rig, ScriptedSink, decision, metric, picky
from hypothesis import given, settings
from hypothesis import strategies as st

from flagkit.events import Batch, Delivered, Rejected, Retry, Sent, TooLarge

OUTCOMES: list[Callable[[Rig], Any]] = [
    lambda _: Delivered(),
    lambda _: Delivered({"malformed": 1}),
    lambda _: Retry("http_503"),
    lambda _: Retry("http_503", 20.0),
    lambda _: Retry("http_401", lasting=True),
    lambda _: Rejected("full"),
    lambda _: Rejected("http_400", divisible=True),
    lambda _: TooLarge(),
    lambda _: OSError("broken"),
    lambda rig: lambda batch: rig.sink.store(batch) or Retry("deadline"),
]
ACTIONS = st.one_of(
    st.tuples(st.just("expose"), st.integers(1, 15)),
    st.tuples(st.just("track"), st.integers(1, 15)),
    st.tuples(st.just("hopeless"), st.integers(1, 3)),
    st.tuples(st.just("refuse"), st.integers(1, 3)),
    st.tuples(st.just("outcome"), st.integers(0, len(OUTCOMES) - 1)),
    st.tuples(st.just("run"), st.sampled_from([0, 1, 6, 70, 4000])),
    st.tuples(st.just("flush"), st.sampled_from([0, 1, 30])),
)


class Collector(ScriptedSink):
    """Knows a batch it has by its id, and then says so whatever it would have answered."""

    def send(self, batch: Batch, *, deadline_s: float) -> Sent:
        if batch.id in self._seen:
            self.batches.append(batch)
            return Delivered()
        return super().send(batch, deadline_s=deadline_s)


def act(rig: Rig, action: str, amount: int) -> int:
    """Do it; return how many events that recorded."""
    match action:
        case "expose":
            for _ in range(amount):
                rig.tracked += 1
                rig.exposures.record(decision(), b"%d" % rig.tracked)
            return amount
        case "track":
            rig.track(amount)
            return amount
        case "hopeless":
            for _ in range(amount):
                rig.buffer.append(Hopeless())  # type: ignore[arg-type]
            return amount
        case "refuse":
            for _ in range(amount):
                rig.buffer.refuse("invalid_context")
            return amount
        case "outcome":
            rig.sink.script.append(OUTCOMES[amount](rig))
        case "run":
            rig.run(amount)
        case "flush":
            rig.delivery.flush(amount)
    return 0


@settings(derandomize=True, max_examples=250, deadline=None)
@given(st.lists(ACTIONS, max_size=40), st.sampled_from([5, 20, 1000]))
def test_every_event_is_delivered_pending_or_lost_with_a_reason(schedule: list[tuple[str, int]], room: int) -> None:
    rig = Rig(max_pending=room, batch_size=7)
    rig.sink = Collector()
    rig.delivery._sink = rig.sink
    recorded = 0
    logging.getLogger("flagkit").disabled = True
    try:
        for action, amount in schedule:
            recorded += act(rig, action, amount)
            account = rig.buffer.account()
            assert account.balanced
            assert account.recorded == recorded
            assert account.pending <= room
        rig.sink.script.clear()
        rig.run(2000)
        rig.track(1)
        rig.run(10)
    finally:
        logging.getLogger("flagkit").disabled = False
    account = rig.buffer.account()
    assert account.recorded == recorded + 1
    assert account.pending == 0
    assert account.delivered == len(rig.sink.stored)
    assert rig.sink.dropped == account.lost, "every loss was told, once"


@settings(derandomize=True, max_examples=150, deadline=None)
@given(
    poison=st.sets(st.integers(0, 59), max_size=9),
    hopeless=st.sets(st.integers(0, 59), max_size=9),
    outages=st.sets(st.integers(0, 40), max_size=9),
    most_bytes=st.sampled_from([None, 40, 100, 300, 1000]),
    batch_size=st.integers(1, 30),
)
def test_whatever_a_collector_refuses_all_else_arrives_once_and_in_order(
    poison: set[int], hopeless: set[int], outages: set[int], most_bytes: int | None, batch_size: int
) -> None:
    answer = picky(*poison, most_bytes=most_bytes)
    rig = Rig(*[Retry("http_503") if number in outages else answer for number in range(500)], batch_size=batch_size)
    logging.getLogger("flagkit").disabled = True
    try:
        for number in range(60):
            rig.buffer.append(Hopeless() if number in hopeless else metric(number))  # type: ignore[arg-type]
        rig.run(2000)
    finally:
        logging.getLogger("flagkit").disabled = False
    tiny = most_bytes == 40
    good = [] if tiny else [number for number in range(60) if number not in poison | hopeless]
    assert [int(event, 16) for event in rig.sink.stored] == good
    account = rig.buffer.account()
    assert (account.recorded, account.delivered, account.pending) == (60, len(good), 0)
    refused = 60 - len(good) - len(hopeless)
    expected = {"unencodable": len(hopeless), "too_large" if tiny else "http_400": refused}
    assert account.lost == {reason: count for reason, count in expected.items() if count}
