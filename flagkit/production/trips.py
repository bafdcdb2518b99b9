"""``TripBook``: what has tripped or is held, as far as this process knows, and what that means for definitions in use.

A notice holds for one revision of a guard: a higher one in the definitions ends it, and nothing else in them does. Any
thread reads; writers replace whole values. It does not know where notices come from.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import TypeAlias

from flagkit.core.holds import Holds, hold_document, hold_text, read_hold
from flagkit.core.model import Definitions, FlagDefinition, Hold
from flagkit.core.policy import ROLLBACK, GuardPolicy
from flagkit.core.snapshot import Trips
from flagkit.production.host import Notice

#: The policy that a flag's guard goes by; None when it has no guard.
PolicyOf: TypeAlias = Callable[[FlagDefinition], GuardPolicy | None]


class TripBook:
    """See the module."""

    __slots__ = ("_policy_of", "notices")

    def __init__(self, policy_of: PolicyOf) -> None:
        self._policy_of = policy_of
        #: (Flag, candidate) -> the latest notice; candidate ``""``: of what is held.
        self.notices: Mapping[tuple[str, str], Notice] = {}

    def put(self, notice: Notice) -> bool:
        """Note a trip, or what is held beside what was held already; return whether that is news."""
        place = notice.flag, notice.candidate
        known = self.notices.get(place)
        if known is not None and not notice.candidate and known.revision == notice.revision:
            notice = _joined(known, notice)
        if known == notice or (known is not None and known.revision > notice.revision):
            return False
        self.notices = {**self.notices, place: notice}
        return True

    def drop(self, flag: str, candidate: str) -> None:
        """Forget a trip that is over."""
        self.notices = {place: notice for place, notice in self.notices.items() if place != (flag, candidate)}

    def trips(self, definitions: Definitions) -> Trips:
        """Flag -> candidate -> the variant that is served instead."""
        found: dict[str, dict[str, str]] = {}
        for flag, candidate, control, _ in self._in_force(definitions):
            found.setdefault(flag, {})[candidate] = control
        return found

    def holds(self, definitions: Definitions) -> Holds:
        """Flag -> which of its rules are held, at what, and why."""
        here = {flag for flag, candidate in self.notices if not candidate}
        held = [flag for key, flag in definitions.flags.items() if flag.held is not None or key in here]
        return {flag.key: hold for flag in held if (hold := self.hold_of(flag)) is not None}

    def hold_of(self, flag: FlagDefinition) -> Hold | None:
        """What is held of a flag; None: nothing is."""
        notice = self.notices.get((flag.key, ""))
        if notice is None and flag.held is None:
            return None
        policy = self._policy_of(flag)
        if policy is not None and policy.action != ROLLBACK:
            return None
        theirs, control = flag.held, flag.off if policy is None else control_of(flag, policy)
        if notice is not None and (policy is None or policy.revision <= notice.revision):
            ours = _hold_in(notice, control)
            if ours is not None:
                return ours._replace(rules={**(theirs.rules if theirs is not None else {}), **ours.rules})
        return theirs if theirs is None else theirs._replace(control=control)

    def held(self, definitions: Definitions) -> dict[str, str]:
        """Flag -> what is held at what, and why, for people."""
        return {key: f"{hold_text(hold)}: {hold.why}" for key, hold in self.holds(definitions).items()}

    def reasons(self, definitions: Definitions) -> dict[str, str]:
        """Flag -> what was rolled back and why, for people."""
        found: dict[str, list[str]] = {}
        for flag, candidate, _, why in self._in_force(definitions):
            found.setdefault(flag, []).append(f"{candidate}: {why}")
        return {flag: "; ".join(reasons) for flag, reasons in found.items()}

    def why(self, definitions: Definitions, flag: str, candidate: str) -> str | None:
        """Why a candidate is not served; None when it is."""
        known = definitions.flags.get(flag)
        one = definitions._replace(flags={} if known is None else {flag: known})
        return next((why for _, variant, _, why in self._in_force(one) if variant == candidate), None)

    def _in_force(self, definitions: Definitions) -> Iterator[tuple[str, str, str, str]]:
        flags = definitions.flags
        for key, flag in flags.items():
            if flag.tripped:
                policy = self._policy_of(flag)
                if policy is not None and policy.action == ROLLBACK:
                    control = control_of(flag, policy)
                    yield from (
                        (key, variant, control, why) for variant, why in flag.tripped.items() if variant != control
                    )
        for (key, candidate), notice in self.notices.items():
            known = flags.get(key)
            if known is None or not notice.kind or candidate not in known.variants or candidate in known.tripped:
                continue
            policy = self._policy_of(known)
            control = notice.control if notice.control in known.variants else known.off
            if (policy is None or policy.revision <= notice.revision) and candidate != control:
                yield key, candidate, control, notice.why


def _joined(known: Notice, notice: Notice) -> Notice:
    """What two notices of one flag hold: one of the two, if it has all of the other."""
    before, after = _hold_in(known, ""), _hold_in(notice, "")
    if before is None or after is None:
        return notice if before is None else known
    if after.rules.keys() <= before.rules.keys():
        return known
    if before.rules.keys() <= after.rules.keys():
        return notice
    both = hold_document(after._replace(rules={**after.rules, **before.rules}))
    # Later than both, so that the processes which know one of them take it for news.
    return notice._replace(held=json.dumps(both), at_ms=max(known.at_ms, notice.at_ms) + 1, owner=known.owner)


def _hold_in(notice: Notice, control: str) -> Hold | None:
    try:
        return read_hold(json.loads(notice.held), control, notice.why)
    except (ValueError, RecursionError):
        return None


def control_of(flag: FlagDefinition, policy: GuardPolicy) -> str:
    """The variant that the others are compared with, and that is served after a trip."""
    wanted = policy.control
    return wanted if wanted is not None and wanted in flag.variants else flag.off
