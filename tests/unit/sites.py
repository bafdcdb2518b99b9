"""A service and its application for tests, asked in process, on a clock that stands still."""

from __future__ import annotations

import asyncio
import json
import os
import threading
from pathlib import Path
from typing import Any, NamedTuple

from server_events import NOW_MS

from flagkit.server.app import app_for
from flagkit.server.config import ServerConfig
from flagkit.server.service import Service

READ, WRITE, ADMIN = ({"Authorization": f"Bearer {role}-key"} for role in ("read", "write", "admin"))
DEFINITIONS = {"schema": 1, "environment": "production", "flags": {"checkout": {}, "search": {"default": "on"}}}


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class StillClock:
    """Time that does not pass: the definitions are looked at when a test says so."""

    def monotonic_s(self) -> float:
        return 0.0

    def wall_ms(self) -> int:
        return NOW_MS

    def wait(self, event: threading.Event, timeout_s: float) -> bool:
        return event.wait()


class Site:
    """A service and its application, called as a server would call it."""

    def __init__(self, directory: Path, definitions: str = json.dumps(DEFINITIONS), **settings: Any) -> None:
        self.path = directory / "flags.json"
        self.path.write_text(definitions)
        keys = {"read_keys": ("read-key",), "write_keys": ("write-key",), "admin_keys": ("admin-key",)}
        self.config = ServerConfig(self.path, directory / "flagkit.db", **{**keys, **settings})
        self._edits = 0
        self.make()

    def make(self) -> None:
        """A service for these files, not started."""
        self.service = Service(self.config, StillClock())
        self.app = app_for(self.service)

    def get(self, path: str, headers: dict[str, str] | None = None) -> Answer:
        return self.call("GET", path, headers or {}, [b""])

    def post(self, *chunks: bytes, headers: dict[str, str] | None = None) -> Answer:
        return self.call("POST", "/v1/events", {**WRITE, **(headers or {})}, list(chunks) or [b""])

    def order(self, *, headers: dict[str, str] = ADMIN, **document: Any) -> Answer:
        """The answer to an order, by ann and because, unless it says otherwise."""
        body = json.dumps({"by": "ann", "reason": "because", **document}).encode()
        return self.call("POST", "/v1/changes", headers, [body])

    def call(self, method: str, target: str, headers: dict[str, str], chunks: list[bytes | None]) -> Answer:
        path, _, query = target.partition("?")
        scope = {
            "type": "http",
            "method": method,
            "path": path,
            "query_string": query.encode(),
            "headers": [(name.lower().encode(), value.encode("latin-1")) for name, value in headers.items()],
        }
        sent: list[dict[str, Any]] = []
        left = list(chunks)

        async def receive() -> dict[str, Any]:
            chunk = left.pop(0)
            if chunk is None:
                return {"type": "http.disconnect"}
            return {"type": "http.request", "body": chunk, "more_body": bool(left)}

        async def send(message: Any) -> None:
            sent.append(message)

        asyncio.run(self.app(scope, receive, send))
        self.unread = len(left)
        answered = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
        return Answer(sent[0]["status"], answered, b"".join(message["body"] for message in sent[1:]))

    def edit(self, text: str) -> None:
        self.path.write_text(text)
        self._edits += 1
        os.utime(self.path, ns=(self._edits, self._edits))  # never the same twice, however fast the test is
        self.look()

    def look(self) -> None:
        """Have the service look at the file until it reads it."""
        self.service.definitions.look()
        self.service.definitions.look()
