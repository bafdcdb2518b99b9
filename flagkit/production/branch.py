"""``Branch``: where a gate reports the calls that came to one decision. It is found on the decision, and made once.

``Serial`` is how calls of many threads are counted by code that is for one: whoever hands in work does all that waits,
unless somebody else is at it, so that nobody ever waits. ``guards`` makes the branches, and reads what they count.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Any, Final, Protocol

from flagkit.context import Context
from flagkit.production.metering import CROWD, SharedMeter


class Branch(Protocol):
    """What a gate tells. All of it is quick, never waits and never raises.

    A call that is ``patient``, as ``begin`` gives it, may have ``stretches``: who runs it keeps them up to date.

    by: finds the key of the unit that calls are counted by, when that is not the context's own; None: it is.
    """

    @property
    def by(self) -> Callable[[Context], bytes | None] | None: ...

    def begin(self, key: bytes | None, patient: bool = False) -> Any:
        """A call begins; return what ``end`` wants. ``key``: the unit's. ``patient``: it may take any time."""
        ...

    def end(self, call: Any, error: str | None = None, seconds: float | None = None) -> None:
        """It has ended. ``error``: what it failed of. ``seconds``: how long it took, if not since it began."""
        ...

    def leave(self, call: Any, died: bool = False) -> None:
        """It ends without a result, because the interpreter or its thread is being ended. ``died``: as a failure."""
        ...


class Stretches:
    """Of a call that may take any time: the stretches that run inside it, of which each may take so long.

    inside: whether one runs; turns: how many have begun. since: what the guard saw of them, and when.
    """

    __slots__ = ("inside", "since", "turns")

    def __init__(self) -> None:
        self.inside = False
        self.turns = 0
        self.since: tuple[int, float] | None = None


class Serial:
    """Has work done one piece at a time, in the order it came, by whichever thread is there.

    Args: do, takes pieces away from the left and does them, until there are none. failed, told what it raises, which
        costs the piece it was at and ends nothing otherwise.
    """

    __slots__ = ("_do", "_failed", "_turn", "append", "crowd", "work")

    def __init__(self, do: Callable[[deque[Any]], None], failed: Callable[[Exception], object], crowd: int) -> None:
        self._do = do
        self._failed = failed
        #: So many pieces of work may wait for somebody who is in no hurry.
        self.crowd = crowd
        self.after_fork()

    def after_fork(self) -> None:
        """Forget the parent's work. Assigns only."""
        self.work: deque[Any] = deque()
        #: Hands in work that may wait for the next ``drain``.
        self.append = self.work.append
        self._turn = threading.Lock()

    def drain(self) -> None:
        """Do what waits, or leave it to who is at it already. Raises: nothing."""
        work, turn = self.work, self._turn
        # Looked at again after the turn: what came while it was given back was left to us.
        while work and turn.acquire(False):
            try:
                self._do(work)
            except Exception as error:  # noqa: BLE001 - a caller's thread: a mistake in counting is not the caller's
                self._failed(error)
            finally:
                turn.release()


class Counted:
    """A branch whose calls are counted and judged by nobody."""

    __slots__ = ("_meter", "_now_s", "_times")

    by = None

    def __init__(self, meter: SharedMeter, now_s: Callable[[], float]) -> None:
        self._meter = meter
        self._times = meter.times
        self._now_s = now_s

    def begin(self, key: bytes | None, patient: bool = False) -> float:  # noqa: ARG002 - they are for who judges
        return self._now_s()

    def end(self, call: float, error: str | None = None, seconds: float | None = None) -> None:
        if error is None:  # ``SharedMeter.add``, without the call: it is on the way of every gated one
            times = self._times
            times.append(self._now_s() - call if seconds is None else seconds)
            if len(times) >= CROWD:
                self._meter.settle()
        else:
            self._meter.add(0.0, error)

    def leave(self, call: float, died: bool = False) -> None:
        pass


class Uncounted:
    """The branch of calls that count nowhere: overrides, probes, answers that are none."""

    __slots__ = ()

    by = None

    def begin(self, key: bytes | None, patient: bool = False) -> None:
        pass

    def end(self, call: None, error: str | None = None, seconds: float | None = None) -> None:
        pass

    def leave(self, call: None, died: bool = False) -> None:
        pass


UNCOUNTED: Final = Uncounted()
#: Of decisions that came about by an override in a prerequisite: they are nobody's own, and are counted nowhere.
BORROWED: Final = Uncounted()
