"""``Cached``: another source, and what was last taken into use of it on disk, for a start while it is down.

What is kept is judged anew when it is recalled: nothing is trusted for having been accepted once. Parses no document.
No key is written; one that the source tells of is part of what the name of the folder is a digest of.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping

from flagkit.config import checked_path
from flagkit.errors import ConfigError, FetchError
from flagkit.sources.source import Answer, Bootstrapped, Decider, Fetched, Keeper, Kept, Listening, Source, Teller


class Cached:
    """Definitions of another source, the last good ones kept on disk.

    A client with ``Config(state_dir=...)`` makes one around its source by itself.

    Args:
        source: where definitions come from.
        path: a directory, made when missing (but not its parent): of this user, not writable for everybody, on a local
            disk. Sources, environments and keys that differ have folders of their own in it.
        environment: of the client, if it has one.

    Raises: ConfigError naming the argument. What is wrong with the directory is in ``status``.
    """

    def __init__(self, source: Source, path: str | os.PathLike[str], *, environment: str | None = None) -> None:
        if isinstance(source, type) or not isinstance(source, Source):
            raise ConfigError("source", source, "a source, such as flagkit.sources.Http(url)")
        self._source = source
        self._teller = source if isinstance(source, Teller) else None
        self._path = checked_path("path", path)
        # Here and not in the poller's thread: a fork in the middle of an import may leave a child that hangs in it.
        from hashlib import sha256

        from flagkit.disk import Folder
        from flagkit.sources.lastgood import LastGood

        identity = "\0".join((getattr(source, "identity", source.name), source.dialect, environment or ""))
        name = sha256(identity.encode(errors="surrogatepass")).hexdigest()[:12]
        self._last_good = LastGood(lambda: Folder.open(self._path).folder("sources").folder(name))

    def __repr__(self) -> str:
        return f"sources.Cached({self._source!r}, {os.fspath(self._path)!r})"

    @property
    def name(self) -> str:
        return self._source.name

    @property
    def dialect(self) -> str:
        return self._source.dialect

    @property
    def local(self) -> bool:
        return self._source.local

    @property
    def facts(self) -> Mapping[str, str]:
        """See ``Source``."""
        facts: Mapping[str, str] = getattr(self._source, "facts", {})
        return facts

    @property
    def decider(self) -> Decider | None:
        """See ``Source``."""
        decider: Decider | None = getattr(self._source, "decider", None)
        return decider

    def bootstrap(self) -> bytes | None:
        """See ``Bootstrapped``."""
        return self._source.bootstrap() if isinstance(self._source, Bootstrapped) else None

    def fetch(self, validator: str | None, *, deadline_s: float, max_bytes: int) -> Answer:
        """See ``Source``. Keeps nothing: nobody knows yet whether it is any good."""
        return self._source.fetch(validator, deadline_s=deadline_s, max_bytes=max_bytes)

    @property
    def tells(self) -> bool:
        """See ``Teller``."""
        return self._teller is not None and self._teller.tells

    def listen(self, mark: str | None, *, deadline_s: float, max_bytes: int) -> Listening:
        """See ``Teller``. What is told is not kept: the poller fetches the document that comes of it."""
        if self._teller is None:
            raise FetchError("no_stream", f"{self.name}: offers no stream")
        return self._teller.listen(mark, deadline_s=deadline_s, max_bytes=max_bytes)

    def recall(self, *, max_bytes: int) -> Iterator[Kept]:
        """See ``Keeper``. What is damaged is renamed."""
        return self._last_good.recall(max_bytes)

    def keep(self, document: Fetched | None, confirmed_ms: int) -> None:
        """See ``Keeper``. What is on disk already is not written again, and a confirmation once a minute at most."""
        self._last_good.keep(document, confirmed_ms)

    def close(self) -> None:
        """Close the other source. What is on disk stays: other processes need it."""
        self._source.close()

    def after_fork(self) -> None:
        """Nothing of the disk is held open, so that there is nothing of it to forget."""
        self._source.after_fork()


def with_last_good(source: Source, state_dir: str | os.PathLike[str] | None, environment: str | None) -> Source:
    """``source``, made ``Cached`` where something should be kept, and it is not at hand anyway or kept by itself."""
    if state_dir is None or source.local or isinstance(source, Keeper):
        return source
    return Cached(source, state_dir, environment=environment)
