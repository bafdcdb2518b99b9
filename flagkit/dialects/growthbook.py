"""GrowthBook's features (the answer of ``/api/features``): bytes to ``Definitions``.

A bad feature costs that feature one update: its previous good version stays, and without one it answers PARSE_ERROR. A
bad document costs nothing. A feature that is turned off in GrowthBook is not in the document, so that one without
features is taken for what it says. What maps to what, and where GrowthBook's own libraries differ:
docs/backends/growthbook.md. Called by the client and the command line.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from flagkit.boundary import contained
from flagkit.context import Context, unit_key
from flagkit.core.model import Definitions, FlagDefinition, Prerequisite
from flagkit.dialects import Parsed
from flagkit.dialects.document import Document, Entry
from flagkit.dialects.fields import Faults, path_text
from flagkit.dialects.growthbook_compile import FORCED, logic_of
from flagkit.dialects.growthbook_groups import Group
from flagkit.dialects.growthbook_rules import Feature, read_feature
from flagkit.dialects.growthbook_visit import endless
from flagkit.errors import DefinitionsError, Problem

_FEATURES, _GROUPS = "features", "savedGroups"
_ENCRYPTED: Final = ("encryptedFeatures", "encryptedSavedGroups")
_MAX_KEY: Final = 256


class Kept(NamedTuple):
    """A feature, and what it became so with: unless that is the same again, the same text is another flag."""

    feature: Feature
    flag: FlagDefinition
    groups: tuple[Group | None, ...]
    guarded: bool


def parse(data: bytes, previous: Definitions | None = None) -> Parsed:
    """A document as a model.

    Args: data, UTF-8 JSON; previous, the definitions in use, whose unchanged features are reused and whose good
        versions of features that are bad in ``data`` stay.
    Raises: DefinitionsError when the document as a whole is refused; nothing else.
    """
    try:
        return Reading(previous or Definitions({})).read(data)
    except RecursionError:  # below the limit of the JSON scanner, above that of reading or quoting what it found
        raise DefinitionsError((Problem("$", "nested too deeply"),)) from None


def context(raw: object) -> Context:
    """GrowthBook's attributes, or its user context with ``attributes`` and ``forcedVariations``, as a ``Context``.

    The attribute ``id`` is the unit if it can be one; conditions see it as it is in any case. Raises: nothing.
    """
    return contained(_context, raw, otherwise=Context(None))


def _context(raw: object) -> Context:
    if isinstance(raw, Context):
        return raw
    if not isinstance(raw, Mapping):
        return Context(raw)
    inner = raw.get("attributes")
    attributes = dict(inner) if isinstance(inner, Mapping) else dict(raw)
    if isinstance(inner, Mapping) and isinstance(raw.get("forcedVariations"), Mapping):
        attributes[FORCED] = raw["forcedVariations"]
    unit = attributes.get("id")
    return Context(unit, attributes) if unit_key(unit) else Context(attributes=attributes)


class Reading:
    """One document being read."""

    def __init__(self, previous: Definitions) -> None:
        self.previous = previous
        self.known: Mapping[str, Mapping[str, Any]] = _own(previous.entries)
        self.groups: dict[str, Group] = {}
        self.features: dict[str, Feature] = {}
        self.kept: dict[str, Kept] = {}  # by key, of features that may be taken over
        self.texts: dict[str, str] = {}
        self.remarks: dict[str, list[Problem]] = {}
        self.refused: dict[str, FlagDefinition | None] = {}  # bad features -> what is used instead
        self.problems: list[Problem] = []
        self.head: dict[str, Any] = {}

    def read(self, data: bytes) -> Parsed:
        features: list[Entry] = []
        faults = Faults()
        for entry in Document(data, self.known).entries():
            if entry.section == _FEATURES:
                features.append(entry)
            elif entry.section == _GROUPS:
                self._group(entry)
            elif entry.key in self.head:
                faults.add((None, entry.key), "the key stands twice")
            else:
                self.head[entry.key] = entry.value
        self._head(faults)
        for entry in features:
            self._feature(entry)
        self._accept()
        flags, entries = self._flags()
        return Parsed(
            Definitions(
                flags=flags,
                refused=frozenset(key for key in self.refused if key not in flags),
                version=_text(self.head.get("dateUpdated")),
                entries={_FEATURES: entries, _GROUPS: {group.text: group for group in self.groups.values()}},
            ),
            tuple(self.problems),
        )

    def _head(self, faults: Faults) -> None:
        """Raises: DefinitionsError."""
        head = self.head
        if any(isinstance(head.get(field), str) and head[field] for field in _ENCRYPTED):
            faults.add(None, "the document is encrypted: sources.GrowthBook(decryption_key=...) decrypts it")
        elif head.get(_FEATURES, {}) != {} or _FEATURES not in head:
            faults.expected((None, _FEATURES), head.get(_FEATURES), "an object")
        if head.get(_GROUPS) not in (None, {}):
            faults.expected((None, _GROUPS), head[_GROUPS], "an object")
        if faults.found:
            raise DefinitionsError(tuple(faults.problems(None)))

    # -- saved groups and features -----------------------------------------------------------------------------------

    def _group(self, entry: Entry) -> None:
        group: Group | None = entry.known
        if group is None:
            faults, at = Faults(), ((None, _GROUPS), entry.key)
            for flaw in entry.flaws:
                faults.add(at, flaw)
            if entry.key in self.groups:
                faults.add(at, "the group stands twice")
            group = Group(entry.key, entry.text, entry.value, at, faults)
            if faults.found:
                self.problems += faults.problems(None)
                before = [each for each in self.known[_GROUPS].values() if each.id == entry.key]
                if not before:
                    return
                group = before[0]
        self.groups[group.id] = group

    def _feature(self, entry: Entry) -> None:
        kept: Kept | None = entry.known
        if kept is not None:
            if kept.groups == self._used(kept.feature):
                self._take(kept.feature, kept.flag.text, list(kept.flag.remarks), kept)
                return
            ((key, value),) = json.loads("{" + kept.flag.text + "}").items()
            entry = Entry(_FEATURES, key, value, kept.flag.text)
        faults, notes, at = Faults(), Faults(), ((None, _FEATURES), entry.key)
        for flaw in entry.flaws:
            faults.add(at, flaw)
        if not 0 < len(entry.key) <= _MAX_KEY or any("\ud800" <= each <= "\udfff" for each in entry.key):
            faults.add(at, f"not a feature's key; expected 1 to {_MAX_KEY} characters of Unicode")
        feature = read_feature(entry.key, entry.value, at, self.groups, faults, notes)
        if faults.found:
            self._refuse(entry.key, faults.problems(entry.key))
            return
        self._take(feature, entry.text, notes.problems(entry.key, refused=False), None)

    def _take(self, feature: Feature, text: str, remarks: list[Problem], kept: Kept | None) -> None:
        key = feature.key
        if key in self.features or key in self.refused:
            self._refuse(key, [Problem(path_text(((None, _FEATURES), key)), "the feature stands twice", key)])
            return
        self.features[key], self.texts[key], self.remarks[key] = feature, text, remarks
        if kept is not None:
            self.kept[key] = kept

    def _refuse(self, key: str, problems: list[Problem]) -> None:
        """Go on without this version of a feature: with its previous one, if there is one."""
        self.problems += problems
        self.features.pop(key, None)
        self.refused[key] = self.previous.flags.get(key)

    def _used(self, feature: Feature) -> tuple[Group | None, ...]:
        return tuple(self.groups.get(id_) for id_ in sorted(feature.groups))

    # -- the whole ---------------------------------------------------------------------------------------------------

    def _flags(self) -> tuple[dict[str, FlagDefinition], dict[str, Kept]]:
        flags: dict[str, FlagDefinition] = {}
        entries: dict[str, Kept] = {}
        for key, instead in self.refused.items():
            kept = None if instead is None else self.known[_FEATURES].get(instead.text)
            if instead is not None:
                flags[key] = instead
            if kept is not None:
                entries[kept.flag.text] = kept
        asks = {kept.feature.key: kept.feature.parents for kept in entries.values()}
        asks.update((key, feature.parents) for key, feature in self.features.items())
        circles, many = endless(asks)
        for key, feature in self.features.items():
            kept = self._made(feature, guarded=key in circles or key in many)
            flags[key], entries[kept.flag.text] = kept.flag, kept
            self.problems += kept.flag.remarks
        self.problems += [_told(key, "its prerequisites lead into a circle") for key in sorted(circles)]
        self.problems += [_told(key, "more prerequisites than will be asked") for key in sorted(many)]
        return flags, entries

    def _made(self, feature: Feature, *, guarded: bool) -> Kept:
        key = feature.key
        kept = self.kept.get(key)
        if kept is not None and kept.guarded is guarded:
            return kept
        used = self._used(feature)
        text = self.texts[key]
        flag = FlagDefinition(
            key,
            feature.variants,
            feature.off,
            feature.default,
            version=_version(feature, used),
            # Who has to be asked anew when another feature changes; what is asked of it is the logic's business.
            prerequisites=tuple(Prerequisite(parent, ()) for parent in dict.fromkeys(feature.parents)),
            text=text,
            logic=logic_of(feature, guarded=guarded),
            remarks=tuple(self.remarks[key]),
        )
        return Kept(feature, flag, used, guarded)

    def _accept(self) -> None:
        """Refuse a document that looks like an accident. Raises: DefinitionsError."""
        bad, total = len(self.refused), len(self.features) + len(self.refused)
        if bad > 5 and bad > 0.2 * total:
            why = Problem("$.features", f"{bad} of {total} features are bad: the document is refused")
            gone = frozenset(key for key in self.previous.flags if key not in self.features and key not in self.refused)
            raise DefinitionsError((why, *self.problems), gone)


def _told(key: str, message: str) -> Problem:
    return Problem(path_text(((None, _FEATURES), key)), f"{message}: whoever comes to that gets an error", key, False)


def _own(entries: Mapping[str, Mapping[str, Any]]) -> Mapping[str, Mapping[str, Any]]:
    """What a document of this dialect left to the next; nothing where the one before was of another dialect."""
    features, groups = entries.get(_FEATURES, {}), entries.get(_GROUPS, {})
    own = all(isinstance(each, Kept) for each in features.values()) and all(
        isinstance(g, Group) for g in groups.values()
    )
    return {_FEATURES: features if own else {}, _GROUPS: groups if own else {}}


def _version(feature: Feature, used: tuple[Group | None, ...]) -> str:
    """12 hex digits of what decides."""
    from hashlib import blake2b  # loads OpenSSL: not at import

    digest = blake2b(feature.digest, digest_size=6)
    for group in used:
        digest.update(b"\0" if group is None else group.digest)
    return digest.hexdigest()


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and 0 < len(value) <= 128 and value.isprintable() else None
