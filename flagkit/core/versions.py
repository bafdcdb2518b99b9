"""Semantic versions, compared by precedence (semver.org 2.0.0)."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any, Final, TypeAlias

_SEMVER: Final = re.compile(
    r"(0|[1-9]\d*)(?:\.(0|[1-9]\d*))?(?:\.(0|[1-9]\d*))?"
    r"(?:-([0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*))?(?:\+[0-9A-Za-z.-]+)?",
    re.ASCII,
)
Version: TypeAlias = tuple[int, int, int, tuple[Any, ...]]


@lru_cache(maxsize=4096)
def parse_version(text: str) -> Version | None:
    """A semantic version as a tuple that sorts by precedence; "2" and "2.3" are padded; None if it is none.

    Source: semver.org 2.0.0, section 11 (a pre-release sorts before its release; build metadata does not count).
    """
    found = _SEMVER.fullmatch(text)
    if found is None:
        return None
    major, minor, patch, pre = found.groups()
    if pre is None:
        rank: tuple[Any, ...] = (1,)
    else:
        parts = pre.split(".")
        if any(part.isdigit() and part[0] == "0" and part != "0" for part in parts):
            return None
        rank = (0, *((0, int(part), "") if part.isdigit() else (1, 0, part) for part in parts))
    return int(major), int(minor or 0), int(patch or 0), rank


def first_after(version: Version, operator: str) -> Version:
    """The first release a caret or tilde range leaves out."""
    major, minor, patch, _ = version
    if operator == "tilde" or (major == 0 and minor > 0):
        return major, minor + 1, 0, (0,)
    if major == 0 and operator == "caret":
        return 0, 0, patch + 1, (0,)
    return major + 1, 0, 0, (0,)
