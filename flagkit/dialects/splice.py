"""JSON text changed in one place, so that every other byte of it stays as somebody wrote it.

A path is keys and indices from the outside in; of keys that stand twice the last one counts, as for any JSON reader.
It knows JSON only, and reads more leniently than the parser: whoever calls it parses the result. Called by ``edits``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from json.decoder import JSONDecodeError, scanstring  # type: ignore[attr-defined]
from typing import Any, Final, NamedTuple, TypeAlias

Path: TypeAlias = tuple[str | int, ...]

_BLANK: Final = re.compile(r"[ \t\n\r]*").match
_VALUE: Final = json.JSONDecoder().raw_decode


class Span(NamedTuple):
    """A member or element: where it starts (its key, if it has one), and its value's start and end."""

    name: str | int
    start: int
    value: int
    end: int


def find(text: str, path: Path) -> Span | None:
    """Where the value at ``path`` is; None when it is not there. Raises: ValueError, RecursionError: not JSON."""
    start = _end(text, 1 if text.startswith("\ufeff") else 0)
    found: Span | None = Span("", start, start, _VALUE(text, start)[1])
    for step in path:
        if found is None:
            return None
        found = next((inner for inner in reversed(parts(text, found.value)) if inner.name == step), None)
    return found


def parts(text: str, at: int) -> list[Span]:
    """The members or elements of the object or array that starts at ``at``; none for anything else."""
    return list(_parts(text, at)) if text[at : at + 1] in ("{", "[") else []


def replace(text: str, span: Span, value: str) -> str:
    """``text`` with the JSON ``value`` in place of that of ``span``."""
    return text[: span.value] + value + text[span.end :]


def put(text: str, path: Path, value: Any) -> str:
    """``text`` with the member at ``path`` set: in its place if it is there, else as the first of its object.

    Raises: KeyError when there is no object to put it in.
    """
    found = find(text, path)
    if found is not None:
        return replace(text, found, _json(value, text))
    outer = find(text, path[:-1])
    if outer is None or text[outer.value] != "{":
        raise KeyError(path)
    inside = outer.value + 1
    member = _json({path[-1]: value}, text)[1:-1]
    first = _end(text, inside)
    if text[first] != "}":
        gap = text[inside:first]  # the next line starts as the first one does
        member += "," + (gap if "\n" in gap else " " * _spaced(text))
    return text[:first] + member + text[first:]


def drop(text: str, path: Path) -> str:
    """``text`` without the member at ``path``; unchanged when it is not there."""
    outer, found = find(text, path[:-1]), find(text, path)
    if outer is None or found is None:
        return text
    members = parts(text, outer.value)
    index = members.index(found)
    if index + 1 < len(members):
        return text[: found.start] + text[members[index + 1].start :]
    return text[: members[index - 1].end if index else outer.value + 1] + text[found.end :]


def _parts(text: str, at: int) -> Iterator[Span]:
    keyed, closing = (True, "}") if text[at] == "{" else (False, "]")
    at, index = _end(text, at + 1), 0
    while text[at : at + 1] != closing:
        start, name = at, index
        if keyed:
            name, at = scanstring(text, at + 1, True)
            at = _end(text, _end(text, at) + 1)
        end = _VALUE(text, at)[1]
        yield Span(name, start, at, end)
        at, index = _end(text, end), index + 1
        if text[at : at + 1] == ",":
            at = _end(text, at + 1)
        elif text[at : at + 1] != closing:
            raise JSONDecodeError("a comma or the end expected", text, at)


def _json(value: Any, like: str) -> str:
    """``value`` on one line, with spaces behind commas and colons where ``like`` has them."""
    return json.dumps(value, separators=(", ", ": ") if _spaced(like) else (",", ":"))


def _spaced(text: str) -> bool:
    return '":' not in text or '": ' in text


def _end(text: str, at: int) -> int:
    """The position of the first character from ``at`` that is no white space."""
    return _BLANK(text, at).end()  # type: ignore[union-attr]
