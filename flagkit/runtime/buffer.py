"""``Buffer``: events between the threads that record them and the one that sends them, and the account of all events.

Recording takes one ``deque.append``: no lock, nothing that is not re-entrant, so it may happen in a signal handler
or a ``__del__``. An event stays here until its fate is known, so what is on the way counts against the bound, and the
account is exact: each event leaves together with the entry that says where it went.
"""

from __future__ import annotations

import threading
from collections import defaultdict, deque
from collections.abc import Mapping
from typing import Final, Protocol, TypeAlias

from flagkit.events import Exposure
from flagkit.runtime.stats import Account

#: An exposure, or an event already encoded.
Event: TypeAlias = Exposure | str

_MAX_REASONS: Final = 64


class Consumer(Protocol):
    """Who empties the buffer: a Worker."""

    def start(self) -> None: ...
    def wake(self) -> None: ...


class Buffer:
    """At most ``max_pending`` events, oldest first; newer ones that find it full are lost, and counted.

    Any thread appends and refuses; one thread at a time calls ``head``, ``settle`` and ``listen``.
    ``consumer`` is started by the first event and woken when ``crowd`` wait; None: nobody is.
    """

    __slots__ = (
        "_called",
        "_delivered",
        "_drained",
        "_eve",
        "_events",
        "_lock",
        "_lost",
        "_max_pending",
        "_refused",
        "_room",
        "consumer",
        "crowd",
    )

    def __init__(self, max_pending: int, crowd: int) -> None:
        self.consumer: Consumer | None = None
        self._max_pending = max_pending
        self._room = max_pending
        #: How many waiting events call the consumer before its time.
        self.crowd = min(crowd, max_pending)
        self._eve = self.crowd - 1
        self.after_fork()

    def after_fork(self) -> None:
        """What waits and what was counted belongs to the parent: start from nothing. Assigns only."""
        self._events: deque[Event] = deque()
        # Re-entrant: losing an event may trigger a __del__ that records, and loses, another.
        self._lock = threading.RLock()
        self._called = False
        self._drained = self._refused = self._delivered = 0
        self._lost: defaultdict[str, int] = defaultdict(int)

    def __len__(self) -> int:
        return len(self._events)

    def append(self, event: Event) -> bool:
        """Record ``event``; return False when it was lost at the door. Never blocks. Raises: nothing."""
        events = self._events
        size = len(events)
        if size >= self._room:
            self.refuse("overflow" if self._room else "closed")
            return False
        events.append(event)
        if not 0 < size < self._eve:
            self._call(size)
        return True

    def refuse(self, reason: str) -> None:
        """Count an event that was recorded and lost at once, such as one that cannot be encoded."""
        with self._lock:
            # Without a call in between: an interrupt on this very thread finds these done or not begun.
            self._refused += 1
            self._lost[reason] += 1

    def close(self) -> None:
        """From here on events are refused (reason ``closed``). What waits may still be sent."""
        self._room = 0

    def _call(self, size: int) -> None:
        consumer = self.consumer
        if consumer is None:
            return
        if size < self._eve:
            consumer.start()
        elif not self._called:  # until it listens again, so that an outage costs one call and not one an event
            self._called = True
            consumer.wake()

    # -- the consumer's side

    @property
    def admitted(self) -> int:
        """Events that ever got past the door."""
        with self._lock:
            return self._drained + len(self._events)

    @property
    def drained(self) -> int:
        """How many of those have met their fate."""
        return self._drained

    def listen(self) -> None:
        """Be woken again when a batch is full. Call it before looking at the length."""
        self._called = False

    def head(self, count: int) -> list[Event]:
        """The oldest events, at most ``count``, which stay in the buffer."""
        events = self._events
        # By index: iterating fails when another thread appends.
        return [events[index] for index in range(min(count, len(events)))]

    def settle(self, delivered: int, lost: Mapping[str, int]) -> None:
        """The oldest ``delivered + sum(lost.values())`` events met this fate: they leave, and the account says so."""
        popleft = self._events.popleft
        with self._lock:
            for _ in range(delivered):
                popleft()
            self._drained += delivered
            self._delivered += delivered
            for reason, count in lost.items():
                # Reasons may come from a server; their number must not grow without bound.
                known = reason in self._lost or len(self._lost) < _MAX_REASONS
                for _ in range(count):
                    popleft()
                self._drained += count
                self._lost[reason if known else "other"] += count

    def losses(self) -> dict[str, int]:
        """Events lost so far, by reason."""
        with self._lock:
            return dict(self._lost)

    def account(self) -> Account:
        """Where every event went, at one instant. Any thread."""
        with self._lock:
            pending = len(self._events)
            recorded = self._drained + pending + self._refused
            return Account(recorded, self._delivered, dict(self._lost), pending)
