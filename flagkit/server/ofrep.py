"""The OpenFeature Remote Evaluation Protocol: flags decided here, for browsers, apps and other languages.

It owns who is told what, and the rules of browsers (CORS): a read key may ask about every flag, a browser key, which
anyone can copy from a page, about those marked for clients and at a bounded rate; pages are answered only if their
origin is on the list. What is answered is ``evaluation``'s business.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from hashlib import blake2b
from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from flagkit.server.evaluation import MAX_CONTEXT_BYTES, Answer
from flagkit.server.exchange import json_answer, json_text, names, service_of, wire_of
from flagkit.server.intake import Refused

_PREFLIGHT: Final = {
    "Access-Control-Allow-Methods": "POST",
    "Access-Control-Allow-Headers": "Authorization, Content-Type, If-None-Match, X-API-Key",
    "Access-Control-Max-Age": "600",
}
_VARY: Final = "Origin, Authorization, X-API-Key"


def routes() -> list[Route]:
    """What the protocol asks for, at its own addresses."""
    return [
        Route("/ofrep/v1/evaluate/flags", _all, methods=["POST", "OPTIONS"]),
        Route("/ofrep/v1/evaluate/flags/{key}", _one, methods=["POST", "OPTIONS"]),
    ]


async def _one(request: Request) -> Response:
    key, evaluation = request.path_params["key"], service_of(request).evaluation

    def answer(body: bytes, clients_only: bool) -> Response:
        return _worded(evaluation.one(key, body, clients_only=clients_only))

    return await _asked(request, answer)


async def _all(request: Request) -> Response:
    evaluation, known = service_of(request).evaluation, request.headers.get("if-none-match", "")

    def answer(body: bytes, clients_only: bool) -> Response:
        status, said = evaluation.all(body, clients_only=clients_only)
        if status != 200:
            return _worded(Answer(status, said))
        # Of the answer and not of the definitions: it depends on the context, the key and, with steps, the time.
        text = json_text(said)
        headers = {"ETag": f'"{blake2b(text, digest_size=16).hexdigest()}"'}
        if names(known, headers["ETag"]):
            return Response(status_code=304, headers=headers)
        return Response(text, headers=headers, media_type="application/json")

    return await _asked(request, answer)


async def _asked(request: Request, answer: Callable[[bytes, bool], Response]) -> Response:
    """The answer to a request, and what a browser must know of it."""
    origin = request.headers.get("origin")
    foreign = origin is not None and origin not in service_of(request).config.origins
    if foreign:
        response = _failed(403, "this origin may not ask; the service has a list of those that may")
    elif request.method == "OPTIONS":
        response = Response(status_code=204, headers=_PREFLIGHT)
    else:
        try:
            response = await _allowed(request, answer)
        except Refused as refusal:
            response = _failed(refusal.status, str(refusal))
    response.headers["Vary"] = _VARY
    response.headers["Cache-Control"] = "private, no-cache"
    if origin is not None and not foreign:
        # The one origin, never a wildcard; and no word of credentials: keys are sent by the page, cookies mean nothing.
        response.headers["Access-Control-Allow-Origin"] = origin
        response.headers["Access-Control-Expose-Headers"] = "ETag, Retry-After"
    return response


async def _allowed(request: Request, answer: Callable[[bytes, bool], Response]) -> Response:
    """The answer, if the key may ask and may ask now. Raises: Refused."""
    service = service_of(request)
    authorization = request.headers.get("authorization")
    if authorization is None and "x-api-key" in request.headers:
        authorization = f"Bearer {request.headers['x-api-key']}"
    clients_only = not service.keys.may_read(authorization)
    if clients_only:
        if not service.keys.may_evaluate(authorization):
            if service.keys.may(authorization):
                return _failed(403, "this key may not evaluate flags; expected a read key or a browser key")
            expected = "expected Authorization: Bearer or X-API-Key, and a read key or a browser key"
            return _failed(401, expected, {"WWW-Authenticate": "Bearer"})
        wait_s = service.browser_allowance.take()
        if wait_s:
            return _failed(429, "too many requests with browser keys", {"Retry-After": str(math.ceil(wait_s))})
    if request.headers.get("content-encoding", "identity").strip().lower() not in ("", "identity"):
        raise Refused(415, "Content-Encoding: expected none")
    body = await wire_of(request, MAX_CONTEXT_BYTES)
    return await asyncio.get_running_loop().run_in_executor(service.evaluator, answer, body, clients_only)


def _worded(answer: Answer) -> Response:
    return json_answer(answer.said, answer.status)


def _failed(status: int, details: str, headers: dict[str, str] | None = None) -> Response:
    return json_answer({"errorCode": "GENERAL", "errorDetails": details}, status, headers)
