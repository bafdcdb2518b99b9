"""What is in the spool's files: a head, and events with their lengths and checksums; notes of what became of them.

Pure: bytes in, events out. Nothing here trusts a byte. ``segment`` reads and writes the files.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from struct import Struct
from typing import Final
from zlib import crc32

#: Bytes an event takes beyond its own.
FRAME: Final = 8
_MAGIC: Final = b"flagkit\0"
_VERSION: Final = 1
_head = Struct(">8sIQI")  # magic, version, created (ms since 1970), checksum of these
_frame = Struct(">II")  # length, checksum
_MAX_EVENT: Final = 1_000_000
#: Every event begins with its id, and its length with a zero byte, of which there is none in the text of an event.
_BEGINNING: Final = re.compile(rb'\0.{7}\{"id":"', re.DOTALL)


def head(created_ms: int) -> bytes:
    """What a segment begins with."""
    body = _head.pack(_MAGIC, _VERSION, created_ms, 0)[:-4]
    return body + crc32(body).to_bytes(4)


HEAD: Final = len(head(0))


def framed(texts: Iterable[str]) -> bytes:
    """Events as they stand in a segment. ASCII only."""
    parts: list[bytes] = []
    for text in texts:
        data = text.encode()
        parts += _frame.pack(len(data), crc32(data)), data
    return b"".join(parts)


def created_ms(data: bytes) -> int | None:
    """When a segment was made; None if ``data`` is no head of a kind known here."""
    if len(data) < HEAD:
        return None
    magic, version, made_ms, checksum = _head.unpack_from(data)
    known = (magic, version, checksum) == (_MAGIC, _VERSION, crc32(data[: HEAD - 4]))
    return int(made_ms) if known else None


def parse(data: bytes) -> tuple[list[tuple[str, int]], bool]:
    """The events at the start of ``data``, with their sizes in the file, and whether a damaged one follows."""
    found: list[tuple[str, int]] = []
    at = 0
    while at + FRAME <= len(data):
        size, checksum = _frame.unpack_from(data, at)
        stop = at + FRAME + size
        if not 0 < size <= _MAX_EVENT:
            return found, True
        if stop > len(data):
            break
        payload = data[at + FRAME : stop]
        if crc32(payload) != checksum:
            return found, True
        found.append((payload.decode("ascii", "replace"), stop - at))
        at = stop
    return found, False


def size_at(data: bytes, at: int) -> int:
    """The bytes that the event there takes in the file, going by its length."""
    return FRAME + int(_frame.unpack_from(data, at)[0])


def survey(data: bytes, at: int) -> tuple[int, int]:
    """How many events a dead process left in ``data`` from ``at``, and where they end.

    The beginning of an event at the very end is none: it was being written when the process was killed. Any other
    damage ends what can be read, and counts as the events that seem to begin there, at least one.
    """
    count, view = 0, memoryview(data)
    while at + FRAME <= len(data):
        size, checksum = _frame.unpack_from(data, at)
        stop = at + FRAME + size
        whole = crc32(view[at + FRAME : stop]) == checksum  # true as well of a last event with a damaged length
        if not whole and stop > len(data) and 0 < size <= _MAX_EVENT and 0 not in data[at + FRAME :]:
            break  # torn: the text of an event has no zero byte, while the length of a further event begins with one
        if not whole or stop > len(data) or not 0 < size <= _MAX_EVENT:
            return count + _seeming(data, at), len(data)
        count += 1
        at = stop
    return count, at


def _seeming(data: bytes, at: int) -> int:
    """How many events there seem to be: the damaged one, and every later one whose beginning is there."""
    return 1 + len(_BEGINNING.findall(data, at + FRAME + 1))


def note(kind: str, start: int, end: int) -> bytes:
    """A line of notes: these bytes of the segment were sealed (``s``), or are settled (``a``)."""
    words = b"%s %d %d" % (kind.encode(), start, end)
    return b"%s %08x\n" % (words, crc32(words))


def read_notes(data: bytes) -> tuple[int, tuple[int, int] | None]:
    """Up to where a segment is settled, and what was sealed last and not settled."""
    settled, sealed = 0, None
    for line in data.splitlines():
        words, _, checksum = line.rpartition(b" ")
        if checksum != b"%08x" % crc32(words):
            break  # a line that was being written, and whatever follows
        kind, start, end = words.split()
        if kind == b"a":
            settled, sealed = int(end), None
        else:
            sealed = (int(start), int(end))
    return settled, sealed
