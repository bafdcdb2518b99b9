"""Conditions as functions of a context: True, False, or None for unknown (Kleene logic).

``Conditions`` belongs to one set of definitions: it knows their segments and their clock, and builds each segment once.
Called by the compiler, and by explain for one condition at a time.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from flagkit.context import Context, unit_key
from flagkit.core import bucketing
from flagkit.core.logic import Now
from flagkit.core.model import (
    UNIT,
    AnyOf,
    Comparison,
    Condition,
    Enrolled,
    InSegment,
    Path,
    Segment,
    Step,
    TimeWindow,
)
from flagkit.core.operators import OPERATORS, Question, Test

#: A condition compiled: its answer for a context.
Answer: TypeAlias = Callable[[Context], bool | None]


def reader(path: Path) -> Callable[[Context], Any]:
    """What reads an attribute: its value, or None when it is missing."""
    if path == UNIT:
        return lambda context: context.unit_text
    if len(path) == 1:
        (name,) = path
        return lambda context: context.attributes.get(name)

    def descend(context: Context) -> Any:
        value: Any = context.attributes
        for key in path:
            if value.__class__ is not dict and not isinstance(value, Mapping):
                return None
            value = value.get(key)
        return value

    return descend


def key_reader(path: Path) -> Callable[[Context], bytes | None]:
    """What reads the unit to bucket by: its key, or None when it is missing or cannot be a unit."""
    read = reader(path)
    return lambda context: unit_key(read(context)) or None


class Conditions:
    """Builds the tests of one set of definitions."""

    __slots__ = ("_built", "_enrolled", "_segments", "now_ms")

    def __init__(self, segments: Mapping[str, Segment], now_ms: Now, enrolled: Mapping[str, Segment] = {}) -> None:
        self._segments = segments
        self._enrolled = enrolled
        self.now_ms = now_ms
        self._built: dict[str, Answer] = {}

    def operator(self, comparison: Comparison) -> Test:
        """The comparison's operator on a value, before negation."""
        question = Question(comparison.values, comparison.ignore_case, self.now_ms)
        return OPERATORS[comparison.operator].make(question)

    def test(self, condition: Condition, flag: str) -> Answer:
        """A condition as a function. ``flag``: whose enrolment is meant."""
        answer = self._positive(condition, flag)
        return _negated(answer) if condition.negated else answer

    def any_of(self, conditions: tuple[Condition, ...], flag: str) -> Answer:
        return _any([self.test(condition, flag) for condition in conditions])

    def step_limit(self, steps: tuple[Step, ...]) -> Callable[[], int]:
        """The hash bound of a rollout by steps, as of now."""
        times = [step.from_ms for step in steps]
        limits = [0, *(bucketing.hash_limit(step.threshold) for step in steps)]
        now_ms = self.now_ms
        return lambda: limits[bisect_right(times, now_ms())]

    def _positive(self, condition: Condition, flag: str) -> Answer:
        if isinstance(condition, Comparison):
            test, read = self.operator(condition), reader(condition.attribute)
            return lambda context: test(read(context))
        if isinstance(condition, InSegment):
            members = [self._segment(name) for name in condition.names]
            return members[0] if len(members) == 1 else _any(members)
        if isinstance(condition, Enrolled):
            units = segment.units if (segment := self._enrolled.get(flag)) is not None else None
            if units:
                return lambda context: _enrolled(context.enrolments, flag, context._key in units)
            return lambda context: _enrolled(context.enrolments, flag)
        if isinstance(condition, TimeWindow):
            return self._window(condition)
        inner = [self.test(each, flag) for each in condition.conditions]
        return _any(inner) if isinstance(condition, AnyOf) else _all(inner)

    def _window(self, window: TimeWindow) -> Answer:
        start, end, now_ms = window.from_ms, window.until_ms, self.now_ms

        def inside(_: Context) -> bool:
            now = now_ms()
            return (start is None or now >= start) and (end is None or now < end)

        return inside

    def _segment(self, name: str) -> Answer:
        built = self._built.get(name)
        if built is None:
            segment = self._segments[name]
            parts: list[Answer] = []
            if segment.units is not None:
                parts.append(_member(segment.units))
            if segment.conditions is not None:
                parts.append(self.test(segment.conditions, ""))
            built = self._built[name] = parts[0] if len(parts) == 1 else _any(parts)
        return built


def _member(units: frozenset[bytes]) -> Answer:
    def member(context: Context) -> bool | None:
        key = context._key
        return None if key is None else key in units

    return member


def _enrolled(enrolments: Mapping[str, Any] | None, flag: str, told: bool = False) -> bool | None:
    """What the context itself says, and only if that is nothing, what was ``told`` of its unit."""
    said = enrolments.get(flag) if enrolments is not None else None
    return told if said is None else said if said is True or said is False else None


def _negated(answer: Answer) -> Answer:
    def opposite(context: Context) -> bool | None:
        found = answer(context)
        return None if found is None else not found

    return opposite


def _any(answers: list[Answer]) -> Answer:
    def any_true(context: Context) -> bool | None:
        result: bool | None = False
        for answer in answers:
            found = answer(context)
            if found:
                return True
            if found is None:
                result = None
        return result

    return any_true


def _all(answers: list[Answer]) -> Answer:
    def all_true(context: Context) -> bool | None:
        result: bool | None = True
        for answer in answers:
            found = answer(context)
            if found is False:
                return False
            if found is None:
                result = None
        return result

    return all_true
