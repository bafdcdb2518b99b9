"""What is recorded, and its wire form: exposures, metric events, the batches that carry them, and counts of calls.

Exposures are tuples until the delivery thread encodes them; metric events are encoded where they are tracked, so that
a value that cannot be sent costs its own event only. An exposure's id follows from what it says, so any worker
that sends it again, or sees the same thing in the same window, sends the same id and a collector stores it once.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple, TypeAlias

from flagkit.decision import Decision

#: Metric events of the library's own: what a user says of a flag, and that a unit opts in to it or out of it.
FEEDBACK: Final = "flagkit.feedback"
ENROLMENT: Final = "flagkit.enrolment"
#: Characters of a feedback's text; what is longer is cut.
MAX_FEEDBACK: Final = 2000
_MAX_NAME: Final = 128
_string = json.encoder.encode_basestring_ascii


class Exposure(NamedTuple):
    """A unit met a decision, as it waits to be encoded.

    text, identity: of the decision, from ``ExposureEncoder.constant``. key: the unit's UTF-8. time_ms: since 1970.
    Scalars only, and no reference to the decision: the garbage collector then lets a full buffer alone.
    """

    text: str
    identity: bytes
    key: bytes
    time_ms: int


class ExposureEncoder:
    """Exposures to JSON text.

    environment: asked when a decision is first exposed, by when its definitions are known.
    """

    __slots__ = ("_blake2b", "_environment", "_window_ms")

    def __init__(self, environment: Callable[[], str | None], window_s: int) -> None:
        from hashlib import blake2b  # loads OpenSSL, which only a client that records should pay for

        self._blake2b = blake2b
        self._environment = environment
        self._window_ms = window_s * 1000

    def constant(self, decision: Decision) -> tuple[str, bytes]:
        """What all exposures to ``decision`` have in common: the JSON they end with, and what their ids start from."""
        environment = self._environment()
        attributes: dict[str, Any] = {
            "type": "exposure",
            "feature_flag.key": decision.flag,
            "feature_flag.result.variant": decision._arm,
            "feature_flag.result.reason": decision.reason.lower(),
            "feature_flag.version": decision.version,
            "feature_flag.set.id": environment,
            "flagkit.rule": decision.rule,
            "flagkit.assigned": decision.assigned,
            "flagkit.analysable": decision.analysable,
        }
        if decision._telemetry:
            attributes["flagkit.telemetry"] = dict(decision._telemetry)
        # The unit comes last in the hashed bytes and everything before it is JSON, so no two events read the same.
        identity = json.dumps(
            [environment, decision.flag, decision.version, decision.rule, decision._arm], separators=(",", ":")
        )
        return json.dumps(attributes, separators=(",", ":"))[1:], identity.encode() + b"\n"

    def encode(self, exposure: Exposure) -> str:
        """The event as JSON text. Its id is that of every exposure of this unit to this outcome in this window."""
        text, identity, key, time_ms = exposure
        window = b"%d\n" % (time_ms // self._window_ms)
        event_id = self._blake2b(identity + window + key, digest_size=16).hexdigest()
        return f'{{"id":"{event_id}","time_ms":{time_ms},"feature_flag.context.id":{_string(key.decode())},{text}'


def encode_metric(
    name: str,
    unit: str | None,
    time_ms: int,
    value: float | None,
    properties: Mapping[str, Any],
    environment: str | None,
) -> str:
    """A metric event as JSON text with a random id.

    Raises: ValueError or TypeError when something in it has no JSON form (NaN, bytes, a lone surrogate in the name,
    a cycle) or the name is not 1 to 128 characters. RecursionError for absurd nesting.
    """
    if type(name) is not str or not 0 < len(name) <= _MAX_NAME:
        raise ValueError("an event's name is a string of 1 to 128 characters")
    if value is not None and type(value) not in (int, float):
        raise TypeError("an event's value is a number")
    text = json.dumps(
        {
            "id": os.urandom(16).hex(),
            "type": "metric",
            "time_ms": time_ms,
            "name": name,
            "feature_flag.context.id": unit,
            "feature_flag.set.id": environment,
            "value": value,
            "properties": dict(properties),
        },
        separators=(",", ":"),
        allow_nan=False,
    )
    if "\\ud" in text:  # a surrogate escape: fine in pairs, but JSON that no strict reader takes when it stands alone
        json.dumps(json.loads(text), ensure_ascii=False).encode()
    return text


class Batch(NamedTuple):
    """Events that travel together. Immutable: a retry sends the same id and the same bytes of events.

    id: 32 hex digits, fixed when the batch is sealed; the collector's idempotency key.
    events: JSON texts, one an event.
    dropped: events lost since the last delivered batch, by reason (a client report).
    """

    id: str
    events: tuple[str, ...]
    dropped: Mapping[str, int]

    @classmethod
    def seal(cls, events: tuple[str, ...], dropped: Mapping[str, int], batch_id: str = "") -> Batch:
        """A batch of that id, or of a random one if it is empty."""
        return cls(batch_id or os.urandom(16).hex(), events, dict(dropped))

    def body(self, sent_at_ms: int) -> bytes:
        """The JSON a collector receives: ``{batch_id, sent_at, dropped, events}``; ``sent_at`` in ms since 1970."""
        head = json.dumps(
            {"batch_id": self.id, "sent_at": sent_at_ms, "dropped": dict(self.dropped)}, separators=(",", ":")
        )
        return f'{head[:-1]},"events":[{",".join(self.events)}]}}'.encode()


class FlagUsage(NamedTuple):
    """How often a flag was asked for. yes, no: the answers, enabled or not. variants: those of them that named one."""

    yes: int
    no: int
    variants: Mapping[str, int]

    @property
    def calls(self) -> int:
        return self.yes + self.no


class Usage(NamedTuple):
    """How often flags were asked for between two moments, ms since 1970. At least one flag."""

    start_ms: int
    stop_ms: int
    flags: Mapping[str, FlagUsage]

    @property
    def calls(self) -> int:
        return sum(flag.calls for flag in self.flags.values())


class Delivered(NamedTuple):
    """The collector has the batch. ``rejected``: reason -> number of events it refused for good."""

    rejected: Mapping[str, int] = {}


class Retry(NamedTuple):
    """Not delivered; the same batch may be sent again, at the earliest in ``after_s`` seconds.

    ``lasting``: retrying soon is pointless (401, 403, 404): slow down.
    """

    reason: str
    after_s: float = 0.0
    lasting: bool = False


class Rejected(NamedTuple):
    """The collector will never take this batch; its events are lost for ``reason``.

    ``divisible``: it may take some of them, so they are offered again in smaller batches, and only what is refused
    alone is lost.
    """

    reason: str
    divisible: bool = False


class TooLarge(NamedTuple):
    """More than the collector takes at once; smaller batches may pass, now and later.

    ``reason``: what an event is lost for that is too large all by itself.
    """

    reason: str = "too_large"


Sent: TypeAlias = Delivered | Retry | Rejected | TooLarge
