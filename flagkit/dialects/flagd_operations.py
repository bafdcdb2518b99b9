"""JsonLogic's operations, and flagd's ``sem_ver``, as functions of values that are there already.

What decides which values are asked for (if, and, or, the iterations' bodies) is compiled; this is the rest. Total but
for ``TooMuch``, and for what foreign objects in a context raise, which evaluation takes for an error of that call.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, Final, TypeAlias

from flagkit.core.versions import Version, parse_version
from flagkit.dialects.javascript import (
    NAN,
    Number,
    TooMuch,
    bounded,
    bounded_text,
    joined,
    number,
    plain,
    strict,
    text,
    truthy,
)

_MAX_ITEMS: Final = 1 << 15
_MAX_VERSION: Final = 256
#: Steps left to the iterations of one evaluation.
Steps: TypeAlias = list[int]
#: The body of an iteration: of an item, and the steps left.
Body: TypeAlias = Callable[[Any, Steps], Any]

# -- data ------------------------------------------------------------------------------------------------------------


def pick(data: Any, key: str) -> Any:
    """The member ``key`` of an object, the item or ``length`` of a list or text; None when there is none."""
    if isinstance(data, Mapping):
        return data.get(key)
    if isinstance(data, (list, tuple, str)):
        if key == "length":
            return len(data)
        if key.isascii() and key.isdigit() and len(key) < 10 and (key[0] != "0" or key == "0"):
            index = int(key)
            return data[index] if index < len(data) else None
    return None


def variable(data: Any, key: Any, otherwise: Any = None) -> Any:
    """``var`` of a key that is known only now; what is null is not there."""
    key = joined(key)
    if not key:
        return data
    for part in key.split("."):
        data = pick(data, part)
        if data is None:
            return otherwise
    return data


def missing(data: Any, keys: list[Any]) -> list[Any]:
    """Those of ``keys`` (or of the list that is their first) without a value in ``data``."""
    if keys and isinstance(keys[0], (list, tuple)):
        keys = list(keys[0])
    return [key for key in keys if (value := variable(data, key)) is None or strict(value, "")]


def missing_some(data: Any, least: Any, keys: Any) -> list[Any]:
    """None missing if at least ``least`` of ``keys`` are there, else those that are."""
    keys = plain(keys)
    if not isinstance(keys, list):
        return []
    absent = missing(data, [keys])
    return [] if len(keys) - len(absent) >= number(least) else absent


# -- texts and lists -------------------------------------------------------------------------------------------------


def within(needle: Any, haystack: Any) -> bool:
    """``in``: an item of a list, a part of a text."""
    haystack = plain(haystack)
    if isinstance(haystack, str):
        return haystack != "" and text(needle) in haystack
    return isinstance(haystack, list) and any(strict(needle, item) for item in haystack)


def cat(parts: list[Any]) -> str:
    return bounded_text([joined(part) for part in parts])


def rest(source: Any, start: Any) -> str:
    """``substr`` without a length: from ``start``, counted from the end when negative. Characters are Unicode's."""
    whole = text(source)
    begin = _whole(number(start), len(whole))
    return whole[max(0, begin + len(whole)) if begin < 0 else begin :]


def substr(source: Any, start: Any, length: Any) -> str:
    """``substr``; a negative ``length`` leaves out so many at the end."""
    remaining = rest(source, start)
    count = _whole(number(length), len(remaining))
    return remaining[:count] if count >= 0 else remaining[: max(0, len(remaining) + count)]


def _whole(value: Number, most: int) -> int:
    return 0 if value != value else int(max(-most, min(most, value)))


def merge(parts: list[Any]) -> list[Any]:
    merged: list[Any] = []
    for part in parts:
        if isinstance(part, (list, tuple)):
            merged += part
        else:
            merged.append(part)
        if len(merged) > _MAX_ITEMS:
            raise TooMuch("a list of too many items")
    return merged


def starts_with(value: Any, prefix: Any) -> bool | None:
    value, prefix = plain(value), plain(prefix)
    return value.startswith(prefix) if isinstance(value, str) and isinstance(prefix, str) else None


def ends_with(value: Any, suffix: Any) -> bool | None:
    value, suffix = plain(value), plain(suffix)
    return value.endswith(suffix) if isinstance(value, str) and isinstance(suffix, str) else None


# -- numbers ---------------------------------------------------------------------------------------------------------


