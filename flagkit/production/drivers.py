"""Gated functions: one driver for each kind of function there is, each with the signature and name of the candidate.

Plain functions, coroutine functions, generators and asynchronous generators. Of a generator the time inside it is
measured, not that of its reader; it is exposed with the first item. Called by ``Gate`` when it decorates.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Coroutine, Generator, Iterable
from functools import partial, wraps
from time import perf_counter
from types import CoroutineType, FunctionType, MethodType
from typing import Any, TypeAlias

from flagkit.decision import Decision
from flagkit.production.branch import Stretches
from flagkit.production.passage import Chooser, Chosen, GateOptions, note, raised

#: Finds the context of a call in its arguments.
Asker: TypeAlias = "Callable[[tuple[Any, ...], dict[str, Any]], object]"


def gated(function: Callable[..., Any], flag: str, chooser: Chooser, asker: Asker, options: GateOptions) -> Any:
    """The driver around ``function``, the candidate."""
    import inspect  # a tenth of the library's import, and only those who decorate need it

    called = function if isinstance(function, (FunctionType, MethodType, partial)) else type(function).__call__
    if inspect.isasyncgenfunction(called):
        driver = _asynchronous_generator
    elif inspect.isgeneratorfunction(called):
        driver = _generator
    elif inspect.iscoroutinefunction(called):
        driver = _coroutine
    else:
        driver = _plain
    return wraps(function)(driver(function, flag, chooser, asker, options))


def _plain(function: Callable[..., Any], flag: str, chooser: Chooser, asker: Asker, options: GateOptions) -> Any:
    choose, otherwise, ignore = chooser.choose, options.otherwise, options.ignore
    simple, judged = not options.variants and options.control is None, options.failed is not None

    def call(*args: Any, **kwargs: Any) -> Any:
        decision, branch, key = chosen = choose(flag, asker(args, kwargs))
        run: Any = (function if decision._candidate else otherwise) if simple else options.choice(decision, function)
        begun = branch.begin(key)
        try:
            result = run(*args, **kwargs)
        except BaseException as error:
            raised(chosen, begun, error, ignore)
            if not _falls_back(options, run, error):
                raise
        else:
            if type(result) is CoroutineType:  # of a coroutine function in a plain wrapper: it has yet to run
                return _awaiting(result, chosen, begun, run, args, kwargs, options)
            branch.end(begun, options.failure(result) if judged else None)
            return result
        with _Noting(decision):
            return otherwise(*args, **kwargs)  # type: ignore[misc]

    return call


def _coroutine(function: Callable[..., Any], flag: str, chooser: Chooser, asker: Asker, options: GateOptions) -> Any:
    async def call(*args: Any, **kwargs: Any) -> Any:
        decision, branch, key = chosen = chooser.choose(flag, asker(args, kwargs))
        run = options.choice(decision, function)
        begun = branch.begin(key)
        return await _awaiting(_awaited(run, args, kwargs), chosen, begun, run, args, kwargs, options)

    return call


async def _awaiting(
    made: Coroutine[Any, Any, Any], chosen: Chosen, begun: Any, run: Any, args: Any, kwargs: Any, options: GateOptions
) -> Any:
    decision, branch, _ = chosen
    try:
        result = await made
    except BaseException as error:
        raised(chosen, begun, error, options.ignore)
        if not _falls_back(options, run, error):
            raise
    else:
        branch.end(begun, options.failure(result))
        return result
    with _Noting(decision):
        return await _awaited(options.otherwise, args, kwargs)


async def _awaited(run: Any, args: Any, kwargs: Any) -> Any:
    result = run(*args, **kwargs)
    return await result if hasattr(result, "__await__") else result  # a control may be a plain function


def _falls_back(options: GateOptions, run: Any, error: BaseException) -> bool:
    return options.fallback_on_error and run is not options.otherwise and isinstance(error, Exception)


class _Noting:
    """Around the control that follows a candidate which has failed: what it raises gets the note too."""

    __slots__ = ("_decision",)

    def __init__(self, decision: Decision) -> None:
        self._decision = decision

    def __enter__(self) -> None: ...

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if isinstance(error, Exception):
            note(self._decision, error)


class _Watch:
    """Adds up the time spent inside a generator, and says of its call when that is, if anybody judges it."""

    __slots__ = ("_began_s", "_stretches", "seconds")

    def __init__(self, call: object) -> None:
        self.seconds = 0.0
        self._began_s = 0.0
        self._stretches: Stretches = getattr(call, "stretches", None) or Stretches()

    def __enter__(self) -> None:
        self._stretches.turns += 1
        self._stretches.inside = True
        self._began_s = perf_counter()

    def __exit__(self, *_: object) -> None:
        self.seconds += perf_counter() - self._began_s
        self._stretches.inside = False


def _generator(function: Callable[..., Any], flag: str, chooser: Chooser, asker: Asker, options: GateOptions) -> Any:
    def call(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
        decision, branch, key = chosen = chooser.choose(flag, asker(args, kwargs))
        run = options.choice(decision, function)
        begun = branch.begin(key, patient=True)
        watch, started = _Watch(begun), False
        try:
            with watch:
                source = iter(run(*args, **kwargs))
                step: Callable[[], Any] = source.__next__
            while True:
                with watch:
                    item = step()
                started = True
                try:
                    sent = yield item
                except GeneratorExit:
                    with watch:
                        _closed(source)
                    raise
                except BaseException as thrown:  # noqa: BLE001 - it is handed on, to who reads it
                    step = _throwing(source, thrown)
                else:
                    step = source.__next__ if sent is None else _sending(source, sent)
        except StopIteration as done:
            branch.end(begun, options.failure(done.value), watch.seconds)
            return done.value
        except BaseException as error:
            raised(chosen, begun, error, options.ignore, watch.seconds)
            if started or not _falls_back(options, run, error):
                raise
        with _Noting(decision):
            return (yield from options.otherwise(*args, **kwargs))  # type: ignore[misc]

    return call


def _closed(source: Any) -> None:
    close = getattr(source, "close", None)
    if close is not None:
        close()


def _throwing(source: Any, thrown: BaseException) -> Callable[[], Any]:
    throw = getattr(source, "throw", None)
    if throw is None:
        raise thrown
    return lambda: throw(thrown)


def _sending(source: Any, sent: Any) -> Callable[[], Any]:
    return lambda: source.send(sent)


def _asynchronous_generator(
    function: Callable[..., Any], flag: str, chooser: Chooser, asker: Asker, options: GateOptions
) -> Any:
    async def call(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
        decision, branch, key = chosen = chooser.choose(flag, asker(args, kwargs))
        run = options.choice(decision, function)
        begun = branch.begin(key, patient=True)
        watch, started = _Watch(begun), False
        try:
            source = _iterated(run(*args, **kwargs))
            step: Callable[[], Any] = source.__anext__
            while True:
                with watch:
                    item = await step()
                started = True
                try:
                    sent = yield item
                except GeneratorExit:
                    with watch:
                        await _aclosed(source)
                    raise
                except BaseException as thrown:  # noqa: BLE001 - as above
                    step = _athrowing(source, thrown)
                else:
                    step = source.__anext__ if sent is None else _asending(source, sent)
        except StopAsyncIteration:
            branch.end(begun, None, watch.seconds)
            return
        except BaseException as error:
            raised(chosen, begun, error, options.ignore, watch.seconds)
            if started or not _falls_back(options, run, error):
                raise
        with _Noting(decision):
            async for item in _iterated(options.otherwise(*args, **kwargs)):  # type: ignore[misc]
                yield item

    return call


def _iterated(made: Any) -> Any:
    """What a gated asynchronous generator iterates over: a control may be a plain one, or give a list."""
    return made.__aiter__() if hasattr(made, "__aiter__") else _each(made)


async def _each(items: Iterable[Any]) -> AsyncGenerator[Any, None]:
    for item in items:
        yield item


async def _aclosed(source: Any) -> None:
    close = getattr(source, "aclose", None)
    if close is not None:
        await close()


def _athrowing(source: Any, thrown: BaseException) -> Callable[[], Any]:
    throw = getattr(source, "athrow", None)
    if throw is None:
        raise thrown
    return lambda: throw(thrown)


def _asending(source: Any, sent: Any) -> Callable[[], Any]:
    return lambda: source.asend(sent)
