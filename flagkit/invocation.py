"""``Invocation``: one call of a serverless function, around a block or around a function of any kind.

It says when the client refreshes and when it flushes, and on which thread that is waited for; how either is done is
the client's matter. It holds nothing of a call, so one serves any number of them, at once too. Made by
``Client.invocation``.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Generator
from functools import wraps
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar, cast

from flagkit.errors import ConfigError

if TYPE_CHECKING:
    import asyncio

C = TypeVar("C")
P = ParamSpec("P")
R = TypeVar("R")


class Invocation(Generic[C]):
    """See the module.

    Args:
        client: what a block is given.
        behind: whether there is something to refresh; quick.
        refresh, flush: what is done before and after it, at most ``timeout_s`` seconds each; they raise nothing.
    """

    __slots__ = ("_behind", "_client", "_flush", "_refresh", "_timeout_s")

    def __init__(
        self,
        client: C,
        timeout_s: float,
        *,
        behind: Callable[[], bool],
        refresh: Callable[[float], object],
        flush: Callable[[float], object],
    ) -> None:
        self._client = client
        self._timeout_s = timeout_s
        self._behind = behind
        self._refresh = refresh
        self._flush = flush

    def __call__(self, function: Callable[P, R]) -> Callable[P, R]:
        """The function, each call of which is an invocation; name, signature and type stay.

        It may be plain, a coroutine function, a generator or an asynchronous generator; of generators the invocation
        begins with the first item and ends with the last. Raises: ConfigError, when it is no function.
        """
        import inspect  # as in production.drivers: not at import

        if not callable(function):
            raise ConfigError("function", function, "a function")
        if inspect.isasyncgenfunction(function):
            driver = self._asynchronous_generator
        elif inspect.isgeneratorfunction(function):
            driver = self._generator
        elif inspect.iscoroutinefunction(function):
            driver = self._coroutine
        else:
            driver = self._plain
        return cast("Callable[P, R]", wraps(function)(driver(function)))

    # -- around a block

    def __enter__(self) -> C:
        if self._behind():
            self._refresh(self._timeout_s)
        return self._client

    def __exit__(self, *_: object) -> None:
        self._flush(self._timeout_s)

    async def __aenter__(self) -> C:
        if self._behind() and (refreshing := _elsewhere(self._refresh, self._timeout_s)) is not None:
            import asyncio

            await asyncio.wait((refreshing,), timeout=self._timeout_s)
        return self._client

    async def __aexit__(self, *_: object) -> None:
        """Whatever cancels this meanwhile is heeded when the events are sent: their function may be frozen then."""
        flushing = _elsewhere(self._flush, self._timeout_s)
        if flushing is None:
            return
        import asyncio

        now_s = asyncio.get_running_loop().time
        ends_s, cancelled = now_s() + self._timeout_s, None
        while not flushing.done() and (left_s := ends_s - now_s()) > 0:
            try:
                await asyncio.wait((flushing,), timeout=left_s)  # which leaves it alone when it is cancelled itself
            except asyncio.CancelledError as error:
                cancelled = error
        if cancelled is not None:
            raise cancelled

    # -- around a function

    def _plain(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            with self:
                return function(*args, **kwargs)

        return call

    def _coroutine(self, function: Callable[..., Any]) -> Callable[..., Any]:
        async def call(*args: Any, **kwargs: Any) -> Any:
            async with self:
                return await function(*args, **kwargs)

        return call

    def _generator(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
            with self:
                return (yield from function(*args, **kwargs))

        return call

    def _asynchronous_generator(self, function: Callable[..., Any]) -> Callable[..., Any]:
        async def call(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
            async with self:
                source = function(*args, **kwargs)
                step = source.__anext__()
                while True:
                    try:
                        item = await step
                    except StopAsyncIteration:
                        return
                    try:
                        sent = yield item
                    except GeneratorExit:
                        await source.aclose()
                        raise
                    except BaseException as thrown:  # noqa: BLE001 - it is handed on, to who reads it
                        step = source.athrow(thrown)
                    else:
                        step = source.asend(sent)

        return call


def _elsewhere(work: Callable[[float], object], timeout_s: float) -> asyncio.Future[object] | None:
    """``work``, begun on a thread of the running loop's pool; None when there was none, and it is done.

    Not ``asyncio.to_thread``: what that returns has begun only when it is awaited, and not at all when it is cancelled
    before.
    """
    import asyncio  # a third of the library's import, and only those who await need it

    try:
        return asyncio.get_running_loop().run_in_executor(None, work, timeout_s)
    except RuntimeError:  # another loop than asyncio's, a pool that is shut down, or no more threads
        work(timeout_s)
        return None
