"""A flag service, a collector, and what comes between them and a client: everything a network does to an exchange.

``Wire`` stands where ``flagkit.http.Wire`` stands, so that the real HTTP source and sink judge what comes back. The
collector stores by event id and knows a batch by its id. What was said to whom is noted, for the invariants.
"""

from __future__ import annotations

import hashlib  # noqa: F401 - what flagkit imports late is imported before the machine is simulated
import json
import zlib
from collections.abc import Callable, Mapping
from random import Random
from typing import Any, Protocol

import flagkit.http.leash
import flagkit.runtime.spool
import flagkit.sources.lastgood  # noqa: F401
from flagkit.http import NoReply, Reply
from flagkit.http.address import redirected
from tests.simulation.contents import Author, Content, announcement
from tests.simulation.flow import Flow, event
from tests.simulation.ledger import Ledger, event_id
from tests.simulation.schedule import Hub, Violation
from tests.simulation.weather import Mood, fail

URL = "https://flags.example.com"
KEY = "sim-key-0123456789"
HEARTBEAT_S = 5.0

_JSON = "application/json"


class Client(Protocol):
    """The process at this end, as the network sees it."""

    name: str

    def offered(self, content: Content) -> None:
        """It is about to be given a document that it may take into use."""

    def switched_off(self, keys: set[str]) -> None:
        """It is about to be given a document that it should refuse, but for these."""

    def confirmed(self, content: Content | None) -> None:
        """It is about to be told that this is still what there is; None: whatever it has."""

    def polled(self, outcome: str, after_s: float) -> None: ...
    def asked(self, etag: str | None) -> None: ...
    def sending(self, batch_id: str, events: list[str]) -> None: ...
    def sent(self, outcome: str, after_s: float, accepted: int) -> None: ...


class Network:
    """Both servers and the way to them. ``noticed``: told of every fault by its kind."""

    def __init__(
        self, hub: Hub, random: Random, author: Author, ledger: Ledger, noticed: Callable[[str], None]
    ) -> None:
        self.hub = hub
        self.random = random
        self.author = author
        self.noticed = noticed
        self.streams = True
        self.moods: dict[str, Mood] = {"definitions": Mood(), "events": Mood(), "stream": Mood()}
        self.now = author.latest
        #: Everything that was ever published, by its mark.
        self.known: dict[tuple[str | None, int | None], Content] = {self.now.mark: self.now}
        self.past: list[Content] = [self.now]
        self.flows: list[Flow] = []
        self.collector = Collector(ledger)

    def publish(self, content: Content) -> None:
        before, self.now = self.now, content
        self.known[content.mark] = content
        self.past.append(content)
        for flow in self.flows.copy():
            flow.tell(before, content)

    def heartbeat(self) -> None:
        for flow in self.flows.copy():
            flow.push(event(self.now, announcement(self.now)))

    def fault(self, role: str) -> Mood | None:
        mood = self.moods[role]
        if mood.kind == "clear" or self.random.random() >= mood.chance:
            return None
        self.noticed(f"{role} {mood.kind}")
        return mood

    def travel(self, deadline_s: float) -> None:
        """Part of the way. It takes a moment, as a rule."""
        random = self.random
        self.hub.sleep(min(deadline_s / 4, random.expovariate(1 / 0.03)))


