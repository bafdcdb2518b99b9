"""What definitions say of each other: prerequisites and segments that exist and form no cycle.

Found once at load, so that evaluation may follow references without looking out. Called by dialects on finished models.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from flagkit.core.model import Definitions, FlagDefinition, Segment
from flagkit.errors import Problem

MAX_CHAIN: Final = 32


def broken_flags(flags: Mapping[str, FlagDefinition], segments: Mapping[str, Segment]) -> dict[str, list[Problem]]:
    """Flags that cannot be used because of what they refer to: key -> why, one problem a reference."""
    broken: dict[str, list[Problem]] = {}
    bad_segments = _bad_segments(segments)
    for key, flag in flags.items():
        for name in sorted(flag.segments):
            if name not in segments:
                broken.setdefault(key, []).append(_problem(key, f'uses the segment "{name}", which is not defined'))
            elif name in bad_segments:
                broken.setdefault(key, []).append(_problem(key, f'uses the segment "{name}", {bad_segments[name]}'))
    parents = {
        key: tuple(parent.flag for parent in flag.prerequisites if parent.flag in flags)
        for key, flag in flags.items()
        if flag.prerequisites
    }
    for key, reason in _too_deep(parents).items():
        broken.setdefault(key, [_problem(key, f"its prerequisites {reason}")])
    return broken


def dangling(definitions: Definitions) -> list[Problem]:
    """References that lead nowhere and are harmless: they say less than whoever wrote them thinks."""
    flags = definitions.flags
    problems = _missing_parents(flags)
    for layer in definitions.layers:
        problems += [
            Problem(f"$.layers.{layer.name}.slots.{key}", "a slot for a flag that is not defined", None, False)
            for key in layer.slots
            if key not in flags and key not in definitions.refused
        ]
    for holdout in definitions.holdouts:
        problems += [
            Problem(f"$.holdouts.{holdout.name}.flags", f'the flag "{key}" is not defined', None, False)
            for key in sorted(holdout.flags - {"*"} - definitions.refused)
            if key not in flags
        ]
    return problems


def _missing_parents(flags: Mapping[str, FlagDefinition]) -> list[Problem]:
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

    Names leave once all they link to have left (Kahn); what stays is on a cycle or leads into one.
    """
    users: dict[str, list[str]] = {}
    open_links = {name: {each for each in inner if each in links} for name, inner in links.items()}
    for name, inner in open_links.items():
        for each in inner:
            users.setdefault(each, []).append(name)
    heights: dict[str, int] = {}
    ready = [name for name, inner in open_links.items() if not inner]
    for name in ready:  # grows while it is walked
        heights[name] = 1 + max((heights.get(each, 0) for each in links[name]), default=0)
        for user in users.get(name, ()):
            open_links[user].discard(name)
            if not open_links[user]:
                ready.append(user)
    bad = {name: f"form a chain deeper than {MAX_CHAIN}" for name, height in heights.items() if height > MAX_CHAIN}
    stuck = {name: open_links[name] for name in links if name not in heights}
    bad.update((name, "form a cycle") for name in _on_cycles(stuck))
    return bad


def _on_cycles(links: Mapping[str, set[str]]) -> set[str]:
    """The names of ``links``, of which each leads to a cycle, that are on one: those that others lead back to.

    Names that no remaining one links to are only on the way to a cycle, and leave first.
    """
    used = dict.fromkeys(links, 0)
    for inner in links.values():
        for each in inner:
            used[each] += 1
    leaving = [name for name, count in used.items() if count == 0]
    for name in leaving:
        for each in links[name]:
            used[each] -= 1
            if used[each] == 0:
                leaving.append(each)
    return links.keys() - set(leaving)


def _problem(key: str, message: str) -> Problem:
    return Problem(f"$.flags.{key}", message, key)
