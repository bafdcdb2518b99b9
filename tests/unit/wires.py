"""Short forms the HTTP tests share: a wire to a server, an answer from it, the reason why there is none."""

from __future__ import annotations

import pytest

from flagkit.http import NoReply, Reply, Wire

KEY = "sk-live-0123456789"
LONG_S = 10.0
MAX = 1 << 20


def wire_to(url: str, **settings: object) -> Wire:
    return Wire(url, "/v1/definitions", **settings)


def get(wire: Wire, *, etag: str | None = None, deadline_s: float = LONG_S, max_bytes: int = MAX) -> Reply:
    return wire.get(etag=etag, deadline_s=deadline_s, max_bytes=max_bytes)


def failure(wire: Wire, *, deadline_s: float = LONG_S, max_bytes: int = MAX) -> str:
    """The reason for which a GET fails."""
    with pytest.raises(NoReply) as raised:
        get(wire, deadline_s=deadline_s, max_bytes=max_bytes)
    assert "requests" not in type(raised.value.__context__).__module__
    return raised.value.reason
