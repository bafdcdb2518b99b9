"""``Stream``: hears of changes as they happen, from a source that tells them, and applies them to what is in use.

Polling goes on beside it as the net below: whatever goes wrong here costs time and nothing else. What cannot be applied
is fetched, by the poller, soon; a connection that breaks or falls silent is opened again after a pause. The thread
waits in its ``Ear`` and holds nothing of the client meanwhile, so that one dropped without ``close`` leaves no thread.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from random import Random
from typing import Final, Protocol

from flagkit.boundary import contained
from flagkit.clock import Clock
from flagkit.config import Config
from flagkit.dialects import Followed
from flagkit.errors import FetchError
from flagkit.runtime.backoff import SYSTEM_RANDOM, Backoff
from flagkit.runtime.bell import Bell
from flagkit.runtime.link import Link, standing
from flagkit.runtime.stats import LinkState
from flagkit.runtime.worker import Worker
from flagkit.sources.source import Alive, Changed, Listening, Missed, News, Teller

#: Who missed something fetches within this time, when the source does not say in which. Short, because few do so at
#: once: those who all lost their stream together come back one after the other.
_SPREAD_S: Final = 0.3
#: Within what time the document that comes of a change is fetched where documents are kept on disk.
_KEPT_S: Final = 5.0
_PAUSE_S: Final = 1.0
_LONGEST_PAUSE_S: Final = 60.0
#: A connection that held for so long was a good one; the next is then opened as if it was the first.
_STEADY_S: Final = 10.0


class InUse(Protocol):
    """The definitions in use, as a stream sees them: ``runtime.current.Current``."""

    @property
    def mark(self) -> str | None: ...
    def follow(self, data: bytes) -> Followed: ...
    def confirm(self, server_ms: int | None) -> None: ...


class Polls(Protocol):
    """What a stream asks of the poller: ``runtime.poller.Poller``."""

    @property
    def confirmed_s(self) -> float: ...
    @property
    def disk(self) -> object | None: ...


class Ear(Bell):
    """A bell whose waiter hears news, as long as there is a connection; rung, it hangs up."""

    __slots__ = ("_failure", "_heard", "listening")

    def __init__(self) -> None:
        super().__init__()
        self.listening: Listening | None = None
        self._heard: News | None = None
        self._failure: Exception | None = None

    def set(self) -> None:
        super().set()
        listening = self.listening
        if listening is not None:
            contained(listening.hang_up, otherwise=None)

    def wait(self, timeout: float) -> bool:
        """Return when there are news, the connection broke, the bell rang, or the time is over; whether it rang."""
        listening = self.listening
        if listening is None:
            return super().wait(timeout)
        if not self.is_set():
            self._heard = contained(lambda: listening.next(timeout), otherwise=None, failed=self._note)
        if self.is_set():
            self.hang_up()
        return self.is_set()

    def take(self) -> News:
        """What was heard. Raises: what ended the connection."""
        heard, failure = self._heard, self._failure
        self._heard = self._failure = None
        if failure is not None:
            raise failure
        return Missed() if heard is None else heard

    def hang_up(self) -> None:
        listening, self.listening, self._heard, self._failure = self.listening, None, None, None
        if listening is not None:
            contained(listening.close, otherwise=None)

    def _note(self, failure: Exception) -> None:
        self._failure = failure


class Stream:
    """Listens to one source. ``start`` it from any thread, as often as you like.

    Args: hurry: has the poller poll within so many seconds.
    """

    def __init__(
        self,
        source: Teller,
        current: InUse,
        polls: Polls,
        hurry: Callable[[float], None],
        config: Config,
        clock: Clock,
        random: Random = SYSTEM_RANDOM,
    ) -> None:
        self._source = source
        self._current = current
        self._polls = polls
        self._hurry = hurry
        self._config = config
        self._clock = clock
        self._backoff = Backoff(_PAUSE_S, _LONGEST_PAUSE_S, random)
        self._link = Link("stream", source.name, clock)
        self._opened_s = 0.0
        #: Since when it is not known what was missed, monotonic seconds; None: nothing was.
        self._unsure_s: float | None = math.inf
        self._worker = Worker("flagkit-stream", self.step, clock, random, bell=self._new_ear)

    @property
    def state(self) -> LinkState:
        return self._link.state

    @property
    def faults(self) -> int:
        """Rounds that ended in an unexpected exception."""
        return self._worker.faults

    def start(self) -> None:
        """Make sure that it listens, if the source tells anything at all. Raises: nothing; never waits."""
        if self._source.tells:
            self._worker.start()

    def stop(self, timeout_s: float = 0.0) -> bool:
        """Hang up; see ``Worker.stop``."""
        return self._worker.stop(timeout_s)

    def after_fork(self) -> None:
        """Forget the parent's thread and its connection, which the source lets go of. Assigns only."""
        self._unsure_s = math.inf
        self._worker.after_fork()

    def step(self) -> float:
        """Connect, or deal with what was heard; return for how long to listen now, or to pause. The worker's thread."""
        ear = self._ear
        try:
            if ear.listening is None:
                if not self._source.tells:
                    return self._config.poll_interval_s
                self._open(ear)
            else:
                self._hear(ear.take())
        except FetchError as error:
            return self._broken(ear, error)
        except BaseException:
            ear.hang_up()
            raise
        finally:
            self._link.tell()
        return ear.listening.silence_s if ear.listening is not None else _PAUSE_S

    def _open(self, ear: Ear) -> None:
        deadline_s = self._config.deadline_s
        listening = self._source.listen(
            self._current.mark, deadline_s=deadline_s, max_bytes=self._config.max_document_bytes
        )
        ear.listening = listening
        self._opened_s = self._clock.monotonic_s()
        if ear.is_set():
            return  # it rang meanwhile, and will hang up
        # Whether anything comes through is part of it: there are proxies that keep events to themselves.
        news = listening.next(deadline_s)
        self._link.succeeded()
        self._hear(news)

    def _hear(self, news: News) -> None:
        now_s = self._clock.monotonic_s()
        if isinstance(news, Changed):
            followed = self._current.follow(news.data)
            self._unsure_s = None if followed.confirmed else now_s
            if followed.fetch:
                self._hurry(_SPREAD_S if followed.spread_s is None else followed.spread_s)
            elif followed.parsed is not None and self._polls.disk is not None:
                self._hurry(_KEPT_S)  # what is kept is documents, and a kill must outlive a crash
        elif not isinstance(news, Alive):
            self._unsure_s = now_s
            self._hurry(_SPREAD_S)
        elif self._unsure_s is None or self._polls.confirmed_s > self._unsure_s:
            self._unsure_s = None
            self._current.confirm(None)

    def _broken(self, ear: Ear, error: FetchError) -> float:
        """Note it; return the pause. That a good connection ends now and then is nothing to speak of."""
        held = ear.listening is not None and self._clock.monotonic_s() - self._opened_s >= _STEADY_S
        ear.hang_up()
        self._unsure_s = math.inf
        if held:
            self._backoff.succeeded()
        else:
            self._link.failed(standing(error.reason, lasting=error.lasting), f"{error.reason}: {error}")
        return self._backoff.failed(error.retry_after_s or 0.0, lasting=error.lasting)

    def _new_ear(self) -> Ear:
        self._ear = Ear()
        return self._ear
