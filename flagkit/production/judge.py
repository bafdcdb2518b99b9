"""What a fleet's judge does: takes in what the processes counted, and says what every one of them is to know.

The same wherever it is done: in the service, and by the process whose turn it is where they meet in Redis. It owns the
form of policies and words on the way, which are JSON. Pure: times come in.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from flagkit.core.holds import read_hold
from flagkit.core.policy import GuardPolicy, expected_of
from flagkit.fleets import Counts, Judged, Trial
from flagkit.production.clocks import Evidence, as_numbers
from flagkit.production.pool import Pool

#: What of a policy a judge goes by; the rest is for who acts on its word.
_JUDGED: Final = ("alpha", "error_tolerance", "latency_tolerance", "calls_per_unit", "min_rate")
_MAX_WHY: Final = 200
#: What counts begin with that are none: a process says what it holds at an earlier step of a ramp.
_CLAIM: Final = b"\xffheld"
_MAX_CLAIM: Final = 2000


class Said(NamedTuple):
    """A word, read.

    windows, pace: for ``Tally.windows``. why: of a verdict; None without one. kind: ``errors`` or ``latency``.
    evidence: plain numbers. anew: what was known before could not be read, and the evidence is only what came since.
    made: by the counts of the process that is told this: it is the one to tell people. held: for ``read_claim``, what
    some process has found that is to be held; empty: nothing.
    """

    windows: tuple[int, int]
    pace: tuple[float, float] | None = None
    why: str | None = None
    kind: str = ""
    evidence: Mapping[str, Any] = {}
    anew: bool = False
    made: bool = False
    held: str = ""


def claim(rules: Mapping[str, Any], why: str) -> bytes:
    """To be handed in as counts: these rules are to be held by all (``core.holds.hold_document``). Empty: too many."""
    text = json.dumps({"why": why[:_MAX_WHY], "rules": rules}, separators=(",", ":"))
    return _CLAIM + text.encode() if len(text) <= _MAX_CLAIM else b""


def read_claim(held: str) -> tuple[dict[str, Any], str] | None:
    """The rules and the reason of what is held; None when it is none. Raises: nothing."""
    try:
        said = json.loads(held) if 0 < len(held) <= _MAX_CLAIM else {}
        rules, why = said["rules"], str(said["why"])[:_MAX_WHY]
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    return (rules, why) if read_hold(rules, "") is not None else None


def policy_text(policy: GuardPolicy, candidates: int) -> str:
    """The policy for one of so many candidates, for a judge."""
    settings = {name: getattr(policy, name) for name in _JUDGED}
    return json.dumps({**settings, "alpha": policy.alpha / candidates}, separators=(",", ":"))


class Sitting:
    """One trial being judged, for as long as somebody keeps it.

    Args: policy, of the guard, as JSON. state, of who judged before; one that cannot be read is as good as none.

    anew: that was the case.
    """

    def __init__(self, policy: str, state: bytes | None = None) -> None:
        self._pool = Pool(**_settings(policy))
        self.anew = False
        if state:
            try:
                self._pool.load(state)
            except ValueError:
                self.anew = True

    def take(self, counts: Counts) -> bool:
        """Take in counts; those that cannot be read are left out; return whether they could. Raises: nothing.

        A verdict is the end of it: nothing counts any more, and it stays what it was.
        """
        if self._pool.verdict is not None:
            return True
        if counts.counted.startswith(_CLAIM):
            return self._hold(counts.counted[len(_CLAIM) :].decode("utf-8", "replace"))
        try:
            self._pool.take(counts.process, counts.sequence, counts.counted, counts.received_s)
        except ValueError:
            return False
        return True

    def settle(self) -> None:
        """Rules or shares have changed."""
        self._pool.settle()

    def _hold(self, held: str) -> bool:
        """Take in what is to be held. What is held already stays as it is."""
        claimed, known = read_claim(held), read_claim(self._pool.held)
        if claimed is None:
            return False
        rules, why = claimed
        both = claim({**rules, **(known[0] if known is not None else {})}, why)
        if both and (known is None or not rules.keys() <= known[0].keys()):
            self._pool.held = both[len(_CLAIM) :].decode()
        return True

    @property
    def said(self) -> Said:
        """What is to be known now."""
        evidence, verdict = self._pool.evidence(), self._pool.verdict
        held = self._pool.held
        said = Said(evidence.windows, self._pool.pace, evidence=as_numbers(evidence), anew=self.anew, held=held)
        if verdict is None:
            return said
        return said._replace(why=words(verdict.kind, evidence), kind=verdict.kind)

    def state(self) -> bytes:
        """For who judges next."""
        return self._pool.dump()


def word_of(said: Said) -> str:
    """As it is told: for ``read_word``."""
    word: dict[str, Any] = {"windows": list(said.windows), "pace": said.pace, "evidence": said.evidence}
    if said.why is not None:
        word |= {"kind": said.kind, "why": said.why}
    if said.held:
        word["held"] = said.held
    word |= {name: True for name in ("anew", "made") if getattr(said, name)}
    return json.dumps(word, separators=(",", ":"))


def judge(trial: Trial, policy: str, state: bytes | None, counts: Sequence[Counts], now_s: float) -> Judged:  # noqa: ARG001
    """See ``fleets.Judge``: one sitting."""
    sitting = Sitting(policy, state)
    for each in counts:
        sitting.take(each)
    said = sitting.said
    return Judged(sitting.state(), word_of(said), said.why is not None)


def read_word(word: str) -> Said | None:
    """What a word says; None when it is none. Raises: nothing."""
    try:
        said = json.loads(word)
        long, short = (int(window) for window in said["windows"])
        why = said.get("why")
        evidence, pace = dict(said["evidence"]), said.get("pace")
        if pace is not None:
            p90, p99 = (float(seconds) for seconds in pace)
            pace = (p90, p99) if 0 < p90 <= p99 else None
        anew, made = said.get("anew") is True, said.get("made") is True
        held = said.get("held", "")
        held = held if isinstance(held, str) and read_claim(held) is not None else ""
        known = Said((long, short), pace, evidence=evidence, anew=anew, made=made, held=held)
        return known if why is None else known._replace(why=str(why)[:_MAX_WHY], kind=str(said["kind"]))
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError):
        return None


def words(kind: str, evidence: Evidence) -> str:
    """A verdict for people."""
    (calls, candidate_calls), (failures, candidate_failures) = evidence.calls, evidence.failures
    if kind == "errors":
        return f"fails more often: {candidate_failures} of {candidate_calls} calls, the control {failures} of {calls}"
    return f"slower than the control, in {candidate_calls} calls against {calls}"


def _settings(policy: str) -> dict[str, Any]:
    """What ``Pool`` is made with. What is wrong in a policy is as good as left out."""
    try:
        given = json.loads(policy)
        return {name: given[name] for name in _JUDGED if name in given and expected_of(name, given[name]) is None}
    except (ValueError, TypeError, RecursionError):
        return {}
