"""Who is asking: ``Context``, and the ambient scope that carries one through a request or task.

A context is a unit (the thing rollouts are drawn over: a user, an organisation, a device) and attributes.
Making one never raises, whatever goes in: what cannot be a unit makes the context invalid, and evaluation answers
INVALID_CONTEXT. The evaluation path calls ``as_context`` and reads ``_key``; nothing here knows of flags.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from functools import wraps
from typing import Any, Final, Literal, ParamSpec, TypeVar, cast

from flagkit.ambient import Ambient
from flagkit.boundary import contained
from flagkit.errors import ConfigError

P = ParamSpec("P")
R = TypeVar("R")

MAX_UNIT_BYTES: Final = 1024
_MAX_INT: Final = 1 << 63
_NOTHING: Final[Mapping[str, Any]] = {}
#: Entries of a mapping that are not attributes, beside ``unit``, which no condition can mistake for one.
SETTINGS: Final = frozenset({"enrolments", "synthetic"})


class _Absent:
    __slots__ = ()

    def __repr__(self) -> str:
        return "<no unit>"

    def __reduce__(self) -> str:
        return "_ABSENT"  # in every process, and as a copy, it is the one there is


_ABSENT: Final = _Absent()


class Context:
    """A unit and what is known of it.

    Args:
        unit: a non-empty string of at most 1,024 bytes of UTF-8, an int (not bool, ``|n| < 2**63``, used in decimal),
            or a UUID (canonical text). Left out: a context without a unit; conditions work, rollouts never match.
            Anything else (None, bytes, float, a lone surrogate ...) makes the context invalid.
        attributes: facts for conditions, by name; JSON-like values. Not copied: treat it as given away.
        enrolments: flag key -> bool; True opts this unit in to early access, False opts it out.
        synthetic: True for probes and test accounts: decided like anyone, never recorded.

    Equal to one with the same unit, as it is hashed, the same attributes, enrolments and ``synthetic``.
    Raises: nothing.
    """

    __slots__ = ("_key", "attributes", "enrolments", "synthetic", "unit")

    def __init__(
        self,
        unit: object = _ABSENT,
        attributes: Mapping[str, Any] | None = None,
        enrolments: Mapping[str, bool] | None = None,
        synthetic: bool = False,  # not keyword-only: that would double the price of a call, and one is made a request
    ) -> None:
        self.unit = unit
        self.attributes = _NOTHING if attributes is None else attributes
        self.enrolments = enrolments
        self.synthetic = synthetic
        #: What is hashed: UTF-8 of the unit's text; None: no unit; False: not a unit, the context is invalid.
        self._key: bytes | Literal[False] | None
        if type(unit) is str:  # unit_key's first case, without the call
            try:
                key = unit.encode()
            except UnicodeEncodeError:  # a lone surrogate
                key = b""
            self._key = key if key and len(key) <= MAX_UNIT_BYTES else False
        else:
            self._key = None if unit is _ABSENT else unit_key(unit)

    def __eq__(self, other: object) -> bool:
        if not issubclass(type(other), Context):  # as in ``unit_key``
            return NotImplemented
        return self is other or contained(_same, self, cast("Context", other), otherwise=False)

    def __hash__(self) -> int:
        return hash(self._key)

    def __repr__(self) -> str:
        # Attributes stay out: they are the application's, often personal, and reprs end up in logs.
        unit = repr(self.unit_text) if self._key else "<no unit>" if self._key is None else "<invalid>"
        return f"Context(unit={unit}, {contained(len, self.attributes, otherwise=0)} attributes)"

    @property
    def unit_text(self) -> str | None:
        """The unit as text, as it is hashed and recorded; None when there is none or it is invalid."""
        return self._key.decode() if isinstance(self._key, bytes) else None


def _same(one: Context, other: Context) -> bool:
    mine = (one._key, one.synthetic, one.enrolments, one.attributes)
    return mine == (other._key, other.synthetic, other.enrolments, other.attributes)


def unit_key(unit: object) -> bytes | Literal[False]:
    """The bytes that stand for a unit in hashes and events: UTF-8 of its text. False when it cannot be a unit.

    Raises: nothing.
    """
    if type(unit) is str:
        if len(unit) > MAX_UNIT_BYTES:
            return False
        try:
            key = unit.encode()
        except UnicodeEncodeError:  # a lone surrogate
            return False
        return key if 0 < len(key) <= MAX_UNIT_BYTES else False
    kind = type(unit)  # not isinstance: a proxy's or mock's __class__ may say anything
    if issubclass(kind, bool):
        return False
    if issubclass(kind, int):
        number = int.__index__(unit)  # type: ignore[arg-type]
        return b"%d" % number if -_MAX_INT < number < _MAX_INT else False
    if issubclass(kind, str):  # a subclass, such as StrEnum: its characters, not what its __str__ makes of them
        return unit_key(str.__str__(unit))
    # No UUID object can exist before its module is imported, and importing it here would cost every start.
    uuid = sys.modules.get("uuid")
    if uuid is not None and issubclass(kind, uuid.UUID):
        return str(uuid.UUID.__str__(unit)).encode()
    return False


ANONYMOUS: Final = Context()


def as_context(given: object) -> Context:
    """A ``Context`` from what a caller passes: one as it is, a mapping with ``unit``, or a plain unit.

    A mapping's other entries are the attributes (``enrolments`` and ``synthetic`` keep their meaning). Not copied, like
    a Context's. Raises: nothing; whatever cannot be read is an invalid context.
    """
    kind = type(given)
    if kind is str:  # most are, and asking an abstract class takes as long as all the rest
        return Context(given)
    if issubclass(kind, Context):
        return given  # type: ignore[return-value]
    if issubclass(kind, Mapping):
        return contained(_from_mapping, given, otherwise=Context(None))
    return Context(given)


def _from_mapping(given: Mapping[str, Any]) -> Context:
    if type(given) is dict and SETTINGS.isdisjoint(given):
        return Context(given.get("unit", _ABSENT), given)
    attributes = dict(given)
    unit = attributes.pop("unit", _ABSENT)
    enrolments = attributes.pop("enrolments", None)
    synthetic = attributes.pop("synthetic", False) is True
    return Context(unit, attributes, enrolments if issubclass(type(enrolments), Mapping) else None, synthetic)


class Scope:
    """The ambient state of one request or task: a context, answers pinned for it, and forced answers.

    ``context`` is None when only overrides are ambient. ``granted`` maps a client to all that is forced for it, where a
    signed override, which is good for that client alone, is part of it; ``token`` is that override, for messages to
    carry. ``pins`` maps (client, flag) to the answer given and belongs to whoever opened the scope (a dict store is
    atomic; tasks that inherit the scope share its pins). ``shadow``: this is the candidate of a shadow run, of which
    nothing is recorded.
    """

    __slots__ = ("context", "forced", "granted", "pins", "shadow", "token")

    def __init__(
        self,
        context: Context | None,
        forced: Mapping[str, str | bool] | None,
        pins: dict[tuple[object, str], Any] | None = None,
        granted: Mapping[object, Mapping[str, str | bool]] | None = None,
        token: str | None = None,
        shadow: bool = False,
    ) -> None:
        self.context = context
        self.forced = forced
        self.pins: dict[tuple[object, str], Any] = {} if pins is None else pins
        self.granted = granted
        self.token = token
        self.shadow = shadow

    def forced_for(self, client: object) -> Mapping[str, str | bool] | None:
        """Flag -> what is forced when ``client`` is asked."""
        granted = self.granted
        return self.forced if granted is None else granted.get(client, self.forced)

    def enrol(self, flag: str, enrolled: bool) -> None:
        """From here on the context says so itself, and the flag's pinned answer is forgotten.

        The context is replaced, not changed: whoever made it may keep it for longer than that is true.
        """
        context = self.context
        if context is not None:
            enrolments = {**(context.enrolments or {}), flag: enrolled}
            self.context = Context(context.unit, context.attributes, enrolments, context.synthetic)
        for pin in [pin for pin in self.pins.copy() if pin[1] == flag]:
            self.pins.pop(pin, None)


_SCOPE: Final[ContextVar[Scope | None]] = ContextVar("flagkit_scope", default=None)

#: The current scope or None. A bound method of the variable: the evaluation path calls it once per decision.
current_scope = _SCOPE.get


@contextmanager
def entered(scope: Scope | None) -> Iterator[None]:
    """Make ``scope`` the current one for a block; None: no scope. May be entered by many threads at once."""
    token = _SCOPE.set(scope)
    try:
        yield
    finally:
        with suppress(ValueError):  # left in another context than it was entered in, which never was in this scope
            _SCOPE.reset(token)


def scope(unit: object = _ABSENT, /, **attributes: Any) -> Ambient[Context]:
    """Make a context ambient for a block: calls without a context use it, and each flag's first answer is kept.

    Args: unit as in ``Context``, or a whole ``Context``; attributes by keyword, added to those of a whole one.
    With ``with``, ``async with``, or as a decorator of a function or coroutine function.
    Yields: the context. Raises: nothing of its own. Safe under threads, asyncio and gevent (contextvars).
    """
    return Ambient(lambda: _scope(unit, attributes))


@contextmanager
def _scope(unit: object, attributes: Mapping[str, Any]) -> Iterator[Context]:
    outer = _SCOPE.get()
    if not isinstance(unit, Context):
        context = Context(unit, attributes)
    elif attributes:
        context = Context(unit.unit, {**unit.attributes, **attributes}, unit.enrolments, unit.synthetic)
    else:
        context = unit
    if outer is None:
        inner = Scope(context, None)
    else:
        inner = Scope(context, outer.forced, None, outer.granted, outer.token, outer.shadow)
    with entered(inner):
        yield context


def overriding(answers: Mapping[str, str | bool]) -> Ambient[None]:
    """Force answers inside a block, on top of those already forced. Behind ``client.override``. Raises: ConfigError."""
    if not isinstance(answers, Mapping) or not all(isinstance(answer, (str, bool)) for answer in answers.values()):
        raise ConfigError("answers", answers, "a mapping from flags to the name of a variant, True or False")
    forced = dict(answers)
    return Ambient(lambda: _overriding(forced))


@contextmanager
def _overriding(forced: Mapping[str, str | bool]) -> Iterator[None]:
    outer = _SCOPE.get()
    if outer is None:
        inner = Scope(None, dict(forced))
    else:
        granted = outer.granted and {client: {**known, **forced} for client, known in outer.granted.items()}
        both = {**(outer.forced or {}), **forced}
        inner = Scope(outer.context, both, outer.pins, granted, outer.token, outer.shadow)
    with entered(inner):
        yield


def granting(context: Context, client: object, forced: Mapping[str, str], token: str | None) -> Scope:
    """The scope of a request of its own: of ``context``, with answers that ``token`` forces for ``client`` alone.

    What code has forced around it holds in it; what another request's token forces for the same client does not.
    """
    outer = _SCOPE.get() or Scope(None, None)
    granted = {other: known for other, known in (outer.granted or {}).items() if other is not client}
    if forced:
        granted[client] = {**(outer.forced or {}), **forced}
    return Scope(context, outer.forced, None, granted or None, token if forced else None, outer.shadow)


def in_shadow() -> bool:
    """Whether this code runs as the candidate of a shadow run, whose result nobody gets.

    For what such a run must not do, such as writing, charging or mailing: a candidate shares that with its control.
    True in everything it calls and in its asyncio tasks; a thread it starts by itself does not know, unless ``carry``
    took the scope along. Raises: nothing.
    """
    scope = _SCOPE.get()
    return scope is not None and scope.shadow


def enter_shadow() -> None:
    """Make the current ``contextvars.Context`` that of a shadow run, for good: it is a copy made for it.

    Pins are copied, so that the run goes by the caller's answers and never sets one.
    """
    outer = _SCOPE.get() or Scope(None, None)
    _SCOPE.set(Scope(outer.context, outer.forced, outer.pins.copy(), outer.granted, outer.token, shadow=True))


def carry(function: Callable[P, R]) -> Callable[P, R]:
    """``function``, called in the scope of now wherever and whenever it is called: in an executor, a thread, a task.

        pool.map(flagkit.carry(render), pages)

    Context, overrides and pinned answers go along; nothing is left behind in the thread. Coroutine functions too.
    Threads of ``asyncio.to_thread`` and tasks of asyncio have the scope anyway. Raises: ConfigError, when it is no
    function; called, what the function raises.
    """
    import inspect  # as in production.drivers: not at import

    if not callable(function):
        raise ConfigError("function", function, "a function")
    scope = _SCOPE.get()

    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        with entered(scope):
            return function(*args, **kwargs)

    async def call_and_await(*args: P.args, **kwargs: P.kwargs) -> Any:
        with entered(scope):
            return await cast("Any", function(*args, **kwargs))

    carried = call_and_await if inspect.iscoroutinefunction(function) else call
    return cast("Callable[P, R]", wraps(function)(carried))
