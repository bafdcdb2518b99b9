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
from flagkit.dialects.native_conditions import KEY, KEY_FORM, read_key
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
    return _Reading(previous or Definitions({})).read(data)


class _Reading:
    """One document being read."""

    def __init__(self, previous: Definitions) -> None:
        self.previous = previous
        self.flags: dict[str, FlagDefinition] = {}
        self.segments: dict[str, Segment] = {}
        self.entries: dict[str, FlagDefinition | Segment] = {}
        self.problems: list[Problem] = []
        self.refused: dict[str, FlagDefinition | None] = {}  # bad flags -> what is used instead
        self.head: dict[str, Any] = {}
        self.faults = Faults()  # of the document as a whole

    def read(self, data: bytes) -> Parsed:
        entries = self.previous.entries
        known = {"flags": entries, "segments": entries}
        for entry in Document(data, known).entries():
            if entry.section == "flags":
                self._flag(entry)
            elif entry.section == "segments":
                self._segment(entry)
            elif entry.key in self.head:
                self.faults.add((None, entry.key), "the key stands twice")
            else:
                self.head[entry.key] = entry.value
                for flaw in entry.flaws:
                    self.faults.add((None, entry.key), flaw)
        definitions = self._document()
        self._accept()
        self.problems += references.missing_parents(definitions.flags)
        return Parsed(definitions, tuple(self.problems))

    # -- flags and segments ------------------------------------------------------------------------------------------

    def _flag(self, entry: Entry) -> None:
        flag = entry.known
        if not isinstance(flag, FlagDefinition):
            flag = self._new_flag(entry)
            if flag is None:
                return
        if flag.key in self.flags or flag.key in self.refused:
            self._refuse(flag.key, None, [Problem(f"$.flags.{flag.key}", "the flag stands twice", flag.key)])
            return
        self.flags[flag.key] = self.entries[flag.text] = flag

    def _new_flag(self, entry: Entry) -> FlagDefinition | None:
        faults, at = Faults(), ((None, "flags"), entry.key)
        for flaw in entry.flaws:
            faults.add(at, flaw)
        if not KEY(entry.key):
            faults.add(at, f"not a flag's key; expected {KEY_FORM}")
        flag = read_flag(entry.key, entry.value, at, faults)
        if faults.found:
            self._refuse(entry.key, entry.value, faults.problems(entry.key))
            return None
        if flag.guard is not None:
            self.problems.append(
                Problem(
                    path_text((at, "guard")),
                    "guards are not built yet: the flag is served without one",
                    entry.key,
                    False,
                )
            )
        return flag._replace(text=entry.text)

    def _refuse(self, key: str, raw: object, problems: list[Problem]) -> None:
        """Go on without this version of a flag: with its previous one, or, when it says so, switched off."""
        self.problems += problems
        instead = self.previous.flags.get(key)
        if isinstance(raw, dict) and raw.get("enabled") is False and KEY(key):
            off = instead or FlagDefinition(key, {"off": False}, "off", "off")
            instead = off._replace(enabled=False, text="")
        self.flags.pop(key, None)
        self.refused[key] = instead

    def _segment(self, entry: Entry) -> None:
        segment = entry.known
        if not isinstance(segment, Segment):
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
        self.segments[segment.name] = self.entries[segment.text] = segment

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
        for section in ("flags", "segments"):
            if head.get(section, {}) != {} or (section == "flags" and section not in head):
                faults.expected((None, section), head.get(section), "an object")
        read = {field: reader(head[field], (None, field)) for field, reader in readers.items() if field in head}
        count = read.get("flag_count")
        if count is not None and count != len(self.flags) + len(self.refused):
            faults.add((None, "flag_count"), f"says {count} flags, but there are {len(self.flags) + len(self.refused)}")
        if faults.found:
            raise DefinitionsError(tuple(faults.problems(None)))
        notes = Faults()
        unknown_fields(head, frozenset({"$schema", "schema", "flags", "segments", *readers}), None, notes)
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
        )

    def _resolve(self) -> None:
        """Put in what is used instead of bad flags, then drop whatever its references make unusable."""
        self.flags.update((key, flag) for key, flag in self.refused.items() if flag is not None)
        while broken := references.broken_flags(self.flags, self.segments):
            for key, problem in broken.items():
                flag = self.flags.pop(key)
                self.entries.pop(flag.text, None)
                instead = None if key in self.refused else self.previous.flags.get(key)
                if not flag.enabled:  # a flag that is off needs none of its references
                    instead = flag._replace(prerequisites=(), exclude=(), rules=(), segments=frozenset(), text="")
                if key not in self.refused:
                    self.problems.append(problem)
                self.refused[key] = instead if instead is not flag else None
                if instead is not None and instead is not flag:
                    self.flags[key] = instead

    def _accept(self) -> None:
        """Refuse a document that looks like an accident. Raises: DefinitionsError."""
        bad, known = len(self.refused), self.previous.flags
        total = len(self.flags) + sum(key not in self.flags for key in self.refused)
        if bad > 5 and bad > 0.2 * total:
            why = Problem("$.flags", f"{bad} of {total} flags are bad: the document is refused")
            raise DefinitionsError((why, *self.problems))
        gone = sum(key not in self.flags and key not in self.refused for key in known)
        if self.head.get("replaces") is True or not known:
            return
        if total == 0 or (len(known) >= _GUARDED_FROM and gone > len(known) / 2):
            message = f'{gone} of {len(known)} flags are gone: refused; if that is meant, add "replaces": true'
            raise DefinitionsError((Problem("$.flags", message),))
