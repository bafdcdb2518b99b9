"""``ShadowTally``: what became of one flag's shadow runs: for the status, and as one summary event an interval.

Calls, runs and timers hand in what happened; whoever is there counts it (``Serial``), and nobody waits. The summary is
what came on top since the one before. Memory does not grow with calls. It knows no thread and no client.
"""

from __future__ import annotations

import json
from collections import Counter, deque
from collections.abc import Mapping
from threading import Lock
from typing import Any, Final, NamedTuple

from flagkit.boundary import contained
from flagkit.frozen import ReadOnly
from flagkit.production.branch import Serial
from flagkit.production.metrics import Meter, quantiles
from flagkit.production.shadow_result import IGNORED, MATCH, ShadowResult, ShadowStatus

SAMPLED: Final = object()
_CROWD: Final = 0
#: Kinds of errors, and of failures, told apart; further ones are counted together.
_MOST_KINDS: Final = 20
_OTHER: Final = "other"
#: Runs that a summary tells of one by one.
_MOST_EXAMPLES: Final = 3
_LONGEST_VALUE: Final = 512


class Failure(NamedTuple):
    """A function of the policy raised."""

    text: str


class ShadowTally:
    """See the module."""

    def __init__(self, flag: str) -> None:
        self._flag = flag
        self.faults = 0
        self._serial = Serial(self._count_all, self._failed, _CROWD)
        #: What the last summary went up to; CPU time of both apart.
        self._told: dict[str, Mapping[Any, int]] = {}
        self._told_cpu_s = (0.0, 0.0)
        self._clear()

    def after_fork(self) -> None:
        """In a forked child: count anew. Assigns only."""
        self._serial.after_fork()
        self._clear()

    def add(self, piece: object) -> None:
        """Count ``SAMPLED``, a reason for which a call was dropped, a ``ShadowResult``, or a ``Failure``.

        Any thread; never waits. Raises: nothing.
        """
        self._serial.append(piece)
        self._serial.drain()

    def status(self) -> ShadowStatus:
        """What was counted so far."""
        self._serial.drain()
        outcomes, dropped, sampled = self._outcomes.copy(), self._dropped.copy(), self._sampled
        control, candidate = self._control.read(), self._candidate.read()
        ended = sum(outcomes.values()) + sum(dropped.values())
        return ShadowStatus(
            flag=self._flag,
            sampled=sampled,
            outcomes=ReadOnly(outcomes),
            dropped=ReadOnly(dropped),
            pending=max(0, sampled - ended),
            errors=ReadOnly(self._errors.copy()),
            failures=ReadOnly(self._failures.copy()),
            control_p50_s=control.p50_s,
            control_p99_s=control.p99_s,
            candidate_p50_s=candidate.p50_s,
            candidate_p99_s=candidate.p99_s,
            control_cpu_s=self._control_cpu_s,
            candidate_cpu_s=self._candidate_cpu_s,
        )

    def summary(self) -> dict[str, Any] | None:
        """What came since the last summary, as properties of a metric event; None if nothing did, or if another
        thread is at it. Examples are told once."""
        self._serial.drain()
        if not self._turn.acquire(False):
            return None
        try:
            before, self._told = self._told, self._now()
            cpu_before_s, cpu_s = self._told_cpu_s, (self._control_cpu_s, self._candidate_cpu_s)
            self._told_cpu_s = cpu_s
            fresh = {name: _more(before[name], counts) for name, counts in self._told.items()}
            examples: list[dict[str, Any]] = []
            while self._examples and len(examples) < _MOST_EXAMPLES:
                examples.append(self._examples.popleft())
        finally:
            self._turn.release()
        if not any(fresh.values()):
            return None
        told: dict[str, Any] = {"feature_flag.key": self._flag, "sampled": fresh["calls"].get("sampled", 0)}
        told |= {name: fresh[name] for name in ("outcomes", "dropped", "errors", "failures") if fresh[name]}
        for name, before_s, now_s in zip(("control", "candidate"), cpu_before_s, cpu_s, strict=True):
            p50_s, p99_s = quantiles(fresh[name], (0.5, 0.99))
            if p50_s is not None:
                told |= {f"{name}_p50_s": p50_s, f"{name}_p99_s": p99_s, f"{name}_cpu_s": now_s - before_s}
        return {**told, **({"examples": examples} if examples else {})}

    # -- within

    def _clear(self) -> None:
        self._turn = Lock()
        self._sampled = 0
        self._outcomes: Counter[str] = Counter()
        self._dropped: Counter[str] = Counter()
        self._errors: Counter[str] = Counter()
        self._failures: Counter[str] = Counter()
        self._control, self._candidate = Meter(self._flag, "control"), Meter(self._flag, "candidate")
        self._control_cpu_s = self._candidate_cpu_s = 0.0
        self._told_cpu_s = (0.0, 0.0)
        self._examples: deque[dict[str, Any]] = deque(maxlen=_MOST_EXAMPLES)
        self._told = self._now()

    def _now(self) -> dict[str, Mapping[Any, int]]:
        return {
            "calls": {"sampled": self._sampled},
            "outcomes": self._outcomes.copy(),
            "dropped": self._dropped.copy(),
            "errors": self._errors.copy(),
            "failures": self._failures.copy(),
            "control": self._control.buckets.copy(),
            "candidate": self._candidate.buckets.copy(),
        }

    def _count_all(self, work: deque[Any]) -> None:
        while work:
            self._count(work.popleft())

    def _count(self, piece: Any) -> None:
        if piece is SAMPLED:
            self._sampled += 1
        elif isinstance(piece, ShadowResult):
            self._ended(piece)
        elif isinstance(piece, Failure):
            _put(self._failures, piece.text)
        else:
            self._dropped[piece] += 1

    def _ended(self, result: ShadowResult) -> None:
        control, candidate = result.control, result.candidate
        self._outcomes[result.outcome] += 1
        for meter, seen in ((self._control, control), (self._candidate, candidate)):
            if seen.wall_s is not None:
                meter.add(seen.wall_s, None if seen.exception is None else type(seen.exception).__name__)
        self._control_cpu_s += control.cpu_s or 0.0
        self._candidate_cpu_s += candidate.cpu_s or 0.0
        if candidate.error is not None:
            _put(self._errors, candidate.error)
        for failure in result.failures:
            _put(self._failures, failure)
        if result.outcome not in (MATCH, IGNORED) and len(self._examples) < _MOST_EXAMPLES:
            self._examples.append(_example(result))

    def _failed(self, _: Exception) -> None:
        self.faults += 1


