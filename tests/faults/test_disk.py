"""Rows C1 to C6: restarts while the server is down, disks that cannot be used or fail, and who else is there."""

from __future__ import annotations

import json
import os
import pickle
import re
import time
from collections import Counter
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from flagkit.sources import Cached
from flagkit.sources import Http as HttpSource
from flagkit.sources.source import Fetched
from tests.faults import answers
from tests.faults.disks import (
    ANSWERS,
    FAILING,
    NEVER,
    OTHERS,
    crash,
    definitions,
    finished,
    kept_number,
    modes,
    running,
    segments,
    spooled,
    start,
    state,
    stored_once,
    track,
    warnings,
)
from tests.faults.stage import KEY, App, Stage, check_secrets

# -- C1, C2: the last good definitions


@pytest.mark.parametrize("how", ["closed", "killed"])
def test_c01_restarted_while_the_server_is_down_it_answers_as_before(stage: Stage, how: str) -> None:
    app = running(stage, callers=2)
    number = stage.server.publish()
    app.sees(number)
    app.until(lambda: kept_number(stage) == number)
    before = app.do(ANSWERS)
    tracked = (app.finish() if how == "closed" else crash(app, stage))["tracked"]
    ended_s = time.monotonic()
    stage.server.refuse()

    app = start(stage, callers=2)
    assert app.do(ANSWERS) == before, "the first answers"
    assert app.status["version"] == str(number)
    assert app.status["ready"]
    assert app.status["age_s"] >= time.monotonic() - ended_s - 0.5
    assert app.do("answer = client.status.origin") == "disk"
    app.do("numbering = itertools.count(first)", first=OTHERS)
    app.run()
    app.until(lambda: app.source["failures"] >= 3)
    app.keeps(number, for_s=0.3)

    stage.server.accept()
    app.sees(stage.server.publish())
    assert app.do("answer = client.status.origin") == "source"
    finished(app)
    assert app.report is not None
    stored_once(stage, [*range(tracked), *range(OTHERS, OTHERS + app.report["tracked"])])


class Hostile:
    """A pickle that runs a command when it is opened."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.mark}",)


def of_another_version(data: bytes) -> bytes:
    head, _, document = data.partition(b"\n")
    line = json.dumps({**json.loads(head.rpartition(b" ")[0]), "format": 2}).encode()
    return b"%b %b\n%b" % (line, sha256(line).hexdigest()[:16].encode(), document)


def planted(path: Path, make: Callable[[Path], object]) -> None:
    path.rename(path.parent / "moved")
    make(path)


def owned(path: Path) -> None:
    if os.geteuid():
        pytest.skip("only root can give a file away")
    os.chown(path, 12345, 12345)


DAMAGE: dict[str, Callable[[Path], object]] = {
    "truncated": lambda path: path.write_bytes(path.read_bytes()[:-40]),
    "truncated in the first line": lambda path: path.write_bytes(path.read_bytes()[:30]),
    "empty": lambda path: path.write_bytes(b""),
    "longer": lambda path: path.write_bytes(path.read_bytes() + b" "),
    "random bytes": lambda path: path.write_bytes(os.urandom(path.stat().st_size)),
    "another number": lambda path: path.write_bytes(path.read_bytes().replace(b'"now": ', b'"now": 9')),
    "a hostile pickle": lambda path: path.write_bytes(pickle.dumps(Hostile(path.parent / "executed"))),
    "of another version": lambda path: path.write_bytes(of_another_version(path.read_bytes())),
    "writable for everybody": lambda path: path.chmod(0o666),
    "of another user": owned,
    "a pipe": lambda path: planted(path, os.mkfifo),
}


@pytest.mark.parametrize("what", DAMAGE)
def test_c02_damaged_definitions_are_put_aside_and_the_generation_before_answers(stage: Stage, what: str) -> None:
    cached = Cached(HttpSource(stage.server.url, key=KEY), state(stage))
    cached.keep(Fetched(stage.server.document, None), int(time.time() * 1000))
    stage.server.publish()
    cached.keep(Fetched(stage.server.document, None), int(time.time() * 1000))
    older, newer = sorted(definitions(stage).glob("definitions.?"), key=lambda path: path.stat().st_mtime_ns)
    DAMAGE[what](newer)
    stage.server.refuse()
    app = start(stage, callers=1)
    assert app.do('answer = [client.value("number", "u", default=-1), client.status.version]') == [1, "1"]
    app.run()
    app.keeps(1, for_s=0.2)

    DAMAGE[what](older)
    fresh = 'client.close(); client = made(); answer = client.value("number", "u", default=-1)'
    app.ask("rest")
    assert app.do(fresh) == -1
    assert app.status["disk"] == "ok"
    stage.server.accept()
    app.sees(2)
    app.until(lambda: kept_number(stage) == 2)
    names = {path.name for path in definitions(stage).iterdir()} - {"moved"}
    assert names <= {"definitions.0", "definitions.1", "definitions.bad", "confirmed"}
    assert "definitions.bad" in names, "one of them is kept"
    assert len(warnings(app)) >= 2


# -- C3, C4: disks that cannot be used, or fail

#: A mount namespace of the application's own; where the system allows none, ``mounted`` stays None.
MOUNTING = """
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
MS_RDONLY, MS_REMOUNT, MS_BIND, MS_REC, MS_PRIVATE = 1, 32, 4096, 16384, 1 << 18
NEW_USER, NEW_MOUNTS = 0x10000000, 0x00020000
def mount(source, target, kind, flags, options=None):
    texts = [text.encode() if text else None for text in (source, target, kind)]
    if libc.mount(*texts, ctypes.c_ulong(flags), options.encode() if options else None):
        raise OSError(ctypes.get_errno(), "mount")
