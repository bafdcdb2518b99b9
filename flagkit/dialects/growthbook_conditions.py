"""GrowthBook's conditions: read and checked into a tree whose leaves are tests.

What cannot be known never makes a condition match, negated or not: reading goes along with whether an answer is
negated, and an unknown one becomes what does not match. Called by ``growthbook_rules``; ``eval_condition`` by tests, by
``growthbook_run``, and by whoever wants one condition's answer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final, NamedTuple

from flagkit.dialects.fields import At, Faults
from flagkit.dialects.growthbook_groups import NO_MEMBERS, Group
from flagkit.dialects.growthbook_operators import (
    Ask,
    Members,
    Test,
    constant,
    equals,
    exists,
    matches,
    ordered,
    strictly_equals,
    typed,
    versioned,
)
from flagkit.dialects.growthbook_values import getter, listed
from flagkit.dialects.growthbook_writing import AllOf, AnyOf, Field, Known, Node, Not, function_of

_MAX_DEPTH: Final = 24
_MAX_TESTS: Final = 2000  # of one feature, saved groups that are conditions written out
_MAX_EACH, _MAX_SEARCHED = 100, 500  # a product is work: entries of $all that are no plain values, items of a list
_LOGIC: Final = frozenset({"$or", "$nor", "$and", "$savedGroup"})


class Around:
    """What conditions of one feature are read with. used: the ids of the groups they refer to, whether there or not."""

    __slots__ = ("faults", "groups", "notes", "tests", "used")

    def __init__(self, groups: Mapping[str, Group], faults: Faults, notes: Faults) -> None:
        self.groups = groups
        self.faults = faults
        self.notes = notes
        self.used: set[str] = set()
        self.tests = 0


class Place(NamedTuple):
    """Where a condition stands. unknown: the answer of what cannot be known. within: the saved groups around it."""

    at: At
    unknown: bool = False
    depth: int = 0
    within: frozenset[str] = frozenset()

    def inside(self, *steps: str | int, negated: bool = False) -> Place:
        at = self.at
        for each in steps:
            at = (at, each)
        return Place(at, self.unknown is not negated, self.depth + 1, self.within)


def read_condition(value: Any, place: Place, around: Around) -> Node:
    """One condition. With faults noted, the result is not for use."""
    if not isinstance(value, dict):
        around.faults.expected(place.at, value, "an object")
        return Known(False)
    if place.depth > _MAX_DEPTH:
        around.faults.add(place.at, f"nested too deeply; expected at most {_MAX_DEPTH} levels")
        return Known(False)
    return AllOf(tuple(_entry(key, each, place, around) for key, each in value.items()))


def _entry(key: str, value: Any, place: Place, around: Around) -> Node:
    if key == "$not":
        return Not(read_condition(value, place.inside(key, negated=True), around))
    if key == "$savedGroup":
        return _saved(value, place.inside(key), around)
    if key in ("$or", "$nor", "$and"):
        return _several(key, value, place, around)
    return Field(key, read_value(value, place.inside(key), around))


def _several(key: str, value: Any, place: Place, around: Around) -> Node:
    if not isinstance(value, list):
        around.faults.expected((place.at, key), value, "an array of conditions")
        return Known(False)
    negated = key == "$nor"
    nodes = tuple(
        read_condition(each, place.inside(key, index, negated=negated), around) for index, each in enumerate(value)
    )
    if key == "$and":
        return AllOf(nodes)
    either: Node = AnyOf(nodes) if nodes else Known(True)
    return Not(either) if negated else either


def _saved(value: Any, place: Place, around: Around) -> Node:
    """A reference to a saved group that says itself what is asked."""
    id_, key = (value.get("id"), value.get("attributeKey")) if isinstance(value, dict) else (None, None)
    if not isinstance(id_, str) or not (key is None or isinstance(key, str)):
        around.faults.expected(place.at, value, "an object with the id of a saved group")
        return Known(False)
    around.used.add(id_)
    group = around.groups.get(id_)
    if group is None or id_ in place.within:
        around.notes.add(place.at, "leads back to itself" if group else "no such saved group: this matches nobody")
        return Known(place.unknown)
    if group.condition is not None:
        return read_condition(group.condition, place._replace(within=place.within | {id_}), around)
    key = key or group.attribute
    if group.members is None or key is None:
        around.notes.add(place.at, "a saved group of a kind that is not known, or without an attribute")
        return Known(place.unknown)
    return Field(key, (group.members.test(negated=False),))


# -- what is asked of one value --------------------------------------------------------------------------------------


def read_value(value: Any, place: Place, around: Around) -> tuple[Test, ...]:
    """The tests that a value has to pass: an object of operators, or a value that it must be equal to."""
    around.tests += 1
    if around.tests == _MAX_TESTS:
        around.faults.add(place.at, f"more than {_MAX_TESTS:,} tests in one feature")
    if around.tests >= _MAX_TESTS or place.depth > _MAX_DEPTH:
        if place.depth > _MAX_DEPTH:
            around.faults.add(place.at, f"nested too deeply; expected at most {_MAX_DEPTH} levels")
        return ()
    if _is_operators(value):
        return tuple(_operator(name, each, place, around) for name, each in value.items())
    return (equals(value),)


def _is_operators(value: Any) -> bool:
    return isinstance(value, dict) and all(key.startswith("$") for key in value)


def _operator(name: str, value: Any, place: Place, around: Around) -> Test:
    inside = place.inside(name)
    make = _OPERATORS.get(name)
    if make is not None:
        return make(value, inside, around)
    if name in _LOGIC:  # stands beside fields, not below one, where it matches nothing
        return constant(False)
    around.notes.add(inside.at, "not an operator that is known: this matches nobody")
    return constant(place.unknown)


def _members(value: Any, place: Place, around: Around, *, negated: bool, folds: bool) -> Test:
    if not isinstance(value, list):
        around.notes.expected(place.at, value, "an array; this matches nobody")
        return constant(False)
    return Members(value, folds=folds).test(negated=negated)


def _group(value: Any, place: Place, around: Around, *, negated: bool) -> Test:
    """Membership of a saved group. Nobody is a member of one that there is not."""
    if not isinstance(value, str):
        around.notes.expected(place.at, value, "the id of a saved group; this matches nobody")
        return constant(False)
    around.used.add(value)
    group = around.groups.get(value)
    members = NO_MEMBERS if group is None else group.members
    if members is None:
        around.notes.add(place.at, "not a saved group of values: this matches nobody")
        return constant(place.unknown)
    return members.test(negated=negated)


def _negation(value: Any, place: Place, around: Around) -> Test:
    asks = [test.ask for test in read_value(value, place._replace(unknown=not place.unknown), around)]
    return Test(lambda given: not all(ask(given) for ask in asks))


def _size(value: Any, place: Place, around: Around) -> Test:
    asks = [test.ask for test in read_value(value, place, around)]

    def ask(given: Any) -> bool:
        items = listed(given)
        return items is not None and all(each(len(items)) for each in asks)

    return Test(ask)


def _every(value: Any, place: Place, around: Around, *, folds: bool) -> Test:
    """Each of the values is found in a list."""
    if not isinstance(value, list):
        around.notes.expected(place.at, value, "an array; this matches nobody")
        return constant(False)
    wanted = [each for each in value if each is None or isinstance(each, (str, int, float))]
    others = [each for each in value if isinstance(each, (list, dict))]
    if len(others) > _MAX_EACH:
        around.faults.add(place.at, f"more than {_MAX_EACH} entries that are no plain values")
        return constant(False)
    groups = [[test.ask for test in read_value(each, place, around)] for each in others]

    def ask(given: Any) -> bool:
        items = listed(given)
        if items is None or (groups and len(items) > _MAX_SEARCHED):
            return False
        there = Members(items, folds=folds)
        return all(map(there.have, wanted)) and all(
            any(all(each(item) for each in asks) for item in items) for asks in groups
        )

    return Test(ask)


def _element(value: Any, place: Place, around: Around) -> Test:
    """An element of a list passes: operators are asked of the element itself, all else of its fields."""
    if not isinstance(value, dict):
        around.faults.expected(place.at, value, "an object")
        return constant(False)
    if _is_operators(value) and _LOGIC.isdisjoint(value):
        asks: list[Ask] = [test.ask for test in read_value(value, place, around)]
    else:
        passes = function_of(read_condition(value, place, around))
        asks = [lambda item: passes(getter(item))]

    def ask(given: Any) -> bool:
        items = listed(given)
        return items is not None and any(item is not None and all(each(item) for each in asks) for item in items)

    return Test(ask)


def _pattern(value: Any, place: Place, around: Around, *, folds: bool, negated: bool) -> Test:
    return matches(value, place.at, around.faults, around.notes, folds=folds, negated=negated, unknown=place.unknown)


def _equal(value: Any, place: Place, around: Around, *, negated: bool) -> Test:  # noqa: ARG001 - one form for all
    return strictly_equals(value, negated=negated)


def _order(value: Any, place: Place, around: Around, *, name: str) -> Test:  # noqa: ARG001
    return ordered(name, value)


def _version(value: Any, place: Place, around: Around, *, name: str) -> Test:  # noqa: ARG001
    return versioned(name, value, place.unknown)


_OPERATORS: Final[dict[str, Callable[[Any, Place, Around], Test]]] = {
    "$eq": partial(_equal, negated=False),
    "$ne": partial(_equal, negated=True),
    **{name: partial(_order, name=name) for name in ("$lt", "$lte", "$gt", "$gte")},
    **{name: partial(_version, name=name) for name in ("$veq", "$vne", "$vlt", "$vlte", "$vgt", "$vgte")},
    "$exists": lambda value, place, around: exists(value),  # noqa: ARG005
    "$type": lambda value, place, around: typed(value),  # noqa: ARG005
    "$in": partial(_members, negated=False, folds=False),
    "$nin": partial(_members, negated=True, folds=False),
    "$ini": partial(_members, negated=False, folds=True),
    "$nini": partial(_members, negated=True, folds=True),
    "$inGroup": partial(_group, negated=False),
    "$notInGroup": partial(_group, negated=True),
    "$regex": partial(_pattern, folds=False, negated=False),
    "$regexi": partial(_pattern, folds=True, negated=False),
    "$notRegex": partial(_pattern, folds=False, negated=True),
    "$notRegexi": partial(_pattern, folds=True, negated=True),
    "$not": _negation,
    "$size": _size,
    "$all": partial(_every, folds=False),
    "$alli": partial(_every, folds=True),
    "$elemMatch": _element,
}


# -- one by itself ---------------------------------------------------------------------------------------------------


def eval_condition(attributes: Mapping[str, Any], condition: Any, groups: Mapping[str, Any] | None = None) -> bool:
    """Whether attributes match a condition: ``evalCondition`` of the specification. A malformed one matches nobody."""
    faults = Faults()
    read = {id_: Group(id_, "", each, None, Faults()) for id_, each in (groups or {}).items()}
    node = read_condition(condition, Place(None), Around(read, faults, Faults()))
    return not faults.found and function_of(node)(getter(attributes))
