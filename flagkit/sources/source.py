"""The contract of a source: bytes in, with a validator that says which ones.

Owns the protocol and its two answers. A source knows no dialect beyond its name, parses nothing and keeps nothing it
fetched; the poller calls it from one thread, a constructor too when it is local.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol, TypeAlias, runtime_checkable

from flagkit.errors import ConfigError


class Fetched(NamedTuple):
    """A document. ``validator`` names these bytes to the source, None when it cannot.

    server_ms: the server's wall clock as it answered, ms since 1970; None without a server or a readable clock.
    """

    data: bytes
    validator: str | None = None
    server_ms: int | None = None


class NotModified(NamedTuple):
    """The document is still the one whose validator was handed in. ``server_ms`` as in ``Fetched``."""

    server_ms: int | None = None


Answer: TypeAlias = Fetched | NotModified


@runtime_checkable
class Source(Protocol):
    """Where definitions come from.

    name: for status and logs; no secret in it.
    dialect: the format of the bytes, such as ``native``.
    local: True when ``fetch`` is quick local I/O that a constructor may wait for.
    """

    @property
    def name(self) -> str: ...

    @property
    def dialect(self) -> str: ...

    @property
    def local(self) -> bool: ...

    def fetch(self, validator: str | None, *, deadline_s: float, max_bytes: int) -> Answer:
        """The document, or ``NotModified`` when it is still the one ``validator`` names.

        Args:
            validator: of the document in use; None asks for the document whatever it is. Only what an earlier
                ``Fetched`` of this source said.
            deadline_s: the whole call ends in this time, seconds; local sources may disregard it.
            max_bytes: the largest document accepted, decoded.

        Raises: FetchError, and nothing else.
        """
        ...

    def close(self) -> None:
        """Let go of connections and descriptors. May be called twice, and ``fetch`` may follow."""
        ...

    def after_fork(self) -> None:
        """In a forked child, before anything else: forget what belongs to the parent. No lock, no I/O, no logging."""
        ...


def checked_dialect(dialect: object) -> str:
    """``dialect`` if it is a name. Raises: ConfigError."""
    if not isinstance(dialect, str) or not dialect:
        raise ConfigError("dialect", dialect, "the name of a format, such as 'native'")
    return dialect
