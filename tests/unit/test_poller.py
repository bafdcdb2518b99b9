from __future__ import annotations

import logging

import pytest
from fakes import FakeClock, FixedRandom, ScriptedSource, unavailable

from flagkit.config import Config
from flagkit.errors import DefinitionsError, FetchError, Problem
from flagkit.runtime.poller import Poller
from flagkit.sources import Fetched, NotModified

REFUSED = DefinitionsError((Problem("$", "not JSON"),))


class Client:
    """What a poller hands documents to. Data that starts with ``bad`` is refused."""

    def __init__(self) -> None:
        self.installed: list[bytes] = []
        self.confirmed: list[int | None] = []
        self.generation = 0
        self.validator: str | None = None
        self.whole = True
        self.recalled = False

    def recall(self, data: bytes, validator: str | None, age_s: float) -> None:
        raise NotImplementedError

    def install(self, data: bytes, validator: str | None, since: int) -> bool:
        if data.startswith(b"bad"):
            raise REFUSED
        if data.startswith(b"old") or since != self.generation:
            return False
        self.installed.append(data)
        self.validator = validator
        self.generation += 1
        return True

    def confirm(self, server_ms: int | None) -> None:
        self.confirmed.append(server_ms)


def polling(
    *script: Fetched | NotModified | Exception, chance: float = 0.5, interval_s: float = 10
) -> tuple[Poller, ScriptedSource, Client, FakeClock]:
    source, client, clock = ScriptedSource(*script), Client(), FakeClock()
    config = Config(poll_interval_s=interval_s)
    return (
        Poller(source, client, config, clock, FixedRandom(chance)),
        source,
        client,
        clock,
    )


def test_a_document_is_installed_and_confirmed_with_the_servers_time() -> None:
    poller, _, client, _ = polling(Fetched(b"one", "v1", 123))
    poller.step()
    assert (client.installed, client.confirmed) == ([b"one"], [123])
    assert poller.loaded
    assert poller.state.state == "ok"


def test_the_next_poll_asks_with_the_validator_and_a_304_confirms() -> None:
    poller, source, client, _ = polling(Fetched(b"one", "v1", 1), NotModified(2))
    poller.step()
    poller.step()
    assert source.asked == [None, "v1"]
    assert (client.installed, client.confirmed) == ([b"one"], [1, 2])


@pytest.mark.parametrize(("chance", "pause"), [(0.0, 9.0), (0.5, 10.0), (1.0, 11.0)])
def test_the_interval_is_jittered_by_a_tenth(chance: float, pause: float) -> None:
    poller, *_ = polling(Fetched(b"one"), chance=chance)
    assert poller.step() == pytest.approx(pause)


def test_with_nothing_loaded_the_first_poll_comes_at_once() -> None:
    poller, source, *_ = polling(Fetched(b"one"))
    poller.step()
    assert len(source.asked) == 1


def test_with_definitions_at_hand_the_first_poll_comes_at_a_random_time_within_the_interval() -> None:
    poller, source, *_ = polling(Fetched(b"one", "v1"), NotModified(), chance=0.25)
    poller.poll()  # as a constructor does
    assert poller.step() == 2.5
    assert len(source.asked) == 1
    poller.step()
    assert source.asked == [None, "v1"]


def test_a_forked_child_keeps_the_document_but_not_the_parents_rhythm() -> None:
    poller, source, *_ = polling(Fetched(b"one", "v1"), NotModified(), chance=0.75)
    poller.step()
    poller.after_fork()
    assert poller.step() == 7.5
    poller.step()
    assert source.asked == [None, "v1"]


def test_a_failed_fetch_takes_nothing_away_and_is_tried_again_sooner_or_later() -> None:
    poller, source, client, _ = polling(Fetched(b"one", "v1"), unavailable(), NotModified(), chance=0.5)
    poller.step()
    assert poller.step() == 12.5  # half way from 5 to 20
    assert client.confirmed == [None]
    assert poller.state.state == "failing"
    assert poller.state.last_error == "http_503: the server answered 503"
    poller.step()
    assert poller.state.state == "ok"
    assert source.asked == [None, "v1", "v1"]


def test_polls_of_an_unavailable_server_thin_out_up_to_the_cap() -> None:
    poller, *_ = polling(unavailable(), chance=1.0)
    assert [poller.step() for _ in range(4)] == [20, 40, 60, 60]
    quick, *_ = polling(unavailable(), chance=1.0, interval_s=1)
    assert [quick.step() for _ in range(5)] == [2, 4, 8, 8, 8], "values are fresh 8 s after a short outage"
    slow, *_ = polling(unavailable(), chance=1.0, interval_s=300)
    assert slow.step() == 300, "never sooner for having failed"


