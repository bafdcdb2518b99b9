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


def check_depth(node: Any, at: At, faults: Faults) -> bool:
    """Whether a rule is flat enough to be walked; noted when not."""
    deep = _is_deeper(node, MAX_DEPTH)
    if deep:
        faults.add(at, f"nested too deeply; expected at most {MAX_DEPTH} levels")
    return not deep


def _is_deeper(node: Any, room: int) -> bool:
    if not isinstance(node, (dict, list)):
        return False
    return room == 0 or any(_is_deeper(item, room - 1) for item in (node.values() if isinstance(node, dict) else node))


def check_rule(node: Any, at: At, faults: Faults) -> None:
    """Note unknown operations, and a rule that is too large. Its depth has been checked."""
    if _check(node, at, faults, MAX_NODES) < 0:
        faults.add(at, f"a rule of more than {MAX_NODES:,} operations and arguments")


def _check(node: Any, at: At, faults: Faults, left: int) -> int:
    """Check a node, of which there may be ``left`` more; return how many are left after it."""
    left -= 1
    if isinstance(node, list):
        for index, item in enumerate(() if _is_flat(node) else node):
            left = _check(item, (at, index), faults, left) if left >= 0 else left
        return left
    found = operation(node)
    if found is None:
        return left
    name, arguments = found
    if name == _REF:
        faults.add(at, f"refers to {said(arguments)}; expected the name of one of the $evaluators")
    elif name not in OPERATIONS:
        faults.add((at, name), f"unknown operation; expected {one_of(OPERATIONS)}")
    for index, argument in enumerate(arguments):
        left = _check(argument, ((at, name), index), faults, left) if left >= 0 else left
    return left


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
