"""Folders of ours on a disk, and the disk in memory that stands in for one: both keep the same promises."""

from __future__ import annotations

import errno
import os
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random

import pytest
from folders import Failing, MemoryDisk, MemoryFolder

from flagkit.disk import Folder, FolderError, held

OTHER_UID = 12_345
only_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")


@pytest.fixture
def real(tmp_path: Path) -> Folder:
    return Folder.open(tmp_path / "state")


@pytest.fixture(params=["real", "memory"])
def folder(request: pytest.FixtureRequest, real: Folder) -> Folder:
    return real if request.param == "real" else MemoryFolder()


class TestWhateverItIsMadeOf:
    def test_a_replaced_file_has_the_new_bytes_and_nothing_else_is_left(self, folder: Folder) -> None:
        folder.replace("a", b"one, and a good deal longer")
        folder.replace("a", b"two")
        assert (folder.read("a"), folder.size("a"), folder.names()) == (b"two", 3, ["a"])

    def test_any_part_of_a_file_can_be_read(self, folder: Folder) -> None:
        folder.replace("a", b"0123456789")
        assert [folder.read("a", 2, 3), folder.read("a", 8, 99), folder.read("a", 7), folder.read("a", 99, 1)] == [
            b"234",
            b"89",
            b"789",
            b"",
        ]

    def test_an_appender_adds_to_what_is_there(self, folder: Folder) -> None:
        for part in (b"one", b"two"):
            appender = folder.append("log")
            appender.write(part)
            appender.sync()
            appender.close()
            appender.close()
        assert folder.read("log") == b"onetwo"

    def test_a_renamed_file_takes_the_place_of_another(self, folder: Folder) -> None:
        folder.replace("a", b"new")
        folder.replace("b", b"old")
        folder.rename("a", "b")
        assert (folder.names(), folder.read("b")) == (["b"], b"new")

    def test_what_is_removed_is_gone(self, folder: Folder) -> None:
        folder.replace("a", b"")
        folder.remove("a")
        assert folder.names() == []

    def test_folders_nest_and_are_removed_with_the_files_in_them(self, folder: Folder) -> None:
        inner = folder.folder("inner")
        inner.replace("b", b"2")
        inner.replace("a", b"1")
        assert (folder.names(), inner.names()) == (["inner"], ["a", "b"])
        assert folder.folder("inner").read("b") == b"2"
        folder.remove_folder("inner")
        assert folder.names() == []

    @pytest.mark.parametrize(
        "use",
        [
            lambda folder: folder.read("missing"),
            lambda folder: folder.size("missing"),
            lambda folder: folder.modified_ms("missing"),
            lambda folder: folder.remove("missing"),
            lambda folder: folder.rename("missing", "b"),
            lambda folder: folder.remove_folder("missing"),
            lambda folder: folder.folder("file"),
        ],
    )
    def test_what_is_not_there_is_an_os_error(self, folder: Folder, use: Callable[[Folder], object]) -> None:
        folder.replace("file", b"")
        with pytest.raises(OSError):
            use(folder)

    def test_a_lock_is_had_by_one_at_a_time(self, folder: Folder) -> None:
        lock = folder.lock("lock")
        assert lock is not None
        assert folder.lock("lock") is None
        lock.release()
        lock.release()
        again = folder.lock("lock")
        assert again is not None
        again.release()

    def test_an_open_folder_is_as_good_as_a_path(self, folder: Folder) -> None:
        assert Folder.open(folder) is folder


