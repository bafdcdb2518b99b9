"""Last good definitions: what a client does with a state directory, from one run of the application to the next."""

from __future__ import annotations

import errno
import gc
import logging
import os
import stat
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from documents import HALF, ON, SPLIT, StillClock, document
from fakes import ScriptedSource, unavailable
from folders import Failing, MemoryDisk, MemoryFolder
from loopback import Call, serving

from flagkit import Client, Config, ConfigError, Context, Reason, sources
from flagkit.disk import Folder
from flagkit.errors import FetchError
from flagkit.sources import Cached, Fetched, File, Http, Keeper, NotModified, Source, Static

DAY_S = 86_400.0
MINUTE_MS = 60_000
KEY = "sk-read-0123456789"
FLAGS = {"on": ON, "half": HALF, "split": SPLIT}
DOCUMENT = Fetched(document(FLAGS), '"1"')
CHANGED = Fetched(document({**FLAGS, "on": {"enabled": False}}), '"2"')
USER = Context("user-1")
WARNING = logging.WARNING


class Machine:
    """A disk and a clock, on which an application runs again and again. Its poller is stepped by hand."""

    def __init__(self) -> None:
        self.disk = MemoryDisk()
        self.clock = StillClock()
        self.clients: list[Client] = []

    def run(self, *script: Any, source: Source | None = None, **settings: Any) -> Client:
        """A run of it. Without a script the source is down."""
        settings = {"state_dir": MemoryFolder(self.disk), **settings}
        self.source = ScriptedSource(*(script or (unavailable(),)))
        client = Client(source=source or self.source, sink=None, clock=self.clock, config=Config(**settings))
        self.clients.append(client)
        return client

    def first(self, *script: Any, **settings: Any) -> None:
        """A run that polls once, or once for each answer of the script, half a minute apart."""
        client = self.run(*script, **settings)
        for _ in script or (None,):
            client._feed.poller.step()
            self.clock.advance(30)
        client.close()

    @property
    def writes(self) -> int:
        return self.disk.count("write")


@pytest.fixture
def machine() -> Iterator[Machine]:
    machine = Machine()
    yield machine
    for client in machine.clients:
        client.close()


class Faithful(ScriptedSource):
    """A source whose document never changes."""

    def fetch(self, validator: str | None, **bounds: Any) -> Fetched | NotModified:
        found = super().fetch(validator, **bounds)
        return NotModified() if validator == found.validator else found


def reasons(client: Client) -> dict[str, Reason]:
    """Asks the definitions in use and starts nothing."""
    return {key: decision.reason for key, decision in client._feed.current.snapshot.decide_all(USER).items()}


def stored(disk: MemoryDisk) -> bytes:
    """Every byte on the disk, and every name."""

    def read(folder: Folder) -> bytes:
        parts = b""
        for name in folder.names():
            try:
                parts += name.encode() + folder.read(name)
            except IsADirectoryError:
                parts += name.encode() + read(folder.folder(name))
        return parts

    return read(MemoryFolder(disk))


# -- a start while the source is down ----------------------------------------------------------------------------------


def test_the_first_answer_is_right_while_the_source_is_down(machine: Machine) -> None:
    machine.first(DOCUMENT)
    client = machine.run()
    assert client.enabled("on", "user-1")
    assert (client.status.ready, client.status.origin, client.status.disk) == (True, "disk", "ok")
    assert client.wait_ready(0)


def test_without_a_state_directory_nothing_is_kept(machine: Machine) -> None:
    machine.first(DOCUMENT, state_dir=None)
    client = machine.run(state_dir=None)
    assert (client.status.ready, client.status.origin, client.status.disk) == (False, None, None)
    assert machine.disk.steps == []


@pytest.mark.parametrize("source", [Static(document(FLAGS)), File("flags.json")])
def test_what_is_at_hand_anyway_is_not_kept(machine: Machine, source: Source) -> None:
    client = machine.run(source=source)
    client._feed.poller.step()
    assert (client.status.disk, machine.disk.steps) == (None, [])


