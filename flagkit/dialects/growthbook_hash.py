"""GrowthBook's hash: FNV-1a of 32 bits, versions 1 and 2, to buckets; and the ranges of buckets it is compared with.

The characters hashed are UTF-16 code units, as JavaScript has them, so that a text with an emoji is in the same bucket
as in a browser. Buckets are whole numbers below 1,000 or 10,000; thresholds are made whole numbers beforehand, so that
comparing them decides as comparing the floats would. Pure; called by the modules of this dialect.
Source: https://docs.growthbook.io/lib/build-your-own, version 0.7.1; http://www.isthe.com/chongo/tech/comp/fnv/.
"""

from __future__ import annotations

import math
import sys
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import Any, Final, TypeAlias

from flagkit.context import MAX_UNIT_BYTES, unit_key
from flagkit.dialects.javascript import bounded, plain, text

#: The code units of a text, each once: iterating gives them as numbers.
Units: TypeAlias = "bytes | memoryview[int]"
Range: TypeAlias = "tuple[float, float]"

BUCKETS: Final = {1: 1000, 2: 10_000}
_BASIS: Final = 0x811C9DC5
_PRIME: Final = 0x01000193
_MASK: Final = 0xFFFFFFFF
_UTF_16: Final = "utf-16-le" if sys.byteorder == "little" else "utf-16-be"


def units_of(value: Any) -> Units | None:
    """What is hashed of an attribute's value; None where GrowthBook takes it for missing.

    Texts that are not empty and numbers that are finite and not 0 (written as JavaScript writes them) can be hashed,
    and so can a UUID. Texts of more than 1,024 characters cannot: they are no identifiers.
    """
    if type(value) is not str:
        value = plain(value)
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            value = bounded(value)
            value = text(value) if value != 0 and math.isfinite(value) else ""
        elif not isinstance(value, str):
            return None if isinstance(value, bool) else unit_key(value) or None
    if not value or len(value) > MAX_UNIT_BYTES:
        return None
    return code_units(value)


def code_units(characters: str) -> Units:
    """The UTF-16 code units of a text."""
    if characters.isascii():
        return characters.encode()
    return memoryview(characters.encode(_UTF_16, "surrogatepass")).cast("H")


def units_of_key(key: bytes | None) -> Units | None:
    """What is hashed of a context's unit, given as its UTF-8."""
    return key if key is None or key.isascii() else code_units(key.decode())


def fnv1a(units: Iterable[int], state: int = _BASIS) -> int:
    """FNV-1a of 32 bits, going on from ``state``."""
    for unit in units:
        state = (state ^ unit) * 16777619 & 4294967295  # literals: nearly all the time goes here
    return state


def digest(seed: str, value: str, version: Any) -> float | None:
    """``hash`` of the specification: from 0 up to 1, in thousandths or ten thousandths. None: no such version."""
    bucket = bucketing(seed, version)
    return None if bucket is None else bucket(code_units(value)) / BUCKETS[version]


def bucketing(seed: str, version: Any) -> Callable[[Units], int] | None:
    """The function from what is hashed to its bucket. None when there is no such version of the hash."""
    if type(version) is not int or version not in BUCKETS:
        return None
    return _first(seed) if version == 1 else _second(seed)


def _second(seed: str) -> Callable[[Units], int]:
    """Version 2, which hashes the seed first: that much is done beforehand."""
    start = fnv1a(code_units(seed))

    def bucket(units: Units) -> int:
        state = start
        for unit in units:
            state = (state ^ unit) * 16777619 & 4294967295
        again = 2166136261
        for digit in b"%d" % state:
            again = (again ^ digit) * 16777619 & 4294967295
        return again % 10_000

    return bucket


def _first(seed: str) -> Callable[[Units], int]:
    """Version 1, which hashes the seed last.

    A round changes a state by a difference that only its last 8 bits, or 16 of a wide character, tell, and multiplies
    it. So do many: what a seed of plain characters does to a state is one multiplication, and one of 256 differences.
    """
    units = code_units(seed)
    if not isinstance(units, bytes):
        return lambda value: fnv1a(units, fnv1a(value)) % 1000
    factor, differences = _rounds(units)

    def bucket(value: Units) -> int:
        state = 2166136261
        for unit in value:
            state = (state ^ unit) * 16777619 & 4294967295
        return (state * factor + differences[state & 255] & 4294967295) % 1000

    return bucket


@lru_cache(maxsize=256)
def _rounds(units: bytes) -> tuple[int, array[int]]:
    factor = pow(_PRIME, len(units), _MASK + 1)
    return factor, array("L", [(fnv1a(units, low) - low * factor) & _MASK for low in range(256)])


# -- ranges ----------------------------------------------------------------------------------------------------------


def in_range(n: float, bounds: Range) -> bool:
    """Whether ``n`` is in a range: its start belongs to it, its end does not."""
    return bounds[0] <= n < bounds[1]


def in_namespace(value: str, namespace: tuple[str, float, float]) -> bool:
    """Whether a unit has its place within this part of a namespace."""
    n = digest("__" + namespace[0], value, 1)
    return n is not None and in_range(n, namespace[1:])


def choose_variation(n: float, ranges: Sequence[Range]) -> int:
    """The first range that ``n`` is in; -1 when it is in none."""
    return next((index for index, bounds in enumerate(ranges) if in_range(n, bounds)), -1)


def equal_weights(count: int) -> list[float]:
    return [1 / count] * count if count > 0 else []


def bucket_ranges(count: int, coverage: float | None = None, weights: Any = None) -> list[Range]:
    """The ranges of ``count`` variations. Weights that are no weights, or do not come to about 1, are equal ones."""
    covered = 1.0 if coverage is None else min(max(coverage, 0), 1)
    used = weights if _are_weights(weights, count) else equal_weights(count)
    ranges, cumulative = [], 0.0
    for weight in used:
        ranges.append((cumulative, cumulative + covered * weight))
        cumulative += weight
    return ranges


def _are_weights(weights: Any, count: int) -> bool:
    if not isinstance(weights, list) or len(weights) != count:
        return False
    numbers = all(
        isinstance(each, (int, float)) and not isinstance(each, bool) and 0 <= each <= 1.01 for each in weights
    )
    return numbers and 0.99 <= sum(weights) <= 1.01


@lru_cache(maxsize=4096)
def first_at(bound: float, buckets: int) -> int:
    """The first bucket that is not below ``bound`` as a share of ``buckets``."""
    return bisect_left(range(buckets), bound, key=lambda bucket: bucket / buckets)


@lru_cache(maxsize=4096)
def first_above(bound: float, buckets: int) -> int:
    """The first bucket that is above ``bound`` as a share of ``buckets``."""
    return bisect_right(range(buckets), bound, key=lambda bucket: bucket / buckets)


@lru_cache(maxsize=1024)
def pieces(ranges: tuple[Range, ...], buckets: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Ranges as pieces of all buckets: where a new one begins, and which range each is of, the first counted; -1: none.

    ``owners[bisect_right(begins, bucket)]`` is then the range of a bucket.
    """
    parts = [(first_at(start, buckets), first_at(end, buckets)) for start, end in ranges]
    begins: list[int] = []
    owners = [_owner(0, parts)]
    for begin in sorted({edge for part in parts for edge in part if 0 < edge < buckets}):
        owner = _owner(begin, parts)
        if owner != owners[-1]:
            begins.append(begin)
            owners.append(owner)
    return tuple(begins), tuple(owners)


def _owner(bucket: int, parts: list[tuple[int, int]]) -> int:
    return next((index for index, (start, end) in enumerate(parts) if start <= bucket < end), -1)
