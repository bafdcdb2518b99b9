"""``Trial``: one candidate on trial: everything that may speak against it, and what has spoken.

It puts together a count of both arms (``comparison``, or ``tally`` for a fleet's judge), the breaker for gross
failure, and the test against a known error rate where hardly any call is the control's. One thread at a time, the
guard's serial; ``may_probe`` and ``status`` are for any. It has no clock and serves nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple, Protocol

from flagkit.core.model import Hold
from flagkit.core.policy import GuardPolicy
from flagkit.production.breaker import Breaker
from flagkit.production.comparison import CONTROL, Evidence, Verdict, as_numbers
from flagkit.production.judge import words
from flagkit.production.power import expected_calls
from flagkit.production.sequential import SloEProcess, upper_limit
from flagkit.production.standing import GuardStatus
from flagkit.production.tally import Tally

#: Under this share of control calls hardly anything can be learnt from comparing.
_LEAST_CONTROL: Final = 0.1
#: Calls from which a rate, or a share of calls, is known well enough to go by.
_KNOWN: Final = 1000
_BASELINE_FACTOR: Final = 2.0
#: A regression of this ratio should be found within so many candidate calls; else the guard is underpowered.
_RATIO: Final = 5.0
_CALLS: Final = 100_000


class Counting(Protocol):
    """What counts the calls of both arms: ``comparison.Comparison`` or, for a fleet's judge, ``tally.Tally``."""

    def start(self, rule: str, arm: int, key: bytes) -> tuple[Any, ...]:
        """A handle: the arm, the cell of the unit, the group of the call, and what is its own.

        group: by which number among its unit's calls of the window it is; None: it does not count, or not any more.
        """
        ...

    def fails_first(self, handle: tuple[Any, ...]) -> bool:
        """Whether its failure, which is about to be told, is the first of its unit in the window."""
        ...

    def finish(self, handle: Any, failed: bool, seconds: float) -> None: ...
    def late(self, rule: str, arm: int, key: bytes) -> bool: ...
    def settle(self) -> None: ...
    def evidence(self) -> Evidence: ...

    @property
    def verdict(self) -> Verdict | None: ...
    @property
    def deadline_s(self) -> float: ...


class Finding(NamedTuple):
    """What a trial found out.

    kind: ``errors``, ``latency``, ``slo``, ``breaker``, ``mismatch`` or ``interference``. why: for people. evidence:
    plain numbers.
    latched: it stays until a higher revision; else it is tried again after ``wait_s``, for the ``tries``-th time.
    over: the candidate has turned out well after all, and is served again. alert: it is to be said, and no more.
    back: what is to be held, of ``interference``.
    """

    kind: str
    why: str
    evidence: Mapping[str, Any] = {}
    latched: bool = True
    wait_s: float = 0.0
    tries: int = 0
    over: bool = False
    alert: bool = False
    back: Hold | None = None


