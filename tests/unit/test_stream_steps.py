"""The stream's room: what is heard, what becomes of it, and how a connection ends."""

from __future__ import annotations

import logging
import threading

import pytest
from fakes import FakeClock, FixedRandom
from talks import GAP, HEARTBEAT, InUse, Talk, Telling

from flagkit import Config
from flagkit.errors import FetchError
from flagkit.runtime.stream import Stream
from flagkit.sources import Alive, Changed, Missed, Teller


class Rig:
    """A stream whose steps are taken by hand, with the thread's waiting in between."""

    def __init__(self, *talks: Talk | Exception, chance: float = 1.0) -> None:
        self.source, self.current, self.clock = Telling(*talks), InUse(), FakeClock()
        self.hurries: list[float] = []
        config = Config(deadline_s=7, poll_interval_s=30)
        random = FixedRandom(chance)
        self.stream = Stream(self.source, self.current, self.current, self.hurries.append, config, self.clock, random)

    def step(self) -> float:
        """One round of the thread: hear, then deal with it."""
        if self.stream._ear.listening is not None:
            self.stream._ear.wait(45)
        return self.stream.step()

    @property
    def connected(self) -> bool:
        return self.stream._ear.listening is not None


# -- news ------------------------------------------------------------------------------------------------------------


def test_a_source_that_tells_is_one() -> None:
    assert isinstance(Telling(Talk()), Teller)


def test_it_connects_with_what_is_in_use_and_the_first_news_must_come_by_the_deadline() -> None:
    talk = Talk(HEARTBEAT)
    rig = Rig(talk)
    assert rig.stream.state.state == "starting"
    assert rig.step() == 45, "then it waits as long as the connection may be silent"
    assert (rig.source.marks, talk.asked) == (["e:1"], [7])
    assert rig.stream.state.state == "ok"
    assert rig.current.confirmed == 1


def test_a_change_is_applied() -> None:
    rig = Rig(Talk(HEARTBEAT, Changed(b"one"), Changed(b"two")))
    for _ in range(3):
        rig.step()
    assert rig.current.applied == [b"one", b"two"]
    assert rig.hurries == []


def test_a_gap_is_a_poll_soon_within_the_time_the_source_says() -> None:
    rig = Rig(Talk(GAP, Changed(b"gap2.5"), Missed()))
    for _ in range(3):
        rig.step()
    assert rig.hurries == [0.3, 2.5, 0.3]
    assert rig.current.applied == []


def test_where_documents_are_kept_the_one_that_comes_of_a_change_is_fetched_within_seconds() -> None:
    rig = Rig(Talk(HEARTBEAT, Changed(b"one")))
    rig.current.disk = "ok"
    rig.step()
    assert rig.hurries == []
    rig.step()
    assert rig.hurries == [5]


def test_a_sign_of_life_confirms_what_is_in_use_only_while_nothing_was_missed() -> None:
    rig = Rig(Talk(HEARTBEAT, Alive(), GAP, Alive(), HEARTBEAT, Alive(), Changed(b"old"), Alive()))
    counts = []
    for _ in range(8):
        rig.step()
        rig.clock.advance(1)
        counts.append(rig.current.confirmed)
    assert counts == [1, 2, 2, 2, 3, 4, 4, 4]


def test_what_was_missed_is_made_good_by_a_poll_that_began_later() -> None:
    rig = Rig(Talk(Missed(), Alive(), Alive(), Alive()))
    rig.step()
    missed_s = rig.clock.monotonic_s()
    rig.current.confirmed_s = missed_s - 1
    rig.step()
    assert rig.current.confirmed == 0
    rig.current.confirmed_s = missed_s + 0.2
    rig.step()
    rig.step()
    assert rig.current.confirmed == 2


# -- endings ---------------------------------------------------------------------------------------------------------


def test_a_source_that_does_not_tell_now_is_not_asked() -> None:
    rig = Rig(Talk())
    rig.source.tells = False
    assert rig.step() == 30
    assert rig.source.marks == []
    before = threading.active_count()
    rig.stream.start()
    assert threading.active_count() == before


def test_a_connection_that_cannot_be_made_is_tried_again_ever_later() -> None:
    refused = FetchError("refused", "connection refused")
    rig = Rig(refused, refused, refused, Talk(HEARTBEAT))
    assert [rig.step() for _ in range(3)] == [2, 4, 8]
    assert (rig.stream.state.state, rig.stream.state.consecutive_failures) == ("failing", 3)
    rig.step()
    assert rig.stream.state.state == "ok"


def test_a_server_that_has_no_room_is_asked_again_when_it_said() -> None:
    rig = Rig(FetchError("http_503", "no more streams", retry_after_s=60), chance=0)
    assert rig.step() == 60
    rig = Rig(FetchError("http_401", "no", lasting=True))
    assert rig.step() == 60
    assert rig.stream.state.state == "auth_failed"


def test_a_connection_on_which_nothing_comes_through_is_a_failure() -> None:
    talk = Talk(FetchError("deadline", "nothing came"))
    rig = Rig(talk)
    assert rig.step() == 2
    assert (talk.closed, rig.connected, rig.stream.state.state) == (1, False, "failing")


def test_that_a_good_connection_ends_is_no_failure_and_the_next_one_is_opened_soon(
    caplog: pytest.LogCaptureFixture,
) -> None:
    first, second = Talk(HEARTBEAT, FetchError("ended", "the stream ended")), Talk(HEARTBEAT)
    rig = Rig(FetchError("refused", "no"), FetchError("refused", "no"), first, second)
    rig.step(), rig.step(), rig.step()
    rig.clock.advance(11)
    caplog.clear()
    with caplog.at_level(logging.INFO, "flagkit"):
        assert rig.step() == 2, "as if it was the first"
        rig.step()
    assert (first.closed, rig.connected) == (1, True)
    assert caplog.records == []


def test_connections_that_break_at_once_are_opened_ever_later() -> None:
    broken = FetchError("reset", "broken")
    rig = Rig(*[Talk(HEARTBEAT, broken) for _ in range(3)], Talk(HEARTBEAT))
    pauses = [rig.step() for _ in range(6)]
    assert pauses[1::2] == [2, 4, 8]
    assert rig.stream.state.state == "failing"


def test_after_a_break_nothing_is_confirmed_until_it_is_known_what_was_missed() -> None:
    rig = Rig(Talk(HEARTBEAT, FetchError("ended", "end")), Talk(Alive(), Alive(), HEARTBEAT))
    rig.current.confirmed_s = rig.clock.monotonic_s() + 100
    counts = []
    for _ in range(5):
        rig.step()
        counts.append(rig.current.confirmed)
    assert counts == [1, 1, 1, 1, 2]


@pytest.mark.parametrize("news", [ZeroDivisionError(), None])
def test_what_a_source_should_not_do_is_left_to_the_worker_or_read_as_a_gap(news: object) -> None:
    talk = Talk(HEARTBEAT, news)
    rig = Rig(talk)
    rig.step()
    if news is None:
        rig.step()
        assert rig.hurries == [0.3]
    else:
        with pytest.raises(ZeroDivisionError):
            rig.step()
        assert (talk.closed, rig.connected) == (1, False)