def add(values: list[Any]) -> Number:
    total: Number = 0
    for value in values:
        total = bounded(total + number(value))
    return total


def multiply(values: list[Any]) -> Number:
    product: Number = 1
    for value in values:
        product = bounded(product * number(value))
    return product


def subtract(one: Any, other: Any) -> Number:
    return bounded(number(one) - number(other))


def negative(value: Any) -> Number:
    return -number(value)


def divide(one: Any, other: Any) -> Number:
    dividend, divisor = number(one), number(other)
    if divisor:
        return dividend / divisor
    if not dividend or dividend != dividend:
        return NAN
    return math.copysign(math.inf, dividend) * math.copysign(1.0, divisor)


def modulo(one: Any, other: Any) -> Number:
    """The remainder with the sign of the dividend."""
    dividend, divisor = number(one), number(other)
    if not divisor or dividend in (math.inf, -math.inf):
        return NAN
    if isinstance(dividend, int) and isinstance(divisor, int):
        rest = abs(dividend) % abs(divisor)
        return rest if dividend >= 0 else -rest
    return math.fmod(dividend, divisor)


def least(values: list[Any]) -> Number:
    numbers = [number(value) for value in values]
    return NAN if any(each != each for each in numbers) else min(numbers, default=math.inf)


def greatest(values: list[Any]) -> Number:
    numbers = [number(value) for value in values]
    return NAN if any(each != each for each in numbers) else max(numbers, default=-math.inf)


# -- versions --------------------------------------------------------------------------------------------------------

_COMPARISONS: Final[Mapping[str, Callable[[Version, Version], bool]]] = {
    "=": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "^": lambda one, other: one[0] == other[0],
    "~": lambda one, other: one[:2] == other[:2],
}


def version(value: Any) -> Version | None:
    """A semantic version: text or a number, a leading v taken off, "1" and "1.2" filled up; None if it is none."""
    value = plain(value)
    if type(value) is not str:
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            return None
        value = text(value)
    return _version_of(value) if len(value) <= _MAX_VERSION else None


@lru_cache(maxsize=4096)
def _version_of(value: str) -> Version | None:
    return parse_version(value[1:] if value[:1] in ("v", "V") else value)


def sem_ver(value: Any, comparison: Any, other: Any) -> bool | None:
    test = sem_ver_test(comparison, other)
    return None if test is None else test(value)


def sem_ver_test(comparison: Any, other: Any) -> Callable[[Any], bool | None] | None:
    """``sem_ver`` with what it compares to settled; None when that can only be null."""
    comparison = plain(comparison)
    compare = _COMPARISONS.get(comparison) if isinstance(comparison, str) else None
    wanted = version(other)
    if compare is None or wanted is None:
        return None

    def compared(value: Any) -> bool | None:
        short = type(value) is str and len(value) <= _MAX_VERSION
        found = _version_of(value) if short else version(value)
        return None if found is None else compare(found, wanted)

    return compared


# -- iterations ------------------------------------------------------------------------------------------------------


def charge(steps: Steps, cost: int) -> None:
    """Take ``cost`` from the steps left. Raises: TooMuch."""
    steps[0] -= cost
    if steps[0] < 0:
        raise TooMuch("too many steps")


def _items(value: Any, steps: Steps) -> list[Any]:
    value = plain(value)
    if not isinstance(value, list):
        return []
    charge(steps, len(value))
    return value


def mapped(items: Any, body: Body, steps: Steps) -> list[Any]:
    return [body(item, steps) for item in _items(items, steps)]


def kept(items: Any, body: Body, steps: Steps) -> list[Any]:
    return [item for item in _items(items, steps) if truthy(body(item, steps))]


def every(items: Any, body: Body, steps: Steps) -> bool:
    """``all``: of no items it is false."""
    listed = _items(items, steps)
    return bool(listed) and all(truthy(body(item, steps)) for item in listed)


def some(items: Any, body: Body, steps: Steps) -> bool:
    return any(truthy(body(item, steps)) for item in _items(items, steps))


def reduced(items: Any, body: Body, first: Any, steps: Steps) -> Any:
    for item in _items(items, steps):
        first = body({"current": item, "accumulator": first}, steps)
    return first


def within_charged(needle: Any, haystack: Any, steps: Steps) -> bool:
    """``within``, inside an iteration: a long list costs steps."""
    if isinstance(haystack, (list, tuple)):
        charge(steps, len(haystack))
    return within(needle, haystack)
