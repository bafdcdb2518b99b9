"""A scope for every request of FastAPI, Starlette and other ASGI applications (extra ``asgi``).

    app.add_middleware(FlagsMiddleware, context=lambda connection: connection.headers.get("x-user"))

Plain ASGI: bodies that are made while they are sent, background tasks, threads and tasks started by the request are in
its scope too. Requests and web sockets alike; for a web socket the scope lasts as long as the connection.
"""

from __future__ import annotations

from starlette.datastructures import MutableHeaders
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from flagkit.client import Client
from flagkit.integrations.visit import ContextOf, Door

__all__ = ["FlagsMiddleware"]


class FlagsMiddleware:
    """Makes who is asking the ambient context of each request, and takes its signed override.

    Args:
        app: the application.
        context: ``starlette.requests.HTTPConnection`` -> a ``Context``, a unit, a mapping with ``unit``, or None for
            nobody; a plain function that does not block, or a coroutine function. If it raises, answers are defaults.
        client: None for the default client of the moment.

    Raises: ConfigError naming the argument. Later nothing of its own.
    """

    def __init__(self, app: ASGIApp, context: ContextOf[HTTPConnection], client: Client | None = None) -> None:
        self._app = app
        self._door = Door(context, client, asynchronous=True)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        connection = HTTPConnection(scope)
        token = self._door.token(connection.headers, lambda: connection.cookies)
        with await self._door.open(connection, token) as granted:

            async def send_marked(message: Message) -> None:
                if message["type"] == "http.response.start":
                    message.setdefault("headers", [])  # they may be left out
                    headers = MutableHeaders(scope=message)
                    vary = ", ".join(headers.getlist("Vary")) or None
                    for name, value in self._door.headers(granted, vary).items():
                        headers[name] = value
                await send(message)

            await self._app(scope, receive, send_marked)
