"""What gates have counted goes to the service as one summary a flush, flag and variant, and adds up there."""

from __future__ import annotations

import contextlib
import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from documents import HALF, ON, StillClock
from server_events import HOUR_MS, NOW_MS, batch, metric

from flagkit import Client, Config, sinks, sources
from flagkit.production.metrics import Meter, Sums
from flagkit.runtime.summaries import CALLS, Summaries
from flagkit.server import calls
from flagkit.server.calls import NAME
from flagkit.server.intake import read_batch
from flagkit.server.store import Store
from flagkit.server.summary import Question, summarise

Make = Callable[..., Client]


class Taking(sinks.Memory):
    """As the service: it wants what gates have counted."""

    takes_calls = True

    @property
    def summaries(self) -> list[dict[str, Any]]:
        return [event for event in self.events if event.get("name") == CALLS]


@pytest.fixture
def taking() -> Taking:
    return Taking()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(tmp_path / "flagkit.db", lambda: NOW_MS)
    store.open()
    yield store
    store.close()


def run(client: Client, flag: str = "on", *, times: int = 1, error: Exception | None = None) -> None:
    for number in range(times):
        with contextlib.suppress(Exception), client.gate(flag, f"user-{number}") as gate:
            gate.on
            if error is not None:
                raise error


def counted(sums: Sums, flag: str = "f", variant: str = "on", time_ms: int = NOW_MS) -> dict[str, Any]:
    names = {"feature_flag.key": flag, "feature_flag.result.variant": variant}
    return metric(NAME, None, time_ms, properties={**names, **sums.to_json()})


# -- from the client


def test_a_flush_sends_one_summary_a_flag_and_variant_however_many_calls(make: Make, taking: Taking) -> None:
    client = make({"f": ON, "g": ON}, sink=taking)
    run(client, "f", times=50)
    run(client, "g", times=3)
    run(client, "f", error=ValueError("of user ann@example.com"))
    client.flush()
    first, second = sorted(taking.summaries, key=lambda event: event["properties"]["feature_flag.key"])
    assert first["feature_flag.context.id"] is None
    properties = first["properties"]
    assert (properties["feature_flag.key"], properties["feature_flag.result.variant"]) == ("f", "on")
    assert (properties["errors"], sum(properties["buckets"].values())) == ({"ValueError": 1}, 50)
    assert sum(second["properties"]["buckets"].values()) == 3


def test_an_event_has_an_exception_s_type_and_place_and_never_its_message(make: Make, taking: Taking) -> None:
    client = make({"f": ON}, sink=taking)
    run(client, "f", error=ValueError("of user ann@example.com"))
    client.flush()
    (event,) = taking.summaries
    place = event["properties"]["places"]["ValueError"]
    assert place.startswith("unit/test_summaries.py:")
    assert "ann@example.com" not in json.dumps(event)
    assert client.status.variants[0].places == {"ValueError": place}


def test_nothing_is_sent_when_nothing_happened(make: Make, taking: Taking) -> None:
    client = make({"f": ON}, sink=taking)
    client.flush()
    run(client, "f")
    client.flush()
    assert len(taking.summaries) == 1
    client.flush()
    client.peek("f", "user-1")
    client.flush()
    assert len(taking.summaries) == 1


def test_a_summary_has_what_came_since_the_last_one(make: Make, taking: Taking) -> None:
    client = make({"f": ON}, sink=taking)
    for times in (4, 2, 7):
        run(client, "f", times=times)
        client.flush()
    assert [sum(event["properties"]["buckets"].values()) for event in taking.summaries] == [4, 2, 7]
    assert client.status.variants[0].calls == 13


def test_the_last_one_goes_with_a_close(make: Make, taking: Taking) -> None:
    client = make({"f": ON}, sink=taking)
    run(client, "f", times=5)
    assert client.close() == 0
    assert len(taking.summaries) == 1


def test_calls_of_a_guarded_flag_are_in_it(make: Make, taking: Taking) -> None:
    client = make({"f": {**HALF, "guard": {}}}, sink=taking)
    run(client, "f", times=40)
    client.flush()
    assert sum(sum(event["properties"]["buckets"].values()) for event in taking.summaries) == 40
    assert {event["properties"]["feature_flag.result.variant"] for event in taking.summaries} == {"on", "off"}


