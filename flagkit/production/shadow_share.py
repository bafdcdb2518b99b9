"""``Allowance``: how much a flag's candidates may compute, so that callers have the interpreter nearly for themselves.

What a run took of a processor is paid back by time in which none begins; a little may be taken ahead, so that the first
runs need not wait. While a run goes on, what the one before it took is kept aside for it: until it is known what a
candidate takes there is one at a time. Callers ask without a lock; pools ask again before a run, and say after it what
it took. It knows neither runs nor threads.
"""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock
from typing import Final

#: CPU time that may be taken ahead, seconds: five turns of a thread at the interpreter (``sys.getswitchinterval``).
AHEAD_S: Final = 0.025
#: What is kept aside for a run of which nothing is known, seconds: more than that, so that it is alone.
FIRST_S: Final = 0.05
#: The share at which nothing is held back.
_ALL: Final = 1


class Allowance:
    """See the module.

    Over any t seconds, runs that ended take at most ``AHEAD_S + share * t`` of CPU time, and what those that began last
    went beyond what was kept aside for them.

    Args: share, of one processor, over 0; from 1 on there is no bound. now_s, a monotonic clock, seconds.
    """

    __slots__ = ("_ahead_s", "_even_s", "_expected_s", "_now_s", "_share", "_writing")

    def __init__(self, share: float, now_s: Callable[[], float]) -> None:
        self._share = share
        self._now_s = now_s
        self._ahead_s = AHEAD_S / share
        #: When all that was taken, or kept aside, will be paid back.
        self._even_s = now_s()
        self._expected_s = FIRST_S
        self._writing = Lock()

    @property
    def spent(self) -> bool:
        """Whether no run may begin now. Any thread; never waits. Raises: nothing."""
        return self._share < _ALL and self._even_s - self._now_s() >= self._ahead_s

    def take(self) -> float | None:
        """CPU time kept aside for a run that begins now, seconds; None if none may. For threads of a pool."""
        with self._writing:
            if self.spent:
                return None
            self._even_s = max(self._even_s, self._now_s()) + self._expected_s / self._share
            return self._expected_s

    def settle(self, taken_s: float, cpu_s: float) -> None:
        """A run for which ``taken_s`` was kept aside has ended, and took ``cpu_s``. For threads of a pool."""
        with self._writing:
            self._even_s += (cpu_s - taken_s) / self._share
            self._expected_s = max(0.0, cpu_s)

    def after_fork(self) -> None:
        """In a forked child, where whoever writes now is not. Assigns only."""
        self._writing = Lock()
