"""Sinks: the contract of all of them, and what is special about each."""

from __future__ import annotations

import gzip
import json
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import responses
from loopback import Call, refusing, serving
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from otlp_receiver import Record, records_in, taken

from flagkit.errors import ConfigError
from flagkit.events import Batch, Delivered, Rejected, Retry, TooLarge, encode_metric
from flagkit.sinks import Http, Log, Memory, Otlp, PostHog, Sink
from flagkit.testing import SinkContract, SinkStage

KEY = "sk-write-0123456789"
URL = "https://flags.example.com"
NOW_MS = 1_795_428_000_000


class StoppedClock:
    def monotonic_s(self) -> float:
        return 0.0

    def wall_ms(self) -> int:
        return NOW_MS

    def wait(self, event: Any, timeout_s: float) -> bool:
        return True


def batch_of(*names: str, **dropped: int) -> Batch:
    return Batch.seal(
        tuple(encode_metric(name, "user-1", NOW_MS, 1.0, {"note": "å\n"}, None) for name in names), dropped
    )


BATCH = batch_of("paid", "left", "came back")


def send(sink: Sink, batch: Batch = BATCH, *, deadline_s: float = 5) -> object:
    return sink.send(batch, deadline_s=deadline_s)


# -- the contract


@contextmanager
def http_stage(_: pytest.LogCaptureFixture) -> Iterator[SinkStage]:
    received: list[Any] = []

    def collect(call: Call) -> None:
        batch = json.loads(gzip.decompress(call.body))
        received.extend(batch["events"])
        call.answer(202, json.dumps({"batch_id": batch["batch_id"], "accepted": len(batch["events"])}).encode())

    with failing(collect) as (url, fail, hang):
        sink = Http(url, key=KEY)
        yield SinkStage(sink, lambda: received, fail, (KEY,), hang)
        sink.close()


@contextmanager
def log_stage(caplog: pytest.LogCaptureFixture) -> Iterator[SinkStage]:
    caplog.set_level(logging.INFO, "flagkit")
    yield SinkStage(
        Log(), lambda: [json.loads(record.getMessage()) for record in caplog.records if record.name == "flagkit"]
    )


@contextmanager
def memory_stage(_: pytest.LogCaptureFixture) -> Iterator[SinkStage]:
    sink = Memory()

    def arrived() -> list[Any]:
        return sink.events

    yield SinkStage(sink, arrived)


@contextmanager
def otlp_stage(_: pytest.LogCaptureFixture) -> Iterator[SinkStage]:
    received: list[Record] = []

    def collect(call: Call) -> None:
        received.extend(records_in(ExportLogsServiceRequest.FromString(gzip.decompress(call.body))))
        taken(call)

    with failing(collect) as (url, fail, hang):
        sink = Otlp(url, headers={"api-key": KEY})
        yield SinkStage(sink, lambda: [as_tracked(each) for each in received if is_metric(each)], fail, (KEY,), hang)
        sink.close()


@contextmanager
def posthog_stage(_: pytest.LogCaptureFixture) -> Iterator[SinkStage]:
    received: list[Any] = []

    def collect(call: Call) -> None:
        received.extend(json.loads(gzip.decompress(call.body))["batch"])
        call.answer(200, b'{"status": 1}')

    def tracked() -> list[Any]:
        return [{"name": event["event"], "properties": {"note": event["properties"]["note"]}} for event in received]

    with failing(collect) as (url, fail, hang):
        sink = PostHog(url, project_token=KEY)
        yield SinkStage(sink, tracked, fail, (KEY,), hang)
        sink.close()


@contextmanager
def failing(collect: Callable[[Call], None]) -> Iterator[tuple[str, Callable[[], None], Callable[[], None]]]:
    """A collector, and what has it hang up on everybody from then on, or answer nobody."""
    answer = [collect]
    with serving(lambda call: answer[-1](call)) as server:
        yield server.url, lambda: answer.append(Call.hang_up), lambda: answer.append(Call.hang)


def is_metric(record: Record) -> bool:
    return record.event_name == "flagkit.metric"  # what was lost is an event too


