"""Stand-ins for time, a source and a sink, shared by the tests of the runtime."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Iterable
from typing import Any

from flagkit.clock import SystemClock, Waitable
from flagkit.config import Config
from flagkit.decision import Decision, Reason
from flagkit.errors import FetchError
from flagkit.events import Batch, Delivered, ExposureEncoder, Rejected, Sent, TooLarge
from flagkit.runtime.buffer import Buffer
from flagkit.runtime.delivery import Delivery
from flagkit.runtime.exposures import Exposures
from flagkit.runtime.process import process
from flagkit.runtime.worker import Worker
from flagkit.sources import Fetched, NotModified

#: 2026-11-23T14:13:20Z, twenty-two hours and more into no round window.
WALL_MS = 1_795_443_200_000


class FakeClock:
    """Time that passes only when somebody waits, or says so. ``waits`` lists what was waited for."""

    def __init__(self, wall_ms: int = WALL_MS) -> None:
        self._now_s = 1000.0
        self._offset_ms = wall_ms - 1_000_000
        self.waits: list[float] = []

    def monotonic_s(self) -> float:
        return self._now_s

    def wall_ms(self) -> int:
        return int(self._now_s * 1000) + self._offset_ms

    def wait(self, event: Waitable, timeout_s: float) -> bool:
        self.waits.append(timeout_s)
        if not event.is_set():
            self.advance(timeout_s)
        return event.is_set()

    def advance(self, seconds: float) -> None:
        self._now_s += max(0.0, seconds)

    def set_wall(self, wall_ms: int) -> None:
        self._offset_ms = wall_ms - int(self._now_s * 1000)


class FixedRandom:
    """A random number generator with one answer."""

    def __init__(self, answer: float = 0.5) -> None:
        self.answer = answer

    def random(self) -> float:
        return self.answer


class ScriptedSource:
    """Answers what it was given, in order; the last answer again and again. Exceptions are raised."""

    name = "scripted"
    dialect = "native"
    local = False

    def __init__(self, *script: Fetched | NotModified | Exception) -> None:
        self.script = list(script)
        #: The validator of each fetch.
        self.asked: list[str | None] = []

    def fetch(self, validator: str | None, *, deadline_s: float, max_bytes: int) -> Fetched | NotModified:
        self.asked.append(validator)
        answer = self.script.pop(0) if len(self.script) > 1 else self.script[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    def close(self) -> None: ...
    def after_fork(self) -> None: ...


class ScriptedSink:
    """Stores batches as a collector would, once per event id, unless the script says otherwise.

    A script entry is an answer, an exception to raise, or a callable that is given the batch. An answer other than
    Delivered means nothing was stored.
    """

    name = "scripted"

    def __init__(self, script: Iterable[Sent | Exception | Callable[[Batch], Sent] | Any] = ()) -> None:
        self.script = list(script)
        self.batches: list[Batch] = []
        self.stored: dict[str, dict[str, Any]] = {}
        self.dropped: dict[str, int] = {}
        self.deadlines: list[float] = []
        self.closed = False
        self._seen: set[str] = set()

    def send(self, batch: Batch, *, deadline_s: float) -> Sent:
        self.batches.append(batch)
        self.deadlines.append(deadline_s)
        answer = self.script.pop(0) if self.script else Delivered()
        if callable(answer) and not isinstance(answer, type):
            answer = answer(batch)
        if isinstance(answer, Exception):
            raise answer
        if isinstance(answer, Delivered):
            self.store(batch, refused=sum(answer.rejected.values()))
        return answer

    def store(self, batch: Batch, refused: int = 0) -> None:
        if batch.id in self._seen:
            return
        self._seen.add(batch.id)
        for text in batch.events[refused:]:
            event = json.loads(text)
            self.stored[event["id"]] = event
        for reason, count in batch.dropped.items():
            self.dropped[reason] = self.dropped.get(reason, 0) + count

    def close(self) -> None:
        self.closed = True

    def after_fork(self) -> None: ...


class FileSink:
    """Appends events to a file, a line each, with the id of the process that sent it: what forked processes share."""

    name = "file"

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = path

    def send(self, batch: Batch, *, deadline_s: float) -> Sent:
        lines = "".join(f"{os.getpid()} {text}\n" for text in batch.events).encode()
        descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(descriptor, lines)
        finally:
            os.close(descriptor)
        return Delivered()

    def close(self) -> None: ...
    def after_fork(self) -> None: ...


class Rings:
    """A consumer that counts how often it was called."""

    def __init__(self) -> None:
        self.starts = 0
        self.wakes = 0

    def start(self) -> None:
        self.starts += 1

    def wake(self) -> None:
        self.wakes += 1


def decision(flag: str = "new-checkout", variant: str = "on") -> Decision:
    """A decision whose exposures are recorded."""
    return Decision(
        flag,
        variant,
        True,
        Reason.SPLIT,
        enabled=True,
        rule="ramp",
        assigned=variant,
        analysable=True,
        version="1",
        exposed=set(),
    )


def metric(number: int) -> str:
    """An event that is encoded already, with an id of its own."""
    return json.dumps({"id": f"{number:032x}", "type": "metric"}, separators=(",", ":"))


def picky(*poison: int, most_bytes: int | None = None) -> Callable[[Batch], Sent]:
    """A sink's answer: it takes no batch with one of these ``metric`` events in it, and no more bytes of events."""

    def answer(batch: Batch) -> Sent:
        if most_bytes is not None and sum(map(len, batch.events)) > most_bytes:
            return TooLarge()
        if any(metric(number) in batch.events for number in poison):
            return Rejected("http_400", divisible=True)
        return Delivered()

    return answer


