"""``flagkit demo`` as a user runs it: a process that starts others, reports, and leaves nothing behind."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import uuid
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
#: In the environment of the demo and of whatever it starts.
MARK = "FLAGKIT_TEST_MARK"


class Demo:
    """A demo whose temporary files go to ``directory``."""

    def __init__(self, directory: Path, *arguments: str) -> None:
        self.mark = uuid.uuid4().hex
        self.directory = directory
        self.process = subprocess.Popen(
            [sys.executable, "-m", "flagkit", "demo", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=ROOT,
            env={**os.environ, "TMPDIR": str(directory), MARK: self.mark},
            # Shells start what runs in the background deaf to Ctrl-C, these tests perhaps, and children inherit that.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )

    def read_until(self, beginning: str) -> str:
        assert self.process.stdout is not None
        read = []
        for line in self.process.stdout:
            read.append(line)
            if line.strip().startswith(beginning):
                break
        return "".join(read)

    def end(self) -> tuple[int, str]:
        output, _ = self.process.communicate(timeout=60)
        return self.process.returncode, output

    def left_behind(self) -> list[str]:
        """Files of the demo, and processes of its environment."""
        mark = f"{MARK}={self.mark}".encode()
        processes = [path.parent.name for path in Path("/proc").glob("[0-9]*/environ") if mark in contents(path)]
        return [*processes, *map(str, self.directory.iterdir())]


def contents(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:  # another user's, or gone
        return b""


def section(output: str, title: str) -> list[str]:
    return output.split(f"\n{title}\n\n")[1].split("\n\n")[0].splitlines()


@pytest.mark.full  # the default run of .ci/run plays it from the wheel
def test_the_whole_loop_holds(tmp_path):
    demo = Demo(tmp_path, "--users", "2000", "--outage", "2")
    status, output = demo.end()
    assert status == 0, output
    assert demo.left_behind() == []
    assert re.search(r"\nAll \d+ checks hold\. \d+ s\.\n$", output)
    checks = section(output, "Checks")
    assert all(line.startswith("  holds  ") for line in checks)
    for said in (
        r"0 exceptions in the application, 0 errors in its clients\.",
        r"0 of 104 who were in at 5 % fell out at 25 %\.",
        r"kill switch: \d\.\d\d s until the last worker served it; 1\.50 s are allowed\.",
        r"0 of [1-9][\d,]+ answers after that gave the candidate\.",
        r"[1-9][\d,]+ users came first then; their exposures are stored once each: .*",
        r"([1-9][\d,]+) recorded = \1 delivered \+ 0 lost \+ 0 pending\.",
    ):
        assert any(re.fullmatch(f"  holds  {said}", line) for line in checks), said
    shares = section(output, "Units and exposures stored")
    assert any(re.match(r"  new-checkout   25 % +classic +1,503 +1,503 +75\.00 %", line) for line in shares)
    stages = [line.split("  ")[1] for line in output.splitlines()[2:8]]
    assert stages == ["start", "5 %", "25 %", "outage", "kill switch", "account"]


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="finds processes by their environment")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_it_leaves_nothing_behind(tmp_path, number):
    demo = Demo(tmp_path, "--users", "50000")
    assert "2 worker processes" in demo.read_until("start")
    assert len(demo.left_behind()) == 5
    demo.process.send_signal(number)
    status, _ = demo.end()
    assert status == (1 if number == signal.SIGINT else 128 + number)
    assert demo.left_behind() == []


def test_kept_files_need_a_directory_of_their_own(tmp_path):
    (tmp_path / "mine").write_text("precious")
    demo = Demo(tmp_path, "--keep", str(tmp_path))
    assert demo.end() == (1, f"Error: --keep {tmp_path}: is not empty\n")
    assert demo.left_behind() == [str(tmp_path / "mine")]
