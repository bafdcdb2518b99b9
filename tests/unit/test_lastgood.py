"""The files of the last good definitions: what is found in them after anything that may happen to a disk."""

from __future__ import annotations

import errno
import json
import logging
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from random import Random

import pytest
from documents import STEADY
from folders import Failing, MemoryDisk, MemoryFolder
from hypothesis import given
from hypothesis import strategies as st

from flagkit.disk import Folder
from flagkit.sources import Fetched, Kept
from flagkit.sources.lastgood import LastGood

MiB = 1 << 20
ONE, TWO, THREE = (Fetched(f"document {word}".encode(), f'"{word}"') for word in ("one", "two", "three"))
GENERATIONS = ("definitions.0", "definitions.1")


def lastgood(folder: Folder) -> LastGood:
    """As a process has it that just started."""
    return LastGood(lambda: Folder.open(folder))


def recalled(folder: Folder, max_bytes: int = MiB) -> list[Kept]:
    return list(lastgood(folder).recall(max_bytes))


def kept(*documents: Fetched) -> MemoryFolder:
    """A folder in which these were kept, one after the other, at 1000 ms and the following."""
    folder = MemoryFolder()
    shelf = lastgood(folder)
    for number, document in enumerate(documents):
        shelf.keep(document, 1000 + number)
    folder.disk.steps.clear()
    return folder


@pytest.fixture
def folder() -> MemoryFolder:
    return MemoryFolder()


# -- what is kept ------------------------------------------------------------------------------------------------------


def test_in_an_empty_folder_there_is_nothing(folder: MemoryFolder) -> None:
    assert recalled(folder) == []


def test_a_document_comes_back_as_it_was(folder: MemoryFolder) -> None:
    data = bytes(range(256)) * 10
    lastgood(folder).keep(Fetched(data, 'W/"ü"', 7), 1234)
    assert recalled(folder) == [Kept(data, 'W/"ü"', 1234)]


def test_the_two_latest_are_kept_and_the_newest_comes_first() -> None:
    folder = kept(ONE, TWO, THREE)
    assert recalled(folder) == [Kept(*THREE[:2], 1002), Kept(*TWO[:2], 1001)]
    assert folder.names() == [*GENERATIONS]


def test_the_file_is_a_line_that_people_can_read_and_then_the_very_bytes() -> None:
    line, _, data = kept(ONE).read("definitions.1").partition(b"\n")
    assert data == ONE.data
    assert json.loads(line.rpartition(b" ")[0]) == {
        "format": 1,
        "generation": 1,
        "length": len(ONE.data),
        "sha256": sha256(ONE.data).hexdigest(),
        "validator": '"one"',
        "confirmed_ms": 1000,
    }


def test_a_validator_that_is_long_or_missing_is_none(folder: MemoryFolder) -> None:
    for number, validator in enumerate((None, "v" * 4096, "v" * 4097, "\ud800" * 4096)):
        lastgood(folder).keep(Fetched(b"%d" % number, validator), 1)
    assert [found.validator for found in recalled(folder)] == ["\ud800" * 4096, None]
    lastgood(folder).keep(ONE, 1)
    lastgood(folder).keep(Fetched(b"2", None), 1)
    assert [found.validator for found in recalled(folder)] == [None, '"one"']


def test_a_document_that_is_there_already_is_not_written_again() -> None:
    folder = kept(ONE)
    lastgood(folder).keep(ONE, 1001)
    lastgood(folder).keep(Fetched(ONE.data, ONE.validator, server_ms=5), 1002)
    assert folder.disk.count("write") == 0


def test_an_earlier_document_that_is_in_use_again_is_the_newest_again() -> None:
    folder = kept(ONE, TWO, ONE)
    assert recalled(folder) == [Kept(*ONE[:2], 1002), Kept(*TWO[:2], 1001)]


