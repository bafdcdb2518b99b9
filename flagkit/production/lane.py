"""``Lane``: the way between the guards of this process and those of the rest of the fleet.

Once a second it hands in what was counted, judges if it is this process's turn, and hears the words. It is a lane of
its own: nothing of it is an event, nothing waits or is kept, and while the fleet cannot be reached the breakers go on
here. It knows no transport, and no mathematics but through ``judge``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, Literal, Protocol

from flagkit.core.model import FlagDefinition
from flagkit.core.policy import ROLLBACK
from flagkit.errors import FetchError
from flagkit.fleets import Counts, Fleet, Judged, Report
from flagkit.fleets import Trial as Place
from flagkit.production.guard import Guard
from flagkit.production.guards import Guards
from flagkit.production.judge import Said, claim, judge, policy_text, read_claim, read_word
from flagkit.production.told import Told

_STEP_S: Final = 1.0
#: At a step of a ramp most is at stake, and least is known: from then on exchanges are so far apart at first, and each
#: pause is longer than the one before by a tenth. Never by what was counted: that would choose where a block ends.
_FIRST_S: Final = 0.2
_LONGER: Final = 1.1
#: While the fleet does not answer, it is asked so often.
_PAUSE_S: Final = 5.0
_DEADLINE_S: Final = 5.0


class Noted(Protocol):
    """What hears how the fleet does: ``runtime.link.Link``."""

    def succeeded(self) -> None: ...
    def failed(self, to: Literal["failing"], error: str) -> None: ...
    def tell(self) -> None: ...


class Lane:
    """See the module.

    Args: owner, of this process. tell, told of a verdict if it was made here. gone, called when the fleet turns out to
        be none: the address leads to something that has no lane.
    """

    def __init__(
        self,
        guards: Guards,
        fleet: Fleet,
        link: Noted,
        owner: Callable[[], str],
        tell: Callable[[Told], None],
        gone: Callable[[], None],
    ) -> None:
        self._guards = guards
        self._fleet = fleet
        self._link = link
        self._owner = owner
        self._tell = tell
        self._gone = gone
        #: False once it is known that there is no lane.
        self.offered = True
        self.after_fork()

    def after_fork(self) -> None:
        """In a forked child: it is another process of the fleet. Assigns only."""
        self._sequence = 0
        self._guarded: Sequence[FlagDefinition] = ()
        self._pause_s = _STEP_S
        #: Verdicts that were made here, to be told of once they are heard, and those that people were told of.
        self._made: set[Place] = set()
        self._told: set[Place] = set()
        #: Trial -> the rules that the fleet's judge knows are held.
        self._known_held: dict[Place, frozenset[str]] = {}

    def step(self) -> float:
        """One exchange; return the seconds until the next."""
        if not self.offered:
            return 3600.0
        pause_s = self._next_pause_s()
        trials = {
            self._place(guard, name): guard for guard in tuple(self._guards.guards.values()) for name in guard.trials
        }
        if not trials:
            return pause_s
        self._told &= trials.keys()
        self._known_held = {place: rules for place, rules in self._known_held.items() if place in trials}
        self._sequence += 1
        reports = [
            Report(place, policy_text(guard.policy, len(guard.trials)), self._counted(place, guard))
            for place, guard in trials.items()
        ]
        try:
            heard = self._fleet.exchange(self._owner(), self._sequence, reports, self._judge, deadline_s=_DEADLINE_S)
        except FetchError as error:
            return self._failed(error)
        self._link.succeeded()
        self._link.tell()
        for place, word in heard:
            said, guard = read_word(word), trials.get(place)
            if said is not None and guard is not None:
                self._hear(place, guard, said)
        return pause_s

    def close(self) -> None:
        self._fleet.close()

    def _next_pause_s(self) -> float:
        guarded = self._guards.guarded
        if guarded != self._guarded:
            self._guarded, self._pause_s = guarded, _FIRST_S / _LONGER
        self._pause_s = min(self._pause_s * _LONGER, _STEP_S)
        return self._pause_s

    def _place(self, guard: Guard, candidate: str) -> Place:
        return Place(self._guards.environment, guard.definition.key, guard.policy.revision, candidate)

    def _counted(self, place: Place, guard: Guard) -> bytes:
        """What was counted; or, every other time, what is held here and the judge has not taken in yet."""
        if self._sequence % 2:
            rules, why = self._guards.held(guard)
            if rules and not rules.keys() <= self._known_held.get(place, frozenset()):
                claimed = claim(rules, why)
                if claimed:
                    return claimed
        return guard.collect(place.candidate)

    def _judge(self, place: Place, policy: str, state: bytes | None, counts: Sequence[Counts], now_s: float) -> Judged:
        judged = judge(place, policy, state, counts, now_s)
        if judged.final:
            self._made.add(place)
        return judged

    def _hear(self, place: Place, guard: Guard, said: Said) -> None:
        guard.hear(place.candidate, said.windows, said.pace)
        held = read_claim(said.held)
        self._known_held[place] = frozenset(held[0]) if held is not None else frozenset()
        if held is not None and guard.policy.action == ROLLBACK:
            self._guards.hold(guard, *held)
        if said.why is None:
            return
        notice = self._guards.notice_of(guard, place.candidate)._replace(kind=said.kind, why=said.why)
        if guard.policy.action == ROLLBACK:
            self._guards.enter(notice)
        if (said.made or place in self._made) and place not in self._told:
            self._made.discard(place)
            self._told.add(place)
            self._tell(Told(notice, said.evidence, guard.policy.action == ROLLBACK))

    def _failed(self, error: FetchError) -> float:
        self._link.failed("failing", f"{error.reason}: {error}")
        self._link.tell()
        if error.reason in ("http_404", "http_405"):
            self.offered = False
            self._gone()
        return max(_PAUSE_S, error.retry_after_s or 0.0)
