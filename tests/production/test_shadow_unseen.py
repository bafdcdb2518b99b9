"""In a shadow run nothing is exposed, tracked, counted or fed to a guard, and no answer is pinned for the caller."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from shadows import Bench

from flagkit import Client, Context, Decision, Reason, ShadowPolicy, in_shadow, scope, sinks, sources
from flagkit.context import current_scope
from flagkit.counting import count_calls
from flagkit.production.branch import UNCOUNTED

ROLLOUT = {"rules": [{"name": "r", "rollout": {"percent": 100}, "serve": "on"}]}
FLAGS: dict[str, Any] = {"f": {"default": "on"}, "g": {**ROLLOUT, "guard": {"metrics": ["order"]}}, "h": ROLLOUT}


@pytest.fixture
def bench() -> Iterator[Bench]:
    bench = Bench(FLAGS)
    yield bench
    bench.client.close()


def asks(client: Client) -> list[Callable[[], object]]:
    """Everything that records when it is not in a shadow run, once the client has its answers."""

    def with_gate() -> object:
        with client.gate("g", "u") as gate:
            return gate.on

    gated = client.gate("g", "u", otherwise=lambda: "control")(lambda: "candidate")
    answered = client.peek("h", "u")
    return [
        lambda: client.enabled("h", "u"),
        lambda: client.enabled("h", {"unit": "u"}),
        lambda: client.variant("h", "u"),
        lambda: client.value("h", "u", default=False),
        lambda: client.decide("h", "u").variant,
        lambda: client.expose(answered, "u"),
        lambda: client.expose(client.peek("h", "u"), "u"),
        with_gate,
        gated,
        lambda: client.track("order", "u"),
    ]


@pytest.mark.parametrize("index", range(10))
@pytest.mark.parametrize("mode", ["inline", "pool"])
def test_what_a_candidate_asks_is_answered_and_recorded_nowhere(bench: Bench, index: int, mode: str) -> None:
    alone = Bench(FLAGS)
    answer = asks(alone.client)[index]()
    ask = asks(bench.client)[index]
    bench.shadow(ask, lambda: None, mode=mode)()
    result = bench.result()
    assert (result.candidate.value, result.candidate.exception) == (answer, None)
    alone.client.flush()
    bench.client.flush()

    def kinds(bench: Bench) -> set[str]:
        return {str(event.get("name", event["type"])) for event in bench.sink.events}

    assert kinds(alone) & {"exposure", "order"}  # it would be recorded elsewhere
    assert kinds(bench) == {"flagkit.shadow"}
    assert bench.client.status.variants == ()
    alone.client.close()


def test_an_answer_in_a_shadow_tries_nothing_that_was_rolled_back() -> None:
    tripped = Decision("f", "on", True, Reason.SPLIT, exposed=set())
    instead = Decision("f", "off", False, Reason.GUARD, exposed=set(), instead_of=tripped)
    unseen = instead.unseen(UNCOUNTED)
    assert (unseen.variant, unseen.reason, unseen._branch) == ("off", Reason.GUARD, UNCOUNTED)
    assert (unseen._exposed, unseen._instead_of) == (None, None)
    assert (instead._exposed, instead._instead_of, instead._branch) == (set(), tripped, None)


def test_only_the_candidate_is_in_a_shadow(bench: Bench) -> None:
    seen: list[bool] = []
    assert in_shadow() is False
    bench.shadow(
        lambda: seen.append(in_shadow()),
        lambda: seen.append(in_shadow()),
        mode="inline",
        publish=lambda _: seen.append(in_shadow()),
    )()
    assert sorted(seen) == [False, False, True]
    assert in_shadow() is False


def test_scopes_overrides_and_tasks_inside_a_candidate_are_in_its_shadow(bench: Bench) -> None:
    async def control() -> list[object]:
        return [True] * 4

    async def within() -> bool:
        return in_shadow()

    async def candidate() -> list[object]:
        found: list[object] = [in_shadow()]
        with scope("someone else"):
            found.append(in_shadow() and bench.client.enabled("h"))
        with bench.client.override({"h": True}):
            found.append(in_shadow())
        return [*found, await asyncio.create_task(within())]

    assert all(asyncio.run(bench.shadow(candidate, control, mode="inline")()))
    assert bench.result().outcome == "match"
    bench.client.flush()
    assert [event["type"] for event in bench.sink.events if event["type"] == "exposure"] == []


def test_a_candidate_goes_by_its_callers_answers_and_pins_none(bench: Bench) -> None:
    def ask() -> Any:
        return bench.client.variant("h"), bench.client.variant("g")

    with scope("u"), bench.client.override({"g": False}):
        bench.shadow(ask, lambda: ("on", "off"), mode="inline")()
        assert bench.result().outcome == "match"
    with scope(Context("u")):
        bench.shadow(lambda: bench.client.enabled("h"), lambda: True, mode="pool")()
        bench.result()
        assert current_scope().pins == {}  # type: ignore[union-attr]
        bench.client.flush()
        before = len(bench.sink.events)
        assert bench.client.enabled("h")  # answered anew, and exposed
        bench.client.flush()
        assert len(bench.sink.events) == before + 1


def test_publish_may_track(bench: Bench) -> None:
    bench.shadow(lambda: 1, lambda: 1, mode="inline", publish=lambda _: bench.client.track("compared", "u"))()
    assert len(bench.events("compared")) == 1


def test_a_thread_that_a_candidate_starts_does_not_know(bench: Bench) -> None:
    seen: list[bool] = []

    def candidate() -> None:
        thread = threading.Thread(target=lambda: seen.append(in_shadow()))
        thread.start()
        thread.join()

    bench.shadow(candidate, lambda: None, mode="inline")()
    assert seen == [False]  # as the manual says


def test_calls_of_a_shadow_are_not_counted_for_a_backend() -> None:
    client = Client(source=sources.Static({"schema": 1, "flags": FLAGS}), sink=sinks.Memory())
    counted: list[str] = []
    count_calls(client, lambda flag, enabled, variant: counted.append(flag))

    def ask() -> Any:
        return client.enabled("h", "u"), client.variant("h", "u"), client.gate("h", "u", otherwise=str)(str)()

    client.shadow("f", ask, policy=ShadowPolicy(mode="inline"))(ask)()
    assert counted == ["h"] * 3
    client.close()
