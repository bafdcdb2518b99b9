"""A suite is as good as what it notices: with each protection switched off, the test that is named for it fails."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults.mutations import MUTATIONS
from tests.faults.stage import ROOT, Stage


@pytest.mark.full
@pytest.mark.parametrize("name", MUTATIONS)
def test_without_the_protection_its_test_fails(stage: Stage, name: str) -> None:
    mutation = MUTATIONS[name]
    copy = stage.directory / "flagkit"
    shutil.copytree(ROOT / "flagkit", copy, ignore=shutil.ignore_patterns("__pycache__"))
    path = copy / mutation.file
    path.write_text(mutation.applied(path.read_text()))
    places = ["-p", "no:cacheprovider", "-o", f"pythonpath={stage.directory}"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *places, f"tests/faults/{mutation.test}"],
        cwd=ROOT,
        env={**os.environ, "FLAGKIT_PACKAGE": str(stage.directory)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 1, done.stdout[-2000:]


def test_every_protection_is_in_the_manual_with_its_test() -> None:
    manual = (ROOT / "docs" / "reliability.md").read_text()
    for name, mutation in MUTATIONS.items():
        test = mutation.test.split("::")[-1].split("[")[0]
        assert f"| {name} | `{test}` |" in manual, name


def test_every_mutation_still_finds_what_it_changes() -> None:
    for name, mutation in MUTATIONS.items():
        assert mutation.applied((ROOT / "flagkit" / mutation.file).read_text()), name
        file, *_, test = mutation.test.split("::")
        assert f"def {test.split('[')[0]}(" in (Path(__file__).parent / file).read_text(), name
