"""A bucketing key as canonical CBOR: the bytes that flagd's third way of ``fractional`` hashes.

Only what a JSON value can be. Shortest lengths and floats, map keys by length and then bytes, whole floats as the
integers they are when 64 bits hold them. Source: RFC 8949, sections 3 and 4.2.3 ("length-first" ordering).
"""

from __future__ import annotations

import math
import struct
from typing import Any, Final

from flagkit.dialects.javascript import plain

_MAX_DEPTH: Final = 32
_MAX_BYTES: Final = 1 << 16
_MAX_ITEMS: Final = 10_000
_UNSIGNED, _NEGATIVE, _TEXT, _ARRAY, _MAP = 0x00, 0x20, 0x60, 0x80, 0xA0
_FALSE, _TRUE, _NULL = b"\xf4", b"\xf5", b"\xf6"
_NAN: Final = b"\xf9\x7e\x00"
_SHORT_TEXT: Final = tuple(bytes([_TEXT | length]) for length in range(24))


class Unencodable(ValueError):
    """Not a JSON value, or too large a one."""


def encoded(value: Any) -> bytes | None:
    """``value`` as canonical CBOR; None for null and for what cannot be encoded. Raises: nothing."""
    if value is None:
        return None
    try:
        return _Encoder().encode(value, _MAX_DEPTH)
    except (Unencodable, UnicodeEncodeError):
        return None


def text_of(key: bytes) -> bytes:
    """A text, given as its UTF-8."""
    length = len(key)
    return (_SHORT_TEXT[length] if length < 24 else _head(_TEXT, length)) + key


def pair_prefix(first: bytes) -> bytes:
    """The beginning of an array of two texts: its head and the first of them, given as UTF-8."""
    return bytes([_ARRAY | 2]) + text_of(first)


class _Encoder:
    """``left``: how many values may still come; the same list twice at every level would never end otherwise."""

    __slots__ = ("left",)

    def __init__(self) -> None:
        self.left = _MAX_ITEMS

    def encode(self, value: Any, room: int) -> bytes:
        value = plain(value)
        self.left -= 1
        if room == 0 or self.left < 0:
            raise Unencodable("too large")
        if value is None:
            return _NULL
        if isinstance(value, bool):
            return _TRUE if value else _FALSE
        if isinstance(value, int):
            return _integer(value)
        if isinstance(value, float):
            return _number(value)
        if isinstance(value, str):
            if len(value) > _MAX_BYTES:
                raise Unencodable("too long")
            return text_of(value.encode())
        if isinstance(value, list):
            return _head(_ARRAY, len(value)) + b"".join([self.encode(item, room - 1) for item in value])
        if isinstance(value, dict) and all(issubclass(type(key), str) for key in value):
            members = [(self.encode(key, room - 1), self.encode(item, room - 1)) for key, item in value.items()]
            members.sort(key=lambda member: (len(member[0]), member[0]))
            return _head(_MAP, len(members)) + b"".join([key + item for key, item in members])
        raise Unencodable("not a JSON value")


def _head(major: int, length: int) -> bytes:
    if length < 24:
        return bytes([major | length])
    for code, size in ((24, 1), (25, 2), (26, 4), (27, 8)):
        if length < 1 << (8 * size):
            return bytes([major | code]) + length.to_bytes(size, "big")
    raise Unencodable("an integer of more than 64 bits")


def _integer(value: int) -> bytes:
    return _head(_UNSIGNED, value) if value >= 0 else _head(_NEGATIVE, -1 - value)


def _number(value: float) -> bytes:
    if value.is_integer() and -(2.0**63) <= value < 2.0**64:
        return _integer(int(value))
    if math.isnan(value):
        return _NAN
    for form, head in ((">e", b"\xf9"), (">f", b"\xfa")):
        try:
            packed = struct.pack(form, value)
        except OverflowError:
            continue
        if struct.unpack(form, packed)[0] == value:
            return head + packed
    return b"\xfb" + struct.pack(">d", value)
