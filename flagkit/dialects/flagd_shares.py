"""``fractional`` as a Python expression: a hash, and a chain of bounds when the shares are known beforehand.

A part of ``flagd_expressions``. How units are hashed and shares reckoned is flagd_fractional's business.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from flagkit.dialects.flagd_fractional import limits_of
from flagkit.dialects.flagd_rules import is_constant
from flagkit.dialects.flagd_writing import Writing

_CHAIN: Final = 16  # shares in one expression


class Shares(NamedTuple):
    """A ``fractional`` whose shares are known: ``bounds`` of the hash, and what is at each.

    key: the expression of the hash, or of None when there is no key.
    """

    key: str
    bounds: list[int]
    values: list[Any]


def fractional(write: Writing, arguments: list[Any]) -> str:
    found = shares(write, arguments)
    if found is not None:
        x = write.name()
        value = chosen(write, found, list(map(write.constant, found.values)), x)
        return f"({value} if ({x} := {found.key}) is not None else None)"
    if not arguments:
        return "None"
    key, entries = split_key(arguments)
    return f"share({hash_of(write, key)}, {write.listed(entries)})"


def split_key(arguments: list[Any]) -> tuple[list[Any] | None, list[Any]]:
    """What is hashed, as a list of one (None: the unit), and the entries."""
    first, *entries = arguments
    return (None, arguments) if isinstance(first, list) else ([first], entries)


def shares(write: Writing, arguments: list[Any]) -> Shares | None:
    """The shares when they are constants and valid; else None."""
    if not arguments:
        return None
    key, entries = split_key(arguments)
    if not entries or not all(isinstance(e, list) and 0 < len(e) <= 2 and is_constant(e) for e in entries):
        return None
    if not all(entry[0] is None or isinstance(entry[0], (str, int, float)) for entry in entries):
        return None
    bounds = limits_of([entry[1] if len(entry) == 2 else 1 for entry in entries])
    if bounds is None:
        return None
    return Shares(hash_of(write, key), bounds, [entry[0] for entry in entries])


def hash_of(write: Writing, key: list[Any] | None) -> str:
    """The expression of the hash of what ``key`` comes to, or of None when there is nothing to hash."""
    hashing = write.hashing
    if key is None:
        if write.in_item:
            return "None"
        write.asks_key = True
        prefix = write.constant(hashing.prefix(write.flag_key.encode()))
        unit = "key" if hashing.of_unit is None else f"{write.constant(hashing.of_unit)}(key)"
        return f"(digest({prefix} + {unit}) if key else None)"
    if is_constant(key[0]):
        return write.constant(hashing.of_value(key[0]))
    of_text = "{}" if hashing.of_text is None else f"{write.constant(hashing.of_text)}({{}})"
    if not write.in_item and key[0] in ({"var": "targetingKey"}, {"var": ["targetingKey"]}):
        write.asks_key = True
        of_value = f"{write.constant(hashing.of_value)}(get({write.constant('targetingKey')}))"
        return f"(digest({of_text.format('key')}) if key is not None else {of_value})"
    x = write.name()
    encoded = of_text.format(f"encode({x})")
    of_value = write.constant(hashing.of_value)
    return f"(digest({encoded}) if type({x} := {write.value(key[0])}) is str else {of_value}({x}))"


def chosen(write: Writing, of: Shares, values: list[str], found: str) -> str:
    """The expression that picks one of ``values`` by the hash in ``found``."""
    if len(values) > _CHAIN:
        return f"[{', '.join(values)}][bisect({write.constant(of.bounds)}, {found})]"
    low = 0
    parts: list[str] = []
    for value, bound in zip(values, of.bounds, strict=True):
        if bound == 1 << 32:
            return "(" + " ".join([*parts, value]) + ")"
        if bound > low:
            parts.append(f"{value} if {found} < {write.constant(bound)} else")
        low = bound
    raise AssertionError("the last bound is 2**32")