def test_a_sink_that_does_not_ask_for_them_gets_none(make: Make, sink: sinks.Memory) -> None:
    client = make({"f": ON}, sink=sink)
    run(client, "f")
    client.flush()
    assert [event["type"] for event in sink.events] == ["exposure"]
    assert not hasattr(sinks.Memory, "takes_calls")
    assert sinks.Http.takes_calls is True


def test_one_that_is_lost_is_counted(make: Make) -> None:
    client = make({"f": ON}, sink=Taking(), config=Config(max_event_bytes=600))
    for number in range(20):
        run(client, "f", error=type(f"Error{number}", (Exception,), {})())
    client.flush()
    assert client.status.account is not None
    assert client.status.account.lost == {"too_large": 1}
    assert client.status.account.balanced


def test_while_many_events_wait_none_is_made_and_nothing_is_lost(clock: StillClock) -> None:
    meter, waiting, told = Meter("f", "on"), [3], []

    def take() -> Iterator[dict[str, Any]]:
        sums = meter.take()
        if sums is not None:
            yield sums.to_json()

    config = Config(max_pending=6)
    summaries = Summaries(take, lambda: waiting[0], lambda name, properties: told.append(properties), config, clock)
    meter.add(0.1, None)
    summaries.record()
    assert told == []
    meter.add(0.1, None)
    waiting[0] = 0
    summaries.record()
    assert [sum(properties["buckets"].values()) for properties in told] == [2]


def test_one_is_made_every_flush_interval(clock: StillClock) -> None:
    told: list[str] = []
    summaries = Summaries(lambda: [{}], lambda: 0, lambda name, _: told.append(name), Config(), clock)
    assert summaries.step() == 5.0
    clock.advance(4.9)
    assert summaries.step() == pytest.approx(0.1)
    assert told == []
    clock.advance(0.2)
    assert summaries.step() == 5.0
    assert told == [CALLS]


def test_what_a_parent_counted_a_forked_child_does_not_tell(make: Make, taking: Taking) -> None:
    client = make({"f": ON}, sink=taking)
    run(client, "f", times=5)
    client._guards.after_fork()  # as in the child
    run(client, "f", times=2)
    client.flush()
    (event,) = taking.summaries
    assert sum(event["properties"]["buckets"].values()) == 2


def test_a_mistake_in_counting_is_nobody_s_but_the_library_s(clock: StillClock) -> None:
    def take() -> Iterator[dict[str, Any]]:
        raise RuntimeError
        yield {}

    summaries = Summaries(take, lambda: 0, lambda name, properties: None, Config(), clock)
    summaries.record()
    summaries.record()


# -- at the service


def test_what_processes_counted_adds_up_exactly(store: Store) -> None:
    chance, whole = random.Random(3), Meter("f", "on")
    meters = [Meter("f", "on") for _ in range(4)]
    for number in range(20_000):
        meter, seconds = chance.choice(meters), chance.lognormvariate(-3, 1)
        error = "ValueError" if number % 50 == 0 else None
        meter.add(seconds, error)
        whole.add(seconds, error)
        if number % 1000 == 0:  # a flush; and at the end whatever is left
            tell(store, meters)
    tell(store, meters)
    found = summarise(store.path, Question())["calls"]["f"]["on"]
    read = whole.read()
    assert (found["calls"], found["failures"], found["errors"]) == (20_000, 400, {"ValueError": 400})
    assert (found["p50_s"], found["p90_s"], found["p99_s"]) == (read.p50_s, read.p90_s, read.p99_s)


def tell(store: Store, meters: list[Meter]) -> None:
    events = [counted(sums) for meter in meters if (sums := meter.take()) is not None]
    store.add(read_batch(batch(*events), "")).result(10)


def test_a_summary_that_comes_again_is_taken_once(store: Store) -> None:
    event = counted(Sums({}, {}, {-100: 3}))
    assert store.add(read_batch(batch(event), "")).result(10) == 1
    assert store.add(read_batch(batch(event, event), "")).result(10) == 0
    summary = summarise(store.path, Question())
    assert summary["calls"]["f"]["on"]["calls"] == 3
    assert summary["received"]["duplicates"] == 2


