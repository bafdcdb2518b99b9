"""The compiled engine in the oracle's words: JSON documents and dict contexts in, dict decisions out."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from flagkit.context import Context
from flagkit.core.model import Definitions
from flagkit.core.snapshot import Snapshot
from flagkit.decision import Decision
from flagkit.dialects import native

Json = dict[str, Any]


def parsed(document: Json, previous: Definitions | None = None) -> Definitions:
    """The document as the engine reads it; what it says of flags it refuses is in ``Definitions.refused``."""
    return native.parse(json.dumps(document).encode(), previous).definitions


def snapshot_of(document: Json, now_ms: int, stale: frozenset[str] = frozenset()) -> Snapshot:
    """The document compiled, on a clock that stands at ``now_ms``."""
    return Snapshot(parsed(document), now_ms=lambda: now_ms, stale=stale)


def context_of(context: Json) -> Context:
    attributes, enrolments = context.get("attributes"), context.get("enrolments")
    if "unit" in context:
        return Context(context["unit"], attributes, enrolments=enrolments)
    return Context(attributes=attributes, enrolments=enrolments)


def in_words(decision: Decision) -> Json:
    """A decision as ``interpreter.decide`` gives it."""
    return {
        "variant": decision.variant,
        "reason": str(decision.reason),
        "error_code": None if decision.error_code is None else str(decision.error_code),
        "rule": decision.rule,
        "analysable": decision.analysable,
        "enabled": decision.enabled,
    }


def decided(snapshot: Snapshot, flag: str, context: Json, forced: Mapping[str, Any] | None = None) -> Json:
    return in_words(snapshot.decide(flag, context_of(context), forced))
