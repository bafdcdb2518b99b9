"""Flags changed through the service: who may, what is answered, and what is served and written down by then."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from sites import ADMIN, READ, WRITE, Site

from flagkit.changes import read_history
from flagkit.changes.logbook import history_of
from flagkit.cli import main

FLAGS = """{"schema": 1, "segments": {"team": {"units": ["u-1"]}}, "flags": {
  "checkout": {"rules": [{"name": "canary", "rollout": {"percent": 5}, "serve": "on"}]},
  "items": {"variants": {"few": 1, "many": 9}, "off": "few"},
  "old": {"enabled": false}
}}
"""


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    site = Site(tmp_path, FLAGS)
    site.service.start()
    yield site
    site.service.close()


def served(site: Site) -> Any:
    return site.get("/v1/definitions", READ).json


def noted(site: Site, query: str = "") -> list[dict[str, Any]]:
    changes: list[dict[str, Any]] = site.get(f"/v1/changes{query}", READ).json["changes"]
    return changes


def command_line(site: Site, *arguments: str, by: str = "cli") -> None:
    words = [*arguments, "--file", str(site.path), "--by", by, "--reason", "by file"]
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 0, result.output


def disk(site: Site, state: str) -> None:
    """From now on nothing can be stored, or everything again."""

    def turn(connection: sqlite3.Connection) -> None:
        for table in ("definitions", "changes"):
            if state == "full":
                refuse = "BEGIN SELECT RAISE(ABORT, 'disk full'); END"
                connection.execute(f"CREATE TEMP TRIGGER full_{table} BEFORE INSERT ON {table} {refuse}")
            else:
                connection.execute(f"DROP TRIGGER full_{table}")

    site.service.store.submit(turn).result(10)


def test_an_order_is_in_the_file_and_served_when_it_is_answered(site):
    answer = site.order(kind="ramp", flag="checkout", percent=25)
    assert answer.status == 200
    assert answer.json == {
        "flag": "checkout",
        "changed": True,
        "change": 1,
        "summary": 'rule "canary": 5 % -> 25 %',
        "note": "",
        "undo": ["revert", "checkout"],
        "epoch": served(site)["epoch"],
        "number": 2,
        "warnings": [],
    }
    assert served(site)["number"] == 2
    assert served(site)["flags"]["checkout"]["rules"][0]["rollout"]["percent"] == 25
    assert site.path.read_text() == FLAGS.replace('"percent": 5', '"percent": 25')


@pytest.mark.parametrize(
    ("order", "flag", "then"),
    [
        ({"kind": "kill", "flag": "items"}, "items", {"enabled": False, "variants": {"few": 1, "many": 9}}),
        ({"kind": "ramp", "flag": "checkout", "percent": 12.345, "rule": "canary"}, "checkout", {}),
        ({"kind": "set", "flag": "items", "variant": "many"}, "items", {"variants": {"few": 1, "many": 9}}),
        ({"kind": "set", "flag": "old", "variant": "on"}, "old", {"enabled": True}),
    ],
)
def test_every_kind_of_order_can_be_given_and_taken_back(site, order, flag, then):
    before = served(site)["flags"]
    assert site.order(**order).json["changed"]
    after = served(site)["flags"][flag]
    assert after != before[flag]
    assert then.items() <= after.items()
    undone = site.order(kind="revert", flag=flag).json
    assert undone["undo"] == ["revert", flag, "--to", "1"]
    assert served(site)["flags"] == before
    assert site.path.read_text() == FLAGS


def test_the_command_line_finds_the_order_in_the_file_s_history_and_the_reverse(site):
    site.order(kind="kill", flag="items", by="bo", reason="it burns")
    (change,) = read_history(site.path).changes
    assert (change.number, change.by, change.reason, change.command) == (1, "bo", "it burns", "kill")


def test_what_is_so_already_is_no_change(site):
    answer = site.order(kind="kill", flag="old").json
    assert (answer["changed"], answer["change"], answer["number"]) == (False, None, 1)
    assert not history_of(site.path).read_bytes()
    assert noted(site) == []


# -- who may ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("headers", [READ, WRITE])
def test_a_key_for_something_else_may_not_change_flags(site, headers):
    answer = site.order(kind="kill", flag="items", headers=headers)
    assert answer.status == 403
    assert "admin key" in answer.json["error"]
    assert served(site)["number"] == 1


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer nonsense"}])
def test_a_stranger_may_not_change_flags_and_nothing_is_read(site, headers):
    answer = site.call("POST", "/v1/changes", headers, [b"x", b"x"])
    assert (answer.status, answer.headers["www-authenticate"]) == (401, "Bearer")
    assert site.unread == 2


def test_without_admin_keys_nobody_may_change_flags(tmp_path):
    site = Site(tmp_path, admin_keys=())
    site.service.start()
    try:
        assert site.order(kind="kill", flag="search").status == 401
    finally:
        site.service.close()


def test_an_admin_key_reads_too_and_sends_no_events(site):
    for path in ("/v1/definitions", "/v1/summary", "/v1/changes"):
        assert site.get(path, ADMIN).status == 200
    assert site.post(b"{}", headers=ADMIN).status == 401


@pytest.mark.parametrize(
    ("headers", "may"),
    [(READ, ["read"]), (WRITE, ["write"]), (ADMIN, ["read", "change"]), ({"Authorization": "Bearer no"}, [])],
)
def test_healthz_tells_what_a_key_may(site, headers, may):
    assert site.get("/healthz", headers).json["may"] == may


def test_the_history_needs_a_read_key(site):
    assert site.get("/v1/changes", WRITE).status == 401


def test_no_key_is_logged_or_answered(site, caplog):
    caplog.set_level(0)
    answers = [site.order(kind="kill", flag=flag, headers=key) for flag in ("items", "no") for key in (ADMIN, READ)]
    assert "-key" not in caplog.text + "".join(map(repr, answers))
    assert "changed by 'ann': kill items, enabled -> disabled: 'because'" in caplog.text


# -- what is no order -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({"kind": "nope", "flag": "items"}, "kind: expected one of kill, ramp, set, reset, revert"),
        ({"kind": ["kill"], "flag": "items"}, "kind: expected one of"),
        ({"kind": "kill"}, "kill needs flag: the key of a flag"),
        ({"kind": "kill", "flag": 7}, "flag: got 7; expected the key of a flag"),
        ({"kind": "kill", "flag": " "}, "flag: got ' '; expected"),
        ({"kind": "kill", "flag": "items", "percent": 5}, "kill knows no 'percent'; it takes flag"),
        ({"kind": "ramp", "flag": "checkout"}, "ramp needs percent"),
        ({"kind": "ramp", "flag": "checkout", "percent": "5"}, "percent: got '5'; expected a number from 0 to 100"),
        ({"kind": "ramp", "flag": "checkout", "percent": True}, "percent: got True"),
        ({"kind": "ramp", "flag": "checkout", "percent": 100.1}, "percent: got Decimal('100.1')"),
        ({"kind": "ramp", "flag": "checkout", "percent": 0.0001}, "three decimals at most"),
        ({"kind": "ramp", "flag": "checkout", "percent": 5, "replace_steps": 1}, "replace_steps: got 1"),
        ({"kind": "set", "flag": "items", "variant": ""}, "variant: got ''"),
        ({"kind": "revert", "to": -1}, "to: got -1"),
        ({"kind": "revert", "to": True}, "to: got True"),
        ({"kind": "kill", "flag": "items", "by": ""}, "by: say who makes the change"),
        ({"kind": "kill", "flag": "items", "by": "x" * 129}, "in 1 to 128 characters"),
        ({"kind": "kill", "flag": "items", "reason": None}, "reason: say why, in 1 to 1,000 characters"),
        ({"kind": "kill", "flag": "items", "reason": "\ud800"}, "reason: say why"),
    ],
)
def test_what_is_no_order_is_a_422_that_says_what_would_be(site, document, message):
    answer = site.order(**document)
    assert (answer.status, message in answer.json["error"]) == (422, True), answer.json
    assert site.path.read_text() == FLAGS


@pytest.mark.parametrize(
    "body", [b"", b"{", b"\xff", b'{"percent": NaN}', b'{"kind": "kill", "kind": "set"}', b"[" * 10_000, b"1" * 5000]
)
def test_what_is_not_json_is_a_400(site, body):
    assert site.call("POST", "/v1/changes", ADMIN, [body]).status == 400


def test_json_that_is_no_object_is_a_422(site):
    assert site.call("POST", "/v1/changes", ADMIN, [b"[]"]).status == 422


def test_a_body_over_the_limit_is_a_413(site):
    assert site.order(kind="kill", flag="items", reason="x" * 20_000).status == 413


@pytest.mark.parametrize("request_id", ["x" * 65, "a b", "ä"])
def test_a_request_id_that_is_none_is_a_400(site, request_id):
    answer = site.order(kind="kill", flag="items", headers={**ADMIN, "Idempotency-Key": request_id})
    assert answer.status == 400
    assert served(site)["number"] == 1


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({"kind": "kill", "flag": "itms"}, "no flag 'itms'; did you mean 'items'?"),
        ({"kind": "ramp", "flag": "items", "percent": 5}, "items: no rule has a rollout"),
        ({"kind": "set", "flag": "items", "variant": "all"}, "no variant of items 'all'"),
        ({"kind": "revert"}, "there is no history"),
    ],
)
def test_what_the_definitions_do_not_allow_is_a_409_in_words(site, document, message):
    answer = site.order(**document)
    assert (answer.status, message in answer.json["error"]) == (409, True)
    assert site.path.read_text() == FLAGS


# -- a lost answer ----------------------------------------------------------------------------------------------------


def test_an_order_sent_again_is_answered_again_and_carried_out_once(site):
    headers = {**ADMIN, "Idempotency-Key": "r-1"}
    first = site.order(kind="ramp", flag="checkout", percent=25, headers=headers)
    site.order(kind="ramp", flag="checkout", percent=50)
    again = site.order(kind="ramp", flag="checkout", percent=25, headers=headers)
    assert again.json == {**first.json, "number": 3}
    assert served(site)["flags"]["checkout"]["rules"][0]["rollout"]["percent"] == 50
    assert len(read_history(site.path).changes) == 2


def test_an_order_sent_again_to_a_service_that_was_restarted_is_carried_out_once(site):
    headers = {**ADMIN, "Idempotency-Key": "r-1"}
    first = site.order(kind="kill", flag="items", headers=headers)
    site.service.close()
    site.make()
    site.service.start()
    assert site.order(kind="kill", flag="items", headers=headers).json == first.json


def test_a_revert_sent_again_does_not_undo_itself(site):
    site.order(kind="ramp", flag="checkout", percent=25)
    headers = {**ADMIN, "Idempotency-Key": "r-1"}
    answers = [site.order(kind="revert", headers=headers).json for _ in range(2)]
    assert answers[0] == answers[1]
    assert site.path.read_text() == FLAGS


def test_a_request_id_is_good_for_one_order(site):
    headers = {**ADMIN, "Idempotency-Key": "r-1"}
    site.order(kind="kill", flag="items", headers=headers)
    for document in ({"kind": "kill", "flag": "checkout"}, {"kind": "set", "flag": "items", "variant": "few"}):
        answer = site.order(**document, headers=headers)
        assert (answer.status, "came with another change" in answer.json["error"]) == (422, True)
    assert served(site)["flags"]["checkout"].get("enabled") is None


def test_an_order_that_a_crash_left_in_the_history_alone_is_carried_out_when_it_is_sent_again(site):
    headers = {**ADMIN, "Idempotency-Key": "r-1"}
    site.order(kind="kill", flag="items", headers=headers)
    site.path.write_text(FLAGS)  # as if the file had not been replaced after its history
    answer = site.order(kind="kill", flag="items", headers=headers).json
    assert (answer["changed"], answer["change"]) == (True, 2)
    assert served(site)["flags"]["items"]["enabled"] is False


# -- a file that is bad, gone or full ---------------------------------------------------------------------------------

BAD = FLAGS.replace('"old": {', '"old": {"default": "maybe", ')


def test_kill_works_by_a_file_with_mistakes_and_says_so(site):
    site.edit(BAD)
    answer = site.order(kind="kill", flag="items").json
    assert (answer["change"], answer["number"]) == (1, 2)
    assert "only that flags are off in it: $.flags.old.default" in answer["warnings"][0]
    assert served(site)["flags"]["items"]["enabled"] is False
    assert json.loads(site.path.read_text())["flags"]["items"]["enabled"] is False


@pytest.mark.parametrize(
    "document",
    [{"kind": "ramp", "flag": "checkout", "percent": 50}, {"kind": "set", "flag": "items", "variant": "many"}],
)
def test_a_change_that_nobody_would_get_because_of_mistakes_elsewhere_is_not_made(site, document):
    site.edit(BAD)
    answer = site.order(**document)
    assert answer.status == 409
    assert "nobody would get it: the file has mistakes (1)" in answer.json["error"]
    assert site.path.read_text() == BAD


@pytest.mark.parametrize("ruin", ["not json", "gone", "without the flag", "read only"])
def test_kill_works_whatever_the_file_is_like(site, ruin, monkeypatch):
    if ruin == "gone":
        site.path.unlink()
    elif ruin == "read only":
        monkeypatch.setattr(os, "replace", refuse)
    else:
        site.edit("{" if ruin == "not json" else '{"schema": 1, "flags": {"old": 7}}')
    headers = {**ADMIN, "Idempotency-Key": "r-1"}
    answer = site.order(kind="kill", flag="items", headers=headers).json
    assert (answer["changed"], answer["change"], answer["number"]) == (True, None, 2)
    assert "the file is not changed (" in answer["warnings"][0]
    assert served(site)["flags"]["items"]["enabled"] is False
    (change,) = noted(site)
    assert (change["flag"], change["by"], change["reason"], change["command"]) == ("items", "ann", "because", "kill")
    again = site.order(kind="kill", flag="items", headers=headers)
    assert (again.status, again.json["changed"], again.json["warnings"]) == (200, False, answer["warnings"])


def refuse(*_: object) -> None:
    raise OSError(30, "Read-only file system")


def test_what_is_no_kill_needs_a_file_that_can_be_changed(site, monkeypatch):
    monkeypatch.setattr(os, "replace", refuse)
    answer = site.order(kind="ramp", flag="checkout", percent=50)
    assert (answer.status, answer.json["error"].endswith("cannot be changed: Read-only file system")) == (500, True)
    assert noted(site) == []


def test_kill_works_with_a_full_disk_and_is_numbered_in_memory(site):
    disk(site, "full")
    answer = site.order(kind="kill", flag="items").json
    assert (answer["change"], answer["number"]) == (1, 2)
    assert "the file could not be taken" in answer["warnings"][0]
    assert served(site)["flags"]["items"]["enabled"] is False
    assert served(site)["number"] == 2


def test_an_edit_by_hand_that_switches_a_flag_off_is_served_with_a_full_disk_and_the_rest_of_it_later(site):
    disk(site, "full")
    edited = FLAGS.replace('"items": {', '"items": {"enabled": false, ').replace('"percent": 5', '"percent": 50')
    with pytest.raises(sqlite3.Error):
        site.edit(edited)
    flags = served(site)["flags"]
    assert (flags["items"]["enabled"], flags["checkout"]["rules"][0]["rollout"]["percent"]) == (False, 5)
    disk(site, "free")
    site.service.definitions.look()
    assert served(site)["number"] == 3
    assert served(site)["flags"]["checkout"]["rules"][0]["rollout"]["percent"] == 50


def test_what_was_numbered_in_memory_keeps_its_number_when_it_can_be_stored(site):
    disk(site, "full")
    with pytest.raises(sqlite3.Error):
        site.edit(FLAGS.replace('"off": "few"', '"off": "few", "enabled": false'))
    before = site.service.definitions.served
    disk(site, "free")
    site.service.definitions.look()
    assert site.service.definitions.served is before
    assert site.service.definitions.ok
    assert site.service.store.accepted().number == before.number == 2


# -- the chronicle ----------------------------------------------------------------------------------------------------


def test_changes_are_told_with_who_when_why_before_and_after(site):
    site.order(kind="kill", flag="items", by="bo", reason="it burns")
    (change,) = noted(site)
    time_ms = change.pop("time_ms")
    told = datetime.fromtimestamp(time_ms // 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    assert change.pop("time") == told
    assert change == {
        "number": 2,
        "change": 1,
        "command": "kill",
        "flag": "items",
        "by": "bo",
        "reason": "it burns",
        "summary": "enabled -> disabled",
        "before": '{"variants": {"few": 1, "many": 9}, "off": "few"}',
        "after": '{"enabled": false, "variants": {"few": 1, "many": 9}, "off": "few"}',
    }


def test_changes_of_one_flag_and_since_a_time_can_be_asked_for(site):
    site.order(kind="kill", flag="items")
    site.order(kind="ramp", flag="checkout", percent=50)
    assert [change["flag"] for change in noted(site, "?flag=checkout")] == ["checkout"]
    assert noted(site, "?since=2100-01-01") == []
    assert site.get("/v1/changes?since=soon", READ).status == 400


def test_edits_by_hand_are_written_down_without_a_name(site):
    edited = FLAGS.replace('"percent": 5', '"percent": 6').replace('"old": {"enabled": false}', '"new": {}')
    site.edit(edited.replace('"items": {', '"items": {"enabled": false, ').replace("u-1", "u-2"))
    told = {change["flag"]: (change["summary"], change["by"], change["number"]) for change in noted(site)}
    assert told == {
        "checkout": ("edited", None, 2),
        "items": ("enabled -> disabled", None, 2),
        "new": ("added", None, 2),
        "old": ("removed", None, 2),
        None: ("segments edited", None, 2),
    }
    (removed,) = noted(site, "?flag=old")
    assert (removed["before"], removed["after"]) == ('{"enabled": false}', None)


def test_layout_and_the_version_of_the_document_are_no_change(site):
    document = json.loads(FLAGS)
    site.edit(json.dumps({"version": "7", **document}, indent=4, sort_keys=True))
    assert served(site)["number"] == 2
    assert noted(site) == []


def test_a_change_by_the_command_line_is_written_down_with_who_and_why_when_it_is_noticed(site):
    command_line(site, "kill", "items")
    site.look()
    (change,) = noted(site)
    assert (change["change"], change["number"], change["by"], change["reason"]) == (1, 2, "cli", "by file")


def test_changes_that_cancel_each_other_before_they_are_noticed_are_both_written_down(site):
    command_line(site, "kill", "items")
    command_line(site, "revert", "items")
    site.look()
    site.order(kind="ramp", flag="checkout", percent=50)
    assert [change["command"] for change in noted(site)] == ["kill", "revert", "ramp"]


def test_an_edit_by_hand_that_repeats_an_order_which_was_reverted_unseen_is_by_hand(site):
    command_line(site, "kill", "items")
    killed = site.path.read_text()
    command_line(site, "revert", "items")
    site.order(kind="ramp", flag="checkout", percent=50)
    site.edit(killed)
    assert [(each["command"], each["flag"]) for each in noted(site)][3:] == [("edit", "checkout"), ("edit", "items")]


def test_a_history_that_is_ahead_of_the_file_as_it_was_read_explains_both(site):
    command_line(site, "ramp", "checkout", "10")
    first = site.path.read_text()
    command_line(site, "ramp", "checkout", "20")
    second = site.path.read_text()
    for number, text in ((2, first), (3, second)):
        site.edit(text)
        assert served(site)["number"] == number
    assert [change["command"] for change in noted(site)] == ["ramp", "ramp"]


def test_an_edit_by_hand_on_top_of_an_order_is_a_change_of_its_own(site):
    command_line(site, "ramp", "checkout", "10")
    site.edit(site.path.read_text().replace('"percent": 10', '"percent": 90'))
    first, second = noted(site)
    assert (first["by"], first["after"]) == ("cli", second["before"])
    assert (second["by"], json.loads(second["after"])["rules"][0]["rollout"]["percent"]) == (None, 90)


def test_a_kill_in_a_file_with_mistakes_is_one_change(site):
    site.edit(BAD)
    command_line(site, "kill", "items")
    site.look()
    assert [(change["by"], change["flag"]) for change in noted(site)] == [("cli", "items")]


def test_what_happened_while_the_service_was_down_is_written_down_once_at_its_start(tmp_path):
    site = Site(tmp_path, FLAGS)
    command_line(site, "ramp", "checkout", "10")
    for _ in range(2):
        site.service.start()
        assert [change["number"] for change in noted(site)] == [None]
        site.service.close()
        site.make()
    command_line(site, "kill", "items")
    site.path.write_text(site.path.read_text().replace('"percent": 10', '"percent": 11'))
    site.service.start()
    told = [(each["flag"], each["by"]) for each in noted(site)]
    assert told == [("checkout", "cli"), ("items", "cli"), ("checkout", None)]
    site.service.close()


def test_half_a_line_of_history_is_read_when_it_is_whole(site):
    command_line(site, "kill", "items")
    log = history_of(site.path)
    line = log.read_bytes()
    log.write_bytes(line[:50])
    site.service.chronicle.catch_up(1)
    assert noted(site) == []
    log.write_bytes(line)
    site.look()
    assert [change["by"] for change in noted(site)] == ["cli"]


def test_a_history_that_is_replaced_by_a_shorter_one_is_read_from_its_start(site):
    site.order(kind="kill", flag="items", reason="x" * 500)
    history_of(site.path).unlink()
    command_line(site, "kill", "checkout")
    site.look()
    assert [change["flag"] for change in noted(site)] == ["items", "checkout"]


def test_names_that_no_database_takes_are_written_down_all_the_same(site):
    command_line(site, "kill", "items", by="caf\udce9")
    site.look()
    assert [change["by"] for change in noted(site)] == ["caf?"]


def test_what_cannot_be_written_down_now_is_written_down_with_the_next_change(site, caplog):
    disk(site, "full")
    site.order(kind="kill", flag="items")
    assert noted(site) == []
    assert "1 changes are not written down yet" in caplog.text
    disk(site, "free")
    site.order(kind="ramp", flag="checkout", percent=50)
    assert [change["command"] for change in noted(site)] == ["kill", "ramp"]


def test_the_summary_shows_the_changes_of_its_window(site):
    site.order(kind="kill", flag="items", by="bo", reason="it burns")
    (change,) = site.get("/v1/summary", READ).json["changes"]
    assert (change["flag"], change["by"], change["summary"]) == ("items", "bo", "enabled -> disabled")
    assert "before" not in change
    assert site.get("/v1/summary?since=2100-01-01", READ).json["changes"] == []
    assert site.get("/v1/summary?flag=checkout", READ).json["changes"] == []
