"""``Integrity``: whether a comparison can be trusted: units come in the shares they are dealt in, and neither arm hurts
the other.

Shares of units that are not as meant (a sample ratio mismatch) say that something else than the rollout decides who is
compared, and nothing is rolled back by comparing then. After a ramp step, failures of both arms together that are
clearly more than before it say that the candidate hurts what they share, which no comparison sees. Neither rolls back.
One thread at a time, the guard's serial; it has no clock. Formulas: docs/guards.md.
"""

from __future__ import annotations

from typing import Final

from flagkit.core.model import FlagDefinition
from flagkit.production.sequential import SharesTest, SloEProcess, upper_limit

_CELLS: Final = 65_536
_MISMATCH: Final = 1000.0
_INTERFERENCE: Final = 100.0
_WATCHED_S: Final = 1800.0
_KNOWN: Final = 1000
_FACTOR: Final = 2.0


class Integrity:
    """Of one flag with one candidate, in one revision of its guard."""

    __slots__ = (
        "_calls",
        "_failures",
        "_pooled",
        "_seen",
        "_shares",
        "_tests",
        "_until_s",
        "interference",
        "mismatch",
        "resting",
    )

    def __init__(self, definition: FlagDefinition, candidate: str, control: str) -> None:
        self._seen = bytearray(_CELLS)
        self._calls = self._failures = 0
        self._pooled: SloEProcess | None = None
        self._until_s = 0.0
        #: The shares of units are not those of the rollout.
        self.mismatch = False
        #: The candidate is not served now, so that its units do not come at all.
        self.resting = False
        #: Both arms fail more often since the last step of the ramp.
        self.interference = False
        self._deal(definition, candidate, control)

    def step(self, definition: FlagDefinition, candidate: str, control: str, now_s: float) -> None:
        """The flag was edited: new shares are tested anew, and for half an hour it is watched what they do to both."""
        before = self._shares
        self._deal(definition, candidate, control)
        if self._shares == before:
            return
        self._pooled = None
        if self._calls >= _KNOWN:
            rate = _FACTOR * upper_limit(self._failures, self._calls)
            if rate < 1:
                self._pooled, self._until_s = SloEProcess(rate), now_s + _WATCHED_S
        self._calls = self._failures = 0
        self.interference = False

    def rest(self, resting: bool) -> None:
        """The candidate is not served from here on, or is again. Any thread."""
        if self.resting and not resting:
            self._deal_anew()
        self.resting = resting

    def begun(self, rule: str, arm: int, cell: int) -> bool:
        """A compared call has begun; return whether the shares have just been found to be wrong.

        cell: of its unit, from 0 to 65,535. Of units that share one the first counts, whatever its arm.
        """
        if self._seen[cell] or self.resting:
            return False
        self._seen[cell] = 1
        test = self._tests.get(rule)
        if test is None or self.mismatch:
            return False
        test.add(arm)
        self.mismatch = test.value >= _MISMATCH
        return self.mismatch

    def ended(self, failed: bool, now_s: float) -> bool:
        """A counted call of either arm has ended; return whether interference has just been found."""
        self._calls += 1
        self._failures += failed
        pooled = self._pooled
        if pooled is None:
            return False
        if now_s > self._until_s:
            self._pooled = None
            return False
        pooled.add(failed)
        self.interference = pooled.value >= _INTERFERENCE
        if self.interference:
            self._pooled = None
        return self.interference

    def _deal(self, definition: FlagDefinition, candidate: str, control: str) -> None:
        """The candidate's share of the units that are compared, where it is fixed: by one rule that deals them."""
        shares: dict[str, float] = {}
        dealing = [rule for rule in definition.rules if rule.by is not None]
        for rule in dealing if len(dealing) == 1 else ():  # who is left out by one may be let in by another
            rollout = rule.rollout
            if rollout is not None:
                if not rollout.steps and rule.serve == candidate and definition.default == control:
                    shares[rule.name] = rollout.threshold / 100_000
            else:
                weights = {share.variant: share.weight for share in rule.split}
                both = weights.get(candidate, 0) + weights.get(control, 0)
                shares[rule.name] = weights.get(candidate, 0) / both if both else 0.0
        self._shares = shares
        self._deal_anew()

    def _deal_anew(self) -> None:
        shares = self._shares
        self._tests = {name: SharesTest((1 - share, share)) for name, share in shares.items() if 0 < share < 1}
        self._seen = bytearray(_CELLS)
