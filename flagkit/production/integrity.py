"""``Integrity``: whether a comparison can be trusted: whether units come in the shares they are dealt in.

Shares of units that are not as meant (a sample ratio mismatch) say that something else than the rollout decides who is
compared, and nothing is rolled back by comparing then. That arms may hurt each other is ``interference``'s matter. One
thread at a time, the guard's serial; it has no clock. Formulas: docs/guards.md.
"""

from __future__ import annotations

from typing import Final

from flagkit.core.model import FlagDefinition
from flagkit.production.sequential import SharesTest

_CELLS: Final = 65_536
_MISMATCH: Final = 1000.0


class Integrity:
    """Of one flag with one candidate, in one revision of its guard. ``processes``: how many test by themselves."""

    __slots__ = ("_limit", "_shares", "_tests", "mismatch", "resting", "seen")

    def __init__(self, definition: FlagDefinition, candidate: str, control: str, processes: int = 1) -> None:
        self._limit = _MISMATCH * processes
        #: By cell, whether a unit of it has been seen.
        self.seen = bytearray(_CELLS)
        #: The shares of units are not those of the rollout.
        self.mismatch = False
        #: The candidate is not served now, so that its units do not come at all.
        self.resting = False
        self._deal(definition, candidate, control)

    def step(self, definition: FlagDefinition, candidate: str, control: str) -> None:
        """The flag was edited: new shares are tested anew."""
        self._deal(definition, candidate, control)

    def rest(self, resting: bool) -> None:
        """The candidate is not served from here on, or is again. Any thread."""
        if self.resting and not resting:
            self._deal_anew()
        self.resting = resting

    def begun(self, rule: str, arm: int, cell: int) -> bool:
        """A compared call has begun; return whether the shares have just been found to be wrong.

        cell: of its unit, from 0 to 65,535. Of units that share one the first counts, whatever its arm.
        """
        if self.seen[cell] or self.resting:
            return False
        self.seen[cell] = 1
        test = self._tests.get(rule)
        if test is None or self.mismatch:
            return False
        test.add(arm)
        self.mismatch = test.value >= self._limit
        return self.mismatch

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
        self.seen = bytearray(_CELLS)
