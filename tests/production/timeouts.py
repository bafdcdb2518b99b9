"""A web application under gunicorn whose candidate never comes back: its server kills the worker for it.

``FLAGKIT_HOST`` holds the settings as JSON: ``state_dir`` and ``flags``. The client is made at import, in each worker.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable
from typing import Any

from flagkit import Client, Config

SETTINGS = json.loads(os.environ["FLAGKIT_HOST"])
client = Client.from_file(SETTINGS["flags"], config=Config(state_dir=SETTINGS["state_dir"], processes=1))


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    with client.gate("f", environ["QUERY_STRING"]) as gate:
        while gate.on:
            pass
    body = f"{gate.variant} {os.getpid()}".encode()
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]
