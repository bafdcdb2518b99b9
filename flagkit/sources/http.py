"""Definitions over HTTP: from a flagkit service, a CDN, an object store or any web server.

Owns what statuses mean to a poller: which bodies may be definitions, which failures will pass and which will last.
``Wire`` moves the bytes; the poller decides when to ask.
"""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING, Final

from flagkit.errors import FetchError
from flagkit.http import NoReply, Reply, ServerSent, Wire
from flagkit.sources.source import Alive, Answer, Changed, Fetched, News, NotModified, checked_dialect

if TYPE_CHECKING:
    from flagkit.http.leash import Flow

_PATH: Final = "/v1/definitions"
_PASSING: Final = frozenset({408, 425, 429})
_HEARTBEAT_S: Final = 15.0
_MOST_MISSED: Final = 3  # heartbeats


class Http:
    """Definitions by conditional GET.

    Args:
        url: a service's address without path, ``https://flags.example.com``, which is asked for ``/v1/definitions``;
            or, with a path, the document itself. https (http on loopback), no user name, query or fragment.
        key: the read key, sent as ``Authorization: Bearer`` to this scheme, host and port only.
        dialect: the format of the document.
        ca_file: PEM file of certificates trusted in addition to the public ones.
        allow_insecure_http: allow http beyond loopback, in the clear.

    Raises: ConfigError naming the field.
    """

    local = False

    def __init__(
        self,
        url: str,
        *,
        key: str | None = None,
        dialect: str = "native",
        ca_file: str | None = None,
        allow_insecure_http: bool = False,
    ) -> None:
        self._speak(
            checked_dialect(dialect),
            Wire(url, _PATH, key=key, ca_file=ca_file, allow_insecure_http=allow_insecure_http),
        )

    def _speak(self, dialect: str, wire: Wire) -> None:
        self.dialect = dialect
        self._wire = wire
        self.name = wire.url
        self._stream_url: str | None = None

    def __repr__(self) -> str:
        return f"sources.Http({self.name!r})"

    @property
    def identity(self) -> str:
        """See ``Source``: another key may mean other definitions at the same address."""
        return self._wire.identity

    def fetch(self, validator: str | None, *, deadline_s: float, max_bytes: int) -> Answer:
        """See ``Source``. A 304 counts only when this call sent a validator."""
        try:
            reply = self._wire.get(etag=validator, deadline_s=deadline_s, max_bytes=max_bytes)
        except NoReply as error:
            raise FetchError(error.reason, str(error), lasting=error.lasting) from None
        if reply.status in (200, 304):
            self._stream_url = self._wire.beside(reply.stream)
        if reply.status == 304:
            if validator is None:
                raise self._failure("spurious_304", "answered 304 to a request without a validator")
            return NotModified(reply.server_ms)
        if reply.status != 200:
            raise refusal(self.name, reply)
        if reply.media_type != "application/json" and not reply.media_type.endswith("+json"):
            raise self._failure("not_json", f"answered with {_named(reply.media_type)}, not JSON")
        return Fetched(reply.body, reply.etag, reply.server_ms)

    @property
    def tells(self) -> bool:
        """See ``Teller``. A flagkit service says in its answers where it tells of changes; nobody else is asked."""
        return self._stream_url is not None

    def listen(self, mark: str | None, *, deadline_s: float, max_bytes: int) -> _Stream:
        """See ``Teller``."""
        url = self._stream_url
        if url is None:
            raise self._failure("no_stream", "offers no stream")
        try:
            reply, flow = self._wire.listen(url, last_id=mark, deadline_s=deadline_s)
        except NoReply as error:
            raise FetchError(error.reason, str(error), lasting=error.lasting) from None
        if reply.status != 200:
            raise refusal(url, reply)
        if flow is None or reply.media_type != "text/event-stream":
            if flow is not None:
                flow.close()
            raise FetchError("no_stream", f"{url}: answered without a stream of events")
        return _Stream(url, flow, _MOST_MISSED * (reply.heartbeat_s or _HEARTBEAT_S), max_bytes)

    def close(self) -> None:
        self._wire.close()

    def after_fork(self) -> None:
        self._wire.after_fork()

    def _failure(self, reason: str, sentence: str) -> FetchError:
        return FetchError(reason, f"{self.name}: {sentence}")


def refusal(url: str, reply: Reply) -> FetchError:
    """What a status that is no success means to whoever asked."""
    status = reply.status
    return FetchError(
        f"http_{status}",
        f"{url}: answered with status {status}",
        retry_after_s=reply.retry_after_s,
        lasting=400 <= status < 500 and status not in _PASSING,
    )


class _Stream:
    """Server-sent events as news."""

    def __init__(self, url: str, flow: Flow, silence_s: float, max_bytes: int) -> None:
        self.silence_s = silence_s
        self._url = url
        self._flow = flow
        self._events = ServerSent(max_bytes)
        self._news: deque[News] = deque()

    def next(self, timeout_s: float) -> News:
        ends_s = time.monotonic() + timeout_s
        while not self._news:
            try:
                piece = self._flow.read(ends_s)
            except NoReply as error:
                raise FetchError(error.reason, str(error)) from None
            found = self._events.feed(piece)
            if not piece or found is None:
                reason = "too_large" if piece else "ended"
                raise FetchError(reason, f"{self._url}: the stream {'has an endless event' if piece else 'ended'}")
            self._news += (Alive() if data is None else Changed(data) for data in found)
        return self._news.popleft()

    def hang_up(self) -> None:
        self._flow.hang_up()

    def close(self) -> None:
        self._flow.close()


def _named(media_type: str) -> str:
    # Whatever a server sends ends up in logs: as data, not as line ends or colours.
    return ascii(media_type[:64]) if media_type else "no media type"