def test_a_document_too_large_by_the_settings_of_today_is_left_where_it_is() -> None:
    folder = kept(ONE, Fetched(b"x" * 1000))
    assert recalled(folder, max_bytes=999) == [Kept(*ONE[:2], 1000)]
    assert len(recalled(folder, max_bytes=1000)) == 2


# -- confirmations -----------------------------------------------------------------------------------------------------


def confirmed_ms(folder: Folder) -> list[int]:
    return [found.confirmed_ms for found in recalled(folder)]


def test_a_confirmation_is_noted_without_writing_the_document() -> None:
    folder = MemoryFolder()
    shelf = lastgood(folder)
    shelf.keep(ONE, 1000)
    shelf.keep(None, 61_000)
    assert confirmed_ms(folder) == [61_000]
    shelf.keep(None, 200_000)
    assert confirmed_ms(folder) == [200_000]
    assert [name for step, name in folder.disk.steps if step == "write"] == ["definitions.1", "confirmed", "confirmed"]


def test_a_confirmation_is_noted_once_a_minute_by_all_processes_together() -> None:
    folder = kept(ONE)
    processes = [lastgood(folder) for _ in range(8)]
    for process in processes:
        next(process.recall(MiB))
    for second in range(600):
        processes[second % 8].keep(None, 1000 + 1000 * second)
    assert folder.disk.count("write") == 9
    assert confirmed_ms(folder) == [541_000]


def test_the_wall_clock_may_go_back(folder: MemoryFolder) -> None:
    shelf = lastgood(folder)
    shelf.keep(ONE, 10_000_000)
    shelf.keep(None, 5_000_000)
    assert confirmed_ms(folder) == [5_000_000]


def test_a_recalled_document_is_confirmed_as_one_that_was_kept() -> None:
    folder = kept(ONE)
    again = lastgood(folder)
    next(again.recall(MiB))
    again.keep(None, 100_000)
    assert confirmed_ms(folder) == [100_000]


def test_a_confirmation_is_of_the_document_in_use_and_of_no_other() -> None:
    folder = kept(ONE)
    behind = lastgood(folder)
    next(behind.recall(MiB))
    ahead = lastgood(folder)
    ahead.keep(TWO, 2000)
    behind.keep(None, 500_000)
    assert confirmed_ms(folder) == [2000, 1000]
    ahead.keep(None, 400_000)
    ahead.keep(ONE, 400_001)
    assert confirmed_ms(folder) == [400_001, 400_000]


def test_a_confirmation_of_long_ago_is_not_of_the_same_document_in_use_again() -> None:
    folder = kept(ONE)
    shelf = lastgood(folder)
    shelf.keep(ONE, 100_000)
    shelf.keep(TWO, 110_000)
    shelf.keep(ONE, 120_000)
    assert confirmed_ms(folder) == [120_000, 110_000]


def test_who_had_to_take_the_older_generation_confirms_nothing_of_the_newer() -> None:
    folder = kept(ONE, TWO)
    process = lastgood(folder)
    assert len(list(process.recall(MiB))) == 2
    process.keep(None, 500_000)
    assert confirmed_ms(folder) == [1001, 1000]


def test_before_anything_is_recalled_or_kept_there_is_nothing_to_confirm() -> None:
    folder = kept(ONE)
    lastgood(folder).keep(None, 500_000)
    assert confirmed_ms(folder) == [1000]


def test_another_name_for_the_same_bytes_is_noted() -> None:
    folder = kept(ONE)
    lastgood(folder).keep(ONE._replace(validator='"1"'), 1001)
    assert recalled(folder) == [Kept(ONE.data, '"1"', 1001)]
    assert [name for step, name in folder.disk.steps if step == "write"] == ["confirmed"]


# -- damage ------------------------------------------------------------------------------------------------------------


def test_a_damaged_file_is_put_aside_and_the_generation_before_it_answers(caplog: pytest.LogCaptureFixture) -> None:
    folder = kept(ONE, TWO)
    folder.put("definitions.0", folder.read("definitions.0")[:-1])
    assert recalled(folder) == [Kept(*ONE[:2], 1000)]
    assert folder.names() == ["definitions.1", "definitions.bad"]
    assert [record.message for record in caplog.records if record.levelno == logging.WARNING] == [
        "last good definitions: definitions.0 in memory: is damaged: now definitions.bad"
    ]


