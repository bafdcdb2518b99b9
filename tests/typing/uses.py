"""How applications use flagkit, as type checkers see it. Not run: mypy and pyright read it (test_typing.py).

A line with an expectation has exactly that error; a checker that finds none complains about the needless expectation.
"""

from __future__ import annotations

from typing import Any, assert_type
from uuid import UUID

import flagkit
from flagkit import Client, Config, Context, Decision, Flag, sinks, sources

MAX_ITEMS = Flag("max-items", default=10)
RATIO = Flag("ratio", default=0.5, owner="search")
TITLE = Flag("title", default="", expires="2027-06-30")
DARK = Flag("dark", default=False)
LIMITS = Flag("limits", default={"items": 10})
NAMES: Flag[list[str]] = Flag("names", default=[])
MAYBE: Flag[int | None] = Flag("maybe", default=None)


def values(client: Client) -> None:
    assert_type(client.value(MAX_ITEMS), int)
    assert_type(client.value(RATIO, "user-1"), float)
    assert_type(client.value(TITLE, Context("user-1")), str)
    assert_type(client.value(DARK), bool)
    assert_type(client.value(LIMITS), dict[str, int])
    assert_type(client.value(NAMES), list[str])
    assert_type(client.value(MAYBE), int | None)
    assert_type(client.value("max-items", default=10), int)
    assert_type(client.value("max-items", {"unit": "user-1"}, default=""), str)
    assert_type(client.value("max-items", default=None), None)
    assert_type(flagkit.value(MAX_ITEMS), int)
    assert_type(flagkit.value("max-items", 7, default=1.5), float)
    text: str = client.value(MAX_ITEMS)  # type: ignore[assignment]
    client.value("max-items")  # type: ignore[call-overload]
    client.value("max-items", "user-1", 10)  # type: ignore[call-overload]
    client.value(7, default=1)  # type: ignore[call-overload]
    flagkit.value("max-items")  # type: ignore[call-overload]
    print(text)


def answers(client: Client, user: UUID) -> None:
    assert_type(client.enabled(DARK, user), bool)
    assert_type(client.enabled("dark", 7, default=True), bool)
    assert_type(client.variant("dark"), str | None)
    assert_type(client.variant("dark", default="on"), str | None)
    assert_type(client.decide("dark", None), Decision)
    assert_type(client.peek(DARK), Decision)
    assert_type(client.enroll(DARK, user), bool)
    assert_type(client.unenroll("dark"), bool)
    client.feedback(DARK, score=4, text="good", context=user)
    client.feedback("dark", 4)  # type: ignore[call-arg]
    assert_type(client.decide_all(), dict[str, Decision])
    assert_type(client.explain("dark").text(), str)
    assert_type(flagkit.enabled(DARK), bool)
    assert_type(flagkit.decide("dark"), Decision)
    assert_type(client.decide("dark").reason, flagkit.Reason)
    client.enabled()  # type: ignore[call-arg]
    client.enabled("dark", default="yes")  # type: ignore[arg-type]
    client.variant("dark", default=7)  # type: ignore[arg-type]
    client.decide("dark", default=True)  # type: ignore[call-arg]


def recording(client: Client) -> None:
    client.track("purchase", "user-1", value=9.5, currency="SEK", items=[1, 2])
    client.track("purchase", value=1)
    flagkit.track("visit", Context("user-1"))
    client.track("purchase", "user-1", value="much")  # type: ignore[arg-type]
    client.track(event="purchase")  # type: ignore[call-arg]


def scopes(client: Client) -> None:
    with flagkit.scope("user-1", plan="pro") as context:
        assert_type(context, Context)
    with client.override({"dark": True, "title": "long"}):
        pass
    with client.override({"dark": 7}):  # type: ignore[dict-item]
        pass
    with Client(source=sources.Static({})) as inside:
        assert_type(inside, Client)


async def invocations(client: Client) -> None:
    with client.invocation() as given:
        assert_type(given, Client)
    async with client.invocation(timeout_s=0.3) as given:
        assert_type(given, Client)

    @client.invocation()
    async def handle(event: dict[str, int]) -> bool:
        return client.enabled("dark", event["user"])

    assert_type(await handle({"user": 1}), bool)
    await handle("event")  # type: ignore[arg-type]
    client.invocation()("handle")  # type: ignore[arg-type]


def construction() -> None:
    Client("https://flags.example.com", key="sesame", config=Config(poll_interval_s=5), sink=None)
    Client(source=sources.File("flags.json"), sink=sinks.Memory())
    Client.from_file("flags.json", sink=sinks.Log())
    flagkit.configure("https://flags.example.com", key="sesame")
    Client("https://flags.example.com", "sesame")  # type: ignore[call-arg]
    Client(source="flags.json")  # type: ignore[arg-type]
    Client(source=sources.Static({}), sink=sinks.Memory)  # type: ignore[arg-type]
    Config(poll_interval=5)  # type: ignore[call-arg]
    Config(batch_size="many")  # type: ignore[arg-type]
    Flag("no-default")  # type: ignore[call-arg]
    Context("user-1", plan="pro")  # type: ignore[call-arg]


def contexts(anything: Any, client: Client) -> None:
    assert_type(Context(anything).unit_text, str | None)
    Context("user-1", {"plan": "pro", "age": 7}, enrolments={"dark": True}, synthetic=True)
    client.enabled(MAX_ITEMS, {"unit": 7, "plan": "pro"})
    client.status.ready = True  # type: ignore[misc]


class MySource:
    """A source of somebody's own needs no base class."""

    name = "mine"
    dialect = "native"
    local = True

    def fetch(
        self, validator: str | None, *, deadline_s: float, max_bytes: int
    ) -> sources.Fetched | sources.NotModified:
        return sources.Fetched(b"{}")

    def close(self) -> None: ...
    def after_fork(self) -> None: ...


class NotASource:
    name = "mine"


def own_parts() -> None:
    Client(source=MySource())
    Client(source=NotASource())  # type: ignore[arg-type]


def gates(client: Client) -> None:
    def old(query: str, user: int) -> list[str]:
        return [query]

    @client.gate("new-search", unit_from="user", otherwise=old)
    def search(query: str, user: int) -> list[str]:
        return [query, query]

    @flagkit.gate("new-search", otherwise=old, guard=flagkit.GuardPolicy(alpha=0.001))
    async def later(query: str) -> int:
        return len(query)

    assert_type(search("shoes", 7), list[str])
    search(7, 7)  # type: ignore[arg-type]
    search("shoes", nobody=7)  # type: ignore[call-arg]
    with client.gate("new-search", 7) as gate:
        assert_type(gate.on, bool)
        assert_type(gate.variant, str | None)
        gate.fail("empty")
    print(later(7))  # type: ignore[arg-type]
    flagkit.GuardPolicy(alhpa=1)  # type: ignore[call-arg]


def shadows(client: Client) -> None:
    def rank_v2(documents: list[str]) -> list[str]:
        return documents

    @client.shadow("new-ranker", candidate=rank_v2, policy=flagkit.ShadowPolicy(mode="inline"))
    def rank(documents: list[str]) -> list[str]:
        return documents

    @flagkit.shadow("new-ranker", rank_v2, context="user-1")
    async def later(documents: list[str]) -> int:
        return len(documents)

    assert_type(rank(["a"]), list[str])
    assert_type(flagkit.in_shadow(), bool)
    rank(7)  # type: ignore[arg-type]
    print(later(7))  # type: ignore[arg-type]
    flagkit.ShadowPolicy(modus="pool")  # type: ignore[call-arg]
