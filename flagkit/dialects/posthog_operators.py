"""What a PostHog property filter asks of a property: one row an operator, from its value to a test.

A test takes a property's value, or ABSENT, and answers True, False, or a code for undecided. Called when a flag is
read, to say what cannot be asked, and when it is compiled.

Source: PostHog, rust/feature-flags/src/properties/property_matching.rs; where its own Python SDK leaves undecided what
a caller got wrong (a version that is none, say), so does this.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any, Final, NamedTuple, TypeAlias

from flagkit.core.logic import Now
from flagkit.core.operators import Inline
from flagkit.dialects.posthog_regex import pattern
from flagkit.dialects.posthog_values import (
    ABSENT,
    MISSING,
    UNSUPPORTED,
    Answer,
    ago,
    ascii_lower,
    is_true,
    is_truth,
    moment,
    number,
    relative,
    text,
    version,
    version_range,
)

Test: TypeAlias = Callable[[Any], Answer]
_MAX_VALUES: Final = 100_000
_NO_NUMBER: Final = ("nan", "+nan", "-nan")
_TOLERANCE_S: Final = 1e-6  # what is left of a microsecond in a float of seconds


class Asked(NamedTuple):
    """A filter. strict: true and false are texts like others (``property_matching_version`` 2)."""

    operator: str
    value: Any
    strict: bool
    now_ms: Now


class Made(NamedTuple):
    """A filter as a test, or as what it answers whatever the property is.

    inline: the same of a plain str as an expression, if it has one. problem: what should be known of it.
    """

    test: Test | Answer
    inline: Inline | None = None
    problem: str | None = None


def made(asked: Asked) -> Made:
    """Raises: nothing."""
    factory = _FACTORIES.get(asked.operator)
    if asked.value is None and factory is not None and asked.operator not in _VALUELESS:
        return Made(False, problem="has no value: it never matches")
    try:
        if factory is None:
            raise _Unaskable(f'the operator "{asked.operator[:64]}" is not known')
        return factory(asked)
    except _Unaskable as error:
        # Of what is null PostHog does not come to look at the filter.
        nullable = factory in (_dated, _versioned)
        test: Test | Answer = (lambda value: UNSUPPORTED if value is not None else False) if nullable else UNSUPPORTED
        return Made(test, problem=f"{error}: it is undecided here")


class _Unaskable(Exception):
    """A filter that is undecided, because it cannot be asked in this process. The message says what would be right."""


def _presence(asked: Asked) -> Made:
    # A context that has the property not is the only way for a caller to say that it is not set.
    if asked.operator == "is_not_set":
        return Made(lambda value: value is ABSENT)
    return Made(lambda value: MISSING if value is ABSENT else True)


def _exact(asked: Asked) -> Made:
    wanted, negated = asked.value, asked.operator == "is_not"
    if wanted == [] or (not asked.strict and is_truth(wanted)):
        truth = is_true(wanted)

        def same(value: Any) -> Answer:
            if type(value) is not str and type(value) is not bool and (value is ABSENT or text(value) is None):
                return MISSING
            return (is_true(value) is truth) is not negated

        return Made(same)
    values = wanted if isinstance(wanted, list) else [wanted]
    if len(values) > _MAX_VALUES:
        raise _Unaskable(f"expected at most {_MAX_VALUES:,} values")
    lowered = frozenset(_text(value).lower() for value in values)

    def among(value: Any) -> Answer:
        said = None if value is ABSENT else text(value)
        return MISSING if said is None else (said.lower() in lowered) is not negated

    return Made(among, Inline("{x}.lower() not in {k}" if negated else "{x}.lower() in {k}", lowered))


def _part(asked: Asked) -> Made:
    name = asked.operator.removeprefix("not_").removesuffix("_multi")
    negated = asked.operator.startswith("not_")
    compare, expression = _PARTED[name]
    listed = "multi" in asked.operator and isinstance(asked.value, list)
    parts = [ascii_lower(_text(value)) for value in (asked.value if listed else [asked.value])]
    only = parts[0] if len(parts) == 1 else None

    def holds(value: Any) -> Answer:
        said = None if value is ABSENT else text(value)
        if said is None:
            return MISSING
        lower = ascii_lower(said)
        found = compare(lower, only) if only is not None else any(compare(lower, part) for part in parts)
        return found is not negated

    if only is None:
        return Made(holds)
    return Made(holds, Inline(f"not {expression}" if negated else expression, only, "{x}.isascii()"))


def _regex(asked: Asked) -> Made:
    negated = asked.operator == "not_regex"
    found = pattern(_text(asked.value))
    search = found.search
    if search is None:
        return Made(lambda value: MISSING if value is ABSENT else False, problem=found.problem)
    if found.problem is not None:
        raise _Unaskable(found.problem)

    def match(value: Any) -> Answer:
        said = None if value is ABSENT else text(value)
        if said is None:
            return MISSING
        answer = search(said)
        return answer if answer > 1 else bool(answer) is not negated

    return Made(match)


_COMPARE: Final[dict[str, Callable[[Any, Any], bool]]] = {
    "gt": operator.gt,
    "gte": operator.ge,
    "lt": operator.lt,
    "lte": operator.le,
    "semver_eq": operator.eq,
    "semver_neq": operator.ne,
    "semver_gt": operator.gt,
    "semver_gte": operator.ge,
    "semver_lt": operator.lt,
    "semver_lte": operator.le,
}


def _compared(asked: Asked) -> Made:
    compare, bound = _COMPARE[asked.operator], number(asked.value)
    if bound is None:
        raise _Unaskable("expected a finite number")

    def against(value: Any) -> Answer:
        if value is ABSENT:
            return MISSING
        read = number(value)
        return read is not None and compare(read, bound)

    return Made(against)


def _between(asked: Asked) -> Made:
    negated = asked.operator == "not_between"
    bounds = [number(each) for each in asked.value] if isinstance(asked.value, list) else []
    if len(bounds) != 2 or bounds[0] is None or bounds[1] is None or bounds[0] > bounds[1]:
        raise _Unaskable("expected two numbers, the lesser first")
    low, high = bounds[0], bounds[1]

    def within(value: Any) -> Answer:
        if value is ABSENT:
            return MISSING
        if isinstance(value, (str, float)) and str(value).lower() in _NO_NUMBER:
            return False  # neither inside nor outside
        read = number(value)
        return (read is not None and low <= read <= high) is not negated

    return Made(within)


def _dated(asked: Asked) -> Made:
    name, given = asked.operator, asked.value
    limit = _limit(given, asked.now_ms)

    def compare(value: Any) -> Answer:
        if value is ABSENT:
            return MISSING
        if value is None:
            return False
        then, bound = moment(value), limit()
        if then is None:
            return MISSING
        if bound is None:
            return UNSUPPORTED
        if name == "is_date_exact":
            return abs(then - bound) < _TOLERANCE_S
        return then < bound if name == "is_date_before" else then > bound

    return Made(compare)


def _limit(given: Any, now_ms: Now) -> Callable[[], float | None]:
    """The moment that a filter names, as of now. Raises: _Unaskable."""
    parts = relative(given) if isinstance(given, str) else None
    if parts is not None:
        amount, unit = parts
        return lambda: ago(amount, unit, now_ms())
    fixed = moment(given) if isinstance(given, str) and number(given) is None else None
    if fixed is None:
        raise _Unaskable('expected a date such as "2026-12-01", or "-7d"')
    return lambda: fixed


def _versioned(asked: Asked) -> Made:
    name, given = asked.operator, _text(asked.value)
    found = version_range(name, given) if name in _RANGES else version(given)
    if found is None:
        raise _Unaskable('expected a version such as "1.2.3"')
    compare = _COMPARE.get(name)
    bound: Any = found

    def against(value: Any) -> Answer:
        if value is None:
            return False
        said = value if type(value) is str else None if value is ABSENT else text(value)
        read = None if said is None else version(said)
        if read is None:
            return MISSING
        return compare(read, bound) if compare is not None else bound[0] <= read < bound[1]

    return Made(against)


def _text(value: Any) -> str:
    """A filter's value as text. Raises: _Unaskable."""
    said = text(value)
    if said is None:
        raise _Unaskable("expected a value of moderate size")
    return said


