"""What a batch of events must be before it is stored: bounded, strict JSON, each event judged by itself.

Pure: bytes in, rows out. It owns the limits on sizes and the wire names of the fields (``flagkit.events`` writes them);
it knows nothing of HTTP beyond status codes, and nothing of SQL. The application calls ``read_batch`` off its loop.
"""

from __future__ import annotations

import json
import math
import re
import zlib
from typing import Any, Final, NamedTuple, NoReturn

from flagkit.events import ENROLMENT, FEEDBACK, MAX_FEEDBACK
from flagkit.production.metrics import Sums
from flagkit.server.calls import NAME as CALLS
from flagkit.server.calls import Counted
from flagkit.server.enrolments import Enrolment

MAX_WIRE_BYTES: Final = 1024 * 1024
MAX_BODY_BYTES: Final = 5 * 1024 * 1024
MAX_EVENTS: Final = 10_000
MAX_EVENT_BYTES: Final = 64 * 1024
_MAX_TEXT: Final = 256
_MAX_UNIT_BYTES: Final = 1024
_MAX_REASONS: Final = 100
_MAX_TIME_MS: Final = 253_402_300_799_999  # the last millisecond of the year 9999
_MAX_COUNT: Final = 2**53
_event_id = re.compile(r"[0-9a-fA-F]{32}").fullmatch
_batch_id = re.compile(r"[A-Za-z0-9._-]{1,64}").fullmatch


class Refused(Exception):
    """A request that is not taken at all. ``status`` is the HTTP status, the message is for whoever sent it."""

    def __init__(self, status: int, message: str) -> None:
        self.status = status
        super().__init__(message)


class Received(NamedTuple):
    """A batch whose good events are ready to store.

    exposures: rows of (id, flag, variant, reason, rule, assigned, analysable, version, unit, environment, time_ms).
    metrics: rows of (id, name, unit, value, properties as JSON text, environment, time_ms).
    rejected: the events that never will be stored, as the answer words them.
    enrolments: what some of the metrics say besides: who opts in or out.
    calls: what gates have counted.
    """

    id: str
    sent_at_ms: int | None
    dropped: dict[str, int]
    exposures: list[tuple[Any, ...]]
    metrics: list[tuple[Any, ...]]
    rejected: list[dict[str, Any]]
    enrolments: list[Enrolment]
    calls: list[Counted]

    @property
    def says_something(self) -> bool:
        """Whether there is anything to store or count."""
        return bool(self.exposures or self.metrics or self.calls or self.rejected or self.dropped)


class _Malformed(ValueError):
    """One event cannot be stored; the message is the reason, a word for counting."""


def read_batch(wire: bytes, encoding: str) -> Received:
    """The batch in a request's body. ``encoding`` is its Content-Encoding, "" for none.

    Raises: Refused with 400 (malformed), 413 (too large, or too many events) or 415 (an encoding not taken).
    """
    body = decoded(wire, encoding)
    try:
        batch = json.loads(body.decode(), parse_constant=_not_json)
    except (ValueError, RecursionError):
        raise Refused(400, "the body is not JSON in UTF-8") from None
    if not isinstance(batch, dict) or not isinstance(batch.get("events"), list):
        raise Refused(400, "expected an object with batch_id, sent_at, dropped and events")
    batch_id, sent_at_ms, dropped = batch.get("batch_id"), batch.get("sent_at"), batch.get("dropped", {})
    if not isinstance(batch_id, str) or not _batch_id(batch_id):
        raise Refused(400, "batch_id: expected 1 to 64 letters, digits, dots, underscores or hyphens")
    if sent_at_ms is not None and not _whole(sent_at_ms, _MAX_TIME_MS):
        raise Refused(400, "sent_at: expected milliseconds since 1970, or nothing")
    if not _counts(dropped):
        raise Refused(400, f"dropped: expected at most {_MAX_REASONS} counts by reason")
    if len(batch["events"]) > MAX_EVENTS:
        raise Refused(413, f"more than {MAX_EVENTS:,} events in a batch")
    received = Received(batch_id, sent_at_ms, dropped, [], [], [], [], [])
    # No event can be larger than all of them together, so that usual batches are not measured one by one.
    measure = len(body) > MAX_EVENT_BYTES
    for event in batch["events"]:
        _sort(event, received, measure)
    return received


def decoded(wire: bytes, encoding: str) -> bytes:
    """The body as it was before its Content-Encoding, within bounds. Raises: Refused with 400, 413 or 415."""
    if encoding in ("", "identity"):
        return wire
    if encoding != "gzip":
        raise Refused(415, "Content-Encoding: expected gzip or identity")
    inflate = zlib.decompressobj(31)
    try:
        body = inflate.decompress(wire, MAX_BODY_BYTES + 1)
    except zlib.error:
        raise Refused(400, "the body is not gzip") from None
    if len(body) > MAX_BODY_BYTES:
        raise Refused(413, f"more than {MAX_BODY_BYTES:,} bytes decoded")
    if not inflate.eof or inflate.unused_data:
        raise Refused(400, "the body is not one whole gzip stream")
    return body


