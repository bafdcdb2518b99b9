"""``Inquiries``: what a backend's own server is asked about flags that cannot be decided in this process.

Callers get what is in memory, at once, and leave a question otherwise; one thread puts the questions, one a unit with
all flags asked about it, so many a second at most. Memory is bounded: so many answers, so many questions, each so long.
Whom to ask is the source's business, what to make of an answer the dialect's. Made by ``Feed``, for sources that were
told to, and only for those.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from hashlib import blake2b
from random import Random
from typing import Final, NamedTuple

from flagkit.clock import Clock
from flagkit.config import Config
from flagkit.core.elsewhere import Heard
from flagkit.errors import FetchError
from flagkit.frozen import ReadOnly
from flagkit.runtime.backoff import SYSTEM_RANDOM, Backoff
from flagkit.runtime.link import Link, standing
from flagkit.runtime.stats import RemoteState
from flagkit.runtime.worker import Worker
from flagkit.sources.source import Decider

#: Seconds after which an answer is asked for again; it counts until the new one is there, and this long at most.
FRESH_S: Final = 300.0
KEPT_S: Final = 3600.0
#: Seconds after which a question is put again that had no answer.
UNANSWERED_S: Final = 60.0
#: Questions whose answers are kept, and questions that wait.
MAX_KEPT: Final = 10_000
MAX_WAITING: Final = 1000
#: Seconds between two requests, and for which a question waits for others about the same unit.
EVERY_S: Final = 0.1
GATHERED_S: Final = 0.05
_DEADLINE_S: Final = 3.0
_CAP_S: Final = 60.0
_IDLE_S: Final = 60.0
_MAX_REASONS: Final = 64
#: What a server says of this question, and not of all.
_REFUSED: Final = frozenset({"http_400", "http_413", "http_422"})


class _Known(NamedTuple):
    """An answer, or None where there was none, to a question about this version of a flag."""

    version: str
    heard: Heard | None
    fresh_until_s: float
    kept_until_s: float


class _Question:
    """One that waits, or is being put. flags: those asked about, with their versions."""

    __slots__ = ("flags", "since_s", "text")

    def __init__(self, text: str, since_s: float) -> None:
        self.text = text
        self.since_s = since_s
        self.flags: dict[str, str] = {}


class Inquiries:
    """See the module. ``answer`` is for those who ask; all else is thread-safe, and never raises."""

    def __init__(self, decider: Decider, config: Config, clock: Clock, random: Random = SYSTEM_RANDOM) -> None:
        self._decider = decider
        self._clock = clock
        self._deadline_s = min(config.deadline_s, _DEADLINE_S)
        self._backoff = Backoff(1.0, _CAP_S, random)
        self._link = Link("remote flags", decider.name, clock)
        self._closed = False
        self._worker = Worker("flagkit-remote", self.step, clock)
        #: By the digest of the question: flag -> what is known. The thread writes, and each value is never changed:
        #: whoever asks reads without a lock, which is why this is no ``TTLCache``. The oldest come first.
        self._known: dict[bytes, Mapping[str, _Known]] = {}
        self.after_fork()

    def after_fork(self) -> None:
        """In a forked child: keep the answers; the parent's questions are the parent's. Assigns only."""
        self._waiting: dict[bytes, _Question] = {}
        self._order: deque[bytes] = deque()
        self._asked = self._answered = 0
        self._lost: dict[str, int] = {}
        self._due_s = float("-inf")
        self._worker.after_fork()

    # -- the caller's side -------------------------------------------------------------------------------------------

    def answer(self, flag: str, version: str, question: str) -> Heard | None:
        """See ``Elsewhere``: from memory; what is not there, or no longer fresh, is asked for. No lock."""
        digest = blake2b(question.encode(), digest_size=16).digest()
        now_s = self._clock.monotonic_s()
        known = self._known.get(digest, {}).get(flag)
        if known is not None and known.version != version:
            known = None
        if not self._closed and (known is None or now_s >= known.fresh_until_s):
            self._leave(digest, question, flag, version, now_s)
        return known.heard if known is not None and now_s < known.kept_until_s else None

    def _leave(self, digest: bytes, text: str, flag: str, version: str, now_s: float) -> None:
        question = self._waiting.get(digest)
        if question is None:
            if len(self._waiting) >= MAX_WAITING:
                self._lose("overflow")
                self._worker.start()
                return
            new = _Question(text, now_s)
            question = self._waiting.setdefault(digest, new)
            question.flags[flag] = version
            if question is new:
                self._order.append(digest)
                self._worker.wake()
            return
        question.flags[flag] = version
        self._worker.start()  # it may have died, or never come up

    # -- the thread's side -------------------------------------------------------------------------------------------

    def step(self) -> float:
        """Put the question that waits longest, if it is time to; return the seconds until it is."""
        if not self._order:
            return _IDLE_S
        digest, now_s = self._order[0], self._clock.monotonic_s()
        due_s = max(self._due_s, self._waiting[digest].since_s + GATHERED_S)
        if now_s < due_s:
            return due_s - now_s
        question = self._waiting[digest]
        try:
            self._due_s = now_s + EVERY_S
            self._put(digest, question.text, question.flags.copy())
        finally:
            # Not before, or it would be left again while it is on the way. A flag that joined it since is asked for
            # by the next who wants it.
            self._order.popleft()
            del self._waiting[digest]
        self._link.tell()
        return max(0.0, self._due_s - self._clock.monotonic_s())

    def _put(self, digest: bytes, text: str, flags: dict[str, str]) -> None:
        self._asked += 1
        try:
            told = self._decider.decide(text, tuple(flags), deadline_s=self._deadline_s)
        except FetchError as error:
            self._lose(error.reason)
            if error.reason in _REFUSED:  # the others may do better; this one is not put again at once
                self._keep(digest, flags, {})
                self._link.failed("failing", error.reason)
                return
            self._link.failed(standing(error.reason, lasting=error.lasting), error.reason)
            pause_s = self._backoff.failed(error.retry_after_s or 0.0, lasting=error.lasting)
            self._due_s = self._clock.monotonic_s() + pause_s
            return
        self._answered += 1
        self._backoff.succeeded()
        self._link.succeeded()
        self._keep(digest, flags, {flag: Heard(*each) for flag, each in told.items()})

    def _keep(self, digest: bytes, flags: Mapping[str, str], heard: Mapping[str, Heard]) -> None:
        now_s = self._clock.monotonic_s()
        before = self._known.pop(digest, {})
        new = {}
        for flag, version in flags.items():
            answer, known = heard.get(flag), before.get(flag)
            if answer is not None:
                new[flag] = _Known(version, answer, now_s + FRESH_S, now_s + KEPT_S)
            elif known is not None and known.version == version:  # what was said before counts for as long as it does
                new[flag] = known._replace(fresh_until_s=now_s + UNANSWERED_S)
            else:
                new[flag] = _Known(version, None, now_s + UNANSWERED_S, now_s + UNANSWERED_S)
        self._known[digest] = {**before, **new}
        while len(self._known) > MAX_KEPT:
            del self._known[next(iter(self._known))]

    def _lose(self, reason: str) -> None:
        # Not exact when several threads do so at once, and not worth a lock.
        reason = reason if reason in self._lost or len(self._lost) < _MAX_REASONS else "other"
        self._lost[reason] = self._lost.get(reason, 0) + 1

    # -- life --------------------------------------------------------------------------------------------------------

    @property
    def state(self) -> RemoteState:
        return RemoteState(
            self._link.state, self._asked, self._answered, ReadOnly(self._lost), len(self._waiting), len(self._known)
        )

    @property
    def faults(self) -> int:
        return self._worker.faults

    def stop(self, timeout_s: float = 0.0) -> None:
        """Ask the thread to end, and wait at most ``timeout_s`` seconds. What is known still answers."""
        self._closed = True
        self._worker.stop(timeout_s)
