"""``Encoding``: events become the texts that go to disk; one that cannot costs itself only.

For the spool. Without one delivery encodes what it sends, at the moment it seals a batch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from flagkit.clock import Clock
from flagkit.runtime.buffer import Event
from flagkit.runtime.delivery import UNENCODABLE
from flagkit.runtime.episode import Episode
from flagkit.runtime.records import FRAME

_MOST_BYTES: Final = 256 * 1024


class Encoding:
    """See the module. ``largest``: bytes that one event may take."""

    def __init__(self, encode: Callable[[Any], str], largest: int, clock: Clock) -> None:
        self._encode = encode
        self._largest = largest
        self._spoiling = Episode("events", clock)

    def texts(self, events: Sequence[Event], room: float) -> tuple[list[str], dict[str, int], bool]:
        """The first of these events as texts, not many more than can be written at once.

        Returns: the texts; how many among those events cannot be any, by reason; and whether it stopped because the
        texts would take more than ``room`` bytes on disk.
        """
        texts: list[str] = []
        spoiled: dict[str, int] = {}
        size = 0
        for event in events:
            try:
                text: str = event if event.__class__ is str else self._encode(event)
                if not text.isascii():
                    raise ValueError("an event is ASCII")
            except UNENCODABLE as error:
                self._spoiling.failed("unencodable", type(error).__name__, error)
                spoiled["unencodable"] = spoiled.get("unencodable", 0) + 1
                continue
            if len(text) > self._largest:
                spoiled["too_large"] = spoiled.get("too_large", 0) + 1
                continue
            size += FRAME + len(text)
            if size > room:
                return texts, spoiled, True
            texts.append(text)
            if size > _MOST_BYTES:
                break
        return texts, spoiled, False

    def tell(self) -> None:
        """Log what happened. With no lock held."""
        self._spoiling.tell()
