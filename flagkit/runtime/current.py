"""The definitions in use: bytes become a snapshot here, and time that passes without confirmation is held against them.

One writer: the constructor, then the poller's thread. ``publish`` is told every new snapshot. Knows nothing of where
bytes come from.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

from flagkit.clock import Clock, DefinitionsClock
from flagkit.config import Config
from flagkit.core.model import Definitions, FlagDefinition
from flagkit.core.snapshot import Snapshot
from flagkit.dialects import Parse
from flagkit.errors import DefinitionsError, Problem
from flagkit.log import logger

_GRACE_S: Final = 60.0
_MOST_SHOWN: Final = 20


class Current:
    """Owner of the snapshot.

    fixed: the definitions cannot change, so that they never grow old.
    snapshot: what answers now.
    """

    def __init__(
        self,
        parse: Parse,
        publish: Callable[[Snapshot], None],
        config: Config,
        clock: Clock,
        *,
        observe: bool,
        fixed: bool,
    ) -> None:
        self._parse = parse
        self._publish = publish
        self._config = config
        self._clock = clock
        self._fixed = fixed
        self._log = logger()
        self._definitions_clock = DefinitionsClock(
            clock, math.inf if fixed else max(2 * config.poll_interval_s, _GRACE_S)
        )
        self._confirmed_s: float | None = None
        self._said: tuple[Problem, ...] = ()  # of the definitions in use
        self._refusal: tuple[Problem, ...] = ()  # of the latest document, if it was refused
        self.snapshot = Snapshot(Definitions({}), now_ms=self._definitions_clock.now_ms, observe=observe, ready=False)

    def install(self, data: bytes) -> None:
        """Make a document the definitions in use. Raises: DefinitionsError when refused; the last good one stays."""
        known = self.snapshot.definitions if self.snapshot.ready else None
        try:
            parsed = self._parse(data, known)
            self._check_environment(parsed.definitions, known)
        except DefinitionsError as error:
            self._refusal = error.problems
            raise
        if parsed.problems and parsed.problems != self._said:
            shown = "".join(f"\n  {problem}" for problem in parsed.problems[:_MOST_SHOWN])
            self._log.warning("definitions: %d problems:%s", len(parsed.problems), shown)
        self._said, self._refusal = parsed.problems, ()
        self._store(self.snapshot.following(parsed.definitions, stale=frozenset()))

    def confirm(self, server_ms: int | None) -> None:
        """The source vouched for the definitions in use just now; ``server_ms`` is its wall clock, if it told."""
        self._refusal = ()
        self._confirmed_s = self._clock.monotonic_s()
        self._definitions_clock.confirm(server_ms)
        self.age()

    def age(self) -> None:
        """Let flags that outlived their definitions serve ``off``, and bring them back once these are confirmed."""
        age_s = self.age_s
        if age_s is None or self._fixed:
            return
        flags = self.snapshot.definitions.flags
        young = age_s < 1  # no flag may ask for less, and confirmations come here with an age of nearly nothing
        stale = frozenset() if young else frozenset(key for key in flags if age_s > self._patience_s(flags[key]))
        if stale != self.snapshot.stale:
            self._store(self.snapshot.following(stale=stale))

    def _patience_s(self, flag: FlagDefinition) -> float:
        """How long a flag may go on without confirmation, seconds."""
        if flag.max_age_s is not None:
            return flag.max_age_s
        return self._config.max_age_s if flag.guard is not None or flag.is_partial else math.inf

    @property
    def problems(self) -> tuple[Problem, ...]:
        """What is wrong in the definitions in use, and in the latest document if it was refused."""
        return self._said + self._refusal

    @property
    def age_s(self) -> float | None:
        """Seconds since the definitions were last confirmed; None before the first."""
        return None if self._confirmed_s is None else self._clock.monotonic_s() - self._confirmed_s

    def _store(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot
        self._publish(snapshot)

    def _check_environment(self, new: Definitions, known: Definitions | None) -> None:
        """Definitions of another environment are somebody else's. Raises: DefinitionsError."""
        expected = self._config.environment or (known.environment if known else None)
        if expected is not None and new.environment is not None and new.environment != expected:
            message = f'got "{new.environment}"; expected "{expected}", the environment of this client'
            raise DefinitionsError((Problem("$.environment", message),))
