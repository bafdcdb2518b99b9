"""``Spooler``: moves events from the buffer to disk, within 50 ms, and finds what dead processes left there.

The writing half of the spool, on a thread of its own, because the sender's may hang in the sink; whoever flushes or
closes does a round himself. It owns this process's folder, the lock over all writing, the bound on bytes, and what
happens when the disk fails: memory keeps the events, and the disk is tried again. The reading half is ``spool``.
"""

from __future__ import annotations

import math
import os
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from random import Random
from typing import Any, Final

from flagkit.clock import Clock
from flagkit.config import Config
from flagkit.disk import Folder
from flagkit.runtime.backoff import Backoff
from flagkit.runtime.buffer import Buffer, Consumer
from flagkit.runtime.encoding import Encoding
from flagkit.runtime.episode import Episode
from flagkit.runtime.home import LOCK, Home
from flagkit.runtime.orphans import Orphans
from flagkit.runtime.process import process
from flagkit.runtime.segment import Segment
from flagkit.runtime.stats import Standing
from flagkit.runtime.storage import Storage

_ROUND_S: Final = 0.05
_FULL_S: Final = 0.25
_LOOK_S: Final = 60.0
_RECOUNT_S: Final = 1.0
#: How long a disk that hangs may keep others waiting who want to write, seconds.
PATIENCE_S: Final = 1.0
_RETRY_S: Final = 1.0
_RETRY_CAP_S: Final = 10.0
_CHUNK: Final = 500
_SEGMENT_BYTES: Final = 1024 * 1024


