"""The judge of a fleet whose processes meet here: what they counted, what is made of it, and what they are told.

A lane of its own beside the events: nothing of it is stored as an event. One thread calls ``exchange``, off the event
loop. Evidence is kept in the database every few seconds, so that a restart goes on with it; a verdict is served with
the definitions, which is how it reaches everyone. It knows no HTTP beyond the status of a refusal.
"""

from __future__ import annotations

import base64
import json
import logging
import re
import sqlite3
from collections import OrderedDict
from contextlib import suppress
from typing import Any, Final

from flagkit.changes import Author
from flagkit.clock import Clock
from flagkit.core.model import FlagDefinition
from flagkit.core.policy import ROLLBACK
from flagkit.fleets import Counts, Trial
from flagkit.production.judge import Sitting, policy_text, word_of
from flagkit.server.chronicle import Chronicle
from flagkit.server.definitions import DefinitionsFile
from flagkit.server.intake import Refused, decoded
from flagkit.server.store import Store

_log = logging.getLogger("flagkit")

MAX_GUARDS_BYTES: Final = 1024 * 1024
_MOST_REPORTS: Final = 200
_MOST_SITTINGS: Final = 500
_MAX_COUNTED: Final = 64 * 1024
_MAX_TEXT: Final = 256
_KEEP_S: Final = 5.0
_MOST: Final = 2**53
_process_id = re.compile(r"[0-9a-f]{32}").fullmatch


class _Kept:
    """A sitting in memory, and when its state was last kept."""

    __slots__ = ("changed", "definition", "kept_s", "sitting")

    def __init__(self, sitting: Sitting, now_s: float) -> None:
        self.sitting = sitting
        self.definition: FlagDefinition | None = None
        self.kept_s = now_s
        self.changed = False


class Trials:
    """See the module."""

    def __init__(self, definitions: DefinitionsFile, chronicle: Chronicle, store: Store, clock: Clock) -> None:
        self._definitions = definitions
        self._chronicle = chronicle
        self._store = store
        self._clock = clock
        self._sittings: OrderedDict[Trial, _Kept] = OrderedDict()

    def exchange(self, wire: bytes, encoding: str) -> dict[str, Any]:
        """The answer to ``POST /v1/guards``: words on the trials that were reported.

        Raises: Refused with 400 (malformed), 413 or 415.
        """
        process, sequence, reports = _read(wire, encoding)
        now_s = self._clock.monotonic_s()
        words = []
        for trial, policy, counted in reports:
            kept = self._attended(trial, policy, now_s)
            if kept is None:
                continue
            if counted:
                kept.sitting.take(Counts(process, sequence, now_s, counted))
                kept.changed = True
            said = kept.sitting.said
            if said.why is not None:
                self._roll_back(trial, said.why)
            words.append({**trial._asdict(), "word": word_of(said)})
            if kept.changed and now_s - kept.kept_s >= _KEEP_S:
                self._keep(trial, kept, now_s)
        return {"words": words}

    def states(self) -> list[dict[str, Any]]:
        """How every trial in memory stands, as JSON values. Any thread."""
        return [
            {**trial._asdict(), "why": said.why, **said.evidence}
            for trial, kept in tuple(self._sittings.items())
            for said in (kept.sitting.said,)
        ]

    def close(self) -> None:
        """Keep what is not kept yet. Raises: nothing."""
        for trial, kept in self._sittings.items():
            if kept.changed:
                self._keep(trial, kept, self._clock.monotonic_s())

    def _attended(self, trial: Trial, policy: str, now_s: float) -> _Kept | None:
        """The sitting of a trial; None when the definitions have another revision, or another environment."""
        served = self._definitions.served.definitions
        definition = served.flags.get(trial.flag)
        if definition is None or trial.environment != (served.environment or ""):
            return None
        if definition.guard is not None:
            if definition.guard.revision != trial.revision or trial.candidate not in definition.variants:
                return None
            control = definition.guard.control or definition.off
            candidates = [name for name in definition.variants if name not in (control, definition.off)]
            policy = policy_text(definition.guard, max(1, len(candidates)))
        kept = self._sittings.get(trial)
        if kept is None:
            kept = self._sittings[trial] = _Kept(Sitting(policy, self._remembered(trial)), now_s)
            if len(self._sittings) > _MOST_SITTINGS:
                oldest, gone = self._sittings.popitem(last=False)
                self._keep(oldest, gone, now_s)
        self._sittings.move_to_end(trial)
        if kept.definition is not None and kept.definition.rules != definition.rules:
            kept.sitting.settle()
        kept.definition = definition
        return kept

    def _roll_back(self, trial: Trial, why: str) -> None:
        definition = self._definitions.served.definitions.flags.get(trial.flag)
        if definition is None or definition.guard is None or definition.guard.action != ROLLBACK:
            return
        if trial.candidate not in definition.tripped:
            author = Author("guard", why, "trip")
            with self._chronicle.ordered(trial.flag, author):
                self._definitions.trip(trial.flag, trial.revision, trial.candidate, why[:128])

    def _remembered(self, trial: Trial) -> bytes | None:
        try:
            return self._store.trial(_place(trial))
        except sqlite3.Error as error:
            _log.warning(
                "the evidence on %s of %s cannot be read, and begins anew: %s", trial.candidate, trial.flag, error
            )
            return None

    def _keep(self, trial: Trial, kept: _Kept, now_s: float) -> None:
        kept.kept_s, kept.changed = now_s, False
        with suppress(sqlite3.Error):  # the store says so itself; what is in memory goes on
            self._store.remember(_place(trial), kept.sitting.state(), self._clock.wall_ms()).result()


