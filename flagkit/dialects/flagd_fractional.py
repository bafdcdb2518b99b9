"""``fractional``: which share of the units a key falls into, as flagd reckons it.

    hash   = murmur3_x86_32(bytes, 0), unsigned
    bytes  = version 2: UTF-8 of the key; without one, of the flag's key and the targeting key in one
             version 3: canonical CBOR of the key; without one, of the list [flag's key, targeting key]
    bucket = (hash * total weight) >> 32, and the first share whose weights, summed so far, are more than it

Weights are whole numbers, negative ones count as 0, and their sum is 1 to 2**31 - 1; otherwise there is no share.
Source: open-feature/flagd's fractional operation (2026), and its test bed's vectors. Only bytes are hashed.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

from mmh3 import mmh3_32_uintdigest

from flagkit.dialects.flagd_cbor import encoded, pair_prefix, text_of
from flagkit.dialects.javascript import plain

_MAX_TOTAL: Final = (1 << 31) - 1
digest = mmh3_32_uintdigest


class Hashing(NamedTuple):
    """One version of it. ``of_value``: the hash of a key of any kind, None when it is no key.

    of_unit: the bytes hashed for the targeting key's UTF-8, after the prefix that ``prefix`` makes of the flag's key;
    of_text: the bytes hashed for a key's UTF-8.
    """

    version: str
    of_value: Callable[[Any], int | None]
    prefix: Callable[[bytes], bytes]
    of_unit: Callable[[bytes], bytes] | None
    of_text: Callable[[bytes], bytes] | None


def _hash_of_text(value: Any) -> int | None:
    value = plain(value)
    try:
        return digest(value.encode()) if isinstance(value, str) else None
    except UnicodeEncodeError:  # a lone surrogate
        return None


def _hash_of_any(value: Any) -> int | None:
    data = encoded(value)
    return None if data is None else digest(data)


V2: Final = Hashing("v2", _hash_of_text, lambda key: key, None, None)
V3: Final = Hashing("v3", _hash_of_any, pair_prefix, text_of, text_of)


def total_of(weights: Sequence[Any]) -> int | None:
    """The sum of valid weights, from 1; None when there is no share to be had."""
    total = 0
    for weight in weights:
        if type(weight) is int or (type(weight) is float and weight.is_integer()):
            total += max(0, int(weight))
        else:
            return None
    return total if 0 < total <= _MAX_TOTAL else None


def limits_of(weights: Sequence[Any]) -> list[int] | None:
    """Bounds of the hash: share i is that of the first i with ``hash < limits[i]``. None when there is no share."""
    total = total_of(weights)
    if total is None:
        return None
    reached, limits = 0, []
    for weight in weights:
        reached += max(0, int(weight))
        limits.append(-(-(reached << 32) // total))
    return limits


def share_of(found: int, weights: Sequence[Any]) -> int | None:
    """The index of the share that the hash ``found`` falls into; None when there is none."""
    limits = limits_of(weights)
    return None if limits is None else bisect_right(limits, found)


def share(found: int | None, entries: Sequence[Any]) -> Any:
    """``fractional`` of a hash and entries ``[value]`` or ``[value, weight]`` that are known only now."""
    if found is None:
        return None
    values, weights = [], []
    for entry in entries:
        entry = plain(entry)
        if not isinstance(entry, list) or not 0 < len(entry) <= 2:
            return None
        value = plain(entry[0])
        if value is not None and not isinstance(value, (str, int, float)):
            return None
        values.append(value)
        weights.append(plain(entry[1]) if len(entry) == 2 else 1)
    index = share_of(found, weights)
    return None if index is None else values[index]
