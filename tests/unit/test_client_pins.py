"""Within a scope a flag's first answer stays."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from documents import FLAGS, ON, SPLIT, Edited, document
from fakes import ScriptedSource, unavailable

from flagkit import Client, ErrorCode, Reason, scope
from flagkit.context import current_scope
from flagkit.sources import Fetched

Json = dict[str, Any]
Make = Callable[..., Client]


CHILD: Json = {"default": "on", "prerequisites": [{"flag": "parent", "variants": ["on"]}]}


def test_within_a_scope_an_answer_stays_the_same_whatever_is_published(make: Make, edited: Edited) -> None:
    client = make(source=edited)
    with scope("u"):
        told = client.decide("f")
        edited.edit(client, {"f": {**SPLIT, "salt": "other", "version": 2}, "g": {}})
        assert client.decide("f") is told
        assert client.decide("f", "u").version == "2"
        with scope("u"):
            assert client.decide("f").version == "2"
        assert client.enabled("g") is False, "asked for the first time"
        edited.edit(client, {"f": {**SPLIT, "version": 3}, "g": ON})
        assert client.decide("f") is told
        assert client.enabled("g") is False
    assert client.decide("f", "u").version == "3"
    with scope("u"):
        assert client.decide("f").version == "3"


def test_the_kill_switch_ends_a_pin(make: Make, edited: Edited) -> None:
    client = make(source=edited)
    with scope("u"):
        assert client.enabled("g")
        edited.edit(client, {"g": {"enabled": False}})
        assert client.decide("g").reason is Reason.DISABLED
        edited.edit(client, {"g": ON})
        assert not client.enabled("g"), "off stays off for the rest of the scope"


def test_the_kill_switch_of_a_parent_ends_the_pins_of_its_children(make: Make, edited: Edited) -> None:
    edited.script = [Fetched(document({"parent": ON, "child": CHILD}))]
    client = make(source=edited)
    with scope("u"):
        assert client.enabled("child")
        edited.edit(client, {"parent": {"enabled": False}, "child": CHILD})
        assert not client.enabled("child")


def test_a_flag_that_vanishes_keeps_its_pin(make: Make, edited: Edited) -> None:
    client = make(source=edited)
    with scope("u"):
        assert client.enabled("g")
        edited.edit(client, {"f": SPLIT})
        assert client.enabled("g")
    assert not client.enabled("g", "u")


def test_no_answer_is_not_pinned(make: Make) -> None:
    source = ScriptedSource(unavailable())
    client = make(source=source)
    with scope("u"):
        client._feed.poller.poll()
        assert client.decide("on").error_code is ErrorCode.PROVIDER_NOT_READY
        source.script = [Fetched(document(FLAGS))]
        client._feed.poller.poll()
        assert client.enabled("on")


def test_an_override_inside_a_scope_does_not_touch_the_pins(make: Make, edited: Edited) -> None:
    client = make(source=edited)
    with scope("u"):
        told = client.decide("f")
        with client.override({"f": "b"}):
            assert client.decide("f").reason is Reason.OVERRIDE
        edited.edit(client, {"f": {**SPLIT, "version": 2}})
        assert client.decide("f") is told
        with client.override({"g": False}):
            assert client.decide("f") is told


def test_pins_of_two_clients_are_two(make: Make) -> None:
    one, other = make({"f": ON}), make({"f": {}})
    with scope("u"):
        for _ in range(2):
            assert (one.enabled("f"), other.enabled("f")) == (True, False)


def test_what_is_remembered_in_a_scope_is_bounded_by_the_definitions(make: Make) -> None:
    client = make()
    with scope("u"):
        for number in range(1000):
            client.enabled(f"ghost-{number}")
            client.enabled("on", number)
        client.enabled("on")
        now = current_scope()
        assert now is not None
        assert len(now.pins) == 1
