"""What answers at a URL, asked the way a client asks: with its source, its sink and its key.

Stores nothing there: an empty batch of events is acknowledged and forgotten. Every failure a client would meet has its
remedy here.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator, Mapping
from typing import Any, Final
from urllib.parse import urlsplit

from flagkit import sinks, sources
from flagkit.cli.doctor import document
from flagkit.cli.doctor.finding import Finding, ok, problem, warning
from flagkit.cli.options import strict_json
from flagkit.clock import Clock, SystemClock
from flagkit.config import Config
from flagkit.errors import ConfigError, FetchError
from flagkit.events import Batch, Delivered, Rejected, Retry
from flagkit.http import NoReply, Reply, Secret, Wire
from flagkit.sources import Fetched

_DEADLINE_S: Final = 10.0
_MAX_HEALTH_BYTES: Final = 1024 * 1024
_ROUNDS: Final = 5
_SLOW_MS: Final = 1000.0
_ODD_SKEW_S: Final = 30.0
_BAD_SKEW_S: Final = 300.0
_OTHER_KEY: Final = "give the client key, or the read key, in FLAGKIT_KEY or with --key-file"

#: Reasons of sources and sinks -> what to do.
_REMEDIES: Final[Mapping[str, str]] = {
    "tls": "correct or renew the certificate, or set this machine's clock; a certificate of your own authority is "
    "trusted with ca_file= (here --ca-file)",
    "deadline": "look at what is between here and there, and at the load there: a service answers in milliseconds",
    "redirect": "give your clients the address it redirects to",
    "not_json": "a login page, captive portal or web application answers in the service's place: check the URL, and "
    "what is in between",
    "not_an_ack": "something answers in the collector's place: check the URL, and what is in between",
    "too_large": "raise max_document_bytes, or drop flags",
    "http_404": "give the URL of the service without a path, or that of the document with one",
    "http_429": "raise poll_interval_s, or the limit there",
}
_OTHER_REMEDY: Final = "look at what answers there, and into its log"


class Visit:
    """One examination of one URL. ``clock``: this machine's."""

    def __init__(
        self, url: str, key: str | None, ca_file: str | None, *, insecure: bool, clock: Clock | None = None
    ) -> None:
        self._wire = Wire(url, "/healthz", key=key, ca_file=ca_file, allow_insecure_http=insecure)
        self._source = sources.Http(url, key=key, ca_file=ca_file, allow_insecure_http=insecure)
        self._sink = sinks.Http(url, key=key, ca_file=ca_file, allow_insecure_http=insecure)
        self._is_document = urlsplit(url).path not in ("", "/")
        self._key = None if key is None else f"key #{Secret(key).digest}"
        self._clock = clock or SystemClock()
        #: What the service says this key may do; None when it does not say.
        self._may: list[str] | None = None
        self._answered_ms = 0

    def findings(self) -> Iterator[Finding]:
        try:
            if not self._is_document:
                yield from self._health()
            fetched = yield from self._definitions()
            if fetched is not None:
                yield from self._clocks(fetched)
                yield from self._round_trips(fetched)
                yield from self._stream()
            if not self._is_document and (self._key is not None or fetched is not None):
                yield from self._events()
        finally:
            for end in (self._wire, self._source, self._sink):
                end.close()

    def _health(self) -> Iterator[Finding]:
        try:
            reply = self._wire.get(deadline_s=_DEADLINE_S, max_bytes=_MAX_HEALTH_BYTES)
        except NoReply as error:
            yield problem("service", _sentence(error, self._wire.url), _remedy(error.reason))
            return
        health = _health_in(reply)
        if reply.status == 503:
            yield problem("service", "it cannot store events (503)", "look at its disk, and into its log")
        elif health is None:
            found = f"no flagkit service says how it is (/healthz: status {reply.status})"
            yield warning("service", found, "nothing, if a CDN or another service is meant to answer")
        else:
            may = health.get("may")
            self._may = [str(verb) for verb in may] if isinstance(may, list) else None
            flags, events = health.get("flag_count"), health.get("events")
            yield ok(
                "service", f"a flagkit service, number {health.get('number')}, {flags} flags, {events} events stored"
            )
            definitions = health.get("definitions")
            if isinstance(definitions, dict) and definitions.get("ok") is False:
                found = "its definitions file has mistakes, so that edits of it are not served"
                problems = definitions.get("problems")
                first = f": {str(problems[0])[:200]}" if isinstance(problems, list) and problems else ""
                yield warning("service", found + first, "put the file right; see flagkit validate")

    def _definitions(self) -> Any:
        """Findings; returns what was fetched, and None without it."""
        try:
            fetched = self._fetch(None)
        except FetchError as error:
            yield (
                self._refused(error)
                if error.reason in ("http_401", "http_403")
                else problem("definitions", _sentence(error, self._source.name), _remedy(error.reason))
            )
            return None
        yield self._known()
        yield from document.examine(fetched.data, self._clock.wall_ms(), "flagkit validate")
        return fetched

    def _fetch(self, validator: str | None) -> Any:
        answer = self._source.fetch(validator, deadline_s=_DEADLINE_S, max_bytes=Config().max_document_bytes)
        self._answered_ms = self._clock.wall_ms()
        return answer

    def _refused(self, error: FetchError) -> Finding:
        status = error.reason.removeprefix("http_")
        if self._key is None:
            return problem("key", f"no key is given, and it is wanted ({status})", _OTHER_KEY)
        if self._may:
            return problem("key", f"{self._key} may {' and '.join(self._may)}, not read ({status})", _OTHER_KEY)
        if status == "403":
            return problem("key", f"{self._key} is known, or something forbids the way (403)", _OTHER_KEY)
        return problem("key", f"{self._key} is not known there (401)", _OTHER_KEY)

    def _known(self) -> Finding:
        if self._key is None:
            return ok("key", "none is given, and none is needed to read")
        if self._may is not None and "change" in self._may:
            return warning("key", f"{self._key} may {' and '.join(self._may)}", "give clients one that changes nothing")
        return ok("key", f"{self._key} may {' and '.join(self._may or ['read'])}")

    def _clocks(self, fetched: Fetched) -> Iterator[Finding]:
        if fetched.server_ms is None:
            yield warning("clock", "the server does not say what time it is", "have it send a Date header")
            return
        ahead_s = (self._answered_ms - fetched.server_ms - 500) / 1000  # Date counts whole seconds
        found = f"this machine is {abs(ahead_s):,.0f} s {'ahead of' if ahead_s > 0 else 'behind'} the server"
        fix = "set both by NTP; steps of rollouts follow the server, times of events this machine"
        if abs(ahead_s) > _BAD_SKEW_S:
            yield problem("clock", found, fix)
        elif abs(ahead_s) > _ODD_SKEW_S:
            yield warning("clock", found, fix)
        else:
            yield ok("clock", f"within {max(1, round(abs(ahead_s)))} s of the server's")

    def _round_trips(self, fetched: Fetched) -> Iterator[Finding]:
        times_ms = []
        again = 0
        try:
            for _ in range(_ROUNDS):
                started_s = time.monotonic()
                again += isinstance(self._fetch(fetched.validator), Fetched)
                times_ms.append((time.monotonic() - started_s) * 1000)
        except FetchError as error:
            yield warning(
                "polling", f"the next poll failed: {_sentence(error, self._source.name)}", _remedy(error.reason)
            )
            return
        median_ms = statistics.median(times_ms)
        found = f"a poll takes {median_ms:.1f} ms (median of {_ROUNDS})"
        if median_ms > _SLOW_MS:
            yield warning("polling", found, "look at the network, or have a service closer by")
        elif again:
            fix = "have an ETag sent, and If-None-Match answered"
            yield warning("polling", f"{found}, and carries the whole document although it has not changed", fix)
        else:
            yield ok("polling", found)

    def _stream(self) -> Iterator[Finding]:
        if not self._source.tells:
            yield ok("stream", "none is offered: changes arrive with the next poll")
            return
        try:
            listening = self._source.listen(None, deadline_s=_DEADLINE_S, max_bytes=_MAX_HEALTH_BYTES)
            try:
                listening.next(_DEADLINE_S)
            finally:
                listening.close()
        except FetchError as error:
            fix = "let answers through as they come (no buffering in proxies); until then changes arrive with the polls"
            yield warning("stream", _sentence(error, self._source.name), fix)
            return
        yield ok("stream", "changes are told as they happen")

    def _events(self) -> Iterator[Finding]:
        sent = self._sink.send(Batch.seal((), {}), deadline_s=_DEADLINE_S)
        if isinstance(sent, Delivered):
            yield ok("events", "an empty batch was acknowledged")
        elif isinstance(sent, Retry) and sent.reason in ("http_401", "http_403"):
            found = f"{self._key or 'a client without a key'} may not send events ({sent.reason[5:]})"
            fix = "give clients the client key, or sinks.Http the write key; nothing, if they send none"
            yield warning("events", found, fix)
        elif isinstance(sent, Retry) and sent.reason in ("http_404", "http_405"):
            yield warning(
                "events", f"nobody takes them there ({sent.reason[5:]})", "give clients a sink; nothing, if none"
            )
        elif isinstance(sent, Rejected):
            yield warning("events", f"an empty batch is refused ({sent.reason})", "nothing, if events do arrive")
        else:
            reason = sent.reason
            yield problem("events", f"not acknowledged ({reason})", _remedy(reason))


def examine(url: str, key: str | None, ca_file: str | None, *, insecure: bool) -> Iterator[Finding]:
    """Raises: nothing."""
    try:
        visit = Visit(url, key, ca_file, insecure=insecure)
    except ConfigError as error:
        yield problem(error.field.replace("_", " "), str(error), "correct what your clients are given")
        return
    yield from visit.findings()


def _health_in(reply: Reply) -> dict[str, Any] | None:
    try:
        health = strict_json(reply.body)
    except ValueError:
        return None
    return health if isinstance(health, dict) and "number" in health else None


def _sentence(error: Exception, name: str) -> str:
    """What went wrong, without the address, which may have a key for a path."""
    return str(error).removeprefix(f"{name}: ")


def _remedy(reason: str) -> str:
    return _REMEDIES.get(reason, _OTHER_REMEDY)
