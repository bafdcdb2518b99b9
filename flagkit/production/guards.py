"""``Guards``: the guards of one client: which branch a decision's calls are reported to, and what becomes of findings.

Gates ask ``branch`` and ``probe``; whoever compiles definitions asks ``taken_back``. A finding becomes a notice here:
the control is served from the next call on, and whoever listens is told. The clockwork (``watch``) sees to the rest.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from flagkit.clock import Clock
from flagkit.context import Context
from flagkit.core.conditions import key_reader
from flagkit.core.holds import deals_to, hold_document
from flagkit.core.holds import held as held_at
from flagkit.core.model import UNIT, Definitions, FlagDefinition, Hold
from flagkit.core.policy import MAX_REVISION, ROLLBACK, GuardPolicy
from flagkit.core.snapshot import TakenBack
from flagkit.decision import Decision, Reason
from flagkit.errors import Problem
from flagkit.production.branch import UNCOUNTED, Branch, Counted
from flagkit.production.call import Guarded, Marking
from flagkit.production.guard import Guard, candidates_of, place
from flagkit.production.host import Notice
from flagkit.production.metering import SharedMeter
from flagkit.production.metrics import VariantMetrics
from flagkit.production.ramp import Ramp
from flagkit.production.standing import GuardStatus, untried
from flagkit.production.told import Told
from flagkit.production.trial import Finding, Trial
from flagkit.production.trips import TripBook, control_of

#: Pairs of flag and variant that are metered; a gate on a further one is not.
_MOST_METERS: Final = 10_000


class Guards:
    """See the module.

    Args: make, makes the trial of a candidate: definition, policy, candidate, number of candidates. tell, told of trips
        as they happen, on whichever thread is counting: quick, and raises nothing. owner: of this process. processes:
        how many of the service test by themselves.
    """

    def __init__(
        self,
        clock: Clock,
        make: Callable[[FlagDefinition, GuardPolicy, str, int], Trial],
        tell: Callable[[Told], None],
        owner: Callable[[], str],
        processes: int = 1,
    ) -> None:
        self._clock = clock
        self._processes = processes
        #: The clock that definitions go by.
        self.now_ms: Callable[[], int] = clock.wall_ms
        self._make = make
        self._tell = tell
        self._owner = owner
        #: Has taken into use that ``taken_back`` would answer otherwise than it did.
        self.retrip: Callable[[], None] = _nobody
        self._definitions = Definitions({})
        #: Flag -> a policy given in code, which goes before the definitions'.
        self.policies: dict[str, GuardPolicy] = {}
        self.book = TripBook(self.policy_of)
        self.marking = Marking()
        self.guards: dict[str, Guard] = {}
        #: Flag -> as it is written, what is held of it, and as it is served then.
        self._as_held: dict[str, tuple[FlagDefinition, Hold, FlagDefinition]] = {}
        self._meters: dict[tuple[str, str | None], SharedMeter] = {}
        #: Name of a metric event -> flags whose guards count it as a failure.
        self.metrics: Mapping[str, tuple[str, ...]] = {}
        #: Flags in use that have a guard, and whether there may be any.
        self.guarded: tuple[FlagDefinition, ...] = ()
        self.any = False
        #: Mistakes of the library's own while counting.
        self.faults = 0
        self._lock = threading.Lock()

    def after_fork(self) -> None:
        """In a forked child: count anew; what has tripped stays so. Assigns only."""
        self._lock = threading.Lock()
        self.marking.marks = self.marking.dying = None
        for meter in self._meters.values():
            meter.after_fork()
        for guard in self.guards.values():
            guard.after_fork()

    # -- for gates

    def branch(self, decision: Decision) -> Branch:
        """Where calls that came to ``decision`` are reported. Made at the first call, then found on it."""
        branch: Branch = decision._branch
        if branch is None:
            branch = decision._branch = self._branch(decision)
        return branch

    def probe(self, decision: Decision) -> Decision:
        """For a decision that a trip has changed: what it was, if this call is to try whether all is well again."""
        tried = decision._instead_of
        guard = self.guards.get(decision.flag)
        trial = guard.trials.get(tried._arm or "") if guard is not None and tried is not None else None
        return tried if trial is not None and tried is not None and trial.may_probe() else decision

    def late(self, event: str, context: Context, peek: Callable[[str, Context], Decision]) -> None:
        """A metric event was tracked: of guards that count it, the unit's call has failed."""
        for flag in self.metrics.get(event, ()):
            branch = self.branch(peek(flag, context))
            if isinstance(branch, Guarded) and branch.rule is not None:
                key = context._key if branch.by is None else branch.by(context)
                guard = self.guards.get(flag)
                if key and guard is not None and not context.synthetic:
                    guard.late(branch.candidate, branch.rule, key)

    # -- for whoever compiles definitions

    def taken_back(self, definitions: Definitions) -> TakenBack:
        """What is not served any more, and what is held. Called for every definitions that come into use."""
        return TakenBack(self.book.trips(definitions), self.book.holds(definitions))

    def policy_of(self, flag: FlagDefinition) -> GuardPolicy | None:
        """What a flag's guard goes by: the code's policy, else its own.

        Revisions of both are added up, so that a higher one in either is a new try.
        """
        ours = self.policies.get(flag.key)
        if ours is None or not _fits(ours, flag):
            return flag.guard
        if flag.guard is None or not flag.guard.revision:
            return ours
        return ours.revised(min(ours.revision + flag.guard.revision, MAX_REVISION))

    @property
    def problems(self) -> tuple[Problem, ...]:
        """Policies given in code that are not gone by."""
        flags, policies = self._definitions.flags, self.policies
        wrong = [
            (flags[key], policy) for key, policy in policies.items() if key in flags and not _fits(policy, flags[key])
        ]
        return tuple(
            Problem(
                f"$.flags.{flag.key}.guard.control",
                f'got "{policy.control}" in code; expected one of {", ".join(flag.variants)}; that policy is not used',
                flag.key,
                refused=False,
            )
            for flag, policy in wrong
        )

    def learn(self, definitions: Definitions) -> None:
        """These are in use now: see which guards there are, and what metrics they count."""
        metrics: dict[str, list[str]] = {}
        self._definitions = definitions
        flags = definitions.flags.values()
        self.guarded = tuple(flag for flag in flags if flag.guard is not None or flag.key in self.policies)
        self.any = bool(self.policies or self.guarded)
        for flag in self.guarded:
            policy = self.policy_of(flag)
            for event in policy.metrics if policy is not None else ():
                metrics.setdefault(event, []).append(flag.key)
        self.metrics = {event: tuple(flags) for event, flags in metrics.items()}

    def adopt(self, flag: str, policy: GuardPolicy) -> None:
        """Go by a policy given in code. Raises: nothing."""
        if isinstance(flag, str) and self.policies.get(flag) != policy:
            self.policies = {**self.policies, flag: policy}
            self.learn(self._definitions)

    def guard_of(self, flag: str) -> Guard | None:
        """The guard of a flag, made if it is not there yet; None when the flag has none."""
        guard, definition = self.guards.get(flag), self._definitions.flags.get(flag)
        if guard is not None or definition is None:
            return guard
        policy = self.policy_of(definition)
        with self._lock:
            return None if policy is None else self._guard(definition, policy)

    # -- findings

    def found(self, guard: Guard, trial: Trial, finding: Finding) -> None:
        """Act on what a trial found. On whichever thread is counting."""
        now_ms = self._clock.wall_ms()
        if finding.back is not None:
            self._go_back(guard, finding, finding.back)
            return
        blank = self.notice_of(guard, trial.candidate)
        if finding.over:
            self.withdraw(blank)
            return
        notice = blank._replace(
            kind=finding.kind,
            why=finding.why,
            at_ms=now_ms,
            latched=finding.latched,
            until_ms=now_ms + int(finding.wait_s * 1000),
            tries=finding.tries,
            owner=self._owner(),
        )
        rolled_back = guard.policy.action == ROLLBACK and not finding.alert
        if rolled_back:
            self.enter(notice)
        self._tell(Told(notice, finding.evidence, rolled_back))

    def _go_back(self, guard: Guard, finding: Finding, back: Hold) -> None:
        """A step of the ramp hurts all arms: hold the flag at the one before, beside what is held already."""
        held = hold_document(back) if guard.policy.action == ROLLBACK else {}
        if held:
            self.hold(guard, held, finding.why)
        notice = self.notice_of(guard, "")._replace(kind=finding.kind, why=finding.why)
        self._tell(Told(notice, finding.evidence, rolled_back=False, held=held))

    def hold(self, guard: Guard, rules: Mapping[str, Any], why: str) -> None:
        """Hold these rules (``hold_document``), unless they are held already."""
        known, _ = self.held(guard)
        if not rules.keys() <= known.keys():
            notice = self.notice_of(guard, "")._replace(kind="interference", why=why, at_ms=self._clock.wall_ms())
            self.enter(notice._replace(held=json.dumps({**rules, **known}), owner=self._owner()))

    def held(self, guard: Guard) -> tuple[Mapping[str, Any], str]:
        """The rules of a guard's flag that are held, as ``hold_document`` has them, and why."""
        written = self._definitions.flags.get(guard.definition.key)
        hold = self.book.hold_of(written) if written is not None else None
        return (hold_document(hold), hold.why) if hold is not None else ({}, "")

    def notice_of(self, guard: Guard, candidate: str) -> Notice:
        """A notice of a candidate, of which there is nothing to say yet."""
        flag, policy = guard.definition, guard.policy
        return Notice(self.environment, flag.key, policy.revision, candidate, control_of(flag, policy), "", "", 0)

    @property
    def environment(self) -> str:
        return self._definitions.environment or ""

    def enter(self, notice: Notice) -> bool:
        """Serve the control from here on; return whether that is news."""
        news = self.book.put(notice)
        if news:
            self._rest(notice, resting=True)
            self.retrip()
        return news

    def withdraw(self, notice: Notice) -> None:
        """A trip that others had put up is over."""
        self.book.drop(notice.flag, notice.candidate)
        self._rest(notice, resting=False)
        self.retrip()

    def _rest(self, notice: Notice, *, resting: bool) -> None:
        guard = self.guards.get(notice.flag)
        if guard is not None and notice.candidate:
            guard.rest(resting)

    # -- how it stands

    def drain(self) -> None:
        """Count what waits for it."""
        for guard in tuple(self.guards.values()):
            guard.serial.drain()

    @property
    def meters(self) -> tuple[VariantMetrics, ...]:
        self.drain()
        read = (meter.read() for meter in self._meters.copy().values())
        return tuple(metrics for metrics in read if metrics.calls)

    def summaries(self) -> Iterator[dict[str, Any]]:
        """What gates have counted since the last time: the properties of one metric event a flag and variant.

        For one thread at a time. What is not asked for waits, and is in the next one.
        """
        self.drain()
        for (flag, variant), meter in tuple(self._meters.items()):
            sums = meter.take()
            if sums is not None:
                names = {"feature_flag.key": flag, "feature_flag.result.variant": variant}
                yield {**names, **sums.to_json()}

    @property
    def states(self) -> tuple[GuardStatus, ...]:
        """How every candidate of the definitions in use stands, whether or not it has been called."""
        self.drain()
        held = self.book.held(self._definitions)
        found: list[GuardStatus] = []
        for flag in self.guarded:
            policy, guard = self.policy_of(flag), self.guards.get(flag.key)
            if policy is None:
                continue
            trials = guard.trials.copy() if guard is not None and guard.policy.revision >= policy.revision else {}
            control = control_of(flag, policy)
            known, hold = policy.slo is not None or deals_to(flag, control, self.now_ms()), held.get(flag.key)
            for name in candidates_of(flag, control):
                why, trial = self.book.why(self._definitions, flag.key, name), trials.get(name)
                if trial is None:
                    found.append(untried(flag.key, name, policy.revision, why, hold, known))
                else:
                    found.append(trial.status(policy.revision, why, hold, known))
        return tuple(found)

    # -- within

    def _branch(self, decision: Decision) -> Branch:
        flag, variant = decision.flag, decision._arm
        if variant is None or decision.reason is Reason.OVERRIDE:
            return UNCOUNTED
        with self._lock:
            meter = self._meters.get((flag, variant))
            if meter is None:
                if len(self._meters) >= _MOST_METERS:
                    return UNCOUNTED
                meter = self._meters[flag, variant] = SharedMeter(flag, variant)
            definition = self._definitions.flags.get(flag)
            policy = None if definition is None else self.policy_of(definition)
            targeted = decision.reason is Reason.TARGETING_MATCH and decision.rule is None
            if definition is None or policy is None or targeted:
                return Counted(meter, self._clock.monotonic_s)
            return self._guarded(decision, definition, policy, meter)

    def _guarded(
        self, decision: Decision, definition: FlagDefinition, policy: GuardPolicy, meter: SharedMeter
    ) -> Branch:
        guard = self._guard(definition, policy)
        candidate = decision._arm if decision._arm in guard.trials else None
        if candidate is None and decision._arm != guard.control:
            return Counted(meter, self._clock.monotonic_s)
        rule = decision.rule if decision.analysable else None
        by = next((each.by for each in definition.rules if each.name == rule), None)
        return Guarded(
            meter,
            guard.serial,
            guard.sample,
            self.marking,
            self._clock.monotonic_s,
            candidate=candidate,
            trials=guard.trials_of(candidate),
            rule=rule,
            place=place(definition, policy, candidate, rule),
            by=None if by is None or by == UNIT else key_reader(by),
        )

    def _guard(self, written: FlagDefinition, policy: GuardPolicy) -> Guard:
        guard, definition = self.guards.get(written.key), self._served(written)
        if guard is None:
            ramp = Ramp(definition, self.now_ms, self._processes)
            guard = Guard(definition, policy, ramp, self._processes, self._make, self.found, self._failed)
            self.guards[definition.key] = guard
            tripped = [name for name in guard.trials if self.book.why(self._definitions, definition.key, name)]
            guard.rest(bool(tripped))
        elif definition is not guard.definition or policy != guard.policy:
            guard.follow(definition, policy, self._clock.monotonic_s())
        return guard

    def _served(self, written: FlagDefinition) -> FlagDefinition:
        """A flag as it is served, with what is held of it: the same object as long as both are the same."""
        hold = self.book.hold_of(written)
        if hold is None:
            self._as_held.pop(written.key, None)
            return written
        known = self._as_held.get(written.key)
        if known is None or known[0] is not written or known[1] != hold:
            known = self._as_held[written.key] = written, hold, held_at(written, hold)
        return known[2]

    def _failed(self, _: Exception) -> None:
        self.faults += 1


def _fits(policy: GuardPolicy, flag: FlagDefinition) -> bool:
    return policy.control is None or policy.control in flag.variants


def _nobody() -> None:
    """Nothing is in use yet."""
