"""Definitions handed over by the program: for tests, scripts and defaults built into an application.

Owns one immutable document. Dumped at construction, so that a mapping changed later changes nothing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from flagkit.errors import ConfigError, FetchError
from flagkit.sources.source import Answer, Fetched, NotModified, checked_dialect

_VALIDATOR: Final = "static"


class Static:
    """Definitions that never change.

    Args:
        definitions: the document as a mapping that has a JSON form, or as JSON text (str, or bytes of UTF-8).
        dialect: the format of the document.

    Raises: ConfigError naming the field. The document itself is judged where it is parsed.
    """

    local = True
    name = "static"

    def __init__(self, definitions: Mapping[str, Any] | str | bytes, *, dialect: str = "native") -> None:
        self.dialect = checked_dialect(dialect)
        self._data = _dumped(definitions)

    def __repr__(self) -> str:
        return f"sources.Static({len(self._data)} bytes)"

    def fetch(self, validator: str | None, *, deadline_s: float, max_bytes: int) -> Answer:  # noqa: ARG002 - no I/O
        """See ``Source``."""
        if validator == _VALIDATOR:
            return NotModified()
        if len(self._data) > max_bytes:
            raise FetchError("too_large", f"static: the document is larger than {max_bytes:,} bytes")
        return Fetched(self._data, _VALIDATOR)

    def close(self) -> None:
        """Nothing is held."""

    def after_fork(self) -> None:
        """Nothing is held."""


def _dumped(definitions: object) -> bytes:
    if isinstance(definitions, bytes):
        return definitions
    try:
        if isinstance(definitions, str):
            return definitions.encode()
        if isinstance(definitions, Mapping):
            return json.dumps(dict(definitions), allow_nan=False).encode()
    except (TypeError, ValueError, RecursionError):
        pass
    raise ConfigError("definitions", definitions, "a mapping with a JSON form, or a JSON document as str or bytes")
