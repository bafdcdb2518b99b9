"""``Shadow``: the decorator of a control whose candidate runs beside it, on real calls, with nobody getting its result.

A driver for plain functions, one for coroutine functions. The control is called as it was, and what it returns or
raises goes to the caller as it is. Whether a call is drawn, and by whom it is seen to, is asked of a ``Sampler``: the
client. Made by ``Client.shadow``.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, Protocol, TypeVar, cast

from flagkit.boundary import contained
from flagkit.errors import ConfigError
from flagkit.production.asking import asker_of
from flagkit.production.drivers import Asker
from flagkit.production.shadow_desk import ShadowDesk
from flagkit.production.shadow_policy import ShadowPolicy
from flagkit.production.shadow_result import type_of
from flagkit.production.shadow_run import Run, from_outside

P = ParamSpec("P")
R = TypeVar("R")


class Sampler(Protocol):
    """What a shadow needs of a client."""

    def sample(self, flag: str, context: object, policy: ShadowPolicy, failure: str | None = None) -> ShadowDesk | None:
        """Who sees to the run, if this call is to be shadowed. Records no exposure. Raises: nothing.

        ``failure``: why there is no context to ask by; it is counted, and nothing is shadowed.
        """
        ...


class Shadow:
    """One flag's shadow; see ``Client.shadow``."""

    __slots__ = ("_candidate", "_context", "_flag", "_policy", "_sampler", "_unit_from")

    def __init__(
        self,
        sampler: Sampler,
        flag: str,
        candidate: Callable[..., Any],
        policy: ShadowPolicy | None = None,
        context: object = None,
        unit_from: str | None = None,
    ) -> None:
        if not callable(candidate):
            raise ConfigError("candidate", candidate, "the function that is run beside the control")
        if policy is not None and not isinstance(policy, ShadowPolicy):
            raise ConfigError("policy", policy, "a flagkit.ShadowPolicy")
        self._sampler = sampler
        self._flag = flag
        self._candidate = candidate
        self._policy = ShadowPolicy() if policy is None else policy
        self._context = context
        self._unit_from = unit_from

    def __call__(self, function: Callable[P, R]) -> Callable[P, R]:
        """The control, with its signature, name and type. Raises: ConfigError."""
        if isinstance(function, (classmethod, staticmethod)):
            return cast("Callable[P, R]", type(function)(self(function.__func__)))
        if not callable(function):
            raise ConfigError("function", function, "the function that is the control")
        _refuse_generator("function", function)
        _refuse_generator("candidate", self._candidate)
        asynchronous = _is_coroutine(function)
        if _is_coroutine(self._candidate) and not asynchronous:
            raise ConfigError(
                "candidate",
                self._candidate,
                "a plain function, as the control is one; or make the control ``async def``",
            )
        driver = _coroutine if asynchronous else _plain
        asker = asker_of(function, self._context, self._unit_from, bare=True)
        return cast("Callable[P, R]", wraps(function)(driver(function, self._beginner(asker), self._candidate)))

    def _beginner(self, asker: Asker) -> Callable[[Any, Any], Run | None]:
        """What begins a call's run, if it is drawn."""
        sample, flag, policy, candidate = self._sampler.sample, self._flag, self._policy, self._candidate

        def begin(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Run | None:
            try:
                desk = sample(flag, asker(args, kwargs), policy)
            except BaseException as error:  # of the function that makes a context, or of a context that is read
                if from_outside(error):
                    raise
                sample(flag, None, policy, f"context: {type_of(error)}")
                return None
            return None if desk is None else desk.begin(policy, candidate, args, kwargs)

        return begin


def _plain(function: Callable[..., Any], begin: Callable[[Any, Any], Run | None], _: object) -> Any:
    def call(*args: Any, **kwargs: Any) -> Any:
        run = contained(begin, args, kwargs, otherwise=None)
        if run is None:
            return function(*args, **kwargs)
        ahead = run.is_ahead()
        if ahead:
            run.observe_apart()
        run.control_begins()
        try:
            result = function(*args, **kwargs)
        except Exception as error:
            complaint = contained(_raised, run, error, ahead, otherwise=None)
            if complaint is not None:
                raise complaint from error
            raise
        except BaseException:
            run.interrupt(ahead=ahead)
            raise
        complaint = contained(_returned, run, result, ahead, otherwise=None)
        if complaint is not None:
            raise complaint
        return result

    return call


def _returned(run: Run, result: Any, ahead: bool) -> BaseException | None:
    if hasattr(type(result), "__await__"):  # what it comes to is not known yet, and awaiting it is the caller's
        run.drop("not_awaited")
        if ahead:
            run.leave()
        return None
    run.control_returned(result)
    return _concluded(run, ahead=ahead)


def _raised(run: Run, error: Exception, ahead: bool) -> BaseException | None:
    run.control_raised(error)
    return _concluded(run, ahead=ahead)


def _concluded(run: Run, *, ahead: bool) -> BaseException | None:
    """Have the candidate run, unless it has, and both judged; what the policy wants raised of that."""
    if not run.policy.inline:
        run.hand_over()
        return None
    if not ahead and not run.enter():
        return None
    try:
        if not ahead:
            run.observe_apart()
        return run.complaint(run.finish())
    finally:
        run.leave()


def _coroutine(function: Callable[..., Any], begin: Callable[[Any, Any], Run | None], candidate: Any) -> Any:
    asynchronous = _is_coroutine(candidate)

    async def call(*args: Any, **kwargs: Any) -> Any:
        run = contained(begin, args, kwargs, otherwise=None)
        if run is None:
            return await function(*args, **kwargs)
        ahead = run.is_ahead()
        if ahead:
            await _observed(run, asynchronous=asynchronous, ahead=True)
        run.control_begins()
        try:
            result = await function(*args, **kwargs)
        except Exception as error:
            run.control_raised(error, shared=True)
            complaint = await _aconcluded(run, asynchronous=asynchronous, ahead=ahead)
            if complaint is not None:
                raise complaint from error
            raise
        except BaseException:
            run.interrupt(ahead=ahead)
            raise
        run.control_returned(result, shared=True)
        complaint = await _aconcluded(run, asynchronous=asynchronous, ahead=ahead)
        if complaint is not None:
            raise complaint
        return result

    return call


async def _observed(run: Run, *, asynchronous: bool, ahead: bool) -> None:
    """Run the candidate here. Raises: what cancels the caller, with the room given back if it was ``ahead``."""
    if not asynchronous:
        run.observe_apart()
        return
    try:
        await run.observed()
    except BaseException:
        if ahead:
            run.leave()
        raise


async def _aconcluded(run: Run, *, asynchronous: bool, ahead: bool) -> BaseException | None:
    if not run.policy.inline:
        run.hand_over(asynchronous=asynchronous)
        return None
    if not ahead and not run.enter():
        return None
    try:
        if not ahead:
            await _observed(run, asynchronous=asynchronous, ahead=False)
        return run.complaint(run.finish())
    finally:
        run.leave()


def _is_coroutine(function: Any) -> bool:
    import inspect  # a tenth of the library's import, and only those who decorate need it

    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(getattr(function, "__call__", None))  # noqa: B004


def _refuse_generator(field: str, function: Any) -> None:
    import inspect  # as above

    for each in (function, getattr(function, "__call__", None)):  # noqa: B004
        if inspect.isgeneratorfunction(each) or inspect.isasyncgenfunction(each):
            raise ConfigError(
                field, function, "a function or coroutine function; shadow one that makes a list of a generator"
            )
