"""JsonLogic to Python: a rule as the source of an expression, and the constants that it names.

As core.compile does for native flags: the source depends on a rule's shape only, every key, name and number of a
document comes in as an argument of the enclosing function, never as text; rules of one shape share one code object.
Long and deep parts become functions of their own, so that no rule is too large for Python's compiler.
Called by flagd_compile, which writes the function around it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from flagkit.core.logic import Now
from flagkit.dialects import flagd_comparisons, flagd_shares
from flagkit.dialects.flagd_fractional import Hashing
from flagkit.dialects.flagd_operations import sem_ver_test
from flagkit.dialects.flagd_rules import FRACTIONAL, is_constant, operation
from flagkit.dialects.flagd_writing import Writing
from flagkit.dialects.javascript import joined, truthy

_DEEP: Final = 10  # operations in one expression; what is below becomes a function
_LONG: Final = 3  # conditions in one expression
#: Operations whose values Python takes for true exactly when JsonLogic does: true, false, null, a text, a list.
_AS_PYTHON: Final = flagd_comparisons.COMPARED | {
    *("!", "!!", "all", "cat", "ends_with", "filter", "in", "map", "merge", "missing", "missing_some", "none"),
    *("sem_ver", "some", "starts_with", "substr"),
}
_FLAG_KEY: Final = ({"var": "$flagd.flagKey"}, {"var": ["$flagd.flagKey"]})
_AT_ROOT: Final = "get, key, c, steps"
_IN_ITEM: Final = "data, steps"
#: Operations that are a function of two values, and of a list of them.
_BINARY: Final = {"%": "modulo", "/": "divide"}
_LISTED: Final = {"+": "add", "*": "multiply", "merge": "merge", "min": "least", "max": "greatest"}


class Expressions(Writing):
    """Writes the expressions of one flag's rule."""

    def __init__(self, flag_key: str, hashing: Hashing, now_ms: Now) -> None:
        super().__init__(flag_key, hashing)
        self._now = self.constant(now_ms)
        self._depth = 0

    # -- the two ways to ask -----------------------------------------------------------------------------------------

    def value(self, node: Any) -> str:
        """The expression of a node's value."""
        if is_constant(node):
            return self.constant(node)
        if isinstance(node, list):
            return self.listed(node)
        name, arguments = operation(node) or ("", [])
        if self._depth >= _DEEP or (name in ("if", "?:", "and", "or") and len(arguments) > 2 * _LONG):
            return self._apart(name, arguments)
        self._depth += 1
        try:
            return self._operation(name, arguments)
        finally:
            self._depth -= 1

    def test(self, node: Any) -> str:
        """An expression that Python takes for true exactly when JsonLogic takes the node's value for true."""
        if is_constant(node):
            return str(truthy(node))
        name, arguments = operation(node) or ("", [])
        if self._depth < _DEEP:
            self._depth += 1
            try:
                if name in ("!", "!!") and arguments:
                    return f"{'not ' * (name == '!')}({self.test(arguments[0])})"
                if name in ("and", "or") and arguments:
                    return "(" + f" {name} ".join(map(self.test, arguments)) + ")"
            finally:
                self._depth -= 1
        return self.value(node) if name in _AS_PYTHON else f"truthy({self.value(node)})"

    # -- operations --------------------------------------------------------------------------------------------------

    def _operation(self, name: str, arguments: list[Any]) -> str:
        if name in _LISTED:
            return f"{_LISTED[name]}({self.listed(arguments)})"
        if name in _BINARY:
            return f"{_BINARY[name]}({', '.join(map(self.value, arguments[:2]))})" if len(arguments) > 1 else "NAN"
        if name in flagd_comparisons.COMPARED:
            return flagd_comparisons.compared(self, name, arguments)
        return _WRITERS[name](self, arguments)

    def _affix(self, name: str, arguments: list[Any]) -> str:
        if len(arguments) != 2:
            return "None"
        value, affix = self.value(arguments[0]), self.value(arguments[1])
        if not isinstance(arguments[1], str):
            return f"{name}({value}, {affix})"
        x = self.name()
        method = "startswith" if name == "starts_with" else "endswith"
        return f"({x}.{method}({affix}) if type({x} := {value}) is str else {name}({x}, {affix}))"

    def _not(self, arguments: list[Any]) -> str:
        return f"(not {self.test(arguments[0])})" if arguments else "True"

    def _is(self, arguments: list[Any]) -> str:
        return f"(not not {self.test(arguments[0])})" if arguments else "False"

    def _if(self, arguments: list[Any]) -> str:
        parts = [
            f"{self.value(arguments[index + 1])} if {self.test(arguments[index])} else"
            for index in range(0, len(arguments) - 1, 2)
        ]
        last = self.value(arguments[-1]) if len(arguments) % 2 else "None"
        return "(" + " ".join([*parts, last]) + ")"

    def _and(self, arguments: list[Any]) -> str:
        return self._first(arguments, "not truthy")

    def _or(self, arguments: list[Any]) -> str:
        return self._first(arguments, "truthy")

    def _first(self, arguments: list[Any], is_it: str) -> str:
        if not arguments:
            return "None"
        *some, last = arguments
        parts = [f"{x} if {is_it}({x} := {self.value(node)}) else" for node in some if (x := self.name())]
        return "(" + " ".join([*parts, self.value(last)]) + ")"

    def _minus(self, arguments: list[Any]) -> str:
        if len(arguments) < 2:
            return f"negative({self.value(arguments[0])})" if arguments else "NAN"
        return f"subtract({self.value(arguments[0])}, {self.value(arguments[1])})"

    def _substr(self, arguments: list[Any]) -> str:
        given = [self.value(argument) for argument in arguments[:3]]
        given += [self.constant(0)] * (2 - len(given))
        return f"{'substr' if len(given) == 3 else 'rest'}({', '.join(given)})" if arguments else self.constant("")

    def _cat(self, arguments: list[Any]) -> str:
        known = [isinstance(each, str) or each in _FLAG_KEY for each in arguments]
        if self.in_item or sorted(known) != [False, True]:  # within an iteration its length must be looked at
            return f"cat({self.listed(arguments)})"
        # A seed and a unit, as a rule: the key of a fractional.
        one, other = map(self.value, arguments)
        x = self.name()
        both = f"{x} + {other}" if known[1] else f"{one} + {x}"
        parts = f"{x}, {other}" if known[1] else f"{one}, {x}"
        return f"({both} if type({x} := {one if known[1] else other}) is str else cat([{parts}]))"

    def _log(self, arguments: list[Any]) -> str:
        return self.value(arguments[0]) if arguments else "None"

    def _sem_ver(self, arguments: list[Any]) -> str:
        if len(arguments) != 3:
            return "None"
        value, compared, wanted = arguments
        if is_constant(compared) and is_constant(wanted):
            test = sem_ver_test(compared, wanted)
            return "None" if test is None else f"{self.constant(test)}({self.value(value)})"
        return f"sem_ver({', '.join(map(self.value, arguments))})"

    # -- data --------------------------------------------------------------------------------------------------------

    def _var(self, arguments: list[Any]) -> str:
        key = arguments[0] if arguments else None
        otherwise = self.value(arguments[1]) if len(arguments) > 1 else None
        if not is_constant(key):
            return f"variable({self._whole()}, {self.value(key)}, {otherwise})"
        path = joined(key)
        if not path:
            return self._whole()
        found = self._path(path.split("."))
        if otherwise is None:
            return found
        x = self.name()
        return f"({otherwise} if ({x} := {found}) is None else {x})"

    def _path(self, path: list[str]) -> str:
        first, *rest = path
        if self.in_item:
            found = f"pick(data, {self.constant(first)})"
        elif first == "targetingKey":
            self.asks_key = True
            found = f"(key.decode() if key is not None else get({self.constant(first)}))"
        elif first == "$flagd":
            if rest == ["flagKey"]:
                return self.constant(self.flag_key)
            if rest == ["timestamp"]:
                return f"({self._now}() // 1000)"
            found = f"about({self.constant(self.flag_key)}, {self._now})"
        else:
            self.asks_attributes = True
            found = f"get({self.constant(first)})"
        for part in rest:
            found = f"pick({found}, {self.constant(part)})"
        return found

    def _whole(self) -> str:
        if self.in_item:
            return "data"
        self.asks_key = True
        return f"whole(c, key, {self.constant(self.flag_key)}, {self._now})"

    def _missing(self, arguments: list[Any]) -> str:
        return f"missing({self._whole()}, {self.listed(arguments)})"

    def _missing_some(self, arguments: list[Any]) -> str:
        given = [self.value(argument) for argument in arguments[:2]] + ["None"] * (2 - len(arguments))
        return f"missing_some({self._whole()}, {', '.join(given)})"

    # -- functions of their own --------------------------------------------------------------------------------------

    def _apart(self, name: str, arguments: list[Any]) -> str:
        """A call of a function that does it, statement by statement if there is much to do."""
        depth, self._depth = self._depth, 0
        lines = []
        if name in ("if", "?:"):
            for index in range(0, len(arguments) - 1, 2):
                lines.append(f"if {self.test(arguments[index])}: return {self.value(arguments[index + 1])}")
            lines.append(f"return {self.value(arguments[-1]) if len(arguments) % 2 else 'None'}")
        elif name in ("and", "or"):
            lines.append("x = None")
            for argument in arguments:
                lines += [f"x = {self.value(argument)}", f"if {'not ' * (name == 'and')}truthy(x): return x"]
            lines.append("return x")
        else:
            lines.append(f"return {self._operation(name, arguments)}")
        self._depth = depth
        return f"{self._function(lines)}({_IN_ITEM if self.in_item else _AT_ROOT})"

    def _function(self, lines: list[str]) -> str:
        name = f"f{len(self.functions)}"
        self.asks_attributes |= not self.in_item  # all that it might need is handed in
        parameters = _IN_ITEM if self.in_item else _AT_ROOT
        self.functions.append("\n  ".join([f"def {name}({parameters}):", *lines]))
        return name

    def _iteration(self, does: str, arguments: list[Any]) -> str:
        self.iterates = True
        items = self.value(arguments[0]) if arguments else "None"
        outside, depth, self.in_item, self._depth = self.in_item, self._depth, True, 0
        body = self._function([f"return {self.value(arguments[1]) if len(arguments) > 1 else 'None'}"])
        self.in_item, self._depth = outside, depth
        if does == "reduced":
            first = self.value(arguments[2]) if len(arguments) > 2 else "None"
            return f"reduced({items}, {body}, {first}, steps)"
        return f"{does}({items}, {body}, steps)"


