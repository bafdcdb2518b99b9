"""``Gate``: around risky code, as a decorator and as a context manager: candidate or control, measured and on record.

It chooses through the client, exposes when the branch runs, times it, and reports how it ended to the decision's
branch; what is made of that is the guards' matter. Nothing of it raises, waits or changes what the code gives back,
except that an exception passing through gets a note.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, ParamSpec, Self, TypeVar, cast

from flagkit.decision import Decision
from flagkit.errors import ConfigError
from flagkit.production.asking import asker_of
from flagkit.production.drivers import gated
from flagkit.production.passage import FAILED, Chooser, Chosen, GateOptions, raised

P = ParamSpec("P")
R = TypeVar("R")

_MAX_REASON: Final = 64
_NO_OPTIONS: Final = GateOptions()


class Gate:
    """One flag's gate; made by ``Client.gate``.

    As a decorator it serves any number of calls. As a context manager it is for one ``with`` block: ``on``, ``variant``
    and ``value`` are what the block goes by, and with the first look at one of them comes the exposure, and what is
    measured begins. Blocks that share one at the same time get their own answers, and are not measured.
    """

    __slots__ = ("_call", "_chooser", "_chosen", "_context", "_failure", "_flag", "_inside", "_options", "_shared")

    def __init__(self, chooser: Chooser, flag: str, context: object, options: GateOptions = _NO_OPTIONS) -> None:
        self._chooser = chooser
        self._flag = flag
        self._context = context
        self._options = options
        self._chosen: Chosen | None = None
        self._call: Any = None
        self._failure: str | None = None
        #: Blocks that are in it, and whether there were several at once.
        self._inside = 0
        self._shared = False

    def __call__(self, function: Callable[P, R]) -> Callable[P, R]:
        """The function, called when the candidate is chosen, and the control otherwise. Raises: ConfigError."""
        options = self._options
        if isinstance(function, (classmethod, staticmethod)):
            return cast("Callable[P, R]", type(function)(self(function.__func__)))
        if not callable(function):
            raise ConfigError("function", function, "a function")
        options.check()
        asker = asker_of(function, self._context, options.unit_from)
        return cast("Callable[P, R]", gated(function, self._flag, self._chooser, asker, options))

    # -- as a context manager

    def __enter__(self) -> Self:
        if self._inside:
            self._share()
        self._chosen = self._failure = None
        self._inside += 1
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self._inside -= 1
        chosen = self._chosen
        if chosen is None:
            if not self._inside:
                self._shared = False
            return
        if error is None or self._failure is not None:
            chosen[1].end(self._call, self._failure)
        else:
            raised(chosen, self._call, error, self._options.ignore)

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self.__exit__(kind, error, trace)

    @property
    def decision(self) -> Decision:
        """The whole answer. Raises: nothing."""
        return (self._chosen or self._choose())[0]

    def _choose(self) -> Chosen:
        """The first look: from here on the call is measured."""
        chosen = self._chooser.choose(self._flag, self._context)
        if not self._shared:
            self._chosen = chosen
            if self._inside:
                self._call = chosen[1].begin(chosen[2])
        return chosen

    def _share(self) -> None:
        """Another block has entered it: how one went is not told from how the other did."""
        self._shared = True
        if self._chosen is not None:
            self._chosen[1].leave(self._call)

    @property
    def on(self) -> bool:
        """Whether the candidate was chosen: neither the off variant nor the control of a guard. Raises: nothing."""
        decision, options = (self._chosen or self._choose())[0], self._options
        return decision._candidate if options is _NO_OPTIONS else options.is_candidate(decision)

    @property
    def variant(self) -> str | None:
        """The name of the variant chosen; None when there is no answer. Raises: nothing."""
        return self.decision.variant

    @property
    def value(self) -> Any:
        """The value of the variant chosen; None when there is no answer. Raises: nothing."""
        return self.decision.value

    def fail(self, reason: str = FAILED) -> None:
        """Count this call as a failure of its variant, although nothing is raised.

        Args: reason, a word for counting, of at most 64 characters; no data of users. Raises: nothing.
        """
        named = isinstance(reason, str) and 0 < len(reason) <= _MAX_REASON and reason.isprintable()
        self._failure = reason if named else FAILED
