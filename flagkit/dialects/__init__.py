"""Dialects turn a backend's bytes into ``core.model``. Pure; one module a backend, registered here by name."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Final, NamedTuple, TypeAlias

from flagkit.core.model import Definitions
from flagkit.errors import ConfigError, Problem


class Parsed(NamedTuple):
    """``problems`` in the order they were met; those with ``refused`` cost their flag this update."""

    definitions: Definitions
    problems: tuple[Problem, ...]


class Followed(NamedTuple):
    """What news of a source mean for the definitions in use.

    parsed: the definitions from now on; None: they stay.
    confirmed: those are what the source has now. validator: what it calls the document they are, if it said.
    fetch: something cannot be known without the document. spread_s: within how many seconds a fleet should ask for it,
        if the source said.
    """

    parsed: Parsed | None = None
    confirmed: bool = False
    validator: str | None = None
    fetch: bool = False
    spread_s: float | None = None


#: Bytes and the definitions in use -> definitions. Raises DefinitionsError when the document is refused whole.
Parse: TypeAlias = "Callable[[bytes, Definitions | None], Parsed]"
#: News and the definitions in use -> what follows. Raises DefinitionsError when the news are refused.
Follow: TypeAlias = "Callable[[bytes, Definitions], Followed]"

_MODULES: Final = {
    "flagd": "flagkit.dialects.flagd",
    "flagd-v3": "flagkit.dialects.flagd_v3",
    "growthbook": "flagkit.dialects.growthbook",
    "native": "flagkit.dialects.native",
    "posthog": "flagkit.dialects.posthog",
}
#: Dialects in which a source can tell of a change without sending the whole document.
_CHANGES: Final = {"native": "flagkit.dialects.native_changes"}


def parser(dialect: str) -> Parse:
    """The parser of a dialect. Raises: ConfigError when there is none of that name."""
    if dialect not in _MODULES:
        raise ConfigError("dialect", dialect, "one of " + ", ".join(sorted(_MODULES)))
    parse: Parse = import_module(_MODULES[dialect]).parse
    return parse


def follower(dialect: str) -> Follow | None:
    """What applies changes in a dialect; None when it has no form for them, and every change means a fetch."""
    if dialect not in _CHANGES:
        return None
    follow: Follow = import_module(_CHANGES[dialect]).follow
    return follow
