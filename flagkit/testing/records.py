"""What was recorded, as values that a test can compare: read from the events that reached a ``MemorySink``.

Pure. Knows the names that events carry, and nothing of who recorded them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from flagkit.sinks import Memory

#: How events are called that flagkit tracks of its own accord.
_OUR_OWN: Final = "flagkit."


class Exposed(NamedTuple):
    """A unit met an outcome of a flag.

    variant: the one served. unit: its text. reason: a word of ``flagkit.Reason``. rule: the rule that decided, if one
    did. analysable: a rollout or split placed the unit, and it got what it was assigned.
    """

    flag: str
    variant: str
    unit: str
    reason: str
    rule: str | None = None
    analysable: bool = False


class Tracked(NamedTuple):
    """A metric event of the application's. unit: its text; None without one. properties: as they travel, in JSON."""

    event: str
    unit: str | None
    value: float | None
    properties: Mapping[str, Any]


def exposures_in(sink: Memory) -> list[Exposed]:
    """The exposures that reached ``sink``, oldest first; flush the client before. Raises: nothing."""
    return [
        Exposed(
            flag=event["feature_flag.key"],
            variant=event["feature_flag.result.variant"],
            unit=event["feature_flag.context.id"],
            reason=event["feature_flag.result.reason"].upper(),
            rule=event["flagkit.rule"],
            analysable=event["flagkit.analysable"],
        )
        for event in sink.events
        if event["type"] == "exposure"
    ]


def tracked_in(sink: Memory) -> list[Tracked]:
    """The metric events that reached ``sink``, oldest first; flush the client before. Raises: nothing."""
    return [
        Tracked(event["name"], event["feature_flag.context.id"], event["value"], event["properties"])
        for event in sink.events
        if event["type"] == "metric" and not event["name"].startswith(_OUR_OWN)
    ]
