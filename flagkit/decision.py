"""What evaluation answers: ``Decision``, in OpenFeature's words for reasons and error codes.

Decisions are made when definitions are compiled, one object for each possible outcome, and handed out as they are.
Identity is therefore equality: the same outcome of the same definitions is the same object, but for ``Relayed``,
and for twins that are not to be recorded. A copy is therefore the decision itself; one that was pickled tells what was
decided, and is equal to none.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Any, Final


class Reason(StrEnum):
    """Why this variant. The first eight are OpenFeature's; the others say what stood in the way or came before."""

    STATIC = "STATIC"
    DEFAULT = "DEFAULT"
    TARGETING_MATCH = "TARGETING_MATCH"
    SPLIT = "SPLIT"
    CACHED = "CACHED"
    DISABLED = "DISABLED"
    STALE = "STALE"
    ERROR = "ERROR"
    OVERRIDE = "OVERRIDE"
    GUARD = "GUARD"
    HOLDOUT = "HOLDOUT"
    EXCLUDED = "EXCLUDED"
    PREREQUISITE_FAILED = "PREREQUISITE_FAILED"

    @property
    def standard(self) -> Reason:
        """The closest of OpenFeature's own words, for those who know no others."""
        return _STANDARD.get(self, self)


_STANDARD: Final = {
    Reason.OVERRIDE: Reason.STATIC,  # nothing was evaluated
    Reason.GUARD: Reason.DISABLED,  # what the rules assigned is switched off
    Reason.HOLDOUT: Reason.SPLIT,  # a bucket decided
    Reason.EXCLUDED: Reason.TARGETING_MATCH,  # a condition decided
    Reason.PREREQUISITE_FAILED: Reason.DEFAULT,  # the flag's own rules were not asked
}


class ErrorCode(StrEnum):
    """What went wrong when the reason is ERROR (OpenFeature's codes)."""

    PROVIDER_NOT_READY = "PROVIDER_NOT_READY"
    FLAG_NOT_FOUND = "FLAG_NOT_FOUND"
    PARSE_ERROR = "PARSE_ERROR"
    TYPE_MISMATCH = "TYPE_MISMATCH"
    INVALID_CONTEXT = "INVALID_CONTEXT"
    GENERAL = "GENERAL"


class Decision:
    """The answer for one flag and context. Treat it as frozen.

    flag: the flag's key.
    variant: the variant served; None when there is none and the caller's default applies: the reason is ERROR, or
        DISABLED or DEFAULT in dialects whose backend leaves it at that.
    enabled: whether ``variant`` is anything but the flag's off variant, or what its backend calls enabled; False
        without a variant.
    value: the variant's JSON value; arrays and objects are fresh copies on every read.
    reason, error_code: why; ``error_code`` is set exactly when the reason is ERROR.
    rule: the name of the rule that decided, if one did; of an error, what stood in the way, if that has a name.
    assigned: the variant the rules assigned, which differs from ``variant`` when a trip replaced it, and where a
        backend calls being on and being off by one name.
    analysable: True when a rollout or split placed the unit and it got what it was assigned: it may be compared.
    version: the flag's version (its ``version`` field, else a digest of what decides).
    """

    __slots__ = (
        "_arm",
        "_branch",
        "_candidate",
        "_copy",
        "_exposed",
        "_instead_of",
        "_telemetry",
        "_value",
        "_wire",
        "analysable",
        "assigned",
        "enabled",
        "error_code",
        "flag",
        "reason",
        "rule",
        "variant",
        "version",
    )

    def __init__(
        self,
        flag: str,
        variant: str | None,
        value: Any,
        reason: Reason,
        *,
        enabled: bool = False,
        error_code: ErrorCode | None = None,
        rule: str | None = None,
        assigned: str | None = None,
        analysable: bool = False,
        version: str | None = None,
        exposed: set[bytes] | None = None,
        instead_of: Decision | None = None,
        telemetry: Mapping[str, str | int | bool] | None = None,
        arm: str | None = None,
        control: bool = False,
    ) -> None:
        self.flag = flag
        self.variant = variant
        self.enabled = enabled
        self.reason = reason
        self.error_code = error_code
        self.rule = rule
        self.assigned = assigned
        self.analysable = analysable
        self.version = version
        self._value = value
        self._copy = _copier(value)
        #: Keys of the units whose exposure to this outcome is recorded in this window; None: never exposed.
        #: It hangs here, owned and emptied by runtime.exposures, because the check is on the evaluation path.
        self._exposed = exposed
        #: The variant served as guards and exposures know it: its own name for it, where a backend calls two by one.
        self._arm = variant if arm is None else arm
        #: Whether gates run the candidate: ``control`` says that this variant is what others are compared with.
        self._candidate = enabled and not control
        #: The part of its exposures that is always the same, once there was one; runtime.exposures fills it in.
        self._wire: tuple[str, bytes] | None = None
        #: The decision that this one is served instead of, because its guard has tripped.
        self._instead_of = instead_of
        #: What its exposures say besides, for a sink of the flag's own backend.
        self._telemetry = telemetry
        #: What gates report calls to that come to this decision, once there was one; production.guards fills it in.
        self._branch: Any = None

    @property
    def value(self) -> Any:
        copy = self._copy
        return self._value if copy is None else copy(self._value)

    def unseen(self, branch: Any) -> Decision:
        """The same answer for a call that nobody is to know of: never exposed, and reported to ``branch``."""
        twin = object.__new__(Decision)
        for name in Decision.__slots__:
            setattr(twin, name, getattr(self, name))
        twin._exposed = twin._instead_of = None
        twin._branch = branch
        return twin

    def __copy__(self) -> Decision:
        return self

    def __deepcopy__(self, _: object) -> Decision:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        # What was decided; not who met it, nor who counts it, which are this process's matter.
        told = ("flag", "variant", "_value", "reason", *_TOLD)
        return _told, tuple(getattr(self, name) for name in told)

    def __repr__(self) -> str:
        error = f", error_code={self.error_code.value}" if self.error_code else ""
        return f"Decision(flag={self.flag!r}, variant={self.variant!r}, reason={self.reason.value}{error})"


_TOLD: Final = ("enabled", "error_code", "rule", "assigned", "analysable", "version")


def _told(flag: str, variant: str | None, value: Any, reason: Reason, *more: Any) -> Decision:
    return Decision(flag, variant, value, reason, **dict(zip(_TOLD, more, strict=True)))


class Relayed(Decision):
    """A decision that a backend's own server made for one unit.

    The same outcome as ``of``, which was made beforehand: equal to it, with its memory of who was exposed, so that
    trips and exposures know one outcome however many units have an answer of their own. ``telemetry`` is of this one.
    """

    __slots__ = ("_of",)

    def __init__(self, of: Decision, telemetry: Mapping[str, str | int | bool]) -> None:
        for name in Decision.__slots__:
            setattr(self, name, getattr(of, name))
        self._of = of
        self._telemetry = telemetry
        self._wire = None

    def __eq__(self, other: object) -> bool:
        return (other._of if isinstance(other, Relayed) else other) is self._of

    def __hash__(self) -> int:
        return hash(self._of)


def _copier(value: Any) -> Callable[[Any], Any] | None:
    """How to hand ``value`` out so that nobody can change ours: None for scalars, which cannot be changed."""
    if isinstance(value, dict):
        return _deep if any(isinstance(item, (dict, list)) for item in value.values()) else dict.copy
    if isinstance(value, list):
        return _deep if any(isinstance(item, (dict, list)) for item in value) else list.copy
    return None


def _deep(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _deep(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_deep(item) for item in value]
    return value
