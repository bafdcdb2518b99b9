"""``Flags``: what flags answer while a test runs, and what was recorded of it.

Owns what a test set, the clients that it answers for, and giving them back. What an answer means is ``answers``'; how
a client is taken over is ``stage``'s. A test uses it as a context manager, or by the fixture of the pytest plugin.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any, Final, Literal, Self

from flagkit import default
from flagkit.arguments import UNSET
from flagkit.client import Client
from flagkit.clock import SystemClock
from flagkit.context import as_context, current_scope
from flagkit.errors import ConfigError
from flagkit.sinks import Memory
from flagkit.sources import Static
from flagkit.testing.answers import Answer, Known, Setting, checked, definitions_of, known_from
from flagkit.testing.clock import FakeClock
from flagkit.testing.records import Exposed, Tracked, exposures_in, tracked_in
from flagkit.testing.stage import Stage

_MOST_UNKNOWN: Final = 100
_MOST_SHOWN: Final = 20


class Flags:
    """Answers for flags while a ``with`` block runs, in every thread and task, and restores everything afterwards.

        with Flags({"new-checkout": True, "max-items": "many"}) as flags:
            ...
            flags.assert_exposed("new-checkout", variant="on", unit="user-1")

    It answers for the default client (``flagkit.enabled`` ...), the ones that are configured meanwhile included, and
    for each client given to ``use``. A flag that is set gives everybody the same answer, and records exposures as in
    production. One that is not set serves its off variant if it is defined, else there is no such flag and the caller's
    default applies.

    Args:
        answers: flag -> True (on), False (off), the name of a variant, or the flag's native definition.
        definitions: a native document (a mapping, or JSON) of the flags that exist, for their variants and values; its
            rules are not used. The definitions of a client that is answered for count as well.
        unknown: "error": ``check`` fails if a flag was asked for that is neither set nor defined, and so does setting
            one that ``definitions`` has not. "default": such flags get the caller's default.
        clock: what the clients go by; one that stands at the present time if not given.

    Raises: ConfigError naming the field. All methods may be called from any thread.
    """

    def __init__(
        self,
        answers: Mapping[str, Answer] | None = None,
        *,
        definitions: Mapping[str, Any] | str | bytes | None = None,
        unknown: Literal["default", "error"] = "default",
        clock: FakeClock | None = None,
    ) -> None:
        if unknown not in ("default", "error"):
            raise ConfigError("unknown", unknown, "'default' or 'error'")
        self.clock = FakeClock(SystemClock().wall_ms()) if clock is None else clock
        self._strict = unknown == "error"
        self._document = Known() if definitions is None else _known(definitions)
        self._known = self._document
        self._settings: dict[str, Setting] = {}
        self._sink = Memory()
        self._unknown: dict[str, str] = {}
        self._lock = threading.RLock()
        self._stages: list[Stage] = []
        self._clients: list[Client] = []
        self._undo = ExitStack()
        self.update(answers or {})

    def __enter__(self) -> Self:
        scope = current_scope()
        if scope is not None:  # one that was opened outside keeps its answers for outside
            pins = dict(scope.pins)
            self._undo.callback(scope.pins.update, pins)
            self._undo.callback(scope.pins.clear)
            scope.pins.clear()
        try:
            self._undo.enter_context(default.lent(self.use))
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._gather()
        self._undo.close()
        for stage in self._stages:
            stage.close(0)
        self._stages.clear()
        self._clients.clear()

    # -- what flags answer

    def set(self, flag: str, answer: Answer = True, *, value: Any = UNSET) -> None:
        """Have ``flag`` give everybody ``answer`` from now on.

        Args: answer, True (on), False (off), the name of a variant, or the flag's native definition. value, what the
            variant's value is; not given: what the flag's definition says, and for a flag without one True for ``on``,
            False for ``off`` and the name for others.
        Raises: ConfigError naming the flag, when it has no such variant or the definition is wrong; nothing changes.
        A scope that is open keeps the first answer it got; only off takes effect there at once: as in production.
        """
        self._apply({flag: Setting(answer, value)})

    def update(self, answers: Mapping[str, Answer]) -> None:
        """``set`` for several flags at once. Raises: ConfigError; nothing changes."""
        if not isinstance(answers, Mapping):
            raise ConfigError("answers", answers, "a mapping of flags to answers")
        self._apply({flag: Setting(answer) for flag, answer in answers.items()})

    def use(self, client: Client) -> Client:
        """Answer for ``client`` too, wherever it is asked; returns it. Its own definitions are known from now on.

        Nothing of the client itself happens meanwhile: it sends nothing and fetches nothing that an answer is from.
        Raises: ConfigError, when it is no client, or has no such variant as a flag is set to.
        """
        if not isinstance(client, Client):
            raise ConfigError("client", client, "a flagkit.Client")
        with self._lock:
            if any(client is each for each in self._clients):
                return client
            known = Known({**Stage.defined_by(client), **self._known.flags}, self._known.segments)
            definitions = definitions_of(self._settings, known)
            stage = Stage(client, self._sink, self.clock, self._missed)
            self._known = known
            self._stages.append(stage)
            for each in self._stages:
                each.play(definitions)
            self._clients.append(client)
            self._undo.callback(self._clients.remove, client)
            self._undo.callback(stage.stand_in())
        return client

    def _apply(self, settings: dict[str, Setting]) -> None:
        settings = {flag: checked(flag, setting) for flag, setting in settings.items()}
        with self._lock:
            if self._strict and self._document.flags:
                self._check_defined(settings)
            settings = {**self._settings, **settings}
            definitions = definitions_of(settings, self._known)
            self._settings = settings
            for stage in self._stages:
                stage.play(definitions)

    def _check_defined(self, settings: Mapping[str, Setting]) -> None:
        for flag, setting in settings.items():
            if flag not in self._known.flags and not isinstance(setting.answer, Mapping):
                raise ConfigError("flag", flag, "a flag that is defined; unknown flags are errors here")

    # -- what was recorded

    @property
    def exposures(self) -> list[Exposed]:
        """Who met what, of each client oldest first: a unit once an outcome. A new list at each reading."""
        self._gather()
        return exposures_in(self._sink)

    @property
    def tracked(self) -> list[Tracked]:
        """The metric events, of each client oldest first; a new list at each reading."""
        self._gather()
        return tracked_in(self._sink)

    @property
    def events(self) -> list[dict[str, Any]]:
        """Everything that was recorded, as it would have travelled (docs/events.md); a new list at each reading."""
        self._gather()
        return self._sink.events

    @property
    def unknown(self) -> dict[str, str]:
        """Flags that were asked for and are neither set nor defined -> ``file:line`` of the first question."""
        return dict(self._unknown)

    def assert_exposed(self, flag: str, *, variant: str | None = None, unit: object = None) -> None:
        """That a unit met ``flag``: this variant, this unit, if given. Raises: AssertionError saying who met what."""
        if not self._met(flag, variant, unit):
            raise AssertionError(f"no exposure of {_wanted(flag, variant, unit)}; {self._seen()}")

    def assert_not_exposed(self, flag: str, *, variant: str | None = None, unit: object = None) -> None:
        """That no unit met ``flag``: not this variant, or not this unit, if given. Raises: AssertionError."""
        if self._met(flag, variant, unit):
            raise AssertionError(f"there is an exposure of {_wanted(flag, variant, unit)}; {self._seen()}")

    def check(self) -> None:
        """Raises: AssertionError, when unknown flags are errors and one was asked for. The plugin calls it."""
        if self._strict and self._unknown:
            lines = (f"\n  {flag!r}, at {where}" for flag, where in self._unknown.items())
            raise AssertionError("flags that are neither set nor defined were asked for:" + "".join(lines))

    def _gather(self) -> None:
        for stage in self._stages:
            stage.flush()

    def _met(self, flag: str, variant: str | None, unit: object) -> list[Exposed]:
        text = None if unit is None else as_context(unit).unit_text
        if unit is not None and text is None:
            raise ConfigError("unit", unit, "a unit: a string, an int or a UUID")
        return [
            met
            for met in self.exposures
            if met.flag == flag and variant in (None, met.variant) and text in (None, met.unit)
        ]

    def _seen(self) -> str:
        exposures = self.exposures
        if not exposures:
            return "nothing was exposed"
        lines = [f"\n  {met.flag} = {met.variant} for unit {met.unit!r} ({met.reason})" for met in exposures]
        more = len(lines) - _MOST_SHOWN
        return "exposed were:" + "".join(lines[:_MOST_SHOWN]) + (f"\n  and {more} more" if more > 0 else "")

    def _missed(self, flag: str, where: str) -> None:
        if len(self._unknown) < _MOST_UNKNOWN:
            self._unknown.setdefault(flag, where)


def _known(definitions: Mapping[str, Any] | str | bytes) -> Known:
    return known_from(Static(definitions).fetch(None, deadline_s=1, max_bytes=1 << 40).data)  # type: ignore[union-attr]


def _wanted(flag: str, variant: str | None, unit: object) -> str:
    return (
        f"{flag!r}"
        + (f" = {variant!r}" if variant is not None else "")
        + (f" for {unit!r}" if unit is not None else "")
    )