def _place(trial: Trial) -> str:
    return json.dumps(trial)


def _read(wire: bytes, encoding: str) -> tuple[str, int, list[tuple[Trial, str, bytes]]]:
    """Process, sequence and reports of a request. Raises: Refused."""
    try:
        asked = json.loads(decoded(wire, encoding))
        process, sequence, reports = asked["process"], asked["sequence"], asked["reports"]
    except (ValueError, TypeError, LookupError, RecursionError):
        raise Refused(400, "expected an object with process, sequence and reports") from None
    if not isinstance(process, str) or not _process_id(process):
        raise Refused(400, "process: expected 32 hex digits")
    if isinstance(sequence, bool) or not isinstance(sequence, int) or not 0 <= sequence < _MOST:
        raise Refused(400, "sequence: expected a whole number, 0 or more")
    if not isinstance(reports, list) or len(reports) > _MOST_REPORTS:
        raise Refused(400, f"reports: expected a list of at most {_MOST_REPORTS}")
    return process, sequence, [_report(report, index) for index, report in enumerate(reports)]


def _report(report: Any, index: int) -> tuple[Trial, str, bytes]:
    try:
        trial = Trial(report["environment"], report["flag"], report["revision"], report["candidate"])
        policy, counted = report["policy"], base64.b64decode(report["counted"], validate=True)
    except (ValueError, TypeError, LookupError):
        raise Refused(
            400, f"reports[{index}]: expected environment, flag, revision, candidate, policy, counted"
        ) from None
    texts = (trial.environment, trial.flag, trial.candidate)
    if not all(isinstance(text, str) and len(text) <= _MAX_TEXT for text in texts) or not isinstance(policy, str):
        raise Refused(400, f"reports[{index}]: expected texts of at most {_MAX_TEXT} characters")
    if isinstance(trial.revision, bool) or not isinstance(trial.revision, int) or not 0 <= trial.revision < _MOST:
        raise Refused(400, f"reports[{index}].revision: expected a whole number, 0 or more")
    if len(counted) > _MAX_COUNTED or len(policy) > 16 * _MAX_TEXT:
        raise Refused(413, f"reports[{index}]: too large")
    return trial, policy, counted
