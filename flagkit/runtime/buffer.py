"""``Buffer``: events between the threads that record them and the one that sends them, and the account of all events.

Recording takes one ``deque.append``: no lock, nothing that is not re-entrant, so it may happen in a signal handler
or a ``__del__``. An event stays here until its fate is known, so what is on the way counts against the bound, and the
account is exact: each event leaves together with the entry that says where it went. With a spool (runtime.spool)
events wait on disk instead; then the spool is what delivery reads, and only the account of them is kept here.
"""

from __future__ import annotations

import threading
from collections import defaultdict, deque
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple, Protocol, TypeAlias

from flagkit.events import Exposure
from flagkit.frozen import ReadOnly
from flagkit.runtime.stats import Account

#: An exposure, or an event already encoded.
Event: TypeAlias = Exposure | str

_MAX_REASONS: Final = 64


class Consumer(Protocol):
    """Who empties the buffer: a Worker."""

    def start(self) -> None: ...
    def wake(self) -> None: ...


class Seal(NamedTuple):
    """What a batch is known by. ``id``: empty when any will do. ``again``: the collector may have seen it before, from
    another process, and then takes no notice of what else the batch reports.
    """

    id: str = ""
    again: bool = False


class Queue(Protocol):
    """What delivery takes events from: a Buffer, or a Spool in front of one."""

    @property
    def crowd(self) -> int: ...
    def __len__(self) -> int: ...
    @property
    def admitted(self) -> int: ...
    def left(self, goal: int) -> int: ...
    def listen(self) -> None: ...
    def head(self, count: int) -> Sequence[Event]: ...
    def seal(self, count: int) -> Seal: ...
    def settle(self, delivered: int, lost: Mapping[str, int]) -> None: ...
    def losses(self) -> dict[str, int]: ...
    def close(self) -> None: ...


_ANY: Final = Seal()


class Buffer:
    """At most ``max_pending`` events, oldest first; newer ones that find it full are lost, and counted.

    Any thread appends and refuses; one thread at a time calls ``head``, ``settle`` and ``listen``.
    ``consumer`` is started by the first event and woken when ``crowd`` wait; None: nobody is.
    """

    __slots__ = (
        "_adopted",
        "_called",
        "_closed",
        "_delivered",
        "_estate",
        "_eve",
        "_events",
        "_lock",
        "_lost",
        "_max_pending",
        "_refused",
        "_room",
        "_spooled",
        "_taken",
        "_why",
        "consumer",
        "crowd",
    )

    def __init__(self, max_pending: int, crowd: int) -> None:
        self.consumer: Consumer | None = None
        self._max_pending = max_pending
        self._closed = False
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
        self._room = 0 if self._closed else self._max_pending
        #: What an event is lost for when there is no room.
        self._why = "closed" if self._closed else "overflow"
        #: Events that came in and are no longer in memory; those recorded here and lost at the door.
        self._taken = self._refused = 0
        #: Events that wait on disk: this process's own, and of those it adopted.
        self._spooled = self._estate = 0
        self._adopted = self._delivered = 0
        self._lost: defaultdict[str, int] = defaultdict(int)

    def __len__(self) -> int:
        return len(self._events)

    def append(self, event: Event) -> bool:
        """Record ``event``; return False when it was lost at the door. Never blocks. Raises: nothing."""
        events = self._events
        size = len(events)
        if size >= self._room:
            self.refuse(self._why)
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
        with self._lock:
            self._closed = True
            self._why = "closed"
            self._room = 0

    def shut(self, reason: str) -> None:
        """Refuse events for ``reason``, until ``open``."""
        with self._lock:
            if not self._closed:
                self._why = reason
                self._room = 0

    def open(self) -> None:
        """Take events again, unless it was closed."""
        with self._lock:
            if not self._closed:
                self._why = "overflow"
                self._room = self._max_pending

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
            return self._taken + len(self._events)

    def left(self, goal: int) -> int:
        """How many events still wait of the first ``goal`` admitted; of those of dead processes, all."""
        with self._lock:
            return max(0, goal - self._taken + self._spooled) + self._estate

    def listen(self) -> None:
        """Be woken again when a batch is full. Call it before looking at the length."""
        self._called = False

    def head(self, count: int) -> list[Event]:
        """The oldest events, at most ``count``, which stay in the buffer."""
        events = self._events
        # By index: iterating fails when another thread appends.
        return [events[index] for index in range(min(count, len(events)))]

    def seal(self, count: int) -> Seal:  # noqa: ARG002 - which events they are matters to a spool only
        """The oldest ``count`` events are about to be sent as one batch; return what it is known by."""
        return _ANY

    def settle(self, delivered: int, lost: Mapping[str, int]) -> None:
        """The oldest ``delivered + sum(lost.values())`` events met this fate: they leave, and the account says so."""
        with self._lock:
            self._pop(delivered + sum(lost.values()))
            self._enter(delivered, lost)

    def losses(self) -> dict[str, int]:
        """Events lost so far, by reason."""
        with self._lock:
            return dict(self._lost)

    def account(self) -> Account:
        """Where every event went, at one instant. Any thread."""
        with self._lock:
            here = len(self._events)
            recorded = self._taken + here + self._refused
            pending = here + self._spooled + self._estate
            return Account(recorded, self._adopted, self._delivered, ReadOnly(self._lost), pending)

    # -- for a spool, which keeps the events and leaves the account to this

    @property
    def pending(self) -> int:
        """Events in memory and on disk."""
        with self._lock:
            return len(self._events) + self._spooled + self._estate

    def spool(self, count: int, lost: Mapping[str, int]) -> None:
        """Of the oldest ``count + sum(lost.values())`` events so many were written to disk, and the others are lost."""
        with self._lock:
            self._pop(count + sum(lost.values()))
            self._spooled += count
            self._enter(0, lost)

    def adopt(self, count: int) -> None:
        """So many events of a dead process, which wait on disk, are this one's to deliver."""
        with self._lock:
            self._adopted += count
            self._estate += count

    def settle_spooled(self, delivered: int, lost: Mapping[str, int], *, adopted: bool) -> None:
        """As ``settle``, for events that waited on disk."""
        with self._lock:
            count = delivered + sum(lost.values())
            if adopted:
                self._estate -= count
            else:
                self._spooled -= count
            self._enter(delivered, lost)

    def _pop(self, count: int) -> None:
        popleft = self._events.popleft
        for _ in range(count):
            popleft()
        self._taken += count

    def _enter(self, delivered: int, lost: Mapping[str, int]) -> None:
        self._delivered += delivered
        for reason, count in lost.items():
            # Reasons may come from a server; their number must not grow without bound.
            known = reason in self._lost or len(self._lost) < _MAX_REASONS
            self._lost[reason if known else "other"] += count
