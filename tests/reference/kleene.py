"""Three-valued logic: True, False and None for unknown. Unknown spreads unless the other side already decides."""

from __future__ import annotations

from collections.abc import Iterable

Outcome = bool | None


def any_of(outcomes: Iterable[Outcome]) -> Outcome:
    """True if one is true, else unknown if one is unknown, else false."""
    seen = list(outcomes)
    if True in seen:
        return True
    return None if None in seen else False


def all_of(outcomes: Iterable[Outcome]) -> Outcome:
    """False if one is false, else unknown if one is unknown, else true."""
    seen = list(outcomes)
    if False in seen:
        return False
    return None if None in seen else True


def negated(outcome: Outcome) -> Outcome:
    return None if outcome is None else not outcome
