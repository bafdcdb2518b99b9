"""flagd's ``$evaluators``: parts of rules that several flags share, put in where a rule says ``{"$ref": name}``.

As flagd's libraries do it, evaluators are put in one after the other in the document's order: one may refer to those
that stand after it, and to none before or to itself. So there is no circle. Pure; knows nothing of flags.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

_REF: Final = "$ref"


class Measure(NamedTuple):
    """Of a rule with everything put in. size: its lists and objects. depth: levels of them.

    uses: the names of the evaluators that come into it, by way of others too; unknown ones included.
    """

    size: int
    depth: int
    uses: frozenset[str]


class Evaluators:
    """The evaluators of one document.

    Args: rules, name -> rule in the document's order, none of them deeper than can be walked.
    """

    def __init__(self, rules: Mapping[str, Any]) -> None:
        self._rules = rules
        self._order = {name: index for index, name in enumerate(rules)}
        self._measures: dict[str, Measure] = {}
        for name in reversed(self._order):  # whatever one refers to is known then
            self._measures[name] = self._measure(rules[name], self._order[name])

    def measure(self, rule: Any) -> Measure:
        """What ``rule`` becomes, without making it so."""
        return self._measure(rule, -1)

    def put_in(self, rule: Any) -> Any:
        """``rule`` with the evaluators it refers to in their places, and references to others as they are.

        Look at its measure first: it may grow without bounds.
        """
        return self._put_in(rule, -1) if self._order else rule

    def texts(self, names: frozenset[str], texts: Mapping[str, str]) -> tuple[tuple[str, str | None], ...]:
        """What ``names`` stand for now, in the document's order: equal when a rule that uses them becomes the same.

        texts: of all evaluators, by name.
        """
        ordered = sorted(names, key=lambda name: (self._order.get(name, -1), name))
        return tuple((name, texts.get(name) if name in self._order else None) for name in ordered)

    def _measure(self, node: Any, after: int) -> Measure:
        """What ``node`` becomes, which stands in the evaluator numbered ``after``."""
        name = _referred(node)
        if name is not None:
            if self._order.get(name, -1) > after:
                return self._measures[name]._replace(uses=self._measures[name].uses | {name})
            return Measure(1, 1, frozenset({name}))
        size, depth, uses = 1, 0, frozenset[str]()
        for part in _nested(node):
            more = self._measure(part, after)
            size, depth, uses = size + more.size, max(depth, more.depth), uses | more.uses
        return Measure(size, depth + 1, uses)

    def _put_in(self, node: Any, after: int) -> Any:
        name = _referred(node)
        if name is not None and (order := self._order.get(name, -1)) > after:
            return self._put_in(self._rules[name], order)
        if not _nested(node):
            return node
        if isinstance(node, list):
            return [self._put_in(item, after) for item in node]
        return {key: self._put_in(item, after) for key, item in node.items()}


def _nested(node: Any) -> list[Any]:
    """The lists and objects in a list or an object."""
    parts = node if isinstance(node, list) else node.values() if isinstance(node, dict) else ()
    return [part for part in parts if isinstance(part, (dict, list))]


def _referred(node: Any) -> str | None:
    name = node.get(_REF) if isinstance(node, dict) and len(node) == 1 else None
    return name if isinstance(name, str) else None
