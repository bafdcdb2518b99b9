"""MurmurHash3 x86 32-bit, and the bucket the native format makes of it, in plain Python.

The second implementation that golden vectors are checked with; the package itself hashes with the mmh3 extension.
Source: Austin Appleby, MurmurHash3.cpp (public domain), the algorithm as described there.
"""

from __future__ import annotations

_MASK = 0xFFFFFFFF


def _rotate_left(number: int, bits: int) -> int:
    return ((number << bits) | (number >> (32 - bits))) & _MASK


def _scramble(block: int) -> int:
    return _rotate_left(block * 0xCC9E2D51 & _MASK, 15) * 0x1B873593 & _MASK


def murmur3_x86_32(data: bytes, seed: int = 0) -> int:
    """The unsigned 32-bit hash of ``data``."""
    state = seed
    whole = len(data) // 4 * 4
    for start in range(0, whole, 4):
        state ^= _scramble(int.from_bytes(data[start : start + 4], "little"))
        state = (_rotate_left(state, 13) * 5 + 0xE6546B64) & _MASK
    tail = data[whole:]
    if tail:
        state ^= _scramble(int.from_bytes(tail, "little"))
    state ^= len(data)
    state = (state ^ (state >> 16)) * 0x85EBCA6B & _MASK
    state = (state ^ (state >> 13)) * 0xC2B2AE35 & _MASK
    return state ^ (state >> 16)


def bucket(salt: str, unit: str, seed: int = 0) -> int:
    """Where ``unit`` falls in 0..99,999: seed 0 for rollouts, layers and holdouts, seed 1 for splits."""
    return (murmur3_x86_32(f"{salt}:{unit}".encode(), seed) * 100_000) >> 32
