"""The manual as a test: the code blocks of a Markdown page run in order, and print what the page says they print.

What a block is for stands behind its three backticks:

    json                a definitions document, free of problems
    json flag           a part of one: a flag, rule, rollout, condition, segment, layer or holdout, free of problems
    json bad, json wire anything
    python              runs, in one namespace for the whole page
    text output         what the python block before it printed
    console             lines ``$ flagkit ...`` run, and below each is what it prints; ``console 1``: its exit status

A file name behind that (``json flags.json``) has the block written to that file; Python is then not run. ``...`` in an
output stands for whatever is there. Every other block (``sh``, ``text``) is for people only.
"""

from __future__ import annotations

import contextlib
import doctest
import io
import json
import re
import shlex
from pathlib import Path
from typing import Any, Final, NamedTuple

from click.testing import CliRunner

from flagkit.cli import main
from flagkit.dialects import native

ROOT: Final = Path(__file__).parents[1]
PAGES: Final = (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))

_FENCE: Final = re.compile(r"^```(\w*)[ \t]*(.*?)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_KEY: Final = "example"
_PARTS: Final = frozenset({"flag", "rule", "rollout", "condition", "segment", "layer", "holdout"})


class Block(NamedTuple):
    """One code block; ``line`` is where its text starts, from 1."""

    language: str
    words: tuple[str, ...]
    text: str
    line: int

    @property
    def file(self) -> str | None:
        """The name of the file it is, if it is one."""
        return next((word for word in self.words if "." in word), None)


def blocks(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    return [
        Block(found[1], tuple(found[2].split()), found[3], text.count("\n", 0, found.start(3)) + 1)
        for found in _FENCE.finditer(text)
    ]


def whole(part: str, value: Any) -> dict[str, Any]:
    """A definitions document around a part of one."""
    flag: dict[str, Any] = {}
    segments: dict[str, Any] = {"team": {"units": ["user-1"]}, "pilot": {"units": ["user-2"]}}
    document: dict[str, Any] = {"schema": 1, "segments": segments, "flags": {_KEY: flag}}
    if part == "flag":
        flag |= value
    elif part == "rule":
        flag["rules"] = [value]
    elif part == "rollout":
        flag["rules"] = [{"rollout": value, "serve": "on"}]
    elif part == "condition":
        flag["rules"] = [{"when": [value], "serve": "on"}]
    else:
        document.setdefault(f"{part}s", {})[_KEY] = value
        document["flags"].update((key, {}) for key in value.get("slots", ()))
    return document


class Reader:
    """Somebody who follows a page in the current directory.

    stand_ins: what they type instead of what the page says, such as another port.
    """

    def __init__(self, page: Path) -> None:
        self.stand_ins: dict[str, str] = {}
        self._page = page
        self._namespace: dict[str, Any] = {"__name__": "__main__"}
        self._printed = ""

    def follow(self) -> None:
        """Do what every block says. Raises: AssertionError naming page and line."""
        for block in blocks(self._page):
            for said, typed in self.stand_ins.items():
                block = block._replace(text=block.text.replace(said, typed))
            step = getattr(self, f"_{block.language}", None)
            if block.file is not None:
                Path(block.file).write_text(block.text, encoding="utf-8")
            if step is not None:
                step(block)

    def _json(self, block: Block) -> None:
        what = block.words[0] if block.words else ""
        if what in ("bad", "wire"):
            return
        value = json.loads(block.text)
        document = whole(what, value) if what in _PARTS else value
        _, problems = native.parse(json.dumps(document).encode())
        assert not problems, self._at(block, "\n".join(map(str, problems)))

    def _python(self, block: Block) -> None:
        if block.file is not None:
            return
        # Behind as many line ends as come before it in the page, so that a traceback names the page's own lines.
        code = compile("\n" * (block.line - 1) + block.text, self._page.name, "exec")
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(code, self._namespace)
        self._printed = printed.getvalue()

    def _text(self, block: Block) -> None:
        if block.words == ("output",):
            self._compare(block, block.text, self._printed)

    def _console(self, block: Block) -> None:
        status = int(block.words[0]) if block.words else 0
        for said in re.split(r"^\$ ", block.text, flags=re.MULTILINE)[1:]:
            command, _, shown = said.partition("\n")
            program, *arguments = shlex.split(command)
            assert program == "flagkit", self._at(block, f"cannot run {program}")
            result = CliRunner().invoke(main, arguments, prog_name="flagkit")
            assert result.exit_code == status, self._at(block, f"exit status {result.exit_code}: {result.output}")
            self._compare(block, shown, result.output)

    def _compare(self, block: Block, shown: str, printed: str) -> None:
        alike = doctest.OutputChecker().check_output(shown, printed, doctest.ELLIPSIS)
        assert alike, self._at(block, f"printed:\n{printed}")

    def _at(self, block: Block, message: str) -> str:
        return f"{self._page.name}:{block.line}: {message}"
