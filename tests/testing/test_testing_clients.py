"""A client of given flags, with all its parts at work, and the clock that it may be given."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from flagkit import Config, ConfigError
from flagkit.testing import Exposed, FakeClock, MemorySink, Tracked, exposures_in, make_client, tracked_in


def test_it_answers_as_given_and_its_exposures_reach_the_sink() -> None:
    sink = MemorySink()
    team = {"rules": [{"name": "team", "when": [{"segment": "team"}], "serve": "on"}]}
    flags = {"a": True, "b": False, "c": "blue", "d": team, "e": "off"}
    with make_client(flags, segments={"team": {"units": ["ann"]}}, sink=sink) as client:
        assert [client.variant(flag, "ann") for flag in flags] == ["on", "off", "blue", "on", "off"]
        client.track("paid", "ann", currency="SEK")
        client.track("flagkit.own", "ann")  # as flagkit tracks some of its own accord
        assert client.flush() == 0
    assert exposures_in(sink) == [
        Exposed("a", "on", "ann", "STATIC"),
        Exposed("b", "off", "ann", "DISABLED"),
        Exposed("c", "blue", "ann", "STATIC"),
        Exposed("d", "on", "ann", "TARGETING_MATCH", "team"),
        Exposed("e", "off", "ann", "DISABLED"),
    ]
    assert tracked_in(sink) == [Tracked("paid", "ann", None, {"currency": "SEK"})]


def test_it_goes_by_the_clock_and_the_settings_it_is_given() -> None:
    clock, sink = FakeClock(), MemorySink()
    client = make_client({"f": True}, sink=sink, clock=clock, config=Config(environment="test"))
    for unit in ("ann", "bo"):
        client.enabled("f", unit)
        clock.advance(3600)
    client.close()
    assert [event["time_ms"] for event in sink.events] == [1_767_225_600_000, 1_767_229_200_000]
    assert {event["feature_flag.set.id"] for event in sink.events} == {"test"}


@pytest.mark.parametrize(
    ("flags", "field"), [({"f": 1}, "flags['f']"), ({"f": {"default": "blue"}}, "flags['f']"), ([], "flags")]
)
def test_a_wrong_flag_is_named(flags: Any, field: str) -> None:
    with pytest.raises(ConfigError) as raised:
        make_client(flags)
    assert raised.value.field == field


def test_the_clock_stands_still_until_it_is_advanced() -> None:
    clock = FakeClock(5_000)
    assert (clock.monotonic_s(), clock.wall_ms()) == (0, 5_000)
    clock.advance(1.5)
    assert (clock.monotonic_s(), clock.wall_ms()) == (1.5, 6_500)


def test_whoever_waits_on_the_clock_goes_on_when_that_time_has_passed() -> None:
    clock, event, ended = FakeClock(), threading.Event(), []
    thread = threading.Thread(target=lambda: ended.append(clock.wait(event, 60)))
    thread.start()
    clock.advance(59)
    thread.join(0.05)
    assert thread.is_alive()
    clock.advance(1)
    thread.join(10)
    assert ended == [False]


def test_whoever_waits_on_the_clock_goes_on_when_what_it_waits_for_happens() -> None:
    clock, event, ended = FakeClock(), threading.Event(), []
    thread = threading.Thread(target=lambda: ended.append(clock.wait(event, 60)))
    thread.start()
    event.set()
    thread.join(10)
    assert ended == [True]
    assert clock.wait(event, 0)
    assert clock.monotonic_s() == 0


@pytest.mark.parametrize("wall_ms", [-1, 1.5, True, "now"])
def test_a_clock_names_a_wrong_beginning(wall_ms: Any) -> None:
    with pytest.raises(ConfigError, match=r"^wall_ms: "):
        FakeClock(wall_ms)


@pytest.mark.parametrize("seconds", [-1, float("nan"), float("inf"), True, "1"])
def test_a_clock_names_what_it_cannot_be_advanced_by(seconds: Any) -> None:
    with pytest.raises(ConfigError, match=r"^seconds: "):
        FakeClock().advance(seconds)
