"""A client that is forgotten without ``close`` says so, and its thread delivers what it has recorded before it ends."""

from __future__ import annotations

import gc
import logging
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Iterator

import pytest
from documents import FLAGS, document

from flagkit import Client, Config, sinks, sources
from flagkit.events import Batch, Retry, Sent


def forget(sink: sinks.Memory, count: int = 40) -> weakref.ref[Client]:
    """Use a client, and let go of it."""
    client = Client(source=sources.Static(document(FLAGS)), sink=sink, config=Config(flush_interval_s=60))
    for number in range(count):
        client.track("order", f"user {number}")
    return weakref.ref(client)


@pytest.fixture(autouse=True)
def collected_when_told() -> Iterator[None]:
    gc.disable()
    yield
    gc.enable()


def until(true: object, within_s: float = 10.0) -> None:
    ends_s = time.monotonic() + within_s
    while not true() and time.monotonic() < ends_s:  # type: ignore[operator]
        time.sleep(0.01)
    assert true()  # type: ignore[operator]


@pytest.mark.filterwarnings("always::ResourceWarning")
def test_what_it_recorded_arrives_once_and_nothing_of_it_is_left() -> None:
    sink, before = sinks.Memory(), set(threading.enumerate())
    client = forget(sink)
    with pytest.warns(ResourceWarning, match="nobody closed"):
        gc.collect()
    until(lambda: len(sink.events) == 40)
    assert len({event["id"] for event in sink.events}) == 40
    until(lambda: not gc.collect() and set(threading.enumerate()) <= before)
    assert client() is None


class Down(sinks.Memory):
    def send(self, batch: Batch, *, deadline_s: float) -> Sent:
        return Retry("http_503")


def test_what_cannot_be_delivered_is_told(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "flagkit")
    forget(Down(), 7)
    gc.collect()
    until(lambda: "7 events are lost with a client that was forgotten without close()" in caplog.text)


def test_what_has_no_thread_to_deliver_it_is_told(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.WARNING, "flagkit")

    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    client = Client(source=sources.Static(document(FLAGS)), sink=sinks.Memory())
    client.track("order", "u")
    del client
    gc.collect()
    assert "1 events are lost" in caplog.text


PROGRAM = """
import flagkit, gc, sys
sink = flagkit.sinks.Log()
def job():
    client = flagkit.Client(source=flagkit.sources.Static({"schema": 1, "flags": {}}), sink=Slow())
    for number in range(30):
        client.track("order", f"user {number}")
class Slow(flagkit.sinks.Memory):
    def send(self, batch, *, deadline_s):
        import time
        time.sleep(0.3)
        print(len(batch.events), flush=True)
        return super().send(batch, deadline_s=deadline_s)
job()
gc.collect()
"""


def test_a_program_that_ends_right_after_waits_for_it() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout == "30\n", done.stderr


def test_a_client_that_was_closed_or_never_used_says_nothing(recwarn: pytest.WarningsRecorder) -> None:
    with Client(source=sources.Static(document(FLAGS))) as client:
        client.enabled("on", "u")
    del client
    Client(source=sources.Static(document(FLAGS)))
    gc.collect()
    assert not [warning for warning in recwarn if warning.category is ResourceWarning]
