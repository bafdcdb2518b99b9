"""``Interference``: whether all arms together fail more often since the last step of the ramp.

A candidate that hurts what the arms share, a database say, hurts the control as well, and no comparison of the two sees
it. So the rate of both together is known before a step, and for half an hour after it is tested against that. One
thread at a time, the guard's serial; times come in. It knows no flag, and neither serves nor stores anything.
"""

from __future__ import annotations

from typing import Any, Final

from flagkit.production.clocks import CANDIDATE, CONTROL, GROUPS
from flagkit.production.sequential import RatesEProcess, upper_limit

#: The chance of a false verdict at a step, in one process.
_ALPHA: Final = 0.01
_WATCHED_S: Final = 1800.0
#: Counted calls without which the rate before a step is not known.
_KNOWN: Final = 1000
#: What is known is that of so many calls of one group, or twice as many: enough for a rate of 1 in 1000.
_SPAN: Final = 50_000
#: What is borne, relative to the upper limit of the rate before.
_FACTOR: Final = 2.0


class _Span:
    """Calls that came one after another, and their failures, by group of their unit's history."""

    __slots__ = ("calls", "failures")

    def __init__(self) -> None:
        self.calls = [0] * GROUPS
        self.failures = [0] * GROUPS


class Interference:
    """Of one flag, over all its candidates and revisions.

    Args: processes, how many test by themselves: the limit rises with them, so that all of them together are wrong as
        seldom as one.

    Calls are told apart by how many their unit had before, as where arms are compared: units that always fail are gone
    after their first one, so that the rate of a window's first calls is another than that of its last ones.
    """

    __slots__ = ("_before", "_calls", "_from_s", "_limit", "_now", "_since", "_test", "_until_s")

    def __init__(self, processes: int = 1) -> None:
        self._limit = processes / _ALPHA
        self._before: _Span | None = None
        self._begin()
        self._test: RatesEProcess | None = None
        #: Calls and failures since the step: of the control, then of the candidates.
        self._since = [0, 0, 0, 0]
        #: When calls begin that are tested, or that say how often calls fail at this step; and when they no longer are.
        self._from_s, self._until_s = float("-inf"), 0.0

    def step(self, raised: bool, now_s: float) -> None:
        """Shares have changed. raised: a candidate gets more units than it did, so that it is watched what that does.

        What was known of the rate is known no more: the next step is measured by what comes after this one.
        """
        rates = self._rates() if raised else None
        self._test = None if rates is None else RatesEProcess(rates)
        self._before = None
        self._begin()
        self._since = [0, 0, 0, 0]
        self._from_s, self._until_s = now_s, now_s + _WATCHED_S

    def ended(self, group: int, arm: int, failed: bool, began_s: float) -> bool:
        """A compared call of either arm has ended; return whether interference has just been found.

        group: of its unit's history.
        """
        if began_s < self._from_s:
            return False
        calls = self._calls
        calls[group] += 1
        if failed:
            self._now.failures[group] += 1
        if self._test is not None:
            return self._tested(self._test, group, arm, failed, began_s)
        if calls[group] >= _SPAN:
            self._before = self._now
            self._begin()
        return False

    def evidence(self) -> dict[str, Any]:
        """What the latest verdict rests on, as plain JSON values: calls and failures of both arms since the step."""
        since = self._since
        return {"calls": since[:2], "failures": since[2:]}

    def _begin(self) -> None:
        self._now = _Span()
        self._calls = self._now.calls

    def _tested(self, test: RatesEProcess, group: int, arm: int, failed: bool, began_s: float) -> bool:
        if began_s > self._until_s:
            self._test = None
            return False
        side = CANDIDATE if arm else CONTROL
        self._since[side] += 1
        self._since[2 + side] += failed
        test.add(group, failed)
        found = test.value >= self._limit
        if found:
            self._test = None
        return found

    def _rates(self) -> list[float] | None:
        """By group, what is borne after a step; None while too little is known."""
        spans = [span for span in (self._before, self._now) if span is not None]
        calls = [sum(each) for each in zip(*(span.calls for span in spans), strict=True)]
        failures = [sum(each) for each in zip(*(span.failures for span in spans), strict=True)]
        if sum(calls) < _KNOWN:
            return None
        return [_FACTOR * upper_limit(failed, of) for failed, of in zip(failures, calls, strict=True)]
