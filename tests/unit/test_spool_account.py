"""Any schedule of recording, writing, sending, crashing and starting again: nothing that reached the disk is lost.

Processes come and go on one disk, some at the same time. What may be lost is known at each crash: what was in memory
only, or was not synced when the power failed. Whatever else happens, every process's account balances at every step.
"""

from __future__ import annotations

import errno
import logging
from collections.abc import Callable, Iterator
from random import Random
from typing import Any

import pytest
from fakes import metric
from folders import Failing, MemoryFolder
from hypothesis import given, settings
from hypothesis import strategies as st
from spools import Process, World, numbers

from flagkit.events import Batch, Delivered, Rejected, Retry, Sent, TooLarge


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    logging.getLogger("flagkit").disabled = True
    yield
    logging.getLogger("flagkit").disabled = False


def unheard(world: World) -> Callable[[Batch], Sent]:
    """The collector stores it, and nobody hears of it."""

    def answer(batch: Batch) -> Sent:
        world.sink.store(batch)
        return Retry("deadline")

    return answer


OUTCOMES: list[Callable[[World], Any]] = [
    lambda _: Delivered(),
    lambda _: Retry("http_503"),
    lambda _: Retry("http_503", 20.0),
    lambda _: OSError("broken"),
    unheard,
    lambda _: TooLarge(),
    lambda _: Rejected("http_400", divisible=True),
    lambda _: Rejected("full"),
    lambda _: Delivered({"malformed": 1}),
]
#: So many of these lose nothing (a batch that is divided is not lost as long as it has more than one event).
HARMLESS = 5
STEPS = ["write", "create", "sync", "sync_folder", "read", "open", "list", "remove", "lock"]


def schedule(*outcomes: int) -> Any:
    return st.lists(
        st.one_of(
            st.tuples(st.just("track"), st.integers(0, 2), st.integers(1, 25)),
            st.tuples(st.just("write"), st.integers(0, 2), st.just(0)),
            st.tuples(st.just("send"), st.integers(0, 2), st.integers(1, 4)),
            st.tuples(st.just("run"), st.integers(0, 2), st.sampled_from([0, 1, 6, 70])),
            st.tuples(st.just("outcome"), st.integers(*outcomes), st.integers(1, 4)),
            st.tuples(st.just("kill"), st.integers(0, 2), st.just(0)),
            st.tuples(st.just("close"), st.integers(0, 2), st.sampled_from([0, 5])),
            st.tuples(st.just("flush"), st.integers(0, 2), st.sampled_from([0, 3])),
        ),
        max_size=40,
    )


class Play:
    """Three places for processes, and what may have been lost so far."""

    def __init__(self, **settings: Any) -> None:
        self.world = World()
        self.settings = {"batch_size": 7, **settings}
        self.processes = [self.world.process(**self.settings) for _ in range(3)]
        self.over: list[Process] = []
        #: Events that need not arrive.
        self.excused: set[int] = set()

    def do(self, action: str, which: int, amount: int) -> None:
        match action:
            case "track":
                self.processes[which].track(amount)
            case "write":
                self.processes[which].write()
            case "send":
                for _ in range(amount):
                    self.world.clock.advance(min(self.processes[which].delivery.step(), 20))
            case "run":
                self.processes[which].run(amount)
            case "outcome":
                self.world.sink.script += [OUTCOMES[which](self.world) for _ in range(amount)]
            case "kill":
                self.excuse(self.processes[which])
                self.processes[which].kill()
                self.replace(which)
            case "close":
                if self.processes[which].close(amount):
                    self.excuse(self.processes[which])
                self.replace(which)
            case "flush":
                self.processes[which].delivery.flush(amount)
        assert all(process.account.balanced for process in self.processes), (action, which, amount)

    def excuse(self, process: Process) -> None:
        """What it has in memory only goes with it."""
        loose = [text for segment in process.spooler.own if segment.folder is None for text in segment.texts()]
        waiting = [*process.buffer.head(len(process.buffer)), *loose]
        self.excused |= {number for number in range(self.world.tracked) if metric(number) in waiting}

    def replace(self, which: int) -> None:
        self.over.append(self.processes[which])
        self.processes[which] = self.world.process(**self.settings)

    def end(self) -> None:
        """Everything works again, for long enough."""
        self.world.disk.faults = None
        self.world.sink.script.clear()
        for process in self.processes:
            process.run(400)
            assert process.account.pending == 0, process.account
            assert process.account.balanced


