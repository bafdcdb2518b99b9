"""Unleash's constraints: decoded JSON to ``Constraint``, with all that can be prepared when definitions are loaded.

A constraint asks one field of the context. A field that is missing, or cannot be read as the operator wants it, makes
the operator false, and ``inverted`` then makes it true: so it is in Unleash and all its clients. A constraint that says
nothing (an unknown operator, a bound that cannot be read) is false, inverted or not. Called by the parser; the compiler
writes a constraint's ``test`` into the flags that use it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple

from flagkit.dialects.fields import At, Faults, read_list, read_object
from flagkit.dialects.unleash_values import Networks, moment_us, number, version

MAX_CONSTRAINTS: Final = 1000
_MAX_NAME: Final = 1024
_MAX_PATTERN: Final = 4096
_MAX_MATCHED: Final = 65_536
_EPSILON: Final = 2.0**-52  # what counts as equal in Unleash's engine

#: The value of a field as text, not None -> whether the operator holds.
Test = Callable[[str], bool]


class Constraint(NamedTuple):
    """``test`` of the text of ``field``, or true for all of ``values`` when ``test`` is None.

    values: texts, for IN and NOT_IN. inverted: the answer is turned round, that for a missing field included.
    affixes: what a text has to start (``edge`` "startswith") or end ("endswith") with, where a method of str tells.
    dated: of microseconds since 1970, where the test is one of moments. never: false whatever is asked.
    """

    field: str
    test: Test | None = None
    values: frozenset[str] = frozenset()
    inverted: bool = False
    edge: str = ""
    affixes: tuple[str, ...] = ()
    dated: Callable[[int], bool] | None = None
    never: bool = False


def read_constraints(value: object, at: At, faults: Faults, notes: Faults) -> tuple[Constraint, ...]:
    """A list of constraints. ``notes`` take what is used all the same, ``faults`` what is not for use."""
    if value is None:
        return ()
    listed = read_list(value, at, faults, "an array of constraints")
    if len(listed) > MAX_CONSTRAINTS:
        faults.add(at, f"got {len(listed):,} constraints; expected at most {MAX_CONSTRAINTS:,}")
        return ()
    return tuple(_constraint(each, (at, index), faults, notes) for index, each in enumerate(listed))


def _constraint(value: object, at: At, faults: Faults, notes: Faults) -> Constraint:
    raw = read_object(value, at, faults)
    field, operator = raw.get("contextName"), raw.get("operator")
    if not isinstance(field, str) or len(field) > _MAX_NAME:
        faults.expected((at, "contextName"), field, "the name of a field of the context")
        field = "?"
    if not isinstance(operator, str):
        faults.expected((at, "operator"), operator, "the name of an operator")
        operator = "?"
    values = _texts(raw.get("values"), (at, "values"), faults)
    bound, inverted = _bound(raw.get("value")), _flag(raw, "inverted", at, faults)
    folds = _flag(raw, "caseInsensitive", at, faults)
    if operator in ("IN", "NOT_IN"):
        return Constraint(field, values=frozenset(values), inverted=inverted != (operator == "NOT_IN"))
    make = _OPERATORS.get(operator)
    if make is None:
        notes.expected((at, "operator"), operator, "an operator of Unleash; this is never true")
        return Constraint(field, never=True)
    made = make(_Operand(field, operator, values, bound, folds, at, notes))
    if made is None:
        return Constraint(field, never=True)
    return made._replace(inverted=inverted)


class _Operand(NamedTuple):
    field: str
    operator: str
    values: list[str]
    bound: str
    folds: bool
    at: At
    notes: Faults

    def unreadable(self, what: str) -> None:
        self.notes.expected((self.at, "value"), self.bound, f"{what}; this is never true")


def _texts(value: object, at: At, faults: Faults) -> list[str]:
    listed = [] if value is None else read_list(value, at, faults, "an array of strings")
    for index, each in enumerate(listed):
        if not isinstance(each, str):
            faults.expected((at, index), each, "a string")
            return []
    return listed


def _bound(value: object) -> str:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return repr(value)
    return value if isinstance(value, str) else ""


def _flag(raw: dict[str, Any], name: str, at: At, faults: Faults) -> bool:
    value = raw.get(name)
    if value is not None and not isinstance(value, bool):
        faults.expected((at, name), value, "true or false")
    return value is True


# -- operators: an operand to a constraint, or None when it says nothing, which they note ----------------------------


def _edge(edge: str) -> Callable[[_Operand], Constraint]:
    def make(operand: _Operand) -> Constraint:
        if not operand.folds:
            return Constraint(operand.field, edge=edge, affixes=tuple(operand.values))
        affixes = tuple(value.lower() for value in operand.values)
        if edge == "startswith":
            return Constraint(operand.field, lambda text: text.lower().startswith(affixes))
        return Constraint(operand.field, lambda text: text.lower().endswith(affixes))

    return make


def _contains(operand: _Operand) -> Constraint:
    if operand.folds:
        parts = tuple(value.lower() for value in operand.values)

        def holds(text: str) -> bool:
            text = text.lower()
            return any(part in text for part in parts)

        return Constraint(operand.field, holds)
    if len(operand.values) == 1:
        (only,) = operand.values
        return Constraint(operand.field, lambda text: only in text)
    parts = tuple(operand.values)
    return Constraint(operand.field, lambda text: any(part in text for part in parts))


def _numeric(compare: Callable[[float, float], bool]) -> Callable[[_Operand], Constraint | None]:
    def make(operand: _Operand) -> Constraint | None:
        bound = number(operand.bound.strip())
        if bound is None:
            return operand.unreadable("a number")
        limit = bound
        return Constraint(operand.field, lambda text: (n := number(text)) is not None and compare(n, limit))

    return make


def _dated(compare: Callable[[int, int], bool]) -> Callable[[_Operand], Constraint | None]:
    def make(operand: _Operand) -> Constraint | None:
        bound = moment_us(operand.bound.strip())
        if bound is None:
            return operand.unreadable('a date with time and offset, such as "2026-12-01T09:00:00Z"')
        limit = bound

        def holds(at: int) -> bool:
            return compare(at, limit)

        return Constraint(operand.field, lambda text: (at := moment_us(text)) is not None and holds(at), dated=holds)

    return make


def _versioned(compare: Callable[[Any, Any], bool]) -> Callable[[_Operand], Constraint | None]:
    def make(operand: _Operand) -> Constraint | None:
        bound = version(operand.bound.strip())
        if bound is None:
            return operand.unreadable('a semantic version such as "2.3.0"')
        return Constraint(operand.field, lambda text: (v := version(text)) is not None and compare(v, bound))

    return make


def _regex(operand: _Operand) -> Constraint | None:
    try:
        import re2  # type: ignore[import-untyped]  # the extra `regex`, for flags that ask for it
    except ImportError:
        said_so = "needs the extra flagkit[regex] to be installed (google-re2); this is never true"
        operand.notes.add((operand.at, "operator"), said_so)
        return None
    options = re2.Options()
    options.case_sensitive = not operand.folds
    options.log_errors = False
    options.max_mem = 1 << 20  # bounds the compiled program
    try:
        if len(operand.bound) > _MAX_PATTERN:
            raise re2.error
        search = re2.compile(operand.bound, options=options).search
    except (re2.error, UnicodeEncodeError):
        form = f"a regular expression in RE2 syntax of at most {_MAX_PATTERN:,} characters"
        operand.notes.expected((operand.at, "value"), operand.bound, f"{form}; it matches nothing")
        return Constraint(operand.field, lambda _: False)

    def matches(text: str) -> bool:
        try:
            return len(text) <= _MAX_MATCHED and search(text) is not None
        except UnicodeEncodeError:  # a lone surrogate, which is no text
            return False

    return Constraint(operand.field, matches)


def _in_cidr(operand: _Operand) -> Constraint:
    networks = Networks(operand.values)
    if networks.read < len(operand.values):
        missed = len(operand.values) - networks.read
        operand.notes.add((operand.at, "values"), f"{missed} of {len(operand.values)} are no addresses or networks")
    return Constraint(operand.field, networks.__contains__)


_OPERATORS: Final[dict[str, Callable[[_Operand], Constraint | None]]] = {
    "STR_STARTS_WITH": _edge("startswith"),
    "STR_ENDS_WITH": _edge("endswith"),
    "STR_CONTAINS": _contains,
    "NUM_EQ": _numeric(lambda n, bound: abs(n - bound) < _EPSILON),
    "NUM_GT": _numeric(lambda n, bound: n > bound),
    "NUM_GTE": _numeric(lambda n, bound: n >= bound),
    "NUM_LT": _numeric(lambda n, bound: n < bound),
    "NUM_LTE": _numeric(lambda n, bound: n <= bound),
    "DATE_AFTER": _dated(lambda at, bound: at > bound),
    "DATE_BEFORE": _dated(lambda at, bound: at < bound),
    "SEMVER_EQ": _versioned(lambda v, bound: v == bound),
    "SEMVER_GT": _versioned(lambda v, bound: v > bound),
    "SEMVER_GTE": _versioned(lambda v, bound: v >= bound),
    "SEMVER_LT": _versioned(lambda v, bound: v < bound),
    "SEMVER_LTE": _versioned(lambda v, bound: v <= bound),
    "REGEX": _regex,
    "IN_CIDR": _in_cidr,
}
