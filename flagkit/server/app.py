"""The HTTP face of the service: its routes, bearer keys, and JSON in every answer, errors included.

It owns status codes and headers and nothing else: batches are read by ``intake``, kept by ``store``, summed up by
``summary``; definitions come ready to send from ``definitions``, their changes from ``streams``; orders are carried
out by ``operations``; flags are decided for others in ``ofrep``.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import aclosing, asynccontextmanager, suppress
from pathlib import Path
from typing import Any, NoReturn

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Message, Send

from flagkit.changes import Busy, LogbookError
from flagkit.core.dates import DATE_FORM, parse_date_ms
from flagkit.dialects.edits import EditError
from flagkit.server.config import ServerConfig
from flagkit.server.exchange import json_answer, names, service_of, wire_of
from flagkit.server.intake import Refused, read_batch
from flagkit.server.ofrep import routes as ofrep_routes
from flagkit.server.operations import MAX_ORDER_BYTES, read_order
from flagkit.server.reports import MAX_REPORTS_BYTES
from flagkit.server.service import Service
from flagkit.server.summary import Question, changes_of, summarise

#: A listener that takes nothing for this long is let go. What he has not taken is bounded by the socket's buffers.
_UNREAD_S = 30.0


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
            Route("/v1/stream", _stream),
            Route("/v1/events", _events, methods=["POST"]),
            Route("/v1/guards", _guards, methods=["POST"]),
            Route("/v1/summary", _summary),
            Route("/v1/changes", _changes),
            Route("/v1/changes", _change, methods=["POST"]),
            Route("/healthz", _health),
            *ofrep_routes(),
        ],
        exception_handlers={
            HTTPException: _http_error,
            Refused: _refused,
            EditError: _not_allowed,
            LogbookError: _file_error,
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
    service = service_of(request)
    if not service.keys.may_read(request.headers.get("authorization")):
        _unauthorised("read")
    served = service.definitions.served
    headers = {
        "ETag": served.etag,
        "Cache-Control": "private, no-cache",
        "Vary": "Accept-Encoding, Authorization",
        "Flagkit-Stream": "stream",  # relative to this address, so that it holds behind whatever is in front of us
    }
    if names(request.headers.get("if-none-match", ""), served.etag):
        return Response(status_code=304, headers=headers)
    if not _takes_gzip(request.headers.get("accept-encoding", "")):
        return Response(served.body, headers=headers, media_type="application/json")
    headers["Content-Encoding"] = "gzip"
    return Response(served.compressed, headers=headers, media_type="application/json")


class _EventStream(StreamingResponse):
    """A response that goes on until its listener leaves, does not read, or the service ends."""

    media_type = "text/event-stream"

    async def stream_response(self, send: Send) -> None:
        async def send_in_time(message: Message) -> None:
            async with asyncio.timeout(_UNREAD_S):
                await send(message)

        events: Any = self.body_iterator
        with suppress(TimeoutError):
            async with aclosing(events):
                await super().stream_response(send_in_time)


async def _stream(request: Request) -> Response:
    service = service_of(request)
    if not service.keys.may_read(request.headers.get("authorization")):
        _unauthorised("read")
    if service.streams.full:
        return _error(503, "no more streams; definitions can be polled", {"Retry-After": "60"})
    headers = {
        "Cache-Control": "no-cache, no-transform",
        "X-Accel-Buffering": "no",  # nginx would keep events until it has a page of them
        "Flagkit-Heartbeat": f"{service.config.heartbeat_s:g}",
    }
    if request.method == "HEAD":
        return Response(headers=headers, media_type=_EventStream.media_type)
    return _EventStream(service.streams.listen(request.headers.get("last-event-id")), headers=headers)


async def _events(request: Request) -> Response:
    service = service_of(request)
    if not service.keys.may_write(request.headers.get("authorization")):
        _unauthorised("write")
    wire = await wire_of(request)
    encoding = request.headers.get("content-encoding", "").strip().lower()
    received = await asyncio.get_running_loop().run_in_executor(service.intake, read_batch, wire, encoding)
    if request.headers.get("idempotency-key", received.id) != received.id:
        raise Refused(400, "Idempotency-Key: expected the batch_id of the body")
    # 202 promises that the events are on disk. A batch that says nothing is a question: is this key a write key?
    if received.says_something:
        await asyncio.wrap_future(service.early_access.store(received))
    accepted = len(received.exposures) + len(received.metrics)
    return json_answer({"batch_id": received.id, "accepted": accepted, "rejected": received.rejected}, 202)


async def _guards(request: Request) -> Response:
    service = service_of(request)
    if not service.keys.may_write(request.headers.get("authorization")):
        _unauthorised("write")
    wire, received_s = await wire_of(request, MAX_REPORTS_BYTES), service.trials.now_s()
    encoding = request.headers.get("content-encoding", "").strip().lower()
    loop = asyncio.get_running_loop()
    return json_answer(await loop.run_in_executor(service.judge, service.trials.exchange, wire, encoding, received_s))


async def _summary(request: Request) -> Response:
    summary = await _asked(request, summarise)
    service, loop = service_of(request), asyncio.get_running_loop()
    guards = await loop.run_in_executor(service.judge, service.trials.states, summary["flag"])
    return json_answer({**summary, "max_units": service.config.max_units, "guards": guards})


async def _changes(request: Request) -> Response:
    return json_answer(await _asked(request, changes_of))


async def _change(request: Request) -> Response:
    service, authorization = service_of(request), request.headers.get("authorization")
    if not service.keys.may_change(authorization):
        if service.keys.may(authorization):
            raise HTTPException(403, "this key may not change flags; expected an admin key")
        _unauthorised("admin")
    asked = read_order(await wire_of(request, MAX_ORDER_BYTES), request.headers.get("idempotency-key", ""))
    loop = asyncio.get_running_loop()
    return json_answer(await loop.run_in_executor(service.operator, service.operations.carry_out, asked))


async def _asked(request: Request, answer: Callable[[Path, Question], dict[str, Any]]) -> dict[str, Any]:
    service = service_of(request)
    if not service.keys.may_read(request.headers.get("authorization")):
        _unauthorised("read")
    question = Question(request.query_params.get("flag"), _time_ms(request.query_params.get("since")))
    loop = asyncio.get_running_loop()
    return await loop.run_in_executor(service.reader, answer, service.store.path, question)


async def _health(request: Request) -> Response:
    service = service_of(request)
    definitions, served, healthy = service.definitions, service.definitions.served, service.store.healthy
    # Problems quote the file. Strangers on a network see that there are some, not what the file says.
    shown = service.config.loopback or service.keys.may_read(request.headers.get("authorization"))
    authorization = request.headers.get("authorization")
    answer = {
        "ok": healthy,
        "epoch": served.epoch,
        "number": served.number,
        "flag_count": served.flag_count,
        "events": service.store.stored,
        "enrolments": {
            "units": sum(len(each.units or ()) for each in served.definitions.enrolled.values()),
            "refused": service.early_access.refused,
        },
        "definitions": {
            "ok": definitions.ok,
            "problems": [str(problem) for problem in definitions.problems] if shown else [],
        },
    }
    if authorization is not None:
        answer["may"] = service.keys.may(authorization)
    return json_answer(answer, 200 if healthy else 503)


def _unauthorised(role: str) -> NoReturn:
    article = "an" if role[0] in "aeiou" else "a"
    raise HTTPException(401, f"expected Authorization: Bearer and {article} {role} key", {"WWW-Authenticate": "Bearer"})


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


def _error(status: int, message: str, headers: Mapping[str, str] | None = None) -> Response:
    return json_answer({"error": message}, status, headers)


async def _http_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 - registered for it
    return _error(error.status_code, error.detail, error.headers)


async def _refused(_: Request, error: Exception) -> Response:
    assert isinstance(error, Refused)  # noqa: S101 - registered for it
    return _error(error.status, str(error))


async def _not_allowed(_: Request, error: Exception) -> Response:
    return _error(409, str(error))


async def _file_error(_: Request, error: Exception) -> Response:
    if isinstance(error, Busy):
        return _error(503, str(error), {"Retry-After": "1"})
    return _error(500, str(error))


async def _store_error(_: Request, __: Exception) -> Response:
    return _error(503, "the store is not available", {"Retry-After": "1"})


async def _gone(_: Request, __: Exception) -> Response:
    return Response(status_code=400)  # nobody is there to read it


async def _internal_error(_: Request, __: Exception) -> Response:
    return _error(500, "internal error")
