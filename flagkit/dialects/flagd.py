"""flagd's definitions (flagd.dev): bytes to ``Definitions``, with JsonLogic compiled and ``fractional`` version 2.

A bad flag costs that flag one update: its previous good version stays, and without one it answers PARSE_ERROR. A bad
document costs nothing. A readable ``"state": "DISABLED"`` is obeyed whatever else its flag gets wrong. What maps to
what, and where flagd's own libraries differ: docs/backends/flagd.md. Called by the client and the command line.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from flagkit.boundary import contained
from flagkit.context import MAX_UNIT_BYTES, Context
from flagkit.core.model import Definitions, FlagDefinition
from flagkit.dialects import Parsed
from flagkit.dialects.document import Document, Entry
from flagkit.dialects.fields import At, Faults, path_text
from flagkit.dialects.flagd_evaluators import Evaluators
from flagkit.dialects.flagd_flags import Surroundings, disabled, key_problem, note_unknown, read_flag, version_in
from flagkit.dialects.flagd_fractional import V2, Hashing
from flagkit.dialects.flagd_rules import check_depth
from flagkit.errors import DefinitionsError, Problem

_GUARDED_FROM: Final = 10  # flags, from which on most of them vanishing at once is taken for an accident
_HEAD: Final = frozenset({"$schema", "flags", "$evaluators", "metadata"})
_FLAGS, _EVALUATORS = "flags", "$evaluators"
_TARGETING_KEY: Final = "targetingKey"


class Kept(NamedTuple):
    """A flag, and what it became so with: unless that is the same again, the same text is another flag."""

    flag: FlagDefinition
    used: tuple[Any, ...]
    off: bool


def parse(data: bytes, previous: Definitions | None = None, *, hashing: Hashing = V2) -> Parsed:
    """A document as a model.

    Args: data, UTF-8 JSON; previous, the definitions in use, whose unchanged flags are reused and whose good versions
        of flags that are bad in ``data`` stay; hashing, of ``fractional``.
    Raises: DefinitionsError when the document as a whole is refused; nothing else.
    """
    try:
        return Reading(previous or Definitions({}), hashing).read(data)
    except RecursionError:  # below the limit of the JSON scanner, above that of reading or quoting what it found
        raise DefinitionsError((Problem("$", "nested too deeply"),)) from None


def context(raw: object) -> Context:
    """flagd's evaluation context, a mapping with ``targetingKey``, as a ``Context``. Raises: nothing.

    The targeting key is the unit if it can be one: a string of 1 to 1,024 bytes of UTF-8. Any other stays an attribute,
    and rules see it as it is.
    """
    return contained(_context, raw, otherwise=Context(None))


def _context(raw: object) -> Context:
    if isinstance(raw, Context):
        return raw
    if not isinstance(raw, Mapping):
        return Context(raw)
    key = raw.get(_TARGETING_KEY)
    attributes = dict(raw)
    if isinstance(key, str) and 0 < len(key) <= MAX_UNIT_BYTES and Context(key).unit_text is not None:
        return Context(key, attributes)
    return Context(attributes=attributes)


class Reading:
    """One document being read."""

    def __init__(self, previous: Definitions, hashing: Hashing) -> None:
        self.previous = previous
        self.hashing = hashing
        self.flags: dict[str, FlagDefinition] = {}
        self.refused: dict[str, FlagDefinition | None] = {}  # bad flags -> what is used instead
        self.problems: list[Problem] = []
        self.kept: dict[str, Kept] = {}
        self.head: dict[str, Any] = {}
        self.texts: dict[str, str] = {}  # of the evaluators
        self.off: set[str] = set()  # flags that the document says are off

    def read(self, data: bytes) -> Parsed:
        known: Mapping[str, Any] = self.previous.entries.get(_FLAGS, {})
        if not isinstance(next(iter(known.values()), None), Kept):  # none, or those of another dialect
            known = {}
        flags: list[Entry] = []
        rules: dict[str, Any] = {}
        faults = Faults()
        for entry in Document(data, {_FLAGS: known, _EVALUATORS: {}}).entries():
            if entry.section == _FLAGS:
                flags.append(entry)
            elif entry.section == _EVALUATORS:
                self._evaluator(entry, rules)
            elif entry.key in self.head:
                faults.add((None, entry.key), "the key stands twice")
            else:
                self.head[entry.key] = entry.value
                for flaw in entry.flaws:
                    faults.add((None, entry.key), flaw)
        metadata = self._head(faults)
        around = Surroundings(Evaluators(rules, self.texts), self.hashing, version_in(metadata))
        for entry in flags:
            self._flag(entry, around)
        self._accept(metadata)
        notes = Faults()
        note_unknown(self.head, _HEAD, None, notes)
        self.problems += notes.problems(None, refused=False)
        return Parsed(self._definitions(around.version), tuple(self.problems))

    def _head(self, faults: Faults) -> Mapping[str, Any]:
        """The metadata of the set. Raises: DefinitionsError."""
        head = self.head
        for section in (_FLAGS, _EVALUATORS):
            if head.get(section, {}) != {} or (section == _FLAGS and section not in head):
                faults.expected((None, section), head.get(section), "an object")
        metadata = head.get("metadata", {})
        if not isinstance(metadata, dict):
            faults.expected((None, "metadata"), metadata, "an object")
        if faults.found:
            raise DefinitionsError(tuple(faults.problems(None)))
        return metadata  # type: ignore[no-any-return]

    def _definitions(self, version: str | None) -> Definitions:
        self.flags.update((key, flag) for key, flag in self.refused.items() if flag is not None)
        return Definitions(
            flags=self.flags,
            refused=frozenset(key for key in self.refused if key not in self.flags),
            version=version,
            entries={_FLAGS: self.kept},
        )

    # -- evaluators and flags ----------------------------------------------------------------------------------------

    def _evaluator(self, entry: Entry, rules: dict[str, Any]) -> None:
        """Take it up; or leave it out, with a problem for it and one for each flag that refers to it."""
        name, at = entry.key, ((None, _EVALUATORS), entry.key)
        faults = Faults()
        for flaw in entry.flaws:
            faults.add(at, flaw)
        if name in self.texts:
            faults.add(at, "the evaluator stands twice")
        check_depth(entry.value, at, faults)
        self.texts[name] = entry.text
        if faults.found:
            self.problems += faults.problems(None)
            rules.pop(name, None)
        else:
            rules[name] = entry.value

    def _flag(self, entry: Entry, around: Surroundings) -> None:
        kept: Kept | None = entry.known
        if kept is not None:
            names = (name for name, _ in kept.used[2:])
            if kept.used == _made_with(around, tuple((name, around.evaluators.marked(name)) for name in names)):
                self._take(kept)
                return
            ((key, value),) = json.loads("{" + kept.flag.text + "}").items()
            entry = Entry(_FLAGS, key, value, kept.flag.text)
        faults, at = Faults(), ((None, _FLAGS), entry.key)
        for flaw in entry.flaws:
            faults.add(at, flaw)
        wrong_key = key_problem(entry.key, at)
        flag = read_flag(entry.key, entry.value, entry.text, at, faults, around)
        off = isinstance(entry.value, dict) and entry.value.get("state") == "DISABLED"
        if not faults.found and wrong_key is None:
            used = around.evaluators.used(entry.value.get("targeting"))
            self._take(Kept(flag, _made_with(around, used), off))
            return
        problems = faults.problems(entry.key)
        self._refuse(entry.key, problems if wrong_key is None else [wrong_key, *problems], off and wrong_key is None)

    def _take(self, kept: Kept) -> None:
        flag = kept.flag
        if kept.off:
            self.off.add(flag.key)
        if flag.key in self.flags or flag.key in self.refused:
            at: At = ((None, _FLAGS), flag.key)
            self._refuse(flag.key, [Problem(path_text(at), "the flag stands twice", flag.key)], kept.off)
            return
        self.flags[flag.key] = flag
        self.kept[flag.text] = kept
        self.problems += flag.remarks

    def _refuse(self, key: str, problems: list[Problem], off: bool) -> None:
        """Go on without this version of a flag: with its previous one, or, when it says ``off``, switched off."""
        self.problems += problems
        instead = self.previous.flags.get(key)
        if off:
            self.off.add(key)
        if key in self.off:
            instead = disabled(key, instead, self.hashing)
        self.flags.pop(key, None)
        self.refused[key] = instead

    # -- the whole ---------------------------------------------------------------------------------------------------

    def _accept(self, metadata: Mapping[str, Any]) -> None:
        """Refuse a document that looks like an accident. Raises: DefinitionsError."""
        bad, known = len(self.refused), self.previous.flags
        total = len(self.flags) + bad
        off = frozenset(self.off)
        if bad > 5 and bad > 0.2 * total:
            why = Problem("$.flags", f"{bad} of {total} flags are bad: the document is refused")
            raise DefinitionsError((why, *self.problems), off)
        gone = sum(key not in self.flags and key not in self.refused for key in known)
        if metadata.get("replaces") is True or not known:
            return
        if total == 0 or (len(known) >= _GUARDED_FROM and gone > len(known) / 2):
            message = (
                f'{gone} of {len(known)} flags are gone: refused; if that is meant, add "replaces": true to metadata'
            )
            raise DefinitionsError((Problem("$.flags", message),), off)


def _made_with(around: Surroundings, evaluators: tuple[tuple[str, str | None], ...]) -> tuple[Any, ...]:
    """All that a flag is made of beside its text."""
    return (around.hashing.version, around.version, *evaluators)