class Spooler:
    """See the module. ``sink``: the name of the one the events are for; other sinks' are kept apart, and those of
    clients with another ``environment``.

    own: this process's segments, inherited: those of dead ones, both oldest first; ``spool`` takes them from the left.
    writer, sender: the threads that write and that deliver.
    """

    def __init__(
        self,
        memory: Buffer,
        encode: Callable[[Any], str],
        sink: str,
        config: Config,
        clock: Clock,
        random: Random,
    ) -> None:
        self.writer: Consumer | None = None
        self.sender: Consumer | None = None
        self._memory = memory
        self._encoding = Encoding(encode, config.max_event_bytes, clock)
        self._sink = sink
        self._config = config
        self._clock = clock
        self._random = random
        self._segment_bytes = min(_SEGMENT_BYTES, config.max_spool_bytes // 8)
        self._storage = Storage("event spool", clock)
        self._losing = Episode("event spool", clock)
        self._home: Home | None = None
        self._orphans: Orphans | None = None
        self._released = False
        self.after_fork()

    def after_fork(self) -> None:
        """Let go of what is the parent's. Closes its descriptors and assigns, nothing else."""
        if self._home is not None:
            self._home.forget()
        if self._orphans is not None:
            self._orphans.forget()
        self._pid = os.getpid()
        self._locks: dict[str, threading.Lock] = {}
        self.own: deque[Segment] = deque()
        self.inherited: deque[Segment] = deque()
        #: How many segments of dead processes were ever found.
        self.found = 0
        self.root: Folder | None = None
        self._home = None
        #: Former ones, whose folder was taken away from under them; held, for what may still be read there.
        self._homes: list[Home] = []
        #: The last of ``own`` that has a file; the one that has none, if there is one.
        self._latest: Segment | None = None
        self._loose: Segment | None = None
        self._orphans = None
        self._idle = self._full = self._called = self._wrote = False
        #: Whether writing failed, and nothing was written since.
        self._doubted = False
        self._look_s = self._resume_s = float("-inf")
        self._backoff = Backoff(_RETRY_S, _RETRY_CAP_S, self._random)
        #: Bytes ever written and removed here, each by its thread, and what all folders hold beyond these.
        self._written = self._removed = self._others = 0

    @property
    def disk(self) -> Standing:
        return self._storage.standing

    @contextmanager
    def holding(self, timeout_s: float = PATIENCE_S) -> Iterator[bool]:
        """The lock over everything that writes. Yields False when the disk has kept somebody in it for too long."""
        if self._pid != os.getpid():
            process.notice_fork()
            if self._pid != os.getpid():
                self.after_fork()
        # Made at first use: until then gevent may patch what a lock is.
        lock = self._locks.setdefault("writing", threading.Lock())
        held = lock.acquire(timeout=timeout_s)
        try:
            yield held and not self._released
        finally:
            if held:
                lock.release()

    def tell(self) -> None:
        """Log what happened. With no lock held."""
        for book in (self._storage, self._encoding, self._losing):
            book.tell()

    # -- as the buffer's consumer, on the threads that record

    def start(self) -> None:
        """There is an event where there was none."""
        if self.sender is not None:
            self.sender.start()
        if self.writer is not None:
            if self._idle:
                self._idle = False
                self.writer.wake()
            else:
                self.writer.start()

    def wake(self) -> None:
        """There are many."""
        if self.writer is not None:
            self.writer.wake()

    def listen(self) -> None:
        """Wake the sender again when a batch is full."""
        self._called = False

    # -- the thread's side

    def step(self) -> float:
        """Write what waits; return the seconds until there may be more to do."""
        self._memory.listen()
        with self.holding() as held:
            worked = held and self.write()
        self.tell()
        if not self._called and self._memory.pending >= self._memory.crowd:
            self._call()
        now_s = self._clock.monotonic_s()
        if not worked:
            return max(_ROUND_S, self._resume_s - now_s)
        if self._full:
            return _FULL_S
        if self._wrote:
            return _ROUND_S  # events come together, and are written together
        due_s = self._look_s if self._home is None else min(self._look_s, self._home.due_s())
        self._idle = True  # from here on the next event rings; the one that came just before it did not
        if len(self._memory):
            self._idle = False
            return 0.0
        return max(_ROUND_S, due_s - now_s)

    def _call(self) -> None:
        self._called = True
        if self.sender is not None:
            self.sender.wake()

    # -- within ``holding``

    def write(self, *, at_once: bool = False) -> bool:
        """Do a round: return whether the disk works. ``at_once``: even if it failed just now, and with a sync."""
        now_s = self._clock.monotonic_s()
        if now_s < self._resume_s and not at_once:
            return False
        self._wrote = False
        try:
            if now_s >= self._look_s or self.root is None:
                self._look(now_s)
            self._pour(now_s, at_once=at_once)
            if self._home is not None:
                self._home.tend(now_s, at_once=at_once)
        except OSError as error:
            self._failed(error, now_s)
            return False
        if self._wrote or not self._doubted:
            self._doubted = False
            self._backoff.succeeded()
            self._storage.succeeded()
        return True

    def lend(self, count: int) -> None:
        """Have the oldest events, at most ``count``, delivered from memory if the disk takes no more of them."""
        if self._full or self._backoff.failures:
            texts, spoiled, _ = self._encoding.texts(self._memory.head(count), math.inf)
            self._memory.spool(len(texts), spoiled)
            if texts:
                self._loose = Segment.of(texts)
                self.own.append(self._loose)

    def abandon(self, segment: Segment) -> None:
        """Write to this segment no more."""
        if self._home is not None and self._home.segment is segment:
            self._home.abandon()

    def release(self) -> None:
        """Let other processes have what is left. Final; so is that ``holding`` yields False."""
        with self.holding() as held:
            self._released = True
            if not held:
                return
            for home in self._homes if self._home is None else [*self._homes, self._home]:
                home.abandon()
                if home.segment is not None and home.segment.finished:
                    self.remove(home.segment)
                if self._orphans is not None:
                    self._orphans.remove(home.name)
                home.leave()
            if self._orphans is not None:
                self._orphans.release()

    def _look(self, now_s: float) -> None:
        if self.root is None or self._orphans is None:
            from hashlib import sha256  # loads OpenSSL

            assert self._config.state_dir is not None  # noqa: S101 - or there were no spool
            environment = self._config.environment
            whose = self._sink if environment is None else f"{self._sink}\n{environment}"
            name = sha256(whose.encode()).hexdigest()[:12]
            root = Folder.open(self._config.state_dir).folder("sinks").folder(name)
            lock = root.lock(LOCK)  # only to see whether this file system has locks
            if lock is not None:
                lock.release()
            self.root, self._orphans = root, self._orphans or Orphans(root)
        found, total = self._orphans.look("" if self._home is None else self._home.name)
        self._others = total - self._written + self._removed
        self._look_s = now_s + _LOOK_S * (0.9 + 0.2 * self._random.random())
        if found:
            self.found += len(found)
            self.inherited.extend(found)
            self._call()

    def _room(self) -> int:
        return self._config.max_spool_bytes - self._others - self._written + self._removed

    def _pour(self, now_s: float, *, at_once: bool) -> None:
        """Write what is in memory. Raises: OSError."""
        if self._full and self._room() < self._segment_bytes and not at_once:
            self._look_s = min(self._look_s, now_s + _RECOUNT_S)
            return
        self._land(now_s)
        full = False
        while not full and (events := self._memory.head(_CHUNK)):
            texts, spoiled, full = self._encoding.texts(events, self._room())
            if texts:
                home, size = self._put(texts, now_s)
            self._memory.spool(len(texts), spoiled)
            if texts and (segment := home.segment) is not None:
                if self._latest is not segment:
                    self._latest = segment
                    self.own.append(segment)
                    self._look_s = min(self._look_s, now_s)  # others write too: what there is in all is counted again
                segment.grow(size, len(texts))
        if full and self._home is not None:
            # One that grows no more can be removed, and does not keep what is lent from its turn. Each time: some
            # may have been written since the last one ended.
            self._home.roll()
        if full and not self._full:
            self._memory.shut("spool_full")
            self._call()
        elif self._full and not full:
            self._memory.open()
        self._full = full

    def _land(self, now_s: float) -> None:
        """Write what was lent and is still on its way. Raises: OSError."""
        if self._loose is not None and self._loose.pending:
            home, _ = self._put(self._loose.texts(), now_s, afresh=True)
            if home.segment is not None:
                self._loose.land(home.segment)
            home.segment = self._latest = self._loose
        self._loose = None

    def _put(self, texts: list[str], now_s: float, *, afresh: bool = False) -> tuple[Home, int]:
        """Write events; return where to, and the bytes they take. Raises: OSError."""
        if self._home is None:
            assert self.root is not None  # noqa: S101 - `_look` came first
            self._home = Home(self.root, self._clock.wall_ms(), self._segment_bytes)
        size = self._home.write(texts, now_s, self._clock.wall_ms(), afresh=afresh)
        if self._doubted:
            self._home.sync()  # before memory lets go of them
        self._written += size
        self._wrote = True
        return self._home, size

    def _failed(self, error: OSError, now_s: float) -> None:
        self._storage.failed(error)
        self._resume_s = now_s + self._backoff.failed()
        if self._home is not None:
            self._home.abandon()
        if isinstance(error, FileNotFoundError):  # the folder is gone: make another
            self.root = None
            if self._home is not None:
                self._homes.append(self._home)
                self._home = None
        self._doubted = self.root is not None

    # -- for the reading half

    def remove(self, segment: Segment) -> None:
        """Remove a segment that is settled. Again: does nothing."""
        if segment.gone:
            return
        segment.gone = True
        with suppress(OSError):
            self._removed += segment.remove()
        if segment.adopted and self._orphans is not None:
            self._orphans.settled(segment)
            if self._orphans.more and not self.inherited:
                self._look_s = float("-inf")
                self.wake()

    def regret(self, reason: str, what: str) -> None:
        """Note for the log that events were lost."""
        self._losing.failed(reason, what)
