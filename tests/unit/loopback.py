"""A misbehaving web server on loopback: real sockets, scripted answers, everything it was asked on record.

A ``Script`` gets each request and writes what it likes to the socket. ``Call.pause`` never outlives the server.
The certificates at the end are made for these tests and trusted by nobody else.
"""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class Call:
    """One request, and the socket to answer on."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    sock: socket.socket
    stopping: threading.Event

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def answer(self, status: int = 200, body: bytes = b"", headers: Mapping[str, str] | None = None) -> None:
        sent = {"Content-Length": str(len(body)), **(headers or {})}
        lines = "".join(f"{name}: {value}\r\n" for name, value in sent.items())
        self.send(f"HTTP/1.1 {status} Whatever\r\n{lines}\r\n".encode("latin-1") + body)

    def pause(self, seconds: float) -> None:
        """Wait; end the conversation when the server is stopping."""
        if self.stopping.wait(seconds):
            raise ConnectionAbortedError

    def hang(self) -> None:
        self.pause(60)

    def drip(self, data: bytes, every_s: float = 0.05) -> None:
        for byte in data:
            self.send(bytes([byte]))
            self.pause(every_s)

    def hang_up(self) -> None:
        raise ConnectionAbortedError


Script = Callable[[Call], None]


@dataclass
class Loopback:
    """A running server. ``calls``: the requests so far; ``connections``: how many were accepted."""

    url: str
    calls: list[Call] = field(default_factory=list)
    connections: int = 0


@contextmanager
def serving(script: Script, tls: ssl.SSLContext | None = None) -> Iterator[Loopback]:
    """Run ``script`` for each request of each connection until the block ends."""
    stopping = threading.Event()
    listener = socket.create_server(("127.0.0.1", 0))
    server = Loopback(f"{'https' if tls else 'http'}://127.0.0.1:{listener.getsockname()[1]}")
    threads: list[threading.Thread] = []
    sockets: list[socket.socket] = []

    def accept() -> None:
        while True:
            try:
                sock, _ = listener.accept()
            except OSError:
                return
            if stopping.is_set():
                sock.close()
                return
            server.connections += 1
            sockets.append(sock)
            threads.append(threading.Thread(target=converse, args=(sock,)))
            threads[-1].start()

    def converse(sock: socket.socket) -> None:
        with suppress(OSError), sock:
            if tls is not None:
                sock = tls.wrap_socket(sock, server_side=True)
                sockets.append(sock)
            with sock, sock.makefile("rb") as stream:
                while (call := read_call(stream, sock, stopping)) is not None:
                    server.calls.append(call)
                    script(call)

    acceptor = threading.Thread(target=accept)
    acceptor.start()
    try:
        yield server
    finally:
        stopping.set()
        with suppress(OSError), socket.socket() as waker:
            waker.connect(listener.getsockname())  # ends the accept() under way
        acceptor.join()
        listener.close()
        for sock in sockets:
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        for thread in threads:
            thread.join()


def read_call(stream: object, sock: socket.socket, stopping: threading.Event) -> Call | None:
    line = stream.readline()
    if not line:
        return None
    method, path, _ = line.decode("latin-1").split(" ", 2)
    headers = {}
    while (line := stream.readline().decode("latin-1").strip()) != "":
        name, _, value = line.partition(":")
        headers[name.lower()] = value.strip()
    body = stream.read(int(headers.get("content-length", 0)))
    return Call(method, path, headers, body, sock, stopping)


@contextmanager
def deaf() -> Iterator[str]:
    """A URL where connections are made and nothing is ever read."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


@contextmanager
def sipping(tls: ssl.SSLContext) -> Iterator[str]:
    """An https URL where one client is read from, 16 KiB each 5 ms, and never answered."""
    stopping = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def sip() -> None:
            with suppress(OSError), tls.wrap_socket(listener.accept()[0], server_side=True) as sock:
                while sock.recv(16384) and not stopping.wait(0.005):
                    pass

        thread = threading.Thread(target=sip)
        thread.start()
        yield f"https://127.0.0.1:{listener.getsockname()[1]}"
        stopping.set()
        thread.join()


