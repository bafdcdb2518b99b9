"""The contract of a sink: one batch in, one verdict out.

Owns the protocol only; batches and verdicts are ``flagkit.events``. A sink neither queues nor retries: delivery does,
from one thread.
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from flagkit.events import Batch, Sent


@runtime_checkable
class Sink(Protocol):
    """Where events go. ``name``: for status and logs; no secret in it."""

    @property
    def name(self) -> str: ...

    def send(self, batch: Batch, *, deadline_s: float) -> Sent:
        """Deliver one batch, and say what became of it.

        ``Delivered`` only when the other side has confirmed this very batch; ``Retry`` when it may be sent again,
        which must then be harmless (same batch id, same event ids); ``Rejected`` when it never will be taken
        (``divisible`` when some of its events may be); ``TooLarge`` when smaller batches may pass.

        Args:
            batch: at least one event.
            deadline_s: the whole call ends in this time, seconds.

        Raises: nothing.
        """
        ...

    def close(self) -> None:
        """Let go of connections and descriptors. May be called twice, and ``send`` may follow."""
        ...

    def after_fork(self) -> None:
        """In a forked child, before anything else: forget what belongs to the parent. No lock, no I/O, no logging."""
        ...
