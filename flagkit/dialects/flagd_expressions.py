"""JsonLogic to Python: a rule as the source of an expression, and the constants that it names.

As core.compile does for native flags: the source depends on a rule's shape only, every key, name and number of a
document comes in as an argument of the enclosing function, never as text; rules of one shape share one code object.
Long and deep parts become functions of their own, so that no rule is too large for Python's compiler.
Called by flagd_compile, which writes the function around it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple

from flagkit.core.logic import Now
from flagkit.dialects import flagd_comparisons
from flagkit.dialects.flagd_fractional import Hashing, limits_of
from flagkit.dialects.flagd_operations import sem_ver_test
from flagkit.dialects.flagd_rules import FRACTIONAL, is_constant, operation
from flagkit.dialects.flagd_values import joined, truthy

_DEEP: Final = 10  # operations in one expression; what is below becomes a function
_LONG: Final = 3  # conditions in one expression
_SHARES: Final = 16  # in one expression
_TESTS: Final = frozenset(
    {"!", "!!", "==", "!=", "===", "!==", "<", "<=", ">", ">=", "in", "all", "some", "none"}
)  # whose value is true or false
_AT_ROOT: Final = "get, key, c, steps"
_IN_ITEM: Final = "data, steps"
#: Two arguments, or one, of a function of the same values.
_BINARY: Final = {"%": "modulo", "/": "divide", "starts_with": "starts_with", "ends_with": "ends_with"}
_LISTED: Final = {"+": "add", "*": "multiply", "cat": "cat", "merge": "merge", "min": "least", "max": "greatest"}


class Shares(NamedTuple):
    """A ``fractional`` whose shares are known: ``bounds`` of the hash, and what is at each.

    key: the expression of the hash, or of None when there is no key.
    """

    key: str
    bounds: list[int]
    values: list[Any]


class Expressions:
    """Writes the expressions of one flag's rule.

    Attributes: constants, in the order of their names k0, k1 ...; functions, sources of those that stand beside;
    iterates, whether steps are counted; asks_key, whether the targeting key is read; in_item, whether what is being
    written is the body of an iteration, whose data are the item and nothing else.
    """

    def __init__(self, flag_key: str, hashing: Hashing, now_ms: Now) -> None:
        self.constants: list[Any] = []
        self.functions: list[str] = []
        self.iterates = False
        self.asks_key = False
        self.in_item = False
        self._flag_key = flag_key
        self._hashing = hashing
        self._now = self.constant(now_ms)
        self._names = 0
        self._depth = 0

    def constant(self, value: Any) -> str:
        self.constants.append(value)
        return f"k{len(self.constants) - 1}"

    def name(self) -> str:
        self._names += 1
        return f"x{self._names}"

    # -- the three ways to ask ---------------------------------------------------------------------------------------

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
        return self.value(node) if name in _TESTS else f"truthy({self.value(node)})"

    def listed(self, nodes: list[Any]) -> str:
        """The expression of a list of the nodes' values."""
        return "[" + ", ".join(map(self.value, nodes)) + "]"

    # -- operations --------------------------------------------------------------------------------------------------

    def _operation(self, name: str, arguments: list[Any]) -> str:
        if name in _LISTED:
            return f"{_LISTED[name]}({self.listed(arguments)})"
        if name in _BINARY:
            return self._binary(name, arguments)
        if name in flagd_comparisons.COMPARED:
            return flagd_comparisons.compared(self, name, arguments)
        return _WRITERS[name](self, arguments)

    def _binary(self, name: str, arguments: list[Any]) -> str:
        if name in ("starts_with", "ends_with"):
            return self._affix(name, arguments) if len(arguments) == 2 else "None"
        if len(arguments) < 2:
            return "NAN"
        return f"{_BINARY[name]}({self.value(arguments[0])}, {self.value(arguments[1])})"

    def _affix(self, name: str, arguments: list[Any]) -> str:
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
                return self.constant(self._flag_key)
            if rest == ["timestamp"]:
                return f"({self._now}() // 1000)"
            found = f"about({self.constant(self._flag_key)}, {self._now})"
        else:
            found = f"get({self.constant(first)})"
        for part in rest:
            found = f"pick({found}, {self.constant(part)})"
        return found

    def _whole(self) -> str:
        if self.in_item:
            return "data"
        self.asks_key = True
        return f"whole(c, key, {self.constant(self._flag_key)}, {self._now})"

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

    # -- fractional --------------------------------------------------------------------------------------------------

    def _fractional(self, arguments: list[Any]) -> str:
        shares = self.shares(arguments)
        if shares is not None:
            x = self.name()
            chosen = self.chosen(shares, list(map(self.constant, shares.values)), x)
            return f"({chosen} if ({x} := {shares.key}) is not None else None)"
        if not arguments:
            return "None"
        key, entries = self.split_key(arguments)
        return f"share({self.hash_of(key)}, {self.listed(entries)})"

    def split_key(self, arguments: list[Any]) -> tuple[list[Any] | None, list[Any]]:
        """What is hashed, as a list of one (None: the unit), and the entries."""
        first, *entries = arguments
        return (None, arguments) if isinstance(first, list) else ([first], entries)

    def shares(self, arguments: list[Any]) -> Shares | None:
        """The shares when they are constants and valid; else None."""
        if not arguments:
            return None
        key, entries = self.split_key(arguments)
        if not entries or not all(isinstance(e, list) and 0 < len(e) <= 2 and is_constant(e) for e in entries):
            return None
        if not all(entry[0] is None or isinstance(entry[0], (str, int, float)) for entry in entries):
            return None
        bounds = limits_of([entry[1] if len(entry) == 2 else 1 for entry in entries])
        if bounds is None:
            return None
        return Shares(self.hash_of(key), bounds, [entry[0] for entry in entries])

    def hash_of(self, key: list[Any] | None) -> str:
        """The expression of the hash of what ``key`` comes to, or of None when there is nothing to hash."""
        hashing = self._hashing
        if key is None:
            if self.in_item:
                return "None"
            self.asks_key = True
            prefix = self.constant(hashing.prefix(self._flag_key.encode()))
            unit = "key" if hashing.of_unit is None else f"{self.constant(hashing.of_unit)}(key)"
            return f"(digest({prefix} + {unit}) if key else None)"
        if is_constant(key[0]):
            return self.constant(hashing.of_value(key[0]))
        of_text = "{}" if hashing.of_text is None else f"{self.constant(hashing.of_text)}({{}})"
        if not self.in_item and key[0] in ({"var": "targetingKey"}, {"var": ["targetingKey"]}):
            self.asks_key = True
            of_value = f"{self.constant(hashing.of_value)}(get({self.constant('targetingKey')}))"
            return f"(digest({of_text.format('key')}) if key is not None else {of_value})"
        x = self.name()
        encoded = of_text.format(f"encode({x})")
        of_value = self.constant(hashing.of_value)
        return f"(digest({encoded}) if type({x} := {self.value(key[0])}) is str else {of_value}({x}))"

    def chosen(self, shares: Shares, values: list[str], found: str) -> str:
        """The expression that picks one of ``values`` by the hash in ``found``."""
        if len(values) > _SHARES:
            return f"[{', '.join(values)}][bisect({self.constant(shares.bounds)}, {found})]"
        low = 0
        parts: list[str] = []
        for value, bound in zip(values, shares.bounds, strict=True):
            if bound == 1 << 32:
                return "(" + " ".join([*parts, value]) + ")"
            if bound > low:
                parts.append(f"{value} if {found} < {self.constant(bound)} else")
            low = bound
        raise AssertionError("the last bound is 2**32")


_Writer = Callable[[Expressions, list[Any]], str]
_WRITERS: Final[dict[str, _Writer]] = {
    "!": Expressions._not,
    "!!": Expressions._is,
    "-": Expressions._minus,
    "?:": Expressions._if,
    "all": lambda writer, arguments: writer._iteration("every", arguments),
    "and": Expressions._and,
    "filter": lambda writer, arguments: writer._iteration("kept", arguments),
    FRACTIONAL: Expressions._fractional,
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
    "substr": Expressions._substr,
    "var": Expressions._var,
}
