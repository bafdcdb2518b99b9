"""The naive interpreter: what a native document decides for a context, read straight off the JSON.

``decide`` follows the order of precedence line by line. It may be slow and repeats itself across calls on purpose.
It trusts the document to be valid, apart from flags that refer to what is not there: see ``standing.refused``.
A context is a dict with ``attributes``, ``enrolments`` and, unless there is no unit, ``unit``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any, NamedTuple
from uuid import UUID

from tests.reference.kleene import Outcome, all_of, any_of, negated
from tests.reference.murmur3 import bucket
from tests.reference.operators import MISSING, instant, outcome
from tests.reference.standing import refused

Json = dict[str, Any]
INVALID: Any = type("Invalid", (), {})()
ON_OFF = {"on": True, "off": False}


class Question(NamedTuple):
    """What stays the same while one flag and its prerequisites are decided."""

    document: Json
    context: Json
    now_ms: int
    forced: Mapping[str, str | bool]
    stale: frozenset[str]
    refused: set[str]


def decide(
    document: Json,
    flag: str,
    context: Json,
    now_ms: int,
    forced: Mapping[str, str | bool] | None = None,
    stale: frozenset[str] = frozenset(),
) -> Json:
    """The decision as a dict: variant, reason, error_code, rule, analysable, enabled."""
    return _decide(Question(document, context, now_ms, forced or {}, stale, refused(document)), flag)


def rule_outcomes(document: Json, flag: str, rule: Json, context: Json, now_ms: int) -> list[Outcome]:
    """What each condition of one of the flag's rules says."""
    question = Question(document, context, now_ms, {}, frozenset(), set())
    return [_condition(question, flag, condition) for condition in rule.get("when", [])]


def _decide(question: Question, flag: str) -> Json:
    if flag not in question.document["flags"]:
        return _error("FLAG_NOT_FOUND")
    if flag in question.refused:
        return _error("PARSE_ERROR")
    definition = question.document["flags"][flag]
    off = definition.get("off", "off")

    def served(variant: str, reason: str, rule: str | None = None, *, analysable: bool = False) -> Json:
        return _answer(variant, reason, rule=rule, analysable=analysable, enabled=variant != off)

    chosen = _forced_variant(definition, question.forced.get(flag))
    if chosen is not None:
        return served(chosen, "OVERRIDE")
    unit = context_unit(question.context)
    if unit is INVALID:
        return _error("INVALID_CONTEXT")
    if definition.get("enabled", True) is False:
        return served(off, "DISABLED")
    if flag in question.stale:
        return served(off, "STALE")
    if not all(_holds(question, wanted) for wanted in definition.get("prerequisites", [])):
        return served(off, "PREREQUISITE_FAILED")
    if any_of(_condition(question, flag, entry) for entry in definition.get("exclude", [])) is not False:
        return served(off, "EXCLUDED")
    for variant, units in definition.get("targets", {}).items():
        if unit is not MISSING and unit in map(str, units):
            return served(variant, "TARGETING_MATCH")
    return _by_rules(question, flag, served)


def _by_rules(question: Question, flag: str, served: Callable[..., Json]) -> Json:
    """The rest of the order: enrolled rules, holdouts, the other rules, the default."""
    definition = question.document["flags"][flag]
    rules = [(rule.get("name", f"rule-{index}"), rule) for index, rule in enumerate(definition.get("rules", []))]
    left_out: list[str] = []

    def first_of(rules: list[tuple[str, Json]]) -> Json | None:
        for name, rule in rules:
            variant, why = _rule(question, flag, rule)
            if why == "left out":
                left_out.append(name)
            if variant is not None:
                return served(variant, why, name, analysable=why == "SPLIT" and not left_out)
        return None

    enrolled = first_of([(name, rule) for name, rule in rules if _is_enrolment(rule)])
    if enrolled is not None:
        return enrolled
    if any(_is_held_out(question, name) for name in _holdouts(question.document, flag)):
        return served(definition.get("off", "off"), "HOLDOUT")
    ruled = first_of([(name, rule) for name, rule in rules if not _is_enrolment(rule)])
    if ruled is not None:
        return ruled
    default = definition.get("default", definition.get("off", "off"))
    if left_out:
        return served(default, "SPLIT", left_out[0], analysable=True)
    return served(default, "STATIC" if _has_one_answer(question.document, flag) else "DEFAULT")


