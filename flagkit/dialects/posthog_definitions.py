"""PostHog's flags as the engine's definitions: what each is made with, its version, and which cannot be decided here.

Called by ``posthog`` once all of a document is read, because what a flag comes to depends on cohorts, group types and
the flags it asks for.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from typing import Any, Final

from flagkit.core.model import FlagDefinition, Prerequisite
from flagkit.dialects.fields import At, Faults
from flagkit.dialects.posthog_cohorts import Cohorts, cohort_id, filters_in
from flagkit.dialects.posthog_compile import logic_of
from flagkit.dialects.posthog_filters import Surroundings, flag_asked
from flagkit.dialects.posthog_model import Flag, Property
from flagkit.dialects.posthog_operators import Asked, made
from flagkit.dialects.posthog_values import CAUSES, UNSUPPORTED
from flagkit.errors import Problem

_MAX_DEPTH: Final = 32  # of flags that ask for flags
_MAX_QUESTIONS: Final = 1000  # that one flag may come to
_TRUE, _FALSE = "true", "false"


class Made:
    """A flag, and what it is made with.

    minimal: PostHog asks for short events of flags without an experiment. parents: the flags it asks for. tangled: it
    asks for them in a circle.
    """

    def __init__(self, flag: Flag, around: Surroundings, minimal: bool, parents: Iterable[str], tangled: bool) -> None:
        self.flag = flag
        self.around = around
        self.parents = tuple(sorted(parents))
        self.minimal = minimal and flag.has_experiment is False
        self.tangled = tangled

    @property
    def filters(self) -> Iterator[Property]:
        return (each for condition in self.flag.conditions for each in condition.properties)

    @cached_property
    def cohorts(self) -> tuple[tuple[str, str | None], ...]:
        """The cohorts that it depends on, and what tells each from others of its id."""
        known = self.around.cohorts
        return tuple((name, known.digest(name)) for name in sorted(known.used_by(self.filters)))

    @property
    def used(self) -> tuple[Any, ...]:
        """What must be the same for the same text to be the same flag."""
        return (self.around.groups, self.around.strict, self.minimal, self.tangled, self.cohorts)


def defined(flag: Made, text: str) -> FlagDefinition:
    """The definition of a flag that was written as ``text``."""
    told = flag.flag
    hindrance = told.hindrance or (CAUSES[UNSUPPORTED] if flag.tangled else None)
    return FlagDefinition(
        told.key,
        told.values,
        _FALSE,
        _FALSE,
        enabled=told.active,
        prerequisites=tuple(Prerequisite(parent, ()) for parent in flag.parents),
        version=_version(flag, text),
        description=told.description,
        text=text,
        early_access=told.enrolment,
        telemetry=_telemetry(flag),
        logic=logic_of(told, flag.around, hindrance),
    )


def _version(flag: Made, text: str) -> str:
    """PostHog's number, and a digest of the cohorts, which have none; of a flag without a number, of all it is."""
    from hashlib import blake2b  # loads OpenSSL: not at import

    number = flag.flag.version
    decides = json.dumps([flag.cohorts, None if number else text], ensure_ascii=True)
    digest = blake2b(decides.encode(), digest_size=4 if number else 6).hexdigest()
    return digest if not number else f"{number}-{digest}" if flag.cohorts else str(number)


def _telemetry(flag: Made) -> Mapping[str, str | int | bool]:
    told: dict[str, str | int | bool | None] = {
        "id": flag.flag.number,
        "version": flag.flag.version,
        "has_experiment": flag.flag.has_experiment,
        "minimal": flag.minimal or None,
    }
    return {name: value for name, value in told.items() if value is not None}


class Dependencies:
    """Which flags each flag of a document asks for, in cohorts too, and how often."""

    def __init__(self, flags: Mapping[str, Flag], cohorts: Cohorts) -> None:
        self._cohorts = cohorts
        self._within: dict[str, Counter[str]] = {}
        asked = {
            key: self._asked(each for c in flag.conditions for each in c.properties) for key, flag in flags.items()
        }
        self.of: dict[str, Mapping[str, int]] = {key: parents for key, parents in asked.items() if parents}

    def _asked(self, filters: Iterable[Property]) -> Counter[str]:
        found: Counter[str] = Counter()
        for each in filters:
            if each.kind == "cohort":
                found.update(self._asked_within(cohort_id(each.value)))
            elif (key := flag_asked(each)) is not None:
                found[key] += 1
        return found

    def _asked_within(self, cohort: str) -> Counter[str]:
        if cohort not in self._within:
            self._within[cohort] = self._asked(filters_in(self._cohorts.get(cohort)))
        return self._within[cohort]

    def entangled(self) -> frozenset[str]:
        """The flags that ask for each other in a circle, or for so many that answering would take long."""
        sizes: dict[str, tuple[int, int] | None] = {}  # questions, depth; None: too many
        for start in self.of:
            path, waiting = set[str](), [start]
            while waiting:
                key = waiting[-1]
                if key in sizes:
                    waiting.pop()
                    continue
                parents = self.of.get(key, {})
                if key not in path:
                    path.add(key)
                    if path.isdisjoint(parents):
                        waiting += [parent for parent in parents if parent not in sizes]
                        continue
                sizes[key] = _size(parents, sizes) if path.isdisjoint(parents) else None
                path.discard(key)
        return frozenset(key for key, size in sizes.items() if size is None)


def _size(parents: Mapping[str, int], sizes: Mapping[str, tuple[int, int] | None]) -> tuple[int, int] | None:
    # One that asks for a flag in a circle is in none: it is only undecided when it comes to ask.
    known = [(times, size) for parent, times in parents.items() if (size := sizes[parent]) is not None]
    questions = 1 + sum(times * size[0] for times, size in known)
    depth = 1 + max((size[1] for _, size in known), default=0)
    return (questions, depth) if questions <= _MAX_QUESTIONS and depth <= _MAX_DEPTH else None


def unusable(flag: Made) -> tuple[Problem, ...]:
    """What in it cannot be decided in this process, or never matches."""
    key, around, notes = flag.flag.key, flag.around, Faults()
    at: At = ((None, "flags"), key)
    if not flag.flag.active:
        return ()
    if flag.flag.hindrance is not None:
        notes.add(at, f"{flag.flag.hindrance}: it is never decided in this process")
    if flag.tangled:
        notes.add(at, "asks for flags in a circle, or for too many: it is never decided in this process")
    for number, condition in enumerate(flag.flag.conditions):
        for index, each in enumerate(condition.properties):
            said = _said_of(each, around)
            if said is not None:
                notes.add((((((at, "filters"), "groups"), number), "properties"), index), said)
    return tuple(notes.problems(key, refused=False))


def _said_of(asked: Property, around: Surroundings) -> str | None:
    if asked.kind == "cohort":
        name = cohort_id(asked.value)
        there = around.cohorts.get(name) is not None
        return None if there else f"only PostHog's servers know who is in the cohort {name[:32]}: undecided here"
    if asked.kind == "flag":
        return None if flag_asked(asked) is not None else "malformed: it never matches"
    return made(Asked(asked.operator or "exact", asked.value, around.strict, lambda: 0)).problem
