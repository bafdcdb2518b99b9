"""How long to leave a failing server alone: one curve for polls and deliveries.

Full jitter, drawn after the cap, so that a fleet which failed together does not come back together. It keeps
count of failures and nothing else; the poller, the delivery and the worker each own one.
"""

from __future__ import annotations

from random import Random, SystemRandom
from typing import Final

#: Where jitter comes from unless a test says otherwise. It has no state, so forked processes do not draw alike.
SYSTEM_RANDOM: Final = SystemRandom()

LASTING_BASE_S: Final = 60.0
LASTING_CAP_S: Final = 900.0
_PATIENCE: Final = 5
_MOST_DOUBLINGS: Final = 32


class Backoff:
    """The pause after each failure in a row.

    Normal failures: between half an interval and ``min(cap, interval * 2**n)`` after the n-th, anywhere. Lasting ones
    (a wrong key, an unknown address): ``U(0.5, 1) * min(15 min, 1 min * 2**n)``. Both start again at the first success.

    Args: interval_s and cap_s in seconds; ceiling_s: the longest a server's own wish (Retry-After) is heeded, seconds.
        probe_s: from the fifth normal failure in a row, the pauses are between this and a fifth more, seconds; None:
        the curve goes on.
    """

    __slots__ = ("_cap_s", "_ceiling_s", "_interval_s", "_lasting", "_normal", "_probe_s", "_random")

    def __init__(
        self,
        interval_s: float,
        cap_s: float,
        random: Random,
        *,
        ceiling_s: float = LASTING_CAP_S,
        probe_s: float | None = None,
    ) -> None:
        self._interval_s = interval_s
        self._cap_s = cap_s
        self._ceiling_s = ceiling_s
        self._probe_s = probe_s
        self._random = random
        self.succeeded()

    @property
    def failures(self) -> int:
        """Failures since the last success."""
        return self._normal + self._lasting

    def succeeded(self) -> None:
        self._normal = self._lasting = 0

    def failed(self, retry_after_s: float = 0.0, *, lasting: bool = False) -> float:
        """Count a failure; return how long to wait now, seconds: at least ``retry_after_s``, up to the ceiling."""
        chance = self._random.random()
        floor_s = self._interval_s / 2
        if lasting:
            wait_s = (0.5 + chance / 2) * min(
                LASTING_CAP_S, LASTING_BASE_S * 2.0 ** min(self._lasting, _MOST_DOUBLINGS)
            )
            self._lasting += 1
        else:
            self._normal += 1
            # From the floor up, not cut off at it: those who drew less would come back together.
            least_s = floor_s
            most_s = max(floor_s, min(self._cap_s, self._interval_s * 2.0 ** min(self._normal, _MOST_DOUBLINGS)))
            if self._probe_s is not None and self._normal >= _PATIENCE:
                least_s, most_s = self._probe_s, 1.2 * self._probe_s
            wait_s = least_s + chance * (most_s - least_s)
        # Written so that NaN and negative wishes count as none; the jitter keeps those who were told the same apart.
        asked_s = min(retry_after_s, self._ceiling_s) if retry_after_s > 0 else 0.0
        return max(wait_s, asked_s + chance * floor_s if asked_s else 0.0)
