"""PostHog's values: what a property is as text, as a number, a moment, a version; and the words for "undecided".

Whoever asks gets True or False, or one of the codes here when a question cannot be answered in this process. Knows
neither flags nor operators; the other parts of the dialect call it.

Source: PostHog, rust/feature-flags/src/properties (property_matching.rs, relative_date.rs).
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from datetime import UTC, date, datetime
from functools import lru_cache
from typing import Any, Final, TypeAlias

#: True, False, or a code: MISSING to UNSUPPORTED, the stronger the greater, with or without REMOTE.
Answer: TypeAlias = int
#: The context does not hold what is asked for, or holds something that cannot be compared.
MISSING: Final = 2
#: A flag that is asked for is itself undecided.
DEPENDENCY: Final = 3
#: The definition asks for what only PostHog's servers know or can do.
UNSUPPORTED: Final = 4
#: Added to a code: no later condition may decide instead.
REMOTE: Final = 8
CAUSES: Final = {
    MISSING: "missing context",
    DEPENDENCY: "unresolved dependency",
    UNSUPPORTED: "unsupported definition",
    DEPENDENCY | REMOTE: "unresolved dependency on a static cohort",
    UNSUPPORTED | REMOTE: "static cohort",
}


class Absent:
    """The type of ``ABSENT``: what stands for a property that a context does not have."""

    __slots__ = ()


ABSENT: Final = Absent()
_MAX_DEPTH: Final = 16
_MAX_ITEMS: Final = 1000
_MAX_NUMBER: Final = 64
_MAX_VERSION: Final = 256
_MAX_DATE: Final = 64
_NUMBER: Final = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?", re.ASCII).fullmatch
_ZONE: Final = re.compile(r" ([+-]\d{2}:\d{2})$", re.ASCII)
_MAX_INT: Final = 1 << 63
_ASCII_LOWER: Final = {upper: upper + 32 for upper in range(ord("A"), ord("Z") + 1)}


def worse(first: Answer, second: Answer) -> Answer:
    """Of two codes the stronger; later conditions are barred only if the first bars them."""
    return max(first & ~REMOTE, second & ~REMOTE) | (first & REMOTE)


# -- text


def text(value: Any) -> str | None:
    """A string as it is, any other JSON value as PostHog's servers write it; None for what is none, or is too large."""
    if type(value) is str:
        return value
    if isinstance(value, str):
        return str.__str__(value)
    return _json(value, _MAX_DEPTH, [_MAX_ITEMS])


def ascii_lower(value: str) -> str:
    """In lower case, as far as it is ASCII."""
    return value.lower() if value.isascii() else value.translate(_ASCII_LOWER)


def _json(value: Any, room: int, left: list[int]) -> str | None:
    left[0] -= 1
    if left[0] < 0:
        return None
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return json.dumps(str.__str__(value), ensure_ascii=False)
    if isinstance(value, int):
        return int.__repr__(value) if -_MAX_INT <= value < 2 * _MAX_INT else None
    if isinstance(value, float):
        return _float(float(value))
    if not room or not isinstance(value, (list, dict)):
        return None
    if isinstance(value, list):
        items = [_json(item, room - 1, left) for item in value[:_MAX_ITEMS]]
        return None if None in items or len(items) < len(value) else "[" + ",".join(map(str, items)) + "]"
    if len(value) > left[0] or not all(isinstance(key, str) for key in value):
        return None
    members = {key: _json(value[key], room - 1, left) for key in sorted(value)}
    if None in members.values():
        return None
    return "{" + ",".join(f"{json.dumps(key, ensure_ascii=False)}:{item}" for key, item in members.items()) + "}"


def _float(value: float) -> str | None:
    if not math.isfinite(value):
        return None
    shortest = repr(value)
    digits, e, exponent = shortest.partition("e")
    if not e:
        return shortest
    power = int(exponent)
    if -6 < power < 0:  # where Python begins to write exponents, and Rust does not
        sign, digits = ("-", digits[1:]) if digits[0] == "-" else ("", digits)
        return f"{sign}0.{'0' * (-power - 1)}{digits.replace('.', '')}"
    return f"{digits}e{'+' if power > 0 else ''}{power}"


# -- truth


def is_truth(value: Any) -> bool:
    """Whether a filter asks for true or false, in whatever form; true of an empty list."""
    if isinstance(value, str):
        return value.lower() in ("true", "false")
    return isinstance(value, bool) or (
        isinstance(value, list) and len(value) <= _MAX_ITEMS and all(map(is_truth, value))
    )


def is_true(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, str):
        return len(value) == 4 and value.lower() == "true"
    return isinstance(value, list) and len(value) <= _MAX_ITEMS and all(map(is_true, value))


# -- numbers


