"""The served definitions, ready to answer for those who do not decide themselves, in the words of OFREP 0.3.

Pure but for the clock that rollout steps are read on: the bytes of a request in, a status and what to say out. It knows
no keys: whether everybody may hear the answer (``clients_only``) is for the caller to say. ``publish``
is called by whichever thread changes the definitions, the answers are given by any.

Source: github.com/open-feature/protocol, service/openapi.yaml.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Final, NamedTuple, NoReturn

from flagkit.context import Context, as_context
from flagkit.core.model import UNIT, Definitions, FlagDefinition
from flagkit.core.snapshot import Snapshot
from flagkit.decision import Decision, ErrorCode, Reason
from flagkit.server.definitions import Served

MAX_CONTEXT_BYTES: Final = 64 * 1024
#: The protocol has no words for these two.
_REASONS: Final = {Reason.DEFAULT: "STATIC", Reason.STALE: "UNKNOWN"}
_STATUSES: Final = {None: 200, "FLAG_NOT_FOUND": 404}
_MISSING: Final = "the flag is dealt out by unit: the context needs a targetingKey"
_SENTENCES: Final = {
    ErrorCode.FLAG_NOT_FOUND: "there is no such flag",
    ErrorCode.PARSE_ERROR: "the flag's definition has mistakes and there is no good version of it",
    ErrorCode.INVALID_CONTEXT: "targetingKey: expected a string of 1 to 1,024 bytes of UTF-8",
    ErrorCode.GENERAL: "the flag could not be decided for this context",
}


class Answer(NamedTuple):
    """``status``: of HTTP. ``said``: the JSON object to answer with."""

    status: int
    said: dict[str, Any]


class _Unreadable(Exception):
    """A request without a usable context; ``code`` is the protocol's word."""

    def __init__(self, code: str, details: str) -> None:
        self.code = code
        super().__init__(details)


class Evaluation:
    """Answers from the definitions that are served. Any thread may ask; no lock is taken."""

    def __init__(self, now_ms: Callable[[], int]) -> None:
        self._snapshot = Snapshot(Definitions({}), now_ms=now_ms, ready=False)

    def publish(self, _: Served | None, after: Served) -> None:
        """Answer from these definitions from now on. One thread at a time."""
        trips = {key: _instead(flag) for key, flag in after.definitions.flags.items() if flag.tripped}
        holds = {
            key: flag.held._replace(control=_control(flag))
            for key, flag in after.definitions.flags.items()
            if flag.held is not None
        }
        self._snapshot = self._snapshot.following(after.definitions, trips=trips, holds=holds)

    def one(self, key: str, body: bytes, *, clients_only: bool) -> Answer:
        """The answer for one flag. Raises: nothing.

        clients_only: flags that are not for clients do not exist, and the names of rules, which may be those of
        customers, are not told.
        """
        snapshot = self._snapshot
        try:
            context = _context_in(body)
        except _Unreadable as error:
            return Answer(400, {"key": key, "errorCode": error.code, "errorDetails": str(error)})
        flag = snapshot.definitions.flags.get(key)
        if clients_only and (flag is None or not flag.client):
            return Answer(404, _failed(key, ErrorCode.FLAG_NOT_FOUND))
        said = _answer(snapshot, key, context, clients_only=clients_only)
        return Answer(_STATUSES.get(said.get("errorCode"), 400), said)

    def all(self, body: bytes, *, clients_only: bool) -> Answer:
        """The answers for all flags, in the order of the document. ``clients_only`` as above. Raises: nothing."""
        snapshot = self._snapshot
        try:
            context = _context_in(body)
        except _Unreadable as error:
            return Answer(400, {"errorCode": error.code, "errorDetails": str(error)})
        definitions = snapshot.definitions
        keys = [key for key, flag in definitions.flags.items() if flag.client or not clients_only]
        said: dict[str, Any] = {"flags": [_answer(snapshot, key, context, clients_only=clients_only) for key in keys]}
        if definitions.environment is not None:
            said["metadata"] = {"flagSetId": definitions.environment}
        return Answer(200, said)


def _context_in(body: bytes) -> Context:
    """The context of a request's body. Raises: _Unreadable."""
    try:
        request = json.loads(body.decode(), parse_constant=_not_json)
    except (ValueError, RecursionError):
        raise _Unreadable("PARSE_ERROR", "the body is not JSON in UTF-8") from None
    if not isinstance(request, dict):
        raise _Unreadable("PARSE_ERROR", "expected an object with a context")
    entries = request.get("context")
    if entries is None:
        entries = {}
    if not isinstance(entries, dict):
        raise _Unreadable("INVALID_CONTEXT", "context: expected an object")
    unit = entries.pop("targetingKey", None)
    entries.pop("unit", None)  # the protocol's word for it counts, and no attribute is mistaken for it
    if unit is not None:
        entries["unit"] = unit
    context = as_context(entries)
    if context._key is False or (unit is not None and not isinstance(unit, str)):
        raise _Unreadable("INVALID_CONTEXT", _SENTENCES[ErrorCode.INVALID_CONTEXT])
    return context


def _answer(snapshot: Snapshot, key: str, context: Context, *, clients_only: bool) -> dict[str, Any]:
    decision = snapshot.decide(key, context)
    if decision.error_code is not None:
        return _failed(key, decision.error_code)
    if context._key is None and decision.reason is Reason.DEFAULT and _needs_unit(snapshot, key, context):
        return {"key": key, "errorCode": "TARGETING_KEY_MISSING", "errorDetails": _MISSING}
    return _said(decision, clients_only=clients_only)


def _said(decision: Decision, *, clients_only: bool) -> dict[str, Any]:
    standard = decision.reason.standard
    reason = _REASONS.get(standard, standard.value)
    said: dict[str, Any] = {"key": decision.flag, "reason": reason}
    if decision.variant is not None:
        said["variant"] = decision.variant
    value = decision.value
    if value is not None:  # without one the caller's default applies, as it does for a null in ``client.value``
        said["value"] = value
    metadata = {"version": decision.version, "rule": None if clients_only else decision.rule}
    if reason != decision.reason.value:
        metadata["reason"] = decision.reason.value
    said["metadata"] = {name: text for name, text in metadata.items() if text is not None}
    return said


def _failed(key: str, code: ErrorCode) -> dict[str, Any]:
    code = code if code in _SENTENCES else ErrorCode.GENERAL
    return {"key": key, "errorCode": code.value, "errorDetails": _SENTENCES[code]}


def _needs_unit(snapshot: Snapshot, key: str, context: Context) -> bool:
    """Whether a unit, for which nothing else is different, could get something else than the default by its bucket."""
    bucketed = [rule.by for rule in snapshot.definitions.flags[key].rules if rule.by is not None]
    layer = snapshot.definitions.layer_of(key)
    if bucketed and layer is not None and layer.by == UNIT:
        return True
    # Any unit will do to find out whether a rule gets as far as asking for the bucket.
    somebody = Context("?", context.attributes, context.enrolments)
    return UNIT in bucketed and snapshot.decide(key, somebody).reason is not Reason.DEFAULT


def _instead(flag: FlagDefinition) -> dict[str, str]:
    """What is served instead of the variants of a flag that have tripped."""
    return dict.fromkeys(flag.tripped, _control(flag))


def _control(flag: FlagDefinition) -> str:
    return flag.guard.control if flag.guard is not None and flag.guard.control is not None else flag.off


def _not_json(constant: str) -> NoReturn:
    raise ValueError(constant)
