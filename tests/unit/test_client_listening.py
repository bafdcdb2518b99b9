"""Handlers of a client's events, and refreshing on demand."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import Any

import pytest
from documents import ON, StillClock, document
from fakes import ScriptedSource, unavailable

from flagkit import Client, Config, ConfigError, EventDetails
from flagkit.errors import FetchError
from flagkit.sources import Fetched, NotModified

Make = Callable[..., Client]
OFF = {"enabled": False}
CHILD = {"prerequisites": [{"flag": "a", "variants": ["on"]}], "default": "on"}


class Heard:
    """A handler that keeps what it is told, for a test to wait for."""

    def __init__(self) -> None:
        self._queue: queue.Queue[EventDetails] = queue.Queue()

    def __call__(self, details: EventDetails) -> None:
        self._queue.put(details)

    def next(self) -> EventDetails:
        return self._queue.get(timeout=10)

    @property
    def silent(self) -> bool:
        return self._queue.empty()


def scripted(*flags: dict[str, Any]) -> ScriptedSource:
    return ScriptedSource(*[Fetched(document(each)) for each in flags])


def test_a_change_names_the_flags_that_may_answer_differently_and_those_that_depend_on_them(make: Make) -> None:
    before = {
        "a": ON,
        "b": ON,
        "child": CHILD,
        "grandchild": {**CHILD, "prerequisites": [{"flag": "child", "variants": ["on"]}]},
    }
    client = make(source=scripted(before, {**before, "a": OFF, "new": ON}))
    heard = Heard()
    client.add_handler("configuration_changed", heard)
    assert client.wait_ready(10)
    assert client.refresh(10)
    assert heard.next() == EventDetails("configuration_changed", frozenset({"a", "child", "grandchild", "new"}))
    assert heard.silent


def test_a_flag_that_vanishes_has_changed_and_an_equal_document_changes_nothing(make: Make) -> None:
    client = make(source=scripted({"a": ON, "b": ON}, {"a": ON, "b": ON}, {"a": ON}))
    heard = Heard()
    client.add_handler("configuration_changed", heard)
    assert client.wait_ready(10)
    assert client.refresh(10)
    assert client.refresh(10)
    assert heard.next().flags_changed == {"b"}
    assert heard.silent


def test_ready_is_told_once_and_at_once_to_whoever_comes_later(make: Make) -> None:
    client = make(source=scripted({"a": ON}))
    early, late = Heard(), Heard()
    client.add_handler("ready", early)
    assert early.silent
    assert client.wait_ready(10)
    assert early.next() == EventDetails("ready")
    client.add_handler("ready", late)
    assert late.next() == EventDetails("ready")
    assert client.refresh(10)
    assert early.silent


def test_definitions_in_the_program_are_ready_with_the_first_question(make: Make) -> None:
    client, heard = make(), Heard()
    client.add_handler("ready", heard)
    client.enabled("on", "u")
    assert heard.next().event == "ready"


def test_a_refused_key_is_an_error_and_its_return_is_ready(make: Make) -> None:
    source = ScriptedSource(FetchError("http_401", "the key is refused", lasting=True))
    client = make(source=source)
    error, ready = Heard(), Heard()
    client.add_handler("error", error)
    client.add_handler("ready", ready)
    client.start()
    told = error.next()
    assert told.event == "error"
    assert "401" in (told.message or "")
    source.script = [Fetched(document({"a": ON}))]
    client._feed.worker.wake()
    assert ready.next().event == "ready"


def test_definitions_nobody_confirms_any_more_are_stale_until_somebody_does(make: Make, clock: StillClock) -> None:
    source = ScriptedSource(Fetched(document({"a": ON})))
    client = make(source=source, config=Config(poll_interval_s=10))
    stale, ready = Heard(), Heard()
    client.add_handler("stale", stale)
    client.add_handler("ready", ready)
    client._feed.poll()
    assert ready.next().event == "ready"
    source.script = [unavailable()]
    for _ in range(8):
        clock.advance(10)
        client._feed.poll()
    assert stale.next().event == "stale"
    source.script = [Fetched(document({"a": ON}))]
    client._feed.poll()
    assert ready.next().event == "ready"
    assert stale.silent


@pytest.mark.parametrize("event", ["PROVIDER_READY", "", None, []])
def test_an_event_there_is_not_is_said_at_once(make: Make, event: Any) -> None:
    with pytest.raises(ConfigError, match="one of ready, configuration_changed, stale, error, alert"):
        make().add_handler(event, print)


def test_a_handler_that_is_no_function_is_said_at_once(make: Make) -> None:
    with pytest.raises(ConfigError, match="handler"):
        make().add_handler("ready", 7)  # type: ignore[arg-type]


def test_a_removed_handler_is_not_called(make: Make) -> None:
    client = make(source=scripted({"a": ON}, {"a": OFF}))
    removed, kept = Heard(), Heard()
    client.add_handler("configuration_changed", removed)
    client.add_handler("configuration_changed", kept)
    client.remove_handler("configuration_changed", removed)
    client.remove_handler("ready", removed)
    assert client.wait_ready(10)
    assert client.refresh(10)
    kept.next()
    assert removed.silent


def test_a_handler_that_raises_is_contained_and_the_next_one_is_called(
    make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    def raising(details: EventDetails) -> None:
        raise RuntimeError("its own affair")

    client, heard = make(source=scripted({"a": ON}, {"a": OFF}, {"a": ON})), Heard()
    client.add_handler("configuration_changed", raising)
    client.add_handler("configuration_changed", heard)
    assert client.wait_ready(10)
    for _ in range(2):
        assert client.refresh(10)
        assert heard.next().flags_changed == {"a"}
    assert "a handler of configuration_changed raised" in caplog.text
    assert client.status.worker_faults == 0


def test_a_handler_that_blocks_holds_up_no_answer_and_what_it_misses_is_merged(make: Make) -> None:
    entered, leave, told = threading.Event(), threading.Event(), []

    def blocking(details: EventDetails) -> None:
        told.append(details)
        entered.set()
        leave.wait(10)

    flags = {"a": ON, "b": ON, "c": ON}
    client = make(
        source=scripted(flags, flags | {"a": OFF}, flags | {"a": OFF, "b": OFF}, {"a": OFF, "b": OFF, "c": OFF})
    )
    client.add_handler("configuration_changed", blocking)
    assert client.wait_ready(10)
    assert client.refresh(10)
    assert entered.wait(10)
    assert client.refresh(10)
    assert client.refresh(10)
    assert not client.enabled("c", "u")
    entered.clear()
    leave.set()
    assert entered.wait(10)
    assert [details.flags_changed for details in told] == [{"a"}, {"b", "c"}]


def test_a_slow_handler_is_named_in_the_log(make: Make, clock: StillClock, caplog: pytest.LogCaptureFixture) -> None:
    client, heard = make(), Heard()
    client.add_handler("ready", lambda _: clock.advance(1.5))
    client.add_handler("ready", heard)
    client.start()
    heard.next()
    assert "a handler of ready took 1.5 s" in caplog.text


def test_a_handler_may_flush_and_close_the_client_that_calls_it(make: Make) -> None:
    closed = threading.Event()
    client = make(source=scripted({"a": ON}, {"a": OFF}))

    def closing(details: EventDetails) -> None:
        client.flush()
        client.close()
        closed.set()

    client.add_handler("configuration_changed", closing)
    assert client.wait_ready(10)
    client.refresh(10)
    assert closed.wait(10)


def test_refresh_asks_now_and_says_whether_the_source_confirmed(make: Make) -> None:
    source = ScriptedSource(Fetched(document({"a": ON}), "1"), NotModified(), unavailable())
    client = make(source=source)
    assert client.wait_ready(10)
    assert client.refresh(10)
    assert source.asked == [None, "1"]
    assert not client.refresh(0.2)


def test_refresh_leaves_a_failing_source_its_pace(make: Make) -> None:
    source = ScriptedSource(unavailable())
    client = make(source=source, config=Config(poll_interval_s=3600))
    assert not client.wait_ready(0.2)
    asked = len(source.asked)
    for _ in range(5):
        assert not client.refresh(0.01)
    assert len(source.asked) == asked


def test_refresh_after_close_waits_for_nothing(make: Make) -> None:
    client = make(source=scripted({"a": ON}))
    assert client.wait_ready(10)
    client.close()
    assert not client.refresh(60)


def test_alerts_that_were_not_told_yet_are_told_together_every_message_of_them(make: Make) -> None:
    client, heard = make(source=scripted({"a": ON})), Heard()
    entered, release = threading.Event(), threading.Event()

    def blocking(details: EventDetails) -> None:
        entered.set()
        release.wait(10)
        heard(details)

    client.add_handler("alert", blocking)
    for flag in ("a", "b", "c"):
        client._feed.handlers.emit(EventDetails("alert", frozenset({flag}), f"{flag} tripped"))
        assert entered.wait(10)
    release.set()
    assert heard.next() == EventDetails("alert", frozenset({"a"}), "a tripped")
    assert heard.next() == EventDetails("alert", frozenset({"b", "c"}), "b tripped\nc tripped")
    assert heard.silent
