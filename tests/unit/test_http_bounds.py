"""No server holds an exchange past its deadline or its size, and every fault has a name."""

from __future__ import annotations

import gzip
import random
import socket
import threading
import time
import tracemalloc
import zlib

import pytest
from loopback import GOOD_CERTIFICATE, Call, deaf, refusing, server_tls, serving, sipping
from wires import KEY, MAX, failure, get, wire_to

from flagkit.http import NoReply, Wire

SHORT_S = 0.5

# -- time


def spent(wire: Wire, *, deadline_s: float = SHORT_S) -> float:
    started_s = time.monotonic()
    assert failure(wire, deadline_s=deadline_s, max_bytes=1 << 30) == "deadline"
    return time.monotonic() - started_s


def endless_chunks(call: Call) -> None:
    call.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    while True:
        call.send(b"1\r\n{\r\n")
        call.pause(0.01)


def endless_continues(call: Call) -> None:
    while True:
        call.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        call.pause(0.01)


@pytest.mark.parametrize(
    "script",
    [
        Call.hang,
        lambda call: call.drip(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n" + b"X: y\r\n" * 40 + b"\r\n{}"),
        lambda call: (call.send(b"HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n"), call.drip(b"{" * 999)),
        endless_chunks,
        endless_continues,
    ],
    ids=["hang", "headers drip", "body drips", "endless chunks", "endless 100s"],
)
def test_no_server_holds_an_exchange_past_its_deadline(script) -> None:
    with serving(script) as server:
        assert spent(wire_to(server.url)) < SHORT_S + 0.5


def test_a_tls_handshake_and_a_dripping_tls_body_end_at_the_deadline(tmp_path) -> None:
    context, ca_file = server_tls(tmp_path, GOOD_CERTIFICATE)

    def drips(call: Call) -> None:
        call.send(b"HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n")
        call.drip(b"{" * 999)

    with serving(drips, tls=context) as server:
        assert spent(wire_to(server.url, ca_file=ca_file)) < SHORT_S + 0.5
    with deaf() as url:
        assert spent(wire_to(url.replace("http:", "https:"))) < SHORT_S + 0.5


def test_a_server_that_does_not_read_the_body_or_sips_it_is_left_at_the_deadline(tmp_path) -> None:
    context, ca_file = server_tls(tmp_path, GOOD_CERTIFICATE)
    body = random.Random(1).randbytes(16 << 20)
    with deaf() as silent, sipping(context) as slow:
        for wire in wire_to(silent), wire_to(slow, ca_file=ca_file):
            started_s = time.monotonic()
            with pytest.raises(NoReply) as raised:
                wire.post(body, {}, deadline_s=SHORT_S, max_bytes=MAX)
            assert raised.value.reason == "deadline"
            assert time.monotonic() - started_s < SHORT_S + 0.5
            wire.close()


def test_a_resolver_that_hangs_is_left_at_the_deadline_and_asked_by_one_thread_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answered = threading.Event()
    asked: list[str] = []

    def hangs(host: str, *_: object, flags: int = 0, **__: object) -> list[object]:
        if not flags & socket.AI_NUMERICHOST:
            asked.append(host)
            answered.wait(60)
        raise socket.gaierror(socket.EAI_NONAME, "unknown")

    monkeypatch.setattr(socket, "getaddrinfo", hangs)
    wire = wire_to("https://flags.example.com", key=KEY)
    try:
        assert spent(wire, deadline_s=0.2) < 0.7
        assert spent(wire, deadline_s=0.2) < 0.7
        assert asked == ["flags.example.com"]
    finally:
        answered.set()
        for thread in threading.enumerate():
            if thread.name == "flagkit-dns":
                thread.join()
    assert failure(wire) == "dns"


def test_the_next_address_of_a_name_is_tried_when_one_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    resolve = socket.getaddrinfo
    with serving(lambda call: call.answer(200, b"{}")) as server, refusing() as dead:
        ports = [int(dead.rpartition(":")[2]), int(server.url.rpartition(":")[2])]

        def two_addresses(host: str, port: int, **how: int) -> list[object]:
            if host != "flags.example.com":
                return resolve(host, port, **how)
            if how.get("flags"):
                raise socket.gaierror
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port)) for port in ports]

        monkeypatch.setattr(socket, "getaddrinfo", two_addresses)
        assert get(wire_to("http://flags.example.com", allow_insecure_http=True)).body == b"{}"


def test_no_time_left_means_no_connection() -> None:
    with serving(Call.hang) as server:
        assert failure(wire_to(server.url), deadline_s=0) == "deadline"
        assert server.connections == 0


# -- size and encoding


def gzipped(call: Call, body: bytes) -> None:
    call.answer(200, body, {"Content-Encoding": "gzip"})


def test_a_gzipped_body_is_decoded() -> None:
    with serving(lambda call: gzipped(call, gzip.compress(b"[1]" * 100_000))) as server:
        assert get(wire_to(server.url)).body == b"[1]" * 100_000


