"""A stream of changes, as it comes to one process: whole, with gaps, broken, silent, late, or something else."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

from flagkit.http import NoReply
from tests.simulation.contents import Content, announcement, news

if TYPE_CHECKING:
    from tests.simulation.network import Client, Network


class Flow:
    """The body of a stream, as it comes to one process."""

    def __init__(self, network: Network, client: Client, url: str, last_id: str | None) -> None:
        self._network = network
        self._client = client
        self._url = url
        self._pieces: list[bytes] = []
        self._ended = False
        self._listener: Any = None
        network.flows.append(self)
        past = network.past
        for before, after in pairwise(past):
            if last_id == f"{before.epoch}:{before.number}" and after is network.now:
                self.tell(before, after)
        self.push(event(network.now, announcement(network.now)))

    def tell(self, before: Content, after: Content) -> None:
        """A change happened."""
        network = self._network
        fault = network.fault("stream")
        kind = "clear" if fault is None else fault.kind
        if kind == "broken":
            self.break_off()
            return
        if kind == "garbage":
            self.push(b"data: " + network.random.choice((b"{", b"[]", b'{"epoch":1}', b"\xff\xfe", b"{}")) + b"\n\n")
        if kind in ("gap", "silent"):
            return
        told = event(after, news(before, after))
        self.push(told)
        if kind == "repeat":
            self.push(told)

    def push(self, piece: bytes) -> None:
        if self._network.moods["stream"].kind != "silent":
            self._pieces.append(piece)
            self._rouse()

    def break_off(self) -> None:
        self._ended = True
        self._rouse()

    def read(self, ends_s: float) -> bytes:
        network = self._network
        while not self._pieces and not self._ended:
            if network.hub.now_s >= ends_s:
                raise NoReply("deadline", self._url)
            self._listener = network.hub.current
            network.hub.sleep(ends_s - network.hub.now_s)
            self._listener = None
        if not self._pieces:
            return b""
        if network.moods["stream"].kind == "late":
            network.hub.sleep(network.random.random() * 3)
        piece = b"".join(self._pieces)
        self._pieces.clear()
        for content in network.past[-70:]:
            if b"id: %s:%d\n" % (content.epoch.encode(), content.number) in piece:
                self._client.offered(content)
                self._client.confirmed(content)
        return piece

    def hang_up(self) -> None:
        self.break_off()

    def close(self) -> None:
        self._ended = True
        if self in self._network.flows:
            self._network.flows.remove(self)

    def _rouse(self) -> None:
        listener, self._listener = self._listener, None
        if listener is not None:
            self._network.hub.wake(listener)


def event(content: Content, data: bytes) -> bytes:
    return b"id: %s:%d\ndata: %s\n\n" % (content.epoch.encode(), content.number, data)