@contextmanager
def refusing() -> Iterator[str]:
    """A URL whose port refuses connections: bound, so that nobody else gets it, and not listened on."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{sock.getsockname()[1]}"


def server_tls(directory: Path, pem: str) -> tuple[ssl.SSLContext, str]:
    """A server's TLS context for one of the certificates below, and the path of a file to trust it by."""
    path = directory / "certificate.pem"
    path.write_text(pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    return context, str(path)


#: Self-signed for localhost and 127.0.0.1.
GOOD_CERTIFICATE = """\
-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgtHJ8iAgF8DbT7ukj
nLX9e1p5/0kWalrb0kL1Sw6mc/ihRANCAAR29+I0YkOlH4nTz6DZhOXFMQh/70J/
LvE7B2KjSbkpi84OQe3tAaVfF0jWvEYXBSailSaO8wsPptTF/UQ26x83
-----END PRIVATE KEY-----
-----BEGIN CERTIFICATE-----
MIIBkTCCATegAwIBAgIBATAKBggqhkjOPQQDAjAYMRYwFAYDVQQDDA1mbGFna2l0
IHRlc3RzMCAXDTIwMDEwMTAwMDAwMFoYDzIxMjAwMTAxMDAwMDAwWjAYMRYwFAYD
VQQDDA1mbGFna2l0IHRlc3RzMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEdvfi
NGJDpR+J08+g2YTlxTEIf+9Cfy7xOwdio0m5KYvODkHt7QGlXxdI1rxGFwUmopUm
jvMLD6bUxf1ENusfN6NwMG4wLAYDVR0RBCUwI4IJbG9jYWxob3N0hwR/AAABhxAA
AAAAAAAAAAAAAAAAAAABMA8GA1UdEwEB/wQFMAMBAf8wDgYDVR0PAQH/BAQDAgKE
MB0GA1UdDgQWBBQe2gbs/HXOji4rrAxLFFFt4FdTwTAKBggqhkjOPQQDAgNIADBF
AiARV4dBB0h7sOWI/114Sfkq9ylK+hn5BNNbvY5v5bss2AIhALS0LzSlEP/mrPdG
aub5MOyzMfFnFbAjldpeMCqz26yU
-----END CERTIFICATE-----
"""

#: Self-signed for elsewhere.example.
OTHER_CERTIFICATE = """\
-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgS1oBLm6GGpKy/42f
CuCbEDV4Dut3xM5quED3MhXhP3ihRANCAASVpdIqfs8lP7kMxf+6RPewhdux9uQ/
1xM36YXj7t1DXvQrexQb3W11EK5GoX6b6noSCW3wJQPSBU2DpU9DM8B5
-----END PRIVATE KEY-----
-----BEGIN CERTIFICATE-----
MIIBgTCCASegAwIBAgIBAjAKBggqhkjOPQQDAjAYMRYwFAYDVQQDDA1mbGFna2l0
IHRlc3RzMCAXDTIwMDEwMTAwMDAwMFoYDzIxMjAwMTAxMDAwMDAwWjAYMRYwFAYD
VQQDDA1mbGFna2l0IHRlc3RzMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAElaXS
Kn7PJT+5DMX/ukT3sIXbsfbkP9cTN+mF4+7dQ170K3sUG91tdRCuRqF+m+p6Eglt
8CUD0gVNg6VPQzPAeaNgMF4wHAYDVR0RBBUwE4IRZWxzZXdoZXJlLmV4YW1wbGUw
DwYDVR0TAQH/BAUwAwEB/zAOBgNVHQ8BAf8EBAMCAoQwHQYDVR0OBBYEFOiS73OS
KGJrJ7QYk3y91qtYa2hKMAoGCCqGSM49BAMCA0gAMEUCIFJ0hsnKjfQCQoMBflVv
YYizNlLis9dJsZZSXpAQKDpvAiEAxKCb131iLHva3MMLDRJ0mpv7NR90UrpHDqRZ
PfOWJWU=
-----END CERTIFICATE-----
"""

#: Self-signed for localhost and 127.0.0.1, and out of date since 2021.
EXPIRED_CERTIFICATE = """\
-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgmieWSORJAyDvKTvS
KzU6kuIZ7jClpioFYPNWkkNQHNahRANCAAQ9acGmwrUaYlc+kQGpBnrwZyd42J+f
/H+4YI//MaNl0GVxqt2m5VJ90wiX6u1hLKn+/Fti36zxyFmXV9Xn5ftZ
-----END PRIVATE KEY-----
-----BEGIN CERTIFICATE-----
MIIBbDCCAROgAwIBAgIBAzAKBggqhkjOPQQDAjAYMRYwFAYDVQQDDA1mbGFna2l0
IHRlc3RzMB4XDTIwMDEwMTAwMDAwMFoXDTIxMDEwMTAwMDAwMFowGDEWMBQGA1UE
AwwNZmxhZ2tpdCB0ZXN0czBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABD1pwabC
tRpiVz6RAakGevBnJ3jYn5/8f7hgj/8xo2XQZXGq3ablUn3TCJfq7WEsqf78W2Lf
rPHIWZdX1efl+1mjTjBMMBoGA1UdEQQTMBGCCWxvY2FsaG9zdIcEfwAAATAPBgNV
HRMBAf8EBTADAQH/MB0GA1UdDgQWBBRsTv3bVmfbVOqAf+tvFb6G4elycTAKBggq
hkjOPQQDAgNHADBEAiBBJi36mj1/VuMtH4tuu4KdBPTc5M7gobGK9RQFVa8wEgIg
XjaZMymSrjv4VDo2bShd97FyCiYdGpdAveyJLiQzNpA=
-----END CERTIFICATE-----
"""
