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


#: Bytes and the definitions in use -> definitions. Raises DefinitionsError when the document is refused whole.
Parse: TypeAlias = "Callable[[bytes, Definitions | None], Parsed]"

_MODULES: Final = {"native": "flagkit.dialects.native"}


def parser(dialect: str) -> Parse:
    """The parser of a dialect. Raises: ConfigError when there is none of that name."""
    if dialect not in _MODULES:
        raise ConfigError("dialect", dialect, "one of " + ", ".join(sorted(_MODULES)))
    parse: Parse = import_module(_MODULES[dialect]).parse
    return parse
