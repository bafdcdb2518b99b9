"""``Keeping``: has a source keep what is in use for the next start, and brings back what it kept in earlier ones.

A document is kept after it was taken into use, by the poller's thread, and a confirmation of it once a minute. Where
the disk fails, nothing else does: what is to be kept is tried again. Knows nothing of files.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from flagkit.clock import Clock
from flagkit.errors import DefinitionsError
from flagkit.runtime.stats import Standing
from flagkit.runtime.storage import Storage
from flagkit.sources.source import Fetched, Keeper, Source

_PERIOD_S: Final = 60.0
_RETRY_S: Final = 10.0


class Keeping:
    """Does nothing for a source that is no ``Keeper``. One thread at a time; ``disk`` may be read by any."""

    __slots__ = ("_clock", "_confirmed_ms", "_document", "_due_s", "_keeper", "_storage")

    def __init__(self, source: Source, clock: Clock) -> None:
        self._keeper = source if isinstance(source, Keeper) else None
        self._clock = clock
        self._storage = Storage("last good definitions", clock)
        #: Taken into use and not kept yet.
        self._document: Fetched | None = None
        #: The latest confirmation that is not kept yet.
        self._confirmed_ms: int | None = None
        self._due_s = 0.0

    @property
    def disk(self) -> Standing | None:
        """How it stands with the disk; None without one."""
        return self._storage.standing if self._keeper is not None else None

    def recall(self, install: Callable[[bytes, str | None, float], object], max_bytes: int) -> bool:
        """Have the newest document that is still good taken into use; return whether there was one.

        Args: install, given the document, its validator and its age in seconds; raises DefinitionsError to refuse it.
        Raises: nothing that a disk may raise.
        """
        if self._keeper is None:
            return False
        try:
            for kept in self._keeper.recall(max_bytes=max_bytes):
                age_s = max(0, self._clock.wall_ms() - kept.confirmed_ms) / 1000
                try:
                    install(kept.data, kept.validator, age_s)
                except DefinitionsError:
                    continue  # of another environment, or of a time when other things were good
                return True
        except OSError as error:
            self._storage.failed(error)
            self._storage.tell()
        return False

    def taken(self, document: Fetched) -> None:
        """``document`` is in use and current: to be kept."""
        if self._keeper is not None:
            self._document = document
            self._due_s = 0.0
            self.confirmed()

    def confirmed(self) -> None:
        """The document in use, which was recalled or kept or is to be, is still current."""
        self._confirmed_ms = self._clock.wall_ms()

    def write(self) -> None:
        """Keep what is due. Raises: nothing that a disk may raise."""
        now_s = self._clock.monotonic_s()
        if self._keeper is None or self._confirmed_ms is None or now_s < self._due_s:
            return
        try:
            self._keeper.keep(self._document, self._confirmed_ms)
        except OSError as error:
            self._storage.failed(error)
            self._due_s = now_s + _RETRY_S
        else:
            self._document = self._confirmed_ms = None
            self._storage.succeeded()
            self._due_s = now_s + _PERIOD_S
        self._storage.tell()
