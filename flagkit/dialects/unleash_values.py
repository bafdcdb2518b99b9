"""Unleash's values: what an attribute is as text, and what text is as a number, a moment, a version or an address.

In Unleash every value of a context is a string. Attributes of other types are what its clients make of them: ``7``,
``1.5``, ``true``, a date in ISO 8601; whatever has no such form counts as missing. Pure functions that raise nothing
whatever they are given. Called by compiled flags and by the parser.
"""

from __future__ import annotations

import math
import re
import sys
from datetime import date, datetime
from functools import lru_cache
from typing import Any, Final, TypeAlias, TypeGuard

from flagkit.core.versions import Version, parse_version

Address: TypeAlias = tuple[int, int]  # 4 or 6, and the address as a number

_NUMBER: Final = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]{1,5})?", re.ASCII).fullmatch
_MOMENT: Final = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})[Tt ]([0-9]{2}:[0-9]{2}:[0-9]{2})(\.[0-9]{1,9})?(?:[Zz]|([+-][0-9]{2}):?([0-9]{2}))",
    re.ASCII,
).fullmatch
_FULL_VERSION: Final = re.compile(r"(?:[0-9]{1,19})\.(?:[0-9]{1,19})\.(?:[0-9]{1,19})(?:[-+].*)?", re.ASCII).fullmatch
_MAX_VERSION: Final = 256
_MAX_SHORT: Final = 64


def text(value: Any) -> str | None:
    """An attribute as Unleash's clients send it; None when it is missing or has no such form."""
    kind = type(value)  # not isinstance: a proxy's or mock's __class__ may say anything
    if kind is str:
        return value  # type: ignore[no-any-return]
    if value is None:
        return None
    if kind is bool:
        return "true" if value else "false"
    if issubclass(kind, str):
        return str.__str__(value)
    if issubclass(kind, int):
        number = int.__index__(value)
        return str(number) if -(1 << 63) < number < 1 << 64 else None
    if issubclass(kind, float):
        return repr(float.__float__(value))
    if issubclass(kind, datetime):
        return datetime.isoformat(value)
    if issubclass(kind, date):
        return date.isoformat(value)
    uuid = sys.modules.get("uuid")  # before its import there are no UUIDs, and importing it costs every start
    if uuid is not None and issubclass(kind, uuid.UUID):
        return uuid.UUID.__str__(value)  # type: ignore[no-any-return]
    return None


def is_text(value: object) -> TypeGuard[str]:
    """Whether it is a str that has a UTF-8: JSON allows lone surrogates, which nothing else does."""
    return isinstance(value, str) and not any("\ud800" <= character <= "\udfff" for character in value)


def utf8(value: Any) -> bytes | None:
    """What is hashed for an attribute; None when it is missing, or text that has no UTF-8."""
    found = text(value)
    if found is None:
        return None
    try:
        return found.encode()
    except UnicodeEncodeError:  # a lone surrogate
        return None


def number(value: str) -> float | None:
    """A finite decimal number."""
    if not _NUMBER(value) or len(value) > _MAX_SHORT:
        return None
    found = float(value)
    return found if math.isfinite(found) else None


@lru_cache(maxsize=4096)
def moment_us(value: str) -> int | None:
    """Microseconds since 1970 of a date with time and offset (RFC 3339, also ``+0200``); None for anything else."""
    found = _MOMENT(value) if len(value) <= _MAX_SHORT else None
    if found is None:
        return None
    day, clock, fraction, hours, minutes = found.groups()
    leap = clock.endswith(":60")  # a leap second: the last moment of its minute
    try:
        moment = datetime.fromisoformat(f"{day}T{clock[:-2]}59" if leap else f"{day}T{clock}")
    except ValueError:
        return None
    offset = 60 * int(hours) + int(f"{hours[0]}{minutes}") if hours else 0
    if abs(offset) >= 24 * 60:
        return None
    seconds = (moment - _EPOCH).days * 86_400 + (moment - _EPOCH).seconds + leap - 60 * offset
    return seconds * 1_000_000 + int(f"{fraction or '.'}000000"[1:7])


_EPOCH: Final = datetime(1970, 1, 1)


@lru_cache(maxsize=4096)
def version(value: str) -> Version | None:
    """A semantic version with all three numbers, as a tuple that sorts by precedence; None for anything else."""
    return parse_version(value) if len(value) <= _MAX_VERSION and _FULL_VERSION(value) else None


@lru_cache(maxsize=4096)
def address(value: str) -> Address | None:
    """An IP address; None for anything else, such as one with a zone."""
    from ipaddress import ip_address  # 5 ms, and few definitions ask for it

    if len(value) > _MAX_SHORT or "%" in value:
        return None
    try:
        found = ip_address(value)
    except ValueError:
        return None
    return found.version, int(found)


class Networks:
    """Addresses and networks; those that cannot be read are left out. ``in`` asks for an address as text."""

    __slots__ = ("_by_prefix", "read")

    def __init__(self, texts: list[str]) -> None:
        from ipaddress import ip_network

        self._by_prefix: dict[tuple[int, int], set[int]] = {}
        #: How many could be read.
        self.read = 0
        for each in texts:
            try:
                network = ip_network(each, strict=False) if len(each) <= _MAX_SHORT and "%" not in each else None
            except ValueError:
                network = None
            if network is not None:
                self.read += 1
                shift = network.max_prefixlen - network.prefixlen
                members = self._by_prefix.setdefault((network.version, shift), set())
                members.add(int(network.network_address) >> shift)

    def __contains__(self, value: str) -> bool:
        found = address(value)
        if found is None:
            return False
        family, bits = found
        return any(of == family and bits >> shift in members for (of, shift), members in self._by_prefix.items())
