"""PostHog's flags and cohorts as frozen values, as far as they decide. No behaviour; one flag's text makes one value.

``posthog_flags`` and ``posthog_cohorts`` read them, ``posthog_compile`` makes functions of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

#: Of a condition that says nothing of its own: it is for what the flag is for.
INHERITED = -1


class Property(NamedTuple):
    """A filter. kind: person, group, cohort or flag; None when it does not say. group: the index of its group type."""

    key: str
    operator: str | None
    value: Any
    kind: str | None = None
    group: int | None = None
    negated: bool = False
    chain: tuple[str, ...] | None = None


class Entries(NamedTuple):
    """Part of a cohort: AND or OR of filters and further parts."""

    every: bool
    items: tuple[Property | Entries, ...]


class Condition(NamedTuple):
    """A condition set. variant: served whatever the hash says. group: index of the group type it is for, None: person.

    percentage: 0 to 100.
    """

    properties: tuple[Property, ...]
    percentage: float = 100.0
    variant: str | None = None
    group: int | None = INHERITED


class Holdout(NamedTuple):
    name: str
    percentage: float


class Flag(NamedTuple):
    """What decides a flag. variants: name -> percentage of units.

    hindrance: why it is never decided in this process, in PostHog's words. values: what the variants mean. number,
    version: PostHog's own.
    """

    key: str
    active: bool
    hindrance: str | None
    conditions: tuple[Condition, ...]
    variants: tuple[tuple[str, float], ...]
    values: Mapping[str, Any]
    group: int | None
    by_device: bool
    early_exit: bool
    enrolment: bool
    holdout: Holdout | None
    number: int | None
    version: int | None
    has_experiment: bool | None
    description: str | None