def _has_one_answer(document: Json, flag: str) -> bool:
    """Whether nothing but its default was ever possible for the flag."""
    definition = document["flags"][flag]
    asks = any(definition.get(field) for field in ("prerequisites", "exclude", "rules"))
    return not asks and not any(definition.get("targets", {}).values()) and not _holdouts(document, flag)


def _answer(variant: str | None, reason: str, **others: Any) -> Json:
    answer = {"variant": variant, "reason": reason, "error_code": None, "rule": None}
    return answer | {"analysable": False, "enabled": False} | others


def _error(code: str) -> Json:
    return _answer(None, "ERROR", error_code=code)


def _forced_variant(definition: Json, forced: object) -> str | None:
    variants = definition.get("variants", ON_OFF)
    off = definition.get("off", "off")
    default = definition.get("default", off)
    if forced is True:
        if default != off:
            return str(default)
        return next((name for name in ("on", *variants) if name in variants and name != off), str(off))
    if forced is False:
        return str(off)
    return forced if isinstance(forced, str) and forced in variants else None


def _holds(question: Question, wanted: Json) -> bool:
    parent = _decide(question, wanted["flag"])
    return parent["reason"] != "ERROR" and parent["variant"] in wanted["variants"]


# Units and attributes


def context_unit(context: Json) -> Any:
    """The context's unit as text, MISSING when it has none, INVALID when it has something that is no unit."""
    if "unit" not in context:
        return MISSING
    text = unit_text(context["unit"])
    return INVALID if text is None else text


def unit_text(unit: object) -> str | None:
    """The text that is hashed for ``unit``; None when it cannot be one."""
    if isinstance(unit, bool):
        return None
    if isinstance(unit, int):
        return str(int.__add__(unit, 0)) if abs(unit) < 2**63 else None
    if isinstance(unit, UUID):
        return str(unit)
    if not isinstance(unit, str):
        return None
    characters = "".join(list(str.__iter__(unit)))
    try:
        size = len(characters.encode())
    except UnicodeEncodeError:
        return None
    return characters if 1 <= size <= 1024 else None


def _attribute(context: Json, name: str | list[str]) -> Any:
    if name in ("unit", ["unit"]):
        return context_unit(context)
    value: Any = context["attributes"]
    for key in [name] if isinstance(name, str) else name:
        if not isinstance(value, Mapping) or key not in value:
            return MISSING
        value = value[key]
    return value


# Conditions


def _condition(question: Question, flag: str, condition: Json) -> Outcome:
    if isinstance(condition.get("not"), dict):
        return negated(_condition(question, flag, condition["not"]))
    positive = _positive(question, flag, condition)
    return negated(positive) if condition.get("not", False) else positive


def _positive(question: Question, flag: str, condition: Json) -> Outcome:
    if "any" in condition:
        return any_of(_condition(question, flag, part) for part in condition["any"])
    if "all" in condition:
        return all_of(_condition(question, flag, part) for part in condition["all"])
    if "segment" in condition:
        names = condition["segment"]
        return any_of(_segment(question, flag, name) for name in ([names] if isinstance(names, str) else names))
    if "enrolled" in condition:
        said = (question.context.get("enrolments") or {}).get(flag)
        told = map(str, question.document.get("enrolments", {}).get(flag, ()))
        return _is_enrolled(said, context_unit(question.context) in told)
    if "time" in condition:
        return _is_time(condition["time"], question.now_ms)
    return outcome(
        condition["op"],
        condition.get("values", []),
        _attribute(question.context, condition["attribute"]),
        ignore_case=condition.get("ignore_case", False),
        now_ms=question.now_ms,
    )


