"""What must hold: after every turn, at every answer, at every batch, at every death, and when all is over.

Each is a sentence about what anybody outside can see, or about a bound that docs promise; what is read of the product's
inside is its memory, to know what a kill may cost. A breach raises ``Violation``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.simulation.contents import OFF
from tests.simulation.ledger import event_id
from tests.simulation.network import KEY
from tests.simulation.schedule import Task, Violation

if TYPE_CHECKING:
    from tests.simulation.contents import Mark
    from tests.simulation.life import Life
    from tests.simulation.world import World

#: Events are on disk so long after they were recorded, and synced so long after that, while the disk is well: the
#: documented 50 ms and 1 s, and some turns of others.
WRITTEN_S, SYNCED_S = 0.25, 1.5
#: The longest a thread of this name pauses, beyond what the settings say.
_POLL_S, _FAULT_S, _LOOK_S, _STREAM_S = 900.0, 60.0, 67.0, 900.0
#: News that are kept as documents ask for one within that time; the poll may come as much later.
_HURRY_S = 5.0
_ABSORBED_S = 300.0


class Invariants:
    """Of one world."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.batches: dict[str, tuple[str, ...]] = {}
        self.answers = 0
        #: Event -> batch that a killed process was sending.
        self.interrupted: dict[str, str] = {}
        #: The marks of all definitions that anybody was ever given.
        self.given: set[Mark] = set()
        self._seen: dict[str, object] = {}
        self._disk_turn = -1

    # -- after every turn

    def after(self, task: Task) -> None:
        life = task.owner
        world = self._world
        if life is world or not life.alive or life.client is None:
            return
        if not life.noticed:
            return  # what it counts is its parent's
        recorder = life.recorder
        account = recorder.account()
        if not account.balanced or account.pending < 0:
            raise Violation(f"{life.name}: the account does not balance: {account}")
        if account.delivered > life.acked:
            raise Violation(f"{life.name} counts {account.delivered} delivered of {life.acked} that were")
        if life.acking is not None and account.delivered == life.acked:
            if life.folder is None or not recorder._spool._released:  # then the next process may know nothing of it
                for entry_id in life.acking:
                    world.ledger.entries[entry_id].settled_by = life.name
            life.acking = None
        most = life.config.max_pending
        if len(life.buffer) > most:
            raise Violation(f"{life.name} keeps {len(life.buffer)} events in memory, more than {most}")
        now_s = world.hub.now_s
        if now_s > life.resend_s and account.pending and not world.troubled:
            raise Violation(
                f"{life.name} has not sent a batch again that it should have {now_s - life.resend_s:.2f} s ago"
            )
        snapshot = life.current.snapshot
        if snapshot is not self._seen.get(life.name):
            self._seen[life.name] = snapshot
            self.taken(life)
            for key in world.author.keys:
                self._answered(life, key)
        if task.name == "flagkit-delivery":
            self._remembered(life)
        if task.name == "flagkit-spool":
            self._bounded()

    def taken(self, life: Life) -> None:
        """Definitions came into use: they are some that this process was given, and no older ones."""
        assert life.client is not None
        definitions = life.current.snapshot.definitions
        mark, before = (definitions.epoch, definitions.number), life.belief.mark
        if mark == before or mark == (None, None):
            return
        # Its own, or what it found on its disk: some other's then.
        if mark not in life.offers and not (before is None and life.folder is not None and mark in self.given):
            raise Violation(f"{life.name} uses {mark}, which it was never given")
        if before is not None and before[0] == mark[0] and (mark[1] or 0) < (before[1] or 0):
            since_s = life.older_s if not self._world.network.streams else life.confirmed_s
            now_s = self._world.hub.now_s
            if since_s is None or now_s - since_s < (_ABSORBED_S if not self._world.network.streams else 0.0):
                raise Violation(
                    f"{life.name} went back from {before} to {mark}, though confirmed at {life.confirmed_s}"
                )
        life.belief.take(self._world.network.known[mark])

    def _answered(self, life: Life, key: str) -> None:
        assert life.client is not None
        answer = life.current.snapshot.decide(key, life.nobody)
        self.answered(life, key, answer.value if answer.error_code is None else None)

    def answered(self, life: Life, key: str, value: object) -> None:
        """A flag answers the value it had in what was taken into use last, or the caller's default."""
        assert life.client is not None
        if life.current.snapshot is not self._seen.get(life.name):
            self.taken(life)  # it came into use in this very turn
        self.answers += 1
        now_s, age_s = self._world.hub.now_s, life.current.age_s or 0.0
        if age_s > 90:
            life.stale_s = now_s
        age_s = max(age_s, 91.0 if now_s - life.stale_s < 1.0 else 0.0)
        if not life.belief.allows(key, value, age_s):
            expected = life.belief.answers.get(key)
            raise Violation(f"{life.name}: {key} answers {value!r}, and {expected} is in use ({life.belief.mark})")

    def _remembered(self, life: Life) -> None:
        """The memory of who was exposed is bounded: by the setting, and what came since it was last looked at."""
        recorder = life.recorder
        count = sum(len(decision._exposed or ()) for decision in recorder.exposures._touched)
        now_s, config = self._world.hub.now_s, life.config
        assert config is not None
        recent_s = now_s - 2 * config.deadline_s - config.flush_interval_s - 5.0
        life.recent = [at_s for at_s in life.recent if at_s > recent_s]
        if count > config.max_exposed_units + len(life.recent) and not self._world.troubled:
            raise Violation(f"{life.name} remembers {count} exposures, more than {config.max_exposed_units}")

    def _bounded(self) -> None:
        world = self._world
        turn = world.disk.changes
        if turn == self._disk_turn:
            return
        self._disk_turn = turn
        most = world.settings["config"]["max_spool_bytes"]
        # Each process may write up to the bound as it knows it, and looks at the others' once a minute.
        most += (world.settings["slots"] - 1) * most + most // 8 + 2048
        size = world.disk.spool_bytes()
        world.most_spooled = max(world.most_spooled, size)
        # What is there it finds out once a minute, if the disk lets it.
        if size > most and world.disk.well(70.0):
            raise Violation(f"the spool takes {size} bytes, more than {most}")

    def paused(self, task: Task, timeout_s: float) -> None:
        """No thread waits longer than it may."""
        world = self._world
        config = world.settings["config"]
        longest_s = {
            "flagkit-poll": _POLL_S + config["poll_interval_s"] + _HURRY_S,
            "flagkit-delivery": max(config["flush_interval_s"], _FAULT_S),
            "flagkit-spool": _LOOK_S,
            "flagkit-stream": _STREAM_S,
        }.get(task.name)
        if longest_s is not None and timeout_s > longest_s:
            raise Violation(f"{task.name} pauses for {timeout_s:.1f} s, longer than {longest_s:.1f}")
        if task.name == "flagkit-poll":
            self._polled(task.owner)

    def _polled(self, life: Life) -> None:
        """After a poll what is too old is off, and so is what a document said is off that was refused for the rest."""
        assert life.client is not None
        current = life.current
        off, life.ordered_off = life.ordered_off, set()
        if self._world.network.streams:
            off = set()  # news may have come in between, and switched them on again
        for key, answer in life.belief.answers.items():
            too_old = answer.max_age_s is not None and (current.age_s or 0.0) > answer.max_age_s
            if (too_old or key in off) and current.snapshot.decide(key, life.nobody).enabled:
                raise Violation(f"{life.name}: {key} is on after a poll, and should be off")

    # -- at every exchange

    def asked(self, life: Life, etag: str | None) -> None:
        """Whether there is something newer is only ever asked of what is in use."""
        if life.client is not None and life.current.snapshot is not self._seen.get(life.name):
            self.taken(life)
        content = self._world.network.known.get(life.belief.mark) if life.belief.mark is not None else None
        if etag is not None and (content is None or content.etag != etag):
            raise Violation(f"{life.name} asks about {etag}, which is not the document it uses: {life.belief.mark}")

    def sent(self, life: Life, batch_id: str, events: tuple[str, ...]) -> None:
        world = self._world
        known = self.batches.setdefault(batch_id, events)
        if known != events:
            raise Violation(f"{life.name} sends other events as batch {batch_id}: {len(events)}, not {len(known)}")
        if len({event_id(text) for text in events if '"metric"' in text}) < sum('"metric"' in text for text in events):
            raise Violation(f"{life.name} sends an event twice in one batch")
        if life.unresolved is not None and life.unresolved[0] != batch_id:
            raise Violation(f"{life.name} sends batch {batch_id} before it knows what became of {life.unresolved[0]}")
        for text in events:
            entry = world.ledger.entries.get(event_id(text))
            if entry is None:
                raise Violation(f"{life.name} sends what nobody recorded: {text[:200]}")
            # The note of it may not have reached a disk that fails.
            if entry.settled_by is not None and '"metric"' in text and (world.disk.clean or life.folder is None):
                raise Violation(f"{life.name} sends an event again that {entry.settled_by} knew to be delivered")
            interrupted = self.interrupted.get(event_id(text), batch_id)
            if interrupted != batch_id and world.disk.clean and not world.divided:
                raise Violation(f"{life.name} sends batch {batch_id}, of which a part went out as {interrupted}")

    # -- at every death

    def killed(self, life: Life) -> None:
        """What is in memory only is lost; while the disk is well that is what was recorded just now."""
        world = self._world
        memory = life.memory()
        world.ledger.excuse(memory, "memory")
        if life.unresolved is not None or life.in_flight is not None:
            batch_id, events = life.in_flight or life.unresolved or ("", ())
            if life.folder is not None and not set(events) & set(memory):
                self.interrupted.update((event_id(text), batch_id) for text in events if '"metric"' in text)
        if not memory or not self._should_be_written(life):
            return
        now_s = world.hub.now_s
        for text in memory:
            late_s = now_s - world.ledger.entries[event_id(text)].recorded_s
            if late_s > WRITTEN_S:
                raise Violation(f"{life.name} had not written an event {late_s:.2f} s after it was recorded")

    def left(self, life: Life) -> None:
        """A process ended of its own accord: everything is sent or on disk, where there is a disk that is well."""
        world = self._world
        memory = life.memory()
        world.ledger.excuse(memory, "memory")
        if memory and self._should_be_written(life):
            raise Violation(f"{life.name} ended with {len(memory)} events in memory")

    def _should_be_written(self, life: Life) -> bool:
        """Whether nothing keeps events in memory: the disk is well, has been for a while, and has room."""
        disk = self._world.disk
        well = life.folder is not None and disk.well(12.0) and life.wellbred(12.0) and not self._world.threads_hurt
        return well and not life.recorder._spool.spooler._full

    def lost_power(self, before: dict[str, list[str]], after: dict[str, list[str]], living: list[str]) -> None:
        """What was written more than a second ago was synced, by a process that lived to do it."""
        world = self._world
        there = {event_id(text) for texts in after.values() for text in texts}
        for path, texts in before.items():
            gone = [text for text in texts if event_id(text) not in there]
            world.ledger.excuse(gone, "power")
            for text in gone:
                entry = world.ledger.entries.get(event_id(text))
                late_s = 0.0 if entry is None else world.hub.now_s - entry.recorded_s
                alive = any(name in path for name in living)
                if (
                    late_s > SYNCED_S
                    and alive
                    and world.disk.well(60.0)
                    and world.disk.whole
                    and not world.threads_hurt
                ):
                    raise Violation(f"power cost an event in {path} that was recorded {late_s:.2f} s before")
        for texts in after.values():
            for text in texts:
                entry = world.ledger.entries.get(event_id(text))
                if entry is not None:
                    entry.settled_by = None  # the note of it may be gone

    # -- when all is over

    def lacks(self, life: Life) -> str | None:
        """What a process still lacks; None: nothing."""
        if life.client is None or not life.current.snapshot.ready:
            return "definitions"
        if not life.noticed:
            return "notice of its fork"
        status, now = life.client.status, self._world.network.now
        definitions = life.current.snapshot.definitions
        if (definitions.epoch, definitions.number) != now.mark:
            return f"the definitions {now.mark}, has {definitions.epoch}:{definitions.number}"
        for key, flag in now.flags.items():
            value, expected = life.current.snapshot.decide(key, life.nobody).value, flag.value if flag.enabled else OFF
            if value != expected:
                return f"the value of {key}, which is {expected!r}: answers {value!r}"
        assert status.account is not None
        if status.account.pending:
            return f"to deliver {status.account.pending} events ({status.sink})"
        return None

    def at_rest(self, life: Life) -> None:
        """A process that lacks nothing counts what the collector said."""
        account = life.account()
        if account.delivered != life.acked:
            raise Violation(f"{life.name} counts {account.delivered} delivered, and {life.acked} were acknowledged")

    def reckon(self) -> None:
        """Every event is stored once, or there is a reason, and the reasons were counted."""
        world = self._world
        waiting = [text for texts in world.disk.spooled().values() for text in texts]
        if waiting:
            raise Violation(f"{len(waiting)} events are left on disk: {list(world.disk.spooled())}")
        if any(KEY.encode() in file.data for _, file in world.disk.files()):
            raise Violation("the key is on the disk")
        missing = {entry_id: entry for entry_id, entry in world.ledger.missing().items() if not entry.excuses}
        counted = sum(count for reason, count in world.lost.items() if reason in ("expired", "damaged"))
        if len(missing) > counted:
            texts = [sorted(entry.texts)[0][:300] for entry in missing.values()][:5]
            raise Violation(
                f"{len(missing)} events are missing, {counted} of them counted ({dict(world.lost)}): {texts}"
            )
        told: dict[str, int] = {}
        for _, dropped in world.network.collector.dropped.values():
            for reason, count in dropped.items():
                told[reason] = told.get(reason, 0) + count
        for reason, count in told.items():
            if count > world.lost[reason] and not world.retold:
                raise Violation(f"{count} events were reported lost for {reason}, and {world.lost[reason]} were")
