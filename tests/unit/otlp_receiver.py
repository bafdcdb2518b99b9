"""An OTLP/HTTP receiver of log records on loopback: it decodes what it is sent, and answers what a test says."""

from __future__ import annotations

import gzip
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from loopback import Call, serving
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest, ExportLogsServiceResponse
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue

PROTOBUF = {"Content-Type": "application/x-protobuf"}


class Record(NamedTuple):
    """A log record with what it stands in."""

    event_name: str
    time_ns: int
    severity: int
    attributes: dict[str, Any]
    resource: dict[str, Any]
    scope: str


class Receiver:
    """What arrived: the requests as they came, and the records in them."""

    def __init__(self, url: str, calls: list[Call]) -> None:
        self.url = url
        self.calls = calls

    @property
    def requests(self) -> list[ExportLogsServiceRequest]:
        return [ExportLogsServiceRequest.FromString(gzip.decompress(call.body)) for call in self.calls]

    @property
    def records(self) -> list[Record]:
        return [record for request in self.requests for record in records_in(request)]


@contextmanager
def receiving(answer: Callable[[Call], None] | None = None) -> Iterator[Receiver]:
    """A receiver that takes everything, or that answers as it is told."""
    with serving(answer or taken) as server:
        yield Receiver(server.url, server.calls)


def taken(call: Call) -> None:
    call.answer(200, ExportLogsServiceResponse().SerializeToString(), PROTOBUF)


def records_in(request: ExportLogsServiceRequest) -> list[Record]:
    return [
        Record(
            record.event_name,
            record.time_unix_nano,
            record.severity_number,
            told(record.attributes),
            told(logs.resource.attributes),
            part.scope.name,
        )
        for logs in request.resource_logs
        for part in logs.scope_logs
        for record in part.log_records
    ]


def told(attributes: Any) -> dict[str, Any]:
    pairs: list[KeyValue] = list(attributes)
    assert len({pair.key for pair in pairs}) == len(pairs)  # the protocol forbids a name to stand twice
    return {pair.key: value_of(pair.value) for pair in pairs}


def value_of(value: AnyValue) -> Any:
    kind = value.WhichOneof("value")
    if kind is None:
        return None
    if kind == "array_value":
        return [value_of(item) for item in value.array_value.values]
    if kind == "kvlist_value":
        return told(value.kvlist_value.values)
    return getattr(value, kind)