def test_a_file_can_be_kept_by_saying_so(machine: Machine, tmp_path: Path) -> None:
    flags = tmp_path / "flags.json"
    flags.write_bytes(DOCUMENT.data)
    client = machine.run(source=Cached(File(flags), MemoryFolder(machine.disk)), state_dir=None)
    assert (client.status.origin, machine.writes) == ("source", 0)  # a constructor writes nothing
    client._feed.poller.step()
    assert machine.writes == 1
    flags.unlink()
    client = machine.run(source=Cached(File(flags), MemoryFolder(machine.disk)), state_dir=None)
    assert (client.status.origin, client.status.source.state) == ("disk", "failing")
    assert client.enabled("on", "user-1")


def test_what_a_later_document_says_is_what_is_kept(machine: Machine) -> None:
    machine.first(DOCUMENT, CHANGED)
    assert reasons(machine.run())["on"] is Reason.DISABLED


def test_a_killed_run_leaves_as_much_as_one_that_was_closed(machine: Machine) -> None:
    machine.run(DOCUMENT)._feed.poller.step()
    machine.disk.crash()
    assert machine.run().status.origin == "disk"


def test_the_constructor_asks_nobody_and_writes_nothing(machine: Machine) -> None:
    machine.first(DOCUMENT)
    before, threads = machine.writes, set(threading.enumerate())
    machine.run()
    assert (machine.source.asked, machine.writes) == ([], before)
    assert set(threading.enumerate()) <= threads


# -- what is trusted ---------------------------------------------------------------------------------------------------


def test_nothing_is_kept_before_it_is_in_use(machine: Machine) -> None:
    class Spying(ScriptedSource):
        def fetch(self, *args: Any, **bounds: Any) -> Any:
            assert machine.writes == 0
            return super().fetch(*args, **bounds)

    seen = []
    client = machine.run(source=Spying(DOCUMENT))
    publish = client._feed.current._publish
    client._feed.current._publish = lambda *args: (seen.append(machine.writes), publish(*args))
    client._feed.poller.step()
    assert (seen, machine.writes) == ([0], 1)


def test_a_refused_document_is_not_kept(machine: Machine) -> None:
    machine.first(DOCUMENT, Fetched(b'{"schema": 1}', '"2"'), Fetched(b"<html>", '"3"'))
    client = machine.run()
    assert reasons(client)["on"] is Reason.STATIC
    assert machine.writes == 1


def test_definitions_of_another_environment_are_not_recalled(machine: Machine) -> None:
    production = Fetched(document(FLAGS, environment="production"))
    folder = MemoryFolder(machine.disk)
    machine.first(source=Cached(ScriptedSource(production), folder), state_dir=None)
    source = ScriptedSource(Fetched(document(FLAGS, environment="staging")))
    client = machine.run(source=Cached(source, folder), state_dir=None, environment="staging")
    assert (client.status.ready, client.status.origin) == (False, None)
    assert "staging" in str(client.status.problems)
    client._feed.poller.step()
    assert (client.status.ready, client.status.problems) == (True, ())


def test_a_generation_that_is_refused_gives_way_to_the_one_before(machine: Machine) -> None:
    folder = MemoryFolder(machine.disk)
    for environment in ("staging", "production"):
        script = Fetched(document(FLAGS, environment=environment))
        client = machine.run(source=Cached(ScriptedSource(script), folder), state_dir=None)
        client._feed.poller.poll()
        client._feed.poller._keeping.write()
    client = machine.run(source=Cached(ScriptedSource(), folder), state_dir=None, environment="staging")
    assert (client.status.origin, client.status.problems) == ("disk", ())