class Collector:
    """Stores events once by id, and takes a batch for the one it knows by that id."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self.batches: dict[str, tuple[str, ...]] = {}
        self.dropped: dict[str, tuple[str, dict[str, int]]] = {}
        self.repeated = 0

    def store(self, client: Client, batch_id: str, events: list[str], dropped: dict[str, int]) -> None:
        known = self.batches.get(batch_id)
        if known is not None:
            self.repeated += 1
            return  # what a collector does that keeps batch ids: it has this one
        self.batches[batch_id] = tuple(events)
        if dropped:
            self.dropped[batch_id] = (client.name, dropped)
        for text in events:
            entry = self.ledger.entries.get(event_id(text))
            if entry is None or text not in entry.texts:
                raise Violation(f"the collector was sent what nobody recorded: {text[:200]}")
            if entry.stored is None:
                entry.stored = batch_id


class Wire:
    """The way of one process to one address."""

    def __init__(self, network: Network, client: Client, url: str) -> None:
        self.url = url
        self._network = network
        self._client = client

    @property
    def identity(self) -> str:
        return f"{self.url}#{KEY[-6:]}"

    def beside(self, location: str | None) -> str | None:
        return redirected(self.url, location)

    def close(self) -> None: ...
    def after_fork(self) -> None: ...

    # -- definitions

    def get(self, *, etag: str | None, deadline_s: float, max_bytes: int) -> Reply:
        network, client = self._network, self._client
        client.asked(etag)
        network.travel(deadline_s)
        fault = network.fault("definitions")
        kind = "clear" if fault is None else fault.kind
        try:
            reply = self._definitions(kind, fault, etag, deadline_s)
        except NoReply as failure:
            client.polled("lasting" if failure.lasting else "failed", 0.0)
            raise
        except (ValueError, SystemExit):
            client.polled("broken", 0.0)
            raise
        network.travel(deadline_s)
        client.polled(_outcome(reply.status), reply.retry_after_s or 0.0)
        return reply

    def _definitions(self, kind: str, fault: Mood | None, etag: str | None, deadline_s: float) -> Reply:
        network, client, random = self._network, self._client, self._network.random
        content = network.now
        fail(network.hub, kind, self.url, deadline_s)
        if fault is not None and kind.startswith("http_"):
            return Reply(int(kind[5:]), retry_after_s=fault.after_s or None)
        if kind == "html":
            return Reply(200, b"<html>Welcome to the airport</html>", "text/html")
        if kind == "half":
            return self._reply(content.body[: len(content.body) * 2 // 3], content)
        if kind == "shape":
            shape = random.choice((b"[]", b"{}", b"null", b"7", b'{"schema":1,"flags":3}', b'{"a":NaN}', b"\xff"))
            return self._reply(shape, content)
        if kind == "environment":
            return self._reply(content.altered(environment="staging", number=content.number + 9), content)
        if kind == "count":
            return self._reply(content.altered(flag_count=99), content)
        if kind == "spurious_304":
            client.confirmed(None)
            return Reply(304) if etag is None else self._not_modified()
        if kind in ("accident", "ruin"):
            content = network.author.accident() if kind == "accident" else network.author.ruin()
            network.known[content.mark] = content
            client.switched_off({key for key, flag in content.flags.items() if not flag.enabled})
            if kind == "ruin":
                return self._reply(content.body, content)
        if kind == "older":
            same = [past for past in network.past[-8:] if past.epoch == content.epoch]
            content = random.choice(same)
        if etag == content.etag:
            client.confirmed(content)
            return self._not_modified()
        client.offered(content)
        return self._reply(content.body, content)

    def _not_modified(self) -> Reply:
        return Reply(304, **self._offer())

    def _reply(self, body: bytes, content: Content) -> Reply:
        return Reply(200, body, _JSON, content.etag, **self._offer())

    def _offer(self) -> Any:
        streams = self._network.streams
        return {"stream": "/v1/stream" if streams else None, "heartbeat_s": HEARTBEAT_S if streams else None}

    def listen(self, url: str, *, last_id: str | None, deadline_s: float) -> tuple[Reply, Flow | None]:
        network = self._network
        network.travel(deadline_s)
        fault = network.fault("stream")
        kind = "clear" if fault is None else fault.kind
        fail(network.hub, kind, url, deadline_s)
        if kind == "http_503":
            return Reply(503), None
        if kind == "html":
            return Reply(200, media_type="text/html"), None
        flow = Flow(network, self._client, url, last_id)
        return Reply(200, media_type="text/event-stream", heartbeat_s=HEARTBEAT_S), flow

    # -- events

    def post(self, body: bytes, headers: Mapping[str, str], *, deadline_s: float, max_bytes: int) -> Reply:
        network, client = self._network, self._client
        told = json.loads(zlib.decompress(body, 31))
        batch_id = told["batch_id"]
        if headers["Idempotency-Key"] != batch_id:
            raise Violation("the idempotency key is not the batch's id")
        events = _texts(body)
        client.sending(batch_id, events)
        network.travel(deadline_s)
        fault = network.fault("events")
        kind = "clear" if fault is None else fault.kind
        try:
            reply, accepted = self._events(kind, fault, told, events, deadline_s)
        except NoReply as failure:
            client.sent("lasting" if failure.lasting else "failed", 0.0, 0)
            raise
        except (ValueError, SystemExit):
            client.sent("broken", 0.0, 0)
            raise
        network.travel(deadline_s)
        outcome = "ok" if accepted is not None else _outcome(reply.status)
        client.sent(
            "failed" if accepted is None and outcome == "ok" else outcome, reply.retry_after_s or 0.0, accepted or 0
        )
        return reply

    def _events(
        self, kind: str, fault: Mood | None, told: dict[str, Any], events: list[str], deadline_s: float
    ) -> tuple[Reply, int | None]:
        network, client, batch_id = self._network, self._client, told["batch_id"]
        collector = network.collector
        ledger = collector.ledger
        fail(network.hub, kind, self.url, deadline_s)
        if kind in ("unheard", "unheard_503"):
            collector.store(client, batch_id, events, told["dropped"])
            if kind == "unheard":
                network.hub.sleep(deadline_s)
                raise NoReply("deadline", self.url)
            return Reply(503, retry_after_s=fault.after_s if fault is not None else None), None
        if fault is not None and kind.startswith("http_"):
            status = int(kind[5:])
            return Reply(status, retry_after_s=(fault.after_s or None) if status >= 400 else None), None
        if kind == "html":
            return Reply(200, b"<html>Welcome to the airport</html>", "text/html"), None
        if kind == "no_content":
            return Reply(204), None
        if kind == "other_batch":
            return Reply(202, json.dumps({"batch_id": "0" * 32, "accepted": 1, "rejected": []}).encode(), _JSON), None
        if kind == "again":
            entries = [{"id": event_id(events[0]), "reason": "busy", "retry": True}]
            return self._ack(batch_id, entries), None
        if kind == "all_400" or any('"poison":true' in text for text in events):
            if len(events) == 1:
                ledger.excuse(events, "refused")
            return Reply(400), None
        if kind == "small" and sum(map(len, events)) > 700:
            if len(events) == 1:
                ledger.excuse(events, "refused")
            return Reply(413), None
        kept, entries = events, []
        if kind == "some":
            kept = [text for text in events if event_id(text)[0] not in "01"]
            refused = [text for text in events if text not in kept]
            entries = [{"id": event_id(text), "reason": "malformed", "retry": False} for text in refused]
            ledger.excuse(refused, "refused")
        collector.store(client, batch_id, kept, told["dropped"])
        return self._ack(batch_id, entries), len(kept)

    def _ack(self, batch_id: str, entries: list[dict[str, Any]]) -> Reply:
        ack = {"batch_id": batch_id, "accepted": 1, "rejected": entries}
        return Reply(202, json.dumps(ack).encode(), _JSON)


def _outcome(status: int) -> str:
    if status in (200, 202, 304):
        return "ok"
    if 400 <= status < 500 and status not in (400, 408, 413, 422, 425, 429):
        return "lasting"
    return "divide" if status in (400, 413) else "failed"


def _texts(body: bytes) -> list[str]:
    """The events of a batch, byte for byte."""
    text = zlib.decompress(body, 31).decode()
    events = text[text.index('"events":[') + 10 : -2]
    found, decoder, at = [], json.JSONDecoder(), 0
    while at < len(events):
        _, end = decoder.raw_decode(events, at)
        found.append(events[at:end])
        at = end + 1
    return found
