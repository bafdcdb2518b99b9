"""``flagkit kill``, ``ramp``, ``set``, ``revert`` and ``history``: an operator at a definitions file."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pty
import re
import stat
import subprocess
import sys
from hashlib import sha256
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from fakes import WALL_MS, FakeClock

from flagkit.changes import Author, LogbookError, logbook, opened
from flagkit.cli import main
from flagkit.core.dates import parse_date_ms
from flagkit.dialects import edits
from flagkit.server.definitions import DefinitionsFile
from flagkit.server.store import Numbered
from flagkit.server.trips import Trip

ROOT = Path(__file__).parents[2]
FLAGS = """{"schema": 1, "flags": {
  "checkout": {"rules": [{"name": "canary", "rollout": {"percent": 5}, "serve": "on"}]},
  "items": {"variants": {"few": 1, "many": 9}, "off": "few"},
  "old": {"enabled": false}
}}
"""


@pytest.fixture
def flags(tmp_path: Path) -> Path:
    path = tmp_path / "flags.json"
    path.write_text(FLAGS)
    return path


def run(file: Path, *arguments: str, by: str = "ann", reason: str = "because") -> Result:
    return CliRunner().invoke(main, [*arguments, "--file", str(file), "--by", by, "--reason", reason])


def done(file: Path, *arguments: str, **options: str) -> str:
    result = run(file, *arguments, **options)
    assert (result.exit_code, result.stderr) == (0, "")
    return result.stdout


def refused(file: Path, *arguments: str) -> str:
    before = file.read_bytes(), history(file)
    result = run(file, *arguments)
    assert (result.exit_code, result.stdout) == (1, "")
    assert (file.read_bytes(), history(file)) == before
    return result.stderr


def history(file: Path) -> list[dict[str, Any]]:
    log = logbook.history_of(file)
    return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []


def test_a_change_is_one_line_that_says_what_changed_and_how_to_undo_it(flags: Path) -> None:
    printed = done(flags, "ramp", "checkout", "25")
    assert printed == f'1. checkout: rule "canary": 5 % -> 25 %; undo: flagkit revert checkout --file {flags}\n'
    assert flags.read_text() == FLAGS.replace('"percent": 5', '"percent": 25')


def test_the_line_that_says_how_to_undo_it_can_be_typed(tmp_path: Path) -> None:
    spaced = tmp_path / "my flags.json"
    spaced.write_text(FLAGS)
    assert done(spaced, "kill", "items").endswith(f"undo: flagkit revert items --file '{spaced}'\n")


def test_each_change_is_in_the_history_whole(flags: Path) -> None:
    done(flags, "kill", "items", by="bo", reason="it burns")
    done(flags, "set", "items", "many")
    first, second = history(flags)
    assert first.pop("time").endswith("Z")
    assert first == {
        "number": 1,
        "by": "bo",
        "reason": "it burns",
        "command": "kill",
        "flag": "items",
        "summary": "enabled -> disabled",
        "before": '{"variants": {"few": 1, "many": 9}, "off": "few"}',
        "after": '{"enabled": false, "variants": {"few": 1, "many": 9}, "off": "few"}',
        "document_before": sha256(FLAGS.encode()).hexdigest(),
        "document_after": second["document_before"],
    }
    assert second["document_after"] == sha256(flags.read_bytes()).hexdigest()
    assert second["number"] == 2


def test_what_is_so_already_is_no_change(flags: Path) -> None:
    for arguments in (("kill", "old"), ("ramp", "checkout", "5.0")):
        assert done(flags, *arguments).endswith("it is so already, nothing is changed\n")
    assert (flags.read_text(), history(flags)) == (FLAGS, [])


def test_ramp_of_a_disabled_flag_says_that_it_stays_disabled(flags: Path) -> None:
    done(flags, "kill", "checkout")
    assert "-> 6 %; the flag is disabled all the same; undo:" in done(flags, "ramp", "checkout", "6")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("kill", "chekout"), "no flag 'chekout'; did you mean 'checkout'?"),
        (("kill", "nope"), "no flag 'nope'; there are: 'checkout', 'items', 'old'"),
        (("ramp", "items", "5"), "items: no rule has a rollout"),
        (("ramp", "checkout", "101"), "expected a number from 0 to 100, three decimals at most"),
        (("ramp", "checkout", "-5"), "'PERCENT': got '-5'; expected a number from 0 to 100, three decimals at most"),
        (("ramp", "checkout", "-0.5", "--replace-steps"), "'PERCENT': got '-0.5'; expected a number from 0 to 100"),
        (("ramp", "-.5", "checkout"), "'PERCENT': got '-.5'; expected a number from 0 to 100"),
        (("ramp", "checkout", "5", "-x"), "No such option '-x'"),
        (("ramp", "checkout", "5%"), "expected a number from 0 to 100, three decimals at most"),
        (("ramp", "checkout", "nan"), "expected a number from 0 to 100, three decimals at most"),
        (("ramp", "checkout", "1e-9"), "expected a number from 0 to 100, three decimals at most"),
        (("set", "items", "all"), "no variant of items 'all'; there are: 'few', 'many'"),
        (("revert",), "there is no history, so there is nothing to revert"),
    ],
)
def test_what_cannot_be_done_changes_nothing(flags: Path, arguments: tuple[str, ...], message: str) -> None:
    assert message in refused(flags, *arguments)


@pytest.mark.parametrize("missing", ["--reason", "--by"])
def test_nobody_changes_anything_without_a_name_and_a_reason(flags: Path, missing: str) -> None:
    options = {"--by": "ann", "--reason": "because", missing: " "}
    words = [word for option in options.items() for word in option]
    result = CliRunner().invoke(main, ["kill", "items", "--file", str(flags), *words])
    assert result.exit_code == 1
    assert f"{missing}: say " in result.stderr
    assert flags.read_text() == FLAGS


def test_the_name_is_that_of_the_user_unless_it_is_given(flags: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOGNAME", "cy")
    CliRunner().invoke(main, ["kill", "items", "--file", str(flags), "--reason", "x"], catch_exceptions=False)
    assert history(flags)[0]["by"] == "cy"


def test_at_a_terminal_the_reason_is_asked_for(flags: Path) -> None:
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "flagkit", "kill", "items", "--file", str(flags), "--by", "ann"]
    with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, cwd=ROOT) as process:
        os.close(theirs)
        os.write(ours, b"it burns\n")
        with contextlib.suppress(OSError):  # the terminal is gone when the process is
            while os.read(ours, 1000):
                pass
        assert process.wait(30) == 0
    os.close(ours)
    assert history(flags)[0]["reason"] == "it burns"


def test_without_a_terminal_the_reason_has_to_be_given(flags: Path) -> None:
    result = CliRunner().invoke(main, ["kill", "items", "--file", str(flags), "--by", "ann"])
    assert result.exit_code == 1
    assert "--reason: say why" in result.stderr


def test_kill_works_in_a_file_with_mistakes_and_says_that_there_are_some(flags: Path) -> None:
    flags.write_text(FLAGS.replace('"old": {', '"old": {"nonsense": 1, '))
    result = run(flags, "kill", "items")
    assert result.exit_code == 0
    assert json.loads(flags.read_text())["flags"]["items"]["enabled"] is False
    assert "1 problem left from before" in result.stderr


# -- revert ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("arguments", [("kill", "items"), ("ramp", "checkout", "50"), ("set", "old", "on")])
def test_a_revert_gives_back_every_byte_and_is_a_change_itself(flags: Path, arguments: tuple[str, ...]) -> None:
    done(flags, *arguments)
    assert f"2. {arguments[1]}: undoes number 1 (" in done(flags, "revert")
    assert flags.read_text() == FLAGS
    assert [change["command"] for change in history(flags)] == [arguments[0], "revert"]


def test_a_revert_leaves_what_others_did_to_other_flags(flags: Path) -> None:
    done(flags, "kill", "items")
    done(flags, "ramp", "checkout", "50")
    done(flags, "revert", "items")
    assert flags.read_text() == FLAGS.replace('"percent": 5', '"percent": 50')


def test_without_a_flag_the_last_change_of_the_file_is_undone(flags: Path) -> None:
    done(flags, "kill", "items")
    done(flags, "ramp", "checkout", "50")
    assert done(flags, "revert").startswith("3. checkout: undoes number 2")


def test_two_people_who_revert_at_once_do_not_undo_each_other(flags: Path) -> None:
    done(flags, "ramp", "checkout", "50")
    done(flags, "revert", "checkout", by="ann")
    assert "checkout was reverted already, by ann at " in refused(flags, "revert", "checkout")
    assert "checkout was reverted already" in refused(flags, "revert")


def test_a_revert_is_undone_by_what_it_printed(flags: Path) -> None:
    done(flags, "ramp", "checkout", "50")
    printed = done(flags, "revert")
    assert printed.endswith(f"undo: flagkit revert checkout --to 1 --file {flags}\n")
    done(flags, "revert", "checkout", "--to", "1")
    assert '"percent": 50' in flags.read_text()


def test_a_revert_goes_back_to_any_number(flags: Path) -> None:
    for percent in ("10", "20", "30"):
        done(flags, "ramp", "checkout", percent)
    done(flags, "kill", "items")
    assert "as it was after number 2" in done(flags, "revert", "checkout", "--to", "2")
    assert '"percent": 20' in flags.read_text()
    assert "as it was after number 3" in done(flags, "revert", "checkout", "--to", "4")
    done(flags, "revert", "--to", "1")
    assert '"percent": 10' in flags.read_text()
    assert "as it was before number 1" in done(flags, "revert", "checkout", "--to", "0")
    assert '"percent": 5}' in flags.read_text()
    assert "there is no number 9; the last one is 8" in refused(flags, "revert", "checkout", "--to", "9")
    assert "name the flag" in refused(flags, "revert", "--to", "0")
    assert "old: no change in the history" in refused(flags, "revert", "old")


def test_an_edit_by_hand_is_not_lost_unasked(flags: Path) -> None:
    done(flags, "ramp", "checkout", "50")
    by_hand = flags.read_text().replace('"percent": 50', '"percent": 60')
    flags.write_text(by_hand)
    assert "checkout was edited by hand after number 1" in refused(flags, "revert", "checkout")
    printed = done(flags, "revert", "checkout", "--force")
    assert flags.read_text() == FLAGS
    assert "revert checkout --force --file" in printed
    done(flags, "revert", "checkout", "--force")
    assert flags.read_text() == by_hand


def test_edits_by_hand_elsewhere_or_of_the_layout_do_not_stand_in_the_way(flags: Path) -> None:
    done(flags, "kill", "items")
    document = json.loads(flags.read_text())
    document["flags"]["old"]["owner"] = "me"
    flags.write_text(json.dumps(document, indent=4, sort_keys=True))
    done(flags, "revert", "items")
    document["flags"]["items"].pop("enabled")
    assert json.loads(flags.read_text()) == document


def test_a_revert_that_would_be_a_mistake_by_now_is_refused(flags: Path) -> None:
    with_segment = FLAGS.replace('"name"', '"when": [{"segment": "team"}], "name"')
    flags.write_text(with_segment.replace('"schema": 1,', '"schema": 1, "segments": {"team": {"units": ["u"]}},'))
    done(flags, "set", "checkout", "on")
    flags.write_text(flags.read_text().replace('"team": {"units": ["u"]}', ""))
    assert "not changed, it would be a mistake: $.flags.checkout" in refused(flags, "revert", "checkout")


# -- history ---------------------------------------------------------------------------------------------------------


def test_history_shows_who_did_what_when_and_why(flags: Path) -> None:
    done(flags, "ramp", "checkout", "25", by="ann", reason="looks good")
    done(flags, "kill", "items", by="bo", reason="it\nburns")
    lines = CliRunner().invoke(main, ["history", "--file", str(flags)]).output.splitlines()
    assert lines[0].split() == ["when", "who", "flag", "what", "why"]
    assert [re.split(" {2,}", line.strip())[2:] for line in lines[1:]] == [
        ["ann", "checkout", 'rule "canary": 5 % -> 25 %', "looks good"],
        ["bo", "items", "enabled -> disabled", "it\\nburns"],
    ]


def test_history_of_one_flag_and_as_json(flags: Path) -> None:
    done(flags, "ramp", "checkout", "25")
    done(flags, "kill", "items")
    printed = CliRunner().invoke(main, ["history", "items", "--file", str(flags), "--json"]).output
    assert json.loads(printed) == history(flags)[1:]
    assert CliRunner().invoke(main, ["history", "old", "--file", str(flags)]).output == "no changes\n"


def test_history_of_a_flag_that_there_is_not_says_so_and_names_the_nearest(flags: Path) -> None:
    done(flags, "kill", "items")
    for arguments in (("itms",), ("itms", "--json")):
        result = CliRunner().invoke(main, ["history", *arguments, "--file", str(flags)])
        assert (result.exit_code, result.stdout) == (1, "")
        assert result.stderr == "Error: no flag 'itms'; did you mean 'items'?\n"


def test_history_of_a_flag_that_there_was_is_shown_and_its_name_is_near_too(flags: Path) -> None:
    done(flags, "kill", "items")
    flags.write_text('{"schema": 1, "flags": {"old": {}}}')
    assert "enabled -> disabled" in CliRunner().invoke(main, ["history", "items", "--file", str(flags)]).stdout
    result = CliRunner().invoke(main, ["history", "itms", "--file", str(flags)])
    assert (result.exit_code, result.stderr) == (1, "Error: no flag 'itms'; did you mean 'items'?\n")


def test_history_in_a_file_that_is_no_json_cannot_tell_what_is_a_flag(flags: Path) -> None:
    flags.write_text("{")
    result = CliRunner().invoke(main, ["history", "items", "--file", str(flags)])
    assert (result.exit_code, result.stdout) == (0, "no changes\n")


def test_a_history_that_cannot_be_read_whole_may_have_known_the_flag(flags: Path) -> None:
    logbook.history_of(flags).write_text("torn\n")
    result = CliRunner().invoke(main, ["history", "gone", "--file", str(flags)])
    assert (result.exit_code, result.stdout) == (0, "no changes\n")
    assert "1 line of its history cannot be read" in result.stderr


def test_there_is_no_history_of_a_file_that_was_never_changed_or_is_not_there(flags: Path) -> None:
    assert CliRunner().invoke(main, ["history", "--file", str(flags)]).output == "no changes\n"
    assert not logbook.history_of(flags).exists()
    result = CliRunner().invoke(main, ["history", "--file", str(flags) + "x"])
    assert (result.exit_code, result.stdout) == (1, "")


@pytest.mark.parametrize("torn", ['{"number": 2, "ti', '[1]\n{"number": 2}\n', "null\n\n"])
def test_half_a_line_costs_nothing_but_itself(flags: Path, torn: str) -> None:
    done(flags, "ramp", "checkout", "25")
    with open(logbook.history_of(flags), "a") as log:
        log.write(torn)
    done(flags, "revert")
    assert flags.read_text() == FLAGS
    found = CliRunner().invoke(main, ["history", "--file", str(flags), "--json"])
    assert [change["number"] for change in json.loads(found.stdout)] == [1, 2]
    assert "of its history cannot be read" in found.stderr


# -- the file --------------------------------------------------------------------------------------------------------


def test_mode_and_symbolic_links_stay(flags: Path, tmp_path: Path) -> None:
    flags.chmod(0o640)
    (tmp_path / "elsewhere").mkdir()
    link = tmp_path / "elsewhere" / "link.json"
    link.symlink_to(flags)
    done(link, "kill", "items")
    assert link.is_symlink()
    assert [stat.S_IMODE(path.stat().st_mode) for path in (flags, logbook.history_of(flags))] == [0o640, 0o640]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["elsewhere", "flags.json", "flags.json.history.jsonl"]
    assert [path.name for path in link.parent.iterdir()] == ["link.json"]


def test_a_reader_sees_the_old_file_or_the_new_one(flags: Path) -> None:
    with open(flags) as reader:
        done(flags, "kill", "items")
        assert reader.read() == FLAGS


@pytest.mark.parametrize("name", ["nowhere.json", "folder", "latin.json"])
def test_what_is_no_definitions_file_is_one_line(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "latin.json").write_bytes(b'{"\xe4": 1}')
    result = run(tmp_path / name, "kill", "items")
    assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (1, "", 1)


def test_a_change_that_cannot_be_written_is_not_in_the_history(flags: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done(flags, "kill", "items")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    assert "cannot be changed: No space left on device" in refused(flags, "ramp", "checkout", "6")
    assert len(history(flags)) == 1
    assert len(list(flags.parent.iterdir())) == 2


def test_who_holds_the_file_for_long_is_not_waited_for(flags: Path) -> None:
    done(flags, "kill", "items")
    with open(logbook.history_of(flags)) as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(LogbookError, match="somebody else is changing it; try again"):
            opened(str(flags), FakeClock()).__enter__()


def test_the_time_of_a_change_is_the_clock_s(flags: Path) -> None:
    with opened(str(flags), FakeClock()) as book:
        book.enter(edits.kill(book.text, "items"), Author("ann", "because", "kill"))
    assert parse_date_ms(history(flags)[0]["time"]) == WALL_MS // 1000 * 1000


class Numbers:
    """Who numbers contents, in memory."""

    number = 0

    def accepted(self) -> Numbered | None:
        return None

    def accept(self, content: bytes, at_least: int = 1) -> Numbered:
        self.number += 1
        return Numbered("epoch", self.number, content)

    def trips(self) -> list[Trip]:
        return []

    def keep_trip(self, trip: Trip) -> None: ...

    def members(self) -> dict[str, list[str]]:
        return {}


def test_the_service_serves_a_change_at_its_second_look(flags: Path) -> None:
    service = DefinitionsFile(flags, Numbers())
    service.open()
    service.look()
    done(flags, "kill", "checkout")
    service.look()
    service.look()
    assert (service.served.number, service.ok) == (2, True)
    assert service.served.definitions.flags["checkout"].enabled is False


OPERATOR = """
import sys
from decimal import Decimal
from flagkit.changes import Author, opened
from flagkit.dialects import edits
file, flag = sys.argv[1:]
for percent in range(1, 21):
    with opened(file) as book:
        book.enter(edits.ramp(book.text, flag, Decimal(percent)), Author(flag, "because", "ramp"))
"""


@pytest.fixture
def crowd(tmp_path: Path) -> tuple[Path, list[str]]:
    """A file, and as many operators at work on it as it has flags, each on one."""
    path, keys = tmp_path / "flags.json", [f"flag-{n}" for n in range(4)]
    flag = {"rules": [{"rollout": {"percent": 0}, "serve": "on"}]}
    path.write_text(json.dumps({"schema": 1, "flags": dict.fromkeys(keys, flag)}, indent=2))
    command = [sys.executable, "-c", OPERATOR, str(path)]
    operators = [subprocess.Popen([*command, key], cwd=ROOT) for key in keys]
    assert [operator.wait(60) for operator in operators] == [0] * len(keys)
    return path, keys


def test_operators_at_the_same_time_lose_nothing(crowd: tuple[Path, list[str]]) -> None:
    path, keys = crowd
    document = json.loads(path.read_text())
    assert [document["flags"][key]["rules"][0]["rollout"]["percent"] for key in keys] == [20] * len(keys)
    changes = history(path)
    assert [change["number"] for change in changes] == list(range(1, 81))
    digests = [(change["document_before"], change["document_after"]) for change in changes]
    assert all(one[1] == following[0] for one, following in pairwise(digests))
