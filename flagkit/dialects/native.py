"""flagkit's own definitions format: bytes to ``Definitions``, and one clear problem for each mistake.

A bad flag costs that flag one update: its previous good version stays. A bad document costs nothing: it is refused
whole. Turning a flag off is never refused: a readable ``"enabled": false`` is obeyed whatever else its flag gets wrong.
Format: docs/definitions.md and schema/definitions.schema.json. Called by the client, the service and the command line.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from flagkit.core import references
from flagkit.core.model import Definitions, FlagDefinition, Segment
from flagkit.dialects import Parsed
from flagkit.dialects.document import Document, Entry
from flagkit.dialects.fields import At, Faults, path_text, read_bool, read_text, read_whole, unknown_fields
from flagkit.dialects.native_conditions import KEY, KEY_FORM, read_key, read_units
from flagkit.dialects.native_flags import read_flag
from flagkit.dialects.native_sections import read_holdouts, read_layers, read_segment
from flagkit.errors import DefinitionsError, Problem

_GUARDED_FROM: Final = 10  # flags, from which on most of them vanishing at once is taken for an accident


def parse(data: bytes, previous: Definitions | None = None) -> Parsed:
    """A definitions document as a model.

    Args: data, UTF-8 JSON; previous, the definitions in use, whose unchanged flags are reused and whose good versions
        of flags that are bad in ``data`` stay.
    Raises: DefinitionsError when the document as a whole is refused; nothing else.
    """
    try:
        return Reading(previous or Definitions({})).read(data)
    except RecursionError:  # below the limit of the JSON scanner, above that of reading or quoting what it found
        raise DefinitionsError((Problem("$", "nested too deeply"),)) from None


class Reading:
    """One document being read."""

    def __init__(self, previous: Definitions) -> None:
        self.previous = previous
        self.flags: dict[str, FlagDefinition] = {}
        self.segments: dict[str, Segment] = {}
        self.enrolled: dict[str, Segment] = {}
        self.entries: dict[str, dict[str, Any]] = {"flags": {}, "segments": {}, "enrolments": {}}
        self.problems: list[Problem] = []
        self.refused: dict[str, FlagDefinition | None] = {}  # bad flags -> what is used instead
        self.head: dict[str, Any] = {}
        self.faults = Faults()  # of the document as a whole

    def read(self, data: bytes) -> Parsed:
        known = {section: self.previous.entries.get(section, {}) for section in self.entries}
        for entry in Document(data, known).entries():
            if entry.section == "flags":
                self._flag(entry)
            elif entry.section == "segments":
                self._segment(entry)
            elif entry.section == "enrolments":
                self._enrolment(entry)
            elif entry.key in self.head:
                self.faults.add((None, entry.key), "the key stands twice")
            else:
                self.head[entry.key] = entry.value
                for flaw in entry.flaws:
                    self.faults.add((None, entry.key), flaw)
        definitions = self._document()
        self._accept()
        self.problems += references.dangling(definitions)
        return Parsed(definitions, tuple(self.problems))

    # -- flags and segments ------------------------------------------------------------------------------------------

    def _flag(self, entry: Entry) -> None:
        flag: FlagDefinition | None = entry.known or self._new_flag(entry)
        if flag is None:
            return
        if flag.key in self.flags or flag.key in self.refused:
            both = (flag, self.flags.get(flag.key) or self.refused.get(flag.key))
            off = any(each is not None and not each.enabled for each in both)
            self._refuse(
                flag.key, [Problem(path_text(((None, "flags"), flag.key)), "the flag stands twice", flag.key)], off
            )
            return
        self.flags[flag.key] = self.entries["flags"][flag.text] = flag
        self.problems += flag.remarks

    def _new_flag(self, entry: Entry) -> FlagDefinition | None:
        faults, at = Faults(), ((None, "flags"), entry.key)
        for flaw in entry.flaws:
            faults.add(at, flaw)
        if not KEY(entry.key):
            faults.add(at, f"not a flag's key; expected {KEY_FORM}")
        flag = read_flag(entry.key, entry.value, entry.text, at, faults)
        if not faults.found:
            return flag
        off = isinstance(entry.value, dict) and entry.value.get("enabled") is False
        self._refuse(entry.key, faults.problems(entry.key), off)
        return None

    def _refuse(self, key: str, problems: list[Problem], off: bool) -> None:
        """Go on without this version of a flag: with its previous one, or, when it says ``off``, switched off."""
        self.problems += problems
        instead = self.previous.flags.get(key)
        if off and KEY(key):
            instead = (instead or FlagDefinition(key, {"off": False}, "off", "off"))._replace(enabled=False, text="")
        self.flags.pop(key, None)
        self.refused[key] = instead

    def _segment(self, entry: Entry) -> None:
        segment: Segment | None = entry.known
        if segment is None:
            faults, at = Faults(), ((None, "segments"), entry.key)
            for flaw in entry.flaws:
                faults.add(at, flaw)
            read_key(entry.key, at, faults)
            if entry.key in self.segments:
                faults.add(at, "the segment stands twice")
            segment = read_segment(entry.key, entry.value, at, faults)._replace(text=entry.text)
            if faults.found:
                self.problems += faults.problems(None)
                if entry.key in self.previous.segments:
                    self.segments[entry.key] = self.previous.segments[entry.key]
                return
        self.segments[segment.name] = self.entries["segments"][segment.text] = segment

    def _enrolment(self, entry: Entry) -> None:
        """Who has opted in to one flag. What cannot be read costs this list one update."""
        enrolled: Segment | None = entry.known
        if enrolled is None:
            faults, at = Faults(), ((None, "enrolments"), entry.key)
            for flaw in entry.flaws:
                faults.add(at, flaw)
            read_key(entry.key, at, faults)
            if entry.key in self.enrolled:
                faults.add(at, "the flag stands twice")
            enrolled = Segment(entry.key, frozenset(read_units(entry.value, at, faults)), text=entry.text)
            if faults.found:
                self.problems += faults.problems(None)
                if entry.key in self.previous.enrolled:
                    self.enrolled[entry.key] = self.previous.enrolled[entry.key]
                return
        self.enrolled[enrolled.name] = self.entries["enrolments"][enrolled.text] = enrolled

    # -- the whole ---------------------------------------------------------------------------------------------------

    def _document(self) -> Definitions:
        head, faults = self.head, self.faults
        readers: dict[str, Callable[[Any, At], Any]] = {
            "version": lambda value, at: read_text(value, at, faults),
            "environment": lambda value, at: read_text(value, at, faults),
            "epoch": lambda value, at: read_text(value, at, faults),
            "number": lambda value, at: read_whole(value, at, faults, 0, 1 << 53),
            "flag_count": lambda value, at: read_whole(value, at, faults, 0, 1 << 31),
            "replaces": lambda value, at: read_bool(value, at, faults),
            "layers": lambda value, at: read_layers(value, at, faults),
            "holdouts": lambda value, at: read_holdouts(value, at, faults),
        }
        if head.get("schema") != 1 or isinstance(head.get("schema"), bool):
            faults.expected((None, "schema"), head.get("schema"), "1, the version of this format")
        for section in ("flags", "segments", "enrolments"):
            if head.get(section, {}) != {} or (section == "flags" and section not in head):
                faults.expected((None, section), head.get(section), "an object")
        read = {field: reader(head[field], (None, field)) for field, reader in readers.items() if field in head}
        count = read.get("flag_count")
        if count is not None and count != len(self.flags) + len(self.refused):
            faults.add((None, "flag_count"), f"says {count} flags, but there are {len(self.flags) + len(self.refused)}")
        if faults.found:
            raise DefinitionsError(tuple(faults.problems(None)))
        notes = Faults()
        unknown_fields(head, frozenset({"$schema", "schema", *self.entries, *readers}), None, notes)
        self.problems += notes.problems(None, refused=False)
        self._resolve()
        return Definitions(
            flags=self.flags,
            segments=self.segments,
            layers=read.get("layers", ()),
            holdouts=read.get("holdouts", ()),
            refused=frozenset(key for key in self.refused if key not in self.flags),
            version=read.get("version"),
            environment=read.get("environment"),
            epoch=read.get("epoch"),
            number=read.get("number"),
            entries=self.entries,
            enrolled=self.enrolled,
        )

    def _resolve(self) -> None:
        """Put in what is used instead of bad flags, then deal with those whose references make them unusable."""
        self.flags.update((key, flag) for key, flag in self.refused.items() if flag is not None)
        self._keep_segments()
        told: set[str] = set()
        while broken := references.broken_flags(self.flags, self.segments):
            # Changed flags go back to their previous version first: that may be all it takes to mend the others.
            changed = [key for key in broken if self.flags[key] is not self.previous.flags.get(key)]
            for key in broken:
                if key not in told and key not in self.refused:
                    self.problems += broken[key]
            told |= broken.keys()
            for key in changed or list(broken):
                flag = self.flags.pop(key)
                self.entries["flags"].pop(flag.text, None)
                self.refused[key] = self._instead(flag)
                if (instead := self.refused[key]) is not None:
                    self.flags[key] = instead

    def _instead(self, flag: FlagDefinition) -> FlagDefinition | None:
        """What is used instead of a flag that refers to what is not there."""
        if not flag.enabled:  # off needs none of it
            return flag._replace(prerequisites=(), exclude=(), rules=(), segments=frozenset(), text="")
        previous = self.previous.flags.get(flag.key)
        return previous if previous is not flag else None

    def _keep_segments(self) -> None:
        """A flag outlives a segment that vanishes under it: the segment's last version stays, and a problem says so."""
        waiting = [
            (key, name) for key, flag in self.flags.items() for name in flag.segments if name not in self.segments
        ]
        while waiting:
            key, name = waiting.pop()
            kept = self.previous.segments.get(name)
            if kept is None or name in self.segments:
                continue
            self.segments[name] = kept
            message = f'uses the segment "{name}", which is not defined any more: its last version stays in use'
            self.problems.append(Problem(f"$.flags.{key}", message, key, refused=False))
            waiting += [(key, inner) for inner in kept.segments if inner not in self.segments]

    def _accept(self) -> None:
        """Refuse a document that looks like an accident. Raises: DefinitionsError."""
        bad, known = len(self.refused), self.previous.flags
        total = len(self.flags) + sum(key not in self.flags for key in self.refused)
        if bad > 5 and bad > 0.2 * total:
            why = Problem("$.flags", f"{bad} of {total} flags are bad: the document is refused")
            raise DefinitionsError((why, *self.problems), self._off())
        gone = sum(key not in self.flags and key not in self.refused for key in known)
        if self.head.get("replaces") is True or not known:
            return
        if total == 0 or (len(known) >= _GUARDED_FROM and gone > len(known) / 2):
            message = f'{gone} of {len(known)} flags are gone: refused; if that is meant, add "replaces": true'
            raise DefinitionsError((Problem("$.flags", message),), self._off())

    def _off(self) -> frozenset[str]:
        return frozenset(key for key, flag in self.flags.items() if not flag.enabled)
