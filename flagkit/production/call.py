"""``Call``: one call through a guarded gate; ``Guarded``: the branch that makes them, on the callers' threads.

What a call says is counted by the ``Serial`` of its flag, in the order in which calls began; one that has ended by then
is counted at once. Marks, where they are kept, are set before the call runs. It knows nothing of how calls are judged.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from flagkit.context import Context
from flagkit.core.bucketing import digest
from flagkit.production.branch import Serial, Stretches
from flagkit.production.marks import NO_SLOT, Marks
from flagkit.production.metering import SharedMeter
from flagkit.production.trial import Trial

#: Where a call is on its way, as its guard knows.
NEW: Final = 0
UNDER_WAY: Final = 1
#: It took too long, and counts as failed whatever becomes of it.
EXPIRED: Final = 2
#: One of so many that its unit is not compared.
PASSED: Final = 3
#: It has ended, and is counted.
ENDED: Final = 4
#: Compared calls a second, in one process and of one flag, beyond which a sample says as much.
_MOST_A_SECOND: Final = 2_000
_MOST_MASK: Final = 0xFFFF
#: How often it is looked at that rate, seconds; at once when so many calls have been compared since.
_LOOK_S: Final = 0.5
MANY: Final = 5_000
#: Hashes units for the sample; a seed of its own.
_SEED: Final = 0x7361_6D70
#: Of a call that nobody compares.
_NO_HANDLES: Final[list[tuple[Trial, tuple[Any, ...]]]] = []


class Call:
    """One call.

    seconds: how long it took, None until it has ended; whoever ends it sets that last, and then hands the call in again
    unless it is still new, so that it is counted once, whoever is first.
    error: what it failed of. left: it ended without a result. stage: where it is on its way. slot: of its mark.
    stretches: of a generator. handles: the trials that compare it, each with its handle for it; the guard fills it in.
    """

    __slots__ = ("began_s", "branch", "error", "handles", "key", "left", "seconds", "slot", "stage", "stretches")

    def __init__(self, branch: Guarded, key: bytes | None, began_s: float, patient: bool) -> None:
        self.branch = branch
        self.key = key
        self.began_s = began_s
        self.stage = NEW
        self.seconds: float | None = None
        self.error: str | None = None
        self.left = False
        self.slot = NO_SLOT
        self.stretches = Stretches() if patient else None
        self.handles: list[tuple[Trial, tuple[Any, ...]]] = _NO_HANDLES


class Sample:
    """Which units of a flag are compared, when more call than are needed: those whose hash has none of ``mask``'s bits.

    Whoever fails is seen all the same, by the breaker. ``compared``: calls since the last look.
    """

    __slots__ = ("_looked_s", "compared", "mask")

    def __init__(self) -> None:
        self.mask = 0
        self.compared = 0
        self._looked_s: float | None = None

    def look(self, now_s: float) -> None:
        """Have fewer units compared, or more again, going by the calls since the last look."""
        since_s = self._looked_s
        if since_s is not None and self.compared < MANY and now_s - since_s < _LOOK_S:
            return
        self._looked_s = now_s
        compared, self.compared = self.compared, 0
        if since_s is None:
            return
        rate = compared / max(now_s - since_s, 1e-6)
        if rate < _MOST_A_SECOND / 4:
            self.mask >>= 1
        while rate > _MOST_A_SECOND and self.mask < _MOST_MASK:
            self.mask = self.mask << 1 | 1
            rate /= 2


class Marking:
    """The marks of this process, when it keeps any, shared by its guarded branches. ``marks`` may come and go.

    dying: the call that the process seems to end in. It keeps its mark until another one does.
    """

    __slots__ = ("dying", "marks")

    def __init__(self) -> None:
        self.marks: Marks | None = None
        self.dying: Call | None = None


class Guarded:
    """The branch of one decision of a guarded flag.

    candidate: whose calls they are; None: the control's, or calls that nobody is compared by.
    trials: those of the flag that count these calls; the guard keeps the list as it should be.
    rule: the stratum, when the unit was placed by a rollout or split of it and got what it was assigned; else None.
    by: finds the key of the unit that was placed, when that is not the context's own; None: it is.
    place: for marks: what says all this to another process.
    """

    __slots__ = (
        "_code",
        "_marking",
        "_now_s",
        "_sample",
        "_serial",
        "by",
        "candidate",
        "meter",
        "place",
        "rule",
        "trials",
    )

    def __init__(
        self,
        meter: SharedMeter,
        serial: Serial,
        sample: Sample,
        marking: Marking,
        now_s: Callable[[], float],
        *,
        candidate: str | None,
        trials: list[Trial],
        rule: str | None,
        place: Any,
        by: Callable[[Context], bytes | None] | None = None,
    ) -> None:
        self.meter = meter
        self.candidate = candidate
        self.trials = trials
        self.rule = rule
        self.place = place
        self.by = by
        #: The marks' word for ``place``, and whose marks that is.
        self._code: tuple[Marks, bytes] | None = None
        self._serial = serial
        self._sample = sample
        self._marking = marking
        self._now_s = now_s

    def begin(self, key: bytes | None, patient: bool = False) -> Call:
        call = Call(self, key, self._now_s(), patient)
        mask = self._sample.mask
        if mask and key is not None and digest(key, _SEED) & mask:
            call.stage = PASSED
        else:
            self._serial.append(call)
        marks = self._marking.marks
        if marks is not None:
            self._mark(marks, call)
        return call

    def end(self, call: Call, error: str | None = None, seconds: float | None = None) -> None:
        if seconds is None:
            seconds = self._now_s() - call.began_s
        if call.slot != NO_SLOT:
            self._clear(call)
        serial = self._serial
        call.error = error
        call.seconds = seconds
        if call.stage != NEW:
            serial.append(call)
        if error is not None or len(serial.work) > serial.crowd:
            serial.drain()

    def leave(self, call: Call, died: bool = False) -> None:
        """See ``Branch``. A call that hung until now, or in which the process dies, keeps its mark."""
        if call.slot != NO_SLOT and died:
            before, self._marking.dying = self._marking.dying, call
            if before is not None:
                self._clear(before)
        elif call.slot != NO_SLOT and call.stage != EXPIRED:
            self._clear(call)
        call.left = True
        self._serial.append(call)
        self._serial.drain()

    def _mark(self, marks: Marks, call: Call) -> None:
        known = self._code
        if known is None or known[0] is not marks:
            code = marks.place(self.place)
            if code is None:
                return
            known = self._code = (marks, code)
        call.slot = marks.set(known[1], call.key)

    def _clear(self, call: Call) -> None:
        marks = self._marking.marks
        if marks is not None:
            marks.clear(call.slot)
