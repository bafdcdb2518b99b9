"""``Alerts``: people are told of trips, stale definitions and lost events, each time once, until it is over.

Owns which episodes are on, what is still to be told, and when a webhook is tried again. Any thread raises an alert;
``step`` tells it, on a thread that somebody else drives: the log, the application's handlers and the webhook are
foreign code, and hold up nobody but each other. It knows neither threads nor HTTP, nor why an alert is raised.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Mapping
from functools import partial
from random import Random, SystemRandom
from typing import Any, Final, Literal, NamedTuple, Protocol, TypeAlias, runtime_checkable

from flagkit.boundary import contained
from flagkit.clock import Clock
from flagkit.events import Delivered, Retry, Sent
from flagkit.frozen import ReadOnly
from flagkit.log import logger

#: ``trip``: a guard rolled a flag back, or would have. ``stale``: nobody confirms the definitions. ``lost``: events.
Kind: TypeAlias = Literal["trip", "stale", "lost"]

_IDLE_S: Final = 3600.0
_MAX_MESSAGE: Final = 1000
_MAX_ABOUT: Final = 256
#: Episodes that are on, and alerts that wait to be told or sent, at most.
_MOST: Final = 1000
_MOST_PENDING: Final = 100
#: A webhook has so long for an answer, seconds; is tried so often, with pauses from the first to the longest, jittered;
#: and is not told what is older than an hour.
_DEADLINE_S: Final = 10.0
_MOST_TRIES: Final = 10
_FIRST_PAUSE_S: Final = 2.0
_LONGEST_PAUSE_S: Final = 300.0
_EXPIRES_S: Final = 3600.0
#: What stands in for the answers of code that raises.
_NO_LABELS: Final[Mapping[str, str]] = {}
_RAISED: Final[Sent] = Retry("raised")


class Alert(NamedTuple):
    """about: the flag with ``trip``; else the source, or the reason of the loss. at_ms: when it began, since 1970."""

    kind: Kind
    about: str
    message: str
    at_ms: int

    @property
    def flags(self) -> frozenset[str]:
        """The flags that it changes: what a handler is told."""
        return frozenset({self.about}) if self.kind == "trip" else frozenset()


class AlertStatus(NamedTuple):
    """raised: alerts, one an episode. under_way: episodes that are not over. pending: alerts to be told or sent yet.

    delivered, lost (reason -> count), last_error: of the webhook. With one,
    ``raised == delivered + pending + sum(lost.values())``; without, only what was too much to be told is lost.
    """

    raised: int
    under_way: int
    delivered: int
    pending: int
    lost: Mapping[str, int]
    last_error: str | None


@runtime_checkable
class Messenger(Protocol):
    """What ``sinks.Webhook`` is."""

    @property
    def name(self) -> str: ...
    def send(self, text: str, fields: Mapping[str, Any], *, deadline_s: float) -> Sent: ...
    def close(self) -> None: ...
    def after_fork(self) -> None: ...


class Alerts:
    """See the module. ``wake`` is to be set to what has ``step`` called soon.

    Args:
        emit: hands an alert to the application's handlers; quick.
        webhook: None: there is none.
        labels: what tells this process's alerts from those of others (environment, service), asked for each; quick.
    """

    def __init__(
        self,
        clock: Clock,
        *,
        emit: Callable[[Alert], object],
        webhook: Messenger | None = None,
        labels: Callable[[], Mapping[str, str]] = dict,
        random: Random | None = None,
    ) -> None:
        self.wake: Callable[[], object] = lambda: None
        self._clock = clock
        self._emit = emit
        self._webhook = webhook
        self._labels = labels
        self._random = random or SystemRandom()
        self._log = logger()
        self._under_way: set[tuple[str, str]] = set()
        self._begin()

    def after_fork(self) -> None:
        """In a forked child: what is to be told is the parent's to tell; what it knows of is not told again here."""
        self._begin()
        if self._webhook is not None:
            self._webhook.after_fork()

    def _begin(self) -> None:
        self._lock = threading.Lock()
        self._new: deque[Alert] = deque()
        self._outbox: deque[tuple[Alert, float]] = deque()
        self._tries = 0  # of the first in the outbox
        self._failures = 0  # of the webhook, in a row
        self._next_s = float("-inf")
        self._raised = self._delivered = 0
        self._lost: dict[str, int] = {}
        self._last_error: str | None = None

    # -- for whoever notices

    def raise_(self, kind: Kind, about: str, message: str) -> None:
        """Something has begun of which people are to hear; nothing new if it is on already. Raises: nothing."""
        place = kind, about
        with self._lock:
            if place in self._under_way:
                return
            self._raised += 1
            if len(self._under_way) < _MOST:
                self._under_way.add(place)
            if len(self._new) >= _MOST_PENDING:
                self._lose("overflow")
                return
            self._new.append(
                Alert(kind, _plain(about, _MAX_ABOUT), _plain(message, _MAX_MESSAGE), self._clock.wall_ms())
            )
        self.wake()

    def over(self, kind: Kind, about: str) -> None:
        """It is over; should it begin again, that is worth an alert again. Raises: nothing, also if it was not on."""
        with self._lock:
            self._under_way.discard((kind, about))

    @property
    def status(self) -> AlertStatus:
        with self._lock:
            return AlertStatus(
                self._raised,
                len(self._under_way),
                self._delivered,
                len(self._new) + len(self._outbox),
                ReadOnly(self._lost),
                self._last_error,
            )

    # -- for the thread that tells

    def step(self) -> float:
        """Tell what is new, and try the webhook once if it is time; seconds until there is something to do."""
        while self._new:
            self._tell()
        if not self._outbox or self._webhook is None:
            return _IDLE_S
        if self._clock.monotonic_s() >= self._next_s:
            self._send(self._webhook)
        if not self._outbox:
            return _IDLE_S
        return max(0.0, self._next_s - self._clock.monotonic_s())

    def close(self) -> None:
        """Let go of the webhook's connection."""
        if self._webhook is not None:
            self._webhook.close()

    def _tell(self) -> None:
        with self._lock:
            alert = self._new.popleft()
            if self._webhook is not None and len(self._outbox) < _MOST_PENDING:
                self._outbox.append((alert, self._clock.monotonic_s()))
            elif self._webhook is not None:
                self._lose("overflow")
        self._warn("alert: %s of %s: %s", alert.kind, alert.about, alert.message)
        contained(self._emit, alert, otherwise=None)

    def _send(self, webhook: Messenger) -> None:
        """One attempt with the first that waits."""
        alert, raised_s = self._outbox[0]
        if self._clock.monotonic_s() - raised_s > _EXPIRES_S:
            self._done("expired")
            return
        labels = contained(self._labels, otherwise=_NO_LABELS)
        where = " ".join(labels.values())
        text = f"flagkit{where and f' ({where})'}: {alert.kind} of {alert.about}: {alert.message}"
        fields = {**labels, **alert._asdict()}
        unexpected: list[Exception] = []
        sent = contained(
            partial(webhook.send, text, fields, deadline_s=_DEADLINE_S),
            otherwise=_RAISED,
            failed=unexpected.append,
        )
        self._tries += 1
        if isinstance(sent, Delivered):
            self._failures = 0
            self._done(None)
            return
        self._failures += 1
        reason = self._last_error = sent.reason
        if not isinstance(sent, Retry) or self._tries >= _MOST_TRIES:
            self._done(reason)
        after_s = sent.after_s if isinstance(sent, Retry) else 0.0
        pause_s = min(_FIRST_PAUSE_S * 2.0 ** min(self._failures - 1, 16), _LONGEST_PAUSE_S)
        jitter = 0.5 + self._random.random() / 2
        self._next_s = self._clock.monotonic_s() + max(pause_s * jitter, min(after_s, _EXPIRES_S))
        if unexpected:  # by its type alone: a message may hold the URL
            self._warn("%s raised %s", webhook.name, type(unexpected[0]).__name__)

    def _done(self, lost_for: str | None) -> None:
        with self._lock:
            alert, _ = self._outbox.popleft()
            self._tries = 0
            if lost_for is None:
                self._delivered += 1
            else:
                self._lose(lost_for)
        if lost_for is not None and self._webhook is not None:
            what = f"{alert.kind} of {alert.about}"
            self._warn("%s: the alert %s is lost: %s", self._webhook.name, what, lost_for)

    def _lose(self, reason: str) -> None:
        self._lost[reason] = self._lost.get(reason, 0) + 1

    def _warn(self, text: str, *args: object) -> None:
        # Logging handlers are foreign code.
        contained(partial(self._log.warning, text, *args), otherwise=None)


def _plain(text: str, most: int) -> str:
    """Without line ends and the like, which a log would show as lines of its own."""
    return "".join(each if each.isprintable() else " " for each in text[:most])
