"""The judge of a fleet whose processes meet here: what they counted, what is made of it, and what they are told.

A lane of its own beside the events: nothing of it is stored as an event. One thread calls it, off the event loop.
Evidence is kept in the database every few seconds, so that a restart goes on with it; a verdict is served with the
definitions, which is how it reaches everyone. ``reports`` reads what was sent.
"""

from __future__ import annotations

import json
import logging
import sqlite3
from collections import OrderedDict
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, Final

from flagkit.changes import Author
from flagkit.clock import Clock
from flagkit.core.holds import hold_text
from flagkit.core.model import FlagDefinition
from flagkit.core.policy import ROLLBACK
from flagkit.fleets import Counts, Trial
from flagkit.fleets.fleet import EXPIRES_S
from flagkit.production.judge import Sitting, policy_text, read_claim, word_of
from flagkit.server.chronicle import Chronicle
from flagkit.server.definitions import DefinitionsFile
from flagkit.server.reports import read_reports
from flagkit.server.store import Store

_log = logging.getLogger("flagkit")

#: In memory; 150 KiB each. Another one takes the place of the one that was heard of least recently.
_MOST_SITTINGS: Final = 500
_KEEP_S: Final = 5.0
#: So many states are packed in a second, at most: one takes 6 ms.
_KEPT_A_SECOND: Final = 10
#: So many wait to be written, at most; beyond that the disk hangs.
_MOST_WAITING: Final = 64
_MAX_WHY: Final = 128


class _Kept:
    """A sitting in memory, what it goes by, and when its state was last kept. ``maker``: whose counts convicted."""

    __slots__ = ("changed", "control", "definition", "kept_s", "maker", "policy", "sitting")

    def __init__(self, sitting: Sitting, definition: FlagDefinition, policy: str, control: str, now_s: float) -> None:
        self.sitting = sitting
        self.definition = definition
        self.policy = policy
        self.control = control
        self.kept_s = now_s
        self.changed = False
        self.maker: str | None = None


