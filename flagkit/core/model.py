"""Definitions as frozen values: what every dialect produces and the compiler reads. No behaviour, no JSON.

Thresholds are buckets (thousandths of a percent, 0 to 100,000); times are milliseconds since 1970; units are the UTF-8
of their text. A ``Path`` is the keys to descend; ``UNIT`` is the context's own unit.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple, TypeAlias

from flagkit.core.logic import Logic
from flagkit.core.policy import GuardPolicy
from flagkit.errors import Problem

Path: TypeAlias = tuple[str, ...]
UNIT: Final[Path] = ("unit",)


class Comparison(NamedTuple):
    """An attribute asked by an operator (a name in core.operators)."""

    attribute: Path
    operator: str
    values: tuple[Any, ...]
    ignore_case: bool = False
    negated: bool = False


class InSegment(NamedTuple):
    """True for members of any of the named segments."""

    names: tuple[str, ...]
    negated: bool = False


class Enrolled(NamedTuple):
    """True when the context's enrolments say true for the flag, or nothing, and its unit is among those enrolled."""

    negated: bool = False


class TimeWindow(NamedTuple):
    """True from ``from_ms`` (inclusive) until ``until_ms`` (exclusive) on the definitions' clock."""

    from_ms: int | None
    until_ms: int | None
    negated: bool = False


class AllOf(NamedTuple):
    conditions: tuple[Condition, ...]
    negated: bool = False


class AnyOf(NamedTuple):
    conditions: tuple[Condition, ...]
    negated: bool = False


Condition: TypeAlias = "Comparison | InSegment | Enrolled | TimeWindow | AllOf | AnyOf"


class Step(NamedTuple):
    from_ms: int
    threshold: int


class Rollout(NamedTuple):
    """A share of units: ``threshold`` buckets, or ``steps`` by time (0 before the first). ``by``: what the unit is."""

    threshold: int
    steps: tuple[Step, ...] = ()
    by: Path = UNIT


class Share(NamedTuple):
    variant: str
    weight: int


class Rule(NamedTuple):
    """``when`` is ANDed; then the rollout lets a share of units in; then ``serve``, or one variant of ``split``."""

    name: str
    when: tuple[Condition, ...]
    serve: str | None
    split: tuple[Share, ...] = ()
    rollout: Rollout | None = None

    @property
    def is_enrolment(self) -> bool:
        """Whether it is for enrolled units only: such rules come before the holdout."""
        return any(isinstance(condition, Enrolled) and not condition.negated for condition in self.when)

    @property
    def by(self) -> Path | None:
        """What is bucketed, if anything is."""
        return self.rollout.by if self.rollout else UNIT if self.split else None


class Dealing(NamedTuple):
    """What a rule deals: of all buckets the first ``threshold``, and of these to each variant its part by weight.

    by: what the unit is.
    """

    threshold: int
    shares: Mapping[str, int]
    by: Path = UNIT

    def most(self, variant: str) -> int:
        """How many buckets get ``variant``."""
        return self.threshold * self.shares.get(variant, 0) // sum(self.shares.values())

    def gives_more(self, than: Dealing, variant: str) -> bool:
        """Whether more units get ``variant`` than by another dealing."""
        mine = self.threshold * self.shares.get(variant, 0) * sum(than.shares.values())
        return mine > than.threshold * than.shares.get(variant, 0) * sum(self.shares.values())


class Hold(NamedTuple):
    """Rules that give no candidate more than they dealt at an earlier step of the ramp.

    control: gets the rest, where a rule splits. why: for people.
    """

    rules: Mapping[str, Dealing]
    control: str
    why: str = ""


class Prerequisite(NamedTuple):
    flag: str
    variants: tuple[str, ...]


class Overridable(NamedTuple):
    """A flag takes signed overrides, but none issued until ``issued_after_ms``, and none with a ``revoked`` id."""

    issued_after_ms: int | None = None
    revoked: frozenset[str] = frozenset()


class FlagDefinition(NamedTuple):
    """One flag. ``variants`` maps names to JSON values; ``off`` and ``default`` are two of the names.

    text: the flag as written, from which its version follows when ``version`` is None.
    segments: names of the segments its conditions use. guard: None without one, or with a bad one.
    tripped: variants that whoever serves the definitions has seen trip in the guard's revision -> why.
    held: what whoever serves the definitions holds at an earlier step of its ramp, in the guard's revision.
    remarks: what is wrong in it although it is used.
    client: browsers and other clients that anybody may take apart may be told what it answers.
    overridable: on what terms it takes signed overrides; None: it takes none.
    early_access: units may be enrolled in it, and opted out again.
    telemetry: what its backend's own events say of the flag, by name; it travels with exposures.
    logic: what decides in place of ``prerequisites`` to ``rules``, in dialects whose backend decides its own way.
    """

    key: str
    variants: Mapping[str, Any]
    off: str
    default: str
    enabled: bool = True
    prerequisites: tuple[Prerequisite, ...] = ()
    exclude: tuple[Condition, ...] = ()
    targets: Mapping[bytes, str] = {}
    rules: tuple[Rule, ...] = ()
    salt: str = ""
    kind: str = "release"
    version: str | None = None
    max_age_s: int | None = None
    guard: GuardPolicy | None = None
    owner: str | None = None
    expires: str | None = None
    description: str | None = None
    segments: frozenset[str] = frozenset()
    text: str = ""
    logic: Logic | None = None
    tripped: Mapping[str, str] = {}
    client: bool = False
    early_access: bool = False
    telemetry: Mapping[str, str | int | bool] = {}
    remarks: tuple[Problem, ...] = ()
    overridable: Overridable | None = None
    held: Hold | None = None

    @property
    def is_partial(self) -> bool:
        """Whether some units get something else by bucket: such a flag does not outlive its definitions unasked."""
        return any(
            rule.split or (rule.rollout and (rule.rollout.steps or 0 < rule.rollout.threshold < 100_000))
            for rule in self.rules
        )


class Segment(NamedTuple):
    """Members: the ``units``, and whoever ``conditions`` match (None: no such part)."""

    name: str
    units: frozenset[bytes] | None = None
    conditions: Condition | None = None
    segments: frozenset[str] = frozenset()
    text: str = ""


class Layer(NamedTuple):
    """Flags that never share a unit: slot ``(start, end)`` in buckets, by flag."""

    name: str
    salt: str
    by: Path
    slots: Mapping[str, tuple[int, int]]


class Holdout(NamedTuple):
    """Units kept out of ``flags`` (``*``: all but kind ops)."""

    name: str
    salt: str
    threshold: int
    flags: frozenset[str]

    def applies_to(self, flag: FlagDefinition) -> bool:
        return flag.key in self.flags or ("*" in self.flags and flag.kind != "ops")


class Definitions(NamedTuple):
    """A whole document. ``refused``: flags that are defined, but badly, with no good version to fall back on.

    entries: section -> text -> what it became, so that the next document reuses what has not changed.
    enrolled: flag -> the segment of its own: the units that whoever serves the definitions was told have opted in.
    """

    flags: Mapping[str, FlagDefinition]
    segments: Mapping[str, Segment] = {}
    layers: tuple[Layer, ...] = ()
    holdouts: tuple[Holdout, ...] = ()
    refused: frozenset[str] = frozenset()
    version: str | None = None
    environment: str | None = None
    epoch: str | None = None
    number: int | None = None
    entries: Mapping[str, Mapping[str, Any]] = {}
    enrolled: Mapping[str, Segment] = {}

    def layer_of(self, flag: str) -> Layer | None:
        return next((layer for layer in self.layers if flag in layer.slots), None)
