"""``Ambient``: what holds inside a block, as a context manager of both kinds and as a decorator.

Made by ``scope`` and ``Client.override``, which say what holds. It knows nothing of that, nor of who asks.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import wraps
from typing import Any, Generic, ParamSpec, TypeVar, cast

from flagkit.errors import ConfigError

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")


class Ambient(Generic[T]):
    """See the module. ``make``: makes the plain context manager of one block, or of one call of a function."""

    __slots__ = ("_block", "_make")

    def __init__(self, make: Callable[[], AbstractContextManager[T]]) -> None:
        self._make = make
        self._block: AbstractContextManager[T] | None = None

    def __enter__(self) -> T:
        block = self._block = self._make()
        return block.__enter__()

    def __exit__(self, *error: Any) -> bool | None:
        block, self._block = self._block, None
        return None if block is None else block.__exit__(*error)

    async def __aenter__(self) -> T:
        return self.__enter__()

    async def __aexit__(self, *error: Any) -> bool | None:
        return self.__exit__(*error)

    def __call__(self, function: Callable[P, R]) -> Callable[P, R]:
        """The function, plain or a coroutine function, each call of which is such a block.

        Raises: ConfigError for anything else: what is ambient in a generator would be so for its reader too.
        """
        import inspect  # as in production.drivers: not at import

        make = self._make
        if not callable(function) or inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            raise ConfigError("function", function, "a function or coroutine function, and no generator")
        if inspect.iscoroutinefunction(function):

            async def call_and_await(*args: P.args, **kwargs: P.kwargs) -> Any:
                with make():
                    return await function(*args, **kwargs)

            return cast("Callable[P, R]", wraps(function)(call_and_await))

        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            with make():
                return function(*args, **kwargs)

        return cast("Callable[P, R]", wraps(function)(call))
