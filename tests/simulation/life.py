"""One process from its start to its end: a whole client, what its application does, and what the network said to it.

Everything the invariants need to know of a process is noted here, from outside: what it was offered, what it recorded,
which batch it was sending. Its application asks, tracks, flushes, forks and exits as chance has it.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import TYPE_CHECKING, Any, TypeVar

from flagkit import Client, Config, Context, sinks, sources
from flagkit.core.snapshot import Snapshot
from flagkit.runtime.current import Current
from flagkit.runtime.process import process as known
from flagkit.runtime.stats import Account
from tests.simulation.contents import Belief, Content, Mark
from tests.simulation.disk import folder
from tests.simulation.ledger import event_id
from tests.simulation.machine import Process
from tests.simulation.network import KEY, URL, Wire
from tests.simulation.schedule import Violation
from tests.unit.folders import MemoryFolder

if TYPE_CHECKING:
    from tests.simulation.world import World

T = TypeVar("T")
_UNITS = 12
_NOTHING = Account(0, 0, 0, {}, 0)
_POLL_CEILING_S, _SEND_CEILING_S = 900.0, 3600.0


class Life(Process):
    """See the module. ``slot``: whose place it takes among the processes of its host."""

    def __init__(self, world: World, slot: int) -> None:
        super().__init__(world.machine)
        self.world = world
        self.slot = slot
        self.name = f"process {self.pid}"
        self.random = Random(world.random.getrandbits(64))
        self.client: Client | None = None
        self.config: Config | None = None
        self.began_s = world.hub.now_s
        self.belief = Belief()
        #: What was sent to it, and it may take into use.
        self.offers: set[Mark] = set()
        #: When what it has was last confirmed to it; since when it was offered nothing but older ones.
        self.confirmed_s = -1e9
        self.older_s: float | None = None
        #: When some flag was last too old.
        self.stale_s = -1e9
        #: When it should have tried everything again at the latest; a child waits for what its parent was told.
        self.patience_s = 0.0
        #: What the latest poll said is off, in a document that is otherwise refused.
        self.ordered_off: set[str] = set()
        self.nobody = Context("nobody")
        self.folder: MemoryFolder | None = None
        self._begin()

    def _begin(self) -> None:
        """What a child begins with, too."""
        self.token = object()
        self.acked = 0
        self.acking: list[str] | None = None
        #: The batch that was sent last and has no final answer; when it is to be sent again at the latest.
        self.unresolved: tuple[str, tuple[str, ...]] | None = None
        self.in_flight: tuple[str, tuple[str, ...]] | None = None
        self.resend_s = float("inf")
        self.spared_s = self.left_alone_s = -1e9
        self.poll_due_s = float("inf")
        self.recent: list[float] = []

    # -- what its application does

    def run(self) -> None:
        world, random = self.world, self.random
        self.folder = folder(world.disk, self.token) if world.settings["spooled"] else None
        self.config = config = Config(state_dir=self.folder, **world.settings["config"])
        source, sink = sources.Http(URL, key=KEY), sinks.Http(URL, key=KEY, clock=world.clock)
        source._wire = sink._wire = Wire(world.network, self, f"{URL}/v1")  # type: ignore[assignment]
        self.client = Client(source=source, sink=sink, config=config, clock=world.clock)
        publish = self.current._publish

        def published(snapshot: Snapshot, before: Snapshot) -> None:
            world.invariants.taken(self)  # two changes may come in one turn
            publish(snapshot, before)

        self.current._publish = published
        if random.random() < 0.5:
            self.client.start()
        if random.random() < 0.5:
            self._timed(self.client.wait_ready, random.choice((0.0, 0.5, 5.0)))
        while True:
            if world.healing:
                if self.noticed:
                    self._ask(peek=True)
                else:
                    self._track()  # it is this that notices a fork without hooks
                world.hub.sleep(5.0)
                continue
            self._act()
            world.hub.sleep(random.expovariate(1 / world.settings["idle_s"]))

    def _act(self) -> None:
        assert self.client is not None
        random, client = self.random, self.client
        match random.choices(
            ("ask", "track", "burst", "flush", "refresh", "invocation", "fork", "exit"),
            (40, 30, 8, 6, 4, 2, self.world.settings["forks"], self.world.settings["exits"]),
        )[0]:
            case "ask":
                for _ in range(random.randint(1, 6)):
                    self._ask()
            case "track":
                self._track()
            case "burst":
                for _ in range(random.randint(5, self.world.settings["burst"])):
                    self._track()
                    if random.random() < 0.02:
                        self.world.hub.sleep(random.random() * 0.1)
            case "flush":
                self._timed(client.flush, random.choice((0.0, 0.3, 3.0, 12.0)))
            case "refresh":
                self._timed(client.refresh, random.choice((0.0, 0.3, 3.0)))
            case "invocation":
                with client.invocation(timeout_s=0.5):
                    self._ask()
            case "fork":
                self.split(hooks=random.random() < 0.8)
            case "exit":
                self.leave()

    def _ask(self, *, peek: bool = False) -> None:
        client, random, world = self.client, self.random, self.world
        assert client is not None
        key, unit = random.choice(world.author.keys), f"unit-{random.randrange(_UNITS)}"
        if peek:
            answer = self._hurried(lambda: client.peek(key, unit))
            value = answer.value if answer.error_code is None else None
        else:
            value = self._recording(lambda: client.value(key, unit, default=None), exactly=None)
        world.invariants.answered(self, key, value)

    def _track(self) -> None:
        client, random, world = self.client, self.random, self.world
        assert client is not None
        properties: dict[str, Any] = {"n": world.next_number()}
        if random.random() < world.settings["poison"]:
            properties["poison"] = True
        if random.random() < 0.01:
            properties["bad"] = b"bytes"
        self._recording(lambda: client.track("paid", f"unit-{random.randrange(_UNITS)}", **properties), exactly=1)

    def _recording(self, verb: Callable[[], T], *, exactly: int | None) -> T:
        """Call a verb that records, and note what it recorded."""
        pid, before = known.pid, self.account()
        result = self._hurried(verb)
        if known.pid != pid:  # it noticed that this is a child
            before = _NOTHING
        after = self.account()
        count = after.recorded - before.recorded
        if count not in ((0, 1) if exactly is None else (exactly,)):
            raise Violation(f"{self.name} recorded {count} events in one call")
        if count and sum(after.lost.values()) == sum(before.lost.values()):
            if not self.buffer._events:
                raise Violation(f"{self.name} does more with an event than to record it, on the thread that records")
            text = self.encoded(self.buffer._events[-1])
            self.world.ledger.record(text, self.world.hub.now_s)
            if not self.noticed:
                self.unnoticed(text)
            self.recent.append(self.world.hub.now_s)
        return result

    def unnoticed(self, text: str) -> None:
        """What is recorded before a fork without hooks is noticed is taken for the parent's, for a second at most."""
        late_s = self.world.hub.now_s - self.began_s
        if late_s > 1.1 and not self.world.settings["steps"]:
            raise Violation(f"{self.name} has not noticed that it is one for {late_s:.2f} s")
        self.world.ledger.excuse([text], "unnoticed")

    def _hurried(self, verb: Callable[[], T]) -> T:
        """Call what must never wait for anything."""
        task = self.world.hub.current
        assert task is not None
        task.hurried = True
        try:
            return verb()
        finally:
            task.hurried = False

    def _timed(self, verb: Callable[[float], T], timeout_s: float) -> T:
        """Call what waits for so long at most."""
        world = self.world
        began_s, slow_s = world.hub.now_s, world.slow_s
        result = verb(timeout_s)
        took_s = world.hub.now_s - began_s - (world.slow_s - slow_s)
        # A disk may keep others in it, each for the patience they have.
        if took_s > timeout_s + 0.5 + (3.0 if world.slow_s else 0.0):
            raise Violation(f"{self.name}: {verb} took {took_s:.2f} s of {timeout_s}")
        return result

    def leave(self) -> None:
        """End as programs do: by closing the client, or by the exit hook."""
        assert self.client is not None
        world, random = self.world, self.random
        self.poll_due_s = self.resend_s = float("inf")
        if random.random() < 0.5:
            timeout_s = random.choice((0.0, 1.0, 5.0))
            left = self._timed(self.client.close, timeout_s)
            # A segment that it has found and not looked into yet counts as one.
            if left < self.account().pending or (left and not self.folder and left != self.account().pending):
                raise Violation(f"{self.name} closed with {left} left, and counts {self.account().pending}")
        else:
            self._timed(lambda _: known.leave(), self.config.exit_deadline_s if self.config else 2.0)
        if random.random() < 0.3:
            self._track()  # too late, and counted
        world.invariants.left(self)
        world.gone(self)
        world.hub.park()

    def split(self, *, hooks: bool) -> None:
        """Fork, and go on as the child."""
        world, task = self.world, self.world.hub.current
        assert task is not None
        world.notice(f"fork {'with' if hooks else 'without'} hooks")
        world.forked(self)
        parent, name, recent = self.token, self.name, self.recent
        self._begin()
        self.recent = list(recent)  # its memory of exposures came with the fork
        self.began_s = world.hub.now_s
        if self.folder is not None:
            self.folder._process = self.token
        self.fork(task, hooks=hooks)
        self.name = f"process {self.pid} (child of {name})"
        world.later(self.random.choice((0.0, 1.0, 30.0)), lambda: world.free(parent))

    def kill(self) -> None:
        super().kill()
        if self.client is not None:
            self.client._closed = True  # its memory is gone, so that nobody collects it as rubbish

    def wellbred(self, for_s: float) -> bool:
        """Whether it has lived for so long."""
        return self.world.hub.now_s - self.began_s >= for_s

    # -- what is in it

    @property
    def current(self) -> Current:
        """What owns the definitions in use."""
        assert self.client is not None
        return self.client._feed.current

    @property
    def recorder(self) -> Any:
        assert self.client is not None
        return self.client._recording

    @property
    def buffer(self) -> Any:
        return self.recorder._buffer

    def account(self) -> Account:
        account: Account = self.recorder.account()
        return account

    def encoded(self, event: Any) -> str:
        return event if isinstance(event, str) else self.recorder._delivery._encode(event)

    def memory(self) -> list[str]:
        """The events that are in no file."""
        if self.client is None:
            return []
        found = [self.encoded(event) for event in self.buffer._events]
        spool = self.recorder._spool
        if spool is not None:
            for segment in spool.spooler.own:
                if segment.folder is None:
                    found += segment.texts()
        return found

    # -- what the network says to it

    def offered(self, content: Content) -> None:
        self.offers.add(content.mark)
        self.world.invariants.given.add(content.mark)
        self.confirmed(content)

    def switched_off(self, keys: set[str]) -> None:
        self.belief.doubt(keys)
        self.ordered_off = keys

    def confirmed(self, content: Content | None) -> None:
        mark, now_s = self.belief.mark, self.world.hub.now_s
        if mark is None or mark[1] is None:
            return
        if content is None or (content.epoch == mark[0] and content.number >= mark[1]):
            self.confirmed_s, self.older_s = now_s, None
        elif content.epoch == mark[0] and self.older_s is None:
            self.older_s = now_s

    def asked(self, etag: str | None) -> None:
        now_s = self.world.hub.now_s
        self.world.invariants.asked(self, etag)
        if now_s < self.spared_s:
            raise Violation(f"{self.name} polls {self.spared_s - now_s:.2f} s before the server wants to be asked")
        if now_s > self.poll_due_s and not self.world.troubled:
            raise Violation(f"{self.name} polls {now_s - self.poll_due_s:.2f} s too late")
        self.poll_due_s = float("inf")

    def polled(self, outcome: str, after_s: float) -> None:
        world = self.world
        now_s, interval_s = world.hub.now_s, world.settings["config"]["poll_interval_s"]
        pause_s = max(interval_s, min(60.0, max(8.0, 8 * interval_s)), 1.1 * interval_s)
        if outcome == "lasting":
            pause_s = max(pause_s, 900.0)
        if after_s:
            asked_s = min(after_s, _POLL_CEILING_S)
            self.spared_s = now_s + asked_s
            pause_s = max(pause_s, asked_s + interval_s)
        if world.network.streams:
            pause_s += 5.0  # news that are kept as documents ask for one within that time
        self.patience_s = max(self.patience_s, now_s + pause_s)
        self.poll_due_s = float("inf") if outcome == "broken" or world.troubled else now_s + pause_s + 1.0

    def sending(self, batch_id: str, events: list[str]) -> None:
        world, now_s = self.world, self.world.hub.now_s
        if now_s < self.left_alone_s:
            raise Violation(f"{self.name} sends {self.left_alone_s - now_s:.2f} s before the collector wants to hear")
        world.invariants.sent(self, batch_id, tuple(events))
        self.in_flight = (batch_id, tuple(events))
        self.resend_s = float("inf")
        self.acking = None

    def sent(self, outcome: str, after_s: float, accepted: int) -> None:
        world, now_s = self.world, self.world.hub.now_s
        sent, self.in_flight = self.in_flight, None
        self.unresolved, self.resend_s = None, float("inf")
        if outcome == "ok":
            self.acked += accepted
            assert sent is not None
            self.acking = [event_id(text) for text in sent[1]]
        elif outcome == "divide":
            world.divided = True
            # Somebody between refuses what the collector has: the losses it reported are reported again.
            world.retold = world.retold or (sent is not None and sent[0] in world.network.collector.batches)
        elif outcome == "broken":
            self.unresolved = sent
        else:
            self.unresolved = sent
            pause_s = 900.0 if outcome == "lasting" else 12.0
            if after_s:
                asked_s = min(after_s, _SEND_CEILING_S)
                self.left_alone_s = now_s + asked_s
                pause_s = max(pause_s, asked_s + 1.0)
            self.patience_s = max(self.patience_s, now_s + pause_s)
            if not world.troubled:
                self.resend_s = now_s + pause_s + world.settings["config"]["flush_interval_s"] + 1.0