def _put(counts: Counter[str], kind: str) -> None:
    counts[kind if kind in counts or len(counts) < _MOST_KINDS else _OTHER] += 1


def _more(before: Mapping[Any, int], now: Mapping[Any, int]) -> dict[Any, int]:
    return {key: count - before.get(key, 0) for key, count in now.items() if count > before.get(key, 0)}


def _example(result: ShadowResult) -> dict[str, Any]:
    """A run as a summary tells it: paths and digests, or what ``clean`` gave."""
    told: dict[str, Any] = {"outcome": result.outcome, "first": result.first}
    for name, seen in (("control", result.control), ("candidate", result.candidate)):
        times = {f"{name}_wall_s": seen.wall_s, f"{name}_cpu_s": seen.cpu_s}
        told |= {field: seconds for field, seconds in times.items() if seconds is not None}
        if seen.error is not None:
            told[f"{name}_error"] = seen.error
        if seen.cleaned is not None:
            # What has no JSON is told by its type: its repr may be anything, and as long as it likes.
            text = contained(json.dumps, seen.cleaned, otherwise=f"<{type(seen.cleaned).__name__}>")
            told[name] = text[:_LONGEST_VALUE]
    if result.differences and "control" not in told and "candidate" not in told:
        told["differences"] = [list(difference) for difference in result.differences]
    return told
