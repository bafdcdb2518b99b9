"""The OTLP sink against a receiver on loopback, which decodes the protobuf; and its words against the official ones."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from documents import StillClock
from fakes import WALL_MS
from loopback import Call, refusing
from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.exporter.otlp.proto.common._log_encoder import encode_logs
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse
from opentelemetry.sdk._logs import ReadableLogRecord
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.semconv._incubating.attributes import feature_flag_attributes as convention
from otlp_receiver import PROTOBUF, Receiver, receiving, records_in

from flagkit import Client, ConfigError
from flagkit.events import Batch, Delivered, Rejected, Retry, Sent, TooLarge, encode_metric
from flagkit.sinks import Otlp

Make = Callable[..., Client]
KEY = "sk-otlp-0123456789"
RULE = {"name": "ramp", "rollout": {"percent": 100}, "serve": "on"}


def metric(name: str = "order", value: float | None = 1.0, **properties: Any) -> str:
    return encode_metric(name, "user-1", WALL_MS, value, properties, "test")


def batch_of(*events: str, **dropped: int) -> Batch:
    return Batch.seal(events or (metric(), metric("visit")), dropped)


def sent(answer: Callable[[Call], None], batch: Batch | None = None, deadline_s: float = 10) -> Sent:
    """The verdict when a receiver answers so."""
    with receiving(answer) as receiver:
        sink = Otlp(receiver.url)
        verdict = sink.send(batch or batch_of(), deadline_s=deadline_s)
        sink.close()
        return verdict


def answering(status: int, body: bytes = b"", **headers: str) -> Callable[[Call], None]:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda call: call.answer(status, body, named)


def delivered(*events: str, **dropped: int) -> Receiver:
    """What a receiver has after one batch."""
    with receiving() as receiver:
        sink = Otlp(receiver.url, clock=StillClock())
        assert sink.send(batch_of(*events, **dropped), deadline_s=10) == Delivered()
        sink.close()
    return receiver


# -- what arrives


def test_an_exposure_is_an_evaluation_event_by_the_semantic_conventions(make: Make) -> None:
    with receiving() as receiver:
        flag = {"rules": [RULE], "version": "7"}
        client = make({"f": flag}, environment="production", sink=Otlp(receiver.url))
        assert client.value("f", "user-1", default=False) is True
        assert client.close(10) == 0
    (record,) = receiver.records
    uid = record.attributes.pop("log.record.uid")
    assert len(uid) == 32
    assert record.attributes == {
        convention.FEATURE_FLAG_KEY: "f",
        convention.FEATURE_FLAG_RESULT_VARIANT: "on",
        convention.FEATURE_FLAG_RESULT_REASON: "split",
        convention.FEATURE_FLAG_VERSION: "7",
        convention.FEATURE_FLAG_SET_ID: "production",
        convention.FEATURE_FLAG_CONTEXT_ID: "user-1",
        convention.FEATURE_FLAG_PROVIDER_NAME: "flagkit",
        "flagkit.rule": "ramp",
        "flagkit.assigned": "on",
        "flagkit.analysable": True,
    }
    assert (record.event_name, record.time_ns, record.severity) == ("feature_flag.evaluation", WALL_MS * 1_000_000, 9)
    assert (record.scope, record.resource) == ("flagkit", {"service.name": "unknown_service"})


def test_a_reason_that_opentelemetry_has_no_word_for_is_said_in_the_closest_of_its_own(make: Make) -> None:
    with receiving() as receiver:
        holdouts = {"all": {"percent": 100, "flags": ["f"]}}
        client = make({"f": {"default": "on"}, "g": {}}, holdouts=holdouts, sink=Otlp(receiver.url))
        client.enabled("f", "u")
        client.enabled("g", "u")
        assert client.close(10) == 0
    told = {record.attributes["feature_flag.key"]: record.attributes for record in receiver.records}
    assert (told["f"]["feature_flag.result.reason"], told["f"]["flagkit.reason"]) == ("split", "holdout")
    assert (told["g"]["feature_flag.result.reason"], "flagkit.reason" in told["g"]) == ("static", False)


def test_what_is_tracked_is_an_event_with_its_name_value_and_properties(make: Make) -> None:
    with receiving() as receiver:
        client = make(environment="production", sink=Otlp(receiver.url))
        client.track("order", "user-1", value=9.5, currency="SEK", items=[1, "two", None], cart={"size": 3})
        client.track("visit", "user-2")
        assert client.close(10) == 0
    order, visit = receiver.records
    assert (order.event_name, order.time_ns) == ("flagkit.metric", WALL_MS * 1_000_000)
    del order.attributes["log.record.uid"], visit.attributes["log.record.uid"]
    assert order.attributes == {
        "flagkit.metric.name": "order",
        "flagkit.metric.value": 9.5,
        "flagkit.metric.properties.currency": "SEK",
        "flagkit.metric.properties.items": [1, "two", None],
        "flagkit.metric.properties.cart": {"size": 3},
        "feature_flag.context.id": "user-1",
        "feature_flag.set.id": "production",
    }
    assert visit.attributes == {
        "flagkit.metric.name": "visit",
        "feature_flag.context.id": "user-2",
        "feature_flag.set.id": "production",
    }


def test_events_lost_before_are_told_by_reason() -> None:
    *_, lost = delivered(metric(), overflow=7, closed=1).records
    assert lost.event_name == "flagkit.lost"
    assert lost.attributes["flagkit.lost.overflow"] == 7
    assert lost.attributes["flagkit.lost.closed"] == 1


def test_an_event_of_a_kind_to_come_is_not_lost() -> None:
    event = {
        "id": "1",
        "time_ms": WALL_MS,
        "type": "gate",
        "flag": "f",
        "counts": {"on": 1},
        "feature_flag.set.id": "t",
    }
    (record,) = delivered(json.dumps(event)).records
    assert record.event_name == "flagkit.gate"
    assert record.attributes == {
        "flagkit.gate.flag": "f",
        "flagkit.gate.counts.on": 1,
        "feature_flag.set.id": "t",
        "log.record.uid": "1",
    }


def test_numbers_and_depths_that_protobuf_cannot_hold_travel_as_text() -> None:
    deep: Any = 1
    for _ in range(200):
        deep = [deep]
    big = [2**63, -(2**63) - 1, 2**63 - 1]
    (record,) = delivered(metric(big=big, deep=deep)).records
    assert record.attributes["flagkit.metric.properties.big"] == [str(2**63), str(-(2**63) - 1), 2**63 - 1]
    found, deeper = record.attributes["flagkit.metric.properties.deep"], deep
    for _ in range(16):
        (found,), (deeper,) = found, deeper
    assert found == json.dumps(deeper, separators=(",", ":"))


def test_the_records_are_what_the_official_encoder_makes_of_the_same() -> None:
    receiver = delivered(metric(items=[1, {"a": None, "b": 2.5, "c": True}], note="å"))
    (record,) = receiver.records
    same = ReadableLogRecord(
        LogRecord(
            timestamp=record.time_ns,
            observed_timestamp=record.time_ns,
            severity_number=SeverityNumber.INFO,
            attributes=record.attributes,
            event_name=record.event_name,
        ),
        Resource(record.resource),
        InstrumentationScope("flagkit"),
    )
    official = encode_logs([same])
    official.resource_logs[0].scope_logs[0].log_records[0].ClearField("body")  # it writes an empty one
    assert records_in(official) == receiver.records
    (ours,) = receiver.requests
    assert ours.SerializeToString(deterministic=True) == official.SerializeToString(deterministic=True)


def test_a_request_is_gzipped_protobuf_to_the_logs_address_with_the_headers_given() -> None:
    with receiving() as receiver:
        sink = Otlp(receiver.url, headers={"api-key": KEY}, resource={"service.name": "shop", "host.cpus": 2})
        elsewhere = Otlp(f"{receiver.url}/otlp/logs")
        for each in (sink, elsewhere):
            assert each.send(batch_of(), deadline_s=10) == Delivered()
            each.close()
    first, second = receiver.calls
    assert (first.method, first.path, second.path) == ("POST", "/v1/logs", "/otlp/logs")
    assert first.headers["content-type"] == "application/x-protobuf"
    assert first.headers["content-encoding"] == "gzip"
    assert first.headers["api-key"] == KEY
    assert "api-key" not in second.headers
    assert receiver.records[0].resource == {"service.name": "shop", "host.cpus": 2}


def test_a_batch_sent_again_has_the_same_record_ids() -> None:
    batch = batch_of()
    with receiving() as receiver:
        sink = Otlp(receiver.url)
        for _ in range(2):
            sink.send(batch, deadline_s=10)
        sink.close()
    uids = [record.attributes["log.record.uid"] for record in receiver.records]
    assert uids[:2] == uids[2:]
    assert uids[:2] == [json.loads(event)["id"] for event in batch.events]


# -- verdicts


def partial(rejected: int, message: str = "") -> bytes:
    answer = ExportLogsServiceResponse()
    answer.partial_success.rejected_log_records = rejected
    answer.partial_success.error_message = message
    return answer.SerializeToString()


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (200, b"", ""),
        (200, b"", "application/x-protobuf"),
        (202, b"", ""),
        (204, b"", ""),
        (200, partial(0, "you use an old field"), "application/x-protobuf"),
        (200, b"{}", "application/json"),
        (200, b'{"partialSuccess": {}}', "application/json; charset=utf-8"),
        (200, b'{"partialSuccess": {"rejectedLogRecords": "0"}}', "application/json"),
    ],
)
def test_a_collector_that_takes_everything_has_it(status: int, body: bytes, kind: str) -> None:
    headers = {"Content_Type": kind} if kind else {}
    assert sent(answering(status, body, **headers)) == Delivered()


def test_records_that_the_collector_refused_are_counted_and_not_sent_again() -> None:
    assert sent(answering(200, partial(1), **PROTOBUF)) == Delivered({"refused_by_collector": 1})
    assert sent(answering(200, partial(99), **PROTOBUF)) == Delivered({"refused_by_collector": 2})
    said = b'{"partialSuccess": {"rejectedLogRecords": "1"}}'
    assert sent(answering(200, said, Content_Type="application/json")) == Delivered({"refused_by_collector": 1})


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (200, b"<html>Log in to the network</html>", "text/html"),
        (200, b"ok", ""),
        (200, b"\xff\xff", "application/x-protobuf"),
        (200, b"[" * 60_000, "application/json"),
        (200, b"[]", "application/json"),
        (200, b'{"error": "no such tenant"}', "application/json"),
        (200, b'{"partialSuccess": {"rejectedLogRecords": "many"}}', "application/json"),
        (201, b"", ""),
        (302, b"", ""),
    ],
)
def test_any_other_success_is_no_confirmation(status: int, body: bytes, kind: str) -> None:
    headers = {"Content_Type": kind} if kind else {}
    assert sent(answering(status, body, **headers)) == Retry("not_an_ack")


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_a_collector_that_cannot_now_is_asked_again_when_it_says(status: int) -> None:
    assert sent(answering(status, Retry_After="7")) == Retry(f"http_{status}", 7.0)


@pytest.mark.parametrize("status", [401, 403, 404, 415])
def test_a_wrong_key_or_address_slows_down_and_loses_nothing(status: int) -> None:
    assert sent(answering(status)) == Retry(f"http_{status}", lasting=True)


def test_a_batch_that_is_bad_is_offered_in_parts_and_one_that_is_large_in_smaller_ones() -> None:
    assert sent(answering(400)) == Rejected("http_400", divisible=True)
    assert sent(answering(413)) == TooLarge()


def test_a_collector_that_is_not_there_hangs_or_drips_costs_the_deadline_at_most() -> None:
    with refusing() as url:
        assert Otlp(url).send(batch_of(), deadline_s=5) == Retry("refused")
    assert sent(Call.hang, deadline_s=0.2) == Retry("deadline")
    assert sent(lambda call: call.drip(b"HTTP/1.1 200 OK\r\n" * 100), deadline_s=0.2) == Retry("deadline")
    assert sent(answering(200), deadline_s=0) == Retry("deadline")


def test_an_event_that_cannot_be_one_is_lost_alone() -> None:
    assert sent(answering(200), batch_of(metric(), "{}", "nonsense")) == Delivered({"unencodable": 2})
    assert sent(answering(200, partial(9), **PROTOBUF), batch_of(metric(), "{}")) == Delivered(
        {"unencodable": 1, "refused_by_collector": 1}
    )
    with receiving() as receiver:
        assert Otlp(receiver.url).send(batch_of("{}"), deadline_s=5) == Rejected("unencodable")
    assert receiver.calls == []


# -- settings


def test_no_header_s_value_is_ever_shown(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(0)
    with receiving(answering(500)) as receiver:
        sink = Otlp(receiver.url, headers={"Authorization": f"Basic {KEY}", "api-key": KEY})
        verdict = sink.send(batch_of(), deadline_s=5)
        sink.close()
    assert KEY not in f"{sink!r} {sink.name} {verdict} {vars(sink)} {caplog.text}"


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"url": "http://collector.example.com:4318"}, "url"),
        ({"url": "https://user:secret@collector.example.com"}, "url"),
        ({"headers": "api-key=x"}, "headers"),
        ({"headers": {"api key": "x"}}, "headers"),
        ({"headers": {"Content-Type": "text/plain"}}, "headers"),
        ({"headers": {"api-key": f"{KEY}\r\nX: y"}}, "headers"),
        ({"headers": {"api-key": 7}}, "headers"),
        ({"resource": "shop"}, "resource"),
        ({"resource": {"": "shop"}}, "resource"),
        ({"resource": {"service.name": None}}, "resource"),
        ({"resource": {"service.name": "\ud800"}}, "resource"),
        ({"ca_file": 7}, "ca_file"),
    ],
)
def test_a_wrong_argument_is_named_without_a_secret(settings: dict[str, Any], field: str) -> None:
    with pytest.raises(ConfigError) as raised:
        Otlp(**{"url": "https://collector.example.com", **settings})
    assert raised.value.field == field
    assert KEY not in str(raised.value)
