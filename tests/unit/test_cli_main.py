"""The command as a whole: what it prints before a command is chosen, and how it fails."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

import flagkit
from flagkit.cli import main
from flagkit.cli.root import COMMANDS
from flagkit.cli.text import columns, counted, percent, plain

ROOT = Path(__file__).parents[2]


def python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, cwd=ROOT)


@pytest.mark.parametrize("option", ["-h", "--help"])
def test_help_lists_every_command(option: str) -> None:
    result = CliRunner().invoke(main, [option])
    assert result.exit_code == 0
    for name, (_, text) in COMMANDS.items():
        assert f"{name} " in result.output
        assert text in result.output


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_explains_itself(name: str) -> None:
    result = CliRunner().invoke(main, [name, "--help"])
    assert result.exit_code == 0
    assert result.output.startswith(f"Usage: main {name}")


def test_help_imports_no_command() -> None:
    code = """if True:
        import sys
        from flagkit.cli import main
        main(["--help"], standalone_mode=False)
        heavy = {"jsonschema", "requests", "starlette", "uvicorn", "flagkit.cli.validate", "flagkit.cli.lint"}
        print("loaded:", heavy & set(sys.modules))
    """
    result = python(code)
    assert "loaded: set()" in result.stdout, result.stderr


def test_without_click_one_line_names_the_extra() -> None:
    result = python("import sys; sys.modules['click'] = None; from flagkit.cli import main; main()")
    assert result.returncode == 1
    assert result.stdout == ""
    assert result.stderr == "flagkit: the command line needs the extra `cli`: pip install 'flagkit[cli]'\n"


@pytest.mark.parametrize(
    ("module", "command", "extra"),
    [("jsonschema", "['validate', 'x.json']", "cli"), ("uvicorn", "['serve', 'x.json']", "server")],
)
def test_a_missing_extra_is_one_line(module: str, command: str, extra: str, tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text('{"schema": 1, "flags": {}}')
    result = python(
        f"import sys, os; sys.modules[{module!r}] = None; from flagkit.cli import main; "
        f"os.chdir({str(tmp_path)!r}); main({command})"
    )
    assert result.returncode == 1
    assert result.stderr == f"Error: this needs the extra `{extra}`: pip install 'flagkit[{extra}]'\n"


def test_version_is_that_of_the_package() -> None:
    assert CliRunner().invoke(main, ["--version"]).output == f"flagkit {flagkit.__version__}\n"


@pytest.mark.parametrize("arguments", [["nope"], ["eval"], ["diff", "a"], ["validate"], ["eval", "f", "x", "--nope"]])
def test_wrong_usage_exits_1_because_2_is_an_answer(arguments: list[str]) -> None:
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 1
    assert "Usage: main" in result.stderr
    assert "Error: " in result.stderr


def test_one_line_stays_one_line() -> None:
    assert plain("plain – text") == "plain – text"
    assert plain("a\nb\x1b[31m\ud800\t") == "a\\nb\\x1b[31m\\ud800\\t"


def test_columns_line_up() -> None:
    assert columns([("a", "1"), ("bb", "20")], frozenset({1})) == ["a    1", "bb  20"]


def test_numbers_read_well() -> None:
    assert [counted(1, "flag"), counted(0, "flag"), counted(1200, "flag")] == ["1 flag", "0 flags", "1,200 flags"]
    assert [percent(1, 8), percent(0, 5), percent(0, 0)] == ["12.50 %", "0.00 %", "-"]