class Trials:
    """See the module."""

    def __init__(self, definitions: DefinitionsFile, chronicle: Chronicle, store: Store, clock: Clock) -> None:
        self._definitions = definitions
        self._chronicle = chronicle
        self._store = store
        self._clock = clock
        self._sittings: OrderedDict[Trial, _Kept] = OrderedDict()
        self._waiting: list[Future[None]] = []

    def now_s(self) -> float:
        """The time that ``exchange`` is told. Any thread."""
        return self._clock.monotonic_s()

    def exchange(self, wire: bytes, encoding: str, received_s: float) -> dict[str, Any]:
        """The answer to ``POST /v1/guards``: words on the trials that were reported, and which are not judged, and why.

        received_s: when it came in. What has waited for its turn until it expired is not counted.
        Raises: Refused with 400 (malformed), 413 or 415; nothing of it has counted then.
        """
        process, sequence, reports = read_reports(wire, encoding)
        now_s = self._clock.monotonic_s()
        expired = now_s - received_s > EXPIRES_S
        words, left_out = [], []
        for trial, policy, counted in reports:
            definition = self._definitions.served.definitions.flags.get(trial.flag)
            why = self._unjudged(trial, definition)
            if why is not None or definition is None:
                left_out.append({**trial._asdict(), "why": why})
                continue
            kept = self._attended(trial, definition, policy, now_s)
            if counted and not expired:
                open_before = kept.sitting.said.why is None
                if kept.sitting.take(Counts(process, sequence, now_s, counted)):
                    kept.changed = True
                else:
                    left_out.append({**trial._asdict(), "why": "the counts cannot be read by this version"})
                if open_before and kept.sitting.said.why is not None:
                    kept.maker = process
            said = kept.sitting.said
            words.append({**trial._asdict(), "word": word_of(said._replace(made=process == kept.maker))})
            if said.why is not None:
                self._roll_back(trial, kept, said.why)
            elif said.held:
                self._hold(trial, kept, said.held)
            if kept.changed and now_s - kept.kept_s >= max(_KEEP_S, len(self._sittings) / _KEPT_A_SECOND):
                self._keep(trial, kept)
        return {"words": words, "left_out": left_out}

    def states(self, flag: str | None = None) -> list[dict[str, Any]]:
        """How the trials of a flag, or of all, stand, as JSON values: those of guards in the definitions come first."""
        served, now_s = self._definitions.served.definitions, self._clock.monotonic_s()
        attended: dict[Trial, _Kept] = {}
        for definition in served.flags.values():
            if definition.guard is not None and flag in (None, definition.key):
                for candidate in _candidates(definition):
                    trial = Trial(served.environment or "", definition.key, definition.guard.revision, candidate)
                    attended[trial] = self._attended(trial, definition, "", now_s)  # as it was left, if it was
        for trial, kept in self._sittings.items():
            if flag in (None, trial.flag) and self._unjudged(trial, served.flags.get(trial.flag)) is None:
                attended.setdefault(trial, kept)
        return [self._state(trial, kept) for trial, kept in attended.items()]

    def close(self) -> None:
        """Keep what is not kept yet. Raises: nothing."""
        for trial, kept in self._sittings.items():
            if kept.changed:
                while len(self._waiting) >= _MOST_WAITING:
                    _waited(self._waiting.pop())
                self._keep(trial, kept)
        for future in self._waiting:
            _waited(future)

    # -- within

    def _unjudged(self, trial: Trial, definition: FlagDefinition | None) -> str | None:
        """Why a trial is none, by the definitions; None if it is one."""
        environment = self._definitions.served.definitions.environment or ""
        if trial.environment != environment:
            return f"the definitions are those of environment {environment!r}"
        if definition is None:
            return "the definitions have no such flag"
        if trial.candidate not in _candidates(definition):
            return "the flag has no such candidate"
        # A higher revision than theirs is that of a policy in code.
        if definition.guard is not None and trial.revision < definition.guard.revision:
            return f"the definitions have revision {definition.guard.revision}"
        return None

    def _attended(self, trial: Trial, definition: FlagDefinition, policy: str, now_s: float) -> _Kept:
        """The sitting of a trial, in the state it was left in, going by the definitions as they are now."""
        control = _control(definition)
        if definition.guard is not None:
            policy = policy_text(definition.guard, len(_candidates(definition)))
        kept = self._sittings.get(trial)
        if kept is not None and kept.control != control:  # other arms
            if kept.changed:
                self._keep(trial, kept)
            kept = None
        if kept is None:
            kept = self._sittings[trial] = self._sitting(trial, definition, policy, now_s)
            if len(self._sittings) > _MOST_SITTINGS:
                self._make_room(trial)
        elif kept.definition is not definition:
            if definition.guard is not None and kept.policy != policy:
                kept.sitting, kept.policy = Sitting(policy, kept.sitting.state()), policy
            if kept.definition.rules != definition.rules:
                kept.sitting.settle()
            kept.definition = definition
        self._sittings.move_to_end(trial)
        return kept

    def _sitting(self, trial: Trial, definition: FlagDefinition, policy: str, now_s: float) -> _Kept:
        control = _control(definition)
        sitting = Sitting(policy, self._remembered(trial, control))
        if sitting.anew:
            _log.warning("the evidence on %s of %s is of no use here, and begins anew", trial.candidate, trial.flag)
        return _Kept(sitting, definition, policy, control, now_s)

    def _make_room(self, newest: Trial) -> None:
        """Whatever is reported of policies in code, guards of the definitions go last."""
        unguarded = (
            trial for trial, kept in self._sittings.items() if kept.definition.guard is None and trial != newest
        )
        gone = next(unguarded, None) or next(iter(self._sittings))
        kept = self._sittings.pop(gone)
        if kept.changed:
            self._keep(gone, kept)

    def _roll_back(self, trial: Trial, kept: _Kept, why: str) -> None:
        definition, guard = kept.definition, kept.definition.guard
        if guard is None or guard.revision != trial.revision or guard.action != ROLLBACK:
            return
        if trial.candidate not in definition.tripped:
            self._keep(trial, kept)
            with self._chronicle.ordered(trial.flag, Author("guard", why, "trip")):
                self._definitions.trip(trial.flag, trial.revision, trial.candidate, why[:_MAX_WHY])

    def _hold(self, trial: Trial, kept: _Kept, held: str) -> None:
        definition, guard, claimed = kept.definition, kept.definition.guard, read_claim(held)
        if claimed is None or guard is None or guard.revision != trial.revision or guard.action != ROLLBACK:
            return
        rules, why = claimed
        known = {rule.name for rule in definition.rules} - (definition.held.rules.keys() if definition.held else set())
        new = {name: dealing for name, dealing in rules.items() if name in known}
        if new:
            with self._chronicle.ordered(trial.flag, Author("guard", why, "hold")):
                self._definitions.hold(trial.flag, trial.revision, new, why[:_MAX_WHY])

    def _state(self, trial: Trial, kept: _Kept) -> dict[str, Any]:
        definition, guard, said = kept.definition, kept.definition.guard, kept.sitting.said
        of_file = guard is not None and guard.revision == trial.revision
        served = definition.tripped.get(trial.candidate) if of_file else None
        if served is not None:
            state = "tripped"
        elif said.why is not None:
            state = "found"
        elif of_file and definition.held is not None:
            state, served = "held", f"{hold_text(definition.held)}: {definition.held.why}"
        else:
            state = "judging" if any(said.evidence["calls"]) else "waiting"
        named = {"control": kept.control, "action": None if guard is None else guard.action, "state": state}
        return {**trial._asdict(), **named, "why": said.why or served, **said.evidence}

    def _remembered(self, trial: Trial, control: str) -> bytes | None:
        try:
            return self._store.trial(_place(trial, control))
        except sqlite3.Error as error:
            _log.warning(
                "the evidence on %s of %s cannot be read, and begins anew: %s", trial.candidate, trial.flag, error
            )
            return None

    def _keep(self, trial: Trial, kept: _Kept) -> None:
        """Have its state written. The store says itself when it cannot; what is in memory goes on."""
        self._waiting = [future for future in self._waiting if not future.done()]
        if len(self._waiting) < _MOST_WAITING:
            kept.kept_s, kept.changed = self._clock.monotonic_s(), False
            place = _place(trial, kept.control)
            self._waiting.append(self._store.remember(place, kept.sitting.state(), self._clock.wall_ms()))


def _control(definition: FlagDefinition) -> str:
    return definition.guard.control or definition.off if definition.guard is not None else definition.off


def _candidates(definition: FlagDefinition) -> list[str]:
    spared = (_control(definition), definition.off)
    return [name for name in definition.variants if name not in spared]


def _waited(future: Future[None]) -> None:
    with suppress(sqlite3.Error):
        future.result()


def _place(trial: Trial, control: str) -> str:
    return json.dumps([*trial, control])
