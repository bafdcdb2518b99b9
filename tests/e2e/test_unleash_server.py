"""flagkit with a real Unleash server: the same answers as Unleash's own client, changes in time, and exact counts."""

from __future__ import annotations

import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from flagkit import Client, Config, sinks, sources
from flagkit.dialects import unleash as dialect
from tests.e2e.unleash_server import CLIENT, Unleash, unleash, until

pytestmark = pytest.mark.full
USERS, POLL_S = 2000, 2.0
WEIGHTS = [("red", 300), ("green", 300), ("blue", 400)]


def rollout(percent: int, stickiness: str = "default", **more: Any) -> dict[str, Any]:
    parameters = {"rollout": str(percent), "stickiness": stickiness, "groupId": more.pop("group", "group")}
    return {"name": "flexibleRollout", "parameters": parameters, **more}


def constraint(field: str, operator: str, *values: str, value: str = "", **more: Any) -> dict[str, Any]:
    bound = {"values": list(values)} if values else {"value": value, "values": []}
    return {"contextName": field, "operator": operator, **bound, **more}


def variants(**more: Any) -> list[dict[str, Any]]:
    payload = {"type": "string", "value": "text"}
    made = [{"name": name, "weight": weight, "weightType": "fix", "payload": payload} for name, weight in WEIGHTS]
    made[-1]["weightType"] = "variable"
    return [{**each, "stickiness": "default", **more} for each in made]


def add_all(server: Unleash) -> list[str]:
    """A feature for every strategy, and more for constraints, segments, variants and dependencies."""
    server.add_old_strategies()
    segment = {"name": "adults", "constraints": [constraint("age", "NUM_GTE", value="18")]}
    number = server.ask("POST", "/api/admin/segments", segment)["id"]
    server.add("default", {"name": "default"})
    server.add("rollout", rollout(37))
    server.add("rollout.session", rollout(50, "sessionId"))
    server.add("rollout.custom", rollout(66, "tenant"))
    server.add("users", {"name": "userWithId", "parameters": {"userIds": "user-1, user-7,user-1999"}})
    for name in ("gradualRolloutUserId", "gradualRolloutSessionId"):
        server.add(name, {"name": name, "parameters": {"percentage": "42", "groupId": "old"}})
    server.add("gradualRolloutRandom", {"name": "gradualRolloutRandom", "parameters": {"percentage": "100"}})
    server.add("addresses", {"name": "remoteAddress", "parameters": {"IPs": "10.0.0.0/24, 10.0.3.7"}})
    server.add("hosts", {"name": "applicationHostname", "parameters": {"hostNames": socket.gethostname()}})
    asked = [constraint("country", "IN", "SE", "NO"), constraint("email", "STR_ENDS_WITH", "@example.com")]
    server.add("constraints", rollout(80, constraints=asked), rollout(5))
    versions = [constraint("version", "SEMVER_GT", value="2.1.0"), constraint("age", "NUM_LT", value="65")]
    server.add("versions", rollout(100, constraints=versions))
    inverted = [constraint("country", "NOT_IN", "DK", inverted=True), constraint("age", "NUM_EQ", value="30")]
    server.add("inverted", rollout(100, constraints=inverted), {"name": "default", "constraints": asked[:1]})
    date = constraint("currentTime", "DATE_AFTER", value="2026-01-01T00:00:00.000Z")
    server.add("dates", rollout(100, constraints=[date]))
    server.add("segment", rollout(70, segments=[number]))
    server.add("strategy.variants", rollout(60, variants=variants()), rollout(100, "sessionId"))
    overridden = variants()
    overridden[1]["overrides"] = [{"contextName": "userId", "values": ["user-3", "user-4"]}]
    server.add("feature.variants", rollout(90), variants=overridden)
    server.add("child", rollout(100), parent={"feature": "rollout"})
    server.add("child.off", rollout(100), parent={"feature": "rollout", "enabled": False})
    chosen = {"feature": "strategy.variants", "variants": ["red"]}
    server.add("child.variant", rollout(100, variants=variants()), parent=chosen)
    server.add("off", rollout(100))
    server.turn("off", "off")
    return sorted(server.features())


