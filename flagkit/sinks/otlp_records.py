"""Events as OpenTelemetry's log records: exposures are ``feature_flag.evaluation``, what is tracked ``flagkit.metric``.

Pure: the JSON of events in, the messages of opentelemetry-proto out, which is imported when the first sink is made.
The official encoder is not used, because it wants the SDK's log records, whose module is private and keeps changing;
a test holds the two against each other.

Source: opentelemetry.io/docs/specs/semconv/feature-flags/feature-flags-events, OTLP 1.5.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

from flagkit.boundary import contained
from flagkit.decision import Reason

if TYPE_CHECKING:
    from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
    from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord

EVALUATION: Final = "feature_flag.evaluation"
PROVIDER: Final = "flagkit"
_NS_PER_MS: Final = 1_000_000
_MOST_NESTED: Final = 16  # far from the depth at which protobuf gives up; what is deeper travels as JSON text
_INT64: Final = 1 << 63
_REASON: Final = "feature_flag.result.reason"


def record_of(text: str) -> LogRecord | None:
    """One event as a log record; None when it cannot be one. Raises: nothing.

    ``log.record.uid`` is the event's id, by which a backend knows it when it comes again.
    """
    return contained(_record, text, otherwise=None)


def losses(dropped: Mapping[str, int], batch_id: str, time_ms: int) -> LogRecord:
    """What a client says of the events it lost since it last got through, by reason."""
    counts = {f"flagkit.lost.{reason}": count for reason, count in dropped.items()}
    return _made("flagkit.lost", batch_id, time_ms, counts)


def attribute(name: str, value: Any) -> KeyValue:
    """A JSON value under a name. Raises: ValueError for text that has no UTF-8."""
    from opentelemetry.proto.common.v1.common_pb2 import KeyValue

    return KeyValue(key=name, value=_any(value))


def _record(text: str) -> LogRecord | None:
    event = json.loads(text)
    event_id, time_ms, kind = event.pop("id"), event.pop("time_ms"), event.pop("type")
    if kind != "exposure":
        return _made(f"flagkit.{kind}", event_id, time_ms, dict(_flat(f"flagkit.{kind}", event)))
    # OpenTelemetry's own word must be used where one applies; flagkit's says more, and stays beside it.
    own = event.get(_REASON)
    standard = contained(_standard, own, otherwise=own)
    if standard != own:
        event["flagkit.reason"], event[_REASON] = own, standard
    return _made(EVALUATION, event_id, time_ms, {**event, "feature_flag.provider.name": PROVIDER})


def _standard(reason: str) -> str:
    return Reason(reason.upper()).standard.lower()


def _flat(prefix: str, event: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """The fields under names of their own: those with a dot have one already; an object's are told one by one."""
    for name, value in event.items():
        if "." in name:
            yield name, value
        elif isinstance(value, dict):
            yield from ((f"{prefix}.{name}.{inner}", item) for inner, item in value.items())
        else:
            yield f"{prefix}.{name}", value


def _made(name: str, uid: str, time_ms: int, attributes: Mapping[str, Any]) -> LogRecord:
    from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord, SeverityNumber

    told = [attribute(key, value) for key, value in attributes.items() if value is not None]
    return LogRecord(
        time_unix_nano=time_ms * _NS_PER_MS,
        observed_time_unix_nano=time_ms * _NS_PER_MS,
        severity_number=SeverityNumber.SEVERITY_NUMBER_INFO,
        event_name=name,
        attributes=[*told, attribute("log.record.uid", uid)],
    )


def _any(value: Any, depth: int = 0) -> AnyValue:
    from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, KeyValue, KeyValueList

    if value is None:
        return AnyValue()
    if isinstance(value, bool):
        return AnyValue(bool_value=value)
    if isinstance(value, str):
        return AnyValue(string_value=value)
    if isinstance(value, int):
        return AnyValue(int_value=value) if -_INT64 <= value < _INT64 else AnyValue(string_value=str(value))
    if isinstance(value, float):
        return AnyValue(double_value=value)
    if depth == _MOST_NESTED:
        return AnyValue(string_value=json.dumps(value, separators=(",", ":")))
    if isinstance(value, list):
        return AnyValue(array_value=ArrayValue(values=[_any(item, depth + 1) for item in value]))
    items = [KeyValue(key=key, value=_any(item, depth + 1)) for key, item in value.items()]
    return AnyValue(kvlist_value=KeyValueList(values=items))
