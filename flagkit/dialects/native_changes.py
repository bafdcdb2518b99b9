"""Changes of native definitions: what a service tells those who listen, and what a client makes of it. Pure.

News are one JSON object on one line. They always say where the service is (``epoch``, ``number``); beyond that

    nothing                                   that is all: the answer to "am I current?", and a sign of life
    base, flags, removed, flag_count, etag,   what to change in the definitions with the number ``base`` to have those;
      version                                 ``flags`` has whole flags, each as it stands in the document
    reload, spread_ms                         that the change does not fit in here: fetch the document within that time

A change is applied only to the very definitions it was made from. Whatever else holds of a document holds here: a bad
flag keeps its version, turning off is never refused, references are looked at in the whole. The service and ``flagkit
publish`` call ``change`` and ``announcement``, the client calls ``follow``.
"""

from __future__ import annotations

import json
import re
from typing import Any, Final

from flagkit.core import references
from flagkit.core.model import Definitions, FlagDefinition
from flagkit.dialects import Followed, Parsed
from flagkit.dialects.document import Document, Entry
from flagkit.dialects.fields import read_list, read_text, read_whole
from flagkit.dialects.native import Reading
from flagkit.errors import DefinitionsError, Problem

#: A change larger than this is not told; whoever listens fetches the document, compressed.
MOST_BYTES: Final = 64 * 1024
_LONGEST_SPREAD_MS: Final = 60_000
_ETAG: Final = re.compile(r'(W/)?"[!#-~]{0,500}"').fullmatch  # it will be sent back in a header


def announcement(now: Definitions) -> bytes:
    """The news that these are the definitions now."""
    return _json({"epoch": now.epoch, "number": now.number}).encode()


def change(before: Definitions, after: Definitions, *, etag: str, spread_ms: int) -> bytes:
    """The news that ``after`` has come in place of ``before``; both read from documents with one flag a line.

    Args: etag, of the document of ``after``. spread_ms, within what time everyone may ask for it, if need be.
    """
    head = {"epoch": after.epoch, "number": after.number}
    if _differ_in_flags_only(before, after):
        texts = [flag.text for key, flag in after.flags.items() if _text(before, key) != flag.text]
        removed = [key for key in before.flags if key not in after.flags]
        whole = {**head, "base": before.number, "flag_count": len(after.flags), "etag": etag, "removed": removed}
        if after.version is not None:
            whole["version"] = after.version
        news = f'{_json(whole)[:-1]},"flags":{{{",".join(texts)}}}}}'.encode()
        if len(news) <= MOST_BYTES:
            return news
    return _json({**head, "reload": True, "spread_ms": spread_ms}).encode()


def follow(data: bytes, previous: Definitions) -> Followed:
    """What news mean for the definitions in use.

    Raises: DefinitionsError when they cannot be read or the change is refused; nothing else.
    """
    try:
        return _Following(previous).follow(data)
    except RecursionError:
        raise DefinitionsError((Problem("$", "nested too deeply"),)) from None


class _Following(Reading):
    """News being read on top of the definitions in use."""

    def follow(self, data: bytes) -> Followed:
        head, told, faults = self.head, {}, self.faults
        for entry in Document(data, {"flags": {}}).entries():
            if entry.section == "flags":
                if entry.key in told:
                    faults.add((None, "flags"), "a flag stands twice")
                told[entry.key] = entry
            elif entry.key in head or entry.flaws:
                faults.add((None, entry.key), "cannot be read")
            else:
                head[entry.key] = entry.value
        if head.get("flags", {}) != {}:
            faults.expected((None, "flags"), head["flags"], "an object")
        epoch = read_text(head.get("epoch"), (None, "epoch"), faults)
        number = read_whole(head.get("number"), (None, "number"), faults, 0, 1 << 53)
        self._refuse_faults()
        known = self.previous
        if epoch == known.epoch and known.number is not None and number <= known.number:
            return Followed(confirmed=number == known.number)  # or older: the poller will see whether it stays so
        if (epoch, head.get("base")) != (known.epoch, known.number) or "reload" in head or not _is_as_written(known):
            return Followed(fetch=True, spread_s=self._spread_s())
        return Followed(self._applied(told, number), confirmed=True, validator=self._etag())

    def _applied(self, told: dict[str, Entry], number: int) -> Parsed:
        faults, known = self.faults, self.previous
        removed = {
            read_text(key, (None, "removed"), faults)
            for key in read_list(self.head.get("removed"), (None, "removed"), faults)
        }
        count = read_whole(self.head.get("flag_count"), (None, "flag_count"), faults, 0, 1 << 31)
        version = read_text(self.head["version"], (None, "version"), faults) if "version" in self.head else None
        self._refuse_faults()
        for entry in told.values():
            self._flag(entry)
        self._add_unchanged(removed)
        if count != len(self.flags) + len(self.refused):
            message = f"says {count} flags, but there would be {len(self.flags) + len(self.refused)}"
            raise DefinitionsError((Problem("$.flag_count", message),))
        self._resolve()
        self._accept()
        definitions = known._replace(
            flags=self.flags,
            segments=self.segments,
            refused=frozenset(key for key in self.refused if key not in self.flags),
            version=version,
            number=number,
            entries=self.entries,
        )
        return Parsed(definitions, (*self.problems, *references.dangling(definitions)))

    def _add_unchanged(self, removed: set[str]) -> None:
        """Put what is not told of behind, between and before what is, where it was."""
        known, told, refused = self.previous, self.flags, self.refused
        written = {section: dict(texts) for section, texts in known.entries.items()}
        for key in removed.union(told, refused):
            if key in known.flags:
                written["flags"].pop(known.flags[key].text, None)
        self.flags = {
            key: told.pop(key, flag) for key, flag in known.flags.items() if key not in removed and key not in refused
        }
        self.flags.update(told)
        self.segments = dict(known.segments)
        self.entries = {section: {**written.get(section, {}), **texts} for section, texts in self.entries.items()}
        for flag in known.flags.values():
            if flag.remarks and self.flags.get(flag.key) is flag:
                self.problems += flag.remarks

    def _etag(self) -> str | None:
        etag = self.head.get("etag")
        return etag if isinstance(etag, str) and _ETAG(etag) else None

    def _spread_s(self) -> float | None:
        spread_ms = self.head.get("spread_ms")
        return min(spread_ms, _LONGEST_SPREAD_MS) / 1000 if isinstance(spread_ms, int) and spread_ms >= 0 else None

    def _refuse_faults(self) -> None:
        if self.faults.found:
            raise DefinitionsError(tuple(self.faults.problems(None)))


def _differ_in_flags_only(before: Definitions, after: Definitions) -> bool:
    same = before.epoch == after.epoch and before.environment == after.environment
    return (
        same
        and (before.segments, before.enrolled) == (after.segments, after.enrolled)
        and (before.layers, before.holdouts) == (after.layers, after.holdouts)
        and not before.refused | after.refused
    )


def _is_as_written(definitions: Definitions) -> bool:
    """Whether they are what their document says, with no flag or segment replaced by what it was before."""
    written = definitions.entries
    return not definitions.refused and all(
        {*map(id, parts.values())} == {*map(id, written.get(section, {}).values())}
        for section, parts in (("flags", definitions.flags), ("segments", definitions.segments))
    )


def _text(definitions: Definitions, key: str) -> str | None:
    flag: FlagDefinition | None = definitions.flags.get(key)
    return None if flag is None else flag.text


def _json(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))