def _segment(question: Question, flag: str, name: str) -> Outcome:
    segment = question.document["segments"][name]
    parts: list[Outcome] = []
    if "units" in segment:
        unit = context_unit(question.context)
        parts.append(None if unit is MISSING else unit in map(str, segment["units"]))
    if "any" in segment:
        parts.append(any_of(_condition(question, flag, part) for part in segment["any"]))
    if "all" in segment:
        parts.append(all_of(_condition(question, flag, part) for part in segment["all"]))
    return any_of(parts)


def _is_enrolled(said: object, told: bool) -> Outcome:
    if said is None:
        return told  # of who says nothing, what the definitions say
    return said if isinstance(said, bool) else None


def _milliseconds(date: str) -> Any:
    at = instant(date)
    assert at is not None, f"not a date: {date}"
    return at * 1000


def _is_time(window: Json, now_ms: int) -> bool:
    begun = "from" not in window or _milliseconds(window["from"]) <= now_ms
    over = "until" in window and _milliseconds(window["until"]) <= now_ms
    return begun and not over


def _is_enrolment(rule: Json) -> bool:
    return any(condition.get("enrolled") is True and not condition.get("not") for condition in rule.get("when", []))


# Rules


def thousandths(percent: float) -> int:
    """A percent as the number of buckets it covers, read as a decimal."""
    exact = Decimal(str(percent)) * 1000
    assert exact == int(exact), f"more than three decimals: {percent}"
    return int(exact)


def _rule(question: Question, flag: str, rule: Json) -> tuple[str | None, str]:
    """The variant served and the reason; no variant and "left out" or "no match" otherwise."""
    if all_of(_condition(question, flag, condition) for condition in rule.get("when", [])) is not True:
        return None, "no match"
    if "rollout" not in rule and "split" not in rule:
        return rule["serve"], "TARGETING_MATCH"
    rollout = rule.get("rollout", {"percent": 100})
    unit = unit_text(_attribute(question.context, rollout.get("by", "unit")))
    if unit is None or not _in_slot(question, flag):
        return None, "no match"
    salt = question.document["flags"][flag].get("salt", flag)
    if bucket(salt, unit) >= thousandths(_percent_now(rollout, question.now_ms)):
        return None, "left out"
    if "serve" in rule:
        return rule["serve"], "SPLIT"
    return _split(rule["split"], bucket(salt, unit, seed=1)), "SPLIT"


def _percent_now(rollout: Json, now_ms: int) -> float:
    percent: float = rollout.get("percent", 0)
    for step in rollout.get("steps", []):
        if _milliseconds(step["from"]) <= now_ms:
            percent = step["percent"]
    return percent


def _split(entries: list[Json], position: int) -> str:
    total = sum(entry["weight"] for entry in entries)
    reached = 0
    for entry in entries:
        reached += entry["weight"]
        if position * total < reached * 100_000:
            return str(entry["variant"])
    raise AssertionError("the weights add up to the total")


def _in_slot(question: Question, flag: str) -> bool:
    """Whether the unit is in the flag's slot of its layer; true for flags in no layer."""
    for name, layer in question.document.get("layers", {}).items():
        if flag in layer["slots"]:
            unit = unit_text(_attribute(question.context, layer.get("by", "unit")))
            start, end = layer["slots"][flag]
            if unit is None or not thousandths(start) <= bucket(layer.get("salt", name), unit) < thousandths(end):
                return False
    return True


def _holdouts(document: Json, flag: str) -> list[str]:
    kind = document["flags"][flag].get("kind", "release")
    return [
        name
        for name, holdout in document.get("holdouts", {}).items()
        if flag in holdout["flags"] or ("*" in holdout["flags"] and kind != "ops")
    ]


def _is_held_out(question: Question, name: str) -> bool:
    holdout = question.document["holdouts"][name]
    unit = context_unit(question.context)
    return unit is not MISSING and bucket(holdout.get("salt", name), unit) < thousandths(holdout["percent"])
