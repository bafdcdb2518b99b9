"""``Poller``: keeps definitions fresh: fetches, hands the bytes to the client, and waits as long as is polite.

It owns the rhythm and the standing of the source. The validator belongs to the definitions in use, so that it is sent
only while its document is. It never takes definitions away: whatever fails, what is installed stays. A worker calls
``step``; a client with local definitions calls ``poll`` in its constructor; a stream that has missed something calls
``hurry``. It knows nothing of what is in the document.
"""

from __future__ import annotations

import math
from random import Random
from typing import Final, Protocol

from flagkit.clock import Clock
from flagkit.config import Config
from flagkit.errors import DefinitionsError, FetchError
from flagkit.runtime.backoff import SYSTEM_RANDOM, Backoff
from flagkit.runtime.keeping import Keeping
from flagkit.runtime.link import Link, standing
from flagkit.runtime.stats import LinkState, Standing
from flagkit.sources.source import Bootstrapped, NotModified, Source

_REFETCH_S: Final = 3600.0
_CAP_S: Final = 60.0
_LEAST_CAP_S: Final = 8.0
_SOON_S: Final = 2.0


class InUse(Protocol):
    """The definitions in use, as a poller sees them: ``runtime.current.Current``."""

    @property
    def generation(self) -> int: ...
    @property
    def validator(self) -> str | None: ...
    @property
    def whole(self) -> bool: ...
    @property
    def recalled(self) -> bool: ...
    def recall(self, data: bytes, validator: str | None, age_s: float) -> None: ...
    def install(self, data: bytes, validator: str | None, since: int) -> bool: ...
    def confirm(self, server_ms: int | None) -> None: ...


class Poller:
    """Polls one source. One thread at a time; ``hurry`` from any."""

    __slots__ = (
        "_backoff",
        "_clock",
        "_config",
        "_current",
        "_due_s",
        "_keeping",
        "_link",
        "_random",
        "_refetch_s",
        "_settled",
        "_source",
        "_spared_s",
        "confirmed_s",
        "loaded",
    )

    def __init__(
        self,
        source: Source,
        current: InUse,
        config: Config,
        clock: Clock,
        random: Random = SYSTEM_RANDOM,
    ) -> None:
        interval_s = config.poll_interval_s
        self._source = source
        self._current = current
        self._config = config
        self._clock = clock
        self._random = random
        self._backoff = Backoff(interval_s, max(interval_s, min(_CAP_S, max(_LEAST_CAP_S, 8 * interval_s))), random)
        self._link = Link("source", source.name, clock)
        self._keeping = Keeping(source, clock)
        self._refetch_s = 0.0
        self._settled = False
        self._spared_s = -math.inf  # until then the server has asked to be left alone
        self._due_s = math.inf  # when somebody in a hurry wants a poll
        #: Whether a document of this source is in use.
        self.loaded = False
        #: When the latest poll began that found the definitions in use to be current, monotonic seconds.
        self.confirmed_s = -math.inf

    @property
    def state(self) -> LinkState:
        return self._link.state

    @property
    def disk(self) -> Standing | None:
        """How it stands with what the source keeps on disk; None when it keeps nothing."""
        return self._keeping.disk

    def recall(self) -> None:
        """Take the last good document of earlier runs into use, or else what the source brings. For a constructor.

        Raises: DefinitionsError when what the source brings is refused.
        """
        if self._keeping.recall(self._current.recall, self._config.max_document_bytes):
            self._refetch_s = self._clock.monotonic_s() + _REFETCH_S
            self.loaded = True
            return
        brought = self._source.bootstrap() if isinstance(self._source, Bootstrapped) else None
        if brought is not None:
            self._current.recall(brought, None, 0.0)
            self.loaded = True

    def after_fork(self) -> None:
        """Keep what is loaded, but not the parent's rhythm. Assigns only."""
        self._settled = False
        self._due_s = math.inf

    def hurry(self, within_s: float) -> None:
        """Have the next ``step`` see to it that a poll comes at a random time within so many seconds.

        Later if the server has asked to be left alone. Any thread; whoever calls it wakes the one that polls.
        """
        now_s = self._clock.monotonic_s()
        self._due_s = min(self._due_s, max(now_s, self._spared_s) + self._random.random() * within_s)

    def step(self) -> float:
        """Poll once; return the seconds until the next poll.

        With definitions at hand the first poll comes at a random time within one interval, so that processes which
        started (or were forked) together do not poll together; soon, when they are those of an earlier run.
        """
        hurried = self._due_s < math.inf
        # Whoever woke this thread, and however long ago: the server's wish may have come since.
        left_s = max(self._spared_s, self._due_s if hurried else -math.inf) - self._clock.monotonic_s()
        if left_s > 0:
            return left_s
        if not self._settled:
            self._settled = True
            if self.loaded and not hurried:
                self._keeping.write()
                interval_s = self._config.poll_interval_s
                return self._random.random() * (min(interval_s, _SOON_S) if self._current.recalled else interval_s)
        pause_s = self.poll()
        self._keeping.write()
        return pause_s

    def poll(self, deadline_s: float | None = None) -> float:
        """Fetch now, on this thread; return the seconds to wait before the next time.

        Args: deadline_s, how long it may take; None, as long as configured.
        Raises: nothing a source may raise; what it should not is noted in ``state`` and passed on to the worker.
        """
        try:
            self._fetch(self._config.deadline_s if deadline_s is None else deadline_s)
        except FetchError as error:
            self._link.failed(standing(error.reason, lasting=error.lasting), f"{error.reason}: {error}")
            pause_s = self._backoff.failed(error.retry_after_s or 0.0, lasting=error.lasting)
            if error.retry_after_s:
                self._spared_s = self._clock.monotonic_s() + pause_s
        except DefinitionsError as error:
            self._link.failed("rejected", f"document refused: {error}")
            pause_s = self._backoff.failed()
        except BaseException as error:
            self._link.failed("failing", type(error).__name__)
            raise
        else:
            self._backoff.succeeded()
            self._link.succeeded()
            pause_s = self._config.poll_interval_s * (0.9 + 0.2 * self._random.random())
        self._link.tell()
        return pause_s

    def _fetch(self, deadline_s: float) -> None:
        self._due_s = math.inf  # what is hurried from now on is not answered by this
        # Once an hour without a validator, lest a confused cache confirms an old document for ever.
        now_s, current = self._clock.monotonic_s(), self._current
        generation = current.generation
        # And after changes that are no document, where one is to be kept.
        asked = now_s < self._refetch_s and (current.whole or self._keeping.disk is None)
        validator = current.validator if asked else None
        answer = self._source.fetch(validator, deadline_s=deadline_s, max_bytes=self._config.max_document_bytes)
        if isinstance(answer, NotModified):
            if validator is None:
                raise FetchError("unasked_304", "not modified, though no version was asked about")
            if generation != current.generation:
                return  # others came into use meanwhile, and nothing has been said of those
            self._keeping.confirmed()
        else:
            if not current.install(answer.data, answer.validator, generation):
                return
            self._keeping.taken(answer)
            self._refetch_s = now_s + _REFETCH_S
            self.loaded = True
        current.confirm(answer.server_ms)
        self.confirmed_s = now_s
