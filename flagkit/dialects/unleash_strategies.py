"""Strategies of an application's own, by name, and random numbers that come from nowhere.

The register is the only state of the dialects: a dictionary that is replaced, never changed, so that any thread may
read it. Applications call ``register_strategy`` before their client answers its first question; the compiler looks up.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import count
from types import MappingProxyType
from typing import Any, Final, TypeAlias

from flagkit.boundary import contained
from flagkit.context import Context
from flagkit.core.bucketing import digest
from flagkit.errors import ConfigError

#: Whether the strategy lets a context in.
Admits: TypeAlias = Callable[[Context], bool]
#: A strategy's parameters, name -> text as in Unleash, to whom it lets in.
Make: TypeAlias = Callable[[Mapping[str, str]], Admits]

BUILT_IN: Final = frozenset(
    {"applicationHostname", "default", "flexibleRollout", "gradualRolloutRandom", "gradualRolloutSessionId"}
    | {"gradualRolloutUserId", "remoteAddress", "userWithId"}
)
_made: Mapping[str, Make] = {}


def register_strategy(name: str, make: Make) -> None:
    """Have flags with the custom strategy ``name`` decided by ``make``, in every client of this process.

        unleash.register_strategy("weekday", lambda parameters: lambda context: today() in parameters["days"])

    Register before the first question is asked: a flag is compiled then, and again only when it changes. Registering
    a name again replaces it. Any thread.

    Args:
        name: of the strategy, as Unleash has it; none that is built in.
        make: given the parameters of one strategy of one flag, name -> text, returns the function that is called with
            the ``Context`` of every question that comes to it, on the thread that asks, and answers True or False. Both
            are called where nobody may wait: they do no I/O and take no lock. What either raises counts as False, and
            so does any other answer.

    Raises: ConfigError.
    """
    global _made
    if not isinstance(name, str) or not name or name in BUILT_IN:
        raise ConfigError("name", name, "the name of a strategy that is not built in")
    if not callable(make):
        raise ConfigError("make", make, "a callable that takes parameters and returns a callable")
    _made = {**_made, name: make}


def is_registered(name: str) -> bool:
    return name in _made


def custom(name: str, parameters: Mapping[str, Any]) -> Admits | None:
    """The strategy ``name`` with these parameters; None when there is none, or it cannot be made."""
    make = _made.get(name)
    texts = MappingProxyType({key: value for key, value in parameters.items() if isinstance(value, str)})
    admits = contained(make, texts, otherwise=None) if make is not None else None
    if not callable(admits):
        return None
    return lambda context: contained(admits, context, otherwise=False) is True


def draws(seed: int) -> Callable[[], int]:
    """A function that returns a number from 0 to 2**32 - 1 that nothing in the question determines. Any thread.

    What is pure has no chance in it, so these are the hashes of 0, 1, 2 ... under ``seed``: evenly spread and without a
    pattern that anybody would meet, but the same in processes that were forked after the flag's first question. Good
    for sharing out traffic; nothing that has to be secret may hang on it.
    """
    tick = count().__next__
    return lambda: digest(tick().to_bytes(8, "little"), seed)
