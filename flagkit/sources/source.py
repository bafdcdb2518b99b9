"""The contract of a source: bytes in, with a validator that says which ones.

Owns the protocol and its two answers, and what a source may do beyond it: keep a document (``Keeper``), tell of
changes as they happen (``Teller``). A source knows no dialect beyond its name and parses nothing. The poller calls it
from one thread, a constructor too when it is local; what it tells is heard by another.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
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


class Kept(NamedTuple):
    """A document of an earlier run, and when it was last known to be current: wall time, ms since 1970."""

    data: bytes
    validator: str | None
    confirmed_ms: int


class Told(NamedTuple):
    """A server's own answer for a flag. facts: what it told beside, for events that go to it."""

    variant: str
    enabled: bool
    facts: Mapping[str, str | int | bool]


class Decider(Protocol):
    """A server that decides flags itself, for what cannot be decided in this process. Asked by one thread."""

    @property
    def name(self) -> str:
        """For status and logs; no secret in it."""
        ...

    def decide(self, question: str, flags: Sequence[str], *, deadline_s: float) -> Mapping[str, Told]:
        """The answers to a question, which the dialect has made of a context; a flag without one is left out.

        Raises: FetchError, and nothing else.
        """
        ...


@runtime_checkable
class Source(Protocol):
    """Where definitions come from.

    name: for status and logs; no secret in it.
    dialect: the format of the bytes, such as ``native``.
    local: True when ``fetch`` is quick local I/O that a constructor may wait for.

    It may also have ``identity``, a string that tells it from others of its name, with a digest of its key, say; what
    is kept of the one is then not recalled for the other. And ``facts``, name -> text, of the application that asks,
    for dialects whose flags may ask for such. And ``decider``, a ``Decider`` or None, where its server may be asked.
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


@runtime_checkable
class Keeper(Source, Protocol):
    """A source that keeps what was taken into use, for the next start. ``fetch`` alone keeps nothing.

    Called by a constructor (``recall``) and the poller's thread (``keep``), never by one that asks for a flag.
    """

    def recall(self, *, max_bytes: int) -> Iterator[Kept]:
        """What earlier runs kept, the newest first. The caller stops at the first that it can take into use.

        Raises: OSError, and nothing else: the disk failed, perhaps after some of it could be read.
        """
        ...

    def keep(self, document: Fetched | None, confirmed_ms: int) -> None:
        """A document is in use, and was known to be current at ``confirmed_ms``.

        Args: document, None when it is still the one recalled or kept before.
        Raises: OSError, and nothing else: it is not kept, and the call will be made again.
        """
        ...


@runtime_checkable
class Bootstrapped(Source, Protocol):
    """A source that brings a document for the time until it has answered once."""

    def bootstrap(self) -> bytes | None:
        """The document, which is judged like any other; None when there is none after all. Local and quick."""
        ...


class Changed(NamedTuple):
    """The definitions have changed, or are still what ``data`` says; ``data`` is in a form of the dialect's."""

    data: bytes


class Alive(NamedTuple):
    """Nothing has changed since the last news."""


class Missed(NamedTuple):
    """There may have been changes that are not told: the document will say."""


News: TypeAlias = Changed | Alive | Missed


class Listening(Protocol):
    """An open connection on which a source tells its news, in order. One thread, but for ``hang_up``.

    silence_s: the connection is broken when nothing came for so long, seconds.
    """

    @property
    def silence_s(self) -> float: ...

    def next(self, timeout_s: float) -> News:
        """The next news, waiting for them at most ``timeout_s`` seconds. Raises: FetchError, also when none came.

        After an exception there is nothing more to be heard.
        """
        ...

    def hang_up(self) -> None:
        """Have ``next``, on whichever thread, end soon. No lock, no waiting. May be called at any time, and again."""
        ...

    def close(self) -> None:
        """Let go of the connection. May be called twice."""
        ...


@runtime_checkable
class Teller(Source, Protocol):
    """A source that tells of changes by itself. Polling goes on beside it, as the net below."""

    @property
    def tells(self) -> bool:
        """Whether it does: some servers do, and some do not. May change with every ``fetch``. Any thread."""
        ...

    def listen(self, mark: str | None, *, deadline_s: float, max_bytes: int) -> Listening:
        """Connect. The first news say where the source is, or are ``Missed``.

        Args:
            mark: the definitions in use, as ``epoch:number``; None when there are none. What has changed since is told
                if it is still known.
            deadline_s: the call ends in this time, seconds.
            max_bytes: news longer than that break the connection.

        Raises: FetchError, and nothing else.
        """
        ...


def checked_dialect(dialect: object) -> str:
    """``dialect`` if it is a name. Raises: ConfigError."""
    if not isinstance(dialect, str) or not dialect:
        raise ConfigError("dialect", dialect, "the name of a format, such as 'native'")
    return dialect
