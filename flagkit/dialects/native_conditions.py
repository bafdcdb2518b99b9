"""Native conditions, rollouts and splits: decoded JSON to ``core.model``, noting every mistake.

Called by ``native`` for the parts of flags and segments that decide. Operators validate their own values.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final

from flagkit.context import unit_key
from flagkit.core import bucketing
from flagkit.core.dates import DATE_FORM, parse_date_ms
from flagkit.core.model import (
    UNIT,
    AllOf,
    AnyOf,
    Comparison,
    Condition,
    Enrolled,
    InSegment,
    Path,
    Rollout,
    Rule,
    Share,
    Step,
    TimeWindow,
)
from flagkit.core.operators import OPERATORS, Question
from flagkit.dialects.fields import (
    At,
    Faults,
    one_of,
    read_bool,
    read_choice,
    read_list,
    read_object,
    read_text,
    read_whole,
    said,
    unknown_fields,
)

KEY: Final = re.compile(r"[A-Za-z0-9._-]{1,128}").fullmatch
KEY_FORM: Final = "1 to 128 letters, digits, dots, dashes or underscores"
_MAX_NESTING: Final = 16
_MAX_CONDITIONS: Final = 100
_MAX_WEIGHT: Final = 1_000_000

_COMPARISON: Final = frozenset({"attribute", "op", "values", "not", "ignore_case"})
_SEGMENT: Final = frozenset({"segment", "not"})
_ENROLLED: Final = frozenset({"enrolled", "not"})
_TIME: Final = frozenset({"time", "not"})
_WINDOW: Final = frozenset({"from", "until"})
_RULE: Final = frozenset({"name", "when", "rollout", "serve", "split"})
_ROLLOUT: Final = frozenset({"percent", "steps", "by"})
_STEP: Final = frozenset({"from", "percent"})
_SHARE: Final = frozenset({"variant", "weight"})
_NO_CONDITION: Final = AnyOf(())


def _never() -> int:
    return 0


def read_key(value: object, at: At, faults: Faults) -> str:
    if isinstance(value, str) and KEY(value):
        return value
    faults.expected(at, value, KEY_FORM)
    return "?"


def read_path(value: object, at: At, faults: Faults) -> Path:
    """An attribute: one exact key, or a list of keys to descend."""
    if isinstance(value, str) and value:
        return (value,)
    if isinstance(value, list) and value and len(value) <= 32 and all(isinstance(key, str) and key for key in value):
        return tuple(value)
    faults.expected(at, value, "an attribute's name, or a list of names to descend")
    return UNIT


def read_threshold(value: Any, at: At, faults: Faults) -> int:
    try:
        return bucketing.threshold(value)
    except ValueError as error:
        faults.expected(at, value, str(error))
        return 0


def read_time(value: object, at: At, faults: Faults) -> int:
    found = parse_date_ms(value) if isinstance(value, str) else None
    if found is None:
        faults.expected(at, value, DATE_FORM)
        return 0
    return found


def read_units(value: object, at: At, faults: Faults) -> list[bytes]:
    keys = []
    for index, unit in enumerate(read_list(value, at, faults, "an array of units")):
        key = unit_key(unit)
        if key:
            keys.append(key)
        else:
            faults.expected((at, index), unit, "a unit: a string of 1 to 1,024 bytes, or a whole number below 2^63")
    return keys


def segments_in(conditions: Sequence[Condition]) -> frozenset[str]:
    """The segments that conditions name, at any depth."""
    names: set[str] = set()
    for condition in conditions:
        if isinstance(condition, InSegment):
            names.update(condition.names)
        elif isinstance(condition, (AllOf, AnyOf)):
            names |= segments_in(condition.conditions)
    return frozenset(names)


def asks_enrolment(condition: Condition) -> bool:
    """Whether the condition asks for enrolment, at any depth."""
    if isinstance(condition, (AllOf, AnyOf)):
        return any(map(asks_enrolment, condition.conditions))
    return isinstance(condition, Enrolled)


def read_conditions(value: object, at: At, faults: Faults, depth: int = 0) -> tuple[Condition, ...]:
    return tuple(
        [read_condition(item, (at, index), faults, depth) for index, item in enumerate(read_list(value, at, faults))]
    )


def read_condition(value: object, at: At, faults: Faults, depth: int = 0) -> Condition:
    """One condition; its form is known by its leading field."""
    if not isinstance(value, dict):
        faults.expected(at, value, "a condition (an object)")
        return _NO_CONDITION
    if depth > _MAX_NESTING:
        faults.add(at, f"nested too deeply; expected at most {_MAX_NESTING} levels")
        return _NO_CONDITION
    negated = "not" in value and isinstance(value["not"], bool) and value["not"]
    if "attribute" in value or "op" in value:
        return _comparison(value, at, faults, negated)
    if "segment" in value:
        unknown_fields(value, _SEGMENT, at, faults)
        names = value["segment"] if isinstance(value["segment"], list) else [value["segment"]]
        if not names:
            faults.add((at, "segment"), "an empty list; expected at least one segment")
        return InSegment(tuple(read_key(name, (at, "segment"), faults) for name in names), _negated(value, at, faults))
    if "enrolled" in value:
        unknown_fields(value, _ENROLLED, at, faults)
        if value["enrolled"] is not True:
            faults.expected((at, "enrolled"), value["enrolled"], 'true (for the opposite add "not": true)')
        return Enrolled(_negated(value, at, faults))
    if "time" in value:
        return _time_window(value, at, faults)
    return _nested(value, at, faults, depth)


def _nested(value: dict[str, Any], at: At, faults: Faults, depth: int) -> Condition:
    for field, kind in (("any", AnyOf), ("all", AllOf)):
        if field in value:
            unknown_fields(value, frozenset({field, "not"}), at, faults)
            inner = read_conditions(value[field], (at, field), faults, depth + 1)
            if value[field] == []:
                faults.add((at, field), "no conditions; expected at least one")
            return kind(inner, _negated(value, at, faults))
    if "not" in value:
        unknown_fields(value, frozenset({"not"}), at, faults)
        return AllOf((read_condition(value["not"], (at, "not"), faults, depth + 1),), negated=True)
    faults.expected(at, value, 'a condition with "attribute", "segment", "enrolled", "time", "any", "all" or "not"')
    return _NO_CONDITION


def _negated(value: dict[str, Any], at: At, faults: Faults) -> bool:
    return "not" in value and read_bool(value["not"], (at, "not"), faults)


def _comparison(value: dict[str, Any], at: At, faults: Faults, negated: bool) -> Condition:
    if not value.keys() <= _COMPARISON:
        unknown_fields(value, _COMPARISON, at, faults)
    if "not" in value:
        negated = read_bool(value["not"], (at, "not"), faults)
    ignore_case = "ignore_case" in value and read_bool(value["ignore_case"], (at, "ignore_case"), faults)
    attribute = value.get("attribute")
    path = (attribute,) if attribute.__class__ is str and attribute else read_path(attribute, (at, "attribute"), faults)
    name = value.get("op")
    operator = OPERATORS.get(name) if isinstance(name, str) else None
    values = tuple(read_list(value.get("values", []), (at, "values"), faults))
    if not isinstance(value.get("values", []), list) or not value.keys() <= _COMPARISON:
        return _NO_CONDITION
    if operator is None:
        faults.expected((at, "op"), name, one_of(OPERATORS))
        return _NO_CONDITION
    if ignore_case and not operator.folds:
        faults.add((at, "ignore_case"), f'"{name}" compares no text; leave it out')
    try:
        operator.make(Question(values, ignore_case, _never))
    except ValueError as error:
        faults.add((at, "values"), f"got {said(list(values))}; expected {error}")
    return Comparison(path, str(name), values, ignore_case, negated)


def _time_window(value: dict[str, Any], at: At, faults: Faults) -> Condition:
    unknown_fields(value, _TIME, at, faults)
    window = read_object(value["time"], (at, "time"), faults)
    if not isinstance(value["time"], dict):
        return _NO_CONDITION
    unknown_fields(window, _WINDOW, (at, "time"), faults)
    start, end = (read_time(window[f], ((at, "time"), f), faults) if f in window else None for f in ("from", "until"))
    if start is None and end is None:
        faults.expected((at, "time"), window, 'an object with "from", "until" or both')
    elif start is not None and end is not None and start >= end:
        faults.expected(((at, "time"), "until"), window["until"], 'a time after "from"')
    return TimeWindow(start, end, _negated(value, at, faults))


def read_rule(value: object, variants: Any, index: int, at: At, faults: Faults) -> Rule:
    rule = read_object(value, at, faults)
    if rule is not value:
        return Rule("?", (), None)
    if not rule.keys() <= _RULE:
        unknown_fields(rule, _RULE, at, faults)
    name = read_text(rule["name"], (at, "name"), faults) if "name" in rule else f"rule-{index}"
    when = read_conditions(rule["when"], (at, "when"), faults) if "when" in rule else ()
    if len(when) > _MAX_CONDITIONS:
        faults.add((at, "when"), f"{len(when)} conditions; expected at most {_MAX_CONDITIONS}")
    rollout = read_rollout(rule["rollout"], (at, "rollout"), faults) if "rollout" in rule else None
    serve: str | None = None
    split: tuple[Share, ...] = ()
    if ("serve" in rule) == ("split" in rule):
        faults.add(at, 'expected either "serve" or "split"')
    elif "serve" in rule:
        serve = read_choice(rule["serve"], variants, (at, "serve"), faults)
    else:
        split = _split(rule["split"], variants, (at, "split"), faults)
    return Rule(name, when, serve, split, rollout)


def read_rollout(value: object, at: At, faults: Faults) -> Rollout:
    rollout = read_object(value, at, faults)
    if rollout is not value:
        return Rollout(0)
    if not rollout.keys() <= _ROLLOUT:
        unknown_fields(rollout, _ROLLOUT, at, faults)
    by = read_path(rollout["by"], (at, "by"), faults) if "by" in rollout else UNIT
    if ("percent" in rollout) == ("steps" in rollout):
        faults.add(at, 'expected either "percent" or "steps"')
        return Rollout(0, (), by)
    if "percent" in rollout:
        return Rollout(read_threshold(rollout["percent"], (at, "percent"), faults), (), by)
    steps: list[Step] = []
    at = (at, "steps")
    for index, item in enumerate(read_list(rollout["steps"], at, faults)):
        step = read_object(item, (at, index), faults)
        if step is not item:
            continue
        unknown_fields(step, _STEP, (at, index), faults)
        from_ms = read_time(step.get("from"), ((at, index), "from"), faults)
        if steps and from_ms <= steps[-1].from_ms:
            faults.expected(((at, index), "from"), step.get("from"), "a later time than the step before")
        steps.append(Step(from_ms, read_threshold(step.get("percent"), ((at, index), "percent"), faults)))
    if rollout["steps"] == []:
        faults.add(at, "no steps; expected at least one")
    return Rollout(0, tuple(steps), by)


def _split(value: object, variants: Any, at: At, faults: Faults) -> tuple[Share, ...]:
    shares = []
    for index, item in enumerate(read_list(value, at, faults)):
        share = read_object(item, (at, index), faults)
        if share is not item:
            continue
        unknown_fields(share, _SHARE, (at, index), faults)
        variant = read_choice(share.get("variant"), variants, ((at, index), "variant"), faults)
        shares.append(Share(variant, read_whole(share.get("weight"), ((at, index), "weight"), faults, 0, _MAX_WEIGHT)))
    if not faults.found and sum(share.weight for share in shares) == 0:
        faults.add(at, "expected at least one weight above 0")
    return tuple(shares)
