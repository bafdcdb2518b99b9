"""flagd's ``$evaluators``: parts of rules that several flags share, put in where a rule says ``{"$ref": name}``.

As flagd's libraries do it, evaluators are put in one after the other in the document's order: one may refer to those
that stand after it, and to none before or to itself. So there is no circle. Pure; knows nothing of flags.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

_REF: Final = "$ref"
_MOST: Final = 1 << 30


class Measure(NamedTuple):
    """Of a rule with everything put in. size: its lists and objects, or a lot. depth: levels of them."""

    size: int
    depth: int


class Evaluators:
    """The evaluators of one document.

    Args: rules, name -> rule in the document's order, none of them deeper than can be walked; texts, as written.
    """

    def __init__(self, rules: Mapping[str, Any], texts: Mapping[str, str]) -> None:
        self._rules = rules
        self._order = {name: index for index, name in enumerate(rules)}
        self._measures: dict[str, Measure] = {}
        self._marks: dict[str, str] = {}
        for name, order in reversed(self._order.items()):  # whatever one refers to is known then
            self._measures[name] = self._measure(rules[name], order)
            self._marks[name] = _digest(texts[name], self._used(rules[name], order))

    def measure(self, rule: Any) -> Measure:
        """What ``rule`` becomes, without making it so."""
        return self._measure(rule, -1)

    def put_in(self, rule: Any) -> Any:
        """``rule`` with the evaluators it refers to in their places, and references to others as they are.

        Look at its measure first: it may grow without bounds.
        """
        return self._put_in(rule, -1) if self._order else rule

    def used(self, rule: Any) -> tuple[tuple[str, str | None], ...]:
        """The names ``rule`` refers to, each with a mark of what it stands for; None: there is no such evaluator."""
        return self._used(rule, -1)

    def marked(self, name: str) -> str | None:
        """The mark of an evaluator: the same as long as it comes to the same, with those it uses."""
        return self._marks.get(name)

    def _used(self, rule: Any, after: int) -> tuple[tuple[str, str | None], ...]:
        names: set[str] = set()
        _names(rule, names)
        return tuple((name, self._marks[name] if self._order.get(name, -1) > after else None) for name in sorted(names))

    def _measure(self, node: Any, after: int) -> Measure:
        """What ``node`` becomes, which stands in the evaluator numbered ``after``."""
        name = _referred(node)
        if name is not None and self._order.get(name, -1) > after:
            return self._measures[name]
        size, depth = 1, 0
        for part in _nested(node):
            more = self._measure(part, after)
            size, depth = min(_MOST, size + more.size), max(depth, more.depth)
        return Measure(size, depth + 1)

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


def _names(node: Any, found: set[str]) -> None:
    """Add the names that ``node`` refers to."""
    name = _referred(node)
    if name is not None:
        found.add(name)
    for part in _nested(node):
        _names(part, found)


def _digest(text: str, used: tuple[tuple[str, str | None], ...]) -> str:
    from hashlib import blake2b  # loads OpenSSL: not at import

    return blake2b(repr((text, used)).encode("utf-8", "backslashreplace"), digest_size=16).hexdigest()
