"""``ShadowPolicy``: how a shadow run is done, compared and reported. A frozen, checked value.

It holds the application's functions and calls none of them. Made by whoever decorates; read by every part of a run.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Final

from flagkit.errors import ConfigError
from flagkit.frozen import Frozen

POOL: Final = "pool"
INLINE: Final = "inline"
AFTER: Final = "after"
#: A thread that computes keeps another from the interpreter for 5 ms at a time. Calls that meet one are to be well
#: under one in a hundred, also where many are in flight and each waits several times.
CPU_SHARE: Final = 0.003
_MODES: Final = (POOL, INLINE, AFTER)


def _whole(most: int) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= most


def _seconds(value: Any) -> bool:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return number and math.isfinite(value) and 0.001 <= value <= 3600


def _share(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0.0001 <= value <= 1


def _function(value: Any) -> bool:
    return value is None or callable(value)


def _functions(value: Any) -> bool:
    return callable(value) or (isinstance(value, (list, tuple)) and all(map(callable, value)))


_A_FUNCTION: Final = "a function, or None"
#: Field -> whether a value will do, and what would be right.
_FIELDS: Final[Mapping[str, tuple[Callable[[Any], bool], str]]] = {
    "mode": (lambda value: value in _MODES, '"pool", "inline" or "after"'),
    "after": (_function, "a function that is handed the run, or None"),
    "budget_s": (_seconds, "seconds from 0.001 to 3,600"),
    "max_running": (_whole(64), "a whole number from 1 to 64"),
    "max_waiting": (_whole(10_000), "a whole number from 1 to 10,000"),
    "cpu_share": (_share, "a number from 0.0001 to 1"),
    "random_order": (lambda value: isinstance(value, bool), "True or False"),
    "copy": (_function, "a function that takes (args, kwargs) as one pair and returns such a pair, or None"),
    "copy_result": (_function, _A_FUNCTION),
    "when": (_function, _A_FUNCTION),
    "about": (_function, _A_FUNCTION),
    "compare": (_function, _A_FUNCTION),
    "compare_errors": (_function, _A_FUNCTION),
    "ignore": (_functions, "a function, or a list of functions"),
    "clean": (_function, _A_FUNCTION),
    "publish": (_function, _A_FUNCTION),
    "raise_on_mismatch": (
        lambda value: isinstance(value, bool) or callable(value),
        "True, False, or a function that makes the exception of the result",
    ),
}


class ShadowPolicy(Frozen):
    """How the candidate of a shadow run is called, judged and reported.

    mode: ``pool``, on threads of the client's own, once the control is done; ``inline``, on the caller's thread;
        ``after``, once whoever ``after`` gave it to calls it.
    random_order: inline, which of the two comes first is left to chance; False: the control.
    after: for that mode: called with the run, a function without arguments (a coroutine function, if both control and
        candidate are such): ``response.call_on_close``, say.
    budget_s: a run that takes longer counts as ``timeout``, seconds from 0.001 to 3,600; comparing is part of it.
    max_running: runs of the flag at once, 1 to 64, those past their budget included until they end.
    max_waiting: calls that wait for one, 1 to 10,000; further ones are dropped.
    cpu_share: what the flag's runs in the pool may take of one processor, on average, 0.0001 to 1; at 1 there is no
        bound. Calls that would take more are dropped as ``over_share``. By default 0.003, so that neither p50 nor p99
        of the callers shows a candidate that computes. A flag's first policy sets these three.
    copy: makes the candidate's arguments, of the pair ``(args, kwargs)``: ``copy.deepcopy``, say. None: it gets the
        caller's own. copy_result: the same for the control's result, which is compared later. Both run at the call.
    when: called with the arguments of a call that was drawn: False leaves it out.
    about: called with the candidate's arguments; what it returns is ``about`` of the result, for ``publish``.
    compare: whether two results agree; None: ``==``. compare_errors: the same for two exceptions; None: their types.
    ignore: called with two results that do not agree; if one of them is true the mismatch counts as ``ignored``.
    clean: makes of a result what may be reported; None: paths and digests are reported instead of values.
    publish: called with every ``ShadowResult``, in the background (inline: at the call).
    raise_on_mismatch: for tests: run inline, and raise ``ShadowMismatch``, or what this function makes of the result,
        once it is published.

    Equal to one with the same functions; pickled when they can be.
    Raises: ConfigError naming the field. What any of the functions raises is counted, by name, and changes no call.
    """

    __slots__ = tuple(_FIELDS)

    mode: str
    after: Callable[[Callable[[], Any]], object] | None
    budget_s: float
    max_running: int
    max_waiting: int
    cpu_share: float
    random_order: bool
    copy: Callable[[Any], Any] | None
    copy_result: Callable[[Any], Any] | None
    when: Callable[..., bool] | None
    about: Callable[..., Any] | None
    compare: Callable[[Any, Any], bool] | None
    compare_errors: Callable[[Any, Any], bool] | None
    ignore: tuple[Callable[[Any, Any], bool], ...]
    clean: Callable[[Any], Any] | None
    publish: Callable[[Any], object] | None
    raise_on_mismatch: bool | Callable[[Any], BaseException]

    def __init__(
        self,
        *,
        mode: str = POOL,
        after: Callable[[Callable[[], Any]], object] | None = None,
        budget_s: float = 5.0,
        max_running: int = 2,
        max_waiting: int = 64,
        cpu_share: float = CPU_SHARE,
        random_order: bool = True,
        copy: Callable[[Any], Any] | None = None,
        copy_result: Callable[[Any], Any] | None = None,
        when: Callable[..., bool] | None = None,
        about: Callable[..., Any] | None = None,
        compare: Callable[[Any, Any], bool] | None = None,
        compare_errors: Callable[[Any, Any], bool] | None = None,
        ignore: Any = (),
        clean: Callable[[Any], Any] | None = None,
        publish: Callable[[Any], object] | None = None,
        raise_on_mismatch: bool | Callable[[Any], BaseException] = False,
    ) -> None:
        given = locals()
        for field, (fits, expected) in _FIELDS.items():
            value = given[field]
            if not fits(value):
                raise ConfigError(field, value, expected)
            if field == "ignore":
                value = (value,) if callable(value) else tuple(value)
            object.__setattr__(self, field, value)
        if (mode == AFTER) != (after is not None):
            raise ConfigError("after", after, 'a function that is handed the run, with mode="after" and only there')

    @property
    def inline(self) -> bool:
        """Whether the candidate runs on the caller's thread."""
        return self.mode == INLINE or self.raise_on_mismatch is not False

    def __repr__(self) -> str:
        return f"ShadowPolicy(mode={self.mode!r}, budget_s={self.budget_s!r}, max_running={self.max_running!r})"