def private_mounts():
    user, group = os.geteuid(), os.getegid()
    if libc.unshare(NEW_MOUNTS | (NEW_USER if user else 0)):
        raise OSError(ctypes.get_errno(), "unshare")
    if user:
        for name, text in (("setgroups", "deny"), ("uid_map", f"{user} {user} 1"), ("gid_map", f"{group} {group} 1")):
            with open(f"/proc/self/{name}", "w") as file:
                file.write(text)
    mount(None, "/", None, MS_REC | MS_PRIVATE)
mounted, path = None, SETTINGS["config"]["state_dir"]
"""
READ_ONLY = """
try:
    private_mounts()
    mount(path, path, None, MS_BIND)
    mount(None, path, None, MS_BIND | MS_REMOUNT | MS_RDONLY)
    mounted = path
except OSError:
    pass
"""
SMALL = """
try:
    private_mounts()
    mount("none", path, "tmpfs", 0, "size=256k,mode=700")
    mounted = path
except OSError:
    pass
"""


def needs_mounts(app: App) -> None:
    if app.do("answer = mounted") is None:
        app.kill()
        pytest.skip("mounting is not allowed here")


def goes_on(stage: Stage, app: App) -> None:
    """Answers, updates and delivery are as without a disk."""
    app.sees(stage.server.publish())
    recorded = app.account["recorded"]
    app.until(lambda: app.account["delivered"] + sum(app.account["lost"].values()) >= recorded)


def warned_once(app: App) -> None:
    """Of each of the two things that are kept there is one line."""
    about = Counter(re.findall("WARNING flagkit (last good definitions|event spool): ", "\n".join(warnings(app))))
    assert about
    assert max(about.values()) == 1, warnings(app)


def emptied(path: Path) -> Path:
    path.write_bytes(b"")
    return path


def linked(path: Path, target: str) -> Path:
    path.symlink_to(target)
    return path


UNUSABLE: dict[str, Callable[[Path], Path]] = {
    "its parent is missing": lambda path: path / "deeper",
    "it is a file": emptied,
    "it is below a file": lambda path: emptied(path) / "below",
    "it is a link to nowhere": lambda path: linked(path, "nowhere"),
    "it is a link to a folder": lambda path: linked(path, "."),
    "its name is too long": lambda path: path.with_name("x" * 300),
}


@pytest.mark.parametrize("why", UNUSABLE)
def test_c03_with_a_folder_that_cannot_be_used_everything_goes_on_in_memory(stage: Stage, why: str) -> None:
    path = UNUSABLE[why](state(stage))
    app = running(stage, callers=2, config={"state_dir": str(path)})
    app.until(lambda: app.status["disk"] == "off")
    goes_on(stage, app)
    goes_on(stage, app)
    time.sleep(0.7)  # for two more attempts
    assert app.status["disk"] == "off"
    warned_once(app)
    account = finished(app)
    assert account["delivered"] == account["recorded"]
    assert app.report is not None
    stored_once(stage, range(app.report["tracked"]))


def test_c03_on_a_read_only_disk_what_was_kept_answers_and_the_rest_goes_on_in_memory(stage: Stage) -> None:
    app = running(stage)
    app.until(lambda: kept_number(stage) == 1)
    app.finish()
    before = {path: path.read_bytes() for path in state(stage).rglob("*") if path.is_file()}
    stage.server.definitions = answers.hang_up
    app = start(stage, callers=2, prelude=MOUNTING + READ_ONLY)
    needs_mounts(app)
    assert app.do('answer = client.value("number", "u", default=-1)') == 1
    stage.server.heal()
    app.run()
    goes_on(stage, app)
    app.until(lambda: app.status["disk"] == "off")
    warned_once(app)
    finished(app)
    assert {path: path.read_bytes() for path in state(stage).rglob("*") if path.is_file()} == before


def fails_and_recovers(stage: Stage, app: App, breaks: str, mends: str) -> None:
    """The disk fails: memory and the collector do. It works again: what waits is on it, as is the latest document."""
    server = stage.server
    app.until(lambda: kept_number(stage) == server.number)
    before = {path.name: path.read_bytes() for path in definitions(stage).glob("definitions.?")}
    app.do(breaks)
    app.do("numbering = itertools.count(0)\nfor _ in range(300): track()")
    goes_on(stage, app)
    app.until(lambda: app.status["disk"] == "failing")
    assert app.account["lost"] == {}
    assert {path.name: path.read_bytes() for path in definitions(stage).glob("definitions.?")} == before

    server.collector = answers.status(503)
    app.do("for _ in range(300): track()")
    time.sleep(0.4)
    assert app.account["pending"] >= 300
    app.do(mends)
    app.until(lambda: app.status["disk"] == "ok")
    app.until(lambda: kept_number(stage) == server.number)
    crash(app, stage)
    server.heal()
    server.refuse()
    app = start(stage)
    assert app.do('answer = client.value("number", "u", default=-1)') == server.number
    server.accept()
    finished(app)
    stored_once(stage, range(600))


@pytest.mark.parametrize("error", ["EIO", "ENOSPC", "EDQUOT"])
@pytest.mark.parametrize("step", ["write", "sync"])
def test_c04_while_the_disk_fails_memory_does_and_then_the_disk_again(stage: Stage, step: str, error: str) -> None:
    app = running(stage, prelude=FAILING)
    fails_and_recovers(stage, app, f'broken["{step}"] = errno.{error}', f'broken["{step}"] = 0')


def test_c04_files_that_may_not_grow_cost_a_later_restart_an_update_and_no_event(stage: Stage) -> None:
    """The limit is one for each file: segments stay below it, documents do not."""
    app = running(stage, config={"deadline_s": 3})
    app.until(lambda: kept_number(stage) == 1)
    app.do("""
