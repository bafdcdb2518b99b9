"""Where in a JSON file a path is: line numbers for findings, so that an editor can jump there.

Called by ``lint`` and ``validate`` on text that has been read as JSON.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator
from typing import Final

_MARK: Final = re.compile(r'"(?:[^"\\]|\\.)*"|[{}\[\],:]|[^\s{}\[\],:"]+', re.DOTALL)


def lines_of(data: bytes, paths: Collection[str]) -> dict[str, int]:
    """The line, from 1, of each of ``paths``, or of the nearest value around it that is there. Raises: nothing.

    Paths are as in ``Problem``.
    """
    chains = {path: list(outward(path)) for path in paths}
    wanted = {each for chain in chains.values() for each in chain}
    if not wanted:
        return {}
    found = _found(data.decode("utf-8", "replace"), wanted)
    return {path: found[each] for path, chain in chains.items() for each in reversed(chain) if each in found}


def outward(path: str) -> Iterator[str]:
    """``path`` and the paths around it, the document itself left out."""
    while path not in ("$", ""):
        yield path
        path = path[: max(path.rfind("."), path.rfind("["), 0)]


def _found(text: str, wanted: Collection[str]) -> dict[str, int]:
    found: dict[str, int] = {}
    inside: list[tuple[str, list[int] | None]] = []  # enclosing values; the index within an array
    path, line, seen, named = "$", 1, 0, False
    for match in _MARK.finditer(text):
        mark = match[0]
        line += text.count("\n", seen, match.start())
        seen = match.start()
        if mark == ":":
            named = True
            continue
        if mark in "}]":
            if inside:
                inside.pop()
        elif mark == ",":
            if inside and (index := inside[-1][1]):
                index[0] += 1
        else:
            if inside and not named:
                parent, index = inside[-1]
                path = f"{parent}[{index[0]}]" if index else f"{parent}.{_key(mark)[:128]}"
                if path in wanted:
                    found.setdefault(path, line)
            if mark in "{[":
                inside.append((path, [0] if mark == "[" else None))
        named = False
    return found


def _key(mark: str) -> str:
    """The key that a string token is."""
    if "\\" not in mark:
        return mark[1:-1]
    try:
        return str(json.loads(mark))
    except ValueError:
        return mark[1:-1]
