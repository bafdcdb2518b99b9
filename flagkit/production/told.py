"""``Told``: what whoever listens is told of what a guard has found. A shape; ``guards`` and ``lane`` fill it in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from flagkit.production.host import Notice


class Told(NamedTuple):
    """What whoever listens is told of a trip. ``evidence``: plain numbers; ``rolled_back``: False for an alert only.

    held: rule -> what it is held at, as ``core.holds.hold_document`` has it.
    """

    notice: Notice
    evidence: Mapping[str, Any]
    rolled_back: bool
    held: Mapping[str, Any] = {}

    @property
    def properties(self) -> dict[str, Any]:
        """For a collector: the properties of a metric event."""
        notice = self.notice
        return {
            "feature_flag.key": notice.flag,
            "candidate": notice.candidate or None,
            "control": notice.control,
            "revision": notice.revision,
            "kind": notice.kind,
            "why": notice.why,
            "rolled_back": self.rolled_back,
            **({"held": self.held} if self.held else {}),
            **self.evidence,
        }
