"""The service put together: keys, store, definitions, what operators do, and the threads they run in.

Nothing is opened or started before ``start``. The application asks it for its parts; ``serve`` and the ASGI lifespan
start and close it.
"""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

from flagkit.clock import Clock, SystemClock
from flagkit.server.allowance import Allowance
from flagkit.server.chronicle import Chronicle
from flagkit.server.config import ServerConfig
from flagkit.server.definitions import DefinitionsFile
from flagkit.server.early_access import EarlyAccess
from flagkit.server.evaluation import Evaluation
from flagkit.server.keys import Keys, keys_for
from flagkit.server.operations import Operations
from flagkit.server.store import Store
from flagkit.server.streams import Streams
from flagkit.server.trials import Trials


class Service:
    """One running service. ``start`` and ``close`` may be called again and then do nothing."""

    def __init__(self, config: ServerConfig, clock: Clock | None = None) -> None:
        self.config = config
        self._clock = clock or SystemClock()
        self._stop = threading.Event()
        self._watchers: list[threading.Thread] = []
        self.store = Store(config.db, self._clock.wall_ms, config.max_units)
        self.definitions = DefinitionsFile(config.definitions, self.store)
        self.streams = Streams(config.max_streams, config.heartbeat_s)
        self.definitions.listeners.append(self.streams.publish)  # first: the others write to disk
        self.evaluation = Evaluation(self._clock.wall_ms)
        self.definitions.listeners.append(self.evaluation.publish)
        #: Of all browser keys together, so that pages cannot keep the service from its other clients.
        self.browser_allowance = Allowance(config.browser_requests_per_s, self._clock.monotonic_s)
        self.chronicle = Chronicle(config.definitions, self.store, self._clock.wall_ms)
        self.definitions.listeners.append(self.chronicle.follow)
        self.early_access = EarlyAccess(self.definitions, self.store)
        self.operations = Operations(config.definitions, self.definitions, self.chronicle, self._clock)
        self.trials = Trials(self.definitions, self.chronicle, self.store, self._clock)
        #: Judges what fleets have counted, one report at a time.
        self.judge = ThreadPoolExecutor(1, "flagkit-judge")
        #: Carries out orders, one at a time.
        self.operator = ThreadPoolExecutor(1, "flagkit-operator")
        #: Reads batches: at most two are decoded at any time, however many requests wait. Threads start when needed.
        self.intake = ThreadPoolExecutor(2, "flagkit-intake")
        #: Answers summaries, one at a time.
        self.reader = ThreadPoolExecutor(1, "flagkit-reader")
        #: Decides for others, off the loop: a flag is compiled when it is first asked for.
        self.evaluator = ThreadPoolExecutor(2, "flagkit-evaluator")
        self.keys = Keys((), ())

    def start(self) -> None:
        """Open everything and serve.

        Raises: ConfigError when the database or the keys file is not ours to use; DefinitionsError when there are no
            good definitions, neither in the file nor from an earlier run; sqlite3.Error.
        """
        if self._watchers:
            return
        if not self.config.db.exists():
            self.definitions.check()  # a first start that cannot work leaves nothing behind
        self.keys = keys_for(self.config)
        self.store.open()
        try:
            self.chronicle.open()
            self.definitions.open()
            self.chronicle.catch_up(self.definitions.served.number)
            self.streams.publish(None, self.definitions.served)
            self.evaluation.publish(None, self.definitions.served)
        except BaseException:
            self.store.close()
            raise
        for name, watch in (("definitions", self.definitions.watch), ("enrolments", self.early_access.watch)):
            watcher = threading.Thread(
                target=watch, args=(self._stop, self._clock), name=f"flagkit-{name}", daemon=True
            )
            watcher.start()
            self._watchers.append(watcher)

    def close(self) -> None:
        """Return when every event taken is on disk and every thread has ended."""
        if not self._watchers or self._stop.is_set():
            return
        self._stop.set()
        self.streams.close()
        for watcher in self._watchers:
            watcher.join()
        self.operator.shutdown()
        self.judge.shutdown()
        self.trials.close()
        self.intake.shutdown()
        self.reader.shutdown()
        self.evaluator.shutdown()
        self.store.close()
