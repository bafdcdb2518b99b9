"""The contract of a fleet: the processes of one service count together, and hear one verdict.

Owns the protocol and its values. A fleet moves counts and verdicts and understands neither: what is in ``counted``, in
a ``State`` and in ``Judged`` is ``production``'s. Nothing of it is an event: what is old is dropped, and missing counts
delay a verdict and never make one. The guards' thread calls it, once a second at most.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol, TypeAlias, runtime_checkable

#: Counts older than this are worth nothing: they would meet others of another time. Seconds.
EXPIRES_S = 60.0


class Trial(NamedTuple):
    """What is judged as one: a candidate of a flag's, in one revision of its guard."""

    environment: str
    flag: str
    revision: int
    candidate: str


class Report(NamedTuple):
    """What one process counted for a trial since its last report; ``counted`` may be empty.

    policy: the guard's policy as JSON text, for a judge that does not know it from the definitions.
    """

    trial: Trial
    policy: str
    counted: bytes


class Counts(NamedTuple):
    """A report as it reached the judge: ``sequence`` numbers those of one ``process``, so that none counts twice."""

    process: str
    sequence: int
    received_s: float
    counted: bytes


class Judged(NamedTuple):
    """What a judge says after some counts.

    state: all that it has to remember, for whoever judges next. word: what every process of the fleet is told, a JSON
    text of at most 4 KiB. final: nothing that is counted later changes it: the trial is not judged any more, and should
    the fleet lose the word, whoever has heard it puts it back.
    """

    state: bytes
    word: str
    final: bool = False


#: The trial's policy, the state of who judged before (None: nobody did), and what has been counted since -> what the
#: judge says now. ``now_s`` is on the clock of ``received_s``. Pure. Raises: nothing; bad counts are left out.
Judge: TypeAlias = "Callable[[Trial, str, bytes | None, Sequence[Counts], float], Judged]"


class Word(NamedTuple):
    """The latest word on a trial, by whichever process judged."""

    trial: Trial
    word: str


@runtime_checkable
class Fleet(Protocol):
    """Where processes count together. ``name``: for status and logs; no secret in it."""

    @property
    def name(self) -> str: ...

    def exchange(
        self, process: str, sequence: int, reports: Sequence[Report], judge: Judge, *, deadline_s: float
    ) -> Sequence[Word]:
        """Hand in what was counted, have it judged if this process's turn has come, and hear the latest words.

        Args:
            process: 32 hex digits, of this process alone, new after a fork. sequence: counts its exchanges, from 1; a
                repeated one is dropped where it was heard before.
            reports: one a trial that this process takes part in, those with nothing to count included.
            judge: for fleets in which the processes take turns; others have a judge of their own.
            deadline_s: the whole call ends in this time, seconds.

        Returns: words, at most one for each of the trials asked for; none where nobody has judged yet.
        Raises: FetchError, and nothing else. What was handed in may then have been counted, or not: it is not handed in
            again.
        """
        ...

    def close(self) -> None:
        """Let go of connections. May be called twice, and ``exchange`` may follow."""
        ...

    def after_fork(self) -> None:
        """In a forked child, before anything else: forget what belongs to the parent. No lock, no I/O, no logging."""
        ...
