"""Events and batches for the server's tests, made by the client's own encoders: one wire form."""

from __future__ import annotations

import json
import os
from typing import Any

from flagkit.decision import Decision, Reason
from flagkit.events import Batch, Exposure, ExposureEncoder, encode_metric

HOUR_MS = 3_600_000
NOW_MS = 494_000 * HOUR_MS  # a full hour


def exposure(
    flag: str = "checkout", variant: str = "on", unit: str = "user-1", time_ms: int = NOW_MS, **changed: Any
) -> dict[str, Any]:
    """An exposure as a client sends it, with wire fields replaced by ``changed``."""
    decision = Decision(
        flag, variant, variant == "on", Reason.SPLIT, rule="ramp", assigned=variant, analysable=True, version="1"
    )
    encoder = ExposureEncoder(lambda: "production", 3600)
    text = encoder.encode(Exposure(*encoder.constant(decision), unit.encode(), time_ms))
    return {**json.loads(text), **changed}


def metric(
    name: str = "purchase",
    unit: str | None = "user-1",
    time_ms: int = NOW_MS,
    value: float | None = None,
    **changed: Any,
) -> dict[str, Any]:
    return {**json.loads(encode_metric(name, unit, time_ms, value, {"plan": "pro"}, "production")), **changed}


def batch(*events: dict[str, Any], batch_id: str | None = None, dropped: dict[str, int] | None = None) -> bytes:
    """A request body of ``events``; ``batch_id`` is random when not given."""
    texts = tuple(json.dumps(event) for event in events)
    return Batch(batch_id or os.urandom(16).hex(), texts, dropped or {}).body(NOW_MS)