def test_what_an_earlier_run_met_does_not_decide_which_environment_this_one_is_in(machine: Machine) -> None:
    machine.first(Fetched(document(FLAGS, environment="prod")))
    client = machine.run(Fetched(document(FLAGS, environment="production")))
    assert client.status.origin == "disk"
    client._feed.poller.step()
    client._feed.poller.step()
    assert (client.status.origin, client._feed.environment()) == ("source", "production")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"url": "https://a.example.com"}, {"url": "https://b.example.com"}),
        ({"key": "one-key"}, {"key": "another-key"}),
        ({"key": "one-key"}, {}),
        ({"dialect": "native"}, {"dialect": "other"}),
        ({"environment": "a"}, {"environment": "b"}),
        ({"environment": "a"}, {}),
    ],
)
def test_unlike_sources_share_nothing(one: dict[str, Any], other: dict[str, Any]) -> None:
    disk = MemoryDisk()
    folders = [cached(MemoryFolder(disk), **which) for which in (one, other, one)]
    folders[0].keep(DOCUMENT, 1)
    assert [len(list(folder.recall(max_bytes=1 << 20))) for folder in folders] == [1, 0, 1]


def cached(
    folder: Folder, url: str = "https://flags.example.com", environment: str | None = None, **more: Any
) -> Cached:
    return Cached(Http(url, **more), folder, environment=environment)


def test_no_key_is_on_the_disk() -> None:
    disk = MemoryDisk()
    source = cached(MemoryFolder(disk), key=KEY)
    source.keep(DOCUMENT, 1)
    source.keep(None, 2 * MINUTE_MS)
    assert DOCUMENT.data in stored(disk)
    assert KEY.encode() not in stored(disk)
    assert source._source.identity.partition("#")[2].encode() not in stored(disk)
    assert KEY not in repr(source)


# -- validators --------------------------------------------------------------------------------------------------------


def test_the_first_poll_asks_with_the_validator_and_a_304_confirms_what_was_recalled(machine: Machine) -> None:
    machine.first(DOCUMENT)
    machine.clock.advance(3600)
    client = machine.run(NotModified())
    client._feed.poller.step()
    client._feed.poller.step()
    assert machine.source.asked == ['"1"']
    assert (client.status.origin, client.status.age_s) == ("source", 0)


def test_a_new_document_replaces_what_was_recalled(machine: Machine) -> None:
    machine.first(DOCUMENT)
    client = machine.run(CHANGED)
    client._feed.poller.step()
    client._feed.poller.step()
    assert (client.status.origin, reasons(client)["on"]) == ("source", Reason.DISABLED)


@pytest.mark.parametrize("damage", [b"", b"\0" * 100, b"{}", b"cos\nsystem\n(S'id'\ntR."])
def test_without_a_good_document_no_validator_is_sent_and_a_304_is_a_failure(machine: Machine, damage: bytes) -> None:
    machine.first(DOCUMENT)
    folder = MemoryFolder(machine.disk).folder("sources")
    inner = folder.folder(folder.names()[0])
    inner.put("definitions.1", damage)
    client = machine.run(NotModified())
    client._feed.poller.step()
    assert machine.source.asked == [None]
    assert (client.status.ready, client.status.source.last_error[:12]) == (False, "unasked_304:")


def test_a_refused_document_on_disk_lends_its_validator_to_nobody(machine: Machine) -> None:
    folder = MemoryFolder(machine.disk)
    source = ScriptedSource(DOCUMENT)
    Cached(source, folder).keep(Fetched(b'{"schema": 2}', '"1"'), 1)
    machine.run(source=Cached(source, folder), state_dir=None)._feed.poller.step()
    assert source.asked == [None]


# -- age ---------------------------------------------------------------------------------------------------------------


def test_the_age_goes_on_over_a_restart(machine: Machine) -> None:
    machine.first(DOCUMENT)
    machine.clock.advance(3570)
    client = machine.run()
    assert client.status.age_s == 3600
    machine.clock.advance(100)
    assert client.status.age_s == 3700


