"""``Ledger``: what clients recorded while a test's flags answered for them, in the order it came.

It stands where a client has its recording, and keeps everything in this process: no thread, no sink. What cannot be
recorded in production cannot be here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from flagkit.boundary import contained
from flagkit.context import Context
from flagkit.decision import Decision
from flagkit.events import encode_metric
from flagkit.runtime.stats import Account, LinkState

_MOST: Final = 100_000


class Exposed(NamedTuple):
    """A unit met an outcome of a flag.

    variant: the one served. unit: its text. reason: a word of ``flagkit.Reason``. rule: the rule that decided, if one
    did. analysable: a rollout or split placed the unit, and it got what it was assigned.
    """

    flag: str
    variant: str | None
    unit: str
    reason: str
    rule: str | None = None
    analysable: bool = False


class Tracked(NamedTuple):
    """A metric event. unit: its text; None without one."""

    event: str
    unit: str | None
    value: float | None
    properties: Mapping[str, Any]


class Ledger:
    """See the module. Thread-safe: lists are appended to and copied, each in one step."""

    faults: Final = 0
    disk: Final = None

    def __init__(self) -> None:
        self.exposed: list[Exposed] = []
        self.tracked: list[Tracked] = []
        self._lost: dict[str, int] = {}

    def record(self, decision: Decision, key: bytes) -> None:
        """A unit met ``decision``; it is remembered there, as by a client that records, for as long as it stands."""
        if decision._exposed is not None:
            decision._exposed.add(key)
        reason = str(decision.reason)
        told = Exposed(decision.flag, decision._arm, key.decode(), reason, decision.rule, decision.analysable)
        if self._admits():
            self.exposed.append(told)

    def track(self, event: str, context: Context, value: float | None, properties: Mapping[str, Any]) -> None:
        """As ``Recording.track``: what could not be sent is lost alone, and counted."""
        if context.synthetic:
            return
        if context._key is False:
            self._lose("invalid_context")
        elif not contained(encode_metric, event, context.unit_text, 0, value, properties, None, otherwise=""):
            self._lose("unencodable")
        elif self._admits():
            self.tracked.append(Tracked(event, context.unit_text, value, dict(properties)))

    def account(self) -> Account:
        """Everything counts as delivered."""
        kept, lost = len(self.exposed) + len(self.tracked), dict(self._lost)
        return Account(kept + sum(lost.values()), 0, kept, lost, 0)

    @property
    def state(self) -> LinkState:
        return LinkState("testing", "ok", None, 0, 0, 0, None)

    def flush(self, timeout_s: float) -> int:  # noqa: ARG002 - nothing waits
        return 0

    def close(self, timeout_s: float) -> int:  # noqa: ARG002 - nothing waits
        return 0

    def after_fork(self) -> None:
        """A child of a test keeps what it has seen: nobody else will report it."""

    def _admits(self) -> bool:
        if len(self.exposed) + len(self.tracked) < _MOST:
            return True
        self._lose("overflow")
        return False

    def _lose(self, reason: str) -> None:
        self._lost[reason] = self._lost.get(reason, 0) + 1
