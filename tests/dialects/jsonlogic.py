"""JsonLogic by itself, for tests: what a rule comes to, and random rules of everything with everything."""

from __future__ import annotations

import json
import random
from typing import Any

from flagkit.context import Context
from flagkit.dialects.flagd_compile import assembled
from flagkit.dialects.flagd_expressions import Expressions
from flagkit.dialects.flagd_fractional import V2

VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 2, 3.5, -0.5, 10, 1e21, 1e-7, 123456789, "", "a", "b", "abc", "1", "3.5", " 2 "),
    *("x1", "true", "null", [], [1], [1, 2], ["a"], ["a", "b"], [[1], "b"], "a,b", {}, "é"),
)
DATA = {
    **dict(zip("abcdefghijklmnopqrstuvwxyz", VALUES, strict=False)),
    "people": [{"name": "anna", "age": 30}, {"name": "bo", "age": 17}, {"name": "cy"}],
    "deep": {"er": {"est": 7, "list": [5, {"x": "y"}]}},
}
PATHS = (*"abcdefghijklmnopqrstuvwxyz", "absent", "deep.er.est", "deep.er.list.1.x", "people.0.name", "deep.absent.x")


def value_of(rule: Any, data: dict[str, Any]) -> Any:
    """What ``rule`` comes to. Raises whatever it raises."""
    write = Expressions("flag", V2, lambda: 0)
    value = write.value(rule)
    return assembled(write, [f"return {value}"], None)(Context(attributes=data), None, None)  # type: ignore[arg-type]


def truth_of(rule: Any, data: dict[str, Any]) -> Any:
    """Whether ``rule`` comes to something true. Raises whatever it raises."""
    write = Expressions("flag", V2, lambda: 0)
    test = write.test(rule)
    return assembled(write, [f"return not not ({test})"], None)(Context(attributes=data), None, None)  # type: ignore[arg-type]


def random_rules(seed: int, count: int, operations: tuple[str, ...]) -> list[Any]:
    """Rules of ``operations``, of operands of any kind, the same for the same seed."""
    chance = random.Random(seed)
    return [json.loads(json.dumps(_rule(chance, 3, operations))) for _ in range(count)]


def _rule(chance: random.Random, depth: int, operations: tuple[str, ...]) -> Any:
    if depth == 0 or chance.random() < 0.2:
        return chance.choice(VALUES) if chance.random() < 0.5 else {"var": chance.choice(PATHS)}
    name = chance.choice(operations)
    if name in ("map", "filter", "all", "some", "none", "reduce"):
        items = chance.choice(({"var": "people"}, {"var": "x"}, [1, 2, 3], _rule(chance, depth - 1, operations)))
        body = chance.choice(({"var": ""}, {"var": "age"}, {">": [{"var": ""}, 1]}, {"==": [{"var": "name"}, "bo"]}))
        if name == "reduce":
            return {name: [items, {"cat": [{"var": "accumulator"}, {"var": "current"}]}, chance.choice((0, "", None))]}
        return {name: [items, body]}
    if name in ("missing", "missing_some"):
        keys = [chance.choice(PATHS) for _ in range(3)]
        return {name: keys if name == "missing" else [chance.choice((1, 2)), keys]}
    if name == "substr":
        operands = [_rule(chance, depth - 1, operations), chance.choice((0, 1, -1, 5, -9, "1", 1.5))]
        return {name: [*operands, chance.choice((0, 1, -1, 9))] if chance.random() < 0.5 else operands}
    many = chance.choice((2, 3, 4))
    count = 1 if name in ("!", "!!") else many if name in ("and", "or", "if", "cat", "merge") else 2
    return {name: [_rule(chance, depth - 1, operations) for _ in range(count)]}
