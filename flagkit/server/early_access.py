"""Early access at the service: events count for flags that offer it, and who is enrolled is put into what is served.

It asks the store who is enrolled whenever somebody may have changed that, about once a second at most however many do,
and never touches the file. The application hands it batches; the service gives it a thread. It knows no HTTP and no
rows.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
from concurrent.futures import Future
from typing import Final

from flagkit.clock import Clock
from flagkit.errors import shown
from flagkit.server.definitions import DefinitionsFile
from flagkit.server.intake import Received
from flagkit.server.store import Store

_log = logging.getLogger("flagkit")

#: How often, at the most, what is served changes because of who enrolled, seconds.
_EVERY_S: Final = 1.0
#: The most that this may be of what the process does, whatever events come: definitions may be large.
_SHARE: Final = 0.1


class EarlyAccess:
    """See the module. ``store`` is for any thread, ``look`` for one."""

    def __init__(self, definitions: DefinitionsFile, store: Store) -> None:
        self._definitions = definitions
        self._store = store
        self._changed = threading.Event()
        self._changed.set()
        #: Events of units that would have enrolled where there was no room, over the life of the database.
        self.refused = 0

    def store(self, received: Received) -> Future[int]:
        """Have a batch stored, and those of its enrolments count that the definitions offer. As ``Store.add``."""
        if not received.enrolments:
            return self._store.add(received)
        flags = self._definitions.served.definitions.flags
        stored = self._store.add(received, frozenset(key for key, flag in flags.items() if flag.early_access))
        stored.add_done_callback(lambda _: self._changed.set())
        return stored

    def watch(self, stop: threading.Event, clock: Clock) -> None:
        """Look once a second, and less often if it takes long, until ``stop`` is set."""
        pause_s = _EVERY_S
        while not clock.wait(stop, pause_s):
            began_s = clock.monotonic_s()
            try:
                self.look()
            except Exception as error:  # noqa: BLE001 - the loop body: whatever one look did, there is a next one
                self._changed.set()
                _log.error("who is enrolled cannot be served: %s", shown(error))
            pause_s = max(_EVERY_S, (clock.monotonic_s() - began_s) / _SHARE)

    def look(self) -> None:
        """If anybody may have enrolled since the last time, serve who is now."""
        if not self._changed.is_set():
            return
        self._changed.clear()
        try:
            self.refused = self._store.refused()
            self._definitions.enrol(self._store.members())
        except sqlite3.Error as error:
            self._changed.set()
            _log.warning("who is enrolled is not served yet: %s", error)
