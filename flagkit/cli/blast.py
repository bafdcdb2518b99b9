"""Blast radius: who gets another answer from one set of definitions than from another, flag by flag.

Pure and streaming: one context in, counts kept, nothing of the context. A flag that one side does not define answers
as its callers' default does, which is taken for off. Called by ``diff``.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Collection, Iterable

from flagkit.context import Context
from flagkit.core.model import Definitions, FlagDefinition, InSegment, Rule, Segment
from flagkit.core.snapshot import Snapshot


class Change:
    """What became of one flag. ``moves``: (from, to) -> contexts, None standing for a flag that is not defined.

    ``members``: segment -> contexts in it whose answer changed.
    """

    def __init__(self, flag: str, old: FlagDefinition | None, new: FlagDefinition | None) -> None:
        self.flag = flag
        self.status = "added" if old is None else "removed" if new is None else "kept"
        self.moves: Counter[tuple[str | None, str | None]] = Counter()
        self.members: Counter[str] = Counter()
        #: Variants that both have, under the same name, with another value.
        self.revalued = frozenset(
            name
            for name in (old.variants.keys() & new.variants.keys() if old and new else ())
            if old and new and _canonical(old.variants[name]) != _canonical(new.variants[name])
        )

    @property
    def changed(self) -> int:
        """Contexts that get another variant, or the same with another value or another meaning of ``enabled``."""
        return self.moves.total()


class Blast:
    """Counts over the contexts seen so far.

    contexts: how many. changes: one for each flag looked at, in the order of the new document, then the removed ones.
    segments: name -> contexts in it, by either set of definitions.
    """

    def __init__(
        self,
        old: Definitions,
        new: Definitions,
        now_ms: Callable[[], int],
        flags: Collection[str],
        segments: Collection[str],
    ) -> None:
        self.contexts = 0
        self.segments: Counter[str] = Counter(dict.fromkeys(segments, 0))
        keys = [key for key in [*new.flags, *(key for key in old.flags if key not in new.flags)] if key in flags]
        self.changes = [Change(key, old.flags.get(key), new.flags.get(key)) for key in keys]
        touched = touched_flags(old, new)
        self._touched = [change for change in self.changes if change.flag in touched]
        self._old = Snapshot(old, now_ms=now_ms)
        self._new = Snapshot(new, now_ms=now_ms)
        self._members = [Snapshot(_membership(side, segments), now_ms=now_ms) for side in (old, new)]

    def add(self, context: Context) -> None:
        """Count one context."""
        self.contexts += 1
        inside = [name for name in self.segments if any(side.decide(name, context).enabled for side in self._members)]
        self.segments.update(inside)
        for change in self._touched:
            before, after = self._old.decide(change.flag, context), self._new.decide(change.flag, context)
            same = before.variant == after.variant and after.variant not in change.revalued
            if before.enabled == after.enabled and (same or change.status != "kept"):
                continue
            change.moves[before.variant, after.variant] += 1
            change.members.update(inside)


def touched_flags(old: Definitions, new: Definitions) -> set[str]:
    """Flags that could answer differently: changed themselves, or by a segment, layer, holdout or prerequisite."""
    segments = _spread(
        {
            name
            for name in old.segments.keys() | new.segments.keys()
            if _differ(old.segments.get(name), new.segments.get(name))
        },
        [(name, segment.segments) for side in (old, new) for name, segment in side.segments.items()],
    )
    flags = {
        key
        for key in old.flags.keys() | new.flags.keys()
        if _differ(old.flags.get(key), new.flags.get(key))
        or not segments.isdisjoint(new.flags[key].segments)
        or old.layer_of(key) != new.layer_of(key)
        or [h for h in old.holdouts if h.applies_to(old.flags[key])]
        != [h for h in new.holdouts if h.applies_to(new.flags[key])]
    }
    parents = [
        (key, [parent.flag for parent in flag.prerequisites]) for side in (old, new) for key, flag in side.flags.items()
    ]
    return _spread(flags, parents)


def _differ(old: FlagDefinition | Segment | None, new: FlagDefinition | Segment | None) -> bool:
    """Whether two entries decide differently, or only one is there."""
    if isinstance(old, FlagDefinition) and isinstance(new, FlagDefinition):
        old, new = (
            flag._replace(text="", description=None, owner=None, expires=None, version=None) for flag in (old, new)
        )
        return old != new or repr(old) != repr(new)  # for Python, True == 1
    if isinstance(old, Segment) and isinstance(new, Segment):
        return old._replace(text="") != new._replace(text="") or repr(old.conditions) != repr(new.conditions)
    return True


def _spread(touched: set[str], links: Iterable[tuple[str, Iterable[str]]]) -> set[str]:
    """``touched`` and everything that leads to it by ``links`` (name, names it uses)."""
    users: dict[str, list[str]] = {}
    for name, used in links:
        for each in used:
            users.setdefault(each, []).append(name)
    waiting = list(touched)
    while waiting:
        for user in users.get(waiting.pop(), ()):
            if user not in touched:
                touched.add(user)
                waiting.append(user)
    return touched


def _membership(definitions: Definitions, names: Collection[str]) -> Definitions:
    """Definitions with a flag for each segment that is on for its members."""
    flags = {
        name: FlagDefinition(
            name,
            {"on": True, "off": False},
            "off",
            "off",
            rules=(Rule("member", (InSegment((name,)),), "on"),),
            segments=frozenset({name}),
        )
        for name in names
        if name in definitions.segments
    }
    return Definitions(flags, definitions.segments)


def _canonical(value: object) -> str:
    return json.dumps(value, sort_keys=True)
