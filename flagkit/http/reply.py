"""What came back: ``Reply``, or ``NoReply`` with one word for the reason.

Owns the reading of headers and bodies under hostile conditions: sizes are checked while bytes arrive, gzip is inflated
no further than the bound, whatever cannot be understood is absent. It knows neither sockets nor ``requests``; the
leash reads through it, sources and sinks read its values.
"""

from __future__ import annotations

import time
import zlib
from collections.abc import Mapping
from typing import Final, NamedTuple, Protocol

_CHUNK: Final = 64 * 1024
_MAX_ETAG: Final = 512
_LONGEST_WAIT_S: Final = 86_400.0
_MAX_AGE_S: Final = 1 << 31
_LONGEST_HEARTBEAT_S: Final = 300.0
_GZIP_WBITS: Final = 31

_SENTENCES: Final = {
    "bad_encoding": "the body is not the gzip or plain bytes its headers announce",
    "bad_response": "what answered does not speak HTTP",
    "bad_url": "the address cannot be used",
    "deadline": "no complete answer within the deadline",
    "dns": "the host name cannot be resolved",
    "network": "the network failed",
    "redirect": "redirected too often, or to another scheme, host or port",
    "refused": "connection refused",
    "reset": "the connection was closed before an answer came",
    "tls": "no trusted TLS connection; the certificate, its name or its dates are wrong (ca_file= adds trust)",
    "too_large": "the body is larger than the bound",
    "truncated": "the body ended early",
    "unreachable": "no route to the host",
}


class NoReply(Exception):
    """No usable answer came. Never leaves flagkit: sources and sinks turn it into their own terms.

    reason: a word for counting (``refused``, ``deadline``, ``tls`` ...).
    lasting: trying again soon is pointless (a certificate does not heal by itself).
    written: the request, or some of it, may have reached the other side.
    The message is flagkit's own; texts of the HTTP library, which repeat URLs and headers, stay out of it.
    """

    def __init__(self, reason: str, url: str, *, written: bool = True) -> None:
        self.reason = reason
        self.written = written
        self.lasting = reason == "tls"
        super().__init__(f"{url}: {_SENTENCES[reason]}")


class Reply(NamedTuple):
    """One HTTP answer. ``body`` is read for 2xx only; for any other status it is empty.

    media_type: lower case, without parameters; "" when absent.
    etag: the validator, None when absent or not fit to be sent back.
    server_ms: the server's wall clock as it answered (Date plus Age), ms since 1970; None when absent or garbled.
    retry_after_s: how long the server asks to be left alone, seconds, 0 to 86,400; None when absent or garbled.
    stream: where a flagkit service tells of changes as they happen, as it names it; heartbeat_s: how often it says
        something there at the least, seconds. None when absent or garbled.
    """

    status: int
    body: bytes = b""
    media_type: str = ""
    etag: str | None = None
    server_ms: int | None = None
    retry_after_s: float | None = None
    location: str | None = None
    stream: str | None = None
    heartbeat_s: float | None = None


class Stream(Protocol):
    """The undecoded bytes of a body, as urllib3 hands them out."""

    def read(self, amt: int, *, decode_content: bool) -> bytes: ...


def heading(status: int, headers: Mapping[str, str]) -> Reply:
    """A ``Reply`` without its body. ``headers`` must ignore case. Raises: nothing."""
    server_ms = _date_ms(headers.get("Date"))
    age = headers.get("Age", "")
    if server_ms is not None and _is_digits(age):  # a cache answered: Date is when the origin did
        server_ms += int(min(float(age), _MAX_AGE_S)) * 1000
    return Reply(
        status,
        media_type=headers.get("Content-Type", "").partition(";")[0].strip().lower(),
        etag=_etag(headers.get("ETag")),
        server_ms=server_ms,
        retry_after_s=_retry_after_s(headers.get("Retry-After", ""), server_ms),
        location=headers.get("Location"),
        stream=headers.get("Flagkit-Stream"),
        heartbeat_s=_heartbeat_s(headers.get("Flagkit-Heartbeat", "")),
    )


def read_body(stream: Stream, headers: Mapping[str, str], *, url: str, ends_s: float, max_bytes: int) -> bytes:
    """The whole body, decoded. At most ``max_bytes``, half of it on the wire when compressed, and by ``ends_s``.

    Raises: NoReply too_large, deadline or bad_encoding; whatever the stream raises.
    """
    encoding = headers.get("Content-Encoding", "").strip().lower()
    if encoding not in ("", "identity", "gzip"):
        raise NoReply("bad_encoding", url)
    inflater = zlib.decompressobj(_GZIP_WBITS) if encoding == "gzip" else None
    # Inflating takes time for what comes, however little it makes: what does not shrink need not be compressed.
    most_received = max_bytes // 2 if inflater else max_bytes
    length = headers.get("Content-Length", "")
    if _is_digits(length) and float(length) > most_received:
        raise NoReply("too_large", url)
    pieces: list[bytes] = []
    received = size = 0
    while piece := stream.read(_CHUNK, decode_content=False):
        received += len(piece)
        if inflater:
            try:
                piece = inflater.decompress(piece, max_bytes - size + 1)
            except zlib.error:
                raise NoReply("bad_encoding", url) from None
        size += len(piece)
        if received > most_received or size > max_bytes:
            raise NoReply("too_large", url)
        if inflater and inflater.unused_data:
            raise NoReply("bad_encoding", url)
        if time.monotonic() > ends_s:
            raise NoReply("deadline", url)
        pieces.append(piece)
    if inflater and not inflater.eof:
        raise NoReply("bad_encoding", url)
    return b"".join(pieces)


def _retry_after_s(text: str, server_ms: int | None) -> float | None:
    """Seconds, or an HTTP date read against the server's own clock: ours may be wrong."""
    text = text.strip()
    if _is_digits(text):
        return min(float(text), _LONGEST_WAIT_S)
    until_ms = _date_ms(text)
    if until_ms is None or server_ms is None or until_ms < server_ms:
        return None
    return min((until_ms - server_ms) / 1000, _LONGEST_WAIT_S)


def _heartbeat_s(text: str) -> float | None:
    try:
        heartbeat_s = float(text)
    except ValueError:
        return None
    return heartbeat_s if 0 < heartbeat_s <= _LONGEST_HEARTBEAT_S else None


def _date_ms(text: str | None) -> int | None:
    # Imported here because it costs `import flagkit` 10 ms; it is loaded with the HTTP library anyway.
    from datetime import UTC
    from email.utils import parsedate_to_datetime

    try:
        moment = parsedate_to_datetime(text or "")
        return int(moment.replace(tzinfo=moment.tzinfo or UTC).timestamp()) * 1000
    except (ValueError, OverflowError, TypeError, IndexError):
        return None


def fits_header(text: str) -> bool:
    """Whether it can be sent back as it is. What no header can carry would make a request fail before it is sent."""
    return 0 < len(text) <= _MAX_ETAG and text.isascii() and text.isprintable() and text == text.strip()


def _etag(text: str | None) -> str | None:
    return text if text and fits_header(text) else None


def _is_digits(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 300
