"""Every operator of the native format, one plain function each, over values as JSON and Python callers give them.

``outcome`` is the entry: it deals with missing attributes, lists and types, then asks the operator about one value.
An operator answers True, False, or None for "this value is nothing I can judge".
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from math import floor, isfinite
from typing import Any
from uuid import UUID

import re2  # type: ignore[import-untyped]

from tests.reference.kleene import Outcome, any_of

MISSING: Any = type("Missing", (), {"__repr__": lambda self: "MISSING"})()
MAX_STRING = 4096
MAX_MATCHED = 1024


def outcome(op: str, values: list[Any], attribute: Any, *, ignore_case: bool = False, now_ms: int = 0) -> Outcome:
    """Whether ``attribute`` (MISSING when the context has none) satisfies the operator."""
    if op == "exists":
        return attribute is not MISSING and attribute is not None
    if attribute is MISSING:
        return None
    if isinstance(attribute, (list, tuple, set, frozenset)):
        return any_of(_one(op, values, element, ignore_case, now_ms) for element in attribute)
    return _one(op, values, attribute, ignore_case, now_ms)


def _one(op: str, values: list[Any], given: Any, ignore_case: bool, now_ms: int) -> Outcome:
    value = plain(given)
    if value is None:
        return None
    if op == "in":
        return _in(value, values, ignore_case)
    if op in TEXT:
        return _text(op, value, values, ignore_case)
    if op == "matches":
        return _matches(value, values, ignore_case)
    if op in NUMERIC:
        return NUMERIC[op](value, values) if is_number(value) else None
    if op in ("before", "after"):
        return _dated(op, value, values, Fraction(now_ms, 1000))
    if op in SEMVER:
        return _versioned(op, value, values)
    if op == "in_cidr":
        return _in_cidr(value, values)
    raise AssertionError(f"no such operator: {op}")


def plain(given: Any) -> Any:
    """A bool, number, string or aware datetime without its subclass; None for anything that cannot be judged."""
    if isinstance(given, bool):
        return given
    if isinstance(given, int):
        return int.__add__(given, 0)
    if isinstance(given, float):
        return float.__add__(given, 0.0) if isfinite(given) else None
    if isinstance(given, str):
        characters = "".join(list(str.__iter__(given)))
        return characters if len(characters) <= MAX_STRING else None
    if isinstance(given, UUID):
        return str(given)
    if isinstance(given, datetime) and given.utcoffset() is not None:
        return given
    return None


def is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _in(value: Any, values: list[Any], ignore_case: bool) -> Outcome:
    if isinstance(value, datetime):
        return None
    for wanted in values:
        if isinstance(value, bool) or isinstance(wanted, bool):
            same = value is wanted
        elif isinstance(value, str) and isinstance(wanted, str):
            same = value.casefold() == wanted.casefold() if ignore_case else value == wanted
        else:
            same = is_number(value) and is_number(wanted) and value == wanted
        if same:
            return True
    return False


TEXT: dict[str, Callable[[str, str], bool]] = {
    "contains": lambda value, wanted: wanted in value,
    "starts_with": lambda value, wanted: value.startswith(wanted),
    "ends_with": lambda value, wanted: value.endswith(wanted),
}


def _text(op: str, value: Any, values: list[str], ignore_case: bool) -> Outcome:
    if not isinstance(value, str):
        return None
    if ignore_case:
        return any(TEXT[op](value.casefold(), wanted.casefold()) for wanted in values)
    return any(TEXT[op](value, wanted) for wanted in values)


def _matches(value: Any, values: list[str], ignore_case: bool) -> Outcome:
    if not isinstance(value, str) or len(value) > MAX_MATCHED:
        return None
    try:
        value.encode()
    except UnicodeEncodeError:
        return None
    options = re2.Options()
    options.case_sensitive = not ignore_case
    options.log_errors = False
    return any(re2.compile(pattern, options).search(value) is not None for pattern in values)


NUMERIC: dict[str, Callable[[Any, list[Any]], bool]] = {
    "greater": lambda value, values: value > values[0],
    "greater_or_equal": lambda value, values: value >= values[0],
    "less": lambda value, values: value < values[0],
    "less_or_equal": lambda value, values: value <= values[0],
    "between": lambda value, values: values[0] <= value <= values[1],
}


# Dates: seconds since 1970 as exact fractions, told apart to the millisecond.

_DATE = re.compile(r"([0-9]{4})-([0-9]{2})-([0-9]{2})")
_DATE_TIME = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})[Tt ]([0-9]{2}):([0-9]{2}):([0-9]{2})(?:\.([0-9]+))?"
    r"(?:[Zz]|([+-])([0-9]{2}):([0-9]{2}))"
)
_RELATIVE = re.compile(r"([0-9]+)([smhdw])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def instant(text: str) -> Fraction | None:
    """The instant an RFC 3339 date-time, or a date (its midnight, UTC), names; None when it names none."""
    day = _DATE.fullmatch(text)
    moment = _DATE_TIME.fullmatch(text)
    try:
        if day:
            return _utc(day.groups())
        if moment is None:
            return None
        at = _utc(moment.groups()[:6])
    except ValueError:
        return None
    digits, sign, hours, minutes = moment.groups()[6:]
    if digits:
        at += Fraction(int(digits), 10 ** len(digits))
    if sign:
        if int(hours) > 23 or int(minutes) > 59:
            return None
        offset = int(hours) * 3600 + int(minutes) * 60
        at += -offset if sign == "+" else offset
    return at


def _utc(numbers: Sequence[str]) -> Fraction:
    year, month, day, hour, minute, second = (*map(int, numbers), 0, 0, 0)[:6]
    return _since_epoch(datetime(year, month, day, hour, minute, second, tzinfo=UTC))


def _since_epoch(moment: datetime) -> Fraction:
    return Fraction((moment - _EPOCH) // timedelta(microseconds=1), 1_000_000)


def _dated(op: str, value: Any, values: list[str], now: Fraction) -> Outcome:
    if isinstance(value, datetime):
        at: Fraction | None = _since_epoch(value)
    else:
        at = instant(value) if isinstance(value, str) else None
    if at is None:
        return None
    for text in values:
        limit = _limit(text, now)
        if (_in_ms(at) < _in_ms(limit)) if op == "before" else (_in_ms(at) > _in_ms(limit)):
            return True
    return False


def _in_ms(at: Fraction) -> int:
    return floor(at * 1000)


def _limit(text: str, now: Fraction) -> Fraction:
    relative = _RELATIVE.fullmatch(text)
    if relative:
        return now - int(relative[1]) * _SECONDS[relative[2]]
    at = instant(text)
    assert at is not None, f"not a date: {text}"
    return at


# Versions, by semver 2.0 section 11.

_NUMBER = r"(0|[1-9][0-9]*)"
_VERSION = re.compile(rf"{_NUMBER}(?:\.{_NUMBER})?(?:\.{_NUMBER})?(?:-([0-9A-Za-z.-]+))?(?:\+([0-9A-Za-z.-]+))?")


def version(text: str) -> tuple[Any, ...] | None:
    """A key that sorts as the version's precedence does; None when ``text`` is not a version."""
    found = _VERSION.fullmatch(text)
    if found is None:
        return None
    major, minor, patch, pre_release, build = found.groups()
    fields = [] if pre_release is None else pre_release.split(".")
    if "" in fields or "" in (build or "x").split("."):
        return None
    if any(field.isdigit() and field != "0" and field.startswith("0") for field in fields):
        return None
    numbers = (int(major), int(minor or 0), int(patch or 0))
    # A version without a pre-release comes after all of its pre-releases; numeric fields before others.
    ranked = tuple((0, int(field), "") if field.isdigit() else (1, 0, field) for field in fields)
    return (*numbers, 1 if pre_release is None else 0, ranked)