@settings(derandomize=True, max_examples=200, deadline=None)
@given(schedule(0, HARMLESS - 1))
def test_whoever_is_killed_when_all_that_was_written_arrives_once(actions: list[tuple[str, int, int]]) -> None:
    play = Play()
    for action in actions:
        play.do(*action)
    play.end()
    got = numbers(play.world)
    assert set(range(play.world.tracked)) - set(got) <= play.excused
    for process in [*play.over, *play.processes]:
        assert process.account.lost == {}
    play.world.clock.advance(100)
    for process in play.processes:
        process.close()
    assert play.world.homes() == []


@settings(derandomize=True, max_examples=200, deadline=None)
@given(
    schedule(0, len(OUTCOMES) - 1),
    st.lists(st.tuples(st.integers(0, 40), st.sampled_from(STEPS), st.booleans(), st.integers(0, 5)), max_size=4),
    st.sampled_from([{}, {"max_spool_bytes": 64 * 1024}, {"max_pending": 20}, {"max_spool_age_s": 60}]),
)
def test_whatever_a_disk_and_a_collector_do_the_accounts_balance(
    actions: list[tuple[str, int, int]], faults: list[tuple[int, str, bool, int]], bounds: dict[str, int]
) -> None:
    play = Play(**bounds)
    for index, action in enumerate(actions):
        for at, step, passing, spared in faults:
            if at == index:
                code = errno.EMFILE if passing else errno.EIO
                play.world.disk.faults = Failing(step, code=code, spared=spared)
            if at + 5 == index:
                play.world.disk.faults = None
        play.do(*action)
    play.end()


@settings(derandomize=True, max_examples=200, deadline=None)
@given(schedule(0, HARMLESS - 1), st.integers(0, 2**32))
def test_a_power_loss_costs_only_what_was_not_synced(actions: list[tuple[str, int, int]], seed: int) -> None:
    play, random = Play(), Random(seed)
    for action in actions:
        play.do(*action)
        if random.random() < 0.2:
            for process in play.processes:
                play.excuse(process)
            unsynced = _unsynced(MemoryFolder(play.world.disk))
            play.excused |= {n for n in range(play.world.tracked) if metric(n).encode() in unsynced}
            play.world.disk.crash(random if random.random() < 0.7 else None)
            for which in range(3):
                play.replace(which)
    play.end()
    assert set(range(play.world.tracked)) - set(numbers(play.world)) <= play.excused


def _unsynced(folder: MemoryFolder) -> bytes:
    """All bytes that a power loss may take."""
    node: Any = folder._node()
    data = b""
    for name, found in node.entries.items():
        if hasattr(found, "entries"):
            data += _unsynced(folder.folder(name))
        elif name not in node.synced:
            data += found.data
        elif not found.data.startswith(found.synced) or found.data != found.synced:
            data += found.data[len(found.synced) :]
    return data


@settings(derandomize=True, max_examples=150, deadline=None)
@given(schedule(0, HARMLESS - 1), st.integers(0, 2**32))
def test_damaged_files_stop_nobody_and_cost_no_more_than_is_counted(
    actions: list[tuple[str, int, int]], seed: int
) -> None:
    play, random = Play(), Random(seed)
    for action in actions:
        play.do(*action)
        if random.random() < 0.15:
            _damage(play.world, random)
    play.end()
    assert play.world.homes() == [] or all(process.spool.left(0) == 0 for process in play.processes)


def _damage(world: World, random: Random) -> None:
    """What becomes of bytes on a disk: flipped, zeroed, cut off, added."""
    homes = world.homes() if "sinks" in MemoryFolder(world.disk).names() else []
    files = [(home, name) for home in homes for name in home.names() if name != "lock"]
    if not files:
        return
    home, name = random.choice(files)
    data = bytearray(home.read(name))
    at = random.randrange(len(data) + 1)
    match random.randrange(4):
        case 0 if at < len(data):
            data[at] ^= 1 << random.randrange(8)
        case 1:
            data[at:] = bytes(len(data) - at)
        case 2:
            del data[at:]
        case _:
            data += random.randbytes(30)
    file: Any = home._node().entries[name]
    file.data = file.synced = bytes(data)
