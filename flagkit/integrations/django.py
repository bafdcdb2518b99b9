"""A scope for every request of a Django project, under WSGI and ASGI (extra ``django``).

    MIDDLEWARE = [..., "django.contrib.auth.middleware.AuthenticationMiddleware",
                  "flagkit.integrations.django.FlagsMiddleware"]
    FLAGKIT = {"context": "shop.flags.context_of"}

It stands behind what finds the user, and before everything that asks for flags.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.conf import settings
from django.http import HttpRequest, HttpResponseBase
from django.utils.module_loading import import_string

from flagkit.context import current_scope
from flagkit.errors import ConfigError
from flagkit.integrations.visit import Door, astepped, stepped

__all__ = ["FlagsMiddleware"]


class FlagsMiddleware:
    """Makes who is asking the ambient context of each request, and takes its signed override.

    The setting ``FLAGKIT`` is a dict:
        context: ``HttpRequest`` -> a ``Context``, a unit, a mapping with ``unit``, or None for nobody; the function, or
            its dotted path. Under ASGI, where all middleware behind this is asynchronous too, it may be a coroutine
            function, which can ``await request.auser()``. If it raises, answers are the callers' defaults.
        client: a ``flagkit.Client``, or its dotted path; left out: the default client of the moment.

    Raises: ConfigError naming the setting, when the server starts. Later nothing of its own.
    """

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: Callable[[HttpRequest], Any]) -> None:
        self._get_response: Callable[[HttpRequest], Any] = get_response
        given = getattr(settings, "FLAGKIT", None)
        if not isinstance(given, Mapping) or not given.keys() <= {"context", "client"} or "context" not in given:
            raise ConfigError("settings.FLAGKIT", given, 'a dict with "context" and, if need be, "client"')
        self._asynchronous = iscoroutinefunction(get_response)
        self._door = Door(_loaded(given, "context"), _loaded(given, "client"), asynchronous=self._asynchronous)
        if self._asynchronous:
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> HttpResponseBase | Awaitable[HttpResponseBase]:
        if self._asynchronous:
            return self._serve(request)
        with self._door.scope(request, self._token(request)) as granted:
            response: HttpResponseBase = self._get_response(request)
            return self._marked(response, granted)

    async def _serve(self, request: HttpRequest) -> HttpResponseBase:
        with await self._door.open(request, self._token(request)) as granted:
            response: HttpResponseBase = await self._get_response(request)
            return self._marked(response, granted)

    def _token(self, request: HttpRequest) -> str | None:
        return self._door.token(request.headers, lambda: request.COOKIES)

    def _marked(self, response: Any, granted: Mapping[str, str]) -> HttpResponseBase:
        for name, value in self._door.headers(granted, response.get("Vary")).items():
            response[name] = value
        # The parts of such a body are made while it is sent. A file is the server's own business.
        if response.streaming and getattr(response, "file_to_stream", None) is None:
            step = astepped if response.is_async else stepped
            response.streaming_content = step(current_scope(), response.streaming_content)
        whole: HttpResponseBase = response
        return whole


def _loaded(given: Mapping[str, Any], name: str) -> Any:
    value = given.get(name)
    if not isinstance(value, str):
        return value
    try:
        return import_string(value)
    except ImportError:
        raise ConfigError(f"settings.FLAGKIT[{name!r}]", value, "a dotted path that can be imported") from None
