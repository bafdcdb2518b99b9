"""``Segment``: one file of the spool, as whoever delivers from it sees it.

Beside it, in a file of notes, stands what was sealed and what was settled, so that a later process goes on at the same
byte with the same batch id. One thread reads and settles, one other writes and says so by ``grow``; the account of
events is the spool's, the form of the files that of ``records``.
"""

from __future__ import annotations

import errno
from collections import deque
from contextlib import closing, suppress
from itertools import islice
from typing import Final

from flagkit.disk import Folder
from flagkit.runtime.buffer import Seal
from flagkit.runtime.records import FRAME, HEAD, created_ms, note, parse, read_notes, size_at, survey

SUFFIX: Final = ".seg"
_NOTES: Final = ".ack"
#: No process of ours writes segments that large.
_MAX_BYTES: Final = 16 * 1024 * 1024
_CHUNK: Final = 64 * 1024
#: Enough for any batch: what is read ahead of the collector, bytes.
_AHEAD: Final = 640 * 1024


class Damaged(Exception):
    """The next event in a segment is not as it was written."""


class Segment:
    """See the module.

    folder, owner: of the process that wrote it, and the folder's name. name: the file's. adopted: that process is dead.
    closed: nobody writes to it any more. born_s: when it was made, on the monotonic clock, if this process did.
    Without a folder it is loose: events in memory, handled in the same way, until ``land`` gives it a file.
    """

    __slots__ = (
        "_ahead",
        "_at",
        "_bad",
        "_end",
        "_read",
        "_sealed",
        "_settled",
        "_written",
        "adopted",
        "born_s",
        "closed",
        "created_ms",
        "folder",
        "gone",
        "known",
        "name",
        "owner",
    )

    def __init__(self, folder: Folder | None, owner: str, name: str, *, adopted: bool = False) -> None:
        self.folder = folder
        self.owner = owner
        self.name = name
        self.adopted = adopted
        self.closed = adopted
        #: Whether the number of its events is.
        self.known = not adopted
        #: Whether its files are removed, or left alone for good.
        self.gone = False
        self.born_s = 0.0
        self.created_ms: int | None = None
        self._ahead: deque[tuple[str, int]] = deque()
        #: Places in the file: settled up to here, read up to here, written up to here.
        self._at = self._read = self._end = HEAD
        #: Events ever settled, by the one thread; ever written, by the other.
        self._settled = self._written = 0
        self._bad = False
        self._sealed: tuple[int, int] | None = None

    @classmethod
    def of(cls, texts: list[str]) -> Segment:
        """A loose one."""
        segment = cls(None, "", "")
        segment.closed = True
        segment._ahead.extend((text, FRAME + len(text)) for text in texts)
        segment._written = len(texts)
        return segment

    @property
    def pending(self) -> int:
        """Events in it that are not settled."""
        return self._written - self._settled

    @property
    def used(self) -> bool:
        """Whether there ever was an event in it."""
        return self._written > 0

    @property
    def finished(self) -> bool:
        return self.closed and self.known and not self.pending

    # -- the writing side

    def texts(self) -> list[str]:
        """All that was read ahead; all there is, in a loose one."""
        return [text for text, _ in self._ahead]

    def grow(self, size: int, count: int) -> None:
        """So many bytes were written, and are so many events."""
        self._end += size
        self._written += count

    def land(self, on: Segment) -> None:
        """What is in this loose segment was written to the file of that one, and it takes its place; nobody settles."""
        self.owner, self.name, self.born_s, self.created_ms = on.owner, on.name, on.born_s, on.created_ms
        self.closed = False
        self._at = HEAD  # what was settled before is not in that file
        self._read = HEAD + sum(size for _, size in self._ahead)
        self._end = self._read
        self.folder = on.folder

    # -- the delivering side

    def survey(self) -> None:
        """Find out how many events a dead process left here. Raises: OSError."""
        folder = self._folder()
        if folder.size(self.name) > _MAX_BYTES:
            raise OSError(errno.EFBIG, "no segment of ours is that large", self.name)
        data = folder.read(self.name)
        try:
            settled, self._sealed = read_notes(folder.read(self._notes))
        except FileNotFoundError:
            settled = 0
        self.created_ms = created_ms(data)
        self._at = self._read = max(HEAD, settled)
        if len(data) < HEAD:
            self._end = self._at  # it died before it had written anything
        elif self.created_ms is None:
            self._bad = True
            self._written, self._end = max(1, survey(data, HEAD)[0]), len(data)
            self._at = 0
        else:
            self._written, self._end = survey(data, self._at)
        self.known = True

    def head(self, count: int) -> list[str]:
        """The oldest events, at most ``count``; those of the batch that a dead process was sending, if that is next.

        Raises: OSError; Damaged, when the next event is not as it was written.
        """
        while len(self._ahead) < count and self._read < self._end and not self._bad and self._read < self._at + _AHEAD:
            self._read_on()
        if self._bad and not self._ahead and self.pending:
            raise Damaged
        if self._sealed is not None and self._sealed[0] == self._at:
            left = self._sealed[1] - self._at
            for index, (_, size) in enumerate(islice(self._ahead, count), 1):
                left -= size
                if left <= 0:
                    count = index
                    break
        return [text for text, _ in islice(self._ahead, count)]

    def seal(self, count: int) -> Seal:
        """Note that the oldest ``count`` events are one batch; return its id, the same whenever it is sealed again."""
        if self.folder is None:
            return Seal()
        from hashlib import sha256  # loads OpenSSL, which only a client with a spool should pay for

        end = self._at + sum(size for _, size in islice(self._ahead, count))
        again = self._sealed == (self._at, end)
        self._sealed = (self._at, end)
        digest = sha256(f"{self.owner}/{self.name}/{self._at}-{end}".encode()).hexdigest()[:32]
        if not again:
            self._note("s", self._at, end)
        return Seal(digest, again)

    def settle(self, count: int) -> None:
        """The oldest ``count`` events met their fate."""
        start = self._at
        for _ in range(count):
            self._at += self._ahead.popleft()[1]
        self._settled += count
        if self.folder is not None and not self.finished:  # then it is about to be removed
            self._note("a", start, self._at)

    def give_up(self) -> None:
        """Whatever is left in it is settled, without a note."""
        self._ahead.clear()
        self._settled = self._written
        self.closed = self.known = True

    def rest(self) -> bytes:
        """What is left in the file, as it is. Raises: OSError."""
        return self._folder().read(self.name, self._at, self._end - self._at)

    def remove(self) -> int:
        """Remove its files, now that it is settled; return how many bytes that freed. Raises: OSError."""
        if self.folder is None:
            return 0
        try:
            self.folder.remove(self.name)
        except OSError:
            self._note("a", HEAD, self._end)  # or the next process would send it all again
            raise
        with suppress(FileNotFoundError):
            self.folder.remove(self._notes)
        return self._end

    @property
    def _notes(self) -> str:
        return self.name.removesuffix(SUFFIX) + _NOTES

    def _folder(self) -> Folder:
        if self.folder is None:
            raise FileNotFoundError(errno.ENOENT, "not on disk")
        return self.folder

    def _note(self, kind: str, start: int, end: int) -> None:
        # Opened for each line: nothing stays open, and a fork inherits nothing. What cannot be noted is sent again by
        # the next process, and its events stored once all the same.
        with suppress(OSError), closing(self._folder().append(self._notes)) as notes:
            notes.write(note(kind, start, end))

    def _read_on(self) -> None:
        want = min(_CHUNK, self._end - self._read)
        data = self._folder().read(self.name, self._read, want)
        found, bad = parse(data)
        if not found and not bad and len(data) == want < self._end - self._read:
            # An event that is larger than a chunk.
            want = min(size_at(data, 0), self._end - self._read)
            data = self._folder().read(self.name, self._read, want)
            found, bad = parse(data)
        self._ahead.extend(found)
        self._read += sum(size for _, size in found)
        # Short of what was written, or ending within an event: no more can be read.
        self._bad = bad or len(data) < want or (not found and self._read < self._end)
