"""The definitions file as it is edited under a running service."""

from __future__ import annotations

import gzip
import json
import logging
import os
import sqlite3
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from flagkit.dialects import native
from flagkit.dialects.native_envelope import one_flag_a_line
from flagkit.errors import DefinitionsError
from flagkit.server.definitions import DefinitionsFile
from flagkit.server.store import Numbered, Store

GOOD = {"schema": 1, "environment": "production", "flags": {"a": {}, "b": {"default": "on"}}}


class Desk:
    """A file that is edited, and the service's view of it."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "flags.json"
        self.store = Store(directory / "flagkit.db", lambda: 0)
        self.store.open()
        self.definitions = DefinitionsFile(self.path, self.store)
        self._edits = 0

    def write(self, content: Any) -> None:
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.path.write_bytes(data)
        self._edits += 1
        os.utime(self.path, ns=(self._edits, self._edits))  # never the same twice, however fast the test is

    def edit(self, content: Any) -> None:
        self.write(content)
        self.look()

    def look(self) -> None:
        self.definitions.look()
        self.definitions.look()

    def restart(self) -> None:
        self.store.close()
        self.store.open()
        self.definitions = DefinitionsFile(self.path, self.store)
        self.definitions.open()

    @property
    def served(self) -> Any:
        return json.loads(self.definitions.served.body)


@pytest.fixture
def empty(tmp_path: Path) -> Iterator[Desk]:
    desk = Desk(tmp_path)
    yield desk
    desk.store.close()


@pytest.fixture
def desk(empty: Desk) -> Desk:
    empty.write(GOOD)
    empty.definitions.open()
    return empty


def test_the_file_is_served_with_its_number_epoch_and_count(desk):
    served = desk.served
    epoch = served.pop("epoch")
    assert len(epoch) == 16
    assert served == {**GOOD, "number": 1, "flag_count": 2}
    assert native.parse(desk.definitions.served.body).problems == ()


def test_what_is_compressed_is_what_is_served_and_the_etag_follows_the_bytes(desk):
    first = desk.definitions.served
    assert gzip.decompress(first.compressed) == first.body
    desk.edit({**GOOD, "version": "2"})
    assert desk.definitions.served.etag != first.etag
    assert first.etag.startswith('"')


def test_every_flag_and_segment_stands_on_a_line_of_its_own_in_the_order_of_the_file(desk):
    segments = {"team": {"units": ["u-1", "u-2"]}, "pilot": {"units": ["u-3"]}}
    flags = {"z": {"variants": {"text": "one\ntwo", "none": None}, "off": "none"}, "a": {"default": "on"}, "m": {}}
    desk.edit({"schema": 1, "segments": segments, "flags": flags})
    lines = desk.definitions.served.body.decode().splitlines()
    wanted = [
        '"team":{"units":["u-1","u-2"]},',
        '"pilot":{"units":["u-3"]}',
        '"z":{"variants":{"text":"one\\ntwo","none":null},"off":"none"},',
        '"a":{"default":"on"},',
        '"m":{}',
    ]
    assert [line for line in lines if line in wanted] == wanted


def test_a_flag_that_did_not_change_keeps_its_line_so_that_clients_reuse_it(desk):
    before = native.parse(desk.definitions.served.body).definitions
    desk.edit({**GOOD, "version": "2", "flags": {"a": {}, "b": {"default": "off"}}})
    after = native.parse(desk.definitions.served.body, before).definitions
    assert after.flags["a"] is before.flags["a"]
    assert after.flags["b"] is not before.flags["b"]


def test_an_edit_is_served_with_the_next_number(desk):
    desk.edit({**GOOD, "flags": {"c": {}, **GOOD["flags"]}})
    assert desk.served["number"] == 2
    assert desk.served["flag_count"] == 3


def test_white_space_and_a_touched_file_change_no_number(desk):
    desk.edit(json.dumps(GOOD, indent=4).encode())
    desk.edit(json.dumps(GOOD, indent=4).encode())
    assert desk.served["number"] == 1


def test_a_revert_is_a_new_number(desk):
    desk.edit({**GOOD, "version": "2"})
    desk.edit(GOOD)
    assert desk.served["number"] == 3


def test_an_envelope_in_the_file_is_replaced_by_ours(desk):
    desk.edit({**GOOD, "version": "2", "epoch": "theirs", "number": 900, "flag_count": 2})
    assert desk.served["number"] == 2
    assert desk.served["epoch"] != "theirs"


def test_half_an_edit_is_not_read(desk, caplog):
    whole = json.dumps({**GOOD, "version": "2"}).encode()
    desk.write(whole[:20])
    desk.definitions.look()
    desk.write(whole)
    desk.definitions.look()
    assert desk.definitions.ok
    assert desk.served["number"] == 1
    desk.definitions.look()
    assert desk.served["number"] == 2
    assert not caplog.records


def test_a_bad_edit_is_refused_whole_and_every_problem_has_its_line(desk, caplog):
    body = desk.definitions.served.body
    flags = {"a": {"default": "on"}, "b": {"default": "maybe"}, "c": {"rules": 7}}
    desk.edit({**GOOD, "flags": flags})
    assert desk.definitions.served.body == body
    assert not desk.definitions.ok
    (record,) = caplog.records
    message = record.getMessage().splitlines()
    assert record.levelno == logging.ERROR
    assert "number 1 stays served" in message[0]
    assert [line.split(":")[0].strip() for line in message[1:]] == ["$.flags.b.default", "$.flags.c.rules"]


@pytest.mark.parametrize(
    "data", [b"", b"{", b"[]", b"null", b"\xff\xfe", b'{"schema": 1}', b'{"schema": 2, "flags": {}}']
)
def test_what_is_no_definitions_document_is_refused_whole(desk, caplog, data):
    body = desk.definitions.served.body
    desk.edit(data)
    assert desk.definitions.served.body == body
    assert not desk.definitions.ok
    assert desk.definitions.problems
    assert len(caplog.records) == 1


def test_a_refusal_is_said_once_and_ends_with_a_good_edit(desk, caplog):
    desk.edit(b"{")
    desk.look()
    desk.edit(b"{")
    assert len(caplog.records) == 1
    desk.edit(GOOD)
    assert desk.definitions.ok
    assert desk.definitions.problems == ()
    assert desk.served["number"] == 1


def test_a_missing_file_is_a_problem_and_the_last_good_one_stays(desk):
    desk.path.unlink()
    desk.look()
    assert not desk.definitions.ok
    assert "cannot be read" in str(desk.definitions.problems[0])
    assert desk.served["number"] == 1
    desk.edit(GOOD)
    assert desk.definitions.ok


def test_a_refused_edit_still_switches_off_what_it_says_is_off(desk, caplog):
    flags = {"a": {"default": "on"}, "b": {"default": "maybe", "enabled": False}, "c": {"enabled": False}}
    desk.edit({**GOOD, "flags": flags})
    assert not desk.definitions.ok
    assert desk.served["number"] == 2
    assert desk.served["flags"] == {"a": {}, "b": {"default": "on", "enabled": False}}
    assert caplog.records[-1].getMessage().endswith("has switched off: b")


def test_what_an_unusable_document_says_cannot_switch_anything(desk):
    for data in (
        b'{"schema": 1, "flags": [1]}',
        b'{"flags": {"a": {"enabled": false}',
        b'{"flags": {"a": 7, "b": []}}',
        b"7",
    ):
        desk.edit(data)
        assert desk.served["number"] == 1


def test_remarks_that_cost_no_flag_are_kept_and_the_edit_is_served(desk, caplog):
    desk.edit({**GOOD, "colour": "blue"})
    assert desk.definitions.ok
    assert "colour" in str(desk.definitions.problems[0])
    assert desk.served["number"] == 2
    assert caplog.records[-1].levelno == logging.WARNING


def test_a_restart_with_the_same_content_keeps_number_and_epoch(desk):
    desk.edit({**GOOD, "version": "2"})
    body = desk.definitions.served.body
    desk.restart()
    assert desk.definitions.served.body == body


def test_a_restart_with_another_content_goes_on_counting(desk):
    epoch = desk.served["epoch"]
    desk.write({**GOOD, "version": "2"})
    desk.restart()
    assert (desk.served["epoch"], desk.served["number"]) == (epoch, 2)


@pytest.mark.parametrize("ruin", ["bad", "gone"])
def test_a_restart_on_a_bad_file_serves_what_was_accepted_last(desk, ruin):
    body = desk.definitions.served.body
    desk.write(b"{") if ruin == "bad" else desk.path.unlink()
    desk.restart()
    assert desk.definitions.served.body == body
    assert not desk.definitions.ok


@pytest.mark.parametrize("data", [b"{", json.dumps({**GOOD, "flags": {"a": {"default": "maybe"}}}).encode()])
def test_a_first_start_on_a_bad_file_says_what_is_wrong(empty, data):
    empty.write(data)
    with pytest.raises(DefinitionsError) as error:
        empty.definitions.open()
    assert error.value.problems


def test_a_first_start_without_a_file_says_so(empty):
    with pytest.raises(DefinitionsError, match="cannot be read: No such file"):
        empty.definitions.open()


def test_kept_definitions_that_cannot_be_read_any_more_give_way_to_the_file(desk, caplog):
    desk.store.accept(b'{"schema": 99, "flags": {}}')
    desk.restart()
    assert desk.definitions.ok
    assert desk.served["number"] == 3
    assert "kept from the last run" in caplog.records[0].getMessage()


class Looks:
    """A clock on which ``watch`` looks once before each of ``steps``, and then stops."""

    def __init__(self, *steps: Callable[[], None]) -> None:
        self._steps = list(steps)

    def monotonic_s(self) -> float:
        return 0.0

    def wall_ms(self) -> int:
        return 0

    def wait(self, event: threading.Event, timeout_s: float) -> bool:
        if self._steps:
            self._steps.pop(0)()
            return False
        return True


def test_watching_goes_on_after_a_failure_and_the_edit_is_taken_when_it_is_over(desk, caplog):
    accept = desk.store.accept
    failing = True

    def accept_unless_failing(content: bytes, at_least: int) -> Numbered:
        if failing:
            raise sqlite3.OperationalError("disk full")
        return accept(content, at_least)

    def recover() -> None:
        nonlocal failing
        failing = False
        assert not desk.definitions.ok
        assert "disk full" in str(desk.definitions.problems[0])

    desk.store.accept = accept_unless_failing
    edit = partial(desk.write, {**GOOD, "version": "2"})
    desk.definitions.watch(threading.Event(), Looks(edit, lambda: None, lambda: None, recover))
    assert desk.definitions.ok
    assert desk.served["number"] == 2
    assert len(caplog.records) == 1


def test_numbers_and_text_survive_being_written_again():
    rules = [{"rollout": {"percent": 0.001}, "serve": "on"}]
    document = {"schema": 1, "flags": {"f": {"rules": rules, "owner": "å😀"}}, "large": 2**63 + 1}
    assert json.loads(one_flag_a_line(document)) == document
    assert one_flag_a_line(document).isascii()
