"""The stream's thread and its client: starting, waiting, hanging up, forking, being forgotten."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Callable
from typing import Any

from documents import ON, document
from fakes import FixedRandom
from talks import HEARTBEAT, PATIENCE_S, InUse, Talk, Telling

from flagkit import Client, Config, sources
from flagkit.clock import SystemClock
from flagkit.runtime.stream import Ear, Stream
from flagkit.sources import Changed, Fetched


def running(*talks: Talk | Exception) -> tuple[Stream, Telling]:
    source = Telling(*talks)
    current = InUse()
    stream = Stream(source, current, current, lambda _: None, Config(), SystemClock(), FixedRandom(0.0))
    stream.start()
    return stream, source


def wait_for(holds: Callable[[], bool]) -> None:
    patience = threading.Event()
    for _ in range(2000):
        if holds():
            return
        patience.wait(0.005)
    raise AssertionError("it never came to be")


def threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "flagkit-stream"]


def test_stopping_hangs_up_on_a_connection_that_says_nothing() -> None:
    talk = Talk(HEARTBEAT)
    stream, _ = running(talk)
    wait_for(lambda: len(talk.asked) == 2)
    assert stream.stop(PATIENCE_S)
    assert (talk.closed, threads()) == (1, [])


def test_stopping_while_it_connects_ends_it_as_soon_as_it_has() -> None:
    inside, go_on = threading.Event(), threading.Event()
    talk = Talk(HEARTBEAT)

    class Slow(Telling):
        def listen(self, mark: str | None, *, deadline_s: float, max_bytes: int) -> Talk:
            inside.set()
            assert go_on.wait(PATIENCE_S)
            return talk

    current = InUse()
    stream = Stream(Slow(talk), current, current, lambda _: None, Config(), SystemClock())
    stream.start()
    assert inside.wait(PATIENCE_S)
    assert not stream.stop(0.01)
    go_on.set()
    assert stream.stop(PATIENCE_S)
    assert (talk.closed, talk.asked) == (1, [])


def test_a_client_dropped_without_close_leaves_no_thread_and_no_connection() -> None:
    talk = Talk(HEARTBEAT)
    client = Client(source=Telling(talk), sink=None)
    assert client.wait_ready(PATIENCE_S)
    wait_for(lambda: len(talk.asked) == 2)
    (thread,) = threads()
    gone = weakref.ref(client)
    del client
    # Whichever thread is in the middle of a round holds it until that is over.
    wait_for(lambda: gc.collect() >= 0 and gone() is None)
    thread.join(PATIENCE_S)
    assert (thread.is_alive(), talk.closed) == (False, 1)


def test_a_client_starts_listening_once_the_source_offers_it_and_says_how_it_stands() -> None:
    talk = Talk(HEARTBEAT)
    source = Telling(talk)
    source.tells = False
    client = Client(source=source, sink=None, config=Config(poll_interval_s=0.05))
    assert client.wait_ready(PATIENCE_S)
    assert client.status.stream is not None
    assert (client.status.stream.state, threads()) == ("starting", [])
    source.tells = True
    wait_for(lambda: client.status.stream is not None and client.status.stream.state == "ok")
    assert source.marks == ["e:1"]
    client.close()
    assert (threads(), talk.closed) == ([], 1)


def test_a_change_that_is_told_is_answered_and_a_gap_is_fetched() -> None:
    talk = Talk(Changed(b'{"epoch": "e", "number": 1}'))
    source = Telling(talk)
    client = Client(source=source, sink=None, config=Config(poll_interval_s=600))
    assert client.wait_ready(PATIENCE_S)
    assert client.enabled("f", "u")
    talk.say(Changed(b'{"epoch":"e","number":2,"base":1,"removed":[],"flag_count":1,"flags":{"f":{"enabled":false}}}'))
    wait_for(lambda: not client.enabled("f", "u"))
    source.fetch = lambda *_, **__: Fetched(document({"f": ON}, epoch="e", number=4))
    talk.say(Changed(b'{"epoch":"e","number":4}'))
    wait_for(lambda: client.enabled("f", "u"))
    client.close()


def test_a_poll_that_hangs_holds_up_no_change_and_its_late_answer_undoes_none() -> None:
    talk = Talk(Changed(b'{"epoch": "e", "number": 1}'))
    source = Telling(talk)
    client = Client(source=source, sink=None, config=Config(poll_interval_s=600))
    assert client.wait_ready(PATIENCE_S)
    asked, go_on, fetch = threading.Event(), threading.Event(), source.fetch

    def hang(*given: Any, **more: Any) -> Fetched:
        asked.set()
        assert go_on.wait(PATIENCE_S)
        return fetch(*given, **more)

    source.fetch = hang
    client._feed.worker.wake()
    assert asked.wait(PATIENCE_S)
    talk.say(Changed(b'{"epoch":"e","number":2,"base":1,"removed":[],"flag_count":1,"flags":{"f":{"enabled":false}}}'))
    wait_for(lambda: not client.enabled("f", "u"))
    attempts = client.status.source.attempts
    go_on.set()
    wait_for(lambda: client.status.source.attempts > attempts)
    assert not client.enabled("f", "u")
    assert (client.status.source.state, client.status.problems) == ("ok", ())
    client.close()


def test_a_source_that_never_tells_has_no_stream() -> None:
    client = Client(source=sources.Static({"schema": 1, "flags": {}}), sink=None)
    assert client.status.stream is None


def test_a_forked_child_forgets_the_connection_of_its_parent() -> None:
    talk = Talk(HEARTBEAT)
    stream, _ = running(talk)
    wait_for(lambda: len(talk.asked) == 2)
    ear, thread = stream._ear, threads()[0]
    stream.after_fork()
    assert stream._ear is not ear
    assert stream._ear.listening is None
    assert talk.closed == 0, "it is the parent's"
    ear.set()
    thread.join(PATIENCE_S)
    assert stream.stop(PATIENCE_S)


def test_an_ear_without_a_connection_is_a_bell() -> None:
    ear = Ear()
    assert not ear.wait(0)
    ear.set()
    assert ear.wait(10)
    ear.clear()
    assert not ear.is_set()


def test_an_ear_that_rang_hangs_up_instead_of_listening() -> None:
    ear, talk = Ear(), Talk()
    ear.listening = talk
    ear.set()
    assert ear.wait(10)
    assert (ear.listening, talk.closed, talk.asked) == (None, 1, [])


def test_hanging_up_breaks_nothing_whatever_a_source_does() -> None:
    class Failing(Talk):
        def hang_up(self) -> None:
            raise OSError

        def close(self) -> None:
            raise OSError

    ear = Ear()
    ear.listening = Failing()
    ear.set()
    assert ear.wait(10)
    assert ear.listening is None
