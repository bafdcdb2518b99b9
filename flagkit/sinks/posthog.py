"""Events to PostHog: exposures as ``$feature_flag_called``, tracked events by their own names.

Owns the request and what its answer means for a batch: success is a 200 whose JSON says ``status``, and nothing else,
because proxies and captive portals answer 200 too; events that a used-up quota made PostHog drop are lost, and counted.
``posthog_events`` words the events, ``Wire`` moves the bytes, delivery decides when to send again.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from typing import Any, Final

from flagkit.boundary import contained
from flagkit.clock import Clock, SystemClock
from flagkit.errors import ConfigError
from flagkit.events import Batch, Delivered, Retry, Sent
from flagkit.http import NoReply, Wire
from flagkit.http.posthog import CLOUD, address, checked_token
from flagkit.sinks.http import refused
from flagkit.sinks.posthog_events import encoded, event_of, timestamp, unit_of

_PATH: Final = "/batch/"
_MAX_EVENT_BYTES: Final = 900 * 1024
_MAX_BODY_BYTES: Final = 5 * 1024 * 1024
_HEAD_BYTES: Final = 4096  # more than a request has beside its events
_MAX_EVENTS: Final = 100
_MAX_ANSWER_BYTES: Final = 64 * 1024
_GZIP_WBITS: Final = 31
_MAX_GROUPS: Final = 10
_HEADERS: Final = {"Content-Type": "application/json", "Content-Encoding": "gzip"}


class PostHog:
    """Events by ``POST /batch/``, gzipped.

        Client(source=sources.PostHog(...), sink=sinks.PostHog(project_token="phc_...", groups=groups_of))

    Args:
        host: PostHog's address, as for ``sources.PostHog``.
        project_token: of the project, ``phc_...``; it travels in the body.
        groups: from a unit to its groups, type -> key, as PostHog's ``$groups`` want them: flagkit's events know the
            unit only. Asked on the delivery thread, for each event; what it raises costs the groups, not the event.
        ca_file: PEM file of certificates trusted in addition to the public ones.
        allow_insecure_http: allow http beyond loopback, in the clear.
        clock: for the time of sending that goes with each request.

    Raises: ConfigError naming the field, without the token.
    """

    def __init__(
        self,
        host: str = CLOUD,
        *,
        project_token: str,
        groups: Callable[[str], Mapping[str, str]] | None = None,
        ca_file: str | None = None,
        allow_insecure_http: bool = False,
        clock: Clock | None = None,
    ) -> None:
        if groups is not None and not callable(groups):
            raise ConfigError("groups", groups, "a function from a unit to its groups, or None")
        self._token = checked_token(project_token)
        self._groups = groups
        self._wire = Wire(
            address(host, _PATH), _PATH, field="host", ca_file=ca_file, allow_insecure_http=allow_insecure_http
        )
        self._clock = SystemClock() if clock is None else clock
        self.name = self._wire.url
        from flagkit.http.leash import library_version  # loaded with the wire

        self._version = library_version()

    def __repr__(self) -> str:
        return f"sinks.PostHog({self.name!r})"

    def send(self, batch: Batch, *, deadline_s: float) -> Sent:
        """See ``Sink``. What is more than PostHog takes at once is sent in portions, and all again if one fails."""
        ends_s = self._clock.monotonic_s() + deadline_s
        lost: dict[str, int] = {}
        events = []
        for text in batch.events:
            event = contained(self._event, text, otherwise="")
            if not event or len(event) > _MAX_EVENT_BYTES:
                reason = "too_large" if event else "unencodable"
                lost[reason] = lost.get(reason, 0) + 1
            else:
                events.append(event)
        for request in _requests(events):
            sent = self._post(request, ends_s - self._clock.monotonic_s())
            if not isinstance(sent, Delivered):
                return sent
            for reason, count in sent.rejected.items():
                lost[reason] = lost.get(reason, 0) + count
        return Delivered(lost)

    def close(self) -> None:
        self._wire.close()

    def after_fork(self) -> None:
        self._wire.after_fork()

    def _event(self, text: str) -> str:
        """An event as PostHog takes it; "" for one that PostHog has no use for. Raises: whatever a bad one makes."""
        event: dict[str, Any] = json.loads(text)
        unit, none = unit_of(event), dict[str, str]()
        groups = contained(self._groups_of, unit, otherwise=none) if self._groups is not None and unit else none
        made = event_of(event, groups, self._version)
        return "" if made is None else encoded(made)

    def _groups_of(self, unit: str) -> dict[str, str]:
        found = self._groups(unit) if self._groups is not None else {}
        return {str(kind): str(key) for kind, key in islice(found.items(), _MAX_GROUPS)}

    def _post(self, events: list[str], left_s: float) -> Sent:
        if left_s <= 0:
            return Retry("deadline")
        head = {
            "api_key": self._token.reveal(),
            "historical_migration": False,
            "sent_at": timestamp(self._clock.wall_ms()),
        }
        body = f'{json.dumps(head)[:-1]}, "batch": [{",".join(events)}]}}'.encode()
        try:
            reply = self._wire.post(
                zlib.compress(body, 1, _GZIP_WBITS), _HEADERS, deadline_s=left_s, max_bytes=_MAX_ANSWER_BYTES
            )
        except NoReply as error:
            return Retry(error.reason, lasting=error.lasting)
        return _acknowledged(reply.body, len(events)) if reply.status == 200 else refused(reply)


def _requests(events: list[str]) -> Iterator[list[str]]:
    """The events in portions that PostHog takes."""
    portion: list[str] = []
    size = 0
    for event in events:
        if portion and (len(portion) == _MAX_EVENTS or size + len(event) > _MAX_BODY_BYTES - _HEAD_BYTES):
            yield portion
            portion, size = [], 0
        portion.append(event)
        size += len(event) + 1
    if portion:
        yield portion


def _acknowledged(body: bytes, size: int) -> Sent:
    """Delivered if ``body`` is PostHog's; what it dropped because a quota is used up is lost, and it says so."""
    answer = contained(json.loads, body, otherwise=None)
    if not isinstance(answer, dict) or answer.get("status") not in (1, "Ok", "ok"):
        return Retry("not_an_ack")
    return Delivered({"quota_limited": size} if answer.get("quota_limited") else {})
