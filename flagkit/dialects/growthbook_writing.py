"""A condition's tree of tests, written as one Python expression: nothing of it is interpreted when a flag is asked for.

The source depends on the condition's shape only; keys and values come in as constants, so that no document can write
code. Called by ``growthbook_compile`` for the conditions of rules and by ``growthbook_conditions`` for those on the
elements of a list.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple, TypeAlias

from flagkit.core import code
from flagkit.dialects.growthbook_operators import Test
from flagkit.dialects.growthbook_values import Get, reader

_SHARED: Final = 20_000  # characters of source, up to which its code is kept for others of the same shape

#: From source that defines ``make`` to that function, which takes the constants.
Maker: TypeAlias = Callable[[str], Callable[..., Any]]


class Field(NamedTuple):
    """What is at a path passes all tests."""

    path: str
    tests: tuple[Test, ...]


class AllOf(NamedTuple):
    nodes: tuple[Node, ...]


class AnyOf(NamedTuple):
    nodes: tuple[Node, ...]


class Not(NamedTuple):
    node: Node


class Known(NamedTuple):
    """Always the same."""

    answer: bool


Node: TypeAlias = "Field | AllOf | AnyOf | Not | Known"


class Expressions:
    """Writes conditions as expressions over ``get``, the function that reads an attribute, and collects constants."""

    __slots__ = ("constants", "names", "read_already", "used")

    def __init__(self, read_already: Mapping[str, str] | None = None) -> None:
        """read_already: path -> the expression that its value is in."""
        self.constants: list[Any] = []
        self.names = 0
        self.read_already = read_already or {}
        self.used: set[str] = set()  # of those

    def constant(self, value: Any) -> str:
        self.constants.append(value)
        return f"k{len(self.constants) - 1}"

    def name(self) -> str:
        self.names += 1
        return f"x{self.names}"

    def condition(self, node: Node) -> str:
        match node:
            case AllOf(nodes):
                return f"({' and '.join(map(self.condition, nodes))})" if nodes else "True"
            case AnyOf(nodes):
                return f"({' or '.join(map(self.condition, nodes))})"
            case Not(inner):
                return f"(not {self.condition(inner)})"
            case Known(answer):
                return str(answer)
            case Field(path, tests):
                return self._field(path, tests)

    def _field(self, path: str, tests: tuple[Test, ...]) -> str:
        if not tests:
            return "True"
        x = self.name()
        source = self._source(path)
        first, *others = tests
        written = [self._test(first, f"{x} := {source}", x), *(self._test(test, x, x) for test in others)]
        return f"({' and '.join(written)})"

    def _source(self, path: str) -> str:
        if path in self.read_already:
            self.used.add(path)
            return self.read_already[path]
        read = reader(path)
        return f"get({self.constant(path)})" if read is None else f"{self.constant(read)}(get)"

    def _test(self, test: Test, first: str, x: str) -> str:
        inline = test.inline
        if inline is None:
            return f"{self.constant(test.ask)}({first})"
        if not inline.guard:
            return f"({inline.expression.format(first=first)})"
        shown = inline.expression.format(x=x, k=self.constant(inline.constant))
        return f"({shown} if type({first}) is {inline.guard} else {self.constant(test.ask)}({x}))"


def function_of(node: Node) -> Callable[[Get], bool]:
    """A condition as a function from what reads fields to whether it matches."""
    write = Expressions()
    body = write.condition(node)
    names = ", ".join(f"k{index}" for index in range(len(write.constants)))
    source = f"def make({names}):\n return lambda get: {body}"
    passes: Callable[[Get], bool] = _maker(source)(*write.constants)
    return passes


def maker(called: Mapping[str, Any]) -> Maker:
    """What compiles source that may use the names ``called``, and no others. Shapes that recur are compiled once."""
    shared = code.maker({"int": int, "str": str, "type": type, **called})
    return lambda source: shared(source) if len(source) <= _SHARED else shared.__wrapped__(source)


_maker: Final = maker({})
