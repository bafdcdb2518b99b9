"""``Handlers``: the application's own functions, called when definitions change or their standing does.

They run one after another on a thread of their own, so that one which blocks holds up nothing but the others. What has
not been told yet is merged, so it stays bounded whatever they do. The client emits; nobody here knows why.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final, Literal, NamedTuple, TypeAlias, get_args

from flagkit.boundary import contained
from flagkit.clock import Clock
from flagkit.errors import ConfigError
from flagkit.runtime.episode import Episode
from flagkit.runtime.worker import Worker

#: In OpenFeature's words, without their prefix; and ``alert``, which is ours.
Event: TypeAlias = Literal["ready", "configuration_changed", "stale", "error", "alert"]

_EVENTS: Final[tuple[str, ...]] = get_args(Event)
_IDLE_S: Final = 3600.0
_SLOW_S: Final = 1.0
_MAX_MESSAGE: Final = 10_000


class EventDetails(NamedTuple):
    """What a handler is told.

    event: ``ready`` (definitions are there, or current again), ``configuration_changed``, ``stale`` (nobody has
        confirmed them for two intervals, at least a minute), ``error`` (the source refuses the key, or its document
        cannot be used) or ``alert`` (somebody should look: a guard tripped, definitions are stale, events are lost).
    flags_changed: with ``configuration_changed``, the keys of flags that may answer differently from now on; with
        ``alert``, of those whose guards tripped.
    message: with ``error``, what is wrong in a few words; with ``alert``, what happened, a line each.
    """

    event: Event
    flags_changed: frozenset[str] = frozenset()
    message: str | None = None


Handler: TypeAlias = Callable[[EventDetails], object]


class Handlers:
    """See the module. Any thread may call any method; none waits for a handler."""

    __slots__ = ("_clock", "_episode", "_handlers", "_lock", "_pending", "_standing", "_worker")

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._episode = Episode("handlers", clock)
        self._handlers: dict[str, tuple[Handler, ...]] = {}
        self._standing: EventDetails | None = None
        self._worker = Worker("flagkit-handlers", self._step, clock)
        self.after_fork()

    def after_fork(self) -> None:
        """Keep the handlers, not what the parent has yet to tell them. Assigns only."""
        self._lock = threading.Lock()
        self._pending: dict[tuple[str, int], tuple[Handler, EventDetails]] = {}
        self._worker.after_fork()

    @property
    def faults(self) -> int:
        return self._worker.faults

    def add(self, event: str, handler: Handler) -> None:
        """Call ``handler`` from the next ``event`` on; at once if that is how things stand. Raises: ConfigError."""
        if event not in _EVENTS:
            raise ConfigError("event", event, f"one of {', '.join(_EVENTS)}")
        if not callable(handler):
            raise ConfigError("handler", handler, "a function that takes the details of the event")
        self._handlers[event] = (*self._handlers.get(event, ()), handler)
        standing = self._standing
        if standing is not None and standing.event == event:
            self._put(handler, standing)

    def remove(self, event: str, handler: Handler) -> None:
        """No longer call ``handler``; if it is not there, do nothing. Raises: nothing."""
        self._handlers[event] = tuple(each for each in self._handlers.get(event, ()) if each != handler)

    def wants(self, event: Event) -> bool:
        return bool(self._handlers.get(event))

    def emit(self, details: EventDetails) -> None:
        """Have the handlers of an event called."""
        for handler in self._handlers.get(details.event, ()):
            self._put(handler, details)

    def stand(self, details: EventDetails | None) -> None:
        """How things stand now (None: nothing has happened yet); an event when that has changed."""
        standing, self._standing = self._standing, details
        if details is not None and (standing is None or standing.event != details.event):
            self.emit(details)

    def stop(self) -> None:
        self._worker.stop()

    def _put(self, handler: Handler, details: EventDetails) -> None:
        place = (details.event, id(handler))
        with self._lock:
            before = self._pending.pop(place, None)
            if before is not None:
                details = _merged(before[1], details)
            self._pending[place] = handler, details
        self._worker.wake()

    def _step(self) -> float:
        well = True
        while self._pending:
            with self._lock:
                handler, details = self._pending.pop(next(iter(self._pending)))
            began_s = self._clock.monotonic_s()
            raised: list[Exception] = []
            contained(_call, handler, details, otherwise=None, failed=raised.append)
            took_s = self._clock.monotonic_s() - began_s
            if raised:
                self._episode.failed("failing", f"a handler of {details.event} raised", raised[0])
            elif took_s > _SLOW_S:
                self._episode.failed("slow", f"a handler of {details.event} took {took_s:.1f} s")
            well = well and not raised and took_s <= _SLOW_S
            self._episode.tell()
        if well:
            self._episode.over()
            self._episode.tell()
        return _IDLE_S


def _merged(before: EventDetails, details: EventDetails) -> EventDetails:
    """Two that were not told yet, as one. Of alerts every message counts, as long as there is room."""
    flags, message = before.flags_changed | details.flags_changed, details.message
    if details.event == "alert":
        message = "\n".join((before.message or "", message or ""))[:_MAX_MESSAGE]
    return details._replace(flags_changed=flags, message=message)


def _call(handler: Handler, details: EventDetails) -> None:
    try:
        handler(details)
    except SystemExit as error:  # it would end this thread, which is the other handlers' too, and nothing else
        raise RuntimeError("sys.exit in a handler") from error
