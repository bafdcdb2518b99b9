from __future__ import annotations

import json
import logging
from typing import Any

import pytest
from fakes import WALL_MS, Hopeless, Rig, Rings, decision

from flagkit.events import Batch, Delivered, Rejected, Retry, Sent


def test_a_crowd_is_sent_at_once_in_batches_and_fewer_wait() -> None:
    rig = Rig()
    rig.track(25)
    rig.run(1)
    assert rig.sizes == [10, 10, 5]
    rig.track(9)
    rig.run(1)
    assert rig.buffer.account() == (34, 0, 25, {}, 9)


def test_every_crowd_wakes_the_worker_but_not_while_it_waits_for_the_collector() -> None:
    rig = Rig()
    rig.buffer.consumer = rings = Rings()
    for rounds in (1, 2, 3):
        rig.track(10)
        assert rings.wakes == rounds
        rig.run(0)
    rig.sink.script = [Retry("refused")]
    rig.track(10)
    rig.run(0)
    rig.track(200)
    rig.delivery.step()
    rig.track(200)
    assert rings.wakes == 5, "one more, which found that it is not time yet"
    rig.run(60)
    rig.track(10)
    assert rings.wakes == 6


def test_no_event_waits_longer_than_the_flush_interval() -> None:
    rig = Rig()
    rig.run(3)
    rig.track()
    rig.run(5)
    assert rig.sizes == [1]


def test_a_backlog_is_sent_batch_after_batch_without_waiting() -> None:
    rig = Rig()
    rig.track(95)
    rig.clock.advance(5)
    while not rig.delivery.step():
        pass
    assert rig.sizes == [10] * 9 + [5]


def test_an_exposure_arrives_with_its_unit_and_its_decision() -> None:
    rig = Rig()
    rig.exposures.record(decision(), "Zoë".encode())
    assert rig.delivery.flush(5) == 0
    (event,) = rig.sink.stored.values()
    assert event["feature_flag.context.id"] == "Zoë"
    assert event["feature_flag.key"] == "new-checkout"
    assert event["feature_flag.set.id"] == "test"
    assert event["time_ms"] == WALL_MS


def test_a_batch_is_sent_again_as_it_was_until_the_collector_has_it() -> None:
    rig = Rig(Retry("http_503"), ConnectionError(), Retry("deadline"))
    rig.track(10)
    rig.run(1)
    rig.track(10)
    rig.run(60)
    first = rig.sink.batches[0]
    assert rig.sink.batches[:4] == [first] * 4
    assert rig.buffer.account() == (20, 0, 20, {}, 0)
    assert len(rig.sink.stored) == 20


def test_an_answer_lost_on_its_way_stores_nothing_twice() -> None:
    rig = Rig()

    def stored_but_unheard(batch: Batch) -> Sent:
        rig.sink.store(batch)
        return Retry("deadline")

    rig.sink.script = [stored_but_unheard]
    rig.track(7)
    rig.run(20)
    assert len({batch.id for batch in rig.sink.batches}) == 1
    assert rig.buffer.account() == (7, 0, 7, {}, 0)
    assert len(rig.sink.stored) == 7


def test_retries_back_off_to_ten_seconds() -> None:
    rig = Rig(*[Retry("refused")] * 6, flush_interval_s=3600)
    rig.track(10)
    assert [rig.delivery.step() for _ in range(1)] == [2]
    pauses = []
    for _ in range(5):
        rig.clock.advance(rig.delivery.step())
        pauses.append(rig.delivery.step())
    assert pauses == [4, 8, 10, 12, 12]


@pytest.mark.parametrize("chance", [0.0, 0.5, 1.0])
def test_an_outage_that_lasts_is_met_with_six_requests_a_minute_and_made_up_for_soon(chance: float) -> None:
    rig = Rig(chance=chance, flush_interval_s=1)
    posts: list[float] = []

    def refused(_: Batch) -> Sent:
        posts.append(rig.clock.monotonic_s())
        return Retry("http_503")

    rig.sink.script = [refused] * 1000
    for _ in range(600):
        rig.track(2)
        rig.run(1)
    in_a_minute = [sum(at_s <= other_s < at_s + 60 for other_s in posts) for at_s in posts]
    assert in_a_minute[0] <= 10, "four at first, then six"
    assert max(in_a_minute[4:]) <= 6
    rig.sink.script = []
    rig.run(13)
    assert rig.buffer.account() == (1200, 0, 1200, {}, 0)


def test_a_wrong_key_slows_delivery_down_and_loses_nothing() -> None:
    rig = Rig(*[Retry("http_401", lasting=True)] * 2)
    rig.track(10)
    rig.run(59)
    assert rig.sizes == [10]
    assert rig.delivery.state.state == "auth_failed"
    rig.run(180)
    assert rig.buffer.account() == (10, 0, 10, {}, 0)
    assert rig.delivery.state.state == "ok"


def test_all_batches_wait_as_long_as_the_collector_asked() -> None:
    rig = Rig(Retry("http_429", 30.0), chance=0.0)
    rig.track(50)
    rig.run(29.9)
    assert rig.sizes == [10]
    rig.run(1)
    assert rig.sizes == [10] * 6


