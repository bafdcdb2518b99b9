"""What has tripped or is held, as the service serves it.

It is laid over whatever the file says, until the flag's guard has a higher revision.
It owns that rule, and keeps trips in the ledger, so that neither a restart nor an edit that takes something back
forgets one. ``definitions`` asks it for each content that is about to be served. It knows no file, number or HTTP.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from flagkit.core.model import Definitions, FlagDefinition


class Trip(NamedTuple):
    """A candidate that a guard has rolled back, and in which revision of it.

    With ``""`` for a candidate: what a guard holds at an earlier step of a ramp; ``why`` is JSON then, with ``rules``
    (``core.holds.hold_document``) and ``why``.
    """

    flag: str
    candidate: str
    revision: int
    why: str


class Trips:
    """See the module. One thread at a time.

    Args: known, of earlier processes. keep, has a trip remembered by (flag, candidate); does not wait, nor raise.
    """

    def __init__(self, known: Iterable[Trip], keep: Callable[[Trip], object]) -> None:
        self._keep = keep
        self._by_flag: dict[str, dict[str, Trip]] = {}
        for trip in known:
            self._by_flag.setdefault(trip.flag, {})[trip.candidate] = trip

    def add(self, trip: Trip) -> None:
        """It has tripped. Raises: nothing."""
        self._by_flag.setdefault(trip.flag, {})[trip.candidate] = trip
        self._keep(trip)

    def laid_over(self, document: dict[str, Any], read: Definitions, served: Definitions | None) -> dict[str, Any]:
        """The file's content with what has tripped, in guards that have no higher revision than the trip.

        read: what the content says. served: what is served so far, whose guard stays where the file's has become one
        that cannot be used: a slip of the pen is no new try. Raises: nothing.
        """
        flags = dict(document["flags"])
        for key, trips in self._by_flag.items():
            flag = read.flags.get(key)
            if flag is None or key not in flags or "guard" not in flags[key]:
                continue
            before = None if served is None else served.flags.get(key)
            guard, revision = _guard(flags[key]["guard"], flag, before)
            latched = {trip.candidate: trip.why for trip in self._latched(trips, revision, flag)}
            held = latched.pop("", None)
            if latched:
                guard = {**guard, "tripped": {**guard.get("tripped", {}), **latched}}
            if held is not None:
                guard = {**guard, "held": json.loads(held)}
            if latched or held is not None:
                flags[key] = {**flags[key], "guard": guard}
        return {**document, "flags": flags}

    def _latched(self, trips: dict[str, Trip], revision: int | None, flag: FlagDefinition) -> list[Trip]:
        latched = []
        for trip in tuple(trips.values()):
            if revision is None or trip.revision < revision or trip.candidate not in {"", *flag.variants}:
                continue
            if trip.revision > revision:
                # The file was taken back. What clears this trip is the next revision after the one it has now.
                trip = trip._replace(revision=revision)
                self.add(trip)
            latched.append(trip)
        return latched


def _guard(written: Any, flag: FlagDefinition, before: FlagDefinition | None) -> tuple[dict[str, Any], int | None]:
    """The guard that is to be served, and its revision; None when there is none."""
    if flag.guard is not None:
        return written, flag.guard.revision
    if before is None or before.guard is None or not before.text:
        return {}, None
    written = json.loads(f"{{{before.text}}}")[before.key]["guard"]  # the text is the flag's line, key and all
    return written, before.guard.revision