def test_flags_that_outlived_their_definitions_serve_off_after_a_restart_too(machine: Machine) -> None:
    machine.first(DOCUMENT)
    machine.clock.advance(DAY_S - 60)
    assert reasons(machine.run()) == {"on": Reason.STATIC, "half": Reason.SPLIT, "split": Reason.SPLIT}
    machine.clock.advance(31)
    client = machine.run()
    assert reasons(client) == {"on": Reason.STATIC, "half": Reason.STALE, "split": Reason.STALE}
    assert client.decide("half", "user-1").reason is Reason.STALE
    machine.source.script = [NotModified()]
    client._feed.poller.poll()
    assert reasons(client)["half"] is Reason.SPLIT


def test_restarts_do_not_keep_definitions_young(machine: Machine) -> None:
    machine.first(DOCUMENT)
    for _ in range(30):
        machine.clock.advance(3600)
        client = machine.run()
        client._feed.poller.step()
        client._feed.poller.step()
    assert client.status.age_s == 30 * 3600 + 30
    assert reasons(client)["half"] is Reason.STALE


def test_confirmations_keep_definitions_young_over_restarts(machine: Machine) -> None:
    client = machine.run(source=Faithful(DOCUMENT))
    for _ in range(int(2 * DAY_S / 600)):
        client._feed.poller.step()
        machine.clock.advance(600)
    assert machine.run().status.age_s == pytest.approx(600, abs=60)


def test_confirmations_are_written_once_a_minute_and_the_document_once(machine: Machine) -> None:
    client = machine.run(DOCUMENT, NotModified(), poll_interval_s=1)
    for _ in range(600):
        client._feed.poller.step()
        machine.clock.advance(1)
    names = [name for step, name in machine.disk.steps if step == "write"]
    assert (names[0], set(names[1:]), len(names)) == ("definitions.1", {"confirmed"}, 10)


def test_between_two_minutes_the_disk_is_left_alone(machine: Machine) -> None:
    client = machine.run(DOCUMENT, NotModified(), poll_interval_s=1)
    client._feed.poller.step()
    for _ in range(59):
        machine.clock.advance(1)
        steps = len(machine.disk.steps)
        client._feed.poller.step()
        assert len(machine.disk.steps) == steps
    machine.clock.advance(1)
    reads = machine.disk.count("read")
    client._feed.poller.step()
    assert machine.disk.count("read") - reads == 3  # lines: of two generations, one of them missing, and a confirmation
    assert [name for step, name in machine.disk.steps if step == "write"] == ["definitions.1", "confirmed"]


def test_a_clock_that_went_back_makes_nothing_younger_than_now(machine: Machine) -> None:
    machine.first(DOCUMENT)
    machine.clock.set_wall(0)
    assert machine.run().status.age_s == 0


def test_a_ramp_does_not_go_on_while_the_application_was_down_and_nobody_could_stop_it(machine: Machine) -> None:
    ramp = {"rules": [{"rollout": {"steps": [{"from": "2026-11-23T15:00:00Z", "percent": 100}]}, "serve": "on"}]}
    machine.first(Fetched(document({"ramp": ramp})))
    machine.clock.advance(7200)
    client = machine.run()
    assert not client.enabled("ramp", "user-1")
    machine.source.script = [NotModified()]
    machine.run(Fetched(document({"ramp": ramp})))._feed.poller.poll()
    assert machine.clients[-1].enabled("ramp", "user-1")


def test_the_first_poll_after_a_restart_comes_soon(machine: Machine) -> None:
    machine.first(DOCUMENT)
    client = machine.run()
    assert 0 <= client._feed.poller.step() <= 2
    assert machine.source.asked == []
    client._feed.poller.step()
    assert machine.source.asked == ['"1"']


def test_after_changes_that_are_no_document_the_next_poll_fetches_one_to_keep(machine: Machine) -> None:
    """A 304 would say that the changed definitions are current, and not that those on disk are."""
    client = machine.run(DOCUMENT, CHANGED)
    client._feed.poller.step()
    client._feed.current.whole, client._feed.current.validator = False, '"2"'
    client._feed.poller.step()
    assert machine.source.asked == [None, None]
    assert reasons(machine.run())["on"] is Reason.DISABLED


