"""The definitions in use: bytes become a snapshot here, and time that passes without confirmation is held against them.

The poller's thread and the stream's bring documents and changes, each reading at its own pace; what was read is taken
into use only if it was read against what is in use still, else it is read again, so that nobody waits for anybody.
``publish`` is told every new snapshot, and the one before. Knows nothing of where bytes come from.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from typing import Final

from flagkit.boundary import contained
from flagkit.clock import Clock, DefinitionsClock
from flagkit.config import Config
from flagkit.core.model import Definitions, FlagDefinition
from flagkit.core.snapshot import Snapshot, TakenBack
from flagkit.dialects import Follow, Followed, Parse
from flagkit.errors import DefinitionsError, Problem
from flagkit.log import logger
from flagkit.runtime.stats import Origin

_GRACE_S: Final = 60.0
_ABSORBED_S: Final = 300.0
_MOST_SHOWN: Final = 20


class Current:
    """Owner of the snapshot.

    fixed: the definitions cannot change, so that they never grow old.
    taken_back: what guards have taken back of the flags of some definitions; asked for each that comes into use.
        ``retrip`` says that it would answer otherwise now.
    snapshot: what answers now.
    """

    def __init__(
        self,
        parse: Parse,
        publish: Callable[[Snapshot, Snapshot], None],
        config: Config,
        clock: Clock,
        *,
        observe: bool,
        fixed: bool,
        follow: Follow | None = None,
        taken_back: Callable[[Definitions], TakenBack] = lambda _: TakenBack(),
    ) -> None:
        self._taken_back = taken_back
        self._parse = parse
        self._follow = follow
        self._publish = publish
        self._config = config
        self._clock = clock
        self._fixed = fixed
        self._log = logger()
        #: How long definitions count as current without another word of their source, seconds.
        self._grace_s = math.inf if fixed else max(2 * config.poll_interval_s, _GRACE_S)
        self._definitions_clock = DefinitionsClock(clock, self._grace_s)
        self._confirmed_s: float | None = None
        #: How often the source vouched for the definitions in use.
        self.confirmations = 0
        self._said: tuple[Problem, ...] = ()  # of the definitions in use
        self._refusal: tuple[Problem, ...] = ()  # of the latest document, if it was refused
        self._older_s: float | None = None  # since when the source has had an older number than the one in use
        #: Counts the definitions that came into use.
        self.generation = 0
        #: What the source calls the document that the definitions in use are. None: it has no name for it.
        self.validator: str | None = None
        #: Whether they were read from a document as it is; False: changes have been applied since.
        self.whole = True
        #: Whether they are of an earlier run, and their source has not confirmed them since.
        self.recalled = False
        self.snapshot = Snapshot(Definitions({}), now_ms=self._definitions_clock.now_ms, observe=observe, ready=False)
        self.after_fork()

    def after_fork(self) -> None:
        """In a forked child: the lock may have been held by a thread that is not here. Assigns only."""
        self._turn = threading.Lock()  # for a comparison and a few assignments, never while anything is read

    def install(self, data: bytes, validator: str | None = None, since: int | None = None) -> bool:
        """Make a document the definitions in use; return whether they are what it says.

        Args: validator, what the source calls the document. since, ``generation`` when it was asked for: if others
            came into use meanwhile, it replaces them only when it is newer than they are.
        Raises: DefinitionsError when refused; the last good one stays.
        """
        while True:
            before = self.snapshot
            known = before.definitions if before.ready else None
            late = since is not None and since != self.generation
            try:
                parsed = self._parse(data, known)
                self._check_environment(parsed.definitions, known)
            except DefinitionsError as error:
                if late:
                    return False
                self._refusal = error.problems
                self._switch_off(error.off)
                raise
            problems = parsed.problems
            older_by = _older_by(parsed.definitions, known)
            if late and (older_by is None or older_by >= 0):
                return False
            if older_by is not None and older_by > 0:
                if not self._outlasted(parsed.definitions, older_by):
                    return False
                problems += (_gone_back(parsed.definitions, older_by),)
            new_snapshot = self._next(before, parsed.definitions)
            if self._take(before, new_snapshot, problems, validator, whole=True):
                return True

    def follow(self, data: bytes) -> Followed:
        """Apply a change that the source told of its own accord; return what came of it.

        What is not applied changes nothing and says how soon the document should be fetched. Raises: nothing.
        """
        while True:
            before = self.snapshot
            if self._follow is None or not before.ready:
                return Followed(fetch=True)
            try:
                followed = self._follow(data, before.definitions)
            except DefinitionsError:
                return Followed(fetch=True)
            if followed.parsed is not None:
                parsed = followed.parsed
                new_snapshot = self._next(before, parsed.definitions)
                if not self._take(before, new_snapshot, parsed.problems, followed.validator, whole=False):
                    continue
            if followed.confirmed:
                self.confirm(None)
            return followed

    @property
    def mark(self) -> str | None:
        """The epoch and number of the definitions in use, as a stream names its events; None when they have none."""
        definitions = self.snapshot.definitions
        return None if definitions.epoch is None else f"{definitions.epoch}:{definitions.number}"

    def _take(
        self,
        before: Snapshot,
        snapshot: Snapshot,
        problems: tuple[Problem, ...],
        validator: str | None,
        *,
        whole: bool,
    ) -> bool:
        """Take definitions into use in place of those of ``before``; return whether those were still in use."""
        with self._turn:
            if self.snapshot is not before:
                return False
            new_problems = problems != self._said
            self._said, self._refusal = problems, ()
            self.validator, self.whole = validator, whole
            self.generation += 1
            self.snapshot = snapshot
        self._publish(snapshot, before)
        if problems and new_problems:
            shown = "".join(f"\n  {problem}" for problem in problems[:_MOST_SHOWN])
            contained(self._log.warning, "definitions: %d problems:%s", len(problems), shown, otherwise=None)
        return True

    def _outlasted(self, older: Definitions, by: int) -> bool:
        """Whether the source has had nothing but older ones for so long that it is no replica which lags behind."""
        now_s = self._clock.monotonic_s()
        since_s = self._older_s  # another thread may forget it meanwhile
        if since_s is None:
            since_s = self._older_s = now_s
        message = f"number {older.number} is older by {by} than what is in use: set aside for 5 minutes"
        self._refusal = (Problem("$.number", message),)
        return now_s - since_s >= _ABSORBED_S

    def _switch_off(self, flags: frozenset[str]) -> None:
        """Obey what a refused document turns off. Its flags come back with the next one that is accepted."""
        while True:
            before = self.snapshot
            definitions = before.definitions
            off = {
                key: flag._replace(enabled=False, text="")
                for key, flag in definitions.flags.items()
                if key in flags and flag.enabled
            }
            switched = definitions._replace(flags={**definitions.flags, **off})
            if not off or self._store(before, before.following(switched)):
                break
        if off:
            self.validator = None  # they come back by a document that is installed, not by one that is confirmed

    def recall(self, data: bytes, validator: str | None, age_s: float) -> None:
        """Take a document of an earlier run into use, until the source is heard.

        For a constructor. age_s: how long ago it was last confirmed, seconds. Raises: DefinitionsError, as ``install``.
        """
        self.install(data, validator)
        self.recalled = True
        self._confirmed_s = self._clock.monotonic_s() - age_s
        self._definitions_clock.confirm(age_s=age_s)
        self.age()

    def confirm(self, server_ms: int | None) -> None:
        """The source vouched for the definitions in use just now; ``server_ms`` is its wall clock, if it told."""
        self._refusal = ()
        self._older_s = None
        self.recalled = False
        self._confirmed_s = self._clock.monotonic_s()
        self.confirmations += 1
        self._definitions_clock.confirm(server_ms)
        self.age()

    def age(self) -> None:
        """Let flags that outlived their definitions serve ``off``, and bring them back once these are confirmed."""
        age_s, before = self.age_s, self.snapshot
        if age_s is None or self._fixed:
            return
        flags = before.definitions.flags
        young = age_s < 1  # no flag may ask for less, and confirmations come here with an age of nearly nothing
        stale = frozenset() if young else frozenset(key for key in flags if age_s > self._patience_s(flags[key]))
        if stale != before.stale:
            self._store(before, before.following(stale=stale))

    def retrip(self) -> None:
        """Take into use what guards have taken back by now. Any thread; quick when nothing is new."""
        while (new := self._taken_back((before := self.snapshot).definitions)) != (before.trips, before.holds):
            if self._store(before, before.following(trips=new.trips, holds=new.holds)):
                break

    def _next(self, before: Snapshot, definitions: Definitions) -> Snapshot:
        trips, holds = self._taken_back(definitions)
        return before.following(definitions, stale=frozenset(), trips=trips, holds=holds)

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
    def origin(self) -> Origin | None:
        """Where the definitions in use are from, as ``Status`` has it."""
        if not self.snapshot.ready:
            return None
        return "disk" if self.recalled else "source"

    @property
    def age_s(self) -> float | None:
        """Seconds since the definitions were last confirmed; None before the first."""
        return None if self._confirmed_s is None else self._clock.monotonic_s() - self._confirmed_s

    @property
    def unconfirmed(self) -> bool:
        """Whether the source has been silent for so long that dates and ramps stand still."""
        return (self.age_s or 0.0) > self._grace_s

    def _store(self, before: Snapshot, snapshot: Snapshot) -> bool:
        with self._turn:
            if self.snapshot is not before:
                return False
            self.snapshot = snapshot
        self._publish(snapshot, before)
        return True

    def _check_environment(self, new: Definitions, known: Definitions | None) -> None:
        """Definitions of another environment are somebody else's. Raises: DefinitionsError."""
        # What an earlier run met does not say what this one is meant to meet.
        expected = self._config.environment or (known.environment if known and not self.recalled else None)
        if expected is not None and new.environment is not None and new.environment != expected:
            message = f'got "{new.environment}"; expected "{expected}", the environment of this client'
            raise DefinitionsError((Problem("$.environment", message),))


def _older_by(new: Definitions, known: Definitions | None) -> int | None:
    """By how much the number is less than the one known; None when the two have none that can be compared."""
    if known is None or known.epoch is None or known.epoch != new.epoch or known.number is None or new.number is None:
        return None
    return known.number - new.number


def _gone_back(older: Definitions, by: int) -> Problem:
    message = f"number {older.number} is in use although one newer by {by} was before it: the service has gone back"
    return Problem("$.number", message, refused=False)