def test_a_server_that_asks_for_time_gets_it() -> None:
    poller, *_ = polling(unavailable(retry_after_s=120), chance=0.0)
    assert poller.step() == 120
    greedy, *_ = polling(unavailable(retry_after_s=1e7), chance=0.0)
    assert greedy.step() == 900


@pytest.mark.parametrize(
    ("reason", "state"),
    [("http_401", "auth_failed"), ("http_403", "auth_failed"), ("http_404", "rejected"), ("tls", "rejected")],
)
def test_a_lasting_failure_slows_polling_down_but_never_stops_it(reason: str, state: str) -> None:
    lasting = FetchError(reason, "no", lasting=True)
    poller, _, client, _ = polling(Fetched(b"one", "v1"), lasting, lasting, lasting, NotModified(), chance=1.0)
    poller.step()
    assert [poller.step() for _ in range(3)] == [60, 120, 240]
    assert poller.state.state == state
    assert client.installed == [b"one"]
    assert poller.step() == 11, "one success and all is as before"
    assert poller.state.state == "ok"


def test_the_validator_of_a_refused_document_is_never_sent() -> None:
    poller, source, client, _ = polling(
        Fetched(b"one", "v1"), Fetched(b"bad", "v2"), Fetched(b"bad", "v2"), Fetched(b"three", "v3"), NotModified()
    )
    for _ in range(5):
        poller.step()
    assert source.asked == [None, "v1", "v1", "v1", "v3"]
    assert client.installed == [b"one", b"three"]
    assert len(client.confirmed) == 3, "a refused document confirms nothing"


def test_a_refused_document_is_a_state_with_its_reason() -> None:
    poller, *_ = polling(Fetched(b"bad", "v1"))
    poller.step()
    assert poller.state.state == "rejected"
    assert poller.state.last_error == "document refused: $: not JSON"
    assert not poller.loaded


def test_a_304_nobody_asked_for_is_a_failure_and_the_next_poll_asks_without_condition() -> None:
    poller, source, client, _ = polling(NotModified(), NotModified(), Fetched(b"one", "v1"))
    poller.step()
    assert poller.state.state == "failing"
    assert client.confirmed == []
    poller.step()
    poller.step()
    assert source.asked == [None, None, None]
    assert poller.loaded


def test_once_an_hour_the_document_is_fetched_whatever_the_validator() -> None:
    poller, source, _, clock = polling(Fetched(b"one", "v1"), NotModified(), Fetched(b"one", "v1"), NotModified())
    poller.step()
    clock.advance(3599)
    poller.step()
    clock.advance(1)
    poller.step()
    poller.step()
    assert source.asked == [None, "v1", None, "v1"]


def test_the_hourly_fetch_is_owed_until_it_succeeds() -> None:
    poller, source, _, clock = polling(Fetched(b"one", "v1"), unavailable(), Fetched(b"one", "v1"), NotModified())
    poller.step()
    clock.advance(3600)
    for _ in range(3):
        poller.step()
    assert source.asked == [None, None, None, "v1"]


def test_what_a_source_should_not_raise_is_visible_and_left_to_the_worker() -> None:
    poller, *_ = polling(ZeroDivisionError("secret"))
    with pytest.raises(ZeroDivisionError):
        poller.step()
    assert poller.state.state == "failing"
    assert poller.state.last_error == "ZeroDivisionError"


def test_the_state_counts_and_its_error_is_short() -> None:
    poller, _, _, clock = polling(unavailable(), FetchError("refused", "x" * 5000), Fetched(b"one"))
    poller.step()
    poller.step()
    state = poller.state
    assert (state.name, state.attempts, state.failures, state.consecutive_failures) == ("scripted", 2, 2, 2)
    assert state.last_success_s is None
    assert len(state.last_error or "") == 200
    poller.step()
    state = poller.state
    assert (state.attempts, state.failures, state.consecutive_failures) == (3, 2, 0)
    assert state.last_success_s == clock.monotonic_s()


