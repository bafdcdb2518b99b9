"""What a server can do wrong: scripts that answer one call each, for definitions and events alike.

Those with arguments make a script. They know the socket and nothing of what was asked.
"""

from __future__ import annotations

import json
import socket
import struct
import zlib
from collections.abc import Callable
from typing import Any

from tests.faults.server import GZIP, JSON, Server, read_events
from tests.unit.loopback import Call, Script

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"


# -- no answer, or one without end -------------------------------------------------------------------------------------


def hang(call: Call) -> None:
    call.hang()


def reset(call: Call) -> None:
    call.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    call.sock.close()
    call.hang_up()


def hang_up(call: Call) -> None:
    call.hang_up()


def drip_head(call: Call) -> None:
    call.drip(HEAD + b"X: " + b"x" * 4096)


def drip_body(call: Call) -> None:
    call.send(HEAD + b"Content-Length: 4096\r\n\r\n")
    call.drip(b" " * 4096)


def endless(call: Call) -> None:
    """Chunks for ever, slowly enough to stay below every bound on size."""
    call.send(CHUNKED)
    while True:
        call.send(b"400\r\n" + b" " * 1024 + b"\r\n")
        call.pause(0.002)


def informed(call: Call) -> None:
    """Interim answers for ever."""
    while True:
        call.send(b"HTTP/1.1 100 Continue\r\n\r\n" * 50)
        call.pause(0.005)


def hinted(call: Call) -> None:
    while True:
        call.send(b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" * 50)
        call.pause(0.005)


# -- whole answers that are no good ------------------------------------------------------------------------------------


def status(code: int, **headers: str) -> Script:
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda call: call.answer(code, b'{"error": "no"}', {**JSON, **sent})


def body(data: bytes, **headers: str) -> Script:
    """200 with this body, as JSON unless the headers say otherwise."""
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda call: call.answer(200, data, {**JSON, **sent})


def raw(data: bytes) -> Script:
    """These bytes, and the end of the connection."""

    def answer(call: Call) -> None:
        call.send(data)
        call.hang_up()

    return answer


def portal(call: Call) -> None:
    """What a hotel's network says to everything."""
    call.answer(200, b"<html><body>Welcome! Please sign in.</body></html>", {"Content-Type": "text/html"})


def cut_short(document: Callable[[], bytes]) -> Script:
    """Half of the document, of which the header announces the whole."""

    def answer(call: Call) -> None:
        data = document()
        call.send(HEAD + b'ETag: "cut"\r\nContent-Length: %d\r\n\r\n' % len(data) + data[: len(data) // 2])
        call.hang_up()

    return answer


def half(server: Server) -> Script:
    """Half of the document as a complete answer, under the ETag of the whole, which is confirmed to who sends it."""

    def answer(call: Call) -> None:
        if call.headers.get("if-none-match") == server.etag:
            call.answer(304)
        else:
            call.answer(200, server.document[: len(server.document) // 2], {**JSON, "ETag": server.etag})

    return answer


def gzipped(data: bytes) -> bytes:
    return zlib.compress(data, 9, GZIP)


def huge(megabytes: int) -> Script:
    def answer(call: Call) -> None:
        call.send(CHUNKED)
        for _ in range(megabytes * 16):
            call.send(b"10000\r\n" + b" " * 65536 + b"\r\n")
        call.send(b"0\r\n\r\n")

    return answer


def bomb(megabytes: int) -> Script:
    """A small gzip body that becomes a large one."""
    packer = zlib.compressobj(9, zlib.DEFLATED, GZIP)
    data = b"".join(packer.compress(b" " * (1 << 20)) for _ in range(megabytes)) + packer.flush()
    return body(data, Content_Encoding="gzip")


def redirect(location: str, code: int = 302) -> Script:
    return lambda call: call.answer(code, b"", {"Location": location})


# -- a collector's ---------------------------------------------------------------------------------------------------


def acknowledged_to_another(call: Call) -> None:
    call.answer(200, json.dumps({"batch_id": "0" * 32, "accepted": 1, "rejected": []}).encode(), JSON)


def stored_unsaid(server: Server) -> Script:
    """The batch is stored, and the answer lost."""

    def answer(call: Call) -> None:
        server.keep(call)
        call.hang_up()

    return answer


def picky(server: Server, poison: Callable[[dict[str, Any]], bool], code: int = 400) -> Script:
    """No batch with such an event in it is taken."""

    def answer(call: Call) -> None:
        if any(map(poison, read_events(call)["events"])):
            call.answer(code)
        else:
            server.store(call)

    return answer


def narrow(server: Server, most_bytes: int) -> Script:
    """No batch of more bytes is taken."""

    def answer(call: Call) -> None:
        if len(zlib.decompress(call.body, GZIP)) > most_bytes:
            call.answer(413)
        else:
            server.store(call)

    return answer


def slow(server: Server, seconds: float) -> Script:
    def answer(call: Call) -> None:
        call.pause(seconds)
        server.store(call)

    return answer


def first(times: int, fault: Script, then: Script) -> Script:
    """The fault, so many times; then the other."""
    left = [times]

    def answer(call: Call) -> None:
        left[0] -= 1
        (fault if left[0] >= 0 else then)(call)

    return answer
