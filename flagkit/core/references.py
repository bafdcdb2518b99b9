"""What definitions say of each other: prerequisites and segments that exist and form no cycle.

Found once at load, so that evaluation may follow references without looking out. Called by dialects on finished models.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from flagkit.core.model import FlagDefinition, Segment
from flagkit.errors import Problem

MAX_CHAIN: Final = 32


def broken_flags(flags: Mapping[str, FlagDefinition], segments: Mapping[str, Segment]) -> dict[str, Problem]:
    """Flags that cannot be used because of what they refer to: key -> why."""
    broken: dict[str, Problem] = {}
    bad_segments = _bad_segments(segments)
    for key, flag in flags.items():
        for name in flag.segments:
            if name not in segments:
                broken[key] = _problem(key, f'uses the segment "{name}", which is not defined')
            elif name in bad_segments:
                broken[key] = _problem(key, f'uses the segment "{name}", {bad_segments[name]}')
    parents = {
        key: tuple(parent.flag for parent in flag.prerequisites if parent.flag in flags)
        for key, flag in flags.items()
        if flag.prerequisites
    }
    for key, reason in _too_deep(parents).items():
        broken.setdefault(key, _problem(key, f"its prerequisites {reason}"))
    return broken


def missing_parents(flags: Mapping[str, FlagDefinition]) -> list[Problem]:
    """Prerequisites that never hold because their flag, or the variant asked for, is not defined."""
    problems = []
    for key, flag in flags.items():
        for index, parent in enumerate(flag.prerequisites):
            path = f"$.flags.{key}.prerequisites[{index}]"
            if parent.flag not in flags:
                problems.append(Problem(path, f'the flag "{parent.flag}" is not defined: this never holds', key, False))
                continue
            for variant in parent.variants:
                if variant not in flags[parent.flag].variants:
                    message = f'the flag "{parent.flag}" has no variant "{variant}": this never holds'
                    problems.append(Problem(path, message, key, False))
    return problems


def _bad_segments(segments: Mapping[str, Segment]) -> dict[str, str]:
    """Segments that cannot be used -> why (a phrase that continues 'uses the segment x, ...')."""
    links = {name: tuple(segment.segments) for name, segment in segments.items() if segment.segments}
    bad = {name: f"whose segments {reason}" for name, reason in _too_deep(links).items()}
    for name, inner in links.items():
        for each in inner:
            if each not in segments:
                bad.setdefault(name, f'which uses "{each}", which is not defined')
    changed = True
    while changed:  # what uses a bad segment is bad; at most MAX_CHAIN rounds, as deeper chains are bad already
        worse = {
            name: f'which uses "{each}", {bad[each]}'
            for name, inner in links.items()
            if name not in bad
            for each in inner
            if each in bad
        }
        bad.update(worse)
        changed = bool(worse)
    return bad


def _too_deep(links: Mapping[str, tuple[str, ...]]) -> dict[str, str]:
    """Names on a cycle, or at the head of a chain longer than MAX_CHAIN -> which of the two.

    By rounds: a name's height is known once those of all it links to are; what ends without one is on or above a cycle.
    """
    heights: dict[str, int] = {}
    waiting = dict(links)
    while waiting:
        ready = [name for name, inner in waiting.items() if all(each in heights or each not in links for each in inner)]
        if not ready:
            break
        for name in ready:
            heights[name] = 1 + max((heights.get(each, 0) for each in waiting.pop(name)), default=0)
    bad = {name: f"form a chain deeper than {MAX_CHAIN}" for name, height in heights.items() if height > MAX_CHAIN}
    bad.update((name, "form a cycle") for name in waiting if _reaches(name, name, waiting))
    return bad


def _reaches(start: str, goal: str, links: Mapping[str, tuple[str, ...]]) -> bool:
    seen: set[str] = set()
    stack = list(links[start])
    while stack:
        name = stack.pop()
        if name == goal:
            return True
        if name not in seen:
            seen.add(name)
            stack.extend(links.get(name, ()))
    return False


def _problem(key: str, message: str) -> Problem:
    return Problem(f"$.flags.{key}", message, key)