class Trial:
    """See the module.

    Args: alpha, what this candidate may spend of the policy's in this process. counting, counts and compares. chance, a
        random number from 0 to 1, for the breaker.
    """

    def __init__(
        self,
        flag: str,
        candidate: str,
        policy: GuardPolicy,
        alpha: float,
        counting: Counting,
        chance: Callable[[], float],
    ) -> None:
        self.flag = flag
        self.candidate = candidate
        self.counting = counting
        self.breaker = Breaker(chance)
        #: What is to be acted on. Whoever does takes it away.
        self.finding: Finding | None = None
        self._policy = policy
        self._alpha = alpha
        self._convicted = self._doubted = False
        #: Where there is no control: the test against the rate that is borne, and what is known of the control's.
        self._slo: SloEProcess | None = None
        self._blind = False
        #: Calls that have ended, and the control's failures; and what of it was looked at or told.
        self._controls = self._control_failures = self._candidates = 0
        self._looked = self._told = (0, 0)
        self._probes: list[None] = []
        self.start = counting.start

    # -- calls

    def finish(self, handle: Any, failed: bool, seconds: float) -> None:
        """A compared call has ended."""
        counting = self.counting
        counting.finish(handle, failed, seconds)
        if counting.verdict is not None and not self._convicted:
            self._convict(counting.verdict.kind, words(counting.verdict.kind, counting.evidence()))

    def control_ended(self, failed: bool) -> None:
        """A call of the control's has ended, whether or not it was compared."""
        self._controls += 1
        if failed:
            self._control_failures += 1
        if self.breaker.jury is not None and self.breaker.swear(failed):
            self._broken("the control fails as well: an outage, and not the candidate")

    def candidate_ended(self, failed: bool, key: bytes | None, now_s: float) -> None:
        """A call of the candidate's has ended, whether or not it was compared."""
        self._candidates += 1
        breaker = self.breaker
        if failed or not breaker.quiet:
            self._tell_of_controls(now_s)
            if breaker.candidate(failed, key, now_s):
                self._broken("the breaker: most of the latest calls failed")
            if breaker.state == "half_open":
                self._let_probe()
        if self._slo is not None:
            self._bear(failed)

    def late(self, rule: str, arm: int, key: bytes) -> None:
        """A failure was reported of a unit, after its calls."""
        if not self.counting.late(rule, arm, key):
            return
        if arm == CONTROL:
            self._control_failures += 1
        else:
            # Its call has been borne as one that went well: a failure besides is less than it was.
            self._bear(True)

    def abandoned(self) -> None:
        """A call of the candidate's has ended without a result."""
        self._let_probe()

    def killed(self, deaths: int, now_s: float) -> None:
        """So many processes have died with nothing but calls of the candidate under way."""
        if self.breaker.killed(now_s):
            self._broken(f"{deaths} processes died in calls of it")

    def take_over(self, tries: int, now_s: float) -> None:
        """Another process of the host had opened the breaker, and is gone."""
        self.breaker.take_over(tries, now_s)
        self._broken("the breaker, taken over from a process that is gone")

    def pass_time(self, now_s: float) -> None:
        """Let the breaker see the time, and see whether there is still a control."""
        self._tell_of_controls(now_s)
        if self.breaker.state == "open":
            self.breaker.pass_time(now_s)
            self._let_probe()
        self._look_for_controls()

    def settle(self, policy: GuardPolicy) -> None:
        """Rules or shares have changed."""
        self._policy = policy
        self.counting.settle()

    def doubt(self, why: str) -> None:
        """Something is wrong with what is compared: people are to know, and nothing is rolled back by comparing."""
        self._convicted = self._doubted = True
        self.finding = Finding("mismatch", why, as_numbers(self.counting.evidence()), alert=True)

    def collect(self) -> bytes:
        """What was counted for the fleet's judge since the last time; nothing of what cannot be compared."""
        counting = self.counting
        counted = counting.drain() if isinstance(counting, Tally) else b""
        return b"" if self._doubted else counted

    def hear(self, windows: tuple[int, int], pace: tuple[float, float] | None) -> None:
        """See ``Tally.windows``."""
        counting = self.counting
        if isinstance(counting, Tally):
            counting.windows(windows, pace)

    # -- for any thread

    def may_probe(self) -> bool:
        """Whether this call may try the candidate, half-open as its breaker is: one at a time. Raises: nothing."""
        if self.breaker.state != "half_open":
            return False
        try:
            self._probes.pop()
        except IndexError:
            return False
        return True

    @property
    def deadline_s(self) -> float:
        return self.counting.deadline_s

    def status(self, revision: int, why: str | None, held: str | None, known: bool) -> GuardStatus:
        """How it stands.

        why: of the trip, if one is in force; held: what of the flag is held, and why; known: whether units are
        dealt to the control, or a rate is given.
        """
        evidence = self.counting.evidence()
        relative = max(value / limit for value, limit in zip(evidence.evidence, evidence.limits, strict=True))
        return GuardStatus(
            self.flag,
            self.candidate,
            revision,
            self._state(why, held, known, evidence),
            evidence.calls,
            evidence.failures,
            relative,
            why if why is not None else held,
        )

    # -- within

    def _state(self, why: str | None, held: str | None, known: bool, evidence: Evidence) -> str:
        if self.breaker.state in ("open", "half_open"):
            return self.breaker.state
        if why is not None:
            return "tripped"
        if held is not None:
            return "held"
        if (self._blind or not known) and self._slo is None:
            return "blind"
        calls, failures = evidence.calls, evidence.failures
        if not all(calls):
            return "underpowered"
        rate, share = max(failures[0], 1) / max(calls[0], 2), calls[1] / sum(calls)
        tolerance = self._policy.error_tolerance
        needed = expected_calls(min(rate, 0.5), share, _RATIO + tolerance, alpha=self._alpha, tolerance=tolerance)
        return "judging" if needed is not None and needed < _CALLS else "underpowered"

    def _tell_of_controls(self, now_s: float) -> None:
        calls, failures = self._controls - self._told[0], self._control_failures - self._told[1]
        if calls:
            self._told = self._controls, self._control_failures
            self.breaker.controls(calls, failures, now_s)

    def _look_for_controls(self) -> None:
        """Compare while there is something to compare with; else go by the rate that is borne."""
        controls, candidates = self._controls - self._looked[0], self._candidates - self._looked[1]
        if controls + candidates < _KNOWN:
            return
        self._looked = self._controls, self._candidates
        self._blind = controls < _LEAST_CONTROL * (controls + candidates)
        if not self._blind:
            self._slo = None
        elif self._slo is None:
            known = _BASELINE_FACTOR * upper_limit(self._control_failures, self._controls)
            rate = max(self._policy.slo or 0.0, known if self._controls >= _KNOWN else 0.0)
            if 0 < rate < 1:
                self._slo = SloEProcess(rate)

    def _bear(self, failed: bool) -> None:
        """Hold a call of the candidate's against the rate that is borne, where that is what is gone by."""
        slo = self._slo
        if slo is not None and not self._convicted:
            slo.add(failed)
            if slo.value * self._alpha >= 1:
                self._convict("slo", f"fails more often than {slo.rate:.3%} of the calls")

    def _convict(self, kind: str, why: str) -> None:
        self._convicted = True
        self.finding = Finding(kind, why, as_numbers(self.counting.evidence()))

    def _broken(self, why: str) -> None:
        breaker = self.breaker
        if breaker.state == "closed":
            self._probes.clear()
            self.finding = Finding("breaker", why, over=True)
            return
        evidence = as_numbers(self.counting.evidence())
        latched = breaker.state == "latched"
        self.finding = Finding("breaker", why, evidence, latched, breaker.wait_s, breaker.tries)

    def _let_probe(self) -> None:
        if self.breaker.state == "half_open" and not self._probes:
            self._probes.append(None)
