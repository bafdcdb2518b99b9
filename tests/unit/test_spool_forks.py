"""The spool and forks, in real processes: each has its own folder, and sends its own events once."""

from __future__ import annotations

from pathlib import Path

import pytest
from spool_processes import Place, once


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_parent_and_child_each_send_their_own_once(place: Place) -> None:
    place.run(
        """
spooler._LOOK_S = 0.2
flags = client(Switched)
track(flags, "before", 25)
on_disk(flags)
child = fork()
Switched.on = not child
if not child:
    assert flags.status.account.recorded == 0
    track(flags, "child", 50)
    time.sleep(0.6)
    assert flags.flush(5) == 0
    assert flags.status.account.adopted == 0
    sys.exit(0)
join(child)
Switched.on = True
track(flags, "parent", 50)
assert flags.flush(5) == 0
assert flags.status.account == (75, 0, 75, {}, 0)
"""
    )
    assert place.units() == {**once("before", 25), **once("parent", 50), **once("child", 50)}
    assert place.homes() == []


def test_the_parents_events_can_be_adopted_when_it_dies_before_its_children(place: Place) -> None:
    place.run(
        """
flags = client(Down)
track(flags, "parent", 25)
on_disk(flags)
child = fork()
if not child:
    os.close(1), os.close(2)  # or whoever reads them would wait for the child
    until(lambda: os.path.exists(out))
os._exit(0)
"""
    )
    place.deliver()
    assert place.units() == once("parent", 25)


def test_forks_while_every_lock_is_taken_hang_nobody_and_leave_no_descriptor(place: Place) -> None:
    place.run(
        """
flags = client(flush_interval_s=0.05)
track(flags, "before", 7)
on_disk(flags)
held, over = threading.Event(), threading.Event()
recording = flags._recording
def hold():
    with recording._delivery._driving, recording._buffer._lock, recording._spool.spooler.holding():
        held.set()
        over.wait()
holding = threading.Thread(target=hold)
holding.start()
held.wait()
def open_files():
    found = set()
    for number in os.listdir("/proc/self/fd"):
        try:
            found.add(os.readlink(f"/proc/self/fd/{number}"))
        except OSError:
            pass
    return {name for name in found if name.startswith(state)}
assert open_files()
children = []
for number in range(20):
    child = fork()
    if not child:
        assert open_files() == set()
        track(flags, f"child-{number}", 5)
        os._exit(flags.flush(5))
    children.append(child)
for child in children:
    join(child)
over.set()
holding.join()
assert flags.close() == 0
"""
    )
    units = place.units()
    assert sum(unit.startswith("child") for unit in units) == 100
    assert set(units.values()) == {1}


def test_a_host_that_skips_fork_hooks_is_noticed_by_its_process_id(place: Place) -> None:
    place.run(
        """
os.register_at_fork = lambda **hooks: None
flags = client()
track(flags, "parent", 20)
on_disk(flags)
child = fork()
if not child:
    track(flags, "child", 20)
    assert flags.flush(5) == 0
    assert flags.status.account.recorded == 20
    os._exit(0)
join(child)
assert flags.flush(5) == 0
"""
    )
    assert place.units() == {**once("parent", 20), **once("child", 20)}
