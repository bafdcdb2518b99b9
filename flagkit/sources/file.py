"""Definitions in a local file, re-read when it changes.

Owns noticing a change and reading a consistent whole. It writes nothing and watches nothing: the poller asks again.
"""

from __future__ import annotations

import os
import stat

from flagkit.errors import ConfigError, FetchError
from flagkit.sources.source import Answer, Fetched, NotModified, checked_dialect


class File:
    """Definitions from a file. Symbolic links are followed each time, so a swapped link is a change.

    Args:
        path: the file; it may appear later.
        dialect: the format of the document.

    Raises: ConfigError naming the field.
    """

    local = True

    def __init__(self, path: str | os.PathLike[str], *, dialect: str = "native") -> None:
        if not isinstance(path, (str, os.PathLike)):
            raise ConfigError("path", path, "the path of a definitions file")
        self._path = os.fspath(path)
        if not isinstance(self._path, str) or not self._path or "\0" in self._path:
            raise ConfigError("path", path, "the path of a definitions file")
        self.dialect = checked_dialect(dialect)
        self.name = self._path

    def __repr__(self) -> str:
        return f"sources.File({self._path!r})"

    def fetch(self, validator: str | None, *, deadline_s: float, max_bytes: int) -> Answer:  # noqa: ARG002 - local I/O
        """See ``Source``. The validator is the file's modification time, size and inode."""
        try:
            found = os.stat(self._path)
            if not stat.S_ISREG(found.st_mode):  # opening a pipe would wait for its writer
                raise self._failure("not_a_file", "is not a regular file")
            if validator is not None and validator == _validator(found):
                return NotModified()
            with open(self._path, "rb") as file:
                before = _validator(os.fstat(file.fileno()))
                data = file.read(max_bytes + 1)
                after = _validator(os.fstat(file.fileno()))
        except FileNotFoundError:
            raise self._failure("missing", "does not exist") from None
        except OSError as error:
            raise self._failure("unreadable", f"cannot be read ({error.strerror})") from None
        if len(data) > max_bytes:
            raise self._failure("too_large", f"is larger than {max_bytes:,} bytes")
        # Written to while it was read: perhaps half of it is new, so the next fetch must not find it unchanged.
        return Fetched(data, before if before == after else None)

    def close(self) -> None:
        """Nothing is held open."""

    def after_fork(self) -> None:
        """Nothing is held open."""

    def _failure(self, reason: str, sentence: str) -> FetchError:
        return FetchError(reason, f"{self._path}: {sentence}")


def _validator(found: os.stat_result) -> str:
    return f"{found.st_mtime_ns}-{found.st_size}-{found.st_ino}"
