"""JsonLogic's comparisons as Python expressions, with a short way for the usual: texts and numbers that a rule names.

A part of ``flagd_expressions``, which hands itself in.
"""

from __future__ import annotations

from typing import Any, Final

from flagkit.dialects.flagd_rules import is_constant
from flagkit.dialects.flagd_writing import Writing

COMPARED: Final = frozenset({"==", "!=", "===", "!==", "<", "<=", ">", ">="})


def compared(write: Writing, name: str, arguments: list[Any]) -> str:
    equality = name[0] in "=!"
    if len(arguments) < 2:
        # The other side is then undefined: equal to null, loosely, and in no order to anything.
        is_null = "True" if not arguments else f"({write.value(arguments[0])} is None)"
        equal = is_null if len(name) == 2 else str(not arguments)
        return f"(not {equal})" if name[0] == "!" else equal if equality else "False"
    if equality:
        equal = _equal(write, *arguments[:2], strictly=len(name) == 3)
        return f"(not {equal})" if name[0] == "!" else equal
    if len(arguments) == 2:
        return _ordered(write, name, write.value(arguments[0]), write.value(arguments[1]), arguments)
    x = write.name()
    low, middle, high = (write.value(argument) for argument in arguments[:3])
    first = _ordered(write, name, low, f"({x} := {middle})", [None, None])
    return f"({first} and {_ordered(write, name, x, high, [None, arguments[2]])})"


def _equal(write: Writing, one: Any, other: Any, *, strictly: bool) -> str:
    if is_constant(one) and not is_constant(other):
        one, other = other, one
    slowly = "strict" if strictly else "loose"
    value, wanted = write.value(one), write.value(other)
    if not is_constant(other):
        return f"{slowly}({value}, {wanted})"
    if other is None:
        return f"({value} is None)"
    x = write.name()
    if isinstance(other, str):
        return f"({x} == {wanted} if type({x} := {value}) is str else {slowly}({x}, {wanted}))"
    if isinstance(other, (int, float)) and not isinstance(other, bool):
        return f"({x} == {wanted} if type({x} := {value}) is int else {slowly}({x}, {wanted}))"
    return f"{slowly}({value}, {wanted})"


def _ordered(write: Writing, name: str, value: str, bound: str, arguments: list[Any]) -> str:
    slowly = "precedes" if len(name) == 1 else "precedes_or_equals"
    if _is_number(arguments[1]):
        x = write.name()
        swapped = f"{slowly}({bound}, {x})" if name[0] == ">" else f"{slowly}({x}, {bound})"
        return f"({x} {name} {bound} if type({x} := {value}) is int else {swapped})"
    if name[0] == "<":
        return f"{slowly}({value}, {bound})"
    x = write.name()  # what stands first is asked first, which counts when the other uses it
    return f"(({x} := [{value}, {bound}]) and {slowly}({x}[1], {x}[0]))"


def contained_in(write: Writing, arguments: list[Any]) -> str:
    if len(arguments) < 2:
        return "False"
    needle, haystack = arguments[:2]
    value, place = write.value(needle), write.value(haystack)
    slowly = "within_charged({}, {}, steps)" if write.in_item else "within({}, {})"
    x = write.name()
    if isinstance(haystack, list) and is_constant(haystack):
        texts = write.constant(frozenset(item for item in haystack if isinstance(item, str)))
        return f"({x} in {texts} if type({x} := {value}) is str else {slowly.format(x, place)})"
    if isinstance(needle, str) and needle:
        return f"({value} in {x} if type({x} := {place}) is str else {slowly.format(value, x)})"
    return slowly.format(value, place)


def _is_number(node: Any) -> bool:
    return isinstance(node, (int, float)) and not isinstance(node, bool)