def test_a_logging_handler_that_raises_costs_the_line_and_not_the_document() -> None:
    class Broken(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            raise ValueError

    folder, broken = kept(ONE, TWO), Broken()
    folder.put("definitions.0", b"")
    logging.getLogger("flagkit").addHandler(broken)
    try:
        assert recalled(folder) == [Kept(*ONE[:2], 1000)]
    finally:
        logging.getLogger("flagkit").removeHandler(broken)
    assert folder.names() == ["definitions.1", "definitions.bad"]


def test_one_damaged_file_is_kept() -> None:
    folder = kept(ONE, TWO)
    for name in GENERATIONS:
        folder.put(name, name.encode())
    assert recalled(folder) == []
    assert folder.names() == ["definitions.bad"]


def test_after_damage_the_document_is_written_again() -> None:
    for name in GENERATIONS:
        folder = kept(ONE, TWO)
        folder.put(name, b"garbage")
        lastgood(folder).keep(TWO, 5000)
        assert recalled(folder)[0].data == TWO.data


def test_damage_behind_a_good_line_is_found_before_a_document_counts_as_kept() -> None:
    folder = kept(ONE)
    folder.put("definitions.1", folder.read("definitions.1").replace(b"document", b"DOCUMENT"))
    lastgood(folder).keep(ONE, 5000)
    assert recalled(folder) == [Kept(*ONE[:2], 5000)]


def test_a_file_of_another_format_is_not_read(folder: MemoryFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as later:
        later.setattr("flagkit.sources.lastgood._FORMAT", 2)
        lastgood(folder).keep(ONE, 1)
    assert recalled(folder) == []


def test_a_pickle_is_not_opened(folder: MemoryFolder, tmp_path: Path) -> None:
    hostile = b"cos\nsystem\n(S'touch %s'\ntR." % str(tmp_path / "owned").encode()
    folder.put("definitions.0", hostile)
    folder.put("confirmed", hostile)
    assert recalled(folder) == []
    assert list(tmp_path.iterdir()) == []


def damaged(data: st.DataObject, before: bytes) -> bytes:
    """Cut anywhere, any bit flipped, a part zeroed, made up, or something else altogether."""
    at = data.draw(st.integers(0, len(before) - 1))
    how = data.draw(st.sampled_from(["cut", "flip", "zero", "garbage", "insert"]))
    if how == "cut":
        return before[:at]
    if how == "flip":
        return before[:at] + bytes([before[at] ^ (1 << data.draw(st.integers(0, 7)))]) + before[at + 1 :]
    if how == "zero":
        return before[:at] + bytes(len(before) - at)
    if how == "insert":
        return before[:at] + data.draw(st.binary(min_size=1, max_size=9)) + before[at:]
    return data.draw(st.binary(max_size=400))


@STEADY
@given(st.data())
def test_no_damage_raises_or_gives_a_document_or_a_time_that_never_was(data: st.DataObject) -> None:
    folder = kept(ONE, TWO)
    shelf = lastgood(folder)
    next(shelf.recall(MiB))
    shelf.keep(None, 90_000)
    were = {(ONE.data, '"one"', 1000), (TWO.data, '"two"', 1001), (TWO.data, '"two"', 90_000)}
    for name in data.draw(st.sets(st.sampled_from([*GENERATIONS, "confirmed"]), min_size=1)):
        folder.put(name, damaged(data, folder.read(name)))
    assert set(recalled(folder)) <= were
    shelf = lastgood(folder)
    for _ in shelf.recall(MiB):
        break
    shelf.keep(None, 200_000)
    assert {found[:2] for found in recalled(folder)} <= {were[:2] for were in were}
    lastgood(folder).keep(THREE, 300_000)
    assert recalled(folder)[0] == Kept(THREE.data, '"three"', 300_000)


def test_every_flipped_bit_and_every_cut_is_noticed() -> None:
    folder = kept(ONE)
    whole = folder.read("definitions.1")
    for at in range(len(whole)):
        folder.put("definitions.1", whole[:at])
        assert recalled(folder) == []
        for bit in range(8):
            folder.put("definitions.1", whole[:at] + bytes([whole[at] ^ (1 << bit)]) + whole[at + 1 :])
            assert recalled(folder) == []


# -- a disk that fails -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("spared", range(12))
def test_whichever_step_of_keeping_fails_one_of_the_two_documents_answers(spared: int) -> None:
    folder = kept(ONE)
    folder.disk.faults = faults = Failing(spared=spared, code=errno.EIO)
    with suppress(OSError):
        lastgood(folder).keep(TWO, 2000)
    faults.on = False
    assert recalled(folder)[0].data in (ONE.data, TWO.data)
    lastgood(folder).keep(TWO, 3000)
    assert recalled(folder)[0].data == TWO.data


def test_enough_steps_were_made_to_fail() -> None:
    folder = kept(ONE)
    lastgood(folder).keep(TWO, 2000)
    assert len(folder.disk.steps) < 12


@pytest.mark.parametrize("seed", range(100))
def test_after_a_power_loss_at_any_moment_a_document_that_was_kept_answers(seed: int) -> None:
    random = Random(seed)
    disk = MemoryDisk()
    disk.faults = faults = Failing(spared=random.randrange(40), code=errno.EIO)
    shelf = lastgood(MemoryFolder(disk))
    sure = None
    for number in range(6):
        try:
            shelf.keep(Fetched(b"%d" % number), number)
        except OSError:
            break
        sure = number
    faults.on = False
    disk.crash(random)
    found = recalled(MemoryFolder(disk))
    if sure is not None:
        assert found[0].data in (b"%d" % sure, b"%d" % (sure + 1))


def test_what_can_be_read_is_recalled_before_the_failure_is_told() -> None:
    folder = kept(ONE, TWO)

    def broken(step: str, name: str) -> None:
        if step == "read" and name == "definitions.0":
            raise OSError(errno.EIO, "")

    folder.disk.faults = broken
    found = lastgood(folder).recall(MiB)
    assert next(found) == Kept(*ONE[:2], 1000)
    with pytest.raises(OSError):
        next(found)
    assert folder.names() == [*GENERATIONS]


def test_a_confirmation_that_cannot_be_read_leaves_the_one_in_the_document() -> None:
    folder = kept(ONE)
    folder.put("confirmed", b"")

    def broken(step: str, name: str) -> None:
        if step == "read" and name == "confirmed":
            raise OSError(errno.EIO, "")

    folder.disk.faults = broken
    assert confirmed_ms(folder) == [1000]


def test_a_folder_on_a_real_disk_does_the_same(tmp_path: Path) -> None:
    folder = Folder.open(tmp_path / "kept")
    shelf = lastgood(folder)
    shelf.keep(ONE, 1000)
    shelf.keep(TWO, 2000)
    shelf.keep(None, 100_000)
    assert recalled(folder) == [Kept(*TWO[:2], 100_000), Kept(*ONE[:2], 1000)]
    (tmp_path / "kept" / "definitions.0").chmod(0o666)
    assert recalled(folder) == [Kept(*ONE[:2], 1000)]
    assert folder.names() == ["confirmed", "definitions.1", "definitions.bad"]


def test_a_folder_that_is_taken_away_is_made_again(tmp_path: Path) -> None:
    folder = Folder.open(tmp_path / "kept")
    shelf = lastgood(folder)
    shelf.keep(ONE, 1000)
    folder.remove("definitions.1")
    (tmp_path / "kept").rmdir()
    shelf.keep(None, 100_000)
    assert recalled(folder) == []
    shelf.keep(ONE, 200_000)
    assert recalled(folder) == [Kept(*ONE[:2], 200_000)]
