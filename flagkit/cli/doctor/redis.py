"""Definitions in Redis, asked the way a client asks: with its source, its user and its password.

Stores nothing there. What a failed fetch or a refused channel means, and what to do about it, is here; whether the
port answers is ``reach``'s business. The password, like all of the URL before the host, is in no finding.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Final
from urllib.parse import urlsplit

from flagkit.cli.doctor import document, reach
from flagkit.cli.doctor.finding import Finding, ok, problem, skipped, warning
from flagkit.config import Config
from flagkit.dialects import native
from flagkit.errors import ConfigError, DefinitionsError, FetchError
from flagkit.sources import Fetched, Redis

_DEADLINE_S: Final = 10.0
_SLOW_MS: Final = 1000.0
_PORT: Final = 6379
_SCHEMES: Final = ("redis", "rediss")

#: Why a fetch failed -> what is wrong, and what to do.
_REMEDIES: Final[Mapping[str, tuple[str, str]]] = {
    "auth": (
        "password",
        "give user name and password as your clients have them, in FLAGKIT_REDIS_URL; the user needs STRLEN and GET",
    ),
    "missing": (
        "definitions",
        "put them there with flagkit publish, or correct the number of the database, or what they are under "
        "(key=, here --redis-key)",
    ),
    "refused_command": ("definitions", "have them under another key, or delete what is there and publish them"),
    "too_large": ("definitions", "raise max_document_bytes, or drop flags"),
    "tls": (
        "redis",
        "correct or renew the certificate; one of your own authority is trusted with ca_file= (--ca-file)",
    ),
    "reset": ("redis", "one that wants TLS hangs up: give rediss://; else look into its log"),
    "bad_response": ("redis", "see what listens there: a service has an http:// or https:// URL"),
    "loading": ("redis", "wait until it has loaded its data"),
}
_OTHER_REMEDY: Final = ("redis", "look at the load there, and at what is between here and there")


def is_redis(url: str) -> bool:
    return url.partition("://")[0].lower() in _SCHEMES


def examine(
    url: str, now_ms: int, names: tuple[str, str | None], *, ca_file: str | None, insecure: bool
) -> Iterator[Finding]:
    """Look at what is under a key. ``names``: the key, and the channel if it is called otherwise.

    Raises: ModuleNotFoundError without the extra ``redis``.
    """
    key, channel = names
    try:
        source = Redis(url, key=key, channel=channel, ca_file=ca_file, allow_insecure_redis=insecure)
    except ConfigError as error:
        check = "address" if error.field == "url" else error.field.replace("_", " ")
        yield problem(check, str(error).removeprefix("url: "), "correct what your clients are given")
        return
    parts = urlsplit(url)
    reached = list(reach.answering(parts.hostname or "", parts.port or _PORT))
    yield from reached
    if all(finding.is_ok for finding in reached):
        yield from _looked_into(source, now_ms, with_password=bool(parts.password))


def _looked_into(source: Redis, now_ms: int, *, with_password: bool) -> Iterator[Finding]:
    try:
        started_s = time.monotonic()
        fetched = source.fetch(None, deadline_s=_DEADLINE_S, max_bytes=Config().max_document_bytes)
        took_ms = (time.monotonic() - started_s) * 1000
    except FetchError as error:
        check, fix = _REMEDIES.get(error.reason, _OTHER_REMEDY)
        yield problem(check, _sentence(error, source), fix)
        return
    found = f"what is under {source.key} comes in {took_ms:.1f} ms"
    if took_ms > _SLOW_MS:
        yield warning("redis", found, "look at the network, or have a replica closer by")
    else:
        yield ok("redis", found)
    yield ok("password", "taken" if with_password else "none is given, and none is needed to read")
    if isinstance(fetched, Fetched):
        yield from document.examine(fetched.data, now_ms, "flagkit validate")
        yield from _numbers(fetched.data)
    yield _stream(source)
    found = "the document comes without a time, so that steps of rollouts follow each client's own clock"
    yield skipped("clock", found, "set the clocks of their machines by NTP")
    yield skipped("events", "a Redis takes none", "look at where your clients send them: flagkit doctor URL")


def _numbers(data: bytes) -> Iterator[Finding]:
    """A warning when the document was not put there by ``flagkit publish``."""
    try:
        definitions = native.parse(data).definitions
    except DefinitionsError:
        return  # that has been said
    if definitions.number is None or not definitions.epoch:
        found = "the document has no number, so that an older one is not told from a newer one"
        yield warning("number", found, "put it there with flagkit publish")


def _stream(source: Redis) -> Finding:
    try:
        source.listen(None, deadline_s=_DEADLINE_S, max_bytes=Config().max_document_bytes).close()
    except FetchError as error:
        fix = f"let the user SUBSCRIBE to {source.channel}; until then changes arrive with the polls"
        return warning("stream", _sentence(error, source), fix)
    return ok("stream", f"changes are heard on the channel {source.channel}")


def _sentence(error: FetchError, source: Redis) -> str:
    return str(error).removeprefix(f"{source.name}: ")
