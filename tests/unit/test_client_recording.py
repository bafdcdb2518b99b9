"""What the client's verbs record, and what overrides do."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from documents import StillClock, exposures
from fakes import WALL_MS, in_threads

from flagkit import Client, Config, Context, ErrorCode, Reason, scope, sinks

Json = dict[str, Any]
Make = Callable[..., Client]


# -- exposures ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "ask",
    [
        lambda client: client.enabled("on", "u"),
        lambda client: client.variant("on", "u"),
        lambda client: client.value("on", "u", default=False),
        lambda client: client.value("on", "u", default=None),
        lambda client: client.decide("on", "u"),
        lambda client: client.expose(client.peek("on", "u"), "u"),
    ],
)
def test_a_question_records_an_exposure_once_a_window(
    make: Make, sink: sinks.Memory, clock: StillClock, ask: Callable[[Client], Any]
) -> None:
    client = make()
    for _ in range(3):
        ask(client)
    assert exposures(client, sink) == [("on", "u", "on")]
    clock.advance(3600)
    client._recording._delivery.step()  # type: ignore[union-attr]
    for _ in range(3):
        ask(client)
    assert exposures(client, sink) == [("on", "u", "on")]


def test_each_unit_and_each_decision_is_recorded_by_itself(make: Make, sink: sinks.Memory) -> None:
    client = make()
    for _ in range(2):
        for flag in ("on", "off"):
            for unit in ("u", 7, "é"):
                client.enabled(flag, unit)
    seen = exposures(client, sink)
    assert sorted(seen) == sorted((flag, unit, flag) for flag in ("on", "off") for unit in ("u", "7", "é"))


@pytest.mark.parametrize(
    "ask",
    [
        lambda client: client.peek("on", "u"),
        lambda client: client.decide_all("u"),
        lambda client: client.explain("on", "u"),
        lambda client: client.enabled("ghost", "u"),
        lambda client: client.enabled("on"),
        lambda client: client.enabled("on", {"plan": "pro"}),
        lambda client: client.enabled("on", None),
        lambda client: client.enabled("on", b"u"),
        lambda client: client.enabled("on", Context("u", synthetic=True)),
        lambda client: client.enabled("on", {"unit": "u", "synthetic": True}),
        lambda client: client.value("text", "u", default=1),
    ],
)
def test_these_record_nothing(make: Make, sink: sinks.Memory, ask: Callable[[Client], Any]) -> None:
    client = make()
    ask(client)
    assert exposures(client, sink) == []
    account = client.status.account
    assert account is not None
    assert account.recorded == 0


def test_prerequisites_are_not_recorded_for_their_children(make: Make, sink: sinks.Memory) -> None:
    client = make()
    for number in range(20):
        client.enabled("child", number)
    assert {flag for flag, _, _ in exposures(client, sink)} == {"child"}


def test_an_overridden_flag_is_not_recorded(make: Make, sink: sinks.Memory) -> None:
    client = make()
    with client.override({"on": False, "half": True}):
        client.enabled("on", "u")
        client.enabled("half", "u")
        client.enabled("off", "u")
    assert exposures(client, sink) == [("off", "u", "off")]


def test_a_flag_that_answers_by_an_overridden_parent_is_not_recorded(make: Make, sink: sinks.Memory) -> None:
    client = make()
    (unit,) = [number for number in range(20) if not client.peek("parent", number).enabled][:1]
    with client.override({"parent": True}):
        for context in (unit, Context(unit)):
            assert client.enabled("child", context)
            assert client.variant("child", context) == "on"
            assert client.value("child", context, default=False)
            with client.gate("child", context) as gate:
                assert gate.on
        with scope(unit):
            assert client.decide("child").reason is Reason.DEFAULT
            assert not client.decide("child").analysable
    assert exposures(client, sink) == []
    assert client.status.variants == ()
    with client.override({"split": "b"}):  # one that makes no difference to it
        client.enabled("child", unit)
    assert exposures(client, sink) == [("child", str(unit), "off")]


def test_two_clients_send_the_same_id_for_the_same_exposure(make: Make, sink: sinks.Memory) -> None:
    for client in (make(environment="test"), make(environment="test")):
        client.enabled("split", "u")
        client.flush()
    one, other = (event["id"] for event in sink.events)
    assert one == other


def test_an_exposure_is_labelled_with_the_environment(make: Make, sink: sinks.Memory) -> None:
    for client in (make(), make(environment="staging"), make(config=Config(environment="production"))):
        client.enabled("on", "u")
        client.flush()
    assert [event["feature_flag.set.id"] for event in sink.events] == [None, "staging", "production"]


def test_without_a_sink_nothing_is_recorded_or_remembered(make: Make) -> None:
    client = make(sink=None)
    client.enabled("on", "u")
    client.track("event", "u")
    assert client.decide("on", "u")._exposed is None
    assert (client.status.account, client.status.sink) == (None, None)
    assert client.flush() == client.close() == 0


def test_a_metric_event_carries_the_unit_and_nothing_else_of_the_context(make: Make, sink: sinks.Memory) -> None:
    client = make(environment="test")
    with scope("u", email="anna@example.com"):
        client.track("purchase", value=9.5, currency="SEK")
    client.track("visit", {"unit": 7, "email": "anna@example.com"})
    client.track("start")
    client.track("probe", Context("u", synthetic=True))
    client.flush()
    assert [(event["name"], event["feature_flag.context.id"], event["value"]) for event in sink.events] == [
        ("purchase", "u", 9.5),
        ("visit", "7", None),
        ("start", None, None),
    ]
    assert "anna" not in str(sink.events)
    assert sink.events[0]["properties"] == {"currency": "SEK"}
    assert sink.events[0]["time_ms"] == WALL_MS


def test_properties_may_have_any_name_but_value(make: Make, sink: sinks.Memory) -> None:
    client = make()
    client.track("e", "u", event=1, context=2, self=3, unit=4)
    client.flush()
    assert sink.events[0]["properties"] == {"event": 1, "context": 2, "self": 3, "unit": 4}


# -- overrides ---------------------------------------------------------------------------------------------------------


def test_an_override_holds_inside_its_block_and_for_children(make: Make) -> None:
    client = make()
    before = [client.enabled("child", number) for number in range(20)]
    with client.override({"parent": True}):
        assert all(client.enabled("child", number) for number in range(20))
        with client.override({"parent": False}):
            assert not any(client.enabled("child", number) for number in range(20))
        with client.override({"split": "b", "text": "o"}):
            assert (client.variant("split", "u"), client.value("text", "u", default="z")) == ("b", "z")
            assert client.enabled("child", 1)
            assert client.decide_all("u")["split"].reason is Reason.OVERRIDE
            assert client.explain("split", "u").steps[0].name == "override"
    assert [client.enabled("child", number) for number in range(20)] == before


def test_an_override_that_means_nothing_changes_nothing(make: Make) -> None:
    client = make()
    with client.override({"on": "purple", "ghost": True, "off": ""}):
        assert client.decide("on", "u").reason is Reason.STATIC
        assert client.decide("ghost", "u").error_code is ErrorCode.FLAG_NOT_FOUND
        assert client.decide("off", "u").reason is Reason.STATIC


def test_overrides_of_one_task_are_not_seen_by_others(make: Make) -> None:
    client = make()

    async def work(number: int) -> list[bool]:
        seen = []
        with client.override({"on": number % 2 == 0}):
            for _ in range(5):
                await asyncio.sleep(0)
                seen.append(client.enabled("on", number))
        return seen

    async def main() -> list[list[bool]]:
        return await asyncio.gather(*map(work, range(10)))

    for number, seen in enumerate(asyncio.run(main())):
        assert seen == [number % 2 == 0] * 5


def test_overrides_of_one_thread_are_not_seen_by_others(make: Make) -> None:
    client = make()
    seen: dict[int, set[bool]] = {}

    def work(index: int) -> None:
        with client.override({"on": index % 2 == 0}):
            seen[index] = {client.enabled("on", index) for _ in range(200)}

    in_threads(4, work)
    assert seen == {index: {index % 2 == 0} for index in range(4)}
    with client.override({"on": False}), ThreadPoolExecutor(1) as pool:
        assert pool.submit(client.enabled, "on", "u").result() is True
