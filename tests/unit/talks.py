"""A source that tells, a connection that says what it was given, and definitions that note what becomes of it."""

from __future__ import annotations

from queue import SimpleQueue
from typing import Any

from documents import ON, document

from flagkit.core.model import Definitions
from flagkit.dialects import Followed, Parsed
from flagkit.errors import FetchError
from flagkit.sources import Changed, Fetched

PATIENCE_S = 10.0
HEARTBEAT = Changed(b"here")
GAP = Changed(b"gap")


class Talk:
    """A connection that says what it was given, in order, and then nothing until somebody hangs up."""

    silence_s = 45.0

    def __init__(self, *script: Any) -> None:
        self.script: SimpleQueue[Any] = SimpleQueue()
        self.say(*script)
        self.closed = 0
        self.asked: list[float] = []

    def say(self, *script: Any) -> None:
        for each in script:
            self.script.put(each)

    def next(self, timeout_s: float) -> Any:
        self.asked.append(timeout_s)
        said = self.script.get(timeout=PATIENCE_S)
        if isinstance(said, Exception):
            raise said
        return said

    def hang_up(self) -> None:
        self.say(FetchError("ended", "hung up"))

    def close(self) -> None:
        self.closed += 1


class Telling:
    """A source that tells: each ``listen`` gives the next of its talks, or raises it."""

    name = "telling"
    dialect = "native"
    local = False

    def __init__(self, *talks: Talk | Exception) -> None:
        self.tells = True
        self.talks = list(talks)
        self.marks: list[str | None] = []

    def listen(self, mark: str | None, *, deadline_s: float, max_bytes: int) -> Talk:
        self.marks.append(mark)
        talk = self.talks.pop(0) if len(self.talks) > 1 else self.talks[0]
        if isinstance(talk, Exception):
            raise talk
        return talk

    def fetch(self, validator: str | None, *, deadline_s: float, max_bytes: int) -> Fetched:
        return Fetched(document({"f": ON}, epoch="e", number=1))

    def close(self) -> None: ...
    def after_fork(self) -> None: ...


class InUse:
    """Definitions in use: ``here`` confirms, ``gap`` means a fetch, anything else is applied."""

    mark = "e:1"

    def __init__(self) -> None:
        self.applied: list[bytes] = []
        self.confirmed = 0
        self.confirmed_s = float("-inf")
        self.disk: str | None = None

    def follow(self, data: bytes) -> Followed:
        if data.startswith(b"gap"):
            return Followed(fetch=True, spread_s=float(data[3:]) if data[3:] else None)
        if data == b"old":
            return Followed()
        if data != b"here":
            self.applied.append(data)
        self.confirm(None)
        return Followed(None if data == b"here" else Parsed(Definitions({}), ()), confirmed=True)

    def confirm(self, server_ms: int | None) -> None:
        self.confirmed += 1
