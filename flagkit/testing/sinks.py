"""``SinkContract``: the tests that every sink passes, flagkit's own included.

A project that has a sink of its own derives a test class from it and says, in one fixture, how to set the sink up and
how to read what arrived. Needs pytest to run and nothing of it but its fixtures; knows no sink.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import pytest

from flagkit.events import Batch, Delivered, Retry, encode_metric
from flagkit.sinks import Sink

_DEADLINE_S: Final = 5.0
#: Far more than the time that is given, because the machine may be busy, and far less than for ever.
_PATIENCE_S: Final = 5.0
#: 2026-01-01T00:00:00Z.
_TIME_MS: Final = 1_767_225_600_000
#: Not ASCII, and a line end: what is made of text on the way must not be seen.
_PROPERTIES: Final = {"note": "å\n"}


class SinkStage(NamedTuple):
    """A sink whose other side takes everything.

    arrived: the metric events that reached the other side, oldest first, each a mapping with at least ``name`` and
    ``properties`` as they were tracked. fail: has the other side fail from now on, as when its server is down; None for
    sinks that have none. secrets: what must not be seen in its name, repr or answers, such as its key. hang: has the
    other side take calls from now on and never answer.
    """

    sink: Sink
    arrived: Callable[[], Sequence[Mapping[str, Any]]]
    fail: Callable[[], object] | None = None
    secrets: tuple[str, ...] = ()
    hang: Callable[[], object] | None = None


class SinkContract:
    """Tests of a sink; see ``flagkit.sinks.Sink`` for what they hold it to.

    class TestMySink(SinkContract):
        @pytest.fixture
        def stage(self):
            with my_collector() as collector:
                yield SinkStage(MySink(collector.url), arrived=collector.events)
    """

    @pytest.fixture
    def stage(self) -> SinkStage:
        """The sink, set up; to be defined by the derived class."""
        raise NotImplementedError(f"{type(self).__name__} needs a fixture `stage` that gives a SinkStage")

    def test_it_has_the_members_of_a_sink(self, stage: SinkStage) -> None:
        assert isinstance(stage.sink, Sink)

    def test_it_says_who_it_is_without_a_secret(self, stage: SinkStage) -> None:
        assert isinstance(stage.sink.name, str)
        assert stage.sink.name
        _shows_no_secret(stage, f"{stage.sink.name} {stage.sink!r}")

    def test_it_delivers_the_events_of_a_batch_in_order(self, stage: SinkStage) -> None:
        assert _send(stage.sink, "paid", "left", "came back") == Delivered()
        arrived = stage.arrived()
        assert [event["name"] for event in arrived] == ["paid", "left", "came back"]
        assert arrived[0]["properties"] == _PROPERTIES

    def test_it_takes_one_batch_after_another(self, stage: SinkStage) -> None:
        assert _send(stage.sink, "one") == Delivered()
        assert _send(stage.sink, "two") == Delivered()
        assert [event["name"] for event in stage.arrived()] == ["one", "two"]

    def test_it_takes_a_batch_that_says_what_was_lost_before_it(self, stage: SinkStage) -> None:
        assert stage.sink.send(_batch("one", overflow=2), deadline_s=_DEADLINE_S) == Delivered()
        assert "one" in [event["name"] for event in stage.arrived()]

    def test_it_takes_a_batch_that_is_sent_again(self, stage: SinkStage) -> None:
        batch = _batch("one")
        assert stage.sink.send(batch, deadline_s=_DEADLINE_S) == Delivered()
        assert stage.sink.send(batch, deadline_s=_DEADLINE_S) == Delivered()

    def test_that_the_other_side_fails_it_says_in_its_answer_and_raises_nothing(self, stage: SinkStage) -> None:
        if stage.fail is None:
            pytest.skip("the sink has no other side that could fail")
        stage.fail()
        answer = _send(stage.sink, "kept")
        assert isinstance(answer, Retry), f"got {answer!r}; expected a Retry: the batch may be sent again"
        assert answer.reason
        _shows_no_secret(stage, answer.reason)

    def test_that_nobody_answers_it_says_in_its_answer_within_its_time(self, stage: SinkStage) -> None:
        if stage.hang is None:
            pytest.skip("the sink asks nobody who could fail to answer")
        stage.hang()
        began_s = time.monotonic()
        assert isinstance(stage.sink.send(_batch("kept"), deadline_s=0.2), Retry)
        assert time.monotonic() - began_s < _PATIENCE_S

    def test_it_may_be_closed_twice_and_used_again(self, stage: SinkStage) -> None:
        _send(stage.sink, "before")
        stage.sink.close()
        stage.sink.close()
        assert _send(stage.sink, "again") == Delivered()

    def test_it_works_after_the_fork_hook(self, stage: SinkStage) -> None:
        _send(stage.sink, "before")
        stage.sink.after_fork()
        assert _send(stage.sink, "in the child") == Delivered()
        assert stage.arrived()[-1]["name"] == "in the child"


def _batch(*names: str, **dropped: int) -> Batch:
    events = (encode_metric(name, "user-1", _TIME_MS, 1.0, _PROPERTIES, None) for name in names)
    return Batch.seal(tuple(events), dropped)


def _send(sink: Sink, *names: str) -> object:
    return sink.send(_batch(*names), deadline_s=_DEADLINE_S)


def _shows_no_secret(stage: SinkStage, text: str) -> None:
    assert not any(secret in text for secret in stage.secrets), "a secret is shown"
