"""``Feed``: everything between a source and the definitions in use, put together once.

The client asks ``snapshot`` and is told when another one is in use; polling, streaming, what is kept on disk, waiting
for definitions and telling handlers of them are arranged here, and known nowhere else.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from flagkit.boundary import contained
from flagkit.clock import Clock
from flagkit.config import Config
from flagkit.core.model import Definitions
from flagkit.core.snapshot import Snapshot, TakenBack
from flagkit.dialects import follower, parser
from flagkit.runtime.bell import Bell
from flagkit.runtime.current import Current
from flagkit.runtime.handlers import EventDetails, Handlers
from flagkit.runtime.poller import Poller
from flagkit.runtime.process import process
from flagkit.runtime.stream import Stream
from flagkit.runtime.worker import Worker
from flagkit.sources import Source, Static, Teller
from flagkit.sources.cached import with_last_good

if TYPE_CHECKING:
    from flagkit.runtime.inquiries import Inquiries
    from flagkit.sources.source import Decider


class Feed:
    """See the module. Local definitions, and those kept on disk, are in use once it is made.

    Args: changed: told that another snapshot is in use, perhaps more than once. ended: told that a thread is ending
        although nobody asked it to, so that somebody calls ``start`` again. observe: exposures to the decisions may be
        recorded. taken_back: what guards have taken back of the flags of some definitions. stands: told how the
        definitions stand, after each poll.
    """

    def __init__(
        self,
        source: Source,
        config: Config,
        clock: Clock,
        *,
        changed: Callable[[], None],
        ended: Callable[[], None],
        observe: bool,
        taken_back: Callable[[Definitions], TakenBack] = lambda _: TakenBack(),
        stands: Callable[[EventDetails | None], None] = lambda _: None,
    ) -> None:
        self._stands = stands
        self._source = with_last_good(source, config.state_dir, config.environment)
        self._config = config
        self._clock = clock
        self._changed = changed
        self._closed = False
        self._waiting: list[Bell] = []
        #: What cannot change needs no thread, and never grows old.
        self._fixed = isinstance(source, Static)
        self.handlers = Handlers(clock)
        facts: Mapping[str, str] = getattr(self._source, "facts", {})
        decider: Decider | None = getattr(self._source, "decider", None)
        #: What the source's server is asked about; None: nothing.
        self.inquiries: Inquiries | None = None
        if decider is not None:
            from flagkit.runtime.inquiries import Inquiries  # only those who want it should pay for it

            self.inquiries = Inquiries(decider, config, clock)
        self.current = Current(
            parser(self._source.dialect, facts, self.inquiries),
            self._publish,
            config,
            clock,
            observe=observe,
            fixed=self._fixed,
            follow=follower(self._source.dialect, facts),
            taken_back=taken_back,
        )
        self.poller = Poller(self._source, self.current, config, clock)
        self.worker = Worker("flagkit-poll", self.poll, clock, ended=ended)
        self.stream = (
            Stream(self._source, self.current, self.poller, self._hurry, config, clock)
            if isinstance(self._source, Teller)
            else None
        )
        contained(self.poller.recall, otherwise=None)
        if self._source.local:
            self.poller.poll()

    @property
    def snapshot(self) -> Snapshot:
        """What answers now."""
        return self.current.snapshot

    @property
    def dialect(self) -> str:
        """The format of the definitions."""
        return self._source.dialect

    def environment(self) -> str | None:
        return self._config.environment or self.snapshot.definitions.environment

    # -- life --------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Fetch in the background. Cheap when it does already. Raises: nothing."""
        if self._fixed:
            self.handlers.stand(self._standing())
        else:
            self.worker.start()

    @property
    def running(self) -> bool:
        return self._fixed or self.worker.running

    @property
    def faults(self) -> int:
        """Rounds of the threads here that ended in an unexpected exception."""
        others = (each for each in (self.stream, self.inquiries) if each is not None)
        return self.worker.faults + self.handlers.faults + sum(each.faults for each in others)

    def stop(self) -> None:
        """Ask the threads to end; whoever waits for definitions waits no longer."""
        self._closed = True
        self._ring()
        self.worker.stop()
        for thread in (self.stream, self.inquiries):
            if thread is not None:
                thread.stop()
        self.handlers.stop()

    def close(self, ends_s: float) -> None:
        """Wait for the threads until ``ends_s``, monotonic seconds, and let go of connections."""
        for thread in (self.worker, self.stream, self.inquiries):
            if thread is not None:
                thread.stop(max(0.0, ends_s - self._clock.monotonic_s()))
        contained(self._source.close, otherwise=None)

    def after_fork(self) -> None:
        """In a forked child: forget the parent's threads and connections, keep the definitions. Assigns only."""
        self._waiting = []
        self.handlers.after_fork()
        self.current.after_fork()
        self.poller.after_fork()
        self.worker.after_fork()
        for thread in (self.stream, self.inquiries):
            if thread is not None:
                thread.after_fork()
        contained(self._source.after_fork, otherwise=None)

    # -- waiting -----------------------------------------------------------------------------------------------------

    def wait_ready(self, timeout_s: float) -> bool:
        """Whether definitions are there, after waiting at most ``timeout_s`` seconds."""
        return self._wait(lambda: self.snapshot.ready, timeout_s)

    def refresh(self, start: Callable[[], None], timeout_s: float) -> bool:
        """Have the source asked now; return whether it confirmed the definitions within ``timeout_s`` seconds.

        Args: start, what starts the threads. While the source fails, its own pace is kept.
        """
        before = self.current.confirmations
        start()
        if self._fixed:
            return self.snapshot.ready
        # If nothing is loaded the first poll is under way.
        asked = self.current.confirmations > before or not self.poller.loaded
        if not asked and not self.poller.state.consecutive_failures:
            self.worker.wake()
        return self._wait(lambda: self.current.confirmations > before, timeout_s)

    def _wait(self, fulfilled: Callable[[], bool], timeout_s: float) -> bool:
        """Whether ``fulfilled``, looked at after each answer of the source, for at most ``timeout_s`` seconds."""
        ends_s = self._clock.monotonic_s() + timeout_s
        bell = Bell()  # of the kind that threads are now: gevent may have patched both after the client was made
        self._waiting.append(bell)
        if process.preforking and not fulfilled():
            # No thread runs here, so this one asks.
            contained(self.poller.poll, min(timeout_s, self._config.deadline_s), otherwise=None)
        while not fulfilled() and not self._closed and bell.wait(ends_s - self._clock.monotonic_s()):
            bell.clear()
        self._waiting.remove(bell)
        self._changed()  # the thread that brought them may not have come to it
        return fulfilled()

    def _ring(self) -> None:
        for bell in self._waiting.copy():
            bell.set()

    # -- the threads' side -------------------------------------------------------------------------------------------

    def poll(self) -> float:
        """One round of the polling thread; return the seconds until the next."""
        try:
            pause_s = self.poller.step()
        finally:
            self.current.age()  # time passes as well while a source raises what it should not
        if self.stream is not None:
            self.stream.start()
        standing = self._standing()
        self.handlers.stand(standing)
        self._stands(standing)
        self._ring()
        return pause_s

    def _publish(self, snapshot: Snapshot, before: Snapshot) -> None:
        self._changed()
        self._ring()
        if before.ready and self.handlers.wants("configuration_changed"):
            affected = snapshot.affected_since(before)
            if affected:
                self.handlers.emit(EventDetails("configuration_changed", affected))

    def _hurry(self, within_s: float) -> None:
        self.poller.hurry(within_s)
        self.worker.wake()

    def _standing(self) -> EventDetails | None:
        link = self.poller.state
        if link.state in ("auth_failed", "rejected"):
            return EventDetails("error", message=link.last_error)
        if not self.snapshot.ready:
            return None
        return EventDetails("stale" if self.current.unconfirmed else "ready")
