"""Where a unit falls: murmur3 to one of 100,000 buckets. The only place that hashes for the native format.

    hash   = murmur3_x86_32(utf8(salt + ":" + unit), seed), unsigned
    seed   = 0 for rollouts, layers and holdouts, 1 for splits
    bucket = (hash * 100000) >> 32
    in     = bucket < threshold, the threshold being the percentage times 1,000

Compiled flags compare the hash with ``hash_limit(threshold)``: the same test without the multiplication.
Only bytes are hashed: ``mmh3`` aborts the interpreter on a str with a lone surrogate. Golden vectors:
tests/spec/bucketing.json. Source: MurmurHash3 by A. Appleby (public domain).
"""

from __future__ import annotations

from typing import Final

from mmh3 import mmh3_32_uintdigest

BUCKETS: Final = 100_000
ROLLOUT_SEED: Final = 0
SPLIT_SEED: Final = 1

#: ``digest(data: bytes, seed: int = 0) -> int``: unsigned 32-bit murmur3.
digest = mmh3_32_uintdigest


def prefix(salt: str) -> bytes:
    """The bytes hashed before the unit's key."""
    return salt.encode() + b":"


def bucket(salt: str, key: bytes, seed: int = ROLLOUT_SEED) -> int:
    """The bucket, 0 to 99,999, of a unit's ``key`` (its UTF-8) under ``salt``. Raises: nothing."""
    return (digest(prefix(salt) + key, seed) * BUCKETS) >> 32


def threshold(percent: float) -> int:
    """How many buckets ``percent`` is: 0 to 100,000.

    Args: percent, 0 to 100 with at most three decimals. Raises: ValueError otherwise.
    """
    if isinstance(percent, bool) or not isinstance(percent, (int, float)) or not 0 <= percent <= 100:
        raise ValueError("a percentage from 0 to 100")
    thousandths = round(percent * 1000)
    if thousandths / 1000 != percent:  # division rounds correctly, so this holds exactly for three decimals
        raise ValueError("a percentage with at most three decimals")
    return thousandths


def hash_limit(buckets: int) -> int:
    """The bound such that ``hash < bound`` exactly when ``bucket < buckets``; ``buckets`` from 0 to 100,000."""
    return -(-(buckets << 32) // BUCKETS)


def split_limits(weights: list[int]) -> list[int]:
    """Hash bounds of a split laid out in list order: entry i is served for the first i with ``hash < limits[i]``.

    In buckets: the first i with ``bucket * total < (weights[0] + ... + weights[i]) * 100000``.
    """
    total, reached, limits = sum(weights), 0, []
    for weight in weights:
        reached += weight
        limits.append(hash_limit(-(-reached * BUCKETS // total)))
    return limits
