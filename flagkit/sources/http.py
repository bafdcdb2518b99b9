"""Definitions over HTTP: from a flagkit service, a CDN, an object store or any web server.

Owns what statuses mean to a poller: which bodies may be definitions, which failures will pass and which will last.
``Wire`` moves the bytes; the poller decides when to ask.
"""

from __future__ import annotations

from typing import Final

from flagkit.errors import FetchError
from flagkit.http import NoReply, Reply, Wire
from flagkit.sources.source import Answer, Fetched, NotModified, checked_dialect

_PATH: Final = "/v1/definitions"
_PASSING: Final = frozenset({408, 425, 429})


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
        self.dialect = checked_dialect(dialect)
        self._wire = Wire(url, _PATH, key=key, ca_file=ca_file, allow_insecure_http=allow_insecure_http)
        self.name = self._wire.url

    def __repr__(self) -> str:
        return f"sources.Http({self.name!r})"

    def fetch(self, validator: str | None, *, deadline_s: float, max_bytes: int) -> Answer:
        """See ``Source``. A 304 counts only when this call sent a validator."""
        try:
            reply = self._wire.get(etag=validator, deadline_s=deadline_s, max_bytes=max_bytes)
        except NoReply as error:
            raise FetchError(error.reason, str(error), lasting=error.lasting) from None
        if reply.status == 304:
            if validator is None:
                raise self._failure("spurious_304", "answered 304 to a request without a validator")
            return NotModified(reply.server_ms)
        if reply.status != 200:
            raise self._refusal(reply)
        if reply.media_type != "application/json" and not reply.media_type.endswith("+json"):
            raise self._failure("not_json", f"answered with {reply.media_type[:64] or 'no media type'}, not JSON")
        return Fetched(reply.body, reply.etag, reply.server_ms)

    def close(self) -> None:
        self._wire.close()

    def after_fork(self) -> None:
        self._wire.after_fork()

    def _refusal(self, reply: Reply) -> FetchError:
        status = reply.status
        return FetchError(
            f"http_{status}",
            f"{self.name}: answered with status {status}",
            retry_after_s=reply.retry_after_s,
            lasting=400 <= status < 500 and status not in _PASSING,
        )

    def _failure(self, reason: str, sentence: str) -> FetchError:
        return FetchError(reason, f"{self.name}: {sentence}")
