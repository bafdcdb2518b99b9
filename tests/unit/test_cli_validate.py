"""``flagkit validate``: one clear line a mistake, whatever is in the file."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from flagkit.cli import main

GOOD = '{"schema": 1, "segments": {"team": {"units": ["u"]}}, "flags": {"x": {}, "y": {}}}'
BAD = """{
  "schema": 1,
  "flagz": {},
  "flags": {
    "a": {"rules": [{"serve": "onn"}]},
    "b": {"ruels": [], "enabled": "yes"},
    "c": {"rules": [{"when": [{"attribute": "x", "op": "in"}], "rollout": {"percent": 101}, "serve": "on"}]},
    "d": {"variants": {"one": 1}},
    "e": {}, "f": {}, "g": {}, "h": {}
  }
}
"""
GOLDEN = """\
flags.json: $.flags.a.rules[0].serve: got "onn"; expected one of "off", "on"
flags.json: $.flags.b.ruels: unknown field; did you mean "rules"?
flags.json: $.flags.b.enabled: got "yes"; expected true or false
flags.json: $.flags.c.rules[0].when[0].values: got []; expected at least one value
flags.json: $.flags.c.rules[0].rollout.percent: got 101; expected a percentage from 0 to 100
flags.json: $.flags.d.off: missing; expected one of "one"
flags.json: $.flagz: unknown field; did you mean "flags"?
"""


@pytest.fixture(autouse=True)
def _inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def validate(*arguments: str) -> Result:
    result = CliRunner().invoke(main, ["validate", *arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return result


def test_a_valid_file_is_one_line_and_status_0() -> None:
    Path("flags.json").write_text(GOOD)
    result = validate("flags.json")
    assert (result.exit_code, result.output) == (0, "flags.json: valid, 2 flags, 1 segment\n")


def test_every_mistake_is_one_line_with_path_value_and_remedy() -> None:
    Path("flags.json").write_text(BAD)
    result = validate("flags.json")
    assert result.exit_code == 1
    assert result.output == GOLDEN


def test_a_syntax_error_has_its_line_and_column() -> None:
    Path("flags.json").write_text('{\n  "schema": 1,\n  "flags": {"x": {]}\n}\n')
    result = validate("flags.json")
    assert result.exit_code == 1
    assert result.output.startswith("flags.json: $: not JSON: ")
    assert result.output.endswith("at line 3, column 19\n")


def test_several_files_are_all_checked() -> None:
    Path("good.json").write_text(GOOD)
    Path("bad.json").write_text('{"schema": 2, "flags": {}}')
    result = validate("bad.json", "missing.json", "good.json")
    assert result.exit_code == 1
    assert result.output.splitlines() == [
        "bad.json: $.schema: got 2; expected 1, the version of this format",
        "missing.json: $: cannot be read: No such file or directory",
        "good.json: valid, 2 flags, 1 segment",
    ]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x00\xff\xfe\x89PNG\r\n",
        os.urandom(4096),
        b"[" * 100_000,
        b'{"schema": 1, "flags": ' + b'{"x":' * 50_000 + b"}" * 50_001,
        b'{"schema": 1, "flags": {"x": {"variants": {"on": ' + b"[" * 40 + b"]" * 40 + b'}, "off": "on"}}}',
        b'{"schema": 1, "flags": {"x": {"rules": ' + b'[{"when":' * 400 + b"[]" + b"}]" * 400 + b"}}}",
        b"null",
        b'"text"',
        b"1" * 10_000,
        b'{"schema": NaN, "flags": {}}',
        b'{"schema": 1, "flags": {}, "flags": {}}',
        b'{"schema": 1, "flags": {"x": {}, "x": {}}}',
        b'{"schema": 1, "flags": {"\\ud800": {}, "a\\nb": {}}}',
        b'{"schema": 1, "flags": {"x": {"max_age_s": 1e999}}}',
        b'{"schema": 1, "flags": {"x": {"max_age_s": ' + b"9" * 5000 + b"}}}",
    ],
    ids=lambda data: repr(data[:24]),
)
def test_junk_is_a_line_and_never_a_traceback(data: bytes) -> None:
    Path("junk").write_bytes(data)
    result = validate("junk")
    assert result.exit_code == 1
    assert result.output.startswith("junk: $")
    assert all(line.startswith("junk: $") for line in result.output.splitlines())


def test_a_directory_is_a_line() -> None:
    Path("flags").mkdir()
    assert validate("flags").output == "flags: $: cannot be read: Is a directory\n"


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_file_that_may_not_be_read_is_a_line() -> None:
    Path("flags.json").write_text(GOOD)
    Path("flags.json").chmod(0)
    assert validate("flags.json").output == "flags.json: $: cannot be read: Permission denied\n"


def test_what_the_schema_finds_is_added_once() -> None:
    Path("flags.json").write_text('{"schema": 1, "flags": {"x": {"guard": {"alpha": 7, "aplha": 1}}}}')
    lines = [line for line in validate("flags.json").output.splitlines() if ".guard." in line]
    assert len([line for line in lines if "$.flags.x.guard.alpha: got 7; expected " in line]) == 1
    assert len([line for line in lines if "$.flags.x.guard.aplha: unknown field" in line]) == 1


def test_json_has_the_line_of_every_problem() -> None:
    Path("flags.json").write_text(BAD)
    Path("good.json").write_text(GOOD)
    result = validate("--json", "flags.json", "good.json")
    assert result.exit_code == 1
    bad, good = json.loads(result.output)
    assert good == {"file": "good.json", "valid": True, "flags": 2, "problems": []}
    assert (bad["file"], bad["valid"]) == ("flags.json", False)
    lines: dict[str, Any] = {problem["path"]: problem["line"] for problem in bad["problems"]}
    assert lines["$.flags.a.rules[0].serve"] == 5
    assert lines["$.flags.c.rules[0].rollout.percent"] == 7
    assert lines["$.flags.d.off"] == 8, "a missing field is where its flag is"
