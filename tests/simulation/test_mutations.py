"""The simulation can fail: with one protection switched off, some schedule breaks a promise, and soon.

Each test takes away one line of defence and runs schedules until one is caught; ``SOON`` says how many that may take.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import pytest

from flagkit.events import Batch
from flagkit.runtime import current, spooler
from flagkit.runtime.backoff import Backoff
from flagkit.runtime.buffer import Buffer, Seal
from flagkit.runtime.current import Current
from flagkit.runtime.delivery import Delivery
from flagkit.runtime.exposures import Exposures
from flagkit.runtime.segment import Segment
from flagkit.runtime.spooler import Spooler
from tests.simulation.schedule import Violation
from tests.simulation.world import World
from tests.unit.folders import MemoryAppender, MemoryFolder, MemoryLock

SOON = 40
Patch = pytest.MonkeyPatch


def validator_before_the_swap(patch: Patch) -> None:
    install = Current.install

    def hasty(self: Current, data: bytes, validator: str | None = None, since: int | None = None) -> bool:
        self.validator = validator
        return install(self, data, validator, since)

    patch.setattr(Current, "install", hasty)


def acknowledged_before_it_is_sent(patch: Patch) -> None:
    hand_over = Delivery._hand_over

    def hasty(self: Delivery, batch: Batch, deadline_s: float) -> Any:
        assert self._sealed is not None
        self._settle(self._sealed, {})
        return hand_over(self, batch, deadline_s)

    patch.setattr(Delivery, "_hand_over", hasty)


def batches_are_counted(patch: Patch) -> None:
    seal = Segment.seal

    def counted(self: Segment, count: int) -> Seal:
        seal(self, count)
        return Seal(f"{next(numbers):032x}")

    numbers = itertools.cycle(range(3))
    patch.setattr(Segment, "seal", counted)


def batches_have_a_new_name_each_time(patch: Patch) -> None:
    hand_over = Delivery._hand_over

    def renamed(self: Delivery, batch: Batch, deadline_s: float) -> Any:
        return hand_over(self, Batch.seal(batch.events, batch.dropped), deadline_s)

    patch.setattr(Delivery, "_hand_over", renamed)


def nothing_is_settled_when_it_is_refused(patch: Patch) -> None:
    settle = Delivery._settle

    def sparing(self: Delivery, sealed: Any, refused: Any) -> None:
        if not refused:
            settle(self, sealed, refused)

    patch.setattr(Delivery, "_settle", sparing)


def a_child_keeps_its_parents_events(patch: Patch) -> None:
    after_fork = Buffer.after_fork

    def keeping(self: Buffer) -> None:
        if not hasattr(self, "_events"):
            after_fork(self)

    patch.setattr(Buffer, "after_fork", keeping)


def older_numbers_are_taken_at_once(patch: Patch) -> None:
    patch.setattr(current, "_older_by", lambda new, known: None)


def any_environment_will_do(patch: Patch) -> None:
    patch.setattr(Current, "_check_environment", lambda self, new, known: None)


def what_was_good_is_forgotten(patch: Patch) -> None:
    init = Current.__init__

    def forgetful(self: Current, parse: Any, *args: Any, **settings: Any) -> None:
        init(self, lambda data, known: parse(data, None), *args, **settings)

    patch.setattr(Current, "__init__", forgetful)


def the_servers_wish_is_not_heeded(patch: Patch) -> None:
    failed = Backoff.failed
    patch.setattr(Backoff, "failed", lambda self, after_s=0.0, *, lasting=False: failed(self, lasting=lasting))


def a_wrong_key_ends_polling(patch: Patch) -> None:
    failed = Backoff.failed

    def final(self: Backoff, after_s: float = 0.0, *, lasting: bool = False) -> float:
        return 1e6 if lasting else failed(self, after_s)

    patch.setattr(Backoff, "failed", final)


def what_is_settled_is_not_noted(patch: Patch) -> None:
    patch.setattr(Segment, "_note", lambda self, kind, start, end: None)


def nobody_heeds_a_lock(patch: Patch) -> None:
    lock = MemoryFolder.lock
    patch.setattr(MemoryFolder, "lock", lambda self, name: lock(self, name) or MemoryLock(self._file(name)))


def nothing_is_synced(patch: Patch) -> None:
    patch.setattr(MemoryAppender, "sync", lambda self: None)


def writing_takes_its_time(patch: Patch) -> None:
    patch.setattr(spooler, "_ROUND_S", 5.0)


def memory_is_unbounded(patch: Patch) -> None:
    init = Buffer.__init__
    patch.setattr(Buffer, "__init__", lambda self, most, crowd: init(self, 10**9, crowd))


def the_spool_is_unbounded(patch: Patch) -> None:
    patch.setattr(Spooler, "_room", lambda self: math.inf)


def nobody_exposed_is_forgotten(patch: Patch) -> None:
    patch.setattr(Exposures, "turn", lambda self: None)


def who_records_writes(patch: Patch) -> None:
    start = Spooler.start

    def writing(self: Spooler) -> None:
        start(self)
        with self.holding():
            self.write()

    patch.setattr(Spooler, "start", writing)


#: What is switched off, and the settings that make it matter sooner.
PROTECTIONS: list[tuple[Callable[[Patch], None], dict[str, Any]]] = [
    (validator_before_the_swap, {"streams": False, "weather_s": 10.0}),
    (acknowledged_before_it_is_sent, {}),
    (batches_are_counted, {}),
    (batches_have_a_new_name_each_time, {}),
    (nothing_is_settled_when_it_is_refused, {}),
    (a_child_keeps_its_parents_events, {}),
    (older_numbers_are_taken_at_once, {"streams": False, "weather_s": 10.0}),
    (any_environment_will_do, {}),
    (what_was_good_is_forgotten, {}),
    (the_servers_wish_is_not_heeded, {}),
    (a_wrong_key_ends_polling, {}),
    (what_is_settled_is_not_noted, {}),
    (nobody_heeds_a_lock, {}),
    (nothing_is_synced, {"deaths": True, "disk_faults": False, "spooled": True}),
    (writing_takes_its_time, {}),
    (memory_is_unbounded, {}),
    (the_spool_is_unbounded, {"max_spool_bytes": 65_536, "burst": 200, "idle_s": 2.0, "spooled": True}),
    (nobody_exposed_is_forgotten, {}),
    (who_records_writes, {}),
]


@pytest.mark.full
@pytest.mark.parametrize(("switched_off", "given"), PROTECTIONS, ids=lambda each: getattr(each, "__name__", ""))
def test_without_a_protection_some_schedule_fails_soon(
    switched_off: Callable[[Patch], None], given: dict[str, Any], monkeypatch: Patch
) -> None:
    switched_off(monkeypatch)
    for seed in range(SOON):
        try:
            World(seed, **given).play()
        except Violation:
            return
    pytest.fail(f"{SOON} schedules noticed nothing")