import resource, signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
log.setLevel(logging.WARNING)  # the log is a file as well
resource.setrlimit(resource.RLIMIT_FSIZE, (256 * 1024, resource.RLIM_INFINITY))
""")
    stage.server.collector = answers.status(503)
    app.sees(stage.server.publish(edit=lambda document: document + b" " * 400_000))
    app.do("for _ in range(2000): track()")
    app.until(lambda: app.status["disk"] == "failing")
    spooled(app)
    assert app.account["lost"] == {}
    crash(app, stage)
    assert len(segments(stage)) > 1
    stage.server.refuse()
    app = start(stage)
    assert app.do('answer = client.value("number", "u", default=-1)') == 1
    stage.server.accept()
    stage.server.heal()
    app.sees(2)
    assert finished(app)["adopted"] >= 2000
    stored_once(stage, range(2000))


def test_c04_a_full_disk_costs_no_event_and_no_update(stage: Stage) -> None:
    state(stage).mkdir(mode=0o700)
    app = start(stage, callers=1, prelude=MOUNTING + SMALL)
    needs_mounts(app)
    app.run()
    app.sees(1)
    seen = Path(f"/proc/{app.process.pid}/root{state(stage)}")
    app.until(lambda: kept_number(stage, seen) == 1)
    stage.server.collector = answers.status(503)  # what was sent would make room
    app.do("""
size = os.statvfs(path)
filler = os.open(os.path.join(path, "filler"), os.O_CREAT | os.O_WRONLY)
os.posix_fallocate(filler, 0, size.f_bavail * size.f_frsize)
for _ in range(200):
    track()
