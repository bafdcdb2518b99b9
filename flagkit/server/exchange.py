"""What every part of the HTTP face needs of a request and an answer: the service, the body within its bound, JSON.

It knows Starlette and no route.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from flagkit.server.intake import MAX_WIRE_BYTES, Refused
from flagkit.server.service import Service


def service_of(request: Request) -> Service:
    """The service whose application was asked."""
    service: Service = request.app.state.service
    return service


async def wire_of(request: Request, limit: int = MAX_WIRE_BYTES) -> bytes:
    """The body as it was sent, read no further than the limit. Raises: Refused with 413; ClientDisconnect."""
    length = request.headers.get("content-length", "")
    if length.isdecimal() and int(length[:20]) > limit:
        raise Refused(413, f"more than {limit:,} bytes")
    wire = bytearray()
    async for chunk in request.stream():
        wire += chunk
        if len(wire) > limit:
            raise Refused(413, f"more than {limit:,} bytes")
    return bytes(wire)


def names(if_none_match: str, etag: str) -> bool:
    """Whether the header If-None-Match names ``etag``."""
    tags = {tag.strip().removeprefix("W/") for tag in if_none_match.split(",")}
    return etag in tags or "*" in tags


def json_text(answer: Mapping[str, Any]) -> bytes:
    """Compact JSON, in ASCII only, so that nothing stored or quoted can fail to be sent."""
    return json.dumps(answer, separators=(",", ":")).encode()


def json_answer(answer: Mapping[str, Any], status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """An answer in JSON."""
    return Response(json_text(answer), status, headers, "application/json")