def unavailable(**details: Any) -> FetchError:
    return FetchError("http_503", "the server answered 503", **details)


def in_threads(count: int, work: Callable[[int], None]) -> None:
    """Run ``work(0) ... work(count - 1)`` at the same time, and to the end."""
    gate = threading.Barrier(count)

    def run(index: int) -> None:
        gate.wait()
        work(index)

    threads = [threading.Thread(target=run, args=(index,)) for index in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


class App:
    """The recording half of a client, in a process of its own, that its process looks after."""

    def __init__(self, sink: Any, clock: Any = None, **settings: Any) -> None:
        clock = clock or SystemClock()
        config = Config(**{"exit_deadline_s": 2, **settings})
        self.config = config
        self.sink = sink
        self.buffer = Buffer(config.max_pending, config.batch_size)
        encoder = ExposureEncoder(lambda: "test", config.exposure_window_s)
        self.exposures = Exposures(config, clock, self.buffer, encoder.constant)
        self.delivery = Delivery(sink, self.buffer, self.exposures, encoder, config, clock)
        self.buffer.consumer = self.worker = Worker("flagkit-delivery", self.delivery.step, clock)
        self.met = decision()
        process.adopt(self)

    def expose(self, who: str, count: int) -> None:
        for number in range(count):
            self.exposures.record(self.met, f"{who}-{number}".encode())

    def after_fork(self) -> None:
        for part in (self.buffer, self.exposures, self.delivery, self.worker):
            part.after_fork()

    def at_exit(self, elapsed_s: float) -> None:
        self.delivery.flush(max(0.0, self.config.exit_deadline_s - elapsed_s))


class Rig:
    """A delivery on a fake clock, with everything around it."""

    def __init__(self, *script: Any, chance: float = 1.0, **settings: Any) -> None:
        self.config = Config(**{"batch_size": 10, "flush_interval_s": 5, **settings})
        self.clock = FakeClock()
        self.sink = ScriptedSink(script)
        self.buffer = Buffer(self.config.max_pending, self.config.batch_size)
        encoder = ExposureEncoder(lambda: "test", self.config.exposure_window_s)
        self.exposures = Exposures(self.config, self.clock, self.buffer, encoder.constant)
        random = FixedRandom(chance)
        self.delivery = Delivery(self.sink, self.buffer, self.exposures, encoder, self.config, self.clock, random)
        self.tracked = 0

    def track(self, count: int = 1) -> None:
        for _ in range(count):
            self.buffer.append(metric(self.tracked))
            self.tracked += 1

    def run(self, seconds: float) -> None:
        """Drive the delivery as a worker would."""
        until_s = self.clock.monotonic_s() + seconds
        while (pause_s := self.delivery.step()) + self.clock.monotonic_s() <= until_s:
            self.clock.advance(pause_s)
        self.clock.advance(until_s - self.clock.monotonic_s())

    @property
    def sizes(self) -> list[int]:
        return [len(batch.events) for batch in self.sink.batches]


class Hopeless:
    """Not an event, whatever recorded it."""