def _sort(event: Any, received: Received, measure: bool) -> None:
    try:
        if not isinstance(event, dict):
            raise _Malformed("not_an_object")
        if measure and len(json.dumps(event, separators=(",", ":"))) > MAX_EVENT_BYTES:
            raise _Malformed("too_large")
        kind = event.get("type")
        if kind == "exposure":
            received.exposures.append(_exposure(event))
        elif kind == "metric" and event.get("name") == CALLS:
            received.calls.append(_calls(event))
        elif kind == "metric":
            row = _metric(event)
            if event["name"] == ENROLMENT:
                received.enrolments.append(_enrolment(event))
            elif event["name"] == FEEDBACK:
                _check_feedback(event.get("properties", {}))
            received.metrics.append(row)
        else:
            raise _Malformed("unknown_type")
    except (_Malformed, RecursionError) as error:
        reason = str(error) if isinstance(error, _Malformed) else "too_deep"
        # What is not a proper id is not echoed.
        event_id = event.get("id") if isinstance(event, dict) else None
        known = event_id if isinstance(event_id, str) and _event_id(event_id) else None
        received.rejected.append({"id": known, "reason": reason, "retry": False})


def _exposure(event: dict[str, Any]) -> tuple[Any, ...]:
    analysable = event.get("flagkit.analysable")
    if not isinstance(analysable, bool):
        raise _Malformed("invalid_analysable")
    return (
        _id(event),
        _text(event.get("feature_flag.key"), "flag"),
        _text(event.get("feature_flag.result.variant"), "variant"),
        _text(event.get("feature_flag.result.reason"), "reason"),
        _optional(event.get("flagkit.rule"), "rule"),
        _optional(event.get("flagkit.assigned"), "assigned"),
        analysable,
        _optional(event.get("feature_flag.version"), "version"),
        _unit(event.get("feature_flag.context.id")),
        _optional(event.get("feature_flag.set.id"), "environment"),
        _time_ms(event),
    )


def _metric(event: dict[str, Any]) -> tuple[Any, ...]:
    unit = event.get("feature_flag.context.id")
    return (
        _id(event),
        _text(event.get("name"), "name"),
        None if unit is None else _unit(unit),
        _number(event.get("value")),
        _properties(event.get("properties", {})),
        _optional(event.get("feature_flag.set.id"), "environment"),
        _time_ms(event),
    )


def _enrolment(event: dict[str, Any]) -> Enrolment:
    said, unit = event.get("properties", {}), event.get("feature_flag.context.id")
    if not unit or said.keys() != {"flag", "enrolled"} or not isinstance(said["enrolled"], bool):
        raise _Malformed("invalid_enrolment")
    return Enrolment(_id(event), _text(said["flag"], "flag"), unit, said["enrolled"], _time_ms(event))


def _check_feedback(said: dict[str, Any]) -> None:
    """Its properties are flat and few, so that the summary may look into them."""
    text = said.get("text")
    if not said.keys() <= {"flag", "variant", "version", "text"}:
        raise _Malformed("invalid_feedback")
    _text(said.get("flag"), "flag")
    _optional(said.get("variant"), "variant")
    _optional(said.get("version"), "version")
    if text is not None and (not isinstance(text, str) or len(text) > MAX_FEEDBACK or not _utf8(text)):
        raise _Malformed("invalid_feedback")


def _calls(event: dict[str, Any]) -> Counted:
    properties = event.get("properties")
    if not isinstance(properties, dict):
        raise _Malformed("invalid_properties")
    flag = _text(properties.get("feature_flag.key"), "flag")
    variant = _text(properties.get("feature_flag.result.variant"), "variant")
    try:
        sums = Sums.from_json(properties)
    except ValueError:
        raise _Malformed("invalid_calls") from None
    return Counted(_id(event), flag, variant, _time_ms(event), sums)


def _number(value: Any) -> float | None:
    if value is None:
        return None
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        try:
            number = float(value)
        except OverflowError:  # an integer beyond any float
            number = math.inf
        if math.isfinite(number):
            return number
    raise _Malformed("invalid_value")


def _properties(properties: Any) -> str:
    if isinstance(properties, dict):
        try:
            return json.dumps(properties, separators=(",", ":"), allow_nan=False)
        except ValueError:  # 1e999 was read as infinity
            pass
    raise _Malformed("invalid_properties")


def _id(event: dict[str, Any]) -> bytes:
    value = event.get("id")
    if not isinstance(value, str) or not _event_id(value):
        raise _Malformed("invalid_id")
    return bytes.fromhex(value)


def _text(value: Any, column: str) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= _MAX_TEXT or not _utf8(value):
        raise _Malformed(f"invalid_{column}")
    return value


def _optional(value: Any, column: str) -> str | None:
    return None if value is None else _text(value, column)


def _unit(value: Any) -> str:
    # At most 1,024 characters before any is counted in bytes: nothing large is encoded.
    if not isinstance(value, str) or len(value) > _MAX_UNIT_BYTES or not _utf8(value, _MAX_UNIT_BYTES):
        raise _Malformed("invalid_unit")
    return value


def _utf8(text: str, limit: int | None = None) -> bool:
    """Whether ``text`` has a UTF-8 form (a lone surrogate has none) of at most ``limit`` bytes."""
    if text.isascii():
        return True
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        return False
    return limit is None or size <= limit


def _time_ms(event: dict[str, Any]) -> int:
    value: Any = event.get("time_ms")
    if _whole(value, _MAX_TIME_MS):
        return int(value)
    raise _Malformed("invalid_time")


def _whole(value: Any, most: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= most


def _counts(dropped: Any) -> bool:
    return (
        isinstance(dropped, dict)
        and len(dropped) <= _MAX_REASONS
        and all(0 < len(reason) <= _MAX_TEXT and _utf8(reason) for reason in dropped)
        and all(_whole(count, _MAX_COUNT) for count in dropped.values())
    )


def _not_json(constant: str) -> NoReturn:
    raise ValueError(constant)
