"""The application that every kind of server runs: it makes its client at import, and never thinks of forks.

``FLAGKIT_FAULTS`` holds the settings as JSON: ``url`` and ``key`` of the service, ``flush_interval_s``, and ``used``:
whether the client is started, ready and used at import, before any fork. Units carry the id of the process that
recorded them, so that the store shows whose events arrived.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import parse_qsl

import flagkit

SETTINGS: dict[str, Any] = json.loads(os.environ["FLAGKIT_FAULTS"])

client = flagkit.Client(
    SETTINGS["url"],
    key=SETTINGS["key"],
    config=flagkit.Config(poll_interval_s=0.2, flush_interval_s=SETTINGS["flush_interval_s"]),
)
#: A unit that is met here, before any fork.
seen = f"{os.getpid()}-seen"
recorded = 0


def record(count: int) -> list[str]:
    """Meet the flag as new units, and track an event for each; return the units."""
    global recorded
    units = [f"{os.getpid()}-{number}" for number in range(recorded, recorded + count)]
    recorded += count
    for unit in units:
        client.enabled("checkout", unit)
        client.track("order", unit, value=1)
    return units


def answer(path: str, count: int = 0) -> dict[str, Any]:
    """What the test wants of this process. ``/seen`` meets no new unit, as long as definitions stay as they are."""
    told: dict[str, Any] = {"pid": os.getpid(), "seen": seen, "at_import": at_import}
    if path == "/ready":
        told["ready"] = client.wait_ready(5)
    elif path == "/seen":
        told["enabled"] = client.enabled("checkout", seen)
    elif path == "/record":
        told["units"] = record(count)
    elif path == "/flush":
        told["units"] = record(count)
        told["left"] = client.flush(5)
    elif path == "/status":
        told["status"] = repr(client.status)
    return told


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    count = int(dict(parse_qsl(environ.get("QUERY_STRING", ""))).get("count", 0))
    body = json.dumps(answer(environ["PATH_INFO"], count)).encode()
    start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
    return [body]


#: The units recorded while this module was imported.
at_import: list[str] = []
if SETTINGS["used"]:
    assert client.wait_ready(10), client.status
    at_import += record(3)
    client.enabled("checkout", seen)
