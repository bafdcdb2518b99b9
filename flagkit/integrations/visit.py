"""``Door``: what the web frameworks share: whose request it is, the override it brings, the headers that go back.

Knows no framework: each hands in what it read of the request, and sets the headers it is given. A request never fails
because of flags: what the application's own function raises leaves the request with an invalid context, and is counted.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from inspect import isawaitable, iscoroutinefunction
from typing import Any, Final, Protocol, TypeVar

from flagkit import default
from flagkit.boundary import awaited, contained
from flagkit.client import Client
from flagkit.context import Context, Scope, entered
from flagkit.errors import ConfigError

T = TypeVar("T")

HEADER: Final = "Flagkit-Override"
COOKIE: Final = "flagkit-override"
#: Of a response that an override had a part in: it is for one person, and for now.
CACHE_CONTROL: Final = "private, no-store"
#: Who asks when the application's own function could not say it.
_NOBODY: Final = Context(None)
#: From request to who is asking: a ``Context``, a unit, a mapping with ``unit``, or None for nobody.
ContextOf = Callable[[T], Any]


class _Headers(Protocol):
    """What every framework's headers can do."""

    def get(self, key: str, /) -> str | None: ...


class Door:
    """Opens the scope of requests, for one framework's middleware.

    Args: context, request -> who is asking; client, None for the default one of the moment; asynchronous, whether
        there is a loop in which a coroutine function can be awaited.
    Raises: ConfigError naming the argument.
    """

    __slots__ = ("_client", "_context")

    def __init__(self, context: ContextOf[Any], client: Client | None = None, *, asynchronous: bool = False) -> None:
        if not callable(context):
            raise ConfigError("context", context, "a function: request -> context, unit or None")
        if not asynchronous and iscoroutinefunction(context):
            raise ConfigError("context", context, "a plain function: nothing can be awaited here")
        if client is not None and not isinstance(client, Client):
            raise ConfigError("client", client, "a flagkit.Client, or None for the default client")
        self._context = context
        self._client = client

    @property
    def client(self) -> Client:
        return default.current() if self._client is None else self._client

    def token(self, headers: _Headers, cookies: Callable[[], Mapping[str, str]]) -> str | None:
        """The override that a request shows, if anybody asks for one. Raises: nothing, whatever the cookies are."""
        if not self.client.takes_overrides:
            return None
        nothing: Mapping[str, str] = {}
        return headers.get(HEADER) or contained(cookies, otherwise=nothing).get(COOKIE)

    def scope(self, request: Any, token: str | None) -> AbstractContextManager[Mapping[str, str]]:
        """The scope of ``request``. Raises: nothing."""
        return self.client.scope(lambda: self._context(request), override=token)

    async def open(self, request: Any, token: str | None) -> AbstractContextManager[Mapping[str, str]]:
        """The same where the application's function may be a coroutine function. Raises: nothing."""
        client = self.client
        given: Any = contained(self._context, request, otherwise=_NOBODY, failed=client.context_failed)
        if isawaitable(given):
            given = await awaited(given, otherwise=_NOBODY, failed=client.context_failed)
        return client.scope(given, override=token)

    def headers(self, granted: Mapping[str, str], vary: str | None) -> dict[str, str]:
        """What a response to such a request says of caching, given what it says of ``Vary``; empty: nothing.

        A cache must never answer others from what the bearer of an override got, nor, where the header brings it, the
        bearer from what others got. To say the latter of cookies would keep caches from serving anybody.
        """
        if not self.client.takes_overrides:
            return {}
        wanted = [HEADER, "Cookie"] if granted else [HEADER]
        known = {name.strip().lower() for name in (vary or "").split(",")}
        missing = [] if "*" in known else [name for name in wanted if name.lower() not in known]
        told = {"Vary": ", ".join([vary, *missing] if vary else missing)} if missing else {}
        return told | ({"Cache-Control": CACHE_CONTROL} if granted else {})


def stepped(scope: Scope | None, items: Iterable[T]) -> Iterator[T]:
    """``items``, each made inside ``scope``: for the body of a response that is made while it is sent."""
    steps = iter(items)
    try:
        while True:
            with entered(scope):
                try:
                    item = next(steps)
                except StopIteration:
                    return
            yield item
    finally:
        close = getattr(items, "close", None)
        if close is not None:
            with entered(scope):
                close()


async def astepped(scope: Scope | None, items: Any) -> AsyncIterator[Any]:
    """``stepped`` for an asynchronous body."""
    steps = aiter(items)
    try:
        while True:
            with entered(scope):
                try:
                    item = await anext(steps)
                except StopAsyncIteration:
                    return
            yield item
    finally:
        close: Callable[[], Awaitable[None]] | None = getattr(items, "aclose", None)
        if close is not None:
            with entered(scope):
                await close()
