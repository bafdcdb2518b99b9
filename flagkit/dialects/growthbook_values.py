"""GrowthBook's view of values: their types, what equals and precedes what, the paths that lead to them, versions.

JSON values as JavaScript compares them, but only values of one type are equal. Whatever is no JSON value has no type,
equals nothing and precedes nothing. Pure; called by the operators of conditions.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias

from flagkit.dialects.javascript import number, plain, text

Get: TypeAlias = Callable[[str], Any]

MAX_ITEMS: Final = 10_000  # of a list that conditions look into
_MAX_DEPTH: Final = 64
_TYPES: Final = {type(None): "null", bool: "boolean", int: "number", float: "number", str: "string"}
_INDEX: Final = re.compile(r"(?:0|[1-9][0-9]{0,8})", re.ASCII).fullmatch
_STRIPPED: Final = re.compile(r"^v|\+.*$")
_PARTS: Final = re.compile(r"[-.]")
_DIGITS: Final = re.compile(r"[0-9]+", re.ASCII).fullmatch


def kind_of(value: Any) -> str:
    """JavaScript's name for the type of a value that is ``plain``."""
    found = _TYPES.get(type(value))
    if found is not None:
        return found
    return "array" if isinstance(value, list) else "object" if isinstance(value, Mapping) else "unknown"


def truthy(value: Any) -> bool:
    """False for null, false, 0, NaN and "": lists and objects are true, empty ones too."""
    if isinstance(value, float):
        return value != 0 and value == value
    return not (value is None or value is False or value == "" or (value == 0 and isinstance(value, int)))


def listed(value: Any) -> list[Any] | None:
    """A list to look into; None when it is none, or longer than 10,000."""
    if type(value) is not list:
        value = plain(value)
    return value if isinstance(value, list) and len(value) <= MAX_ITEMS else None


# -- equality and order ----------------------------------------------------------------------------------------------


def same(one: Any, other: Any, room: int = _MAX_DEPTH) -> bool:
    """Whether two values are equal as JSON: of the same types all the way down. The order of an object's keys is not
    looked at."""
    one, other = plain(one), plain(other)
    kind = kind_of(one)
    if kind != kind_of(other) or kind == "unknown" or room == 0:
        return False
    if kind == "array":
        return len(one) == len(other) and all(same(a, b, room - 1) for a, b in zip(one, other, strict=True))
    if kind == "object":
        return len(one) == len(other) and all(key in one and same(one[key], other[key], room - 1) for key in other)
    return bool(one == other)


def order(one: Any, other: Any) -> int | None:
    """-1, 0 or 1 as ``one`` precedes, equals or follows ``other``; None when they are in no order.

    Two texts are ordered by their UTF-16 code units. Otherwise both count as numbers, if they can: null is 0, true is
    1, "8" is 8. Lists and objects are in no order.
    """
    if isinstance(one, str) and isinstance(other, str):
        if not (one.isascii() and other.isascii()):
            return _order(_big_endian(one), _big_endian(other))
        return _order(one, other)
    if kind_of(one) in ("array", "object", "unknown") or kind_of(other) in ("array", "object", "unknown"):
        return None
    first, second = number(one), number(other)
    return None if math.isnan(first) or math.isnan(second) else _order(first, second)


def _order(one: Any, other: Any) -> int:
    return 1 if one > other else -1 if one < other else 0


def _big_endian(characters: str) -> bytes:
    return characters.encode("utf-16-be", "surrogatepass")


# -- paths -----------------------------------------------------------------------------------------------------------


def step(value: Any, key: str) -> Any:
    """What is at ``key`` of an object, or at that index of a list (or its ``length``); None when nothing is."""
    if type(value) is not dict:
        value = plain(value)
        if isinstance(value, list):
            if key == "length":
                return len(value)
            return value[int(key)] if _INDEX(key) and int(key) < len(value) else None
        if not issubclass(type(value), Mapping):
            return None
    return value.get(key)


def getter(value: Any) -> Get:
    """The function that reads the fields of ``value``."""
    if type(value) is dict:
        return value.get
    return lambda key: step(value, key)


def reader(path: str) -> Callable[[Get], Any] | None:
    """The function that follows a dotted path from a function that reads fields; None when it is a single key."""
    first, *rest = path.split(".")
    if not rest:
        return None

    def read(get: Get) -> Any:
        value = get(first)
        for key in rest:
            if value is None:
                return None
            value = step(value, key)
        return value

    return read


# -- versions --------------------------------------------------------------------------------------------------------


def padded_version(value: Any) -> str:
    """A version as a text that sorts as it does: what is no text and no number is version 0."""
    value = plain(value)
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        value = text(value)
    if not isinstance(value, str) or not value:
        value = "0"
    parts = _PARTS.split(_STRIPPED.sub("", value))
    if len(parts) == 3:
        parts.append("~")  # a release comes after its candidates, and ~ after the other characters
    return "-".join([part.rjust(5) if _DIGITS(part) else part for part in parts])
