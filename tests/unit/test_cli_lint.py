"""``flagkit lint``: what has gone stale between definitions and code."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from flagkit.cli import main
from flagkit.cli.places import lines_of


@pytest.fixture(autouse=True)
def _inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def lint(*arguments: str) -> Result:
    result = CliRunner().invoke(main, ["lint", *arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return result


FLAGS = """{
  "schema": 1,
  "flags": {
    "new-search": {"expires": "2026-10-31", "rules": [{"rollout": {"percent": 5}, "serve": "on"}]},
    "old-banner": {"rules": [{"serve": "on"}]},
    "new-checkout": {
      "prerequisites": [{"flag": "payments-v2", "variants": ["on"]}],
      "rules": [
        {"name": "not big", "when": [{"attribute": "plan", "op": "in", "values": ["big"]}], "serve": "off"},
        {"name": "ramp", "rollout": {"percent": 50}, "serve": "on"}
      ]
    },
    "payments-v2": {"rules": [{"rollout": {"percent": 50}, "serve": "on"}]}
  }
}
"""
SOURCE = """\
import flagkit

LIMIT = flagkit.Flag("limit", default=10, expires="2026-01-01")

if client.enabled("new-serach"):
    client.enabled("new-search"), client.enabled("new-checkout"), client.enabled("planned")  # flagkit: ignore
client.enabled(f"new-{name}")
"""
GOLDEN = """\
flags.json:4: new-search expired on 2026-10-31 [expired]
flags.json:5: old-banner serves "on" to everyone; keep that path in the code and drop the flag [one-way]
flags.json:5: old-banner is not in the code [unused]
flags.json:9: rule "not big" of new-checkout serves "off" above rule "ramp", which decides where its conditions \
are unknown; use `exclude` [off-above-wider]
src/app.py:3: limit expired on 2026-01-01 [expired]
src/app.py:3: limit is not defined [undefined]
src/app.py:5: new-serach is not defined [undefined]
"""


def project() -> None:
    Path("flags.json").write_text(FLAGS)
    Path("src").mkdir()
    Path("src/app.py").write_text(SOURCE)


def test_findings_are_one_line_each_with_path_line_and_code() -> None:
    project()
    result = lint("flags.json", "src", "--today", "2026-11-23")
    assert result.exit_code == 1
    assert result.stdout == GOLDEN
    assert result.stderr == "not checked: 1 call with a flag named at run time (src/app.py:7)\n"


def test_json_has_the_same_findings() -> None:
    project()
    result = lint("flags.json", "src", "--today", "2026-11-23", "--json")
    assert result.exit_code == 1
    lines = [
        f"{each['place']}:{each['line']}: {each['message']} [{each['code']}]" for each in json.loads(result.stdout)
    ]
    assert lines == GOLDEN.splitlines()
    assert [each["flag"] for each in json.loads(result.stdout)][-1] == "new-serach"


def test_without_sources_only_the_definitions_are_looked_at() -> None:
    project()
    result = lint("flags.json", "--today", "2026-11-23")
    assert {line.rsplit("[")[1] for line in result.stdout.splitlines()} == {"expired]", "one-way]", "off-above-wider]"}


def test_nothing_found_is_status_0() -> None:
    Path("flags.json").write_text(
        '{"schema": 1, "flags": {"x": {"rules": [{"rollout": {"percent": 5}, "serve": "on"}]}}}'
    )
    Path("app.py").write_text("client.enabled('x')\n")
    result = lint("flags.json", "app.py")
    assert (result.exit_code, result.output) == (0, "flags.json: 1 flag, nothing found\n")
    assert json.loads(lint("flags.json", "app.py", "--json").output) == []


def test_a_mention_anywhere_keeps_a_flag_from_being_called_unused() -> None:
    Path("flags.json").write_text(
        '{"schema": 1, "flags": {"x": {"rules": [{"rollout": {"percent": 5}, "serve": "on"}]}}}'
    )
    Path("app.py").write_text("for flag in ('x', 'y'):\n    client.enabled(flag)\n")
    assert lint("flags.json", "app.py").exit_code == 0


def test_a_refused_flag_is_a_finding_and_counts_as_defined() -> None:
    Path("flags.json").write_text('{"schema": 1, "flags": {"x": {"enabled": 1}}}')
    Path("app.py").write_text("client.enabled('x')\n")
    result = lint("flags.json", "app.py")
    assert result.exit_code == 1
    assert result.stdout == "flags.json:1: x cannot be used; see flagkit validate [refused]\n"


@pytest.mark.parametrize("arguments", [("missing.json",), ("flags.json", "missing"), ("flags.json", "--today", "x")])
def test_bad_input_is_an_error_without_traceback(arguments: tuple[str, ...]) -> None:
    Path("flags.json").write_text(FLAGS)
    result = lint(*arguments)
    assert (result.exit_code, result.stdout) == (1, "")
    assert "Error: " in result.stderr


def test_lines_are_those_of_the_path_or_of_what_is_around_it() -> None:
    text = b'{\n "a": {\n  "b": [1,\n   {"c": "}]\\"\\n"},\n   [true,\n    null]],\n  "d\\u0041": {}},\n "e.f": 1}'
    paths = {"$.a": 2, "$.a.b": 3, "$.a.b[0]": 3, "$.a.b[1].c": 4, "$.a.b[2][1]": 6, "$.a.dA": 7, "$.e.f": 8}
    assert lines_of(text, paths) == paths
    assert lines_of(text, {"$.a.b[1].missing[3]"}) == {"$.a.b[1].missing[3]": 4}
    assert lines_of(text, {"$", "$.missing"}) == {}
    assert lines_of(b"", {"$.a"}) == {}
