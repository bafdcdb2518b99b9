"""``Poller``: keeps definitions fresh: fetches, hands the bytes to the client, and waits as long as is polite.

It owns the validator, because a validator may be sent only once its document is in use, and the standing of the
source. It never takes definitions away: whatever fails, what is installed stays. A worker calls ``step``; a client
with local definitions calls ``poll`` in its constructor. It knows nothing of what is in the document.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Final

from flagkit.clock import Clock
from flagkit.config import Config
from flagkit.errors import DefinitionsError, FetchError
from flagkit.runtime.backoff import SYSTEM_RANDOM, Backoff
from flagkit.runtime.link import Link, standing
from flagkit.runtime.stats import LinkState
from flagkit.sources.source import NotModified, Source

_REFETCH_S: Final = 3600.0
_CAP_S: Final = 60.0
_LEAST_CAP_S: Final = 8.0


class Poller:
    """Polls one source. One thread at a time.

    Args: install: takes a document's bytes into use; raises DefinitionsError when it refuses them.
        confirm: told, with the server's wall time in ms or None, whenever what is in use proved to be current.
    """

    __slots__ = (
        "_backoff",
        "_clock",
        "_config",
        "_confirm",
        "_install",
        "_link",
        "_random",
        "_refetch_s",
        "_settled",
        "_source",
        "_validator",
        "loaded",
    )

    def __init__(
        self,
        source: Source,
        install: Callable[[bytes], None],
        confirm: Callable[[int | None], None],
        config: Config,
        clock: Clock,
        random: Random = SYSTEM_RANDOM,
    ) -> None:
        interval_s = config.poll_interval_s
        self._source = source
        self._install = install
        self._confirm = confirm
        self._config = config
        self._clock = clock
        self._random = random
        self._backoff = Backoff(interval_s, max(interval_s, min(_CAP_S, max(_LEAST_CAP_S, 8 * interval_s))), random)
        self._link = Link("source", source.name, clock)
        self._validator: str | None = None
        self._refetch_s = 0.0
        self._settled = False
        #: Whether a document of this source is in use.
        self.loaded = False

    @property
    def state(self) -> LinkState:
        return self._link.state

    def after_fork(self) -> None:
        """Keep what is loaded, but not the parent's rhythm. Assigns only."""
        self._settled = False

    def step(self) -> float:
        """Poll once; return the seconds until the next poll.

        With definitions at hand the first poll comes at a random time within one interval, so that processes which
        started (or were forked) together do not poll together.
        """
        if not self._settled:
            self._settled = True
            if self.loaded:
                return self._random.random() * self._config.poll_interval_s
        return self.poll()

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
        # Once an hour without a validator, lest a confused cache confirms an old document for ever.
        now_s = self._clock.monotonic_s()
        validator = self._validator if now_s < self._refetch_s else None
        answer = self._source.fetch(validator, deadline_s=deadline_s, max_bytes=self._config.max_document_bytes)
        if isinstance(answer, NotModified):
            if validator is None:
                raise FetchError("unasked_304", "not modified, though no version was asked about")
        else:
            self._install(answer.data)
            self._validator = answer.validator
            self._refetch_s = now_s + _REFETCH_S
            self.loaded = True
        self._confirm(answer.server_ms)
