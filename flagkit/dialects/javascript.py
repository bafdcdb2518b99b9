"""JavaScript's values: what is true, what a value is as a number or as text, what equals and precedes what.

JSON values as Python has them, with the coercions of JavaScript, by which JsonLogic (https://jsonlogic.com) and
GrowthBook's conditions are defined. Anything that is no JSON value is an object nobody can look into: true, no number,
equal to itself only. No dialect of its own: called by flagd's operations and compiled rules, and by GrowthBook's values
and hash.
"""

from __future__ import annotations

import math
import re
from typing import Any, Final, TypeAlias

Number: TypeAlias = int | float

NAN: Final = math.nan
MAX_TEXT: Final = 1 << 16  # of a text made from others
_EXACT: Final = 1 << 53
_MAX_ID: Final = 1 << 64
_MAX_DIGITS: Final = 4096
_MAX_ITEMS, _MAX_DEPTH = 10_000, 100  # of a list written out
_DECIMAL: Final = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?", re.ASCII)
_RADIX: Final = re.compile(r"0(?:[xX][0-9a-fA-F]+|[oO][0-7]+|[bB][01]+)", re.ASCII)
_WHOLE: Final = re.compile(r"[+-]?[0-9]{1,15}", re.ASCII)
_OBJECT: Final = "[object Object]"
_PLAIN: Final = frozenset({str, int, float, bool, list, dict, type(None)})
_NUMBERS: Final = frozenset({int, float})
_AS_PYTHON: Final = frozenset({bool, str, int, list, tuple, type(None)})


class TooMuch(ValueError):
    """A rule made a value, or asked for work, beyond what any flag needs."""


def plain(value: Any) -> Any:
    """``value`` with subclasses (of str, int, float) taken for what they are, tuples for lists."""
    kind = type(value)
    if kind in _PLAIN:
        return value
    if issubclass(kind, str):
        return str.__str__(value)
    if issubclass(kind, int):
        return int.__index__(value)
    if issubclass(kind, float):
        return float.__float__(value)
    return list(value) if kind is tuple else value


def truthy(value: Any) -> bool:
    """False for false, null, 0, NaN, "" and []; an empty object is true."""
    if type(value) in _AS_PYTHON:
        return bool(value)
    value = plain(value)
    kind = type(value)
    if kind is float:
        return bool(value == value and value != 0.0)
    return kind not in _AS_PYTHON or bool(value)


def bounded(number: Number) -> Number:
    """A number as JavaScript would hold it: whole ones exact up to 2**53, beyond that a float."""
    if type(number) is int and not -_EXACT <= number <= _EXACT:
        return float(number) if -_MAX_ID < number < _MAX_ID else _huge(number)
    return number


def _huge(number: int) -> float:
    return math.inf if number > 0 else -math.inf


def number(value: Any) -> Number:
    """``Number(value)``: NaN for what is none."""
    kind = type(value)
    if kind is int:
        return bounded(value)
    if kind is float:
        return value  # type: ignore[no-any-return]
    value = plain(value)
    if value is None:
        return 0
    if isinstance(value, (int, float)):
        return bounded(+value)
    if isinstance(value, list):
        value = text(value)
    return _parsed(value) if isinstance(value, str) else NAN


def _parsed(digits: str) -> Number:
    digits = digits.strip()
    if not digits:
        return 0
    if len(digits) > _MAX_DIGITS:
        return NAN
    if _WHOLE.fullmatch(digits):
        return int(digits)
    if _DECIMAL.fullmatch(digits):
        return float(digits)
    if _RADIX.fullmatch(digits):
        return bounded(int(digits, 0))
    if digits.lstrip("+-") == "Infinity" and len(digits) <= len("+Infinity"):
        return -math.inf if digits[0] == "-" else math.inf
    return NAN


def text(value: Any) -> str:
    """``String(value)``. Raises: TooMuch."""
    if type(value) is str:
        return value
    value = plain(value)
    if isinstance(value, list):
        return _listed(value, [_MAX_ITEMS], _MAX_DEPTH)
    return _scalar(value)


def joined(value: Any) -> str:
    """``value`` as a part of a longer text: as ``text``, but nothing for null."""
    return "" if value is None else text(value)


def _scalar(value: Any) -> str:
    if isinstance(value, str):
        return value
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value) if -_MAX_ID < value < _MAX_ID else _decimal(_huge(value))
    return _decimal(value) if isinstance(value, float) else _OBJECT


def _listed(items: list[Any], left: list[int], room: int) -> str:
    left[0] -= len(items)
    if left[0] < 0 or room == 0:  # a list can contain itself, or the same one twice at every level
        raise TooMuch("a list of too many items, written out")
    parts = []
    for item in map(plain, items):
        parts.append("" if item is None else _listed(item, left, room - 1) if isinstance(item, list) else _scalar(item))
    return bounded_text(parts, ",")


def bounded_text(parts: list[str], between: str = "") -> str:
    """``parts`` in one. Raises: TooMuch beyond ``MAX_TEXT`` characters."""
    if sum(map(len, parts)) + len(between) * len(parts) > MAX_TEXT:
        raise TooMuch("a text that is too long")
    return between.join(parts)


def _decimal(value: float) -> str:
    """As JavaScript writes it: Python's digits, an exponent from 1e21 and below 1e-6 only."""
    if value != value:
        return "NaN"
    if value in (math.inf, -math.inf):
        return "Infinity" if value > 0 else "-Infinity"
    shown = repr(value)
    if "e" not in shown:
        return "0" if value == 0 else shown.removesuffix(".0")
    mantissa, _, power = shown.partition("e")
    sign, digits, exponent = "-" * (value < 0), mantissa.lstrip("-").replace(".", ""), int(power)
    if 0 <= exponent < 21:
        return sign + digits.ljust(exponent + 1, "0")
    if -7 < exponent < 0:
        return f"{sign}0.{'0' * (-exponent - 1)}{digits}"
    return f"{mantissa}e{exponent:+d}"


def strict(one: Any, other: Any) -> bool:
    """``===``: of lists and objects only the very same are equal."""
    one, other = plain(one), plain(other)
    first, second = type(one), type(other)
    if first is second:
        return one is other if first is list or first is dict or first not in _PLAIN else bool(one == other)
    return first in _NUMBERS and second in _NUMBERS and bool(one == other)


def loose(one: Any, other: Any) -> bool:
    """``==``."""
    one, other = plain(one), plain(other)
    first, second = type(one), type(other)
    if first is second:
        return strict(one, other)
    if one is None or other is None or first not in _PLAIN or second not in _PLAIN:
        return False
    if first in (list, dict):
        if second in (list, dict):
            return False
        return loose(text(one), other)
    if second in (list, dict):
        return loose(one, text(other))
    return number(one) == number(other)


def precedes(one: Any, other: Any) -> bool:
    """``<``: texts by their characters, all else as numbers."""
    one, other = _primitive(one), _primitive(other)
    if isinstance(one, str) and isinstance(other, str):
        return one < other
    return number(one) < number(other)


def precedes_or_equals(one: Any, other: Any) -> bool:
    """``<=``."""
    one, other = _primitive(one), _primitive(other)
    if isinstance(one, str) and isinstance(other, str):
        return one <= other
    return number(one) <= number(other)


def _primitive(value: Any) -> Any:
    value = plain(value)
    return value if value is None or isinstance(value, (str, int, float)) else text(value)
