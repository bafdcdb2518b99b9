"""``Snapshot``: definitions ready to answer. Immutable to its users; one attribute store makes a new one current.

Flags are compiled at the first question, unless the snapshot before had compiled them: an unchanged flag is taken over
as it is, with its decisions. Any thread may ask; no lock is taken (compiling twice is harmless: the first stays).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Final, NamedTuple, TypeAlias

from flagkit.boundary import contained
from flagkit.context import Context
from flagkit.core.compile import compile_flag, failed, version_of
from flagkit.core.conditions import Conditions
from flagkit.core.holds import Holds, held
from flagkit.core.logic import Decide, Forced, Now
from flagkit.core.model import Definitions, FlagDefinition
from flagkit.decision import Decision, ErrorCode, Reason

_MAX_SHOWN_KEY: Final = 128
#: Flag -> variant -> what is served instead of it.
Trips: TypeAlias = Mapping[str, Mapping[str, str]]


class TakenBack(NamedTuple):
    """What guards have taken back: variants that are not served, and rules that are held at an earlier step."""

    trips: Trips = MappingProxyType({})
    holds: Holds = MappingProxyType({})


class Snapshot:
    """One set of definitions, with what is known of them from outside.

    definitions: the model. ready: False for the empty one before the first definitions.
    observe: exposures to its decisions may be recorded. now_ms: the definitions' clock.
    stale: flags that have outlived their definitions. trips: flag -> variant whose guard has tripped -> its control.
    holds: flag -> what its rules are held at.
    compiled: the flags asked for so far, as functions; verbs in a hurry call them straight.
    """

    __slots__ = (
        "_conditions",
        "_forced",
        "_observe",
        "_samples",
        "compiled",
        "definitions",
        "holds",
        "now_ms",
        "ready",
        "stale",
        "trips",
    )

    def __init__(
        self,
        definitions: Definitions,
        *,
        now_ms: Now,
        observe: bool = False,
        ready: bool = True,
        stale: frozenset[str] = frozenset(),
        trips: Trips | None = None,
        holds: Holds | None = None,
    ) -> None:
        self.definitions = definitions
        self.ready = ready
        self.stale = stale
        self.trips: Trips = trips or {}
        self.holds: Holds = holds or {}
        self.now_ms = now_ms
        self._observe = observe
        self._conditions = Conditions(definitions.segments, now_ms, definitions.enrolled)
        self.compiled: dict[str, Decide] = {}
        self._forced: dict[tuple[str, str], Decision] = {}
        #: The flags that draw shadow runs, as functions.
        self._samples: dict[str, Decide] = {}

    def decide(self, flag: str, context: Context, forced: Forced = None) -> Decision:
        """The answer for one flag. ``forced``: flag -> variant or bool that overrides it, for its children too.

        Raises: nothing, whatever is in the context.
        """
        try:
            if forced is not None and flag in forced:
                decision = self._override(flag, forced[flag])
                if decision is not None:
                    return decision
            try:
                compiled = self.compiled[flag]
            except KeyError:
                first = self._compile(flag)
                if first is None:
                    return self._unknown(flag)
                compiled = first
            return compiled(context, forced, self)
        except Exception:  # noqa: BLE001 - the entry of evaluation: attributes are foreign objects and may do anything
            return failed(flag if issubclass(type(flag), str) else "?", ErrorCode.GENERAL)

    def sample(self, flag: str, context: Context, forced: Forced = None) -> Decision:
        """As ``decide``, with the flag's own rollouts and splits drawn under the salt ``<salt>.shadow``.

        Whom it draws therefore says nothing of whom ``decide`` does. Flags of a dialect that decides by logic of its
        own keep their salt. The answer cannot be exposed. Raises: nothing.
        """
        try:
            if flag not in self.definitions.flags or (forced is not None and flag in forced):
                return self.decide(flag, context, forced)
            compiled = self._samples.get(flag)
            if compiled is None:
                compiled = self._compile_sample(flag)
            return compiled(context, forced, self)
        except Exception:  # noqa: BLE001 - as in ``decide``
            return failed(flag if issubclass(type(flag), str) else "?", ErrorCode.GENERAL)

    def decide_all(self, context: Context, forced: Forced = None) -> dict[str, Decision]:
        """The answers for all flags, in the order of the document. Raises: nothing."""
        decide = self.decide
        return {flag: decide(flag, context, forced) for flag in self.definitions.flags}

    def following(
        self,
        definitions: Definitions | None = None,
        *,
        stale: frozenset[str] | None = None,
        trips: Trips | None = None,
        holds: Holds | None = None,
    ) -> Snapshot:
        """The next snapshot, with what is given changed. Flags compiled here are ready there, anew if need be."""
        new = Snapshot(
            self.definitions if definitions is None else definitions,
            now_ms=self.now_ms,
            observe=self._observe,
            stale=self.stale if stale is None else stale,
            trips=self.trips if trips is None else trips,
            holds=self.holds if holds is None else holds,
        )
        compiled = self.compiled.copy()
        changed = new.changes_since(self, compiled)
        for key in changed:
            del compiled[key]
        new.compiled = compiled
        kept = self._samples.copy()
        for key in new.changes_since(self, kept):
            del kept[key]
        new._samples = kept
        for key in changed & new.definitions.flags.keys():
            # Beforehand, not at the next question. Whatever stands in the way of it is that flag's matter alone.
            contained(new._compile, key, otherwise=None)
        return new

    def changes_since(self, before: Snapshot, keys: Iterable[str]) -> set[str]:
        """Which of the flags ``keys`` may answer differently here than in ``before``, parents aside."""
        old, new = before.definitions, self.definitions
        if old.holdouts != new.holdouts:
            return set(keys)
        old_flags, new_flags = old.flags, new.flags
        segments = before._changed_segments(self)
        marked = before.stale ^ self.stale
        layers, trips = old.layers != new.layers, before.trips != self.trips
        holds = before.holds != self.holds
        enrolled = {
            key
            for key in old.enrolled.keys() | new.enrolled.keys()
            if old.enrolled.get(key) is not new.enrolled.get(key)
        }

        def differs(key: str) -> bool:
            return (
                key in marked
                or key in enrolled
                or not new_flags[key].segments.isdisjoint(segments)
                or (layers and new.layer_of(key) != old.layer_of(key))
                or (trips and self.trips.get(key) != before.trips.get(key))
                or (holds and self.holds.get(key) != before.holds.get(key))
            )

        # Nearly always there is one document after another, and all that differs is a flag or two.
        look = bool(segments or marked or layers or trips or holds or enrolled)
        return {
            key
            for key in keys
            if (flag := new_flags.get(key)) is None or flag is not old_flags.get(key) or (look and differs(key))
        }

    def affected_since(self, before: Snapshot) -> frozenset[str]:
        """The flags that may answer differently here than in ``before``, those that depend on such included."""
        flags = self.definitions.flags
        affected = self.changes_since(before, flags.keys() | before.definitions.flags.keys())
        children = [key for key, flag in flags.items() if flag.prerequisites and key not in affected]
        spreading = bool(affected and children)
        while spreading:
            more = {key for key in children if any(parent.flag in affected for parent in flags[key].prerequisites)}
            spreading = not more <= affected
            affected |= more
        return frozenset(affected)

    def _changed_segments(self, new: Snapshot) -> set[str]:
        """Segments that differ in ``new``, themselves or in what they use."""
        before, after = self.definitions.segments, new.definitions.segments
        changed = {name for name in before.keys() | after.keys() if before.get(name) is not after.get(name)}
        spreading = bool(changed)
        while spreading:
            touched = {
                n for n, segment in after.items() if n not in changed and not segment.segments.isdisjoint(changed)
            }
            changed |= touched
            spreading = bool(touched)
        return changed

    def flag(self, key: str) -> FlagDefinition | None:
        """A flag as it is decided: with what is held of it. None: there is none."""
        flag = self.definitions.flags.get(key)
        return flag if flag is None or key not in self.holds else held(flag, self.holds[key])

    def _compile(self, key: str) -> Decide | None:
        flag = self.flag(key)
        if flag is None:
            return None
        compiled = compile_flag(
            flag,
            self.definitions,
            self._conditions,
            observe=self._observe,
            stale=key in self.stale,
            tripped=self.trips.get(key, {}),
        )
        return self.compiled.setdefault(key, compiled)

    def _compile_sample(self, key: str) -> Decide:
        flag = self.flag(key) or self.definitions.flags[key]
        compiled = compile_flag(
            flag._replace(salt=f"{flag.salt}.shadow"),
            self.definitions,
            self._conditions,
            observe=False,
            stale=key in self.stale,
            tripped=self.trips.get(key, {}),
        )
        return self._samples.setdefault(key, compiled)

    def _unknown(self, flag: str) -> Decision:
        if not self.ready:
            return failed(flag[:_MAX_SHOWN_KEY], ErrorCode.PROVIDER_NOT_READY)
        if flag in self.definitions.refused:
            return failed(flag, ErrorCode.PARSE_ERROR)
        return failed(flag[:_MAX_SHOWN_KEY], ErrorCode.FLAG_NOT_FOUND)

    def _override(self, key: str, wanted: str | bool) -> Decision | None:
        """The forced decision; None when the flag is unknown or has no such variant."""
        flag = self.definitions.flags.get(key)
        if flag is None:
            return None
        variant = forced_variant(flag, wanted)
        if variant is None:
            return None
        decision = self._forced.get((key, variant))
        if decision is None:
            decision = Decision(
                key,
                variant,
                flag.variants[variant],
                Reason.OVERRIDE,
                enabled=variant != flag.off,
                control=flag.guard is not None and variant == flag.guard.control,
                assigned=variant,
                version=version_of(flag),
            )
            self._forced[key, variant] = decision
        return decision


def forced_variant(flag: FlagDefinition, wanted: str | bool) -> str | None:
    """The variant that an override means: a name; True, the one that is on; False, off. None when there is none."""
    if wanted is False:
        return flag.off
    if wanted is True:
        if flag.default != flag.off:
            return flag.default
        if "on" in flag.variants and flag.off != "on":
            return "on"
        return next((name for name in flag.variants if name != flag.off), None)
    return wanted if isinstance(wanted, str) and wanted in flag.variants else None
