"""The HTTP face of the service: four routes, bearer keys, and JSON in every answer, errors included.

It owns status codes and headers and nothing else: batches are read by ``intake``, kept by ``store``, summed up by
``summary``; definitions come ready to send from ``definitions``.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, NoReturn

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from flagkit.core.dates import DATE_FORM, parse_date_ms
from flagkit.server.config import ServerConfig
from flagkit.server.intake import MAX_WIRE_BYTES, Refused, read_batch
from flagkit.server.service import Service
from flagkit.server.summary import Question, summarise


def build_app(config: ServerConfig) -> Starlette:
    """An ASGI application that serves ``config``; its lifespan opens the files and runs the threads.

    Its lifespan raises what ``Service.start`` raises.
    """
    return app_for(Service(config))


def app_for(service: Service) -> Starlette:
    """The application of a service, which it starts if need be and closes at the end."""

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        await asyncio.to_thread(service.start)
        try:
            yield
        finally:
            await asyncio.to_thread(service.close)

    app = Starlette(
        routes=[
            Route("/v1/definitions", _definitions),
            Route("/v1/events", _events, methods=["POST"]),
            Route("/v1/summary", _summary),
            Route("/healthz", _health),
        ],
        exception_handlers={
            HTTPException: _http_error,
            Refused: _refused,
            sqlite3.Error: _store_error,
            ClientDisconnect: _gone,
            Exception: _internal_error,
        },
        lifespan=lifespan,
    )
    app.router.redirect_slashes = False
    app.state.service = service
    return app


async def _definitions(request: Request) -> Response:
    service = _service(request)
    if not service.keys.may_read(request.headers.get("authorization")):
        _unauthorised("read")
    served = service.definitions.served
    headers = {"ETag": served.etag, "Cache-Control": "private, no-cache", "Vary": "Accept-Encoding, Authorization"}
    if _names(request.headers.get("if-none-match", ""), served.etag):
        return Response(status_code=304, headers=headers)
    if not _takes_gzip(request.headers.get("accept-encoding", "")):
        return Response(served.body, headers=headers, media_type="application/json")
    headers["Content-Encoding"] = "gzip"
    return Response(served.compressed, headers=headers, media_type="application/json")


async def _events(request: Request) -> Response:
    service = _service(request)
    if not service.keys.may_write(request.headers.get("authorization")):
        _unauthorised("write")
    wire = await _wire(request)
    encoding = request.headers.get("content-encoding", "").strip().lower()
    received = await asyncio.get_running_loop().run_in_executor(service.intake, read_batch, wire, encoding)
    if request.headers.get("idempotency-key", received.id) != received.id:
        raise Refused(400, "Idempotency-Key: expected the batch_id of the body")
    # 202 promises that the events are on disk.
    await asyncio.wrap_future(service.store.add(received))
    accepted = len(received.exposures) + len(received.metrics)
    return _json({"batch_id": received.id, "accepted": accepted, "rejected": received.rejected}, 202)


async def _summary(request: Request) -> Response:
    service = _service(request)
    if not service.keys.may_read(request.headers.get("authorization")):
        _unauthorised("read")
    question = Question(request.query_params.get("flag"), _time_ms(request.query_params.get("since")))
    loop = asyncio.get_running_loop()
    return _json(await loop.run_in_executor(service.reader, summarise, service.store.path, question))


async def _health(request: Request) -> Response:
    service = _service(request)
    definitions, served, healthy = service.definitions, service.definitions.served, service.store.healthy
    # Problems quote the file. Strangers on a network see that there are some, not what the file says.
    shown = service.config.loopback or service.keys.may_read(request.headers.get("authorization"))
    answer = {
        "ok": healthy,
        "epoch": served.epoch,
        "number": served.number,
        "flag_count": served.flag_count,
        "events": service.store.stored,
        "definitions": {
            "ok": definitions.ok,
            "problems": [str(problem) for problem in definitions.problems] if shown else [],
        },
    }
    return _json(answer, 200 if healthy else 503)


async def _wire(request: Request) -> bytes:
    """The body as it was sent, read no further than the limit."""
    length = request.headers.get("content-length", "")
    if length.isdecimal() and int(length[:20]) > MAX_WIRE_BYTES:
        raise Refused(413, f"more than {MAX_WIRE_BYTES:,} bytes")
    wire = bytearray()
    async for chunk in request.stream():
        wire += chunk
        if len(wire) > MAX_WIRE_BYTES:
            raise Refused(413, f"more than {MAX_WIRE_BYTES:,} bytes")
    return bytes(wire)


def _service(request: Request) -> Service:
    service: Service = request.app.state.service
    return service


def _unauthorised(role: str) -> NoReturn:
    raise HTTPException(401, f"expected Authorization: Bearer and a {role} key", {"WWW-Authenticate": "Bearer"})


def _names(if_none_match: str, etag: str) -> bool:
    tags = {tag.strip().removeprefix("W/") for tag in if_none_match.split(",")}
    return etag in tags or "*" in tags


def _takes_gzip(accept_encoding: str) -> bool:
    for coding in accept_encoding.lower().split(","):
        name, _, quality = coding.replace(" ", "").partition(";q=")
        if name == "gzip":
            return quality not in ("0", "0.0", "0.00", "0.000")
    return False


def _time_ms(since: str | None) -> int:
    if not since:
        return 0
    ms = int(since) if since.isdecimal() and len(since) <= 15 else parse_date_ms(since)
    if ms is None:
        raise Refused(400, f"since: expected milliseconds since 1970 or {DATE_FORM}")
    return ms


def _json(answer: Mapping[str, Any], status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    # ASCII only, so that nothing stored or quoted can fail to be sent.
    return Response(json.dumps(answer, separators=(",", ":")), status, headers, "application/json")


def _error(status: int, message: str, headers: Mapping[str, str] | None = None) -> Response:
    return _json({"error": message}, status, headers)


async def _http_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 - registered for it
    return _error(error.status_code, error.detail, error.headers)


async def _refused(_: Request, error: Exception) -> Response:
    assert isinstance(error, Refused)  # noqa: S101 - registered for it
    return _error(error.status, str(error))


async def _store_error(_: Request, __: Exception) -> Response:
    return _error(503, "the store is not available", {"Retry-After": "1"})


async def _gone(_: Request, __: Exception) -> Response:
    return Response(status_code=400)  # nobody is there to read it


async def _internal_error(_: Request, __: Exception) -> Response:
    return _error(500, "internal error")
