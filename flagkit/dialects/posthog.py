"""PostHog's definitions for local evaluation: bytes of ``/flags/definitions`` to ``Definitions``.

A bad flag costs that flag one update: its previous good version stays. A bad document, an answer that says the quota
is used up among them, costs nothing. A readable ``"active": false`` is obeyed whatever else its flag gets wrong. What
maps to what, and what cannot be decided in a process: docs/backends/posthog.md. Called by the client and the command
line.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from flagkit.boundary import contained
from flagkit.context import Context, as_context
from flagkit.core.elsewhere import Elsewhere
from flagkit.core.model import Definitions, FlagDefinition
from flagkit.dialects import Parsed
from flagkit.dialects.document import Document, Entry
from flagkit.dialects.fields import At, Faults, path_text
from flagkit.dialects.posthog_cohorts import Cohorts, read_cohort
from flagkit.dialects.posthog_definitions import Dependencies, Made, defined, unusable
from flagkit.dialects.posthog_elsewhere import asked_elsewhere
from flagkit.dialects.posthog_filters import DEVICE, GROUP_PROPERTIES, GROUPS, Surroundings
from flagkit.dialects.posthog_flags import is_key, read_flag
from flagkit.dialects.posthog_model import Entries, Flag
from flagkit.errors import DefinitionsError, Problem

_GUARDED_FROM: Final = 10  # flags, from which on most of them vanishing at once is taken for an accident
_FLAGS, _COHORTS, _AROUND = "flags", "cohorts", "around"
_QUOTA: Final = "feature_flags"


class KeptCohort(NamedTuple):
    key: str
    text: str
    cohort: Entries


class Kept(NamedTuple):
    """A flag as it was read, and what it became with ``used``: with anything else, the same text is another flag."""

    flag: Flag
    notes: tuple[Problem, ...]
    used: tuple[Any, ...]
    definition: FlagDefinition


def parse(data: bytes, previous: Definitions | None = None, elsewhere: Elsewhere | None = None) -> Parsed:
    """A document as a model.

    Args: data, UTF-8 JSON; previous, the definitions in use, whose unchanged flags are reused and whose good versions
        of flags that are bad in ``data`` stay; elsewhere, who may be asked about flags that are undecided here, the
        same for all documents of a client.
    Raises: DefinitionsError when the document as a whole is refused; nothing else.
    """
    try:
        return Reading(previous or Definitions({}), elsewhere).read(data)
    except RecursionError:  # below the limit of the JSON scanner, above that of reading or quoting what it found
        raise DefinitionsError((Problem("$", "nested too deeply"),)) from None


def context(raw: object) -> Context:
    """PostHog's way of asking, as a ``Context``. Raises: nothing.

    Args: raw, a mapping with ``distinct_id`` and, as its SDKs call them, ``person_properties``, ``groups`` (type ->
        key), ``group_properties`` (type -> properties) and ``device_id``; or what ``as_context`` takes, whose
        attributes are the person's properties, with ``$groups``, ``$group_properties`` and ``$device_id`` for the rest.
    """
    return contained(_context, raw, otherwise=Context(None))


def _context(raw: object) -> Context:
    if not isinstance(raw, Mapping) or "distinct_id" not in raw:
        return as_context(raw)
    attributes = dict(raw.get("person_properties") or {})
    device = raw.get("device_id", raw.get(DEVICE))
    others = {GROUPS: raw.get("groups"), GROUP_PROPERTIES: raw.get("group_properties"), DEVICE: device}
    attributes.update((name, value) for name, value in others.items() if value is not None)
    return Context(raw["distinct_id"], attributes)


class Reading:
    """One document being read."""

    def __init__(self, previous: Definitions, elsewhere: Elsewhere | None) -> None:
        self.previous = previous
        self.elsewhere = elsewhere
        self.flags: dict[str, FlagDefinition] = {}
        self.refused: dict[str, FlagDefinition | None] = {}  # bad flags -> what is used instead
        self.problems: list[Problem] = []
        self.read_flags: dict[str, tuple[Flag, tuple[Problem, ...], str]] = {}  # key -> flag, notes, text
        self.kept: dict[str, Kept] = {}
        self.count = 0  # of flags met
        self.cohorts: dict[str, Entries] = {}
        self.cohort_texts: dict[str, str] = {}
        self.kept_cohorts: dict[str, KeptCohort] = {}
        self.head: dict[str, Any] = {}
        self.faults = Faults()  # of the document as a whole
        self.off: set[str] = set()  # flags that the document says are off

    def read(self, data: bytes) -> Parsed:
        known, cohorts = self._known(_FLAGS, Kept), self._known(_COHORTS, KeptCohort)
        entries = Document(data, {_FLAGS: known, _COHORTS: cohorts}, lists=frozenset({_FLAGS})).entries()
        for entry in entries:
            if entry.section == _FLAGS:
                self._flag(entry, self.count)
                self.count += 1
            elif entry.section == _COHORTS:
                self._cohort(entry)
            else:
                self._top(entry)
        around = self._surroundings()
        self._define(around, known)
        self._accept()
        self.flags.update((key, flag) for key, flag in self.refused.items() if flag is not None)
        definitions = Definitions(
            flags=self.flags,
            refused=frozenset(key for key in self.refused if key not in self.flags),
            entries={_FLAGS: self.kept, _COHORTS: self.kept_cohorts, _AROUND: {_AROUND: around}},
        )
        return Parsed(definitions, tuple(self.problems))

    def _known(self, section: str, kind: type) -> Mapping[str, Any]:
        """What the previous document's entries became, if that was one of PostHog's."""
        known = self.previous.entries.get(section, {})
        return known if isinstance(next(iter(known.values()), None), kind) else {}

    # -- the document ------------------------------------------------------------------------------------------------

    def _top(self, entry: Entry) -> None:
        if entry.key in self.head:
            self.faults.add((None, entry.key), "the key stands twice")
        self.head[entry.key] = entry.value
        for flaw in entry.flaws:
            self.faults.add((None, entry.key), flaw)

    def _surroundings(self) -> Surroundings:
        """What flags are compiled with. Raises: DefinitionsError."""
        head, faults = self.head, self.faults
        limited = head.get("quotaLimited")
        if isinstance(limited, list) and _QUOTA in limited:
            raise DefinitionsError((Problem("$.quotaLimited", "the quota of feature flag requests is used up"),))
        for section, empty, what in ((_FLAGS, [], "an array"), (_COHORTS, {}, "an object")):
            value = head.get(section)
            if value != empty and (section == _FLAGS or value is not None):
                faults.expected((None, section), value, what)
        groups = head.get("group_type_mapping") or {}
        if not isinstance(groups, dict) or not all(isinstance(name, str) for name in groups.values()):
            faults.expected((None, "group_type_mapping"), groups, "an object of names of group types, by index")
        if faults.found:
            raise DefinitionsError(tuple(faults.problems(None)))
        indices = {int(index): name for index, name in groups.items() if index.isascii() and index.isdigit() and name}
        strict = head.get("property_matching_version") == 2
        before = self._known(_AROUND, Surroundings).get(_AROUND)
        texts = self.cohort_texts
        if before is not None and (before.groups, before.cohorts.texts, before.strict) == (indices, texts, strict):
            return before  # type: ignore[no-any-return] # with all that was made in it
        return Surroundings(indices, Cohorts(self.cohorts, texts), strict)

    def _cohort(self, entry: Entry) -> None:
        """Take it up; or leave it out, with a problem: then it is as unknown here as a static one."""
        kept: KeptCohort | None = entry.known
        faults = Faults()
        if kept is None:
            at: At = ((None, _COHORTS), entry.key)
            for flaw in entry.flaws:
                faults.add(at, flaw)
            kept = KeptCohort(entry.key, entry.text, read_cohort(entry.value, at, faults))
        if kept.key in self.cohort_texts:
            faults.add(((None, _COHORTS), kept.key), "the cohort stands twice")
        self.cohort_texts[kept.key] = kept.text
        if faults.found:
            self.problems += faults.problems(None)
            self.cohorts.pop(kept.key, None)
        else:
            self.cohorts[kept.key] = kept.cohort
            self.kept_cohorts[kept.text] = kept

    # -- flags -------------------------------------------------------------------------------------------------------

    def _flag(self, entry: Entry, index: int) -> None:
        kept: Kept | None = entry.known
        if kept is not None:
            self._take(kept.flag, kept.notes, kept.definition.text)
            return
        at: At = ((None, _FLAGS), index)
        faults, notes = Faults(), Faults()
        for flaw in entry.flaws:
            faults.add(at, flaw)
        flag = read_flag(entry.value, at, faults, notes)
        if not faults.found:
            self._take(flag, tuple(notes.problems(flag.key, refused=False)), entry.text)
            return
        key = entry.value.get("key") if isinstance(entry.value, dict) else None
        if not isinstance(key, str) or not is_key(key):
            self.problems += faults.problems(None)
            self.refused[f"#{index}"] = None
            return
        self._refuse(key, faults.problems(key), entry.value.get("active") is False)

    def _take(self, flag: Flag, notes: tuple[Problem, ...], text: str) -> None:
        if not flag.active:
            self.off.add(flag.key)
        if flag.key in self.read_flags or flag.key in self.refused:
            at: At = ((None, _FLAGS), flag.key)
            self._refuse(flag.key, [Problem(path_text(at), "the flag stands twice", flag.key)], not flag.active)
            return
        self.read_flags[flag.key] = (flag, notes, text)

    def _refuse(self, key: str, problems: list[Problem], off: bool) -> None:
        """Go on without this version of a flag: with its previous one, or, when it says so, switched off."""
        self.problems += problems
        instead = self.previous.flags.get(key)
        if off:
            self.off.add(key)
        if key in self.off:
            bare = FlagDefinition(key, {"true": True, "false": False}, "false", "false", version="?")
            instead = (instead or bare)._replace(enabled=False, text="")
        self.read_flags.pop(key, None)
        self.refused[key] = instead

    def _define(self, around: Surroundings, known: Mapping[str, Any]) -> None:
        """Make flags of what was read, once it is known what they refer to; unchanged ones are the same objects."""
        asked = Dependencies({key: flag for key, (flag, _, _) in self.read_flags.items()}, around.cohorts)
        tangled = asked.entangled()
        minimal = self.head.get("minimal_flag_called_events") is True
        for key, (flag, notes, text) in self.read_flags.items():
            made = Made(flag, around, minimal, asked.of.get(key, ()), key in tangled)
            kept: Kept | None = known.get(text)
            used = made.used
            if kept is None or kept.used != used:
                definition = defined(made, text)._replace(remarks=notes + unusable(made))
                if self.elsewhere is not None:
                    definition = asked_elsewhere(definition, self.elsewhere)
                kept = Kept(flag, notes, used, definition)
            self.flags[key] = kept.definition
            self.kept[text] = kept
            self.problems += kept.definition.remarks

    # -- the whole ---------------------------------------------------------------------------------------------------

    def _accept(self) -> None:
        """Refuse a document that looks like an accident. Raises: DefinitionsError."""
        bad, known = len(self.refused), self.previous.flags
        total = len(self.flags) + bad
        off = frozenset(self.off)
        if bad > 5 and bad > 0.2 * total:
            why = Problem("$.flags", f"{bad} of {total} flags are bad: the document is refused")
            raise DefinitionsError((why, *self.problems), off)
        gone = sum(key not in self.flags and key not in self.refused for key in known)
        if known and (total == 0 or (len(known) >= _GUARDED_FROM and gone > len(known) / 2)):
            message = f"{gone} of {len(known)} flags are gone: refused; if that is meant, start the process anew"
            raise DefinitionsError((Problem("$.flags", message),), off)