_Writer = Callable[[Expressions, list[Any]], str]
_WRITERS: Final[dict[str, _Writer]] = {
    "!": Expressions._not,
    "!!": Expressions._is,
    "-": Expressions._minus,
    "?:": Expressions._if,
    "all": lambda writer, arguments: writer._iteration("every", arguments),
    "and": Expressions._and,
    "filter": lambda writer, arguments: writer._iteration("kept", arguments),
    "cat": Expressions._cat,
    "ends_with": lambda writer, arguments: writer._affix("ends_with", arguments),
    FRACTIONAL: flagd_shares.fractional,
    "if": Expressions._if,
    "in": flagd_comparisons.contained_in,
    "log": Expressions._log,
    "map": lambda writer, arguments: writer._iteration("mapped", arguments),
    "missing": Expressions._missing,
    "missing_some": Expressions._missing_some,
    "none": lambda writer, arguments: f"(not {writer._iteration('some', arguments)})",
    "or": Expressions._or,
    "reduce": lambda writer, arguments: writer._iteration("reduced", arguments),
    "sem_ver": Expressions._sem_ver,
    "some": lambda writer, arguments: writer._iteration("some", arguments),
    "starts_with": lambda writer, arguments: writer._affix("starts_with", arguments),
    "substr": Expressions._substr,
    "var": Expressions._var,
}