def test_losses_are_counted_by_reason_and_told_with_the_next_batch_that_arrives() -> None:
    rig = Rig(Retry("refused"), max_pending=10)
    rig.track(13)
    rig.run(30)
    assert rig.sink.dropped == {"overflow": 3}
    rig.track(12)
    rig.run(30)
    rig.run(30)
    assert rig.sink.dropped == {"overflow": 5}, "each loss once"
    assert rig.buffer.account() == (25, 0, 20, {"overflow": 5}, 0)


def test_a_refused_batch_is_lost_for_its_reason_and_its_report_is_not() -> None:
    rig = Rig(Rejected("http_400"), max_pending=10)
    rig.track(11)
    rig.run(10)
    assert rig.buffer.account() == (11, 0, 0, {"overflow": 1, "http_400": 10}, 0)
    assert rig.delivery.state.state == "rejected"
    rig.track(1)
    rig.run(10)
    assert rig.sink.dropped == {"overflow": 1, "http_400": 10}
    assert rig.delivery.state.state == "ok"


def test_events_a_collector_refuses_one_by_one_are_lost_for_its_reasons() -> None:
    rig = Rig(Delivered({"malformed": 2, "too_old": 1}))
    rig.track(10)
    rig.run(1)
    assert rig.buffer.account() == (10, 0, 7, {"malformed": 2, "too_old": 1}, 0)


@pytest.mark.parametrize("answer", [Delivered({"odd": 99}), Delivered({"a": 7, "b": 7}), Delivered({"negative": -4})])
def test_the_account_balances_whatever_a_collector_claims(answer: Sent) -> None:
    rig = Rig(answer)
    rig.track(10)
    rig.run(1)
    account = rig.buffer.account()
    assert account.balanced
    assert account.pending == 0
    assert account.delivered + sum(account.lost.values()) == 10


def test_an_event_that_cannot_be_encoded_costs_itself_only_and_is_heard_of(caplog: pytest.LogCaptureFixture) -> None:
    rig = Rig()
    rig.track(4)
    rig.buffer.append(Hopeless())  # type: ignore[arg-type]
    rig.buffer.append((decision(), b"\xff", WALL_MS))  # type: ignore[arg-type]
    rig.track(4)
    rig.run(1)
    assert rig.buffer.account() == (10, 0, 8, {"unencodable": 2}, 0)
    assert [record.getMessage() for record in caplog.records] == ["events: unencodable: TypeError"]


def test_an_event_over_the_limit_costs_itself_only() -> None:
    rig = Rig(max_event_bytes=256)
    rig.track(4)
    rig.buffer.append('"' + "x" * 255 + '"')
    rig.track(5)
    rig.run(1)
    assert rig.buffer.account() == (10, 0, 9, {"too_large": 1}, 0)


def test_nothing_is_sent_when_no_event_of_a_batch_can_be() -> None:
    rig = Rig()
    for _ in range(10):
        rig.buffer.append(Hopeless())  # type: ignore[arg-type]
    rig.track(1)
    rig.run(10)
    assert rig.sizes == [1]
    assert rig.buffer.account() == (11, 0, 1, {"unencodable": 10}, 0)


def test_large_events_make_small_batches() -> None:
    rig = Rig(max_event_bytes=300_000)
    for number in range(10):
        rig.buffer.append(json.dumps({"id": str(number), "x": "x" * 200_000}))
    rig.run(10)
    assert rig.sizes == [2] * 5
    assert rig.buffer.account() == (10, 0, 10, {}, 0)


@pytest.mark.parametrize(
    "fault", [ZeroDivisionError("secret"), lambda _: None, lambda _: "delivered", lambda _: Retry("x", "soon")]
)
def test_a_sink_that_raises_or_answers_nonsense_is_contained_and_asked_again(
    fault: Any, caplog: pytest.LogCaptureFixture
) -> None:
    rig = Rig(fault)
    rig.track(10)
    with caplog.at_level(logging.INFO, "flagkit"):
        rig.run(30)
    assert rig.buffer.account() == (10, 0, 10, {}, 0)
    assert len({batch.id for batch in rig.sink.batches}) == 1
    assert (rig.delivery.state.last_error or "").startswith("sink_error: ")
    assert "secret" not in (rig.delivery.state.last_error or "")
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]


def test_a_child_forgets_the_batch_its_parent_was_sending() -> None:
    rig = Rig(Retry("refused"))
    rig.track(10)
    rig.delivery.step()
    parents = rig.sink.batches[0].id
    rig.buffer.after_fork()
    rig.exposures.after_fork()
    rig.delivery.after_fork()
    rig.track(1)
    assert rig.delivery.flush(5) == 0
    assert rig.sizes == [10, 1]
    assert rig.sink.batches[1].id != parents
    assert rig.buffer.account() == (1, 0, 1, {}, 0)


def test_a_new_window_is_noticed_during_an_outage() -> None:
    rig = Rig(*[Retry("http_404", lasting=True)] * 50)
    met = decision()
    rig.exposures.record(met, b"anna")
    rig.run(3600)
    assert met._exposed == set()