def as_tracked(record: Record) -> dict[str, Any]:
    """A metric event as it was before it became a log record."""
    start = "flagkit.metric.properties."
    properties = {name.removeprefix(start): v for name, v in record.attributes.items() if name.startswith(start)}
    return {"name": record.attributes["flagkit.metric.name"], "properties": properties}


class TestEverySink(SinkContract):
    """The contract that is shipped for other people's sinks."""

    @pytest.fixture(
        params=[http_stage, log_stage, memory_stage, otlp_stage, posthog_stage],
        ids=["http", "log", "memory", "otlp", "posthog"],
    )
    def stage(self, request: pytest.FixtureRequest, caplog: pytest.LogCaptureFixture) -> Iterator[SinkStage]:
        with request.param(caplog) as ready:
            yield ready


# -- http


@contextmanager
def answering(status: int, body: object = b"", **headers: str) -> Iterator[Http]:
    with responses.RequestsMock() as mocked:
        text = body if isinstance(body, bytes) else json.dumps(body).encode()
        mocked.post(f"{URL}/v1/events", status=status, body=text, headers=headers)
        yield Http(URL)


def ack(**more: object) -> dict[str, object]:
    return {"batch_id": BATCH.id, "accepted": len(BATCH.events), "rejected": [], **more}


def test_http_posts_the_gzipped_batch_under_its_own_id() -> None:
    def collect(call: Call) -> None:
        call.answer(202, json.dumps(ack()).encode())

    with serving(collect) as server:
        sink = Http(server.url, key=KEY, clock=StoppedClock())
        assert send(sink, BATCH._replace(dropped={"full": 2})) == Delivered()
        sink.close()
    (call,) = server.calls
    assert (call.method, call.path) == ("POST", "/v1/events")
    assert call.headers["authorization"] == f"Bearer {KEY}"
    assert call.headers["idempotency-key"] == BATCH.id
    assert call.headers["content-type"] == "application/json"
    assert call.headers["content-encoding"] == "gzip"
    body = json.loads(gzip.decompress(call.body))
    assert (body["batch_id"], body["sent_at"], body["dropped"]) == (BATCH.id, NOW_MS, {"full": 2})
    assert body["events"] == [json.loads(event) for event in BATCH.events]


def test_http_sends_to_an_endpoint_given_with_its_path() -> None:
    with serving(lambda call: call.answer(202, json.dumps(ack()).encode())) as server:
        sink = Http(f"{server.url}/collect")
        assert send(sink) == Delivered()
        sink.close()
    assert server.calls[0].path == "/collect"


@pytest.mark.parametrize("status", [200, 202])
def test_http_believes_only_an_answer_that_repeats_the_batch_id(status: int) -> None:
    with answering(status, ack()) as sink:
        assert send(sink) == Delivered()


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>Log in to the network</html>",
        b"ok",
        b"[" * 100_000,
        b"\xff",
        None,
        [],
        {},
        {"batch_id": "0" * 32},
        ack(rejected=7),
        ack(rejected=[{}] * 4),
    ],
)
def test_http_takes_anything_else_for_no_ack(body: object) -> None:
    with answering(200, body) as sink:
        assert send(sink) == Retry("not_an_ack")


@pytest.mark.parametrize("status", [201, 204, 206, 301, 302, 304, 307])
def test_http_takes_other_statuses_below_400_for_no_ack_whatever_they_say(status: int) -> None:
    with answering(status, ack() if status in (201, 206) else b"", Location=f"{URL}/there") as sink:
        assert send(sink) == Retry("not_an_ack")


def test_http_counts_the_events_that_were_refused_for_good_by_reason() -> None:
    rejected = [
        {"id": "1", "reason": "too_old", "retry": False},
        {"id": "2", "reason": "too_old", "retry": False},
        {"id": "3", "reason": "x" * 65, "retry": False},
    ]
    with answering(202, ack(rejected=rejected)) as sink:
        assert send(sink) == Delivered({"too_old": 2, "unnamed": 1})
    with answering(202, ack(rejected=["?", {"reason": "a\nb"}, {"reason": 7}])) as sink:
        assert send(sink) == Delivered({"unnamed": 3})