class TestPrivacy:
    def test_directories_and_files_are_for_their_owner_alone(self, real: Folder) -> None:
        real.replace("a", b"")
        real.append("b").close()
        lock = real.lock("c")
        real.folder("d")
        modes = {name: stat.S_IMODE(os.stat(os.path.join(real.name, name)).st_mode) for name in ("", *real.names())}
        assert modes == {"": 0o700, "a": 0o600, "b": 0o600, "c": 0o600, "d": 0o700}
        assert lock is not None
        lock.release()

    def test_a_directory_that_everybody_may_write_to_is_refused(self, real: Folder) -> None:
        os.chmod(real.name, 0o777)
        for use in (lambda: Folder.open(real.name), real.names, lambda: real.replace("a", b"")):
            with pytest.raises(FolderError, match="everybody may write to it"):
                use()

    @only_root
    def test_a_directory_of_somebody_else_is_refused(self, real: Folder) -> None:
        os.chown(real.name, OTHER_UID, OTHER_UID)
        with pytest.raises(FolderError, match="belongs to another user"):
            Folder.open(real.name)

    @only_root
    def test_a_file_of_somebody_else_is_not_read(self, real: Folder) -> None:
        real.replace("a", b"planted")
        os.chown(os.path.join(real.name, "a"), OTHER_UID, OTHER_UID)
        with pytest.raises(FolderError, match="not a private file"):
            real.read("a")

    def test_a_file_that_others_may_write_to_is_not_read(self, real: Folder) -> None:
        real.replace("a", b"planted")
        os.chmod(os.path.join(real.name, "a"), 0o666)
        with pytest.raises(FolderError, match="not a private file"):
            real.read("a")

    @pytest.mark.parametrize("slash", ["", "/"])
    def test_a_link_is_no_folder(self, real: Folder, tmp_path: Path, slash: str) -> None:
        link = tmp_path / "link"
        link.symlink_to(real.name)
        with pytest.raises(OSError):
            Folder.open(f"{link}{slash}")
        link.unlink()
        link.symlink_to(tmp_path / "nowhere")
        with pytest.raises(OSError):
            Folder.open(f"{link}{slash}")

    def test_a_link_in_a_folder_is_never_followed(self, real: Folder, tmp_path: Path) -> None:
        target = tmp_path / "target"
        target.write_bytes(b"theirs")
        os.symlink(target, os.path.join(real.name, "a"))
        for use in (real.read, real.append, real.lock):
            with pytest.raises(OSError):
                use("a")
        real.replace("a", b"ours")
        assert (target.read_bytes(), real.read("a")) == (b"theirs", b"ours")

    def test_a_pipe_in_a_folder_keeps_nobody_waiting(self, real: Folder) -> None:
        os.mkfifo(os.path.join(real.name, "a"))
        for use in (real.read, real.append, real.lock):
            with pytest.raises(OSError):
                use("a")

    @pytest.mark.parametrize("path", ["file", "file/inside", "missing/inside"])
    def test_a_path_that_is_no_directory_is_an_os_error(self, tmp_path: Path, path: str) -> None:
        (tmp_path / "file").write_bytes(b"")
        with pytest.raises(OSError):
            Folder.open(tmp_path / path)
        assert [entry.name for entry in tmp_path.iterdir()] == ["file"]

    def test_a_folder_stays_where_it_was_when_the_process_goes_elsewhere(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        folder = Folder.open("state")
        monkeypatch.chdir("/")
        folder.replace("a", b"1")
        assert (tmp_path / "state" / "a").read_bytes() == b"1"

    def test_a_removed_folder_is_an_os_error_until_it_is_opened_again(self, real: Folder) -> None:
        os.rmdir(real.name)
        with pytest.raises(FileNotFoundError):
            real.replace("a", b"")
        Folder.open(real)
        real.replace("a", b"")


class TestFailures:
    @contextmanager
    def small_files(self) -> Iterator[None]:
        """No file may grow beyond 10 bytes, which is what a full disk does to a write that had begun.

        It ends within the test: pytest's own report of its outcome may go to a file.
        """
        import resource

        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (10, before[1]))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
            signal.signal(signal.SIGXFSZ, ignored)

    def test_a_file_that_cannot_be_written_whole_is_not_replaced(self, real: Folder) -> None:
        real.replace("a", b"old")
        with self.small_files(), pytest.raises(OSError):
            real.replace("a", b"longer than the disk takes")
        assert (real.read("a"), os.listdir(real.name)) == (b"old", ["a"])

    def test_an_append_that_fits_in_part_leaves_nothing_behind(self, real: Folder) -> None:
        appender = real.append("log")
        appender.write(b"01234")
        with self.small_files(), pytest.raises(OSError):
            appender.write(b"too long")
        assert real.read("log") == b"01234"
        appender.write(b"56789")
        appender.close()
        assert real.read("log") == b"0123456789"

    def test_a_replaced_file_is_on_the_disk_before_its_name_and_its_name_before_anybody_goes_on(
        self, real: Folder, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        done: list[str] = []

        def noted(name: str) -> Callable[..., None]:
            call = getattr(os, name)

            def noting(*args: object, **more: object) -> None:
                directory = name == "fsync" and stat.S_ISDIR(os.fstat(args[0]).st_mode)
                done.append(f"{name} of the directory" if directory else name)
                call(*args, **more)

            return noting

        for name in ("fsync", "rename"):
            monkeypatch.setattr(os, name, noted(name))
        real.replace("a", b"1")
        assert done == ["fsync", "rename", "fsync of the directory"]
        done.clear()
        real.rename("a", "b")
        assert done == ["rename", "fsync of the directory"]

    def test_what_a_crash_left_half_written_is_swept_up_an_hour_later(self, real: Folder) -> None:
        for name, age_s in (("a.old.tmp", 4000), ("a.now.tmp", 0)):
            real.append(name).close()
            now_s = os.stat(os.path.join(real.name, name)).st_mtime
            os.utime(os.path.join(real.name, name), (now_s - age_s, now_s - age_s))
        assert real.names() == []
        real.replace("a", b"")
        assert sorted(os.listdir(real.name)) == ["a", "a.now.tmp"]

    def test_a_directory_that_cannot_be_synced_on_this_file_system_is_good_enough(
        self, real: Folder, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        sync = os.fsync

        def picky(descriptor: int) -> None:
            if stat.S_ISDIR(os.fstat(descriptor).st_mode):
                raise OSError(errno.EINVAL, "no")
            sync(descriptor)

        monkeypatch.setattr(os, "fsync", picky)
        real.replace("a", b"1")
        assert real.read("a") == b"1"

    def test_a_system_without_private_folders_has_none(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("flagkit.disk.folder._POSIX", False)
        with pytest.raises(FolderError, match="private"):
            Folder.open(tmp_path / "state")
        assert list(tmp_path.iterdir()) == []

    def test_nothing_stays_open(self, real: Folder) -> None:
        before = len(os.listdir("/dev/fd"))
        real.replace("a", b"1")
        real.read("a")
        real.names()
        real.folder("b")
        real.append("c").close()
        with pytest.raises(OSError):
            real.append("b")
        lock = real.lock("d")
        assert real.lock("d") is None
        assert lock is not None
        lock.release()
        assert len(os.listdir("/dev/fd")) == before


HOLD = """
import sys
from flagkit.disk import Folder
lock = Folder.open(sys.argv[1]).lock("lock")
print("held" if lock else "not held", flush=True)
sys.stdin.read()
"""


class TestLocks:
    def hold(self, real: Folder) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-c", HOLD, real.name]
        return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def test_a_killed_process_holds_nothing(self, real: Folder) -> None:
        with self.hold(real) as other:
            assert other.stdout is not None
            assert other.stdout.readline() == b"held\n"
            assert real.lock("lock") is None
            other.kill()
        lock = real.lock("lock")
        assert lock is not None
        lock.release()

    @pytest.mark.parametrize("end", ["forget", "release"])
    def test_a_forked_child_cannot_end_its_parent_s_lock(self, real: Folder, end: str) -> None:
        lock = real.lock("lock")
        assert lock is not None
        child = os.fork()
        if child == 0:
            getattr(lock, end)()
            os._exit(0)
        os.waitpid(child, 0)
        assert real.lock("lock") is None
        lock.release()

    def test_a_release_frees_it_although_a_forked_child_forgot_nothing(self, real: Folder) -> None:
        lock = real.lock("lock")
        assert lock is not None
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(writing)
            os.read(reading, 1)
            os._exit(0)
        os.close(reading)
        lock.release()
        again = real.lock("lock")
        os.close(writing)
        os.waitpid(child, 0)
        assert again is not None
        again.release()

    def test_a_lock_on_a_file_that_its_owner_removed_is_not_a_lock(self, real: Folder) -> None:
        """Somebody opens the file, its owner removes it and lets go, and a third one makes it anew."""
        first = real.lock("lock")
        assert first is not None
        real.remove("lock")
        second = real.lock("lock")
        assert second is not None
        first.release()
        assert real.lock("lock") is None
        second.release()

    def test_of_many_threads_one_has_it(self, real: Folder) -> None:
        gate = threading.Barrier(8)
        had = []

        def grab() -> None:
            gate.wait()
            if (lock := real.lock("lock")) is not None:
                had.append(lock)

        threads = [threading.Thread(target=grab) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(had) == 1
        had[0].release()

    def test_a_dropped_lock_is_free(self, real: Folder) -> None:
        with pytest.warns(ResourceWarning):
            assert real.lock("lock") is not None
        lock = real.lock("lock")
        assert lock is not None
        lock.release()


class TestTheDiskInMemory:
    def test_a_power_loss_keeps_what_was_synced(self) -> None:
        disk = MemoryDisk()
        folder = MemoryFolder(disk)
        folder.replace("a", b"whole")
        log = folder.append("log")
        log.write(b"synced")
        log.sync()
        log.write(b" and not")
        folder.append("new").write(b"gone")
        disk.crash()
        assert {name: folder.read(name) for name in folder.names()} == {"a": b"whole", "log": b"synced"}

    def test_a_power_loss_may_keep_any_part_of_the_rest(self) -> None:
        ends = set()
        for seed in range(200):
            disk = MemoryDisk()
            log = MemoryFolder(disk).append("log")
            log.write(b"ab")
            log.sync()
            log.write(b"cd")
            disk.crash(Random(seed))
            ends.add(MemoryFolder(disk).read("log"))
        assert ends == {b"ab", b"abc", b"abcd"}

    def test_a_killed_process_loses_nothing_but_its_locks(self) -> None:
        disk = MemoryDisk()
        one, other = MemoryFolder(disk), MemoryFolder(disk)
        one.append("log").write(b"written")
        assert one.lock("lock") is not None
        assert other.lock("lock") is None
        one.kill()
        assert other.lock("lock") is not None
        assert other.read("log") == b"written"

    @pytest.mark.parametrize("step", ["create", "write", "sync", "rename"])
    def test_a_step_that_fails_leaves_the_old_file(self, step: str) -> None:
        folder = MemoryFolder()
        folder.replace("a", b"old")
        folder.disk.faults = faults = Failing(step)
        with pytest.raises(OSError):
            folder.replace("a", b"new")
        assert (folder.read("a"), faults.raised) == (b"old", 1)
        faults.on = False
        folder.replace("a", b"new")
        assert folder.read("a") == b"new"

    def test_it_may_fail_later_and_with_any_error(self) -> None:
        folder = MemoryFolder(faults=Failing(spared=3, code=errno.EIO))
        folder.names()
        folder.append("a").write(b"")
        with pytest.raises(OSError) as caught:
            folder.read("a")
        assert caught.value.errno == errno.EIO


def test_data_is_synced_with_what_the_system_has() -> None:
    assert held.sync_data in (getattr(os, "fdatasync", None), os.fsync)
