"""A call's way through a gate: what a client chose for it, and what is said of it when it ends.

Shared by the context manager and the drivers of decorated functions. It decides which exceptions are failures, for both
arms alike, and puts the note on them; it knows no clock and no guard.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple, Protocol, TypeAlias

from flagkit.boundary import contained
from flagkit.core.policy import GuardPolicy
from flagkit.decision import Decision
from flagkit.errors import ConfigError
from flagkit.production.branch import Branch
from flagkit.production.failure import Failure

FAILED: Final = "failed"
Ignored: TypeAlias = "type[BaseException] | tuple[type[BaseException], ...]"
#: How a call is ended from outside, often because somebody lost patience with it: a hang ends like this.
_CUT_OFF: Final = frozenset({"CancelledError", "Cancelled", "GreenletExit", "Timeout"})
_SCHEDULERS: Final = ("asyncio", "gevent", "eventlet", "trio")


#: What a client chose for one call: the decision, where to report, and the unit's key (None: none). A plain tuple: one
#: is made a call.
Chosen: TypeAlias = tuple[Decision, Branch, bytes | None]


class Chooser(Protocol):
    """What a gate needs of a client."""

    def choose(self, flag: str, context: object) -> Chosen:
        """The answer for a call that now runs; its exposure is recorded. Raises: nothing."""
        ...


class GateOptions(NamedTuple):
    """How a gated function is called and judged; see ``Client.gate``."""

    otherwise: Callable[..., Any] | None = None
    variants: Mapping[str, Callable[..., Any]] = {}
    unit_from: str | None = None
    failed: Callable[[Any], bool] | None = None
    ignore: Ignored = ()
    fallback_on_error: bool = False
    guard: GuardPolicy | None = None

    def check(self) -> None:
        """For a decorated function. Raises: ConfigError that names what is wrong."""
        if not callable(self.otherwise):
            raise ConfigError("otherwise", self.otherwise, "the function that is called for the control")
        variants = self.variants
        if not isinstance(variants, Mapping) or not all(map(callable, variants.values())):
            raise ConfigError("variants", variants, "a mapping from variants to functions")
        if self.failed is not None and not callable(self.failed):
            raise ConfigError("failed", self.failed, "a function that is given a result")
        kinds = self.ignore if isinstance(self.ignore, tuple) else (self.ignore,)
        if not all(isinstance(kind, type) and issubclass(kind, BaseException) for kind in kinds):
            raise ConfigError("ignore", self.ignore, "an exception class, or a tuple of them")
        if self.guard is not None and not isinstance(self.guard, GuardPolicy):
            raise ConfigError("guard", self.guard, "a GuardPolicy")

    def choice(self, decision: Decision, candidate: Callable[..., Any]) -> Callable[..., Any]:
        """What is called for ``decision``."""
        if decision.variant in self.variants:
            return self.variants[decision.variant]  # type: ignore[index]
        return candidate if self.is_candidate(decision) else self.otherwise  # type: ignore[return-value]

    @property
    def control(self) -> str | None:
        """What the policy given in code compares with."""
        return self.guard.control if isinstance(self.guard, GuardPolicy) else None

    def is_candidate(self, decision: Decision) -> bool:
        """Whether ``decision`` is for the candidate: not for what is off, nor for what others are compared with."""
        return decision._candidate and (self.control is None or decision.variant != self.control)

    def failure(self, result: Any) -> str | None:
        """What the call failed of, going by its result; a ``failed`` that raises says nothing."""
        failed = self.failed
        return FAILED if failed is not None and contained(failed, result, otherwise=False) else None


def raised(chosen: Chosen, call: Any, error: BaseException, ignore: Ignored, seconds: float | None = None) -> None:
    """A call ended with an exception."""
    decision, branch, _ = chosen
    if isinstance(error, Exception):
        note(decision, error)
        branch.end(call, None if _ignored(error, ignore) else Failure.of(error), seconds)
    elif _ignored(error, ignore):
        branch.end(call, None, seconds)
    elif cut_off(type(error)):
        branch.end(call, Failure.of(error), math.inf)
    elif isinstance(error, GeneratorExit):
        branch.end(call, None, seconds)  # whoever reads has had enough
    else:
        branch.leave(call, _dies(error))


def _ignored(error: BaseException, ignore: Ignored) -> bool:
    try:
        return isinstance(error, ignore)
    except TypeError:
        return False  # what a decorator refuses, and a ``with`` block must not raise


def _dies(error: BaseException) -> bool:
    """Whether the process is ended as one that failed: so servers end a worker whose request takes too long."""
    if not isinstance(error, SystemExit):
        return False
    code = error.code
    return code is not None and (not isinstance(code, int) or code != 0)


def cut_off(kind: type[BaseException]) -> bool:
    """Whether somebody outside of a call ends it with such an exception."""
    return any(each.__name__ in _CUT_OFF and each.__module__.startswith(_SCHEDULERS) for each in kind.__mro__)


def note(decision: Decision, error: Exception) -> None:
    """Have an exception say which flag, variant and version it came through."""
    text = f"flagkit: {decision.flag} = {decision.variant}, version {decision.version}"
    if text not in getattr(error, "__notes__", ()):  # raised again, it has it already
        contained(error.add_note, text, otherwise=None)
