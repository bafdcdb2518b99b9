"""An Unleash feature as frozen values: what the parser makes of its JSON, and the compiler of those. No behaviour."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from flagkit.dialects.unleash_constraints import Constraint
from flagkit.errors import Problem

#: What Unleash calls the variant of a feature that is off, and of one that is on and has no variants.
DISABLED: Final = "disabled"
RANDOM: Final = "random"
DEFAULT: Final = "default"
USER: Final = "userId"
SESSION: Final = "sessionId"
APP: Final = "appName"
TIME: Final = "currentTime"
ENVIRONMENT: Final = "environment"


class Arm(NamedTuple):
    """One variant. ``key`` tells it from all others of its feature; ``name`` is what Unleash calls it."""

    key: str
    name: str
    value: Any


class Override(NamedTuple):
    """Contexts whose ``field`` is one of ``values`` get the variant number ``arm`` of their split."""

    field: str
    values: frozenset[str]
    arm: int


class Split(NamedTuple):
    """Variants by weight, laid out in list order. ``group`` is hashed with what ``stickiness`` names."""

    arms: tuple[Arm, ...] = ()
    weights: tuple[int, ...] = ()
    stickiness: str = DEFAULT
    group: str = ""
    overrides: tuple[Override, ...] = ()


class Strategy(NamedTuple):
    """Lets in whoever meets all ``constraints``, is in the ``rollout`` and is admitted by the ``custom`` strategy.

    name: unique in its feature. rollout: percent, by what ``stickiness`` names; None: everyone. never: nobody.
    custom: name and parameters of a strategy that the application brings.
    """

    name: str
    constraints: tuple[Constraint, ...] = ()
    rollout: int | None = None
    stickiness: str = DEFAULT
    group: str = ""
    split: Split = Split()
    custom: tuple[str, Mapping[str, Any]] | None = None
    never: bool = False


class Dependency(NamedTuple):
    """The parent has to be enabled or not, and to serve one of ``variants`` (none: any).

    impossible: it is not there, or depends on others itself.
    """

    feature: str
    enabled: bool
    variants: frozenset[str]
    impossible: bool


class Segment(NamedTuple):
    """A segment, written as ``text``. constraints: None when they cannot be read; nobody is in it then."""

    id: int
    text: str
    constraints: tuple[Constraint, ...] | None
    remarks: tuple[Problem, ...] = ()


class Feature(NamedTuple):
    """on: the key of being on without a variant. app_name: of the application, for contexts that do not say."""

    key: str
    on: str
    strategies: tuple[Strategy, ...]
    split: Split
    dependencies: tuple[Dependency, ...]
    app_name: str | None
