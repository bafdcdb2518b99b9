"""Reading fields out of decoded JSON: each reader returns a usable value and notes what is wrong, with its path.

A mistake never stops the reading, so one pass reports all of them. Paths are linked tuples, written out only for a
mistake. Shared by the dialects.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from typing import Any, TypeAlias

from flagkit.errors import Problem

#: (parent, key or index); None is the document itself.
At: TypeAlias = "tuple[At, str | int] | None"


def path_text(at: At) -> str:
    """``at`` as a JSON path: ``$.flags.new-checkout.rules[0]``."""
    if at is None:
        return "$"
    parent, step = at
    if isinstance(step, int):
        return f"{path_text(parent)}[{step}]"
    return f"{path_text(parent)}.{step[:128] if step.isprintable() else said(step)}"


def said(value: object) -> str:
    """A decoded JSON value as JSON, cut to 80 characters."""
    text = json.dumps(value, ensure_ascii=True)
    return text if len(text) <= 80 else text[:79] + "…"


def one_of(choices: Collection[str]) -> str:
    listed = sorted(choices)
    more = f" and {len(listed) - 40} more" if len(listed) > 40 else ""
    return "one of " + ", ".join(map(said, listed[:40])) + more


class Faults:
    """The mistakes found so far, in the order they were met."""

    __slots__ = ("found",)

    def __init__(self) -> None:
        self.found: list[tuple[At, str]] = []

    def add(self, at: At, message: str) -> None:
        self.found.append((at, message))

    def expected(self, at: At, value: object, what: str) -> None:
        self.found.append((at, f"got {said(value)}; expected {what}"))

    def problems(self, flag: str | None, *, refused: bool = True) -> list[Problem]:
        return [Problem(path_text(at), message, flag, refused) for at, message in self.found]


def unknown_fields(value: Mapping[str, Any], known: frozenset[str], at: At, faults: Faults) -> None:
    """Note every key of ``value`` that is not ``known``."""
    if value.keys() <= known:
        return
    import difflib  # only for the wording of a mistake

    for key in value:
        if key not in known:
            near = difflib.get_close_matches(key, known, 1)
            hint = f'did you mean "{near[0]}"?' if near else f"known are {', '.join(sorted(known))}"
            faults.add((at, key), f"unknown field; {hint}")


def read_object(value: object, at: At, faults: Faults) -> dict[str, Any]:
    if isinstance(value, dict):
        return value
    faults.expected(at, value, "an object")
    return {}


def read_list(value: object, at: At, faults: Faults, what: str = "an array") -> list[Any]:
    if isinstance(value, list):
        return value
    faults.expected(at, value, what)
    return []


def read_bool(value: object, at: At, faults: Faults) -> bool:
    if isinstance(value, bool):
        return value
    faults.expected(at, value, "true or false")
    return False


def read_text(value: object, at: At, faults: Faults, *, most: int = 128) -> str:
    """A string of 1 to ``most`` printable characters."""
    if isinstance(value, str) and 0 < len(value) <= most and value.isprintable():
        return value
    faults.expected(at, value, f"a string of 1 to {most:,} printable characters")
    return "?"


def read_choice(value: object, choices: Collection[str], at: At, faults: Faults) -> str:
    if isinstance(value, str) and value in choices:
        return value
    faults.expected(at, value, one_of(choices))
    return "?"


def read_whole(value: object, at: At, faults: Faults, least: int, most: int) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and least <= value <= most:
        return value
    faults.expected(at, value, f"a whole number from {least:,} to {most:,}")
    return least


def check_depth(value: object, at: At, faults: Faults, room: int) -> None:
    """Note it when ``value`` nests deeper than ``room`` levels."""
    if isinstance(value, (dict, list)):
        if room == 0:
            faults.add(at, "nested too deeply; expected at most 32 levels")
            return
        for item in value.values() if isinstance(value, dict) else value:
            check_depth(item, at, faults, room - 1)
