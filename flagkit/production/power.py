"""How soon a guard would find a regression: about how many calls of the candidate it takes.

By the information that one call carries (Kullback-Leibler) about the odds ratio, and what the guard's restarts, windows
and blocks cost beyond that, as simulated (docs/guards.md). Pure.
"""

from __future__ import annotations

from math import log
from typing import Final

from flagkit.production.sequential import window_share

#: What restarts and blocks cost beyond the information bound, as simulated.
_INFLATION: Final = 1.1
_CALLS_PER_UNIT: Final = 31


def expected_calls(
    rate: float,
    share: float,
    ratio: float,
    *,
    alpha: float = 0.01,
    tolerance: float = 0.25,
    units: int | None = None,
) -> float | None:
    """About how many calls of the candidate it takes until errors at ``ratio`` times the control's are found.

    Args: rate, the control's error rate, over 0 and under 1. share, of calls that are the candidate's, over 0 and under
        1. ratio, over 1 + tolerance. units, how many there are in all; None: more than matter.
    Returns: calls, the median of many; None when it would not be found: within the tolerance (where nearly all
        of the control's calls fail, no candidate fails much more often), or too few units.
    Raises: ValueError when a number is out of its range.
    """
    if not 0 < rate < 1 or not 0 < share < 1 or not 0 < alpha < 1:
        raise ValueError("rate, share and alpha are over 0 and under 1")
    tolerated = 1 + tolerance
    odds = ratio * rate / (1 - rate)
    failing = odds / (1 + odds)
    controls = (1 - share) / share  # calls of the control for each of the candidate
    events = failing + controls * rate
    found = share * failing / (share * failing + (1 - share) * rate)
    borne = share * tolerated / (share * tolerated + 1 - share)
    if ratio <= tolerated or found <= borne:
        return None
    information = found * log(found / borne) + (1 - found) * log((1 - found) / (1 - borne))
    limit = 2 / (alpha * window_share(0))
    evidence = log(limit) + log(2)  # as errors are half of the evidence, latency the other
    calls = _INFLATION * evidence / (events * information)
    if units is not None:
        # A unit speaks once: with its first event, in at most 31 calls.
        candidates = units * share
        speaking = candidates * (1 - (1 - failing) ** _CALLS_PER_UNIT)
        if calls * failing > speaking:
            return None
    return max(calls, 1.0)