_PARTED: Final[dict[str, tuple[Callable[[str, str], bool], str]]] = {
    "icontains": (lambda text, part: part in text, "({k} in {x}.lower())"),
    "starts_with": (lambda text, part: text.startswith(part), "{x}.lower().startswith({k})"),
    "ends_with": (lambda text, part: text.endswith(part), "{x}.lower().endswith({k})"),
}
_VALUELESS: Final = ("is_set", "is_not_set")
_PARTS: Final = ("icontains", "starts_with", "ends_with", "icontains_multi")
_RANGES: Final = ("semver_tilde", "semver_caret", "semver_wildcard")
_FACTORIES: Final[dict[str, Callable[[Asked], Made]]] = {
    **dict.fromkeys(_VALUELESS, _presence),
    **dict.fromkeys(("exact", "is_not"), _exact),
    **dict.fromkeys((*_PARTS, *(f"not_{name}" for name in _PARTS)), _part),
    **dict.fromkeys(("regex", "not_regex"), _regex),
    **dict.fromkeys(("gt", "gte", "lt", "lte"), _compared),
    **dict.fromkeys(("between", "not_between"), _between),
    **dict.fromkeys(("is_date_exact", "is_date_before", "is_date_after"), _dated),
    **dict.fromkeys((*(name for name in _COMPARE if name.startswith("semver_")), *_RANGES), _versioned),
}