def _before_all(major: int, minor: int, patch: int) -> tuple[Any, ...]:
    """Where a range ends that leaves this release out, and its pre-releases with it."""
    return (major, minor, patch, 0, ())


def _above_caret(wanted: tuple[Any, ...]) -> tuple[Any, ...]:
    major, minor, patch = wanted[:3]
    if major:
        return _before_all(major + 1, 0, 0)
    if minor:
        return _before_all(0, minor + 1, 0)
    return _before_all(0, 0, patch + 1)


def _above_tilde(wanted: tuple[Any, ...]) -> tuple[Any, ...]:
    return _before_all(wanted[0], wanted[1] + 1, 0)


SEMVER: dict[str, Callable[[Any, Any], bool]] = {
    "semver_equal": lambda value, wanted: value == wanted,
    "semver_greater": lambda value, wanted: value > wanted,
    "semver_greater_or_equal": lambda value, wanted: value >= wanted,
    "semver_less": lambda value, wanted: value < wanted,
    "semver_less_or_equal": lambda value, wanted: value <= wanted,
    "semver_caret": lambda value, wanted: wanted <= value < _above_caret(wanted),
    "semver_tilde": lambda value, wanted: wanted <= value < _above_tilde(wanted),
}


def _versioned(op: str, value: Any, values: list[str]) -> Outcome:
    mine = version(value.removeprefix("v")) if isinstance(value, str) else None
    if mine is None:
        return None
    return any(SEMVER[op](mine, version(wanted)) for wanted in values)


def _in_cidr(value: Any, values: list[str]) -> Outcome:
    if not isinstance(value, str):
        return None
    try:
        address = ipaddress.ip_address(value)
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return any(address in ipaddress.ip_network(network, strict=False) for network in values)
