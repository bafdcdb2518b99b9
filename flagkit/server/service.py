"""The service put together: keys, store, definitions, and the threads they run in.

Nothing is opened or started before ``start``. The application asks it for its parts; ``serve`` and the ASGI lifespan
start and close it.
"""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

from flagkit.clock import Clock, SystemClock
from flagkit.server.config import ServerConfig
from flagkit.server.definitions import DefinitionsFile
from flagkit.server.keys import Keys, keys_for
from flagkit.server.store import Store


class Service:
    """One running service. ``start`` and ``close`` may be called again and then do nothing."""

    def __init__(self, config: ServerConfig, clock: Clock | None = None) -> None:
        self.config = config
        self._clock = clock or SystemClock()
        self._stop = threading.Event()
        self._watcher: threading.Thread | None = None
        self.store = Store(config.db, self._clock.wall_ms)
        self.definitions = DefinitionsFile(config.definitions, self.store)
        #: Reads batches: at most two are decoded at any time, however many requests wait. Threads start when needed.
        self.intake = ThreadPoolExecutor(2, "flagkit-intake")
        #: Answers summaries, one at a time.
        self.reader = ThreadPoolExecutor(1, "flagkit-reader")
        self.keys = Keys((), ())

    def start(self) -> None:
        """Open everything and serve.

        Raises: ConfigError when the database or the keys file is not ours to use; DefinitionsError when there are no
            good definitions, neither in the file nor from an earlier run; sqlite3.Error.
        """
        if self._watcher is not None:
            return
        self.keys = keys_for(self.config)
        self.store.open()
        try:
            self.definitions.open()
        except BaseException:
            self.store.close()
            raise
        self._watcher = threading.Thread(
            target=self.definitions.watch, args=(self._stop, self._clock), name="flagkit-definitions", daemon=True
        )
        self._watcher.start()

    def close(self) -> None:
        """Return when every event taken is on disk and every thread has ended."""
        if self._watcher is None or self._stop.is_set():
            return
        self._stop.set()
        self._watcher.join()
        self.intake.shutdown()
        self.reader.shutdown()
        self.store.close()