# -- several processes -------------------------------------------------------------------------------------------------


def test_what_one_process_fetched_the_others_do_not_write_again(machine: Machine) -> None:
    for _ in range(8):
        machine.run(DOCUMENT)._feed.poller.step()
    assert machine.writes == 1


def test_closing_one_takes_nothing_from_another(machine: Machine) -> None:
    one, other = machine.run(DOCUMENT), machine.run(DOCUMENT)
    one._feed.poller.step()
    other._feed.poller.step()
    before = stored(machine.disk)
    one.close()
    assert stored(machine.disk) == before
    assert machine.disk.count("remove") == 0
    assert machine.run().status.origin == "disk"


def test_threads_that_write_at_once_leave_a_whole_document(tmp_path: Path) -> None:
    documents = [Fetched(b"%d" % number * 20_000, f'"{number}"') for number in range(8)]
    sources = [Cached(ScriptedSource(), tmp_path / "state") for _ in documents]

    def write(number: int) -> None:
        for turn in range(20):
            sources[number].keep(documents[(number + turn) % 8], turn)
            assert next(sources[number].recall(max_bytes=1 << 20))[:2] in [each[:2] for each in documents]

    threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not [path for path in (tmp_path / "state").rglob("*") if path.name.endswith((".bad", ".tmp"))]
    assert next(sources[0].recall(max_bytes=1 << 20))[:2] in [each[:2] for each in documents]


def test_nothing_is_held_open_so_that_a_fork_inherits_nothing(tmp_path: Path) -> None:
    gc.collect()
    before = os.listdir("/dev/fd")
    client = Client(source=ScriptedSource(DOCUMENT), sink=None, config=Config(state_dir=tmp_path / "state"))
    client._feed.poller.step()
    assert os.listdir("/dev/fd") == before
    child = os.fork()
    if child == 0:
        code = 1
        try:
            client._feed.poller.poll()
            client._feed.poller._keeping.write()
            client.close()
            code = 0
        finally:
            os._exit(code)
    assert os.waitpid(child, 0)[1] == 0
    client.close()
    again = Client(source=ScriptedSource(unavailable()), sink=None, config=Config(state_dir=tmp_path / "state"))
    assert again.status.origin == "disk"


# -- a directory that cannot be used -----------------------------------------------------------------------------------


def spoil_nothing_there(path: Path) -> None:
    path.rmdir()


def spoil_a_file(path: Path) -> None:
    path.rmdir()
    path.write_bytes(b"")


def spoil_a_link(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))
    path.symlink_to(path.with_name("elsewhere"))


def spoil_everybody_s(path: Path) -> None:
    path.chmod(0o777)


def spoil_somebody_else_s(path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give a directory away")
    os.chown(path, 12_345, 12_345)


def spoil_a_link_inside(path: Path) -> None:
    path.with_name("elsewhere").mkdir()
    (path / "sources").symlink_to(path.with_name("elsewhere"))


@pytest.mark.parametrize(
    "spoil",
    [spoil_nothing_there, spoil_a_file, spoil_a_link, spoil_everybody_s, spoil_somebody_else_s, spoil_a_link_inside],
)
def test_with_a_directory_that_cannot_be_used_everything_else_works_and_one_warning_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, spoil: Any
) -> None:
    path = tmp_path / "state"
    path.mkdir()
    spoil(path)
    state_dir = path / "inside" if spoil is spoil_nothing_there else path
    before = looks(tmp_path)
    source = ScriptedSource(DOCUMENT, CHANGED, NotModified())
    client = Client(source=source, sink=None, clock=StillClock(), config=Config(state_dir=state_dir))
    assert client.status.disk == "off"
    client._feed.poller.step()
    assert reasons(client)["on"] is Reason.STATIC
    for _ in range(5):
        client._feed.poller.step()
        client._clock.advance(30)
    assert reasons(client)["on"] is Reason.DISABLED
    assert (client.status.disk, client.status.source.state, client.status.origin) == ("off", "ok", "source")
    warnings = [record.getMessage() for record in caplog.records if record.levelno >= WARNING]
    assert len(warnings) == 1
    assert warnings[0].startswith("last good definitions: off: ")
    assert str(path) in warnings[0]
    assert looks(tmp_path) == before
    client.close()


