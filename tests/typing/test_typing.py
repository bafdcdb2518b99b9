"""Type checkers take what applications write (uses.py) and refuse what would go wrong."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parent.parent


def run(directory: Path, *command: str) -> str:
    """What a checker says; nothing but a clean bill ends well."""
    done = subprocess.run(command, cwd=directory, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_mypy_agrees_with_every_expectation(tmp_path: Path) -> None:
    pytest.importorskip("mypy")
    settings = tmp_path / "mypy.ini"
    settings.write_text(f"[mypy]\nstrict = True\nwarn_unused_ignores = True\nmypy_path = {ROOT}\n")
    said = run(tmp_path, sys.executable, "-m", "mypy", "--config-file", str(settings), str(HERE / "uses.py"))
    assert "no issues found" in said


def test_pyright_agrees_with_every_expectation(tmp_path: Path) -> None:
    program = shutil.which("pyright", path=str(Path(sys.executable).parent)) or shutil.which("pyright")
    if program is None or subprocess.run([program, "--version"], capture_output=True, timeout=300).returncode:
        pytest.skip("pyright is not installed here")
    settings = {
        "include": ["uses.py"],
        "extraPaths": [str(ROOT)],
        "typeCheckingMode": "strict",
        "enableTypeIgnoreComments": True,
        "reportUnnecessaryTypeIgnoreComment": "error",
        "reportUnusedExpression": False,
        "venvPath": str(Path(sys.prefix).parent),
        "venv": Path(sys.prefix).name,
    }
    (tmp_path / "pyrightconfig.json").write_text(json.dumps(settings))
    shutil.copy(HERE / "uses.py", tmp_path)  # paths to include are relative to the settings
    summary = json.loads(run(tmp_path, program, "--project", str(tmp_path), "--outputjson"))["summary"]
    assert (summary["filesAnalyzed"], summary["errorCount"], summary["warningCount"]) == (1, 0, 0)
