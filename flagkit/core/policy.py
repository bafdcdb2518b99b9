"""``GuardPolicy``: what a guard watches, how much worse is too much, and what it then does. A frozen, checked value.

It stands in definitions, and in code. Which of its numbers mean what is in docs/guards.md; the defaults are those whose
operating characteristics are tabled there.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Final

from flagkit.errors import ConfigError
from flagkit.frozen import Frozen

ROLLBACK: Final = "rollback"
ALERT: Final = "alert"
#: Calls of a unit that count, in one window: what fits into five bits.
MAX_CALLS_PER_UNIT: Final = 31
MAX_REVISION: Final = 1 << 53
_MAX_METRICS: Final = 100
_MAX_NAME: Final = 128


def _number(least: float, most: float, *, open_ends: bool = False) -> Callable[[object], bool]:
    def fits(value: object) -> bool:
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
            return False
        return least < value < most if open_ends else least <= value <= most

    return fits


def _whole(least: int, most: int) -> Callable[[object], bool]:
    return lambda value: isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def _or_none(fits: Callable[[object], bool]) -> Callable[[object], bool]:
    return lambda value: value is None or fits(value)


def _name(value: object) -> bool:
    return isinstance(value, str) and 0 < len(value) <= _MAX_NAME


def _names(value: object) -> bool:
    return isinstance(value, (list, tuple)) and len(value) <= _MAX_METRICS and all(map(_name, value))


#: Field -> whether a value will do, and what would be right.
_FIELDS: Final[Mapping[str, tuple[Callable[[object], bool], str]]] = {
    "control": (_or_none(_name), "the name of a variant"),
    "revision": (_whole(0, MAX_REVISION), "a whole number, 0 or more"),
    "alpha": (_number(0, 1, open_ends=True), "a number over 0 and under 1"),
    "error_tolerance": (_number(0, 100), "a number from 0 to 100; 0.25 is a quarter more"),
    "latency_tolerance": (_or_none(_number(0, 100)), "a number from 0 to 100, or null to leave latency alone"),
    "action": (lambda value: value in (ROLLBACK, ALERT), f'"{ROLLBACK}" or "{ALERT}"'),
    "metrics": (_names, f"a list of at most {_MAX_METRICS} names of metric events"),
    "calls_per_unit": (_whole(1, MAX_CALLS_PER_UNIT), f"a whole number from 1 to {MAX_CALLS_PER_UNIT}"),
    "slo": (_or_none(_number(0, 1, open_ends=True)), "an error rate over 0 and under 1, or null"),
    "min_rate": (_or_none(_number(0, 1, open_ends=True)), "an error rate over 0 and under 1, or null"),
    "deadline_s": (_or_none(_number(0.001, 86_400)), "seconds from 0.001 to 86,400, or null"),
}
FIELDS: Final = frozenset(_FIELDS)


def expected_of(field: str, value: object) -> str | None:
    """What would be right for ``field`` (one of ``FIELDS``); None when ``value`` is."""
    fits, expected = _FIELDS[field]
    return None if fits(value) else expected


class GuardPolicy(Frozen):
    """How a flag's candidates are watched against its control.

    control: the variant the others are compared with, and which is served after a trip; None: the off variant.
    revision: a trip is latched for it; a higher one is a new try, with evidence and alpha of its own. That of a policy
        in code and that of the definitions' guard are added up.
    alpha: the most that the chance of a false rollback may be, over the life of a revision, all candidates together.
    error_tolerance: how much higher the candidate's odds of failing may be, relative to the control's: 0.25, a quarter.
    latency_tolerance: how much longer it may take at p90 and p99, relatively, and 10 microseconds at the least; None:
        latency is left alone.
    action: ``rollback``, or ``alert`` to say so and go on serving the candidate.
    metrics: names of metric events that count as a failure of the unit that they are tracked for.
    calls_per_unit: how many calls of one unit count in a window, 1 to 31.
    slo: the error rate that is borne where there is no control to compare with; None: only what the control showed.
    min_rate: an error rate below which nothing is rolled back, however much higher than the control's; None: none.
    deadline_s: when a call without a result counts as failed and slow, seconds; None: 10 times the control's p99, at
        least 1.

    Raises: ConfigError naming the field.
    """

    __slots__ = (
        "action",
        "alpha",
        "calls_per_unit",
        "control",
        "deadline_s",
        "error_tolerance",
        "latency_tolerance",
        "metrics",
        "min_rate",
        "revision",
        "slo",
    )

    control: str | None
    revision: int
    alpha: float
    error_tolerance: float
    latency_tolerance: float | None
    action: str
    metrics: tuple[str, ...]
    calls_per_unit: int
    slo: float | None
    min_rate: float | None
    deadline_s: float | None

    def __init__(
        self,
        *,
        control: str | None = None,
        revision: int = 0,
        alpha: float = 0.01,
        error_tolerance: float = 0.25,
        latency_tolerance: float | None = 0.2,
        action: str = ROLLBACK,
        metrics: tuple[str, ...] | list[str] = (),
        calls_per_unit: int = MAX_CALLS_PER_UNIT,
        slo: float | None = None,
        min_rate: float | None = None,
        deadline_s: float | None = None,
    ) -> None:
        given = {
            "control": control,
            "revision": revision,
            "alpha": alpha,
            "error_tolerance": error_tolerance,
            "latency_tolerance": latency_tolerance,
            "action": action,
            "metrics": metrics,
            "calls_per_unit": calls_per_unit,
            "slo": slo,
            "min_rate": min_rate,
            "deadline_s": deadline_s,
        }
        for field, value in given.items():
            expected = expected_of(field, value)
            if expected is not None:
                raise ConfigError(field, value, expected)
            object.__setattr__(self, field, tuple(metrics) if field == "metrics" else value)

    def revised(self, revision: int) -> GuardPolicy:
        """The same in another revision."""
        fields = dict(zip(self.__slots__, self._values(), strict=True))
        return GuardPolicy(**{**fields, "revision": revision})