def looks(path: Path) -> dict[Path, Any]:
    """What anybody has changed below, but not that somebody has read it."""
    seen = {each: each.lstat() for each in path.rglob("*")}
    return {each: (stat.st_mode, stat.st_uid, stat.st_size, stat.st_mtime_ns) for each, stat in seen.items()}


def test_a_directory_of_the_system_is_no_reason_to_fail() -> None:
    for path in ("/proc/self", "/dev/null", "/proc/1/state", "/" + "x" * 300):
        client = Client(source=ScriptedSource(DOCUMENT), sink=None, config=Config(state_dir=path))
        client._feed.poller.step()
        assert (client.status.disk, client.status.ready) == ("off", True)
        client.close()


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, errno.EDQUOT, errno.EFBIG, errno.EMFILE])
@pytest.mark.parametrize("step", ["open", "read", "create", "write", "sync", "rename"])
def test_a_disk_that_fails_costs_nothing_else_and_is_used_again_when_it_works(
    machine: Machine, caplog: pytest.LogCaptureFixture, step: str, code: int
) -> None:
    caplog.set_level(logging.INFO, "flagkit")
    machine.first(DOCUMENT)
    machine.disk.faults = faults = Failing(step, code=code)
    client = machine.run(CHANGED, NotModified())
    for _ in range(9):
        client._feed.poller.step()
        machine.clock.advance(30)
        assert client.status.disk in ("failing", "ok")
    assert reasons(client)["on"] is Reason.DISABLED
    assert (client.status.disk, client.status.source.state) == ("failing", "ok")
    assert sum(record.levelno >= WARNING for record in caplog.records) == 1
    assert faults.raised < 12
    faults.on = False
    client._feed.poller.step()
    assert client.status.disk == "ok"
    assert "ok again" in caplog.records[-1].getMessage()
    assert reasons(machine.run())["on"] is Reason.DISABLED


def test_a_disk_that_fails_is_tried_every_ten_seconds(machine: Machine) -> None:
    machine.disk.faults = faults = Failing("write")
    client = machine.run(DOCUMENT, NotModified(), poll_interval_s=1)
    for _ in range(60):
        client._feed.poller.step()
        machine.clock.advance(1)
    assert faults.raised == 6


