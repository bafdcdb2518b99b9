"""Verbs that count: one call once, with the answer that was given, and only where a sink wants to know."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from test_usage import Scripted

from flagkit import Client, Context, Flag, scope, sources
from flagkit.errors import ConfigError
from flagkit.events import FlagUsage
from flagkit.sinks import Memory

Json = dict[str, Any]
FLAGS: Json = {
    "on": {"default": "on"},
    "off": {},
    "colour": {"variants": {"red": "r", "none": ""}, "off": "none", "default": "red"},
    "child": {"default": "on", "prerequisites": [{"flag": "on", "variants": ["on"]}]},
}


class Rig:
    def __init__(self, events: Memory | None = None) -> None:
        self.sink = Scripted()
        self.sink.events = events  # type: ignore[assignment]
        self.client = Client(source=sources.Static(json.dumps({"schema": 1, "flags": FLAGS})), sink=self.sink)

    @property
    def counted(self) -> dict[str, FlagUsage]:
        self.client.flush()
        found = {}
        for usage in self.sink.asked:
            found.update(usage.flags)
        self.sink.asked.clear()
        return found


@pytest.fixture
def rig() -> Iterator[Rig]:
    made = Rig()
    yield made
    made.client.close()


def test_enabled_counts_the_answer_and_the_others_the_variant_too(rig: Rig) -> None:
    client = rig.client
    assert client.enabled("on", "u")
    assert not client.enabled("off", {"unit": "u"})
    assert client.variant("colour", "u") == "red"
    assert client.value("colour", Context("u"), default="x") == "r"
    assert client.decide("colour").variant == "red"
    assert rig.counted == {
        "on": FlagUsage(1, 0, {}),
        "off": FlagUsage(0, 1, {}),
        "colour": FlagUsage(3, 0, {"red": 3}),
    }


def test_every_call_counts_whatever_it_is_asked_for(rig: Rig) -> None:
    for _ in range(3):
        rig.client.enabled("on", "u")  # the same unit again
        rig.client.enabled("on")  # none
        rig.client.enabled("on", None)
        rig.client.enabled("on", object())  # an invalid one
    assert rig.counted["on"].calls == 12


def test_gates_count_as_their_calls_run_and_openfeature_s_way_counts_once(rig: Rig) -> None:
    with rig.client.gate("on", "u") as gate:
        assert gate.on
    decision = rig.client.peek("off", "u")
    rig.client.expose(decision, "u")
    assert rig.counted == {"on": FlagUsage(1, 0, {"on": 1}), "off": FlagUsage(0, 1, {"off": 1})}


def test_looking_is_not_asking(rig: Rig) -> None:
    rig.client.peek("on", "u")
    rig.client.decide_all("u")
    rig.client.explain("on", "u")
    rig.client.enabled("child", "u")  # its parent was not asked for
    assert rig.counted == {"child": FlagUsage(1, 0, {})}


def test_probes_and_forced_answers_are_not_counted(rig: Rig) -> None:
    rig.client.enabled("on", Context("u", synthetic=True))
    rig.client.decide("on", {"unit": "u", "synthetic": True})
    with rig.client.override({"off": True}):
        assert rig.client.enabled("off", "u")
        rig.client.enabled("on", "u")
    with rig.client.override({"on": False}):  # nor what depends on them
        assert not rig.client.enabled("child", "u")
        rig.client.variant("child", "u")
    assert rig.counted == {"on": FlagUsage(1, 0, {})}


def test_inside_a_scope_a_call_counts_once(rig: Rig) -> None:
    with scope("u"), rig.client.override({"off": True}):
        rig.client.enabled("on")
        rig.client.variant("colour")
    assert rig.counted == {"on": FlagUsage(1, 0, {}), "colour": FlagUsage(1, 0, {"red": 1})}


def test_what_is_not_there_counts_as_the_answer_that_was_given(rig: Rig) -> None:
    assert not rig.client.enabled("nowhere", "u")
    assert rig.client.enabled("nowhere", "u", default=True)
    assert rig.client.enabled(Flag("elsewhere", default=True), "u")
    counted = rig.counted
    assert counted == {"nowhere": FlagUsage(1, 1, {}), "elsewhere": FlagUsage(1, 0, {})}
    assert rig.client.status.errors == {"FLAG_NOT_FOUND": 3}


def test_events_go_where_the_sink_says() -> None:
    memory = Memory()
    rig = Rig(memory)
    assert rig.client.enabled("on", "u")
    assert rig.client.value("colour", "u", default="") == "r"
    rig.client.track("paid", "u")
    assert rig.client.flush() == 0
    assert [event["type"] for event in memory.events] == ["exposure", "exposure", "metric"]
    status = rig.client.status
    assert status.account is not None
    assert status.account.delivered == 3
    assert status.usage is not None
    assert status.usage.account.delivered == 2
    assert rig.client.close() == 0


def test_without_events_nothing_is_recorded(rig: Rig) -> None:
    rig.client.track("paid", "u")
    assert (rig.client.status.account, rig.client.status.sink) == (None, None)


def test_other_clients_verbs_are_what_they_were() -> None:
    client = Client(source=sources.Static({"schema": 1, "flags": FLAGS}), sink=Memory())
    assert {"enabled", "decide", "value", "variant", "choose", "expose", "_asked"}.isdisjoint(vars(client))
    assert client.status.usage is None
    client.close()


def test_what_is_no_sink_is_refused() -> None:
    with pytest.raises(ConfigError, match="sink"):
        Client(source=sources.Static({"schema": 1, "flags": {}}), sink=object())  # type: ignore[arg-type]
