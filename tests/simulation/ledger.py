"""Every event that was recorded, by its id: what it said, what became of it, and what excuse there is if it is missing.

Excuses are found out from outside: it was in memory when its process was killed, it was on disk and not synced when the
power failed, the collector refused it by itself. The product's own counts are held against these afterwards.
"""

from __future__ import annotations

import json
from collections import Counter
from typing import Any


class Entry:
    """One event. ``texts``: what was recorded under this id, by whichever processes."""

    __slots__ = ("excuses", "recorded_s", "settled_by", "stored", "texts")

    def __init__(self) -> None:
        self.texts: set[str] = set()
        self.recorded_s = 0.0
        self.stored: str | None = None
        self.settled_by: str | None = None
        self.excuses: set[str] = set()


class Ledger:
    """All events of one schedule."""

    def __init__(self) -> None:
        self.entries: dict[str, Entry] = {}
        self.recorded = 0

    def record(self, text: str, now_s: float) -> str:
        entry_id = event_id(text)
        entry = self.entries.setdefault(entry_id, Entry())
        entry.texts.add(text)
        entry.recorded_s = now_s
        self.recorded += 1
        return entry_id

    def excuse(self, texts: list[str], why: str) -> None:
        for text in texts:
            entry = self.entries.get(event_id(text))
            if entry is not None:
                entry.excuses.add(why)

    def missing(self) -> dict[str, Entry]:
        """Events that the collector does not have."""
        return {entry_id: entry for entry_id, entry in self.entries.items() if entry.stored is None}

    def excused(self) -> Counter[str]:
        return Counter(why for entry in self.missing().values() for why in entry.excuses)


def event_id(text: str) -> str:
    # Both kinds of events begin with it.
    return text[7:39]


def read(text: str) -> dict[str, Any]:
    event: dict[str, Any] = json.loads(text)
    return event
