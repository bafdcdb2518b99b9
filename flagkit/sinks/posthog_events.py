"""flagkit's events as PostHog's: exposures are ``$feature_flag_called``, what is tracked goes by its own name.

Pure: the JSON of an event in, a mapping out. An event's ``uuid`` follows from its id, and an exposure's id from what it
says, so that one that is sent again, or by another process in the same window, is stored once: PostHog tells events
apart by day, name, unit and ``uuid``.

Source: PostHog's Python SDK (client.py), posthog.com/docs/api/capture.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from flagkit.events import ENROLMENT

FLAG_CALLED: Final = "$feature_flag_called"
ENROLMENT_UPDATE: Final = "$feature_enrollment_update"
_LIBRARY: Final = "flagkit"
_ANSWERS: Final = {"true": True, "false": False}
_CONDITION: Final = "condition set "
#: Rules and reasons of PostHog's own flags, where no condition set decided, as its servers put them.
_RULES: Final = {
    "enrolment": "Super condition value",
    "holdout": "Holdout condition value",
    "no group": "No group type",
}
_REASONS: Final = {"default": "No matching condition set", "disabled": "Feature flag is disabled"}
_MATCHING: Final = ("split", "static", "targeting_match")


def unit_of(event: Mapping[str, Any]) -> str | None:
    """Whose event it is; None: nobody's."""
    unit = event.get("feature_flag.context.id")
    return unit if isinstance(unit, str) else None


def event_of(event: Mapping[str, Any], groups: Mapping[str, Any], version: str) -> dict[str, Any] | None:
    """One event as PostHog takes it; None when it is of a kind that PostHog has no use for.

    Args: groups, type -> key, of its unit; version, of flagkit. Raises: KeyError, TypeError or ValueError when it is no
    event of flagkit's.
    """
    kind = event["type"]
    uuid = _uuid(event["id"])
    unit = unit_of(event)
    if kind == "exposure":
        name, properties = FLAG_CALLED, _exposed(event)
    elif kind == "metric":
        name, properties = _tracked(event)
    else:
        return None
    if groups:
        properties.setdefault("$groups", dict(groups))
    if unit is None:  # PostHog wants somebody: one who is not remembered
        properties["$process_person_profile"] = False
    properties |= {"$lib": _LIBRARY, "$lib_version": version, "$is_server": True}
    properties.setdefault("$geoip_disable", True)
    return {
        "event": name,
        "distinct_id": uuid if unit is None else unit,
        "timestamp": timestamp(event["time_ms"]),
        "uuid": uuid,
        "properties": properties,
    }


def timestamp(time_ms: int) -> str:
    """ISO 8601, in UTC."""
    return datetime.fromtimestamp(time_ms / 1000, UTC).isoformat(timespec="milliseconds")


def encoded(event: Mapping[str, Any]) -> str:
    """An event as JSON of ASCII. Raises: ValueError, TypeError or RecursionError when it has none."""
    return json.dumps(event, separators=(",", ":"), allow_nan=False)


def _exposed(event: Mapping[str, Any]) -> dict[str, Any]:
    key, variant = event["feature_flag.key"], event["feature_flag.result.variant"]
    answer = _ANSWERS.get(variant, variant)
    told = event.get("flagkit.telemetry") or {}
    properties = {"$feature_flag": key, "$feature_flag_response": answer}
    properties["locally_evaluated"] = told.get("remote") is not True
    if told.get("minimal") is not True:
        properties[f"$feature/{key}"] = answer
    for name in ("id", "version", "has_experiment", "request_id", "evaluated_at"):
        if name in told:
            properties[f"$feature_flag_{name}"] = told[name]
    reason = told.get("reason")  # in the words of the server that decided
    properties["$feature_flag_reason"] = (
        _reason(event["feature_flag.result.reason"], event["flagkit.rule"], answer) if reason is None else reason
    )
    return properties


def _reason(reason: str, rule: str | None, answer: Any) -> str:
    if rule is None:
        return _REASONS.get(reason, reason) if isinstance(answer, bool) else reason
    if rule.startswith(_CONDITION) and reason in _MATCHING:
        return "Out of rollout bound" if answer is False else f"Matched {rule}"
    return _RULES.get(rule, f"{reason}: {rule}")


def _tracked(event: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    name, properties = event["name"], dict(event["properties"])
    if name == ENROLMENT:
        name = ENROLMENT_UPDATE
        properties = {"$feature_flag": properties["flag"], "$feature_enrollment": properties["enrolled"]}
    if event.get("value") is not None:
        properties.setdefault("value", event["value"])
    flag = properties.get("$feature_flag")
    if name == ENROLMENT_UPDATE and isinstance(flag, str):
        # What PostHog's flags ask for from then on is a property of the person.
        told = {f"$feature_enrollment/{flag}": properties.get("$feature_enrollment") is True}
        properties.setdefault("$set", told)
    return name, properties


def _uuid(event_id: str) -> str:
    """The id as a UUID of version 8 (RFC 9562), whose bits are the application's but for six."""
    from uuid import UUID  # not at import

    number = int(event_id, 16) & ((1 << 128) - 1)
    return str(UUID(int=number & ~(0xF << 76) & ~(0x3 << 62) | (8 << 76) | (2 << 62)))