def contexts() -> list[dict[str, Any]]:
    countries, versions = ("SE", "NO", "DK", "FI"), ("2.0.9", "2.1.0", "2.1.1", "3.0.0-beta.1")
    return [
        {
            "userId": f"user-{number}",
            "sessionId": f"session-{number // 3}",
            "remoteAddress": f"10.0.{number % 5}.{number % 250}",
            "currentTime": "2025-12-31T23:00:00.000Z" if number % 2 else "2026-07-01T00:00:00.000Z",
            "properties": {
                "tenant": f"tenant-{number % 40}",
                "country": countries[number % 4],
                "version": versions[number % 4],
                "age": str(number % 90),
                "email": f"user{number}@example.{'com' if number % 3 else 'org'}",
            },
        }
        for number in range(USERS)
    ]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Unleash]:
    with unleash(tmp_path_factory.mktemp("unleash")) as running:
        yield running


@pytest.fixture(scope="module")
def features(server: Unleash) -> list[str]:
    names = add_all(server)
    until(lambda: sorted(server.features()) == names, 20)
    return names


@contextmanager
def client(server: Unleash, *, counted_at: str | None = None, app: str = "python", **settings: Any) -> Iterator[Client]:
    source = sources.Unleash(f"{server.url}/api", token=CLIENT, app_name=app)
    sink = None
    if counted_at is not None:
        sink = sinks.Unleash(f"{counted_at}/api", token=CLIENT, app_name=app, interval_s=1)
    with Client(source=source, sink=sink, config=Config(poll_interval_s=POLL_S, **settings)) as made:
        assert made.wait_ready(20), made.status
        yield made


def test_every_answer_is_that_of_unleash_s_client_for_node(server: Unleash, features: list[str]) -> None:
    asked = contexts()
    theirs = server.node(features, asked)
    with client(server) as ours:
        assert [problem for problem in ours.status.problems if problem.refused] == []
        for name in features:
            decisions = [ours.decide(name, dialect.context(each)) for each in asked]
            answers = [[each.enabled, each.variant] for each in decisions]
            differing = [(asked[i], answers[i], theirs[name][i]) for i in range(USERS) if answers[i] != theirs[name][i]]
            assert (name, differing[:2]) == (name, [])
            assert [ours.enabled(name, dialect.context(each)) for each in asked] == [each[0] for each in theirs[name]]
    assert len(features) == 21


def test_a_toggle_is_seen_within_a_poll_and_a_second_of_being_served(server: Unleash, features: list[str]) -> None:
    with client(server) as ours:
        for state, wanted in (("off", False), ("on", True)):
            server.turn("default", state)
            until(lambda w=wanted: server.features()["default"]["enabled"] is w, 10)  # type: ignore[misc]
            began_s = time.monotonic()
            until(lambda w=wanted: ours.enabled("default", "user-1") is w, 10, 0.01)  # type: ignore[misc]
            assert time.monotonic() - began_s < POLL_S + 1
        assert ours.status.source is not None
        assert ours.status.source.failures == 0


def test_the_application_is_registered_once(server: Unleash) -> None:
    with client(server, app="registered") as ours:
        listed = until(lambda: _application(server, "registered"), 20, 0.5)
    assert "flexibleRollout" in listed["strategies"] or listed["appName"] == "registered"
    assert ours.status.ready


def _application(server: Unleash, name: str) -> Any:
    found = server.ask("GET", "/api/admin/metrics/applications")["applications"]
    return next((each for each in found if each["appName"] == name), None)


