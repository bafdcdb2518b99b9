"""The features and segments that a document, or delta events, leave standing, as they are written. Pure.

    hydration          features, segments: all there are
    feature-updated    feature: one, new or in place of the one of its name
    feature-removed    featureName
    segment-updated    segment
    segment-removed    segmentId

Called by ``unleash``, which makes flags of what stands in the end and keeps the texts for the events that come after.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from flagkit.dialects.document import Entry
from flagkit.dialects.fields import At, path_text, said
from flagkit.dialects.unleash_flags import References, is_name, references
from flagkit.errors import Problem

_KINDS: Final = frozenset({"hydration", "feature-updated", "feature-removed", "segment-updated", "segment-removed"})


class Written(NamedTuple):
    """A feature or segment as text, and what a feature refers to. flaws: what is wrong with the JSON inside."""

    text: str
    references: References
    flaws: tuple[str, ...] = ()

    def value(self) -> dict[str, Any]:
        """The text, decoded."""
        decoded: dict[str, Any] = json.loads(self.text)
        return decoded


class State:
    """What stands: ``features`` by name, ``segments`` by number. Begins with what stood before.

    twice: names of features that stand twice in one list. problems: what could not be understood, and was left out.
    """

    def __init__(self, features: Mapping[str, Written], segments: Mapping[int, Written]) -> None:
        self.features = dict(features)
        self.segments = dict(segments)
        self.twice: list[str] = []
        self.problems: list[Problem] = []
        self._seen: set[str] = set()

    def begin(self, section: str) -> None:
        """Forget what stood before in a section that now comes as a whole."""
        if section == "features":
            self.features.clear()
            self._seen.clear()
        else:
            self.segments.clear()

    def feature(self, entry: Entry, at: At, *, alone: bool = False) -> None:
        """Put a feature, written as ``entry``. alone: it takes the place of what there was."""
        raw = entry.value
        name = raw.get("name") if isinstance(raw, dict) else None
        if not is_name(name):
            self._strange((at, "name"), name, "the name of a feature, 1 to 1,024 characters of Unicode")
            return
        if name in self._seen and not alone:
            self.twice.append(name)
        self._seen.add(name)
        self.features[name] = Written(entry.text, references(raw), entry.flaws)

    def segment(self, entry: Entry, at: At) -> None:
        """Put a segment in place of what there was of its number."""
        raw = entry.value
        number = raw.get("id") if isinstance(raw, dict) else None
        if isinstance(number, bool) or not isinstance(number, int):
            self._strange((at, "id"), number, "the number of a segment")
            return
        self.segments[number] = Written(entry.text, References((), ()), entry.flaws)

    def event(self, entry: Entry, at: At) -> None:
        """Apply one event."""
        raw = entry.value
        kind = raw.get("type") if isinstance(raw, dict) else None
        if kind not in _KINDS or entry.flaws:
            self._strange((at, "type"), kind, "an event that can be read, of a kind that Unleash has")
        elif kind == "hydration":
            for section, put in (("features", self.feature), ("segments", self.segment)):
                self.begin(section)
                listed = raw.get(section)
                for index, each in enumerate(listed if isinstance(listed, list) else ()):
                    put(_entry(each), ((at, section), index))
        elif kind == "feature-updated":
            self.feature(_entry(raw.get("feature")), (at, "feature"), alone=True)
        elif kind == "segment-updated":
            self.segment(_entry(raw.get("segment")), (at, "segment"))
        elif kind == "feature-removed":
            self._remove(self.features, raw.get("featureName"))
        else:
            self._remove(self.segments, raw.get("segmentId"))

    def _remove(self, section: dict[Any, Written], key: object) -> None:
        if isinstance(key, (str, int)):
            section.pop(key, None)

    def _strange(self, at: At, value: object, expected: str) -> None:
        self.problems.append(Problem(path_text(at), f"got {said(value)}; expected {expected}"))


def _entry(value: object) -> Entry:
    """What stands inside an event, by itself and as a document would have it."""
    return Entry(None, "", value, json.dumps(value, separators=(",", ":"), ensure_ascii=False))
