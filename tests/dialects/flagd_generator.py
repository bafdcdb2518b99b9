"""Random flagd definitions and contexts, the same for the same seed."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

Json = dict[str, Any]
VARIANTS: Json = {"a": "A", "b": "B", "c": "C", "true": "yes", "false": "no"}
TEXTS = ("country", "plan", "email", "user.name", "user.tier", "absent", "targetingKey")
LISTS = ("tags", "none")
VERSIONS = ("1", "1.2", "v1.2.3", "2.0.0", "1.2.3-beta.1", "2.0.0+build", "nonsense", "1.2.3.4", "")


class Generator:
    """Operands are of the kinds that the operations are documented for.

    careful: leave out what json-logic-engine is known to answer in its own way; docs/backends/flagd.md lists it.
    """

    def __init__(self, seed: int, *, careful: bool = False) -> None:
        self.careful = careful
        self.random = random.Random(seed)
        self.refs: tuple[str, ...] = ()

    def pick(self, choices: Any) -> Any:
        return self.random.choice(choices)

    def chance(self, probability: float) -> bool:
        return self.random.random() < probability

    # -- contexts and definitions ------------------------------------------------------------------------------------

    def context(self) -> Json:
        number = self.random.randrange
        context: Json = {
            "targetingKey": f"user-{number(10_000)}",
            "country": self.pick(("SE", "NO", "US", "FI" if self.careful else "")),
            "plan": self.pick(("free", "pro", "enterprise")),
            "email": f"user{number(50)}@{self.pick(('example.com', 'example.org', 'test.se'))}",
            "user": {
                "name": self.pick(("anna", "bo", "cy")),
                "tier": self.pick(("gold", "silver", "tin" if self.careful else None)),
            },
            "age": number(100),
            "score": number(400) / 4,
            "beta": self.chance(0.5),
            "version": self.pick((*VERSIONS, 1, 2, 1.5)),
            "tags": self.random.sample(("new", "old", "vip", "staff", "test"), number(5)),
            "numbers": [number(20) for _ in range(number(5))],
            "users": [{"age": number(60), "name": self.pick(("anna", "bo"))} for _ in range(number(4))],
        }
        for name in list(context):
            if self.chance(0.1):
                del context[name]
        return context

    def definitions(self, flags: int) -> Json:
        names = ("e0", "e1", "e2")
        evaluators = {}
        for index, name in enumerate(names):
            self.refs = names[index + 1 :]
            evaluators[name] = self.boolean(2)
        self.refs = names
        return {
            "flags": {f"flag-{index}": self.flag() for index in range(flags)},
            "$evaluators": evaluators,
            "metadata": {"flagSetId": "set", "version": "3"},
        }

    def flag(self) -> Json:
        flag: Json = {
            "state": "DISABLED" if self.chance(0.03) else "ENABLED",
            "variants": VARIANTS,
            "defaultVariant": self.pick(("a", "b", "c", None)),
        }
        if self.chance(0.95):
            flag["targeting"] = self.outcome(3, whole=True)
        return flag

    # -- rules -------------------------------------------------------------------------------------------------------

    def outcome(self, depth: int, *, whole: bool = False) -> Any:
        """What names a variant; ``whole``, an operation for certain."""
        kind = self.random.random()
        if depth == 0 or (kind < 0.25 and not whole):
            return self.pick(("a", "b", "c", None, True, False, "unknown"))
        if kind < 0.6:
            rule: list[Any] = []
            for _ in range(self.pick((1, 2, 3))):
                rule += [self.boolean(depth - 1), self.outcome(depth - 1)]
            return {"if": [*rule, self.outcome(depth - 1)] if self.chance(0.8) else rule}
        if kind < 0.9:
            return {"fractional": self.shares(depth)}
        if kind < 0.95:
            return self.boolean(depth - 1, whole=True)
        return {"var": ["colour", self.pick(("a", "b"))]}

    def shares(self, depth: int) -> list[Any]:
        count = self.pick((1, 2, 2, 3, 5))
        entries: list[Any] = []
        for _ in range(count):
            variant = self.pick(("a", "b", "c", None)) if self.chance(0.85) else self.outcome(depth - 1)
            weight = self.pick((0, 1, 5, 25, 50, 100, -3)) if self.chance(0.85) else self.weight()
            entries.append([variant, weight] if self.chance(0.9) else [variant])
        if self.chance(0.5):
            return entries
        return [self.key(), *entries]

    def weight(self) -> Any:
        age = {"var": ["age", 7]}
        return self.pick((age, {"-": [age, 20]}, {"if": [self.boolean(1), 40, 10]}, {"min": [age, 30]}))

    def key(self) -> Any:
        if self.chance(0.5):
            return {"cat": [{"var": "$flagd.flagKey"}, {"var": [self.pick(TEXTS), "none"]}]}
        return self.pick(({"var": "email"}, {"var": "targetingKey"}, {"var": "absent"}, "fixed", ""))

    def boolean(self, depth: int, *, whole: bool = False) -> Any:
        if depth <= 0 and not whole and self.chance(0.2):
            return self.chance(0.5)
        leaves: list[Callable[[], Any]] = [
            lambda: {self.pick(("==", "!=", "===", "!==")): [self.text(depth - 1), self.pick(("SE", "pro", "anna"))]},
            lambda: {self.pick(("==", "!=", "===", "!==")): [self.number(depth - 1), self.second(depth)]},
            lambda: {self.pick(("<", "<=", ">", ">=")): [self.number(depth - 1), self.second(depth)]},
            lambda: {self.pick(("<", "<=")): [self.number(0), self.second(depth), self.number(0)]},
            lambda: {"in": [self.text(depth - 1), self.random.sample(("SE", "NO", "pro", "free", "bo"), 3)]},
            lambda: {"in": [self.pick(("@example", "o", "vip")), {"var": self.pick(("email", "tags", "country"))}]},
            lambda: {self.pick(("starts_with", "ends_with")): [{"var": self.pick(TEXTS)}, self.pick(("us", ".com"))]},
            lambda: {"sem_ver": [{"var": "version"}, self.pick(("=", "!=", "<", "<=", ">", ">=", "^", "~")), "1.2.0"]},
            lambda: {"!!": {"var": self.pick(("beta", "country", "tags", "absent", "age", "user"))}},
            lambda: {"!": {"missing": self.random.sample(TEXTS, 2)}},
            lambda: {"!": {"missing_some": [1, self.random.sample(TEXTS, 3)]}},
            lambda: {self.pick(("some", "all", "none")): [self.items("tags"), {"in": [{"var": ""}, ["vip", "staff"]]}]},
            lambda: {self.pick(("some", "all", "none")): [self.items("users"), {">": [{"var": "age"}, 18]}]},
            *([lambda: {"$ref": self.pick(self.refs)}] if self.refs and not whole else []),
        ]
        if depth > 0 and self.chance(0.45):
            inner = [self.boolean(depth - 1) for _ in range(self.pick((1, 2, 3)))]
            return self.pick(({"and": inner}, {"or": inner}, {"!": inner[:1]}, {"if": [inner[0], True, inner[-1]]}))
        return self.pick(leaves)()

    def text(self, depth: int) -> Any:
        kind = self.random.random()
        if depth <= 0 or kind < 0.5:
            return {"var": self.pick(TEXTS)}
        if kind < 0.7:
            return {"cat": [{"var": [self.pick(TEXTS), "?"]}, self.pick(("", "-", "x"))]}
        if kind < 0.9:
            return {"substr": [{"var": ["email", "nobody"]}, self.pick((0, 2, -3)), self.pick((2, 4, -2))]}
        return {"if": [self.boolean(depth - 1), "SE", {"var": "plan"}]}

    def items(self, name: str) -> Any:
        return {"var": [name, []]} if self.careful else {"var": name}

    def second(self, depth: int) -> Any:
        """The second operand of a comparison."""
        return self.number(0 if self.careful else depth - 1)

    def number(self, depth: int) -> Any:
        kind = self.random.random()
        if depth <= 0 or kind < 0.4:
            return self.pick((0, 1, 18, 25, 50, {"var": ["age", 7]}, {"var": ["score", 2.5]}))
        if kind < 0.6:
            return {self.pick(("+", "*", "max", "min")): [self.number(depth - 1), self.number(depth - 1)]}
        if kind < 0.8:
            return {"-": [self.number(depth - 1), self.number(depth - 1)]}
        if kind < 0.9:
            return {self.pick(("%", "/")): [{"var": ["age", 7]}, self.pick((2, 4, 8))]}
        total = {"+": [{"var": "accumulator"}, {"var": "current"}]}
        return {"reduce": [{"filter": [{"var": "numbers"}, {">": [{"var": ""}, 3]}]}, total, 0]}
