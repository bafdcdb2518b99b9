"""``Spool``: what delivery reads when there is a ``state_dir``: events that wait on disk, and outlive the process.

Own events and those that dead processes left behind, the oldest first; it notes what the collector has, so that nobody
sends it twice, and keeps what it refuses. While the disk fails events come from memory instead, a batch at a time.
Driven like a Buffer, which keeps the account; ``spooler`` brings the events here and decides about the disk.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from contextlib import suppress
from random import Random
from typing import Final

from flagkit.clock import Clock
from flagkit.config import Config
from flagkit.events import ExposureEncoder
from flagkit.runtime.backoff import SYSTEM_RANDOM
from flagkit.runtime.buffer import Buffer, Seal
from flagkit.runtime.dead import Dead
from flagkit.runtime.segment import Damaged, Segment
from flagkit.runtime.spooler import PATIENCE_S, Spooler

_TIDY_S: Final = 60.0
#: A disk that fails in one of these ways may be fine in a moment, so that nothing on it is given up.
_PASSING: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS, errno.EAGAIN, errno.EINTR})


class Spool:
    """See the module. One thread at a time calls ``listen``, ``head``, ``seal`` and ``settle``, as with a Buffer.

    sink: the name of the one the events are for.
    """

    def __init__(
        self,
        memory: Buffer,
        encoder: ExposureEncoder,
        sink: str,
        config: Config,
        clock: Clock,
        random: Random = SYSTEM_RANDOM,
    ) -> None:
        self.spooler = Spooler(memory, encoder.encode, sink, config, clock, random)
        self._memory = memory
        self._config = config
        self._clock = clock
        self._released = False
        self.after_fork()

    def after_fork(self) -> None:
        """Let go of what is the parent's; the buffer forgets the events. Closes descriptors and assigns, no more."""
        self.spooler.after_fork()
        #: Where the events came from that ``head`` last gave.
        self._lender: Segment | None = None
        self._tidy_s = float("-inf")
        #: Segments of dead processes whose events are counted.
        self._taken_in = 0

    @property
    def crowd(self) -> int:
        return self._memory.crowd

    def __len__(self) -> int:
        return self._memory.pending

    @property
    def admitted(self) -> int:
        """Events of this process that ever got past the door."""
        return self._memory.admitted

    def left(self, goal: int) -> int:
        """How many events still wait of the first ``goal`` admitted, and of those of dead processes: of a segment
        that was not looked into yet, one."""
        return self._memory.left(goal) + self.spooler.found - self._taken_in

    def losses(self) -> dict[str, int]:
        """Events lost so far, by reason."""
        return self._memory.losses()

    def gather(self, timeout_s: float) -> None:
        """Have what was recorded on disk, and what dead processes left known."""
        with self.spooler.holding(max(0.0, min(timeout_s, PATIENCE_S))) as held:
            if held:
                self.spooler.write()
        self.spooler.tell()

    def close(self) -> None:
        """Refuse events from here on, and have all that wait on disk. One that was never used touches none."""
        self._memory.close()
        if self.spooler.root is not None or len(self._memory):
            with self.spooler.holding() as held:
                if held:
                    self.spooler.write(at_once=True)
            self.spooler.tell()

    def release(self) -> None:
        """Let other processes have what is left. Final."""
        self._released = True
        self.spooler.release()
        self.spooler.tell()

    # -- the sender's side

    def listen(self) -> None:
        """Be woken again when a batch is full. Call it before looking at the length."""
        self.spooler.listen()
        self._sweep()
        now_s = self._clock.monotonic_s()
        if now_s >= self._tidy_s:
            self._tidy_s = now_s + _TIDY_S
            for queue in (self.spooler.inherited, self.spooler.own):
                for index in range(1, len(queue)):  # the first may be on its way
                    with suppress(OSError):
                        self._expire(queue[index])

    def head(self, count: int) -> list[str]:
        """The oldest events, at most ``count``, which stay where they are.

        None, although there are some, when the disk is slow, or fails in a way that may pass.
        """
        try:
            events = self._read(count)
            if events or not self._memory.left(self._memory.admitted):
                return events
            with self.spooler.holding() as held:
                if not held:
                    return []
                self.spooler.write()
            events = self._read(count)
            if not events:
                with self.spooler.holding() as held:
                    if held:
                        self.spooler.lend(count)
                events = self._read(count)
        except OSError as error:
            self.spooler.regret("failing", str(error.strerror))
            return []
        return events

    def seal(self, count: int) -> Seal:
        """The oldest ``count`` events are about to be sent as one batch; return what it is known by."""
        return self._lender.seal(count) if self._lender is not None else Seal()

    def settle(self, delivered: int, lost: Mapping[str, int]) -> None:
        """The first ``delivered + sum(lost.values())`` of the events that ``head`` gave last met this fate."""
        segment, count = self._lender, delivered + sum(lost.values())
        if segment is None or not count:
            return
        if not self._released:
            if segment.folder is None:
                # It may be on its way to the disk after all: then what is settled here must not be written there,
                # which is worth waiting for, however long the disk takes.
                with self.spooler.holding(-1):
                    segment.settle(count)
            else:
                if not delivered and len(lost) == 1 and self.spooler.root is not None:
                    Dead(self.spooler.root).refused(segment.owner, next(iter(lost)), segment.texts()[:count])
                segment.settle(count)
            self._sweep()
        self._memory.settle_spooled(delivered, lost, adopted=segment.adopted)

    def _read(self, count: int) -> list[str]:
        """The oldest events that are not in the buffer. Raises: OSError, of a kind that may pass."""
        while (segment := self._first()) is not None:
            self._lender = segment
            try:
                return segment.head(count)
            except Damaged:
                if self.spooler.root is not None:
                    with suppress(OSError):
                        Dead(self.spooler.root).damaged(f"{segment.owner}-{segment.name}", segment.rest())
                self._give_up(segment, "damaged")
            except OSError as error:
                self._unreadable(segment, error)
        return []

    def _first(self) -> Segment | None:
        """The segment with the oldest events. Raises: OSError, of a kind that may pass."""
        for queue in (self.spooler.inherited, self.spooler.own):
            while queue:
                segment = queue[0]
                self._take_in(segment)
                self._expire(segment)
                if segment.pending:
                    return segment
                if not segment.closed:
                    break
                self._sweep()
        return None

    def _sweep(self) -> None:
        """Remove what is settled."""
        for queue in (self.spooler.inherited, self.spooler.own):
            while queue and queue[0].finished:
                self.spooler.remove(queue.popleft())

    def _take_in(self, segment: Segment) -> None:
        """Find out how many events a dead process left there; they are ours from here on. Raises: as ``_first``."""
        if not segment.known:
            try:
                segment.survey()
            except OSError as error:
                self._unreadable(segment, error)
            self._memory.adopt(segment.pending)
            self._taken_in += 1

    def _expire(self, segment: Segment) -> None:
        """Lose what is in a segment if that is too old. Raises: as ``_first``."""
        if segment.closed and segment.folder is not None and self._age_s(segment) > self._config.max_spool_age_s:
            self._take_in(segment)
            if segment.pending and self._age_s(segment) > self._config.max_spool_age_s:
                self._give_up(segment, "expired")
                self.spooler.remove(segment)

    def _age_s(self, segment: Segment) -> float:
        """Of its oldest event; of one that was not taken in yet, at least that of its oldest event."""
        if not segment.adopted:
            return self._clock.monotonic_s() - segment.born_s
        made_ms = segment.created_ms if segment.known else int(segment.owner.partition("-")[0])
        return 0.0 if made_ms is None else (self._clock.wall_ms() - made_ms) / 1000

    def _give_up(self, segment: Segment, reason: str, why: str = "") -> None:
        """Lose what is left in a segment. Raises: OSError, if it must wait for the writer."""
        with self.spooler.holding() as held:
            if not held:
                raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN), segment.name)
            self.spooler.abandon(segment)
            count = segment.pending
            segment.give_up()
        self._memory.settle_spooled(0, {reason: count} if count else {}, adopted=segment.adopted)
        self.spooler.regret(reason, f"{count} events in {segment.owner}/{segment.name}{why}")

    def _unreadable(self, segment: Segment, error: OSError) -> None:
        """Go on without a segment that cannot be read, and leave it where it is. Raises: ``error``, if it may pass."""
        if error.errno in _PASSING:
            raise error
        self._give_up(segment, "damaged", f": {error.strerror}")
        segment.folder = None
