"""Prerequisites that lead in a circle, or are asked without end: what stops them.

Which features may be concerned is known when definitions are loaded; only those take note, in the context that they
hand on, of who has been asked on the way to them. All others pay nothing. Pure; ``entered`` is called by compiled
features, ``endless`` by ``growthbook``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from flagkit.context import Context

_MOST_ASKED: Final = 1000  # features, to answer for one


class Visit(Context):
    """A context on its way through prerequisites. asked: who leads here. left: how many may still be asked."""

    __slots__ = ("asked", "left")

    asked: frozenset[str]
    left: list[int]


def entered(context: Context, feature: str) -> Visit | None:
    """The context for the prerequisites of ``feature``; None when it is being asked already, or no more may be."""
    asked: frozenset[str] = frozenset()
    left = [_MOST_ASKED]
    if type(context) is Visit:
        asked, left = context.asked, context.left
    left[0] -= 1
    if feature in asked or left[0] < 0:
        return None
    visit = Visit(context.unit, context.attributes, context.enrolments, context.synthetic)
    visit.asked = asked | {feature}
    visit.left = left
    return visit


def endless(parents: Mapping[str, list[str]]) -> tuple[set[str], set[str]]:
    """Features whose prerequisites lead into a circle, and those whose prerequisites are more than 1,000 in all.

    Args: parents, feature -> what it asks, each as often as it does.
    """
    asked: dict[str, int] = {}
    waiting = {key: {parent for parent in each if parent in parents} for key, each in parents.items()}
    children: dict[str, list[str]] = {}
    for key, each in waiting.items():
        for parent in each:
            children.setdefault(parent, []).append(key)
    ready = [key for key, each in waiting.items() if not each]
    while ready:
        key = ready.pop()
        asked[key] = min(1 + sum(asked.get(parent, 1) for parent in parents[key]), 2 * _MOST_ASKED)
        for child in children.get(key, ()):
            waiting[child].discard(key)
            if not waiting[child]:
                ready.append(child)
    return parents.keys() - asked.keys(), {key for key, count in asked.items() if count > _MOST_ASKED}
