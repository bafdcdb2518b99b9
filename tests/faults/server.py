"""A flag service on loopback that can be made to misbehave: definitions at GET, a collector at POST, raw sockets.

``definitions`` and ``collector`` are the scripts that answer now; a test puts a fault there (``tests.faults.answers``)
and ``heal`` takes it away. What was asked and what was stored stays on record. It knows nothing of clients.
"""

from __future__ import annotations

import json
import socket
import ssl
import threading
import time
import zlib
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NamedTuple

from tests.unit.loopback import Call, Script, read_call

Edit = Callable[[bytes], bytes]
JSON = {"Content-Type": "application/json"}
GZIP = 31


class Asked(NamedTuple):
    """One request, and when (monotonic seconds) it was made on which connection."""

    at_s: float
    connection: int
    method: str
    path: str
    headers: dict[str, str]


class Batch(NamedTuple):
    """What one POST brought, in the order of events."""

    at_s: float
    id: str
    ids: list[str]
    numbers: list[int]  # ``n`` of its metric events


class Server:
    """See the module. Runs until ``close``; every thread it started has ended then."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.number = 0
        self.document = b""
        self.asked: list[Asked] = []
        self.batches: list[Batch] = []  # all that arrived whole, stored or not
        self.stored: dict[str, dict[str, Any]] = {}  # event id -> event
        self.kept: dict[str, list[str]] = {}  # batch id -> the events it brought, once it was stored
        self.dropped: Counter[str] = Counter()  # client reports
        self.most_at_once = self._at_once = 0
        self.heal()
        self._tls = tls
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._accepting = threading.Event()
        self._accepting.set()
        self._sockets: list[socket.socket] = []
        self._listener = _listener()
        self.port: int = self._listener.getsockname()[1]
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self.port}"
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    # -- what it serves ----------------------------------------------------------------------------------------------

    def publish(self, flags: dict[str, Any] | None = None, *, edit: Edit = bytes, **head: Any) -> int:
        """Serve a new document, with these flags beside the usual; return its number.

        The usual: ``number`` tells which document it is, ``half`` splits units, ``vip`` asks for an attribute.
        ``edit`` has the last word on its bytes.
        """
        number = self.number + 1
        usual = {
            "number": {"variants": {"now": number, "off": 0}, "off": "off", "default": "now"},
            "half": {"rules": [{"name": "half", "rollout": {"percent": 50}, "serve": "on"}]},
            "vip": {"rules": [{"name": "vip", "when": [VIP], "serve": "on"}]},
        }
        lines = ",\n".join(f"{json.dumps(key)}: {json.dumps(flag)}" for key, flag in {**usual, **(flags or {})}.items())
        first = json.dumps({"schema": 1, "version": str(number), "environment": "test", **head})
        self.put(number, edit(f'{first[:-1]}, "flags": {{\n{lines}\n}}}}'.encode()))
        return number

    def put(self, number: int, document: bytes) -> None:
        """Serve this document, under the ETag of its number."""
        with self._lock:  # or one that is asked for meanwhile would go out under the ETag of the other
            self.number, self.document = number, document

    def heal(self) -> None:
        """Be a good service again."""
        self.definitions: Script = self.serve
        self.collector: Script = self.store

    @property
    def etag(self) -> str:
        return f'"{self.number}"'

    def serve(self, call: Call) -> None:
        with self._lock:
            etag, document = self.etag, self.document
        if call.headers.get("if-none-match") == etag:
            call.answer(304, headers={"ETag": etag})
            return
        headers = {**JSON, "ETag": etag, "Content-Encoding": "gzip"}
        call.answer(200, zlib.compress(document, 1, GZIP), headers)

    def store(self, call: Call) -> None:
        """Store each event once, and acknowledge the batch."""
        batch = self.keep(call)  # of this call: others may have brought one meanwhile
        body = json.dumps({"batch_id": batch["batch_id"], "accepted": len(batch["events"]), "rejected": []})
        call.answer(202, body.encode(), JSON)

    def keep(self, call: Call) -> dict[str, Any]:
        """Store without a word; return what was sent."""
        body = read_events(call)
        with self._lock:
            if body["batch_id"] in self.kept:
                return body
            self.kept[body["batch_id"]] = [event["id"] for event in body["events"]]
            self.dropped.update(body["dropped"])
            for event in body["events"]:
                self.stored.setdefault(event["id"], event)
        return body

    @property
    def numbers(self) -> Counter[int]:
        """How often each tracked ``n`` is stored."""
        return Counter(_numbers(list(self.stored.values())))

    def polls(self) -> list[Asked]:
        return [asked for asked in self.asked.copy() if asked.method == "GET"]

    def posts(self) -> list[Asked]:
        return [asked for asked in self.asked.copy() if asked.method == "POST"]

    # -- how it can be reached ---------------------------------------------------------------------------------------

    def refuse(self) -> None:
        """Refuse connections, and cut those there are."""
        self._accepting.clear()
        self._listener.shutdown(socket.SHUT_RDWR)
        self.cut()

    def accept(self) -> None:
        """Take connections again, at the same address."""
        self._listener.listen(128)
        self._accepting.set()

    def cut(self) -> None:
        """Close every connection."""
        for sock in self._sockets.copy():
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._stopping.set()
        self._accepting.set()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._threads[0].join()
        self._listener.close()
        self.cut()
        for thread in self._threads:
            thread.join()

    def _accept(self) -> None:
        while not self._stopping.is_set():
            try:
                sock, _ = self._listener.accept()
            except OSError:
                self._accepting.wait(0.01)
                self._stopping.wait(0.002)
                continue
            self._sockets.append(sock)
            thread = threading.Thread(target=self._converse, args=(sock, len(self._sockets)))
            self._threads.append(thread)
            thread.start()

    def _converse(self, sock: socket.socket, connection: int) -> None:
        with suppress(OSError, ValueError, zlib.error), sock:
            if self._tls is not None:
                sock = self._tls.wrap_socket(sock, server_side=True)
                self._sockets.append(sock)
            with sock, sock.makefile("rb") as stream:
                while not self._stopping.is_set() and (call := read_call(stream, sock, self._stopping)) is not None:
                    self.asked.append(Asked(time.monotonic(), connection, call.method, call.path, call.headers))
                    self._answer(call)

    def _answer(self, call: Call) -> None:
        if call.method == "GET":
            self.definitions(call)
            return
        body = read_events(call)
        ids = [event["id"] for event in body["events"]]
        with self._lock:
            self.batches.append(Batch(time.monotonic(), body["batch_id"], ids, _numbers(body["events"])))
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            self.collector(call)
        finally:
            with self._lock:
                self._at_once -= 1


#: A condition on what nobody but the application may know.
VIP = {"attribute": "email", "op": "ends_with", "values": ["@vip.example"]}


def _numbers(events: list[dict[str, Any]]) -> list[int]:
    return [event["properties"]["n"] for event in events if "n" in event.get("properties", ())]


def read_events(call: Call) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(zlib.decompress(call.body, GZIP))
    return body


def _listener() -> socket.socket:
    """A listening socket that keeps its port while it does not listen: one that was bound by number."""
    while True:
        with socket.create_server(("127.0.0.1", 0)) as first:
            port = first.getsockname()[1]
        with suppress(OSError):
            return socket.create_server(("127.0.0.1", port), backlog=128)
