"""``GET /v1/stream``, asked in process: who may listen, what is heard, and how it ends."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sites import DEFINITIONS, READ, WRITE, Site

from flagkit.errors import ConfigError
from flagkit.server.config import ServerConfig


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    site = Site(tmp_path)
    site.service.start()
    yield site
    site.service.close()


class Listener:
    """A listener of the application in process, one ASGI message at a time; ``reading`` says whether it takes any."""

    def __init__(self, site: Site, headers: dict[str, str], *, reading: bool = True) -> None:
        self.messages: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.gone, self.reading = asyncio.Event(), reading
        scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "method": "GET",
            "path": "/v1/stream",
            "query_string": b"",
            "headers": [(name.lower().encode(), value.encode()) for name, value in headers.items()],
        }
        self.task = asyncio.create_task(site.app(scope, self.receive, self.send))

    async def receive(self) -> dict[str, Any]:
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Any) -> None:
        await self.messages.put(message)
        if not self.reading:
            await asyncio.Event().wait()

    async def chunk(self) -> bytes:
        message = await self.messages.get()
        return b"" if message["type"] == "http.response.start" else message["body"]


def listened(story: Callable[[], Awaitable[Any]]) -> Any:
    async def bounded() -> Any:
        async with asyncio.timeout(10):
            return await story()

    return asyncio.run(bounded())


def test_definitions_say_where_their_changes_are_told(site):
    etag = site.get("/v1/definitions", READ).headers["etag"]
    for headers in (READ, {**READ, "If-None-Match": etag}, {**READ, "Accept-Encoding": "gzip"}):
        assert site.get("/v1/definitions", headers).headers["flagkit-stream"] == "stream"


def test_a_listener_hears_of_an_edit_and_may_leave(site):
    async def story() -> bytes:
        listener = Listener(site, READ)
        start = await listener.messages.get()
        assert (start["status"], dict(start["headers"])[b"flagkit-heartbeat"]) == (200, b"15")
        assert dict(start["headers"])[b"content-type"].startswith(b"text/event-stream")
        assert b'"number":1}' in await listener.chunk()
        site.edit(json.dumps({**DEFINITIONS, "version": "2"}))
        told = await listener.chunk()
        assert len(site.service.streams) == 1
        listener.gone.set()
        await listener.task
        return told

    assert b'"number":2,"base":1' in listened(story)
    assert len(site.service.streams) == 0


def test_a_listener_who_comes_back_says_what_he_heard_last(site):
    epoch = site.get("/healthz").json["epoch"]
    site.edit(json.dumps({**DEFINITIONS, "version": "2"}))

    async def story() -> bytes:
        listener = Listener(site, {**READ, "Last-Event-ID": f"{epoch}:1"})
        await listener.chunk()
        told = await listener.chunk()
        listener.gone.set()
        await listener.task
        return told

    assert b'"number":2,"base":1' in listened(story)


def test_a_listener_who_does_not_read_is_let_go(site, monkeypatch):
    monkeypatch.setattr("flagkit.server.app._UNREAD_S", 0.01)

    async def story() -> None:
        await Listener(site, READ, reading=False).task

    listened(story)
    assert len(site.service.streams) == 0


def test_the_end_of_the_service_is_the_end_of_its_streams(site):
    async def story() -> list[dict[str, Any]]:
        listener = Listener(site, READ)
        await listener.chunk(), await listener.chunk()
        await asyncio.to_thread(site.service.close)
        await listener.task
        return [listener.messages.get_nowait() for _ in range(listener.messages.qsize())]

    assert listened(story) == [{"type": "http.response.body", "body": b"", "more_body": False}]


@pytest.mark.parametrize("headers", [{}, WRITE])
def test_listening_needs_a_read_key(site, headers):
    assert site.get("/v1/stream", headers).status == 401


def test_who_finds_no_room_is_told_when_to_ask_again(tmp_path):
    site = Site(tmp_path, max_streams=0)
    site.service.start()
    answer = site.get("/v1/stream", READ)
    site.service.close()
    assert (answer.status, answer.headers["retry-after"]) == (503, "60")


def test_a_head_of_the_stream_ends(site):
    answer = site.call("HEAD", "/v1/stream", READ, [b""])
    assert (answer.status, answer.body) == (200, b"")
    assert answer.headers["content-type"].startswith("text/event-stream")


@pytest.mark.parametrize(
    ("name", "value"),
    [("heartbeat_s", 0), ("heartbeat_s", 301), ("heartbeat_s", "15"), ("max_streams", -1), ("max_streams", 1.5)],
)
def test_a_wrong_setting_of_the_stream_is_named(tmp_path, name, value):
    with pytest.raises(ConfigError) as raised:
        ServerConfig(tmp_path / "flags.json", tmp_path / "flagkit.db", **{name: value})
    assert raised.value.field == name
