"""Short forms of the tests of PostHog's dialect: a flag, a client of some, and a question to it."""

from __future__ import annotations

import json
from typing import Any

from flagkit import Client, sources
from flagkit.core.snapshot import Snapshot
from flagkit.decision import Decision
from flagkit.dialects.posthog import context, parse

Json = dict[str, Any]
NOW_MS = 1_795_428_000_000  # 2026-11-23T10:00:00Z


def flag(key: str = "f", *conditions: Json, **more: Any) -> Json:
    """A flag of these condition sets; ``more`` goes into its filters, or beside them if it belongs there."""
    beside = ("id", "version", "active", "deleted", "ensure_experience_continuity", "bucketing_identifier")
    around = {name: more.pop(name) for name in (*beside, "has_experiment", "name") if name in more}
    return {"key": key, "active": True, **around, "filters": {"groups": list(conditions), **more}}


def when(key: str, operator: str | None = None, value: Any = None, **more: Any) -> Json:
    return {"key": key, "type": "person", "operator": operator, "value": value, **more}


def matching(*properties: Json, percentage: float | None = 100, **more: Any) -> Json:
    return {"properties": list(properties), "rollout_percentage": percentage, **more}


def in_cohort(cohort: Any, **more: Any) -> Json:
    return {"key": "id", "type": "cohort", "value": cohort, **more}


def serves(key: str, value: Any, chain: Any = ("x",), **more: Any) -> Json:
    """A filter that asks for another flag."""
    return {
        "key": key,
        "type": "flag",
        "operator": "flag_evaluates_to",
        "value": value,
        "dependency_chain": chain,
        **more,
    }


def document(*flags: Json, **head: Any) -> Json:
    return {"flags": list(flags), "group_type_mapping": {"0": "company", "1": "project"}, "cohorts": {}, **head}


def client(*flags: Json, **head: Any) -> Client:
    return Client(source=sources.Static(document(*flags, **head), dialect="posthog"), sink=None)


def snapshot(*flags: Json, **head: Any) -> Snapshot:
    return Snapshot(
        parse(json.dumps(document(*flags, **head)).encode()).definitions, now_ms=lambda: NOW_MS, observe=True
    )


def decided(
    flags: Json | list[Json], key: str = "f", unit: Any = "user-1", head: Json | None = None, **asked: Any
) -> Decision:
    """The decision, of ``key``, for a question as PostHog's SDKs put it; person properties by name."""
    own = ("groups", "group_properties", "device_id")
    question = {"distinct_id": unit, **{name: asked.pop(name) for name in own if name in asked}}
    listed = flags if isinstance(flags, list) else [flags]
    return snapshot(*listed, **(head or {})).decide(key, context({**question, "person_properties": asked}))


def variant(*args: Any, **asked: Any) -> str | None:
    return decided(*args, **asked).variant


def cause(*args: Any, **asked: Any) -> tuple[str | None, str | None]:
    """Error code, and what stood in the way, of a decision that is none."""
    decision = decided(*args, **asked)
    assert decision.variant is None
    return decision.error_code and decision.error_code.value, decision.rule
