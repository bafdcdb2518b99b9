"""``Storage``: how it stands with one thing kept on disk, for ``status`` and, through an episode, for the log.

Whatever its disk does, flagkit goes on in memory; this is what says so. One for the last good definitions, one for the
spool. Driven by one thread at a time.
"""

from __future__ import annotations

import errno
from typing import Final

from flagkit.clock import Clock
from flagkit.runtime.episode import Episode
from flagkit.runtime.stats import Standing

#: What will not pass without somebody doing something about the directory, or the system it is on.
_UNUSABLE: Final = frozenset(
    {
        *(errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ELOOP, errno.ENAMETOOLONG),
        *(errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK),
    }
)


class Storage:
    """See the module. ``what`` is how the log calls it."""

    __slots__ = ("_episode", "standing")

    def __init__(self, what: str, clock: Clock) -> None:
        self._episode = Episode(what, clock)
        self.standing: Standing = "ok"

    def succeeded(self) -> None:
        self.standing = "ok"
        self._episode.over()

    def failed(self, error: OSError) -> None:
        """Note what the disk said; what is kept in memory goes on meanwhile."""
        self.standing = "off" if error.errno in _UNUSABLE else "failing"
        where = f": {error.filename}" if error.filename else ""
        self._episode.failed(self.standing, f"{error.strerror or type(error).__name__}{where}")

    def tell(self) -> None:
        """Log what happened since the last call. With no lock held."""
        self._episode.tell()
