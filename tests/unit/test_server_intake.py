"""What the collector makes of the bytes it is sent."""

from __future__ import annotations

import gzip
import json
import tracemalloc
import zlib

import pytest
from server_events import NOW_MS, batch, exposure, metric

from flagkit.server.intake import MAX_BODY_BYTES, MAX_EVENT_BYTES, MAX_EVENTS, Refused, read_batch

LONE_SURROGATE = "\ud800"


def read(*events: object, **changed: object):
    return read_batch(json.dumps({"batch_id": "b-1", "sent_at": NOW_MS, "events": events, **changed}).encode(), "")


def reason(event: object) -> str:
    """Why ``event`` is rejected, when it stands among good ones that are not."""
    received = read(exposure(unit="before"), event, metric(unit="after"))
    assert (len(received.exposures), len(received.metrics)) == (1, 1)
    (rejected,) = received.rejected
    assert rejected["retry"] is False
    return rejected["reason"]


def test_an_exposure_of_a_client_becomes_a_row():
    event = exposure("checkout", "on", "user-1", NOW_MS)
    (row,) = read_batch(batch(event), "").exposures
    assert row == (
        bytes.fromhex(event["id"]), "checkout", "on", "split", "ramp", "on", True, "1", "user-1", "production", NOW_MS
    )  # fmt: skip


def test_a_metric_event_of_a_client_becomes_a_row():
    event = metric("purchase", "user-1", NOW_MS, 12.5)
    (row,) = read_batch(batch(event), "").metrics
    assert row == (bytes.fromhex(event["id"]), "purchase", "user-1", 12.5, '{"plan":"pro"}', "production", NOW_MS)


def test_a_metric_event_needs_neither_unit_nor_value_nor_environment():
    event = {"type": "metric", "id": "0" * 32, "name": "tick", "time_ms": 0}
    (row,) = read(event).metrics
    assert row == (bytes(16), "tick", None, None, "{}", None, 0)


def test_a_batch_says_its_id_when_it_was_sent_and_what_was_lost():
    received = read_batch(batch(batch_id="b-7", dropped={"full": 3}), "identity")
    assert (received.id, received.sent_at_ms, received.dropped) == ("b-7", NOW_MS, {"full": 3})


def test_gzip_is_read_as_what_was_compressed():
    body = batch(exposure())
    assert read_batch(gzip.compress(body), "gzip") == read_batch(body, "")


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"id": "short"}, "invalid_id"),
        ({"id": "0" * 31 + " "}, "invalid_id"),
        ({"id": 7}, "invalid_id"),
        ({"type": "gate"}, "unknown_type"),
        ({"type": None}, "unknown_type"),
        ({"type": ["exposure"]}, "unknown_type"),
        ({"feature_flag.key": ""}, "invalid_flag"),
        ({"feature_flag.key": "k" * 257}, "invalid_flag"),
        ({"feature_flag.key": LONE_SURROGATE}, "invalid_flag"),
        ({"feature_flag.result.variant": None}, "invalid_variant"),
        ({"feature_flag.result.reason": 3}, "invalid_reason"),
        ({"flagkit.rule": 3}, "invalid_rule"),
        ({"flagkit.assigned": []}, "invalid_assigned"),
        ({"flagkit.analysable": 1}, "invalid_analysable"),
        ({"feature_flag.version": 1}, "invalid_version"),
        ({"feature_flag.context.id": None}, "invalid_unit"),
        ({"feature_flag.context.id": "é" * 513}, "invalid_unit"),
        ({"feature_flag.context.id": LONE_SURROGATE}, "invalid_unit"),
        ({"feature_flag.set.id": {}}, "invalid_environment"),
        ({"time_ms": -1}, "invalid_time"),
        ({"time_ms": 1.5}, "invalid_time"),
        ({"time_ms": True}, "invalid_time"),
        ({"time_ms": 10**30}, "invalid_time"),
    ],
)
def test_a_malformed_exposure_is_rejected_by_itself(changed, expected):
    assert reason({**exposure(), **changed}) == expected


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"name": None}, "invalid_name"),
        ({"value": True}, "invalid_value"),
        ({"value": "12"}, "invalid_value"),
        ({"value": 10**400}, "invalid_value"),
        ({"properties": []}, "invalid_properties"),
        ({"properties": None}, "invalid_properties"),
        ({"feature_flag.context.id": 7}, "invalid_unit"),
    ],
)
def test_a_malformed_metric_event_is_rejected_by_itself(changed, expected):
    assert reason({**metric(), **changed}) == expected