def test_a_chunked_body_is_put_together() -> None:
    def chunks(call: Call) -> None:
        call.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        call.drip(b"1\r\n{\r\n1\r\n}\r\n0\r\n\r\n", every_s=0.001)

    with serving(chunks) as server:
        assert get(wire_to(server.url)).body == b"{}"


def test_a_body_of_exactly_the_bound_is_taken_and_one_byte_more_is_not() -> None:
    body = random.Random(2).randbytes(100_000)
    with serving(lambda call: call.answer(200, body)) as server:
        assert get(wire_to(server.url), max_bytes=len(body)).body == body
        assert failure(wire_to(server.url), max_bytes=len(body) - 1) == "too_large"
    zeros = bytes(100_000)
    with serving(lambda call: gzipped(call, zlib.compress(zeros, 9, 31))) as server:
        assert get(wire_to(server.url), max_bytes=len(zeros)).body == zeros
        assert failure(wire_to(server.url), max_bytes=len(zeros) - 1) == "too_large"


@pytest.mark.parametrize("announced", [True, False])
def test_what_is_compressed_has_half_the_bound_on_the_wire(announced: bool) -> None:
    body = random.Random(3).randbytes(50_000)
    sent = zlib.compress(body, 9, 31)

    def compressed(call: Call) -> None:
        if announced:
            gzipped(call, sent)
        else:
            call.send(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nConnection: close\r\n\r\n" + sent)
            call.hang_up()

    with serving(compressed) as server:
        assert get(wire_to(server.url), max_bytes=2 * len(sent)).body == body
        assert failure(wire_to(server.url), max_bytes=2 * len(sent) - 2) == "too_large"


def endless_body(call: Call) -> None:
    call.send(b"HTTP/1.1 200 OK\r\n\r\n")
    while True:
        call.send(bytes(65536))


def test_a_gzip_bomb_and_an_endless_body_cost_no_more_memory_than_the_bound() -> None:
    deflate = zlib.compressobj(9, wbits=31)
    zeros = bytes(1 << 20)
    bomb = b"".join(deflate.compress(zeros) for _ in range(64)) + deflate.flush()
    for script in (lambda call: gzipped(call, bomb), endless_body):
        with serving(script) as server:
            wire = wire_to(server.url)
            tracemalloc.start()
            try:
                assert failure(wire, max_bytes=MAX) == "too_large"
                peak = tracemalloc.get_traced_memory()[1]
            finally:
                tracemalloc.stop()
            assert peak < 4 * MAX


def test_an_announced_length_beyond_the_bound_is_not_waited_for() -> None:
    with serving(
        lambda call: (call.send(b"HTTP/1.1 200 OK\r\nContent-Length: 999999999\r\n\r\n"), call.hang())
    ) as server:
        assert failure(wire_to(server.url), max_bytes=MAX) == "too_large"


@pytest.mark.parametrize(
    ("encoding", "body"),
    [
        ("gzip", b"not gzip at all"),
        ("gzip", gzip.compress(b"{}" * 999)[:-9]),
        ("gzip", gzip.compress(b"{}")[:-4] + b"\0\0\0\0"),
        ("gzip", gzip.compress(b"{}") + b"garbage"),
        ("gzip", gzip.compress(b"{}") + gzip.compress(b"{}")),
        ("gzip", b""),
        ("gzip, gzip", gzip.compress(gzip.compress(b"{}"))),
        ("br", b"{}"),
        ("deflate", zlib.compress(b"{}")),
    ],
)
def test_a_body_that_is_not_what_its_headers_announce_is_refused(encoding: str, body: bytes) -> None:
    with serving(lambda call: call.answer(200, body, {"Content-Encoding": encoding})) as server:
        assert failure(wire_to(server.url)) == "bad_encoding"


# -- other faults


def cut_chunk(call: Call) -> None:
    call.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nff\r\n{")
    call.hang_up()


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        (Call.hang_up, "reset"),
        (lambda call: (call.send(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{"), call.hang_up()), "truncated"),
        (cut_chunk, "truncated"),
        (lambda call: (call.send(b"SSH-2.0-OpenSSH_9.9\r\n"), call.hang_up()), "bad_response"),
        (lambda call: (call.send(b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 200 + b"\r\n"), call.hang()), "bad_response"),
        (lambda call: (call.send(b"HTTP/1.1 200 OK\r\nX: " + b"y" * 99_999), call.hang()), "bad_response"),
    ],
    ids=["closed", "cut body", "cut chunk", "not http", "200 headers", "a header of 100 kB"],
)
def test_a_broken_conversation_is_named(script, reason: str) -> None:
    with serving(script) as server:
        assert failure(wire_to(server.url)) == reason


def test_a_refused_connection_is_named() -> None:
    with refusing() as url:
        assert failure(wire_to(url)) == "refused"
