"""What a shadow run comes to, as frozen values: ``ShadowResult`` for ``publish``, ``ShadowStatus`` for the status.

Results hold the application's values and exceptions, for its own ``publish`` only: no repr shows them, and what leaves
the process is made of paths, digests, types and places (``shadow_tally``).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

MATCH: Final = "match"
MISMATCH: Final = "mismatch"
ERROR: Final = "error"
IGNORED: Final = "ignored"
TIMEOUT: Final = "timeout"
UNJUDGED: Final = "unjudged"
OUTCOMES: Final = (MATCH, MISMATCH, ERROR, IGNORED, TIMEOUT, UNJUDGED)
_LONGEST: Final = 160


class Observation(NamedTuple):
    """What one of the two did.

    value: what it returned, None if it raised. cleaned: what ``clean`` made of that, None without it.
    exception: what it raised, None if it returned. error: its type and place, never its message.
    wall_s: how long it took, seconds; None while nobody knows. cpu_s: CPU time of its thread in that; None where other
        work shares the thread (coroutines on the caller's loop).
    """

    value: Any = None
    cleaned: Any = None
    exception: BaseException | None = None
    wall_s: float | None = None
    cpu_s: float | None = None

    @property
    def error(self) -> str | None:
        return None if self.exception is None else place_of(self.exception)

    def __repr__(self) -> str:
        ended = "returned" if self.exception is None else f"raised {self.error}"
        return f"Observation({ended}, wall_s={self.wall_s}, cpu_s={self.cpu_s})"


class Difference(NamedTuple):
    """Where two results differ: a path such as ``$.items[3].price``, and a digest of what is there in each."""

    path: str
    control: str
    candidate: str


class ShadowResult(NamedTuple):
    """One call, run twice.

    outcome: ``match``; ``mismatch``; ``error``: one of the two raised, or they raised differently; ``ignored``: a
        mismatch that ``ignore`` knows; ``timeout``: over the budget; ``unjudged``: a function of the policy failed.
    first: ``control`` or ``candidate``: which of them ran first.
    differences: where they differ, at most ten places; empty unless it is a mismatch.
    failures: functions of the policy that raised, with the exception's type: ``compare: TypeError``.
    about: what the policy's ``about`` said of the call.
    """

    flag: str
    outcome: str
    control: Observation
    candidate: Observation
    first: str = "control"
    differences: tuple[Difference, ...] = ()
    failures: tuple[str, ...] = ()
    about: Any = None

    @property
    def matched(self) -> bool:
        """Whether there is nothing to look into: they agree, or are known not to."""
        return self.outcome in (MATCH, IGNORED)

    def __repr__(self) -> str:
        places = ", ".join(difference.path for difference in self.differences)
        return (
            f"ShadowResult({self.flag!r}, {self.outcome}, control={self.control}, candidate={self.candidate}"
            f"{f', at {places}' if places else ''}{f', failures={self.failures}' if self.failures else ''})"
        )


class ShadowStatus(NamedTuple):
    """The shadow runs of one flag in this process since the client was made.

    ``sampled == sum(outcomes.values()) + sum(dropped.values()) + pending``, once nothing is in between.

    sampled: calls that were drawn. outcomes: of those compared. pending: waiting or running.
    dropped: reason -> calls that were not: ``over_share``, the runs have computed as much as ``cpu_share`` lets them;
        ``queue_full``; ``hung``, every run is past its budget; ``busy``, as many as may run are running; ``no_thread``;
        ``copy_error``, ``when_error``, ``after_error``; ``never_run``, by whom ``after`` gave it to; ``interrupted``,
        the control did not end; ``closed``.
    errors: what candidates raised, by type and place -> how often. failures: what functions of the policy raised.
    control_p50_s ... candidate_p99_s: wall time of those that returned, seconds, within 2 %; None without any.
    control_cpu_s, candidate_cpu_s: CPU time, all runs together, seconds.
    """

    flag: str
    sampled: int
    outcomes: Mapping[str, int]
    dropped: Mapping[str, int]
    pending: int
    errors: Mapping[str, int]
    failures: Mapping[str, int]
    control_p50_s: float | None
    control_p99_s: float | None
    candidate_p50_s: float | None
    candidate_p99_s: float | None
    control_cpu_s: float
    candidate_cpu_s: float


def type_of(error: BaseException) -> str:
    """The exception's type, as its module and name say it; no more than 160 characters. Raises: nothing."""
    kind = type(error)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    return name[:_LONGEST]


def place_of(error: BaseException) -> str:
    """Type and place of an exception, ``ValueError at shop/price.py:12 in total``; never its message."""
    trace = error.__traceback__
    if trace is None:
        return type_of(error)
    while trace.tb_next is not None:
        trace = trace.tb_next
    code = trace.tb_frame.f_code
    file = "/".join(code.co_filename.split(os.sep)[-2:])
    return f"{type_of(error)} at {file}:{trace.tb_lineno} in {code.co_name}"[: 2 * _LONGEST]
