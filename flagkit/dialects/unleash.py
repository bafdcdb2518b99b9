"""Unleash's features: the body of ``/api/client/features``, or delta events, to ``Definitions``.

A bad feature costs that feature one update: its previous good version stays, and without one it answers PARSE_ERROR. A
bad document costs nothing. A readable ``"enabled": false`` is obeyed whatever else a feature gets wrong. What maps to
what, and where Unleash's own clients differ: docs/backends/unleash.md. Called by the client and the command line.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from flagkit.boundary import contained
from flagkit.context import Context
from flagkit.core.model import Definitions, FlagDefinition
from flagkit.dialects import Followed, Parsed
from flagkit.dialects.document import Document, Entry
from flagkit.dialects.fields import At, Faults, path_text
from flagkit.dialects.unleash_changes import State, Written
from flagkit.dialects.unleash_constraints import read_constraints
from flagkit.dialects.unleash_flags import Surroundings, read_feature, switched_off
from flagkit.dialects.unleash_model import USER, Segment
from flagkit.dialects.unleash_strategies import register_strategy
from flagkit.errors import DefinitionsError, Problem

__all__ = ["context", "follow", "parse", "register_strategy"]

_GUARDED_FROM: Final = 10  # flags, from which on all of them vanishing at once is taken for an accident
_FEATURES, _SEGMENTS, _EVENTS = "features", "segments", "events"
#: Text -> what it became: of features, and of segments.
_KEPT, _READ = "kept", "read"
_STANDARD: Final = frozenset({USER, "sessionId", "remoteAddress", "environment", "appName", "currentTime"})
_NO_FACTS: Final[Mapping[str, str]] = {}


class Kept(NamedTuple):
    """A flag, and what it became so with: unless that is the same again, the same text is another flag."""

    flag: FlagDefinition
    used: tuple[Any, ...]


def parse(data: bytes, previous: Definitions | None = None, facts: Mapping[str, str] = _NO_FACTS) -> Parsed:
    """A document as a model.

    Args: data, UTF-8 JSON: all features, or events that say what changed in ``previous``, the definitions in use, whose
        unchanged flags are reused and whose good versions of flags that are bad in ``data`` stay. facts: ``appName``
        and ``hostname`` of this application, as far as known.
    Raises: DefinitionsError when the document as a whole is refused; nothing else.
    """
    try:
        return _Reading(previous or Definitions({}), facts).read(data)
    except RecursionError:  # below the limit of the JSON scanner, above that of reading or quoting what it found
        raise DefinitionsError((Problem("$", "nested too deeply"),)) from None


def follow(data: bytes, previous: Definitions, facts: Mapping[str, str] = _NO_FACTS) -> Followed:
    """What delta events mean for the definitions in use. Raises: as ``parse``, also when ``data`` are no events."""
    try:
        reading = _Reading(previous, facts)
        parsed = reading.read(data, events_only=True)
    except RecursionError:
        raise DefinitionsError((Problem("$", "nested too deeply"),)) from None
    return Followed(parsed, confirmed=True)


def context(raw: object) -> Context:
    """Unleash's context, a mapping with ``userId``, ``properties`` and others, as a ``Context``. Raises: nothing.

    The user's id is the unit if it can be one: text of 1 to 1,024 bytes of UTF-8, a whole number or a UUID. Any other
    stays an attribute, and constraints see it as they would in Unleash.
    """
    return contained(_context, raw, otherwise=Context(None))


def _context(raw: object) -> Context:
    if isinstance(raw, Context):
        return raw
    if not isinstance(raw, Mapping):
        return Context(raw)
    properties = raw.get("properties")
    attributes = {name: value for name, value in raw.items() if name not in _STANDARD and name != "properties"}
    if isinstance(properties, Mapping):
        attributes.update(properties)
    attributes.update((name, raw[name]) for name in _STANDARD if raw.get(name) is not None)
    user = attributes.get(USER)
    if user is not None:
        made = Context(user, attributes)
        if made.unit_text is not None:
            return made
    return Context(attributes=attributes)


class _Reading:
    """One document being read."""

    def __init__(self, previous: Definitions, facts: Mapping[str, str]) -> None:
        self.previous = previous
        self.facts = facts
        self.known: Mapping[str, Kept] = previous.entries.get(_KEPT, {})
        self.state = State(previous.entries.get(_FEATURES, {}), _numbered(previous.entries.get(_SEGMENTS, {})))
        self.flags: dict[str, FlagDefinition] = {}
        self.refused: dict[str, FlagDefinition | None] = {}  # bad flags -> what is used instead
        self.problems: list[Problem] = []
        self.kept: dict[str, Kept] = {}
        self.read_segments: dict[str, Segment] = {}

    def read(self, data: bytes, *, events_only: bool = False) -> Parsed:
        faults, met = Faults(), {_FEATURES: 0, _SEGMENTS: 0, _EVENTS: 0}
        put = {_FEATURES: self.state.feature, _SEGMENTS: self.state.segment, _EVENTS: self.state.event}
        whole: dict[str, list[Entry]] = {section: [] for section in met}
        for entry in Document(data, {section: {} for section in met}, lists=frozenset(met)).entries():
            if entry.section is not None:
                whole[entry.section].append(entry)
            elif entry.key in met and not (entry.key == _SEGMENTS and entry.value is None):
                met[entry.key] += 1
                if entry.value != []:
                    faults.expected((None, entry.key), entry.value, "an array")
            for flaw in entry.flaws if entry.section is None else ():
                faults.add((None, entry.key), flaw)
        if max(met.values()) > 1:
            faults.add(None, "a section stands twice")
        if bool(met[_FEATURES]) == bool(met[_EVENTS]) or (events_only and not met[_EVENTS]):
            faults.add(None, f"expected {'events' if events_only else 'either features or events'}")
        if faults.found:
            raise DefinitionsError(tuple(faults.problems(None)))
        if met[_FEATURES]:
            self.state.begin(_FEATURES)
            self.state.begin(_SEGMENTS)
        for section, entries in whole.items():
            for index, entry in enumerate(entries):
                put[section](entry, ((None, section), index))
        return self._read()

    def _read(self) -> Parsed:
        state = self.state
        self.problems += state.problems
        segments = {number: self._segment(number, written) for number, written in state.segments.items()}
        parents = {name: bool(written.references.parents) for name, written in state.features.items()}
        around = Surroundings(segments, parents, self.facts.get("appName"), self.facts.get("hostname"))
        for index, (name, written) in enumerate(state.features.items()):
            self._flag(name, written, ((None, _FEATURES), index), around)
        for name in state.twice:
            flag = self.flags.get(name)
            off = flag is not None and not flag.enabled
            self._refuse(name, [Problem(path_text((None, _FEATURES)), "the feature stands twice", name)], off)
        self._accept()
        self.flags.update((name, flag) for name, flag in self.refused.items() if flag is not None)
        definitions = Definitions(
            flags=self.flags,
            refused=frozenset(name for name in self.refused if name not in self.flags),
            entries={
                _KEPT: self.kept,
                _READ: self.read_segments,
                _FEATURES: state.features,
                _SEGMENTS: {str(number): written for number, written in state.segments.items()},
            },
        )
        return Parsed(definitions, tuple(self.problems))

    def _segment(self, number: int, written: Written) -> Segment:
        made = self.previous.entries.get(_READ, {}).get(written.text)
        if not isinstance(made, Segment):
            faults, notes, at = Faults(), Faults(), ((None, _SEGMENTS), number)
            for flaw in written.flaws:
                faults.add(at, flaw)
            constraints = read_constraints(written.value().get("constraints"), (at, "constraints"), faults, notes)
            remarks = (*faults.problems(None), *notes.problems(None, refused=False))
            made = Segment(number, written.text, None if faults.found else constraints, remarks)
        self.problems += made.remarks
        self.read_segments[written.text] = made
        return made

    def _flag(self, name: str, written: Written, at: At, around: Surroundings) -> None:
        used = around.used(written.references)
        kept = self.known.get(written.text)
        if kept is None or kept.used != used:
            faults = Faults()
            for flaw in written.flaws:
                faults.add(at, flaw)
            raw = written.value()
            kept = Kept(read_feature(name, raw, written.text, at, faults, around), used)
            if faults.found:
                self._refuse(name, faults.problems(name), raw.get("enabled") is False)
                return
        self.flags[name] = kept.flag
        self.kept[written.text] = kept
        self.problems += kept.flag.remarks

    def _refuse(self, name: str, problems: list[Problem], off: bool) -> None:
        """Go on without this version of a flag: with its previous one, or, when it says ``off``, switched off."""
        self.problems += problems
        instead = self.previous.flags.get(name)
        self.flags.pop(name, None)
        self.refused[name] = switched_off(name, instead) if off else instead

    def _accept(self) -> None:
        """Refuse a document that looks like an accident. Raises: DefinitionsError."""
        bad, known = len(self.refused), self.previous.flags
        total = len(self.flags) + bad
        off = frozenset(name for name, flag in {**self.flags, **self.refused}.items() if flag and not flag.enabled)
        if bad > 5 and bad > 0.2 * total:
            why = Problem("$.features", f"{bad} of {total} features are bad: the document is refused")
            raise DefinitionsError((why, *self.problems), off)
        gone = sum(name not in self.flags and name not in self.refused for name in known)
        if total == 0 and len(known) >= _GUARDED_FROM:
            message = f"all {gone} features are gone: refused; if that is meant, start the clients anew"
            raise DefinitionsError((Problem("$.features", message),))
        if len(known) >= _GUARDED_FROM and gone > len(known) / 2:
            self.problems.append(Problem("$.features", f"{gone} of {len(known)} are gone", None, refused=False))


def _numbered(segments: Mapping[str, Written]) -> dict[int, Written]:
    return {int(number): written for number, written in segments.items()}
