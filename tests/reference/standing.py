"""Which flags of a document are not decided by their rules: those it refuses, and those that have grown stale."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

Json = dict[str, Any]


def refused(document: Json) -> set[str]:
    """Flags on a cycle of prerequisites, and flags that use a segment that is missing or comes to no end.

    A flag that is turned off needs none of what it refers to, and turning one off is never refused.
    """
    flags = document["flags"]
    parents = {flag: [wanted["flag"] for wanted in flags[flag].get("prerequisites", [])] for flag in flags}
    segments = document.get("segments", {})
    inner = {name: list(_segments_in(segments[name])) for name in segments}
    bad = {flag for flag in flags if flag in _reached(parents, parents[flag])}
    for flag in flags:
        used = _reached(inner, list(_segments_in(flags[flag])))
        if any(name not in inner or name in _reached(inner, inner[name]) for name in used):
            bad.add(flag)
    return {flag for flag in bad if flags[flag].get("enabled", True)}


def _segments_in(part: Any) -> Iterator[str]:
    """Every segment named in a flag's or segment's conditions, however deep."""
    if isinstance(part, list):
        for item in part:
            yield from _segments_in(item)
    elif isinstance(part, dict):
        if "segment" in part:
            yield from [part["segment"]] if isinstance(part["segment"], str) else part["segment"]
        for field in ("rules", "when", "exclude", "any", "all", "not"):
            yield from _segments_in(part.get(field))


def _reached(graph: dict[str, list[str]], start: list[str]) -> set[str]:
    reached: set[str] = set()
    waiting = list(start)
    while waiting:
        name = waiting.pop()
        if name not in reached:
            reached.add(name)
            waiting.extend(graph.get(name, []))
    return reached


def stale_flags(document: Json, age_s: float, max_age_s: float = 86_400) -> frozenset[str]:
    """The flags that are stale when definitions were last confirmed ``age_s`` seconds ago."""
    return frozenset(
        flag
        for flag, definition in document["flags"].items()
        if ("max_age_s" in definition or _is_risky(definition)) and age_s > definition.get("max_age_s", max_age_s)
    )


def _is_risky(definition: Json) -> bool:
    rules = definition.get("rules", [])
    partial = any(
        "split" in rule or "steps" in rule.get("rollout", {}) or 0 < rule.get("rollout", {}).get("percent", 0) < 100
        for rule in rules
    )
    return partial or "guard" in definition