""")
    app.sees(stage.server.publish())
    app.until(lambda: app.status["disk"] == "failing")
    assert kept_number(stage, seen) == 1, "the one before is whole"
    assert app.account["lost"] == {}
    stage.server.heal()
    goes_on(stage, app)
    stage.server.collector = answers.status(503)
    app.do('for _ in range(200): track()\nos.ftruncate(filler, 0); os.remove(os.path.join(path, "filler"))')
    app.until(lambda: app.status["disk"] == "ok")
    spooled(app)
    app.until(lambda: kept_number(stage, seen) == stage.server.number)
    assert sum(path.stat().st_size for path in seen.glob("sinks/*/*/*.seg")) > 200 * 200
    for path in seen.rglob("*"):
        assert not path.is_file() or KEY.encode() not in path.read_bytes()
    stage.server.heal()
    assert finished(app)["lost"] == {}
    assert app.report is not None
    stored_once(stage, range(app.report["tracked"]))


# -- C5, C6: who else is there


@pytest.mark.parametrize("how", ["closes", "is killed"])
def test_c05_when_one_of_two_ends_the_other_keeps_what_is_its_own_and_one_sends_the_rest(
    stage: Stage, how: str
) -> None:
    one, other, third = (running(stage, callers=1, track_every=NEVER) for _ in range(3))
    stage.server.collector = answers.status(503)
    track(one, 0, 300)
    track(other, 300, 300)
    own = {path: path.stat().st_ino for path in state(stage).rglob("*") if f"-{other.process.pid}-" in str(path)}
    assert any(path.suffix == ".seg" for path in own)
    if how == "closes":
        one.may_keep = None
        told = one.finish(0.2)
        assert told["left"] >= 300
        adoptable = told["left_at_close"]
    else:
        adoptable = crash(one, stage)["status"]["account"]["pending"]
    time.sleep(1.0)  # three looks
    assert {path: path.stat().st_ino for path in own} == own
    stage.server.heal()
    accounts = [finished(other), finished(third)]
    assert sorted(account["adopted"] for account in accounts) == [0, adoptable]
    stored_once(stage, range(600))
    assert segments(stage) == []
    assert kept_number(stage) == stage.server.number


def test_c05_one_that_is_upgraded_finds_what_its_predecessor_left(stage: Stage) -> None:
    """The next one starts before the previous one ends, as with a rolling deployment."""
    stage.server.collector = answers.status(503)
    before = running(stage)
    track(before, 0, 200)
    after = running(stage)
    track(after, 200, 200)
    before.may_keep = None
    before.finish(0.2)
    stage.server.heal()
    after.until(lambda: after.account["adopted"] >= 200)
    finished(after)
    stored_once(stage, range(400))


def test_c06_what_is_kept_is_for_its_user_only(stage: Stage) -> None:
    app = running(stage, prelude="import os; os.umask(0)")
    stage.server.collector = answers.picky(stage.server, lambda event: event.get("properties", {}).get("n") == 7)
    app.may_lose = {"http_400"}
    track(app, 0, 20)
    app.until(lambda: list(state(stage).glob("sinks/*/dead/*.jsonl")))
    stage.server.collector = answers.status(503)
    track(app, 20, 20)
    app.until(lambda: kept_number(stage) == 1)
    assert segments(stage)
    assert modes(stage) == {("folder", 0o700), ("file", 0o600)}
    check_secrets(stage)
    stage.server.heal()
    finished(app)
    stored_once(stage, set(range(40)) - {7})


def opened(path: Path, mode: int) -> None:
    path.mkdir()
    path.chmod(mode)


def foreign(path: Path) -> None:
    path.mkdir()
    owned(path)


PLANTED: dict[str, Callable[[Path], object]] = {
    "writable for everybody": lambda path: opened(path, 0o777),
    "sticky": lambda path: opened(path, 0o1777),
    "of another user": foreign,
}


@pytest.mark.parametrize("what", PLANTED)
def test_c06_a_folder_that_is_not_ours_alone_is_not_used(stage: Stage, what: str) -> None:
    PLANTED[what](state(stage))
    app = running(stage, callers=2)
    app.until(lambda: app.status["disk"] == "off")
    goes_on(stage, app)
    warned_once(app)
    finished(app)
    assert list(state(stage).iterdir()) == []


def test_c06_links_and_files_of_others_are_neither_followed_nor_touched(stage: Stage) -> None:
    app = running(stage)
    app.until(lambda: kept_number(stage) == 1)
    track(app, 0, 10)
    app.finish()
    elsewhere = stage.directory / "elsewhere"
    elsewhere.mkdir(mode=0o700)
    victim = elsewhere / "000001.seg"
    victim.write_text("precious")
    victim.chmod(0o600)
    older = next(definitions(stage).glob("definitions.?"))
    older.unlink()
    older.symlink_to(victim)
    (definitions(stage) / "confirmed").unlink(missing_ok=True)
    (definitions(stage) / "confirmed").symlink_to(victim)
    sink = next(state(stage).glob("sinks/*"))
    (sink / "0001700000000-1-00000000").symlink_to(elsewhere)
    (sink / "0001700000000-2-00000000").write_text("a file with a folder's name")
    (sink / "dead").symlink_to(elsewhere)
    home = sink / "0001700000000-3-00000000"
    home.mkdir(mode=0o700)
    (home / "lock").symlink_to(victim)
    (home / "000001.seg").symlink_to(victim)

    app = running(stage)
    app.may_lose = {"http_400"}
    stage.server.collector = answers.picky(stage.server, lambda event: event.get("properties", {}).get("n") == 13)
    track(app, 10, 10)
    goes_on(stage, app)
    stage.server.heal()
    finished(app)
    assert victim.read_text() == "precious"
    assert [path.name for path in elsewhere.iterdir()] == ["000001.seg"]
    stored_once(stage, set(range(20)) - {13})
