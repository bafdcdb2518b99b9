"""Events over HTTP, to a flagkit service or whatever keeps its contract.

Owns what counts as delivered: a 200 or 202 whose JSON body repeats the batch's id, and nothing else, because proxies
and captive portals answer 200 too. ``Wire`` moves the bytes; delivery decides when to send again.
"""

from __future__ import annotations

import json
import zlib
from typing import Any, Final

from flagkit.clock import Clock, SystemClock
from flagkit.events import Batch, Delivered, Rejected, Retry, Sent, TooLarge
from flagkit.http import NoReply, Reply, Wire

_PATH: Final = "/v1/events"
_MAX_ACK_BYTES: Final = 4 * 1024 * 1024
_MAX_WAIT_S: Final = 3600.0
_MAX_REASON: Final = 64
_GZIP_WBITS: Final = 31
_PASSING: Final = frozenset({408, 425, 429})


class Http:
    """Events by POST, gzipped, with the batch's id as idempotency key.

    Args:
        url: a collector's address without path, ``https://flags.example.com``, which is sent to ``/v1/events``; or,
            with a path, the endpoint itself. https (http on loopback), no user name, query or fragment.
        key: the write key, sent as ``Authorization: Bearer``.
        ca_file: PEM file of certificates trusted in addition to the public ones.
        allow_insecure_http: allow http beyond loopback, in the clear.
        clock: for the time of sending that goes with each batch.

    Raises: ConfigError naming the field.
    """

    #: What gates have counted goes here too, as metric events; see docs/events.md.
    takes_calls = True

    def __init__(
        self,
        url: str,
        *,
        key: str | None = None,
        ca_file: str | None = None,
        allow_insecure_http: bool = False,
        clock: Clock | None = None,
    ) -> None:
        self._wire = Wire(url, _PATH, key=key, ca_file=ca_file, allow_insecure_http=allow_insecure_http)
        self._clock = SystemClock() if clock is None else clock
        self.name = self._wire.url

    def __repr__(self) -> str:
        return f"sinks.Http({self.name!r})"

    def send(self, batch: Batch, *, deadline_s: float) -> Sent:
        """See ``Sink``."""
        # Level 1 saves 89 % where level 6 saves 90 %, in a third of the time.
        body = zlib.compress(batch.body(self._clock.wall_ms()), 1, _GZIP_WBITS)
        headers = {"Content-Type": "application/json", "Content-Encoding": "gzip", "Idempotency-Key": batch.id}
        try:
            reply = self._wire.post(body, headers, deadline_s=deadline_s, max_bytes=_MAX_ACK_BYTES)
        except NoReply as error:
            return Retry(error.reason, lasting=error.lasting)
        return _acknowledged(reply.body, batch) if reply.status in (200, 202) else refused(reply)

    def close(self) -> None:
        self._wire.close()

    def after_fork(self) -> None:
        self._wire.after_fork()


def refused(reply: Reply) -> Sent:
    """What a status that does not confirm means for the batch."""
    status = reply.status
    if status == 413:
        return TooLarge()
    if status in (400, 422):
        return Rejected(f"http_{status}", divisible=True)  # one bad event may be all it takes
    if status < 400:
        return Retry("not_an_ack")
    after_s = min(reply.retry_after_s or 0.0, _MAX_WAIT_S)
    return Retry(f"http_{status}", after_s, lasting=status < 500 and status not in _PASSING)


def _acknowledged(body: bytes, batch: Batch) -> Sent:
    """Delivered if ``body`` acknowledges this batch, with the events refused for good counted by reason."""
    try:
        ack = json.loads(body)
    except (ValueError, RecursionError):
        return Retry("not_an_ack")
    if not isinstance(ack, dict) or ack.get("batch_id") != batch.id:
        return Retry("not_an_ack")
    entries = ack.get("rejected") or []
    if not isinstance(entries, list) or len(entries) > len(batch.events):
        return Retry("not_an_ack")
    if any(isinstance(entry, dict) and entry.get("retry") is True for entry in entries):
        return Retry("asked_again")  # the whole batch: what the collector has, it knows by id
    counts: dict[str, int] = {}
    for entry in entries:
        reason = _reason(entry)
        counts[reason] = counts.get(reason, 0) + 1
    return Delivered(counts)


def _reason(entry: Any) -> str:
    reason = entry.get("reason") if isinstance(entry, dict) else None
    # It becomes the name of a counter, so it must be a word and not whatever somebody sends.
    return reason if isinstance(reason, str) and 0 < len(reason) <= _MAX_REASON and reason.isprintable() else "unnamed"
