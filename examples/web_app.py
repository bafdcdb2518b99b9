"""A web application with a scope per request: handlers ask for flags without passing the user around.

Run: python examples/web_app.py                 it serves, sends itself some requests and shows what was recorded
     uvicorn --app-dir examples web_app:app     it serves until it is stopped; try curl -H 'X-User: ann' localhost:8000
With FLAGKIT_URL and FLAGKIT_KEY (a key that may read and write) set, definitions come from that service and events go
there.
Needs the extra `server` (Starlette and uvicorn).
"""

from __future__ import annotations

import os
import socket
import threading
from collections import Counter
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path

import requests
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

import flagkit

DEFINITIONS = Path(__file__).with_name("web_app.json")
MAX_ITEMS = flagkit.Flag("max-items", default=10, owner="search")
events = flagkit.sinks.Memory()


def configure() -> flagkit.Client:
    """The default client: a service if there is one, else the file beside this one."""
    url = os.environ.get("FLAGKIT_URL")
    if url:
        return flagkit.configure(url, key=os.environ["FLAGKIT_KEY"])
    return flagkit.configure(source=flagkit.sources.File(DEFINITIONS), sink=events)


class ScopePerRequest:
    """Makes who is asking the ambient context of the request, whatever the handler calls."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        with flagkit.scope(self.context(Request(scope))):
            await self.app(scope, receive, send)

    def context(self, request: Request) -> flagkit.Context:
        attributes = {"country": request.headers.get("x-country", "SE")}
        enrolments = {"new-checkout": True} if request.cookies.get("beta") == "yes" else None
        user = request.headers.get("x-user")
        if user is None:  # a visitor: conditions work, rollouts do not, and nothing is recorded
            return flagkit.Context(attributes=attributes, enrolments=enrolments)
        return flagkit.Context(user, attributes, enrolments=enrolments)


async def checkout(_: Request) -> JSONResponse:
    # Nothing here waits, so it may be asked on the event loop.
    page = "new" if flagkit.enabled("new-checkout") else "old"
    return JSONResponse({"checkout": page, "why": flagkit.decide("new-checkout").reason})


def items(_: Request) -> JSONResponse:
    # A plain function runs in a thread; the scope goes with it.
    return JSONResponse({"items": flagkit.value(MAX_ITEMS)})


async def buy(_: Request) -> JSONResponse:
    flagkit.track("order", value=49.5, currency="SEK")
    return JSONResponse({"bought": True})


@asynccontextmanager
async def lifespan(_: Starlette) -> AsyncIterator[None]:
    client = configure()
    yield
    client.close()


app = Starlette(
    routes=[Route("/", checkout), Route("/items", items), Route("/buy", buy, methods=["POST"])],
    lifespan=lifespan,
)
app.add_middleware(ScopePerRequest)


def visit(url: str, user: str) -> tuple[str, int]:
    """One user's visit: what they saw of both flags."""
    headers = {"X-User": user}
    seen = requests.get(url, headers=headers, timeout=10).json()["checkout"]
    shown = requests.get(f"{url}/items", headers=headers, timeout=10).json()["items"]
    if seen == "new":
        requests.post(f"{url}/buy", headers=headers, timeout=10).raise_for_status()
    return seen, shown


def main() -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    print(f"serving on {url}")

    with ThreadPoolExecutor(8) as pool:
        visits = list(pool.map(lambda number: visit(url, f"user-{number}"), range(60)))
    print(f"60 users saw: {dict(sorted(Counter(seen for seen, _ in visits).items()))}")
    print(f"and items:    {dict(sorted(Counter(shown for _, shown in visits).items()))}")
    american = requests.get(url, headers={"X-User": "user-1", "X-Country": "US", "Cookie": "beta=yes"}, timeout=10)
    print(f"excluded, although opted in: {american.json()}")
    visitor = requests.get(url, timeout=10)
    print(f"without a user: {visitor.json()}")

    server.should_exit = True
    thread.join()  # its lifespan closes the client, which sends what is left
    counts = Counter((event.get("feature_flag.key") or event["name"], event["type"]) for event in events.events)
    for (name, kind), count in sorted(counts.items()):
        print(f"recorded: {count:3} {kind} events of {name}")


if __name__ == "__main__":
    main()
