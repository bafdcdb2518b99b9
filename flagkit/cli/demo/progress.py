"""What is shown while the demo runs: one line a stage, rewritten in place on a terminal, written once elsewhere."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, TextIO

_NAME_WIDTH: Final = 12


class Progress:
    """Writes stages to ``out``."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._live = out.isatty()

    @contextmanager
    def stage(self, name: str) -> Iterator[Callable[[str], None]]:
        """A stage of the run. Yields: a function that shows how it stands; its last text stays, with the time taken."""
        begun_s = time.monotonic()
        latest = ""

        def say(text: str) -> None:
            nonlocal latest
            latest = text
            if self._live:
                self._write(name, begun_s, text)

        say("...")
        try:
            yield say
        finally:
            self._write(name, begun_s, latest)
            self._out.write("\n")
            self._out.flush()

    def _write(self, name: str, begun_s: float, text: str) -> None:
        line = f"  {name:<{_NAME_WIDTH}}{time.monotonic() - begun_s:5.1f} s  {text}"
        if self._live:  # a line that wraps could not be rewritten
            line = f"\r{line[: shutil.get_terminal_size().columns - 1]}\x1b[K"
        self._out.write(line)
        self._out.flush()
