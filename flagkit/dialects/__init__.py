"""Dialects turn a backend's bytes into ``core.model``. Pure; one module a backend, registered here by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias

from flagkit.core.model import Definitions
from flagkit.errors import ConfigError, Problem

if TYPE_CHECKING:
    from flagkit.core.elsewhere import Elsewhere


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
    "unleash": "flagkit.dialects.unleash",
}
#: Dialects in which a source can tell of a change without sending the whole document.
_CHANGES: Final = {"native": "flagkit.dialects.native_changes", "unleash": "flagkit.dialects.unleash"}
#: Dialects whose flags may ask for facts of the application.
_ASKING: Final = frozenset({"unleash"})
#: Dialects that know what to ask of others when a flag is undecided.
_RELAYING: Final = frozenset({"posthog"})


def parser(dialect: str, facts: Mapping[str, str] | None = None, elsewhere: Elsewhere | None = None) -> Parse:
    """The parser of a dialect. Raises: ConfigError when there is none of that name.

    Args: facts, of the application. elsewhere, who may be asked about flags that are undecided; None: nobody.
    """
    if dialect not in _MODULES:
        raise ConfigError("dialect", dialect, "one of " + ", ".join(sorted(_MODULES)))
    parse: Any = import_module(_MODULES[dialect]).parse
    if facts and dialect in _ASKING:
        parse = partial(parse, facts=facts)
    if elsewhere is not None and dialect in _RELAYING:
        parse = partial(parse, elsewhere=elsewhere)
    made: Parse = parse
    return made


def follower(dialect: str, facts: Mapping[str, str] | None = None) -> Follow | None:
    """What applies changes in a dialect; None when it has no form for them, and every change means a fetch."""
    if dialect not in _CHANGES:
        return None
    follow: Any = import_module(_CHANGES[dialect]).follow
    made: Follow = partial(follow, facts=facts) if facts and dialect in _ASKING else follow
    return made
