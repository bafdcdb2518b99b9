"""``Marks``: which guarded calls are under way, written where it outlives the process: what kills it left its mark.

A fixed piece of memory, a mapped file: first the places that calls are made from, as JSON, each once; then slots, one a
call under way. Setting and clearing a mark are a few stores, from any thread, with no lock. It opens no file.
"""

from __future__ import annotations

import json
import threading
from collections import deque
from typing import Any, Final, NamedTuple

_SLOT: Final = 64
_SLOTS: Final = 512
_PLACES: Final = 32 * 1024
#: Bytes that ``Marks`` takes.
SIZE: Final = _PLACES + _SLOT * _SLOTS
#: In use, code, length of the key; then the key, cut.
_HEAD: Final = 4
_MAX_KEY: Final = _SLOT - _HEAD
_IN_USE: Final = b"\x01"
#: What ``set`` returns when there is no slot left: such a call leaves no mark.
NO_SLOT: Final = -1


class Mark(NamedTuple):
    """A call that was under way: where it was made from, as ``Marks.place`` was told, and the unit's key, cut."""

    place: Any
    key: bytes


class Marks:
    """Marks in ``view``, ``SIZE`` bytes that are zero."""

    __slots__ = ("_codes", "_free", "_full", "_used", "_view", "_writing")

    def __init__(self, view: memoryview) -> None:
        self._view = view
        self._used = 0
        self._full = False
        self._writing = threading.Lock()
        self._codes: dict[str, bytes] = {}
        self._free = deque(range(_PLACES, SIZE, _SLOT))

    def place(self, place: Any) -> bytes | None:
        """What to ``set`` for calls made from ``place``, a JSON value; None when there is no room for it, or somebody
        else is just writing one. Any thread. Raises: nothing.
        """
        if self._full or not self._writing.acquire(blocking=False):
            return None
        try:
            text = json.dumps(place, separators=(",", ":"))
            code = self._codes.get(text)
            if code is None:
                line = text.encode() + b"\n"
                end = self._used + len(line)
                if end >= _PLACES:
                    self._full = True
                    return None
                self._view[self._used : end] = line
                self._used = end
                code = self._codes[text] = _IN_USE + len(self._codes).to_bytes(2, "big")
            return code
        finally:
            self._writing.release()

    def set(self, code: bytes, key: bytes | None) -> int:
        """A call begins; return its slot for ``clear``, or ``NO_SLOT``. Any thread. Raises: nothing."""
        try:
            at = self._free.pop()
        except IndexError:
            return NO_SLOT
        cut = b"" if key is None else key[:_MAX_KEY]
        mark = b"%b%c%b" % (code, len(cut), cut)
        self._view[at : at + len(mark)] = mark
        return at

    def clear(self, at: int) -> None:
        """It has ended. Any thread. Raises: nothing."""
        if at != NO_SLOT:
            self._view[at] = 0
            self._free.append(at)

    @property
    def under_way(self) -> int:
        """Slots in use."""
        return _SLOTS - len(self._free)


def read(data: bytes) -> list[Mark]:
    """The calls that were under way when ``data`` was last written. Raises: nothing; what is no mark is left out."""
    places: list[Any] = []
    for line in data[:_PLACES].rstrip(b"\0").splitlines():
        try:
            places.append(json.loads(line))
        except (ValueError, RecursionError):
            break
    found = []
    for at in range(_PLACES, len(data) - _SLOT + 1, _SLOT):
        number = int.from_bytes(data[at + 1 : at + 3], "big")
        if data[at] == 1 and number < len(places):
            start = at + _HEAD
            found.append(Mark(places[number], data[start : start + min(data[at + 3], _MAX_KEY)]))
    return found
