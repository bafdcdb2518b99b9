"""Events on the wire: exposures whose id follows from what they say, metrics that cost nobody else anything."""

from __future__ import annotations

import json
from typing import Any

import pytest
from documents import STEADY
from fakes import WALL_MS
from hypothesis import given
from hypothesis import strategies as st

from flagkit.context import unit_key
from flagkit.decision import Decision, Reason
from flagkit.events import Batch, Exposure, ExposureEncoder, encode_metric

HOUR_MS = 3_600_000
START_MS = WALL_MS // HOUR_MS * HOUR_MS


def met(**changes: Any) -> Decision:
    said = {
        "flag": "new-checkout",
        "variant": "on",
        "value": True,
        "reason": Reason.SPLIT,
        "rule": "ramp",
        "assigned": "on",
        "analysable": True,
        "version": "7",
        **changes,
    }
    return Decision(**said)


def encoded(
    decision: Decision | None = None, key: bytes = b"user-1", time_ms: int = START_MS, environment: str | None = "test"
) -> dict[str, Any]:
    encoder = ExposureEncoder(lambda: environment, 3600)
    text = encoder.encode(Exposure(*encoder.constant(decision or met()), key, time_ms))
    assert text.isascii()
    event: dict[str, Any] = json.loads(text)
    return event


# -- exposures -------------------------------------------------------------------------------------------------------


def test_an_exposure_says_who_met_what_and_why() -> None:
    event = encoded()
    assert len(event.pop("id")) == 32
    assert event == {
        "type": "exposure",
        "time_ms": START_MS,
        "feature_flag.context.id": "user-1",
        "feature_flag.key": "new-checkout",
        "feature_flag.result.variant": "on",
        "feature_flag.result.reason": "split",
        "feature_flag.version": "7",
        "feature_flag.set.id": "test",
        "flagkit.rule": "ramp",
        "flagkit.assigned": "on",
        "flagkit.analysable": True,
    }


def test_the_id_is_the_same_in_every_process_within_the_hour() -> None:
    assert encoded()["id"] == encoded(time_ms=START_MS + HOUR_MS - 1)["id"] == "231c61734e51b33acec0cfc0023187c8"


@pytest.mark.parametrize(
    "other",
    [
        {"time_ms": START_MS + HOUR_MS},
        {"time_ms": START_MS - 1},
        {"key": b"user-2"},
        {"environment": None},
        {"environment": "production"},
        {"decision": met(flag="other")},
        {"decision": met(variant="off")},
        {"decision": met(version="8")},
        {"decision": met(version=None)},
        {"decision": met(rule="other")},
        {"decision": met(rule=None)},
    ],
)
def test_what_differs_in_what_matters_has_another_id(other: dict[str, Any]) -> None:
    assert encoded(**other)["id"] != encoded()["id"]


TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8)
SAID = st.tuples(TEXT | st.none(), TEXT, TEXT | st.none(), TEXT | st.none(), TEXT, TEXT)


@given(SAID, SAID)
@STEADY
def test_two_exposures_share_an_id_only_when_they_say_the_same(one: Any, other: Any) -> None:
    def event_id(said: Any) -> Any:
        environment, flag, version, rule, variant, unit = said
        decision = met(flag=flag, version=version, rule=rule, variant=variant)
        return encoded(decision, unit.encode(), environment=environment)["id"]

    assert (event_id(one) == event_id(other)) == (one == other)


@given(TEXT)
@STEADY
def test_every_unit_arrives_as_it_was(unit: str) -> None:
    key = unit_key(unit)
    assert key
    assert encoded(key=key)["feature_flag.context.id"] == unit


# -- metrics ---------------------------------------------------------------------------------------------------------


def metric(name: Any = "purchase", unit: str | None = "user-1", value: Any = 9.5, **properties: Any) -> dict[str, Any]:
    event: dict[str, Any] = json.loads(encode_metric(name, unit, START_MS, value, properties, "test"))
    return event


def test_a_metric_event_says_who_did_what_and_when() -> None:
    event = metric(currency="SEK", items=[1, {"a": None}])
    assert len(event.pop("id")) == 32
    assert event == {
        "type": "metric",
        "time_ms": START_MS,
        "name": "purchase",
        "feature_flag.context.id": "user-1",
        "feature_flag.set.id": "test",
        "value": 9.5,
        "properties": {"currency": "SEK", "items": [1, {"a": None}]},
    }


def test_two_metric_events_are_two_whatever_they_say() -> None:
    assert metric()["id"] != metric()["id"]


@pytest.mark.parametrize("text", ["é😀", "C:\\udata", "\\ud800", '"', "\u2028"])
def test_any_text_travels(text: str) -> None:
    event = metric(name=text, unit=text, text=text)
    assert (event["name"], event["feature_flag.context.id"], event["properties"]) == (text, text, {"text": text})


def cyclic() -> list[Any]:
    itself: list[Any] = []
    itself.append(itself)
    return itself


def nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    "event",
    [
        {"name": ""},
        {"name": "x" * 129},
        {"name": b"purchase"},
        {"name": None},
        {"name": 7},
        {"name": "\ud800"},
        {"value": float("nan")},
        {"value": float("inf")},
        {"value": b"9"},
        {"p": float("nan")},
        {"p": {1, 2}},
        {"p": object()},
        {"p": "\ud800"},
        {"p": {"\udfff": 1}},
        {"p": {(1, 2): 3}},
        {"p": cyclic()},
        {"p": nested(20_000)},
        {"p": 10**5000},
    ],
)
def test_what_has_no_json_form_is_refused_in_a_known_way(event: dict[str, Any]) -> None:
    with pytest.raises((ValueError, TypeError, RecursionError)):
        metric(**event)


# -- batches ---------------------------------------------------------------------------------------------------------


def test_a_batch_is_one_json_document_whatever_is_in_its_events() -> None:
    events = (json.dumps({"id": "a"}), json.dumps(encoded(key=b"\xc3\xa9")))
    batch = Batch.seal(events, {'over"flow': 3})
    body = json.loads(batch.body(START_MS))
    assert body == {
        "batch_id": batch.id,
        "sent_at": START_MS,
        "dropped": {'over"flow': 3},
        "events": [json.loads(event) for event in events],
    }


def test_a_batch_keeps_its_id_and_its_events_when_it_is_sent_again() -> None:
    dropped = {"overflow": 1}
    batch = Batch.seal(("{}",), dropped)
    dropped["overflow"] = 2
    assert len(batch.id) == 32
    assert batch.dropped == {"overflow": 1}
    first, again = json.loads(batch.body(1)), json.loads(batch.body(2))
    assert {**first, "sent_at": 2} == again
    assert Batch.seal(("{}",), {}).id != batch.id


def test_an_empty_batch_has_a_body_too() -> None:
    assert json.loads(Batch.seal((), {}).body(1))["events"] == []
