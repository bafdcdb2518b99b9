"""``Breaker``: trips on gross failure within a few calls, and tries by itself whether it is over.

A cumulative sum (CUSUM, Page 1954) of the candidate's failures, 5 % against 50 %: five in a row trip it, or thirteen
calls at 50 %; at the rate that is fine, once in 100,000 calls at most (Lorden 1971). Then it is open for a while, lets
single calls try (half-open, Wald's sequential test), and closes or opens again, after three tries for good. It does not
blame the candidate for an outage. Pure: the time comes in. One thread at a time.
"""

from __future__ import annotations

from collections.abc import Callable
from math import log
from typing import Final, Literal, TypeAlias

State: TypeAlias = Literal["closed", "open", "half_open", "latched"]

_FINE: Final = 0.05
_GROSS: Final = 0.5
_LIMIT: Final = log(1e5) - 1e-9  # five failures in a row are exactly that
#: At this rate of failures in the control nobody is to blame but what both depend on.
_OUTAGE: Final = 0.3
_CLOSES: Final = log(0.01)
_REOPENS: Final = log(100) - 1e-9
_FIRST_WAIT_S: Final = 30.0
_LONGEST_WAIT_S: Final = 3600.0
_TRIES: Final = 3
_FORGET: Final = 1 - 1 / 64  # what a call leaves of what was known of the control's error rate
_RECENT_S: Final = 60.0
_JURY: Final = 8
_MOST_KEYS: Final = 8
#: Units that the candidate has served are told apart until there are so many.
_MET: Final = 2


class Breaker:
    """See the module.

    Args: chance, a random number from 0 to 1, by which waits vary by a fifth to either side.
    """

    __slots__ = (
        "_chance",
        "_control_rate",
        "_controls",
        "_failed_keys",
        "_keys",
        "_last_control_s",
        "_sum",
        "_until_s",
        "jury",
        "outage",
        "state",
        "tries",
        "wait_s",
    )

    def __init__(self, chance: Callable[[], float]) -> None:
        self._chance = chance
        self.state: State = "closed"
        #: Whether the failures it opened for were an outage's, as the control's own have shown.
        self.outage = False
        #: How often it has opened again.
        self.tries = 0
        #: How long it stays open, from when it opened, seconds.
        self.wait_s = 0.0
        self._until_s = 0.0
        self._sum = 0.0
        self._control_rate = 0.0
        self._controls = 0
        self._last_control_s = float("-inf")
        self._keys: set[bytes | None] = set()
        self._failed_keys: set[bytes | None] = set()
        #: How the control's first calls after it opened went, while these decide whose fault it is.
        self.jury: list[bool] | None = None

    @property
    def quiet(self) -> bool:
        """Whether a call of the candidate's that goes well is of no interest."""
        return self.state == "closed" and not self._sum and len(self._keys) >= _MET

    def candidate(self, failed: bool, key: bytes | None, now_s: float) -> bool:
        """A call of the candidate's has ended; return whether the state has changed."""
        if len(self._keys) < _MET:
            self._keys.add(key)
        if self.state == "closed":
            return self._watch(failed, key, now_s)
        if self.state == "half_open":
            return self._try(failed, now_s)
        return False

    def controls(self, calls: int, failures: int, now_s: float) -> None:
        """So many calls of the control's, 1 or more, have ended since the last time."""
        self._controls += calls
        weight = max(1 - _FORGET**calls, calls / self._controls)
        self._control_rate += weight * (failures / calls - self._control_rate)
        self._last_control_s = now_s

    def swear(self, failed: bool) -> bool:
        """A call of the control's has ended while there is a ``jury``; return whether the state has changed."""
        jury = self.jury
        if jury is None:
            return False
        jury.append(failed)
        if len(jury) < _JURY:
            return False
        self.jury = None
        if sum(jury) * 2 < _JURY or self.state == "latched":
            return False
        self.outage = True
        self._close()
        return True

    def killed(self, now_s: float) -> bool:
        """Processes died of the candidate's calls, as it seems; return whether the state has changed."""
        if self.state in ("open", "latched"):
            return False
        self._open(now_s)
        return True

    def take_over(self, tries: int, now_s: float) -> None:
        """Another process opened it, tried so often, and is gone: go on in its place."""
        self.tries = max(tries, self.tries)
        self._open(now_s)

    def pass_time(self, now_s: float) -> None:
        """Let it be tried again when it has been open for long enough."""
        if self.state == "open" and now_s >= self._until_s:
            self.state = "half_open"
            self._sum = 0.0

    def _watch(self, failed: bool, key: bytes | None, now_s: float) -> bool:
        if not failed and not self._sum:
            return False
        fine = max(_FINE, 3 * self._control_rate)
        if fine >= _OUTAGE:
            self._sum = 0.0
            return False
        self._sum = max(0.0, self._sum + _step(failed, fine))
        if not self._sum:
            self._failed_keys.clear()
        elif failed and len(self._failed_keys) < _MOST_KEYS:
            self._failed_keys.add(key)
        if self._sum < _LIMIT or len(self._failed_keys) < min(_MET, len(self._keys)):
            return False
        self._open(now_s)
        return True

    def _try(self, failed: bool, now_s: float) -> bool:
        self._sum += _step(failed, _FINE)
        if self._sum <= _CLOSES:
            self._close()
            return True
        if self._sum >= _REOPENS:
            self.tries += 1
            self._open(now_s)
            return True
        return False

    def _open(self, now_s: float) -> None:
        # Without a control just now there is no telling an outage from a bad candidate, until some have run.
        blind = self._controls < _JURY or now_s - self._last_control_s > _RECENT_S
        self.jury = [] if blind and self.state == "closed" else None
        self.outage = False
        self._sum = 0.0
        self._failed_keys.clear()
        if self.tries >= _TRIES:
            self.state = "latched"
            self.wait_s = 0.0
            return
        self.state = "open"
        self.wait_s = min(_LONGEST_WAIT_S, _FIRST_WAIT_S * 2**self.tries) * (0.8 + 0.4 * self._chance())
        self._until_s = now_s + self.wait_s

    def _close(self) -> None:
        self.state = "closed"
        self._sum = 0.0
        self.jury = None
        self._failed_keys.clear()


def _step(failed: bool, fine: float) -> float:
    return log(_GROSS / fine) if failed else log((1 - _GROSS) / (1 - fine))
