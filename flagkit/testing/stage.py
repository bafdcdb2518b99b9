"""``Stage``: a client's stand-in while a test runs. It takes over a client as it is, and gives it back as it was.

All that a client is are its attributes. A stage has such a set of its own, whose definitions are the test's, whose sink
is in memory, and which has no thread; it lends them to the client. Whoever holds the client, or a verb of it, in
whatever thread or task, then asks the test's flags. ``Flags`` calls it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Final, cast

from flagkit.client import Client
from flagkit.clock import Clock
from flagkit.config import Config
from flagkit.context import Context
from flagkit.core.logic import Forced
from flagkit.core.model import Definitions, FlagDefinition
from flagkit.core.snapshot import Snapshot
from flagkit.decision import Decision, ErrorCode
from flagkit.runtime.recording import Recording
from flagkit.sinks import Memory
from flagkit.sources import Static

#: As many events as a ``Memory`` keeps.
_MOST_PENDING: Final = 100_000


class Stage(Client):
    """See the module.

    client: whom it answers for. sink: gets what is recorded, at a flush. missed: told the key of a flag that was asked
    for and does not exist, and where.
    """

    def __init__(self, client: Client, sink: Memory, clock: Clock, missed: Callable[[str, str], None]) -> None:
        source = Static({"schema": 1, "flags": {}})
        config = Config(max_pending=_MOST_PENDING, environment=client._feed.environment())
        super().__init__(source=source, sink=sink, config=config, clock=clock, fleet=None, webhook=None)
        self._client = client
        self._defined = self.defined_by(client)
        recording = cast(Recording, self._recording)
        recording._buffer.consumer = None  # or the first event would start its thread
        self._record = recording.exposures.record
        self._watch = cast(Snapshot, _Watch(lambda: self._feed.snapshot, recording.exposures.turn, missed))
        # As attributes they go with the others to the client, whose class has other ones. Definitions are always here,
        # so there is nothing to start but the word that they are.
        self.__dict__.update(start=self._feed.start, refresh=lambda *_, **__: True)

    @staticmethod
    def defined_by(client: Client) -> Mapping[str, FlagDefinition]:
        """The flags of the client's own definitions, also while another stage answers for it."""
        defined: Mapping[str, FlagDefinition] | None = client.__dict__.get("_defined")
        return client._feed.snapshot.definitions.flags if defined is None else defined

    def _awake(self) -> Snapshot:
        # Only the verbs of an answer come here, by way of what a client asks before it is started, and this one never
        # is. What describes flags asks the client that stands here for its snapshot.
        return self._watch

    def play(self, definitions: Definitions) -> None:
        """Answer by ``definitions`` from now on. Flags that are what they were keep what is known of their exposure."""
        current = self._feed.current
        before = current.snapshot
        old = before.definitions.flags
        flags = {key: old[key] if old.get(key) == flag else flag for key, flag in definitions.flags.items()}
        current._take(before, current._next(before, definitions._replace(flags=flags)), (), None, whole=True)

    def stand_in(self) -> Callable[[], None]:
        """Answer for the client from now on; return what gives it back."""
        client = self._client
        own = client.__dict__
        for name, value in own.items():
            if not hasattr(Client, name):  # what somebody derived from Client has besides
                self.__dict__.setdefault(name, value)
        self._overrides = client._overrides
        client.__dict__ = self.__dict__

        def give_back() -> None:
            client.__dict__ = own
            client._changed()  # what came meanwhile was told to this stage

        return give_back


class _Watch:
    """What the verbs ask: the snapshot in use, with an eye on flags that it has not.

    turn: has exposures look at the clock, which is otherwise left to the thread that delivers them.
    """

    __slots__ = ("_missed", "_snapshot", "_turn")

    def __init__(
        self, snapshot: Callable[[], Snapshot], turn: Callable[[], None], missed: Callable[[str, str], None]
    ) -> None:
        self._snapshot = snapshot
        self._turn = turn
        self._missed = missed

    def decide(self, flag: str, context: Context, forced: Forced = None) -> Decision:
        self._turn()
        decision = self._snapshot().decide(flag, context, forced)
        if decision.error_code is ErrorCode.FLAG_NOT_FOUND:
            self._missed(decision.flag, _where())
        return decision


def _where() -> str:
    """The line outside flagkit that asks."""
    frame = sys._getframe(1)
    while frame.f_back is not None and str(frame.f_globals.get("__name__")).partition(".")[0] == "flagkit":
        frame = frame.f_back
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"