def test_hours_are_told_apart_and_since_goes_by_them(store: Store) -> None:
    early, late = counted(Sums({}, {}, {-100: 3})), counted(Sums({"E": 1}, {}, {-90: 2}), time_ms=NOW_MS + HOUR_MS)
    store.add(read_batch(batch(early, late), "")).result(10)
    found = summarise(store.path, Question())["calls"]["f"]["on"]
    assert [(hour["hour"], hour["calls"], hour["failures"]) for hour in found["hours"]] == [
        ("2026-05-10T08:00:00Z", 3, 0),
        ("2026-05-10T09:00:00Z", 3, 1),
    ]
    assert summarise(store.path, Question(since_ms=NOW_MS + HOUR_MS))["calls"]["f"]["on"]["calls"] == 3
    assert summarise(store.path, Question(flag="g"))["calls"] == {}


def test_the_service_keeps_so_many_rows_and_the_oldest_give_way(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls, "MOST_ROWS", 10)
    monkeypatch.setattr(calls, "MOST_IDS", 10)
    events = [counted(Sums({}, {}, {1: 1}), time_ms=NOW_MS + hour * HOUR_MS) for hour in range(50)]
    store.add(read_batch(batch(*events), "")).result(10)
    assert len(summarise(store.path, Question())["calls"]["f"]["on"]["hours"]) == 10
    count = store.submit(lambda connection: connection.execute("SELECT COUNT(*) FROM calls_taken").fetchone()[0])
    assert count.result(10) == 10


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"errors": {}, "buckets": {}},
        {"errors": {"E": 0}},
        {"errors": {"E": True}},
        {"errors": {"E": 1.5}},
        {"errors": {"E": -1}},
        {"errors": {"E": 2**60}},
        {"errors": {"": 1}},
        {"errors": {"\ud800": 1}},
        {"errors": {f"E{number}": 1 for number in range(22)}},
        {"errors": {"E": 1}, "places": {"F": "a.py:1"}},
        {"errors": {"E": 1}, "places": {"E": 1}},
        {"errors": {"E": 1}, "places": []},
        {"errors": [], "buckets": {"1": 1}},
        {"buckets": {"704": 1}},
        {"buckets": {"-737": 1}},
        {"buckets": {"1.0": 1}},
        {"buckets": {" 1": 1}},
        {"buckets": {"01": 1}},
        {"buckets": {"²": 1}},
        {"buckets": {"x" * 300: 1}},
    ],
    ids=str,
)
def test_what_is_no_summary_is_refused_alone(wrong: dict[str, Any]) -> None:
    names = {"feature_flag.key": "f", "feature_flag.result.variant": "on"}
    good = counted(Sums({}, {}, {1: 1}))
    received = read_batch(batch(metric(NAME, None, properties={**names, **wrong}), good), "")
    assert [event["reason"] for event in received.rejected] == ["invalid_calls"]
    assert len(received.calls) == 1


def test_a_summary_without_flag_or_variant_is_refused() -> None:
    sums = Sums({}, {}, {1: 1}).to_json()
    events = [metric(NAME, None, properties=each) for each in (sums, {**sums, "feature_flag.key": "f"}, [])]
    reasons = [event["reason"] for event in read_batch(batch(*events), "").rejected]
    assert reasons == ["invalid_flag", "invalid_variant", "invalid_properties"]


def test_kinds_of_errors_beyond_those_told_apart_are_counted_together() -> None:
    sums = Sums()
    for number in range(100):
        sums = sums.plus(Sums({f"E{number}": 2}, {f"E{number}": "a.py:1"}, {}))
    assert (sums.failures, len(sums.errors), sums.errors["other"]) == (200, 21, 160)
    assert len(sums.places) == 20


def test_a_client_of_a_source_and_a_service_of_its_own_is_one_that_tells() -> None:
    sink = sinks.Http("http://127.0.0.1:9")
    client = Client(source=sources.Static({"schema": 1, "flags": {}}), sink=sink)
    assert client._recording is not None
    assert client._recording._summaries is not None
    client.close(0)
