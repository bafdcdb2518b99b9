"""What finds the context of a call to a decorated function: given, made by a callable, or one of its arguments.

Called by ``Gate`` and ``Shadow`` when they decorate; what it returns is asked at every call, and raises
nothing unless that is wanted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from flagkit.boundary import contained
from flagkit.context import Context
from flagkit.errors import ConfigError
from flagkit.production.drivers import Asker

#: The context of a call whose own could not be found.
_NOBODY: Final = Context(None)


def asker_of(function: Callable[..., Any], context: Any, unit_from: str | None, *, bare: bool = False) -> Asker:
    """See the module. ``bare``: what a callable ``context`` raises is seen to by whoever asks.

    Raises: ConfigError when the function has no such parameter.
    """
    if unit_from is not None:
        if context is not None:
            raise ConfigError("unit_from", unit_from, "either a context or unit_from, not both")
        return _argument(function, unit_from)
    if callable(context) and not isinstance(context, (Context, Mapping)):
        if bare:
            return lambda args, kwargs: context(*args, **kwargs)
        return lambda args, kwargs: contained(lambda: context(*args, **kwargs), otherwise=_NOBODY)
    return lambda *_: context


def _argument(function: Callable[..., Any], name: str) -> Asker:
    """What finds the argument ``name`` of a call. Raises: ConfigError."""
    from inspect import signature  # as in ``drivers``

    parameters = signature(function).parameters
    found = parameters.get(name)
    if found is None or found.kind in (found.VAR_POSITIONAL, found.VAR_KEYWORD):
        raise ConfigError("unit_from", name, f"the name of a parameter: {', '.join(parameters) or 'there is none'}")
    default = _NOBODY if found.default is found.empty else found.default
    if found.kind is found.KEYWORD_ONLY:
        return lambda _, kwargs: kwargs.get(name, default)
    place = list(parameters).index(name)

    def asked(args: tuple[Any, ...], kwargs: dict[str, Any]) -> object:
        try:
            return args[place]
        except IndexError:
            return kwargs.get(name, default)

    return asked
