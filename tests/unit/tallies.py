"""Counts as processes hand them in, and reports as they post them to a service."""

from __future__ import annotations

import base64
from typing import Any

from flagkit.production.tally import Tally


def packed(process: int = 1, failing: int = 0, calls: int = 400) -> bytes:
    """What a process has counted whose candidate fails in one of ``failing`` calls, the control in a quarter of them.

    Half of the calls are the control's, and each is of another unit.
    """
    tally = Tally()
    for number in range(calls):
        arm = number % 2
        handle = tally.start("half", arm, f"user-{process}-{number}".encode())
        every = failing if arm else 4 * failing
        tally.finish(handle, bool(every and number // 2 % every == 0), 0.01)
    return tally.drain()


def text_of(data: bytes) -> str:
    """As it is posted."""
    return base64.b64encode(data).decode()


def report(**fields: Any) -> dict[str, Any]:
    """A report on the candidate ``on`` of the flag ``f`` in revision 2, of nothing, unless it says otherwise."""
    trial = {"environment": "production", "flag": "f", "revision": 2, "candidate": "on"}
    return {**trial, "policy": "{}", "counted": "", **fields}