def test_a_disk_that_fails_for_long_is_one_line_in_five_minutes(
    machine: Machine, caplog: pytest.LogCaptureFixture
) -> None:
    machine.disk.faults = Failing("write")
    client = machine.run(DOCUMENT, NotModified())
    for _ in range(3600 // 5):
        client._feed.poller.step()
        machine.clock.advance(5)
    assert sum(record.levelno >= WARNING for record in caplog.records) == 12


def test_a_read_only_disk_is_recalled_from(machine: Machine) -> None:
    machine.first(DOCUMENT)
    machine.disk.faults = Failing("create", "rename", "remove", code=errno.EROFS)
    client = machine.run(CHANGED)
    assert client.status.origin == "disk"
    client._feed.poller.step()
    client._feed.poller.step()
    assert (client.status.disk, reasons(client)["on"]) == ("off", Reason.DISABLED)


def test_a_source_that_keeps_things_its_own_way_and_fails_in_it_is_contained() -> None:
    class Odd(ScriptedSource):
        def recall(self, *, max_bytes: int) -> Any:
            raise RuntimeError

        def keep(self, document: Fetched | None, confirmed_ms: int) -> None:
            raise OSError("no number")

    client = Client(source=Odd(DOCUMENT), sink=None, config=Config(state_dir="/nowhere/at/all"))
    assert isinstance(client._feed._source, Odd)
    client._feed.poller.step()
    assert (client.status.ready, client.status.disk) == (True, "failing")
    client.close()


# -- the wrapper -------------------------------------------------------------------------------------------------------


def test_it_is_a_source_and_a_keeper(tmp_path: Path) -> None:
    source = Cached(Http("https://flags.example.com", dialect="other"), tmp_path / "state")
    assert isinstance(source, Source)
    assert isinstance(source, Keeper)
    assert not isinstance(source._source, Keeper)
    assert (source.name, source.dialect, source.local) == ("https://flags.example.com/v1/definitions", "other", False)
    assert Cached(File("a"), tmp_path).local
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("source", "path", "field"), [(None, "a", "source"), (File, "a", "source"), (File("a"), 7, "path")]
)
def test_wrong_arguments_are_named(source: Any, path: Any, field: str) -> None:
    with pytest.raises(ConfigError, match=f"^{field}: got"):
        Cached(source, path)


def test_it_tells_what_the_other_source_tells(tmp_path: Path) -> None:
    class Telling(ScriptedSource):
        tells = False

        def listen(self, mark: str | None, **bounds: Any) -> Any:
            return mark, bounds

    quiet, telling = Cached(ScriptedSource(), tmp_path), Cached(Telling(), tmp_path)
    assert (quiet.tells, telling.tells) == (False, False)
    telling._source.tells = True
    assert telling.tells
    assert telling.listen("a:1", deadline_s=1, max_bytes=2) == ("a:1", {"deadline_s": 1, "max_bytes": 2})
    with pytest.raises(FetchError, match="no stream"):
        quiet.listen(None, deadline_s=1, max_bytes=1)


def test_failures_of_the_other_source_are_its_own(tmp_path: Path) -> None:
    source = Cached(ScriptedSource(unavailable()), tmp_path / "state")
    with pytest.raises(FetchError):
        source.fetch(None, deadline_s=1, max_bytes=1)


def test_the_directory_is_private(tmp_path: Path) -> None:
    os.umask(before := os.umask(0))
    try:
        os.umask(0)
        Cached(ScriptedSource(), tmp_path / "state").keep(DOCUMENT, 1)
    finally:
        os.umask(before)
    modes = {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "state").rglob("*") if path.is_dir()}
    assert modes | {stat.S_IMODE((tmp_path / "state").stat().st_mode)} == {0o700}
    assert {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "state").rglob("*.1")} == {0o600}


def test_over_http_a_restarted_client_asks_with_what_it_has_and_survives_an_outage(tmp_path: Path) -> None:
    up = [True]

    def script(call: Call) -> None:
        if not up[0]:
            call.hang_up()
        elif call.headers.get("if-none-match") == '"1"':
            call.answer(304)
        else:
            call.answer(200, DOCUMENT.data, {"Content-Type": "application/json", "ETag": '"1"'})

    with serving(script) as server:

        def run() -> Client:
            config = Config(state_dir=tmp_path / "state", poll_interval_s=0.05)
            return Client(source=sources.Http(server.url, key=KEY), sink=None, config=config)

        with run() as client:
            assert client.wait_ready(10)
            assert client.enabled("on", "u")
        with run() as client:
            assert client.enabled("on", "u")
            assert client.refresh(10)
            assert client.status.origin == "source"
        assert {call.headers.get("if-none-match") for call in server.calls[1:]} == {'"1"'}
        up[0] = False
        with run() as client:
            assert client.enabled("on", "u")
            assert not client.refresh(0.3)
            assert client.status.origin == "disk"
    assert KEY.encode() not in b"".join(path.read_bytes() for path in (tmp_path / "state").rglob("*") if path.is_file())
