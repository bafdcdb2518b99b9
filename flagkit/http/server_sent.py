"""Server-sent events out of bytes, as they come. Pure; the HTTP source reads its stream through it.

Only what flagkit needs of the format: the data of an event, and that there was a sign of life. Names, ids and retry
times of events are read over; a line ends with a line feed, with or without a carriage return before it.
"""

from __future__ import annotations


class ServerSent:
    """Collects lines into events. Args: max_bytes: the longest event there may be, with its line ends."""

    __slots__ = ("_data", "_line", "_max_bytes", "_size")

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._line = bytearray()
        self._data: list[bytes] = []
        self._size = 0

    def feed(self, piece: bytes) -> list[bytes | None] | None:
        """What ``piece`` completes: the data of an event, or None for a comment; None instead: the event is too long.

        After that, or after an exception, nothing more may be fed.
        """
        found: list[bytes | None] = []
        *lines, rest = piece.split(b"\n")
        for line in lines:
            self._line += line
            complete = bytes(self._line.removesuffix(b"\r"))
            self._line.clear()
            self._size += len(complete)
            if self._size > self._max_bytes:
                return None
            if complete.startswith(b":"):
                found.append(None)
            elif complete.startswith(b"data:"):
                self._data.append(complete[5:].removeprefix(b" "))
            elif not complete:
                if self._data:
                    found.append(b"\n".join(self._data))
                self._data, self._size = [], 0
        self._line += rest
        return None if self._size + len(self._line) > self._max_bytes else found
