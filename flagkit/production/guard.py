"""``Guard``: watches one flag's candidates against its control, and says when one of them is to be rolled back.

It owns the calls under way, and hands each to the ``Trial`` of its candidate, or of all of them if it is the control's.
One thread at a time: its ``Serial`` sees to that. It neither serves nor stores anything: ``found`` is told, and acts.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Final

from flagkit.core.model import FlagDefinition
from flagkit.core.policy import GuardPolicy
from flagkit.production.branch import Serial, Stretches
from flagkit.production.call import ENDED, EXPIRED, MANY, NEW, PASSED, UNDER_WAY, Call, Sample
from flagkit.production.comparison import CANDIDATE, CONTROL
from flagkit.production.integrity import Integrity
from flagkit.production.marks import Mark
from flagkit.production.ramp import Ramp
from flagkit.production.trial import Finding, Trial

_HUNG: Final = "Hung"
_MISMATCH: Final = (
    "units do not come in the shares of the rollout, so that something else decides who is compared: "
    "nothing is rolled back by comparing any more"
)
#: Calls that may wait to be counted. A failure waits for nothing, nor does a call that tries whether all is well again.
_CROWD: Final = 32


class Guard:
    """See the module.

    Args: ramp, of the flag. processes, how many test by themselves. make, makes the trial of a candidate, by the
        policy. found, told what was found, on whichever thread is counting. failed, told what goes wrong inside.
    """

    def __init__(
        self,
        definition: FlagDefinition,
        policy: GuardPolicy,
        ramp: Ramp,
        processes: int,
        make: Callable[[FlagDefinition, GuardPolicy, str, int], Trial],
        found: Callable[[Guard, Trial, Finding], None],
        failed: Callable[[Exception], object],
    ) -> None:
        self.definition = definition
        self.policy = policy
        self._ramp = ramp
        self._processes = processes
        self._make = make
        self._found = found
        self.serial = Serial(self._count_all, failed, _CROWD)
        self.trials: dict[str, Trial] = {}
        self._lists: dict[str | None, list[Trial]] = {}
        self.sample = Sample()
        self._under_way: dict[Call, None] = {}
        self._packed: dict[str, bytes] = {}
        self.integrity: Integrity | None = None
        self._start()

    @property
    def control(self) -> str:
        """The variant that the others are compared with."""
        return self.policy.control or self.definition.off

    def after_fork(self) -> None:
        """In a forked child: what the parent saw, the parent judges. Assigns only."""
        self.serial.after_fork()
        self._under_way = {}
        self._packed = {}
        self._ramp.after_fork()
        self._start()

    def follow(self, definition: FlagDefinition, policy: GuardPolicy, now_s: float) -> None:
        """The flag has been edited: whoever is compared from now on is compared under the new rules and shares.

        A higher revision starts everything anew; anything else keeps what was found out.
        """
        anew = policy.revision > self.policy.revision or policy.control != self.policy.control
        self.definition, self.policy = definition, policy
        if anew:
            self.serial.append(lambda: self._anew(now_s))
        else:
            self.serial.append(lambda: self._settle(now_s))
        self.serial.drain()

    def expire(self, now_s: float) -> None:
        """End the calls that have hung for longer than anyone waits. One of the guards' thread's pieces of work."""
        self.serial.append(lambda: self._expire(now_s))
        self.serial.drain()

    def rest(self, resting: bool) -> None:
        """Its candidate is not served from here on, or is again."""
        integrity = self.integrity
        if integrity is not None:
            integrity.rest(resting)

    def died(self, marks: list[Mark], now_s: float) -> None:
        """A process has died with these calls of the flag under way."""
        self.serial.append(lambda: self._died(marks, now_s))
        self.serial.drain()

    def killed(self, candidate: str, deaths: int, now_s: float) -> None:
        """So many processes have died with nothing but calls of the candidate under way."""
        self._at(candidate, lambda trial: trial.killed(deaths, now_s))

    def take_over(self, candidate: str, tries: int, now_s: float) -> None:
        """Another process of the host had opened the candidate's breaker, and is gone."""
        self._at(candidate, lambda trial: trial.take_over(tries, now_s))

    def collect(self, candidate: str) -> bytes:
        """What was counted for the fleet since the last time, and has been packed."""
        self._at(candidate, self._pack)
        return self._packed.pop(candidate, b"")

    def hear(self, candidate: str, windows: tuple[int, int], pace: tuple[float, float] | None) -> None:
        """The fleet's judge is in these windows, and knows how long calls of the control take."""
        self._at(candidate, lambda trial: trial.hear(windows, pace))

    def renew(self) -> None:
        """Begin anew, because calls are counted in another way from here on."""
        self.serial.append(self._start)
        self.serial.drain()

    def late(self, candidate: str | None, rule: str, key: bytes) -> None:
        """A failure was reported of a unit that some call has served before. ``candidate``: None, by the control."""
        self.serial.append(lambda: self._late(candidate, rule, key))
        self.serial.drain()

    def _at(self, candidate: str, work: Callable[[Trial], None]) -> None:
        def do() -> None:
            trial = self.trials.get(candidate)
            if trial is not None:
                work(trial)
                self._tell(trial)

        self.serial.append(do)
        self.serial.drain()

    def trials_of(self, candidate: str | None) -> list[Trial]:
        """Who counts calls of a candidate, or of the control (None): lists that stay right."""
        return self._lists.setdefault(candidate, [])

    # -- in the serial

    def _count_all(self, work: deque[Call | Callable[[], None]]) -> None:
        take = work.popleft
        while work:
            piece = take()
            if type(piece) is not Call:
                piece()  # type: ignore[operator]
                continue
            if piece.stage == NEW:
                piece.stage = UNDER_WAY
                self._begin(piece)
                if piece.seconds is None:
                    self._under_way[piece] = None
                    continue
            elif piece.stage == UNDER_WAY and piece in self._under_way:
                del self._under_way[piece]
            elif piece.stage != PASSED:
                continue  # expired, counted already, or begun in the parent of this process
            piece.stage = ENDED
            if piece.seconds is None:
                self._drop(piece)
            else:
                self._end(piece, piece.error, piece.seconds, piece.began_s + piece.seconds)

    def _begin(self, call: Call) -> None:
        branch = call.branch
        rule, key = branch.rule, call.key
        if rule is None or key is None:
            return
        sample = self.sample
        sample.compared += 1
        if sample.compared >= MANY:
            sample.look(call.began_s)
        arm, trials = CONTROL if branch.candidate is None else CANDIDATE, branch.trials
        call.handles = handles = []
        for trial in trials:
            handles.append((trial, trial.start(rule, arm, key)))
        integrity = self.integrity
        if integrity is not None and handles:  # of a flag with one candidate
            trial, handle = handles[0]
            if not integrity.seen[handle[1]] and integrity.begun(rule, arm, handle[1]):
                trial.doubt(_MISMATCH)
                self._tell(trial)

    def _start(self) -> None:
        flag = self.definition
        candidates = candidates_of(flag, self.control)
        self.trials = {name: self._make(flag, self.policy, name, len(candidates)) for name in candidates}
        for trials in self._lists.values():
            trials.clear()
        self.trials_of(None)[:] = self.trials.values()
        for name, trial in self.trials.items():
            self.trials_of(name)[:] = [trial]
        # With several candidates a unit that is in neither of two arms is not missing from them.
        alone = len(candidates) == 1
        self.integrity = Integrity(flag, candidates[0], self.control, self._processes) if alone else None
        self.rest(bool(flag.tripped))

    def _pack(self, trial: Trial) -> None:
        # Should another thread be doing this just now, it is there the next time.
        self._packed[trial.candidate] = self._packed.get(trial.candidate) or trial.collect()

    def _anew(self, now_s: float) -> None:
        # What all arms together do has nothing to do with revisions: the rate before this step is known.
        self._ramp.look(self.definition, self.control, now_s)
        self._start()

    def _settle(self, now_s: float) -> None:
        self._ramp.look(self.definition, self.control, now_s)
        for trial in self.trials.values():
            trial.settle(self.policy)
            if self.integrity is not None:
                self.integrity.step(self.definition, trial.candidate, self.control)
                if self.definition.tripped:
                    self.rest(True)

    def _end(self, call: Call, error: str | None, seconds: float, now_s: float) -> None:
        branch = call.branch
        candidate, failed = branch.candidate, error is not None
        branch.meter.add(seconds, error)
        if call.handles:
            self._finish(call, failed, seconds)
        for trial in branch.trials:
            if candidate is None:
                trial.control_ended(failed)
            else:
                trial.candidate_ended(failed, call.key, now_s)
            if trial.finding is not None:
                self._tell(trial)

    def _finish(self, call: Call, failed: bool, seconds: float) -> None:
        # By the trials it began with: those of an earlier revision may have been replaced meanwhile.
        # A call of the control is one call to the ramp, however many candidates it is compared with.
        trial, own = call.handles[0]
        group = own[2] if not failed or trial.counting.fails_first(own) else None
        for each, its in call.handles:
            each.finish(its, failed, seconds)
        if group is not None and self._ramp.ended(group, call.branch.candidate is not None, failed, call.began_s):
            self._found(self, trial, self._interference())

    def _interference(self) -> Finding:
        evidence = self._ramp.evidence()
        (calls, candidate_calls), (failures, candidate_failures) = evidence["calls"], evidence["failures"]
        why = (
            f"all arms fail more often since the ramp's last step, {failures + candidate_failures} of "
            f"{calls + candidate_calls} calls, as if the candidate hurt what they share"
        )
        return Finding("interference", why, evidence, alert=True, back=self._ramp.back(self.control))

    def _drop(self, call: Call) -> None:
        """A call has ended without a result: it failed in nothing, and took no time that is known."""
        if call.handles:
            self._finish(call, False, 0.0)
        for trial in call.branch.trials:
            trial.abandoned()

    def _tell(self, trial: Trial) -> None:
        self.serial.crowd = 0 if any(each.breaker.state != "closed" for each in self.trials.values()) else _CROWD
        finding, trial.finding = trial.finding, None
        if finding is not None:
            self._found(self, trial, finding)

    def _expire(self, now_s: float) -> None:
        deadline_s = self.deadline_s
        for call in tuple(self._under_way):
            if now_s - call.began_s < deadline_s:
                break  # the others began later
            if call.stretches is None or _stuck(call.stretches, now_s, deadline_s):
                del self._under_way[call]
                call.stage = EXPIRED
                self._end(call, _HUNG, math.inf, now_s)
        self.sample.look(now_s)
        stepped = self._ramp.look(self.definition, self.control, now_s)  # by schedule: edits are followed
        for trial in self.trials.values():
            if stepped:
                trial.settle(self.policy)
            trial.pass_time(now_s)
            self._tell(trial)

    @property
    def deadline_s(self) -> float:
        """How long a call may take before it counts as failed and slow, seconds."""
        own_s = self.policy.deadline_s
        return own_s if own_s is not None else max((trial.deadline_s for trial in self.trials.values()), default=60.0)

    def _died(self, marks: list[Mark], now_s: float) -> None:
        for mark in marks:
            candidate, rule = mark.place["candidate"], mark.place["rule"]
            for trial in self.trials_of(candidate):
                if rule is not None:
                    arm = CONTROL if candidate is None else CANDIDATE
                    trial.finish(trial.start(rule, arm, mark.key), True, math.inf)
                if candidate is None:
                    trial.control_ended(True)
                else:
                    trial.candidate_ended(True, mark.key, now_s)
                self._tell(trial)

    def _late(self, candidate: str | None, rule: str, key: bytes) -> None:
        for trial in self.trials_of(candidate):
            trial.late(rule, CONTROL if candidate is None else CANDIDATE, key)
            self._tell(trial)


def candidates_of(flag: FlagDefinition, control: str) -> list[str]:
    """The variants that are on trial."""
    return [name for name in flag.variants if name not in (control, flag.off)]


def _stuck(stretches: Stretches, now_s: float, deadline_s: float) -> bool:
    """Whether what a reader asked of a generator has not come for too long, going by the rounds of the thread."""
    since = stretches.since
    if not stretches.inside or since is None or since[0] != stretches.turns:
        stretches.since = (stretches.turns, now_s) if stretches.inside else None
        return False
    return now_s - since[1] >= deadline_s


def place(
    definition: FlagDefinition, policy: GuardPolicy, candidate: str | None, rule: str | None
) -> Mapping[str, Any]:
    """What another process has to know of a call, to count it: see ``Marks.place``."""
    return {"flag": definition.key, "revision": policy.revision, "candidate": candidate, "rule": rule}
