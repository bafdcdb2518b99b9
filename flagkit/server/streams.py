"""Changes told as they happen: who listens, what they have not heard yet, and the events themselves.

Nothing is queued for anybody. A bounded past is shared; each listener knows how much of it he has heard, so that one
who reads slowly costs no memory, and one who comes back is told what he missed. ``publish`` is called by whichever
thread changes the definitions; listeners live on event loops. It knows the form of server-sent events, and no HTTP.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator
from typing import Final, NamedTuple

from flagkit.dialects.native_changes import announcement, change
from flagkit.server.definitions import Served

#: Changes remembered for those who come back: at most 4 MiB, as no event is larger than 64 KiB.
_PAST: Final = 64


class _Told(NamedTuple):
    """One change; ``follows`` is the id of what it was made from."""

    follows: str
    event: bytes


class _State(NamedTuple):
    """Everything a listener needs, as of one moment. ``changes``: so far, the last of which are in ``past``."""

    changes: int
    past: tuple[_Told, ...]
    id: str
    now: bytes


class Streams:
    """The listeners of one service.

    Args: most: listeners at any time. heartbeat_s: the longest that a listener hears nothing, seconds.
    """

    def __init__(self, most: int, heartbeat_s: float) -> None:
        self._most = most
        self._heartbeat_s = heartbeat_s
        self._state = _State(0, (), "", b"")
        self._bells: set[_Bell] = set()
        self._closed = False

    def __len__(self) -> int:
        return len(self._bells)

    @property
    def full(self) -> bool:
        """Whether nobody else may listen now."""
        return self._closed or len(self._bells) >= self._most

    def publish(self, before: Served | None, after: Served) -> None:
        """Tell everyone of a change; ``before`` is None when it is none. One thread at a time."""
        changes, past, last, _ = self._state
        here = _id(after)
        if before is not None:
            # About as long as the service needs to answer all of them.
            spread_ms = len(self._bells)
            news = change(before.definitions, after.definitions, etag=after.etag, spread_ms=spread_ms)
            changes, past = changes + 1, (*past, _Told(last, _event(here, news)))[-_PAST:]
        self._state = _State(changes, past, here, _event(here, announcement(after.definitions)))
        self._ring()

    def close(self) -> None:
        """End all streams, now and from now on. Any thread."""
        self._closed = True
        self._ring()

    async def listen(self, last_id: str | None) -> AsyncIterator[bytes]:
        """Server-sent events: what was missed since ``last_id`` if that is still known, where the service is, and from
        then on every change as it happens, and where the service is whenever nothing has happened for a while.
        """
        bell = _Bell()
        self._bells.add(bell)
        try:
            heard, past, _, now = self._state
            yield _since(last_id, past) + now
            while True:
                await bell.wait(self._heartbeat_s * random.uniform(0.8, 1.0))
                if self._closed:
                    return
                changes, past, _, now = self._state
                new, heard = changes - heard, changes
                yield b"".join(told.event for told in past[-new:]) if 0 < new <= len(past) else now
        finally:
            self._bells.discard(bell)

    def _ring(self) -> None:
        for bell in self._bells.copy():
            bell.ring()


class _Bell:
    """An ``asyncio.Event`` that any thread may set."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._rung = asyncio.Event()

    def ring(self) -> None:
        with contextlib.suppress(RuntimeError):  # its loop is closed
            self._loop.call_soon_threadsafe(self._rung.set)

    async def wait(self, timeout_s: float) -> None:
        """Return when it rings, or after the time. It is silent again afterwards."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._rung.wait()
        self._rung.clear()


def _since(last_id: str | None, past: tuple[_Told, ...]) -> bytes:
    for index, told in enumerate(past):
        if told.follows == last_id:
            return b"".join(told.event for told in past[index:])
    return b""


def _id(served: Served) -> str:
    return f"{served.epoch}:{served.number}"


def _event(event_id: str, data: bytes) -> bytes:
    return b"id: %s\ndata: %s\n\n" % (event_id.encode(), data)
