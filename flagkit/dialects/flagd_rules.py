"""A targeting rule as JSON: what is an operation in it, what it may contain, and what is wrong with it.

JsonLogic: an object of one member is an operation, lists are taken item by item, all else stands for itself. Checked
once at load, so that what compiles a rule later finds only what it knows, in bounded depth and number.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from flagkit.dialects.fields import At, Faults, one_of, said

FRACTIONAL: Final = "fractional"
ITERATIONS: Final = frozenset({"all", "filter", "map", "none", "reduce", "some"})
OPERATIONS: Final = ITERATIONS | {
    *("!", "!!", "!=", "!==", "%", "*", "+", "-", "/", "<", "<=", "==", "===", ">", ">=", "?:", "and", "cat"),
    *("ends_with", FRACTIONAL, "if", "in", "log", "max", "merge", "min", "missing", "missing_some", "or", "sem_ver"),
    *("starts_with", "substr", "var"),
}
MAX_DEPTH: Final = 96  # levels of JSON; an operation and the list of its arguments are two
MAX_NODES: Final = 5000  # operations, and what their arguments are; a list of constants is one
_REF: Final = "$ref"


def operation(node: Any) -> tuple[str, list[Any]] | None:
    """The name and the arguments of an operation; None for anything else."""
    if not isinstance(node, dict) or len(node) != 1:
        return None
    ((name, arguments),) = node.items()
    return name, arguments if isinstance(arguments, list) else [arguments]


def is_constant(node: Any) -> bool:
    """Whether it stands for itself, with all that is in it."""
    if isinstance(node, list):
        return all(map(is_constant, node))
    return not isinstance(node, dict) or len(node) != 1


def is_deeper(node: Any, room: int) -> bool:
    """Whether it nests more than ``room`` levels of lists and objects."""
    if not isinstance(node, (dict, list)):
        return False
    return room == 0 or any(is_deeper(item, room - 1) for item in (node.values() if isinstance(node, dict) else node))


def check_rule(node: Any, at: At, faults: Faults) -> None:
    """Note unknown operations, and a rule that is too deep or too large."""
    check = _Check(faults)
    check.node(node, at, MAX_DEPTH)
    if check.left < 0:
        faults.add(at, f"a rule of more than {MAX_NODES:,} operations and arguments")
    if check.too_deep:
        faults.add(at, f"nested too deeply; expected at most {MAX_DEPTH} levels")


class _Check:
    """``left``: how many nodes may still come."""

    def __init__(self, faults: Faults) -> None:
        self.faults = faults
        self.left = MAX_NODES
        self.too_deep = False

    def node(self, node: Any, at: At, room: int) -> None:
        self.left -= 1
        self.too_deep |= room <= 0
        if self.left < 0 or self.too_deep:
            return
        if isinstance(node, list):
            for index, item in enumerate(() if _is_flat(node) else node):
                self.node(item, (at, index), room - 1)
            return
        found = operation(node)
        if found is None:
            return
        name, arguments = found
        if name == _REF:
            self.faults.add(at, f"refers to {said(arguments)}; expected the name of one of the $evaluators")
        elif name not in OPERATIONS:
            self.faults.add((at, name), f"unknown operation; expected {one_of(OPERATIONS)}")
        for index, argument in enumerate(arguments):
            self.node(argument, ((at, name), index), room - 2)


def _is_flat(items: list[Any]) -> bool:
    """Whether it is a list of scalars, which costs nothing however long it is."""
    return not any(isinstance(item, (dict, list)) for item in items)


def steady(node: Any) -> bool:
    """Whether its value depends on nothing but the time: the same for every unit at one moment."""
    found = operation(node)
    if found is None:
        return all(map(steady, node)) if isinstance(node, list) else True
    name, arguments = found
    if name == "var":
        return arguments[:1] == ["$flagd.timestamp"] or arguments[:1] == ["$flagd.flagKey"]
    return name not in ITERATIONS | {"missing", "missing_some", FRACTIONAL} and all(map(steady, arguments))


def named_variants(node: Any, at: At) -> Iterator[tuple[At, Any]]:
    """The constants a rule may come to as they stand in it, with where: those that ought to name variants."""
    found = operation(node)
    if found is None:
        yield at, node
        return
    name, arguments = found
    inside = (at, name)
    if name in ("if", "?:"):
        for index, argument in enumerate(arguments):
            if index % 2 or index == len(arguments) - 1:
                yield from named_variants(argument, (inside, index))
    elif name == FRACTIONAL:
        for index, entry in enumerate(arguments):
            if isinstance(entry, list) and entry and is_constant(entry[0]):
                yield ((inside, index), 0), entry[0]
