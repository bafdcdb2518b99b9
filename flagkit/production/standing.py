"""``GuardStatus``: how one candidate stands with its guard, for ``client.status``. A shape; ``trial`` fills it in."""

from __future__ import annotations

from typing import NamedTuple


class GuardStatus(NamedTuple):
    """How one candidate stands with its guard.

    state: ``judging``; ``underpowered`` (so few calls, units or controls that a regression of x5 would take 100,000
        calls of the candidate or more to be found, or none at all yet); ``blind`` (hardly a call is the control's, or
        none is dealt to it, and no error rate is known that it may have);
        ``tripped``; ``open`` or ``half_open`` (the breaker); ``held`` (rules of the flag are
        at an earlier step of their ramp; it goes on being judged).
    calls, failures: of the control and of the candidate, that count. evidence: the larger of the two clocks' e-value,
        relative to its limit: 1 trips. why: of a trip, or of what is held.
    """

    flag: str
    candidate: str
    revision: int
    state: str
    calls: tuple[int, int]
    failures: tuple[int, int]
    evidence: float
    why: str | None = None


def untried(flag: str, candidate: str, revision: int, why: str | None, held: str | None, known: bool) -> GuardStatus:
    """Of a candidate that no call has reached yet; the arguments as of ``Trial.status``."""
    state = "tripped" if why is not None else "held" if held is not None else "underpowered" if known else "blind"
    return GuardStatus(flag, candidate, revision, state, (0, 0), (0, 0), 0.0, why if why is not None else held)
