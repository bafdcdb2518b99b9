"""PostHog's flags and filters: decoded JSON to ``posthog_model``, noting every mistake. Called by ``posthog``.

Fields that are not known are read over: PostHog's servers add some. Numbers of their own (``id``, ``version``) only
name a flag in events, so that a strange one is left out and costs nothing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from flagkit.dialects.fields import At, Faults, check_depth, read_bool, read_list, read_object, said
from flagkit.dialects.posthog_model import INHERITED, Condition, Flag, Holdout, Property

MAX_KEY: Final = 400
_MAX_CONDITIONS: Final = 1000
_MAX_FILTERS: Final = 2000  # of all condition sets together
_MAX_VARIANTS: Final = 1000
_MAX_CHAIN: Final = 1000
_MAX_VALUE_DEPTH: Final = 16
_MAX_INDEX: Final = 1 << 31
_CONTINUITY: Final = "experience continuity"
_CLOSED: Final = "unsupported definition"
_BOOLEANS: Final = {"true": True, "false": False}


def read_flag(value: object, at: At, faults: Faults, notes: Faults) -> Flag:
    """One flag. With faults noted, the result is not for use."""
    raw = read_object(value, at, faults)
    filters_at = (at, "filters")
    filters = _object(raw.get("filters"), filters_at, faults)
    version = filters.get("version")
    if version not in (None, 1):
        notes.add((filters_at, "version"), f"got {said(version)}; only version 1 is decided here, so it is undecided")
        filters = {}
    variants = _variants(filters.get("multivariate"), (filters_at, "multivariate"), faults)
    holdout = _holdout(filters.get("holdout"), (filters_at, "holdout"), faults)
    values = _values(variants, holdout, _object(filters.get("payloads"), (filters_at, "payloads"), faults))
    for name, payload in values.items():
        check_depth(payload, ((filters_at, "payloads"), name), faults, _MAX_VALUE_DEPTH)
    continuity = _flagged(raw, "ensure_experience_continuity", at, faults)
    identifier = raw.get("bucketing_identifier") or filters.get("bucketing_identifier")
    experiment = raw.get("has_experiment")
    description = raw.get("name")
    return Flag(
        key=read_key(raw.get("key"), (at, "key"), faults),
        active=_flagged(raw, "active", at, faults) and not _flagged(raw, "deleted", at, faults),
        hindrance=_CONTINUITY if continuity else _CLOSED if version not in (None, 1) else None,
        conditions=_conditions(filters.get("groups"), (filters_at, "groups"), faults),
        variants=variants,
        values=values,
        group=_index(filters, (filters_at, "aggregation_group_type_index"), faults),
        by_device=identifier == "device_id",
        early_exit=_flagged(filters, "early_exit", filters_at, faults),
        enrolment=_flagged(filters, "feature_enrollment", filters_at, faults),
        holdout=holdout,
        number=_number(raw.get("id")),
        version=_number(raw.get("version")),
        has_experiment=experiment if isinstance(experiment, bool) else None,
        description=description if isinstance(description, str) and 0 < len(description) <= 4096 else None,
    )


def read_key(value: object, at: At, faults: Faults) -> str:
    """The key of a flag."""
    if isinstance(value, str) and is_key(value):
        return value
    faults.expected(at, value, f"a key of 1 to {MAX_KEY} characters of Unicode")
    return "?"


def is_key(name: str) -> bool:
    return 0 < len(name) <= MAX_KEY and not any("\ud800" <= character <= "\udfff" for character in name)


def read_property(value: object, at: At, faults: Faults) -> Property:
    """One filter. What cannot be asked here is no mistake."""
    raw = read_object(value, at, faults)
    kind, operator, group = raw.get("type"), raw.get("operator"), raw.get("group_type_index")
    for field, each in (("type", kind), ("operator", operator)):
        if each is not None and not isinstance(each, str):
            faults.expected((at, field), each, "a string")
    key = raw.get("key")
    if kind != "cohort" and kind != "flag" and not isinstance(key, str):
        faults.expected((at, "key"), key, "the name of a property")
    asked = raw.get("value")
    check_depth(asked, (at, "value"), faults, _MAX_VALUE_DEPTH)
    return Property(
        key=key if isinstance(key, str) else "",
        operator=operator if isinstance(operator, str) and operator else None,
        value=asked,
        kind=kind if isinstance(kind, str) else None,
        group=group if isinstance(group, int) and not isinstance(group, bool) and 0 <= group < _MAX_INDEX else None,
        negated=raw.get("negation") is True,
        chain=_chain(raw.get("dependency_chain")),
    )


def _chain(value: object) -> tuple[str, ...] | None:
    listed = isinstance(value, list) and len(value) <= _MAX_CHAIN and all(isinstance(key, str) for key in value)
    return tuple(value) if listed else None  # type: ignore[arg-type]


def _conditions(value: object, at: At, faults: Faults) -> tuple[Condition, ...]:
    listed = [] if value is None else read_list(value, at, faults)
    if len(listed) > _MAX_CONDITIONS:
        faults.add(at, f"{len(listed):,} condition sets; expected at most {_MAX_CONDITIONS:,}")
        return ()
    found = tuple(_condition(each, (at, index), faults) for index, each in enumerate(listed))
    filters = sum(len(each.properties) for each in found)
    if filters > _MAX_FILTERS:
        faults.add(at, f"{filters:,} filters; expected at most {_MAX_FILTERS:,}")
    return found


def _condition(value: object, at: At, faults: Faults) -> Condition:
    raw = read_object(value, at, faults)
    properties = raw.get("properties")
    listed = [] if properties is None else read_list(properties, (at, "properties"), faults)
    percentage, variant = raw.get("rollout_percentage"), raw.get("variant")
    if variant is not None and not isinstance(variant, str):
        faults.expected((at, "variant"), variant, "the key of a variant, or null")
    own = "aggregation_group_type_index" in raw
    return Condition(
        tuple(read_property(each, ((at, "properties"), index), faults) for index, each in enumerate(listed)),
        100.0 if percentage is None else _percentage(percentage, (at, "rollout_percentage"), faults),
        variant if isinstance(variant, str) else None,
        _index(raw, (at, "aggregation_group_type_index"), faults) if own else INHERITED,
    )


def _variants(value: object, at: At, faults: Faults) -> tuple[tuple[str, float], ...]:
    given = _object(value, at, faults).get("variants")
    at = (at, "variants")
    listed = [] if given is None else read_list(given, at, faults)
    if len(listed) > _MAX_VARIANTS:
        faults.add(at, f"{len(listed):,} variants; expected at most {_MAX_VARIANTS:,}")
        return ()
    found: list[tuple[str, float]] = []
    for index, each in enumerate(listed):
        raw = read_object(each, (at, index), faults)
        key = read_key(raw.get("key"), ((at, index), "key"), faults)
        found.append((key, _percentage(raw.get("rollout_percentage"), ((at, index), "rollout_percentage"), faults)))
    return tuple(found)


def _holdout(value: object, at: At, faults: Faults) -> Holdout | None:
    raw = _object(value, at, faults)
    number, percentage = raw.get("id"), raw.get("exclusion_percentage")
    if number is None or percentage is None:
        return None
    if isinstance(percentage, bool) or not isinstance(percentage, (int, float)):
        faults.expected((at, "exclusion_percentage"), percentage, "a number")
        return None
    if isinstance(number, bool) or not isinstance(number, int) or not abs(number) < _MAX_INDEX:
        faults.expected((at, "id"), number, "a whole number")
        return None
    return Holdout(f"holdout-{number}", min(max(float(percentage), 0.0), 100.0))


def _values(
    variants: tuple[tuple[str, float], ...], holdout: Holdout | None, payloads: Mapping[str, Any]
) -> Mapping[str, Any]:
    """Variant -> its payload, if it has one, or else the answer as PostHog gives it: a bool, or the variant's key."""
    values: dict[str, Any] = dict(_BOOLEANS)
    names = [name for name, _ in variants if name not in values]
    values.update((name, name) for name in (*names, *([holdout.name] if holdout else [])))
    for name in values:
        payload = payloads.get(name)
        if payload is not None:
            values[name] = _payload(payload)
    return values


def _payload(value: Any) -> Any:
    """Payloads are JSON in a string; a string that is none stands for itself."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value, parse_constant=_finite, parse_float=_finite)
    except (ValueError, RecursionError):
        return value


def _finite(digits: str) -> float:
    number = float(digits)
    if number - number != 0:
        raise ValueError(f"{digits} is not JSON")
    return number


def _object(value: object, at: At, faults: Faults) -> dict[str, Any]:
    return {} if value is None else read_object(value, at, faults)


def _flagged(raw: Mapping[str, Any], field: str, at: At, faults: Faults) -> bool:
    value = raw.get(field)
    return False if value is None else read_bool(value, (at, field), faults)


def _index(raw: Mapping[str, Any], at: Any, faults: Faults) -> int | None:
    value = raw.get(at[1])
    if value is None or (isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _MAX_INDEX):
        return value
    faults.expected(at, value, "the index of a group type, or null")
    return None


def _percentage(value: object, at: At, faults: Faults) -> float:
    if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= 100:
        return float(value)
    faults.expected(at, value, "a number from 0 to 100")
    return 0.0


def _number(value: object) -> int | None:
    """A positive number that names something."""
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 < value < 1 << 53 else None
