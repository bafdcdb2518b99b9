"""``Watch``: the clockwork of the guards: hung calls, the clock of breakers, and what the processes of a host share.

One step a second, on the guards' own thread. What the disk does wrong is noted and tried again; guards go on without.
It decides nothing about candidates: it brings what happened to those who do.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import Final, Protocol

from flagkit.clock import Clock
from flagkit.production.guards import Guards
from flagkit.production.host import Host, Notice
from flagkit.production.marks import Mark

_STEP_S: Final = 1.0
#: How long after its time a breaker may still be tried by the process that opened it; then another takes it over.
_TAKEOVER_MS: Final = 15_000
#: Deaths that open the breaker.
_DEATHS: Final = 2


class Noted(Protocol):
    """What hears how the disk does: ``runtime.storage.Storage``."""

    def succeeded(self) -> None: ...
    def failed(self, error: OSError) -> None: ...
    def tell(self) -> None: ...


class Watch:
    """See the module. ``host``: None without a ``state_dir``."""

    def __init__(self, guards: Guards, host: Host | None, disk: Noted, clock: Clock, owner: Callable[[], str]) -> None:
        self._guards = guards
        self._host = host
        self._disk = disk
        self._clock = clock
        self._owner = owner
        #: Notices that the host's processes have told each other of.
        self._shared: dict[str, Notice] = {}

    def after_fork(self) -> None:
        """In a forked child. Closes descriptors and assigns."""
        if self._host is not None:
            self._host.after_fork()

    def recall(self) -> None:
        """What this host knows of trips and deaths, before the first answer; and marks for this process.

        Raises: nothing.
        """
        self._with_disk(self._share)

    def step(self) -> float:
        """One round; return the seconds until the next."""
        for guard in tuple(self._guards.guards.values()):
            guard.expire(self._clock.monotonic_s())
        self._with_disk(self._share)
        return _STEP_S

    def leave(self) -> None:
        """This process ends in peace. Raises: nothing."""
        self._guards.drain()
        if self._host is not None and self._host.marks is not None:
            self._guards.marking.marks = None
            self._with_disk(self._tell)
            self._host.leave()

    # -- the host

    def _with_disk(self, work: Callable[[Host], None]) -> None:
        if self._host is None:
            return
        try:
            work(self._host)
        except OSError as error:
            self._disk.failed(error)
        else:
            self._disk.succeeded()
        self._disk.tell()

    def _share(self, host: Host) -> None:
        self._read(host)
        for marks in host.deaths():
            self._death(host, marks)
        self._tell(host)

    def _tell(self, host: Host) -> None:
        """Have the others know what this process has found out, and what of it is over."""
        notices = {notice.name: notice for notice in self._guards.book.notices.values()}
        for name, notice in notices.items():
            known = self._shared.get(name)
            if known is None or (known.kind, known.at_ms) != (notice.kind, notice.at_ms):
                self._put(host, notice._replace(deaths=known.deaths if known is not None else 0))
        for name, notice in tuple(self._shared.items()):
            if notice.kind and notice.owner == self._owner() and name not in notices:
                host.withdraw(notice)
                del self._shared[name]

    def _read(self, host: Host) -> None:
        host.live(self._clock.wall_ms())
        self._guards.marking.marks = host.marks
        before, now_ms = self._shared, self._clock.wall_ms()
        self._shared = {notice.name: notice for notice in host.read()}
        for notice in self._shared.values():
            if not notice.kind or notice.environment != self._guards.environment:
                continue
            if notice.owner == self._owner():
                continue
            if notice.latched or now_ms < notice.until_ms + _TAKEOVER_MS:
                self._guards.enter(notice)
            else:
                self._take_over(host, notice)
        for name, notice in before.items():
            if notice.kind and name not in self._shared and notice.owner != self._owner():
                self._guards.withdraw(notice)

    def _put(self, host: Host, notice: Notice) -> None:
        host.put(notice)
        self._shared[notice.name] = notice

    def _take_over(self, host: Host, notice: Notice) -> None:
        """Whoever opened a breaker has not tried it again: this process does, as one more try."""
        guard = self._guards.guard_of(notice.flag)
        if guard is None or guard.policy.revision > notice.revision:
            return
        guard.take_over(notice.candidate, notice.tries + 1, self._clock.monotonic_s())
        taken = self._guards.book.notices.get((notice.flag, notice.candidate))
        if taken is not None:
            self._put(host, taken._replace(deaths=notice.deaths))

    def _death(self, host: Host, marks: list[Mark]) -> None:
        """A process died with these calls under way: each has failed; and perhaps one of them killed it."""
        by_flag: dict[str, list[Mark]] = defaultdict(list)
        for mark in marks:
            by_flag[mark.place["flag"]].append(mark)
        for flag, calls in by_flag.items():
            guard = self._guards.guard_of(flag)
            if guard is None:
                continue
            current = [mark for mark in calls if mark.place["revision"] == guard.policy.revision]
            guard.died(current, self._clock.monotonic_s())
            candidates = {mark.place["candidate"] for mark in current}
            if len(candidates) == 1 and (candidate := candidates.pop()) is not None:
                notice = self._guards.notice_of(guard, candidate)
                known = self._shared.get(notice.name)
                deaths = 1 + (known.deaths if known is not None and known.revision == notice.revision else 0)
                self._put(host, (known or notice)._replace(deaths=deaths, revision=notice.revision))
                if deaths >= _DEATHS:
                    guard.killed(candidate, deaths, self._clock.monotonic_s())
