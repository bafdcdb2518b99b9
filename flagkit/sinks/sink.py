"""The contract of a sink: one batch in, one verdict out; and that of one which counts calls instead of events.

Owns the protocols only; batches, counts and verdicts are ``flagkit.events``. A sink neither queues nor retries:
delivery does, from one thread.
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from flagkit.events import Batch, Delivered, Rejected, Retry, Sent, Usage


@runtime_checkable
class Sink(Protocol):
    """Where events go. ``name``: for status and logs; no secret in it.

    One that has ``takes_calls = True`` gets what gates have counted as well, as metric events, with every flush.
    """

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


@runtime_checkable
class UsageSink(Protocol):
    """Where counts of calls go, for backends that keep those. A client with one counts every answer it gives.

    name: for status and logs; no secret in it. events: where exposures and metric events go; None: nowhere.
    usage_interval_s: how often counts are to be sent, seconds.
    """

    @property
    def name(self) -> str: ...
    @property
    def events(self) -> Sink | None: ...
    @property
    def usage_interval_s(self) -> float: ...

    def report(self, usage: Usage, *, deadline_s: float) -> Delivered | Retry | Rejected:
        """Hand over counts, and say what became of them.

        Counts have no identity, and those handed over twice are counted twice. So ``Retry`` only when the other side
        certainly has not taken them; when that cannot be known they are ``Rejected``, and lost for that reason.

        Args:
            usage: of at most 1,000 flags.
            deadline_s: the whole call ends in this time, seconds.

        Raises: nothing.
        """
        ...

    def close(self) -> None:
        """Let go of connections and descriptors. May be called twice, and ``report`` may follow."""
        ...

    def after_fork(self) -> None:
        """In a forked child, before anything else: forget what belongs to the parent. No lock, no I/O, no logging."""
        ...