def number(value: Any) -> float | None:
    """A finite number, or a string that is one; None for anything else, a bool included."""
    if isinstance(value, bool):
        return None
    if isinstance(value, (int, float)):
        return _finite(value)
    if isinstance(value, str) and len(value) <= _MAX_NUMBER and _NUMBER(value):
        return _finite(value)
    return None


def _finite(value: Any) -> float | None:
    try:
        read = float(value)
    except (ValueError, OverflowError):
        return None
    return read if math.isfinite(read) else None


# -- moments, in seconds since 1970


def moment(value: Any) -> float | None:
    """Of a date, a datetime, an ISO date or date-time (UTC when it names no zone), or seconds since 1970."""
    if isinstance(value, str):
        return _moment_of_text(str.__str__(value)) if len(value) <= _MAX_DATE else None
    if isinstance(value, datetime):
        return _seconds(value)
    if isinstance(value, date):
        return _seconds(datetime(value.year, value.month, value.day))
    return number(value)


@lru_cache(maxsize=1024)
def _moment_of_text(value: str) -> float | None:
    written = value.strip()
    if written[-4:].upper() == " UTC":
        written = written[:-4] + "+00:00"
    try:
        return _seconds(datetime.fromisoformat(_ZONE.sub(r"\1", written)))
    except ValueError:
        return number(value)


def _seconds(read: datetime) -> float | None:
    try:
        return (read if read.tzinfo else read.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return None


def relative(value: str) -> tuple[int, str] | None:
    """How long ago, in hours, days, weeks, months or years: ``("-7d")`` is ``(7, "d")``; None if it is no such date."""
    found = re.fullmatch(r"-?([0-9]{1,16})([hdwmy])", value, re.ASCII)
    if found is None or int(found[1]) >= 10_000:
        return None
    return int(found[1]), found[2]


def ago(amount: int, unit: str, now_ms: int) -> float | None:
    """The moment so long before ``now_ms``; None before the year 1.

    Months and years go step by step: what does not exist in a month on the way is that month's last day from then on.
    """
    now = now_ms / 1000
    if unit in "hdw":
        return now - amount * {"h": 3600, "d": 86_400, "w": 604_800}[unit]
    then = datetime.fromtimestamp(now, UTC)
    months = then.year * 12 + then.month - 1
    aim = months - amount * (12 if unit == "y" else 1)
    year, month = divmod(aim, 12)
    if not 1 <= year <= 9999:
        return None
    passed = range(aim, months) if unit == "m" else range(aim, months, 12)
    day = min([then.day, *(_length(*divmod(each, 12)) for each in passed)]) if then.day > 28 else then.day
    return then.replace(year=year, month=month + 1, day=day).timestamp()


def _length(year: int, month: int) -> int:
    """Days of a month, the first of which is 0."""
    if month == 1:
        return 29 if year % 4 == 0 and (year % 100 != 0 or year % 400 == 0) else 28
    return 30 if month in (3, 5, 8, 10) else 31


# -- versions

Version: TypeAlias = tuple[int, int, int]


def version(value: str) -> Version | None:
    """Major, minor, patch; what is left out is 0, and what follows ``-`` or ``+`` is left aside."""
    return _read_version(value) if len(value) <= _MAX_VERSION else None


@lru_cache(maxsize=1024)
def _read_version(value: str) -> Version | None:
    core = value.strip().lstrip("vV").partition("-")[0].partition("+")[0]
    parts = [*core.split("."), "", ""][:3]
    read = [_part(part) if part or not index else 0 for index, part in enumerate(parts)]
    return None if None in read else tuple(read)  # type: ignore[return-value]


def _part(digits: str) -> int | None:
    if not (digits.isascii() and digits.isdigit()) or (len(digits) > 1 and digits[0] == "0"):
        return None
    return int(digits)


def version_range(operator: str, value: str) -> tuple[Version, Version] | None:
    """From which version, and up to which other, a range reaches; None when it is none."""
    if operator == "semver_wildcard":
        return _wildcard(value)
    low = version(value)
    if low is None:
        return None
    major, minor, patch = low
    if operator == "semver_tilde":
        return low, (major, minor + 1, 0)
    return low, (major + 1, 0, 0) if major else (0, minor + 1, 0) if minor else (0, 0, patch + 1)


def _wildcard(value: str) -> tuple[Version, Version] | None:
    if len(value) > _MAX_VERSION:
        return None
    parts = [part for part in value.strip().lstrip("vV").replace("*", "").rstrip(".").split(".") if part][:3]
    numbers = [_part(part) for part in parts]
    if not numbers or None in numbers:
        return None
    low: list[Any] = [*numbers, 0, 0][:3]
    high: list[Any] = [*numbers[:-1], low[len(numbers) - 1] + 1, 0, 0][:3]
    return tuple(low), tuple(high)


def mapping(value: Any) -> Mapping[str, Any] | None:
    """``value`` if it is a mapping."""
    return value if type(value) is dict or issubclass(type(value), Mapping) else None
