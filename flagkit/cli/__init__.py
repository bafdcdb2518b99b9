"""The ``flagkit`` command: ``main`` is its entry point, and all that is imported before a command is chosen.

Needs the extra ``cli``; without it the command says so in one line. One module a command, imported when it is asked
for. Nothing in the library imports this package.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

main: Callable[..., Any]


def _without_click() -> None:
    print("flagkit: the command line needs the extra `cli`: pip install 'flagkit[cli]'", file=sys.stderr)
    raise SystemExit(1)


try:
    from flagkit.cli.root import main
except ModuleNotFoundError as missing:
    if missing.name != "click":
        raise
    main = _without_click

__all__ = ["main"]