def test_an_outage_is_one_warning_a_reminder_every_five_minutes_and_a_word_at_the_end(
    caplog: pytest.LogCaptureFixture,
) -> None:
    poller, source, _, clock = polling(unavailable())
    with caplog.at_level(logging.INFO, "flagkit"):
        for _ in range(61):  # ten minutes
            poller.step()
            clock.advance(10)
        source.script = [Fetched(b"one")]
        poller.step()
        poller.step()
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("WARNING", "source scripted: failing: http_503: the server answered 503"),
        ("WARNING", "source scripted: failing (31 times in a row): http_503: the server answered 503"),
        ("WARNING", "source scripted: failing (61 times in a row): http_503: the server answered 503"),
        ("INFO", "source scripted: ok again after 61 failures"),
    ]


def test_an_outage_that_changes_its_face_is_a_new_warning_once(caplog: pytest.LogCaptureFixture) -> None:
    lasting = FetchError("http_401", "the key is not accepted", lasting=True)
    poller, *_ = polling(unavailable(), lasting, unavailable(), lasting, unavailable())
    with caplog.at_level(logging.INFO, "flagkit"):
        for _ in range(5):
            poller.step()
    assert [record.getMessage() for record in caplog.records] == [
        "source scripted: failing: http_503: the server answered 503",
        "source scripted: auth_failed (2 times in a row): http_401: the key is not accepted",
    ]


# -- beside a stream


def test_a_hurried_poll_comes_at_a_random_time_within_the_limit() -> None:
    poller, source, _, clock = polling(Fetched(b"one", "v1"), NotModified(), chance=0.25)
    poller.step()
    poller.hurry(0.4)
    assert poller.step() == pytest.approx(0.1)
    assert len(source.asked) == 1
    clock.advance(0.1)
    assert poller.step() > 9, "and the one after it at the interval"
    assert source.asked == [None, "v1"]


def test_of_several_in_a_hurry_the_first_one_counts() -> None:
    poller, source, _, clock = polling(Fetched(b"one", "v1"), NotModified())
    poller.step()
    poller.hurry(2)
    clock.advance(0.5)
    poller.hurry(60)
    assert poller.step() == pytest.approx(0.5)
    clock.advance(0.5)
    poller.step()
    poller.step()
    assert len(source.asked) == 3, "nobody is in a hurry any more, so a step is a poll"


def test_a_server_that_asked_to_be_left_alone_is_left_alone_by_those_in_a_hurry_too() -> None:
    poller, source, _, clock = polling(Fetched(b"one", "v1"), unavailable(retry_after_s=120), NotModified(), chance=0)
    poller.step()
    assert poller.step() == 120
    clock.advance(20)
    poller.hurry(1)
    assert poller.step() == pytest.approx(100)
    assert len(source.asked) == 2


def test_a_server_that_asked_to_be_left_alone_is_not_asked_by_whoever_wakes_the_poller() -> None:
    poller, source, _, clock = polling(Fetched(b"one", "v1"), unavailable(retry_after_s=120), NotModified(), chance=0)
    poller.step()
    poller.step()
    assert poller.step() == pytest.approx(120)
    clock.advance(120)
    poller.step()
    assert len(source.asked) == 3


def test_a_forked_child_is_in_no_hurry() -> None:
    poller, *_ = polling(Fetched(b"one", "v1"), NotModified())
    poller.step()
    poller.hurry(0.4)
    poller.after_fork()
    assert poller.step() == 5


def test_a_document_that_is_not_taken_is_no_failure_and_no_confirmation() -> None:
    poller, source, client, clock = polling(Fetched(b"one", "v1"), Fetched(b"old", "v0"), NotModified())
    poller.step()
    confirmed_s = poller.confirmed_s
    clock.advance(10)
    assert poller.step() == 10
    assert (poller.state.state, poller.confirmed_s) == ("ok", confirmed_s)
    assert client.confirmed == [None]
    poller.step()
    assert source.asked == [None, "v1", "v1"]


def test_an_answer_says_nothing_of_definitions_that_came_into_use_meanwhile() -> None:
    poller, source, client, _ = polling(Fetched(b"one", "v1"))
    poller.step()

    def streamed(*_: object, **__: object) -> NotModified:
        client.generation += 1
        client.validator = "v2"
        return NotModified()

    source.fetch = streamed
    poller.step()
    assert len(client.confirmed) == 1
    assert poller.state.state == "ok"


def test_what_was_streamed_is_asked_about_by_its_own_name() -> None:
    poller, source, client, _ = polling(Fetched(b"one", "v1"), NotModified())
    poller.step()
    client.validator, client.whole = "v2", False
    poller.step()
    assert source.asked == [None, "v2"]
