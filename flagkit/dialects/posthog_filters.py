"""PostHog's filters as questions to a context: of a property, a group's property, a cohort, or another flag.

Each is a function of the context, the forced answers and the parent flags, or a constant when the answer is known
beforehand. Unknown is never yes: what cannot be answered is a code of ``posthog_values``. Called by
``posthog_compile``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple, TypeAlias

from flagkit.context import Context, unit_key
from flagkit.core.logic import Forced, Now, Parents
from flagkit.decision import Decision, ErrorCode
from flagkit.dialects.posthog_cohorts import Cohorts, cohort_id
from flagkit.dialects.posthog_model import Entries, Property
from flagkit.dialects.posthog_operators import Asked, Made, made
from flagkit.dialects.posthog_values import ABSENT, CAUSES, DEPENDENCY, REMOTE, UNSUPPORTED, Answer, mapping, worse

Asks: TypeAlias = Callable[[Context, Forced, Parents], Answer]
#: Attributes of a context that are not properties of its person.
GROUPS: Final = "$groups"
GROUP_PROPERTIES: Final = "$group_properties"
DEVICE: Final = "$device_id"
_DISTINCT_ID: Final = "distinct_id"
_GROUP_KEY: Final = "$group_key"
_BARRING: Final = frozenset(cause for code, cause in CAUSES.items() if code & REMOTE)
_UNDEFINED: Final = (ErrorCode.FLAG_NOT_FOUND, ErrorCode.PARSE_ERROR, ErrorCode.PROVIDER_NOT_READY)


class Surroundings(NamedTuple):
    """What flags are compiled with. groups: index -> name of a group type. strict: see ``Asked``."""

    groups: Mapping[int, str]
    cohorts: Cohorts
    strict: bool


class Filters:
    """The questions of one document's filters."""

    def __init__(self, around: Surroundings, now_ms: Now) -> None:
        self.around = around
        self._now_ms = now_ms

    def asks(self, asked: Property, group: str | None) -> Asks | Answer:
        """The question of any filter. group: the type of the group that a condition is for, None: the person."""
        if asked.kind == "cohort":
            return self._cohort(asked)
        if asked.kind == "flag":
            return _flag(asked)
        test = self.made(asked).test
        if not callable(test):
            return test
        read = self.reader(asked, group)
        if read is None:
            return UNSUPPORTED

        def ask(context: Context, _forced: Forced, _parents: Parents) -> Answer:
            return test(read(context))

        return ask

    def made(self, asked: Property) -> Made:
        """The operator of a filter of a property."""
        return made(Asked(asked.operator or "exact", asked.value, self.around.strict, self._now_ms))

    def reader(self, asked: Property, group: str | None) -> Callable[[Context], Any] | None:
        """What reads the property; None when it is a group's whose type has no name."""
        if asked.kind == "group" and asked.group is not None:
            group = self.around.groups.get(asked.group)
            if group is None:
                return None
        elif asked.kind == "person":
            group = None
        return _of_person(asked.key) if group is None else _of_group(group, asked.key)

    def _cohort(self, asked: Property) -> Asks | Answer:
        name = cohort_id(asked.value)
        entries = self.around.cohorts.get(name)
        if entries is None:
            return UNSUPPORTED | REMOTE
        if asked.operator not in (None, "exact", "in", "not_in"):
            return UNSUPPORTED
        shared, made_for = self.around.cohorts.asked, (name, self._now_ms)
        inside: Asks | Answer = shared[made_for] if made_for in shared else self._entries(entries)
        shared[made_for] = inside
        return _opposite(inside) if asked.operator == "not_in" else inside

    def _entries(self, entries: Entries) -> Asks | Answer:
        every, items = entries.every, []
        for each in entries.items:
            asks = self._entries(each) if isinstance(each, Entries) else self.asks(each, None)
            items.append(_opposite(asks) if isinstance(each, Property) and each.negated else asks)
        codes = [each for each in items if not callable(each)]
        if any(code & REMOTE for code in codes):
            return next(code for code in codes if code & REMOTE)
        if not items:  # everybody, of OR too
            return True
        if (not every) in codes:
            return not every
        asked = [each for each in items if callable(each)]
        undecided = max((code for code in codes if code > 1), default=0)
        if not asked:
            return undecided or every

        def ask(context: Context, forced: Forced, parents: Parents) -> Answer:
            worst = undecided
            for each in asked:
                answer = each(context, forced, parents)
                if answer > 1:
                    worst = worse(worst, answer) | (answer & REMOTE) if worst else answer
                elif answer is not every:
                    return not every
            return worst or every

        return ask


def _opposite(asks: Asks | Answer) -> Asks | Answer:
    if not callable(asks):
        return asks if asks > 1 else not asks

    def ask(context: Context, forced: Forced, parents: Parents) -> Answer:
        answer = asks(context, forced, parents)
        return answer if answer > 1 else not answer

    return ask


def _of_person(key: str) -> Callable[[Context], Any]:
    if key != _DISTINCT_ID:
        return lambda context: context.attributes.get(key, ABSENT)

    def read(context: Context) -> Any:
        value = context.attributes.get(key, ABSENT)
        unit = context.unit_text if value is ABSENT else None
        return value if unit is None else unit

    return read


def _of_group(name: str, key: str) -> Callable[[Context], Any]:
    def read(context: Context) -> Any:
        properties = mapping(context.attributes.get(GROUP_PROPERTIES))
        own = mapping(properties.get(name)) if properties is not None else None
        value = ABSENT if own is None else own.get(key, ABSENT)
        if value is not ABSENT or key != _GROUP_KEY:
            return value
        unit = group_unit(name)(context)
        return unit.decode() if unit else ABSENT

    return read


def group_unit(name: str) -> Callable[[Context], Any]:
    """What reads the key of a context's group: its bytes; None when it is in none of the type, False when unusable."""

    def read(context: Context) -> Any:
        groups = mapping(context.attributes.get(GROUPS))
        value = groups.get(name) if groups is not None else None
        return None if value is None or (type(value) is str and not value) else unit_key(value)

    return read


def device_unit(context: Context) -> Any:
    """The bytes of a context's device id; None without a usable one."""
    value = context.attributes.get(DEVICE)
    return unit_key(value) or None if value is not None else None


def flag_asked(asked: Property) -> str | None:
    """The key of the flag that a filter asks for; None when it is malformed, and then never matches."""
    named = asked.kind == "flag" and asked.operator == "flag_evaluates_to" and asked.value is not None
    return asked.key or None if named else None


def _flag(asked: Property) -> Asks | Answer:
    key, wanted = flag_asked(asked), asked.value
    if key is None:
        return False
    if not asked.chain:  # PostHog's servers say so of circles
        return UNSUPPORTED

    def ask(context: Context, forced: Forced, parents: Parents) -> Answer:
        decision = parents.decide(key, context, forced)
        if decision.variant is None:
            return _undecided(decision)
        if isinstance(wanted, bool):
            return decision.enabled is wanted
        return decision.enabled and wanted == decision.variant and wanted != "true"

    return ask


def _undecided(decision: Decision) -> Answer:
    if decision.error_code in _UNDEFINED:
        return UNSUPPORTED
    return DEPENDENCY | REMOTE if decision.rule in _BARRING else DEPENDENCY