def test_http_sends_the_batch_again_when_the_collector_asks_for_some_of_it() -> None:
    rejected = [{"id": "1", "reason": "bad", "retry": False}, {"id": "2", "reason": "busy", "retry": True}]
    with answering(202, ack(rejected=rejected)) as sink:
        assert send(sink) == Retry("asked_again")


@pytest.mark.parametrize("status", [401, 402, 403, 404, 405, 410, 415])
def test_http_keeps_the_batch_when_it_is_not_at_fault_and_slows_down(status: int) -> None:
    with answering(status) as sink:
        assert send(sink) == Retry(f"http_{status}", lasting=True)


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504])
def test_http_waits_as_long_as_it_is_asked_to_but_no_longer_than_an_hour(status: int) -> None:
    for text, seconds in [("7", 7.0), ("999999", 3600.0), ("-1", 0.0), ("soon", 0.0)]:
        with answering(status, **{"Retry-After": text}) as sink:
            assert send(sink) == Retry(f"http_{status}", seconds)


@pytest.mark.parametrize("status", [400, 422])
def test_http_offers_in_smaller_batches_what_is_refused_for_an_event_in_it(status: int) -> None:
    with answering(status) as sink:
        assert send(sink) == Rejected(f"http_{status}", divisible=True)


def test_http_knows_a_batch_that_is_too_large() -> None:
    with answering(413) as sink:
        assert send(sink) == TooLarge("too_large")


def test_http_keeps_the_batch_when_the_network_fails() -> None:
    with refusing() as url:
        assert send(Http(url)) == Retry("refused")
    with serving(Call.hang) as server:
        sink = Http(server.url)
        assert send(sink, deadline_s=0.2) == Retry("deadline")
        sink.close()
    with serving(Call.hang_up) as server:
        sink = Http(server.url)
        assert send(sink) == Retry("reset")
        sink.close()


def test_http_reads_no_more_of_an_ack_than_it_could_be() -> None:
    def flood(call: Call) -> None:
        call.send(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            call.send(b" " * 65536)

    with serving(flood) as server:
        sink = Http(server.url)
        assert send(sink) == Retry("too_large")
        sink.close()


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"url": "http://flags.example.com"}, "url"),
        ({"url": URL, "key": ""}, "key"),
        ({"url": URL, "ca_file": 7}, "ca_file"),
    ],
)
def test_http_names_the_field_of_a_wrong_argument(settings: dict[str, Any], field: str) -> None:
    with pytest.raises(ConfigError) as raised:
        Http(**settings)
    assert raised.value.field == field


# -- log


def test_log_writes_one_line_an_event_to_the_logger_and_level_given(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "events")
    assert send(Log(logging.getLogger("events"), logging.DEBUG)) == Delivered()
    assert [(record.name, record.levelno) for record in caplog.records] == [("events", logging.DEBUG)] * 3
    assert all("\n" not in record.getMessage() for record in caplog.records)


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"logger": "flagkit"}, "logger"),
        ({"level": "INFO"}, "level"),
        ({"level": True}, "level"),
        ({"level": 0}, "level"),
    ],
)
def test_log_names_the_field_of_a_wrong_argument(settings: dict[str, Any], field: str) -> None:
    with pytest.raises(ConfigError) as raised:
        Log(**settings)
    assert raised.value.field == field


# -- memory


def test_memory_that_is_full_rejects_the_batch_and_takes_more_after_clear() -> None:
    sink = Memory(max_events=4)
    assert send(sink) == Delivered()
    assert send(sink) == Rejected("full")
    assert len(sink.events) == 3
    sink.clear()
    assert sink.events == []
    assert send(sink) == Delivered()


def test_memory_hands_out_a_list_of_its_own() -> None:
    sink = Memory()
    send(sink)
    sink.events.clear()
    assert len(sink.events) == 3


def test_memory_of_a_forked_child_is_empty() -> None:
    sink = Memory()
    send(sink)
    sink.after_fork()
    assert sink.events == []


@pytest.mark.parametrize("max_events", [0, -1, True, 1.5, "9"])
def test_memory_names_the_field_of_a_wrong_bound(max_events: object) -> None:
    with pytest.raises(ConfigError) as raised:
        Memory(max_events)
    assert raised.value.field == "max_events"
