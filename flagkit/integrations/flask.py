"""A scope for every request of a Flask application (extra ``flask``).

    Flags(app, context=lambda request: session.get("user_id"))

It holds from before the application's own ``before_request`` functions until the response's last part is made.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import ExitStack
from typing import Any, Final, cast

from flask import Flask, Request, Response, request

from flagkit.boundary import contained
from flagkit.client import Client
from flagkit.context import current_scope
from flagkit.integrations.visit import ContextOf, Door, stepped

__all__ = ["Flags"]

#: Where a request keeps its scope: not in ``g``, which a request made inside another shares with it.
_OPEN: Final = "flagkit.open"


class Flags:
    """Makes who is asking the ambient context of each request, and takes its signed override.

    Args:
        app: the application; None: ``init_app`` brings it.
        context: ``flask.Request`` -> a ``Context``, a unit, a mapping with ``unit``, or None for nobody. Called in the
            request's context: ``session`` and ``g`` are there. If it raises, answers are the callers' defaults.
        client: None for the default client of the moment.

    Make it before anything that registers a ``before_request`` function which asks for flags.
    Raises: ConfigError naming the argument. Later nothing of its own.
    """

    def __init__(self, app: Flask | None = None, *, context: ContextOf[Request], client: Client | None = None) -> None:
        self._door = Door(context, client)
        if app is not None:
            self.init_app(app)

    def init_app(self, app: Flask) -> None:
        """Serve ``app`` too."""
        app.before_request(self._open)
        app.after_request(self._mark)
        app.teardown_request(self._close)

    def _open(self) -> None:
        token = self._door.token(request.headers, lambda: request.cookies)
        stack = ExitStack()
        granted = stack.enter_context(self._door.scope(request._get_current_object(), token))  # type: ignore[attr-defined]
        request.environ[_OPEN] = (stack, granted)

    def _mark(self, response: Response) -> Response:
        _, granted = request.environ.get(_OPEN, (None, {}))
        for name, value in self._door.headers(granted, response.headers.get("Vary")).items():
            response.headers[name] = value
        if response.is_streamed and not response.direct_passthrough:
            # Its parts are made while they are sent, which may be after the request is torn down.
            response.response = stepped(current_scope(), cast("Iterable[bytes]", response.response))
        return response

    def _close(self, _: Any) -> None:
        stack, _granted = request.environ.pop(_OPEN, (None, {}))
        if stack is not None:
            # A test client that keeps a request open may end it elsewhere: that context is then gone, and its scope.
            contained(stack.close, otherwise=None)