@pytest.mark.parametrize("event", [None, 7, "event", [], [{}]])
def test_what_is_no_object_is_rejected_by_itself(event):
    assert reason(event) == "not_an_object"


def test_numbers_beyond_any_float_are_rejected_by_themselves():
    body = batch(metric(unit="good"), metric(value=1.5), metric(plan=2)).replace(b'"value": 1.5', b'"value": 1e999')
    body = body.replace(b'"plan": 2', b'"plan": 2, "properties": {"x": 1e999}')
    received = read_batch(body, "")
    assert len(received.metrics) == 1
    assert [rejected["reason"] for rejected in received.rejected] == ["invalid_value", "invalid_properties"]


def test_the_largest_unit_is_taken():
    assert read(exposure(unit="é" * 512)).rejected == []


def test_an_event_that_is_too_large_is_rejected_by_itself():
    assert reason(metric(properties={"x": "y" * MAX_EVENT_BYTES})) == "too_large"


def test_only_a_proper_id_is_echoed():
    received = read(exposure(id="<script>"), exposure(id="A" * 32, time_ms=-1))
    assert [rejected["id"] for rejected in received.rejected] == [None, "A" * 32]


@pytest.mark.parametrize(
    "body", [b"", b"{", b"\xff", b'"text"', b"[]", b"[" * 100_000, b'{"batch_id": NaN}', b"9" * 5000]
)
def test_a_body_that_is_no_batch_is_refused(body):
    with pytest.raises(Refused) as error:
        read_batch(body, "")
    assert error.value.status == 400


@pytest.mark.parametrize(
    "changed",
    [
        {"batch_id": None},
        {"batch_id": ""},
        {"batch_id": "x" * 65},
        {"batch_id": "a b"},
        {"events": {}},
        {"events": None},
        {"sent_at": "now"},
        {"sent_at": -1},
        {"dropped": []},
        {"dropped": {"full": -1}},
        {"dropped": {"full": 1.5}},
        {"dropped": {LONE_SURROGATE: 1}},
        {"dropped": {"": 1}},
        {"dropped": {str(n): 1 for n in range(101)}},
    ],
)
def test_a_batch_whose_head_is_malformed_is_refused(changed):
    with pytest.raises(Refused) as error:
        read(exposure(), **changed)
    assert error.value.status == 400


def test_too_many_events_are_refused_so_that_the_client_halves_the_batch():
    assert len(read(*[None] * MAX_EVENTS).rejected) == MAX_EVENTS
    with pytest.raises(Refused) as error:
        read(*[None] * (MAX_EVENTS + 1))
    assert error.value.status == 413


@pytest.mark.parametrize(
    "wire",
    [
        b"",
        b"not gzip",
        zlib.compress(b"{}"),
        gzip.compress(b"{}")[:-1],
        gzip.compress(b"{}") + b"x",
        gzip.compress(b"{}") * 2,
    ],
)
def test_anything_but_one_whole_gzip_stream_is_refused(wire):
    with pytest.raises(Refused) as error:
        read_batch(wire, "gzip")
    assert error.value.status == 400


@pytest.mark.parametrize("encoding", ["br", "deflate", "gzip, gzip", "x-gzip"])
def test_other_encodings_are_refused(encoding):
    with pytest.raises(Refused) as error:
        read_batch(gzip.compress(batch()), encoding)
    assert error.value.status == 415


def test_a_gzip_bomb_is_cut_off_at_the_limit():
    bomb = gzip.compress(bytes(200_000_000), 1)
    assert len(bomb) < 1024 * 1024
    tracemalloc.start()
    try:
        with pytest.raises(Refused) as error:
            read_batch(bomb, "gzip")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert error.value.status == 413
    assert peak < 4 * MAX_BODY_BYTES