class Calls:
    """Questions asked of a client, and what they have to be counted as."""

    def __init__(self, ours: Client) -> None:
        self.ours = ours
        self.yes: Counter[str] = Counter()
        self.no: Counter[str] = Counter()
        self.variants: Counter[tuple[str, str]] = Counter()
        self._lock = threading.Lock()

    def ask(self, name: str, user: str, *, variant: bool = False) -> None:
        if variant:
            decision = self.ours.decide(name, user)
            enabled = decision.enabled
        else:
            enabled = self.ours.enabled(name, user)
        with self._lock:
            (self.yes if enabled else self.no)[name] += 1
            if variant:
                self.variants[name, str(decision.variant)] += 1

    def many(self, count: int) -> None:
        """From four threads at once."""

        def some(first: int) -> None:
            for number in range(first, first + count):
                self.ask("rollout", f"user-{number}")
                self.ask("strategy.variants", f"user-{number}", variant=True)
                self.ask("nowhere", f"user-{number}")

        threads = [threading.Thread(target=some, args=(index * count,)) for index in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    @property
    def total(self) -> int:
        return sum(self.yes.values()) + sum(self.no.values())

    def of(self, name: str) -> dict[str, Any]:
        named = {variant: number for (flag, variant), number in self.variants.items() if flag == name}
        return {"yes": self.yes[name], "no": self.no[name], "variants": named}

    def _until_stored(self, server: Unleash, name: str, app: str) -> None:
        stop_s = time.monotonic() + 30
        while (stored := server.counted(name, app)) != self.of(name):
            assert time.monotonic() < stop_s, (stored, self.of(name))
            time.sleep(0.5)

    def are_stored(self, server: Unleash, app: str) -> None:
        """Exactly these have been stored, and no more come."""
        for name in ("rollout", "strategy.variants"):
            self._until_stored(server, name, app)
        time.sleep(4)  # whatever came twice would have been added up by now
        for name in ("rollout", "strategy.variants"):
            assert server.counted(name, app) == self.of(name)


def test_what_the_server_counts_is_what_was_asked_through_an_outage_of_ten_seconds(
    server: Unleash, features: list[str]
) -> None:
    with client(server, counted_at=server.url, app="outage") as ours:
        calls = Calls(ours)
        calls.many(500)
        assert ours.flush(20) == 0
        calls.are_stored(server, "outage")  # the server acknowledges counts a while before it has written them
        server.stop()
        stopped_s = time.monotonic()
        while time.monotonic() - stopped_s < 10:
            calls.many(20)
            time.sleep(0.25)
        usage = ours.status.usage
        assert usage is not None
        assert usage.link.failures > 0
        assert usage.account.pending > 0
        server.start()
        calls.many(100)
        until(lambda: ours.flush(5) == 0, 40, 0.5)
        usage = ours.status.usage
        assert usage is not None
        assert usage.account.balanced
        assert (usage.account.delivered, dict(usage.account.lost)) == (calls.total, {})
        calls.are_stored(server, "outage")


def test_counts_whose_answer_was_lost_are_never_stored_twice(server: Unleash, features: list[str]) -> None:
    with swallowing(server.port) as proxy, client(server, counted_at=proxy.url, app="swallowed") as ours:
        calls = Calls(ours)
        calls.many(50)
        assert ours.flush(20) == 0
        before = calls.total
        proxy.swallows = True
        calls.many(70)
        assert ours.flush(20) == 0
        swallowed = calls.total - before
        proxy.swallows = False
        calls.many(30)
        assert ours.flush(20) == 0
        usage = ours.status.usage
        assert usage is not None
        assert usage.account.balanced
        assert dict(usage.account.lost) == {"unconfirmed": swallowed}
        assert usage.account.delivered == calls.total - swallowed
        calls.are_stored(server, "swallowed")


class Swallowing:
    """A proxy that hands over requests, and answers too unless it swallows them."""

    def __init__(self, port: int) -> None:
        self.swallows = False
        self._to = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                asking, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._converse, args=(asking,), daemon=True).start()

    def _converse(self, asking: socket.socket) -> None:
        with asking, socket.create_connection(("127.0.0.1", self._to)) as answering:
            forward = threading.Thread(target=_pump, args=(asking, answering), daemon=True)
            forward.start()
            while piece := answering.recv(65536):
                if self.swallows:
                    break
                asking.sendall(piece)
            asking.shutdown(socket.SHUT_RDWR)
            forward.join(5)

    def close(self) -> None:
        self._listener.close()


def _pump(of: socket.socket, to: socket.socket) -> None:
    try:
        while piece := of.recv(65536):
            to.sendall(piece)
    except OSError:
        return


@contextmanager
def swallowing(port: int) -> Iterator[Swallowing]:
    proxy = Swallowing(port)
    try:
        yield proxy
    finally:
        proxy.close()


def test_a_bootstrap_serves_until_the_server_answers(server: Unleash, tmp_path: Path) -> None:
    document = {"version": 2, "features": [{"name": "brought", "enabled": True, "strategies": [{"name": "default"}]}]}
    source = sources.Unleash(server.url, token=CLIENT, bootstrap=document)
    with Client(source=source, config=Config(poll_interval_s=POLL_S, state_dir=tmp_path)) as ours:
        assert ours.enabled("brought", "user-1")
        until(lambda: ours.status.origin == "source", 10)
        assert ours.decide("brought", "user-1").error_code == "FLAG_NOT_FOUND"
