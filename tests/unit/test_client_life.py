"""A client's life: the first moments, files, refused documents, the end."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from documents import FLAGS, HALF, ON, Edited, StillClock, document, exposures
from fakes import ScriptedSource, unavailable

from flagkit import Client, Config, ConfigError, ErrorCode, Reason, sinks, sources
from flagkit.sources import Fetched, NotModified

Json = dict[str, Any]
Make = Callable[..., Client]


# -- the first moments -------------------------------------------------------------------------------------------------


def test_before_the_first_definitions_defaults_apply_and_then_the_answers(make: Make, sink: sinks.Memory) -> None:
    source = ScriptedSource(unavailable())
    client = make(source=source)
    assert client.enabled("on", "u") is False
    assert client.value("text", "u", default="mine") == "mine"
    assert client.decide("on", "u").error_code is ErrorCode.PROVIDER_NOT_READY
    assert client.decide_all("u") == {}
    assert (client.status.ready, client.wait_ready(0)) == (False, False)
    source.script = [Fetched(document(FLAGS))]
    client._feed.worker.wake()
    assert client.wait_ready(10)
    assert client.enabled("on", "u") is True
    assert (client.status.ready, client.status.errors) == (True, {"PROVIDER_NOT_READY": 2})
    assert exposures(client, sink) == [("on", "u", "on")]


def test_what_status_and_waiting_tell_of_is_what_answers(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    source = ScriptedSource(unavailable())
    client = make(source=source)
    assert not client.wait_ready(0.1)
    meanwhile, later = [], client._changed

    def slow() -> None:  # the thread that brought them is held up before they answer
        if threading.current_thread().name == "flagkit-poll" and not meanwhile:
            meanwhile.append((client.status.ready, client.enabled("on", "u")))
        later()

    monkeypatch.setattr(client._feed, "_changed", slow)
    source.script = [Fetched(document(FLAGS))]
    client._feed.worker.wake()
    assert client.wait_ready(10)
    assert client.enabled("on", "u") is True
    assert meanwhile == [(True, True)]


def test_local_definitions_answer_from_the_first_call(make: Make) -> None:
    client = make()
    assert (client.status.ready, client.status.age_s) == (True, 0)
    assert client.enabled("on", "u")


def test_nothing_starts_before_the_first_question(make: Make) -> None:
    before = set(threading.enumerate())
    source = ScriptedSource(Fetched(document(FLAGS)))
    client = make(source=source)
    client.status, client.flush()
    assert set(threading.enumerate()) <= before
    assert source.asked == []
    client.peek("on", "u")
    assert client.wait_ready(10)
    assert source.asked != []


def test_definitions_that_cannot_change_need_no_thread(make: Make) -> None:
    before = set(threading.enumerate())
    client = make(sink=None)
    client.enabled("on", "u")
    client.start()
    assert set(threading.enumerate()) <= before


def test_definitions_that_cannot_change_do_not_grow_old(make: Make, clock: StillClock) -> None:
    ramp = {"rules": [{"rollout": {"steps": [{"from": "2026-12-01", "percent": 100}]}, "serve": "on"}]}
    client = make({"ramp": ramp, "half": {**HALF, "max_age_s": 60}})
    assert not client.enabled("ramp", "u")
    clock.advance(30 * 86_400)
    assert client.enabled("ramp", "u")
    assert client.decide("half", "u").reason is Reason.SPLIT


def test_definitions_grow_old_as_well_while_their_source_raises_what_none_should(make: Make, clock: StillClock) -> None:
    source = ScriptedSource(Fetched(document({"half": {**HALF, "max_age_s": 60}})))
    client = make(source=source)
    assert client.wait_ready(10)
    assert client.decide("half", "u").reason is Reason.SPLIT
    source.script = [ValueError("nobody expected this")]
    clock.advance(61)
    with pytest.raises(ValueError, match="nobody expected this"):
        client._feed.poll()
    assert client.decide("half", "u").reason is Reason.STALE


def test_a_second_start_does_not_bring_back_definitions_of_the_past(make: Make, edited: Edited) -> None:
    client = make(source=edited)
    client.start()
    past = client._feed.current.snapshot

    class Racing:
        """The definitions in use, which change right after they are first looked at."""

        def __init__(self, current: Any) -> None:
            self._current = current
            self._looks = 0

        def __getattr__(self, name: str) -> Any:
            value = getattr(self._current, name)
            if name == "snapshot" and self._looks == 0:
                self._looks += 1
                edited.edit(client, {"g": {"enabled": False}})
            return value

    client._feed.current = Racing(client._feed.current)  # type: ignore[assignment]
    client.start()
    assert client._answers is not past
    assert not client.enabled("g", "u")


def test_refused_definitions_are_told_and_change_nothing(make: Make, edited: Edited) -> None:
    client = make(source=edited)
    edited.script = [Fetched(b"{")]
    client._feed.poller.poll()
    status = client.status
    assert status.source is not None
    assert (status.ready, status.source.state) == (True, "rejected")
    assert [problem.path for problem in status.problems] == ["$"]
    assert client.enabled("g", "u")
    edited.edit(client, {"g": {}})
    assert client.status.problems == ()
    assert not client.enabled("g", "u")


def test_problems_of_a_refused_document_end_when_the_one_in_use_is_confirmed(make: Make) -> None:
    good = Fetched(document({"f": ON, "bad": {"owner": 5}}), "good")
    source = ScriptedSource(good, Fetched(b"{", "broken"), NotModified())
    source.local = True
    client = make(source=source)
    (problem,) = client.status.problems
    client._feed.poller.poll()
    assert problem in client.status.problems, "the definitions in use still have it"
    assert len(client.status.problems) == 2
    client._feed.poller.poll()
    assert client.status.problems == (problem,)


# -- files -------------------------------------------------------------------------------------------------------------


def test_a_file_is_right_from_the_first_call_and_edits_are_picked_up(tmp_path: Path) -> None:
    path = tmp_path / "flags.json"
    path.write_bytes(document({"f": ON}))
    with Client.from_file(path, config=Config(poll_interval_s=0.05)) as client:
        assert client.enabled("f", "u")
        assert (client.status.account, client.status.sink) == (None, None)
        path.write_bytes(document({"f": {"enabled": False}, "new": {}}))
        deadline = threading.Event()
        for _ in range(200):
            if not client.enabled("f", "u"):
                break
            deadline.wait(0.05)
        assert client.decide("f", "u").reason is Reason.DISABLED


def test_a_file_that_cannot_be_used_is_told_and_breaks_nothing(tmp_path: Path) -> None:
    path = tmp_path / "flags.json"
    path.write_text("{")
    client = Client.from_file(str(path))
    assert client.decide("f", "u").error_code is ErrorCode.PROVIDER_NOT_READY
    assert [problem.path for problem in client.status.problems] == ["$"]
    client.close()


@pytest.mark.parametrize("path", ["", "no/such/file", "a\0b", ".", None, 12345, b"flags.json", [], 0, True])
def test_a_file_that_is_not_there_is_a_config_error(path: Any) -> None:
    with pytest.raises(ConfigError) as caught:
        Client.from_file(path)
    assert caught.value.field == "path"


# -- the end -----------------------------------------------------------------------------------------------------------


def test_closing_sends_what_waits_and_twice_is_once(make: Make, sink: sinks.Memory) -> None:
    client = make()
    for number in range(250):
        client.enabled("on", number)
    assert client.close() == 0
    assert len(sink.events) == 250
    assert client.close() == 0


def test_after_the_end_questions_are_answered_and_events_are_counted_as_lost(make: Make, sink: sinks.Memory) -> None:
    client = make()
    client.enabled("on", "u")
    client.close()
    assert client.enabled("on", "v") is True
    assert client.variant("split", "u") in {"a", "b"}
    assert client.decide_all("u")["on"].enabled
    client.track("event", "u")
    account = client.status.account
    assert account is not None
    assert account == (4, 0, 1, {"closed": 3}, 0)
    assert client.flush() == 0
    client.start()
    assert client.wait_ready(0)


def test_a_client_that_was_never_asked_closes_too(make: Make) -> None:
    client = make(source=ScriptedSource(unavailable()))
    assert client.close() == 0
    assert client.decide("on", "u").error_code is ErrorCode.PROVIDER_NOT_READY


def test_a_with_block_starts_and_closes(sink: sinks.Memory) -> None:
    with Client(source=sources.Static({}), sink=sink) as client:
        client.track("event", "u")
    assert [event["name"] for event in sink.events] == ["event"]


def test_a_source_or_sink_that_fails_to_close_breaks_nothing(make: Make) -> None:
    class Failing(ScriptedSource):
        def close(self) -> None:
            raise OSError

    class FailingSink(sinks.Memory):
        def close(self) -> None:
            raise OSError

    client = make(source=Failing(Fetched(document(FLAGS))), sink=FailingSink())
    client.enabled("on", "u")
    assert client.close() == 0


def test_threads_end_with_their_client() -> None:
    before = set(threading.enumerate())
    client = Client(source=ScriptedSource(Fetched(document(FLAGS))), sink=sinks.Memory())
    assert client.wait_ready(10)
    client.enabled("on", "u")
    threads = set(threading.enumerate()) - before
    assert sorted(thread.name for thread in threads) == ["flagkit-delivery", "flagkit-poll"]
    assert all(thread.daemon for thread in threads)
    client.close()
    for thread in threads:
        thread.join(10)
    assert not any(thread.is_alive() for thread in threads)
