"""One flagd flag as a function: its targeting rule, statement by statement, down to decisions made beforehand.

What stands at the end of a rule (the branches of its ``if``, the shares of its ``fractional``) returns decisions; all
else is an expression of ``flagd_expressions``. A decision's rule is where in the targeting it stands, such as
``if[1].fractional``. Called by the engine through ``FlagDefinition.logic``, at the flag's first question.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

from flagkit.context import MAX_UNIT_BYTES, Context
from flagkit.core.code import indented, maker
from flagkit.core.logic import Answers, Decide, Logic, Now
from flagkit.decision import Decision, ErrorCode, Reason
from flagkit.dialects import flagd_operations, javascript
from flagkit.dialects.flagd_expressions import Expressions
from flagkit.dialects.flagd_fractional import Hashing, digest, share, share_of
from flagkit.dialects.flagd_rules import FRACTIONAL, is_constant, operation, steady
from flagkit.dialects.flagd_shares import Shares, chosen, hash_of, split_key
from flagkit.dialects.flagd_shares import shares as shares_in
from flagkit.dialects.javascript import plain, text, truthy

_STEPS: Final = 10_000  # of all iterations of one evaluation
_SHARED: Final = 20_000  # characters of source, up to which its code is kept for other flags of the same shape
_MAX_RULE: Final = 128  # characters of a rule's name
_TARGETING_KEY: Final = "targetingKey"


class Flag(NamedTuple):
    """What a flag is decided by.

    default: None when there is none, and the caller's applies. on: the variants that count as enabled.
    targeting: the rule, with what it refers to put in; None without one.
    """

    key: str
    disabled: bool
    variants: Mapping[str, Any]
    default: str | None
    on: frozenset[str]
    targeting: Any
    hashing: Hashing


def logic_of(flag: Flag) -> Logic:
    """The flag as the engine asks for it."""
    return lambda answers, now_ms: _Writer(flag, answers, now_ms).function()


def variant_named(value: Any) -> str | None:
    """The variant that a rule's value names, if it has one of that name; None when it can name none."""
    value = plain(value)
    if isinstance(value, (str, int, float)):
        return value if isinstance(value, str) else text(value)
    return None


class _Writer:
    """Writes the function of one flag."""

    def __init__(self, flag: Flag, answers: Answers, now_ms: Now) -> None:
        self.flag = flag
        self.answers = answers
        self.write = Expressions(flag.key, flag.hashing, now_ms)
        self.lines: list[str] = []
        self.general = answers.fail(ErrorCode.GENERAL)
        self.otherwise: Decision | None = None
        self.settle: str | None = None

    def function(self) -> Decide:
        self._body()
        return assembled(self.write, self.lines, self.answers.fail(ErrorCode.INVALID_CONTEXT))

    def _body(self) -> None:
        flag = self.flag
        if flag.disabled:
            self.lines.append(f"return {self.write.constant(self.answers.otherwise(Reason.DISABLED))}")
        elif flag.targeting is None:
            self.lines.append(f"return {self.write.constant(self._default(Reason.STATIC))}")
        else:
            self._end(flag.targeting, "", "", placed=False)

    # -- statements --------------------------------------------------------------------------------------------------

    def _end(self, node: Any, at: str, indent: str, *, placed: bool) -> None:
        """Statements that return what ``node``, at the end of the rule, comes to.

        at: where it stands. placed: a share of units placed the unit there, and nothing since has told units apart.
        """
        found = operation(node)
        if found is not None and found[0] in ("if", "?:"):
            self._if(found[1], f"{at}{found[0]}", indent)
        elif found is not None and found[0] == FRACTIONAL and found[1]:
            self._fractional(found[1], f"{at}{FRACTIONAL}", indent)
        elif is_constant(node):
            self._return(self.decision(node, at, placed=placed), indent)
        else:
            self.lines.append(f"{indent}return {self._settle()}({self.write.value(node)})")

    def _if(self, arguments: list[Any], at: str, indent: str) -> None:
        if self._if_placed(arguments, at, indent):
            return
        for index in range(0, len(arguments) - 1, 2):
            self.lines.append(f"{indent}if {self.write.test(arguments[index])}:")
            self._end(arguments[index + 1], f"{at}[{index + 1}].", f"{indent} ", placed=False)
        last = len(arguments) - 1
        self._end(arguments[last] if len(arguments) % 2 else None, f"{at}[{last}].", indent, placed=False)

    def _if_placed(self, arguments: list[Any], at: str, indent: str) -> bool:
        """Write an ``if`` whose only condition is a share of units: both its branches are then comparable."""
        found = operation(arguments[0]) if 2 <= len(arguments) <= 3 else None
        shares = shares_in(self.write, found[1]) if found is not None and found[0] == FRACTIONAL else None
        branches = [*arguments[1:], None][:2]
        if shares is None or not all(map(is_constant, branches)):
            return False
        x = self.write.name()
        picked = chosen(self.write, shares, [str(truthy(value)) for value in shares.values], x)
        self.lines.append(f"{indent}if ({x} := {shares.key}) is None:")
        self._end(branches[1], f"{at}[2].", f"{indent} ", placed=False)
        self.lines.append(f"{indent}if {picked}:")
        self._end(branches[0], f"{at}[1].", f"{indent} ", placed=True)
        self._end(branches[1], f"{at}[2].", indent, placed=True)
        return True

    def _fractional(self, arguments: list[Any], at: str, indent: str) -> None:
        write, x = self.write, self.write.name()
        shares = shares_in(write, arguments)
        if shares is not None:
            self._share(shares, at, indent)
            return
        key, entries = split_key(arguments)
        if not all(map(_names_variant, entries)):
            self.lines.append(f"{indent}return {self._settle()}({write.value({FRACTIONAL: arguments})})")
            return
        # The variants are known, and how much each weighs will be: a ramp, as a rule.
        weights = [entry[1] if len(entry) == 2 else 1 for entry in entries]
        placed = all(map(steady, weights))
        made = write.constant([self.decision(entry[0], f"{at}.", placed=placed) for entry in entries])
        none = self.decision(None, at, placed=False)
        self.lines += [
            f"{indent}{x} = {hash_of(write, key)}",
            f"{indent}if {x} is not None: {x} = share_of({x}, {write.listed(weights)})",
            f"{indent}return {write.constant(none)} if {x} is None else {made}[{x}]",
        ]

    def _share(self, shares: Shares, at: str, indent: str) -> None:
        x = self.write.name()
        none = self.decision(None, at, placed=False)
        made = [self.write.constant(self.decision(value, f"{at}.", placed=True)) for value in shares.values]
        self.lines += [
            f"{indent}{x} = {shares.key}",
            f"{indent}if {x} is None: return {self.write.constant(none)}",
            f"{indent}return {chosen(self.write, shares, made, x)}",
        ]

    def _return(self, decision: Decision, indent: str) -> None:
        self.lines.append(f"{indent}return {self.write.constant(decision)}")

    # -- decisions ---------------------------------------------------------------------------------------------------

    def decision(self, value: Any, at: str, *, placed: bool) -> Decision:
        """What a rule that comes to ``value`` decides."""
        rule = at.rstrip(".")[-_MAX_RULE:] or None
        if value is None:
            return self._default(Reason.DEFAULT, rule if placed else None, placed=placed)
        return self._serve(variant_named(value), rule, placed=placed)

    def _serve(self, variant: str | None, rule: str | None, *, placed: bool) -> Decision:
        if variant is None or variant not in self.flag.variants:
            return self.general
        enabled = variant in self.flag.on
        return self.answers.serve(variant, Reason.TARGETING_MATCH, rule, placed, enabled=enabled)

    def _default(self, reason: Reason, rule: str | None = None, *, placed: bool = False) -> Decision:
        default = self.flag.default
        if default is not None:
            return self.answers.serve(default, reason, rule, placed, enabled=default in self.flag.on)
        if self.otherwise is None:
            self.otherwise = self.answers.otherwise(Reason.DEFAULT)
        return self.otherwise

    def _settle(self) -> str:
        """The name of the function that takes a rule's value for a decision; one a flag, whatever part it stands in."""
        if self.settle is None:
            made = {name: self._serve(name, None, placed=False) for name in self.flag.variants}
            self.settle = self.write.constant(_settling(made, self._default(Reason.DEFAULT), self.general))
        return self.settle


def _names_variant(entry: Any) -> bool:
    """Whether an entry of a ``fractional`` has a form that is sound, and a variant that is known."""
    sound = isinstance(entry, list) and 0 < len(entry) <= 2
    return sound and not isinstance(entry[0], (list, dict))


def _settling(made: Mapping[str, Decision], default: Decision, general: Decision) -> Callable[[Any], Decision]:
    def settled(value: Any) -> Decision:
        if value is None:
            return default
        name = value if type(value) is str else variant_named(value)
        return general if name is None else made.get(name, general)

    return settled


def assembled(write: Expressions, lines: list[str], invalid: Any) -> Decide:
    """The function of ``lines``, written by ``write``; of an invalid context it returns ``invalid``."""
    given = write.constant(invalid)
    of_dict = ["key = encode(c[unit])", f"if not key or len(key) > longest: return {given}"]
    of_context = ["key = c._key", f"if key is False: return {given}"]
    if write.asks_key or write.asks_attributes:
        of_dict.append("get = c.get")
        of_context.append("get = c.attributes.get")
    head = ["if type(c) is dict:", *indented(of_dict), "else:", *indented(of_context)]
    if write.asks_key:
        head.append("if key is None: key = stand_in(get)")
    if write.iterates or write.functions:
        head.append(f"steps = [{_STEPS}]" if write.iterates else "steps = None")
    names = ", ".join(f"k{index}" for index in range(len(write.constants)))
    body = "\n  ".join(head + lines)
    beside = "".join(f" {source}\n" for source in write.functions)
    source = f"def make({names}):\n{beside} def decide(c, forced, parents):\n  {body}\n return decide"
    maker = _maker if len(source) <= _SHARED else _maker.__wrapped__
    decide: Decide = maker(source)(*write.constants)
    return decide


# -- what the functions call -----------------------------------------------------------------------------------------


def stand_in(get: Callable[[str], Any]) -> bytes | None:
    """The targeting key's UTF-8, of a context that has it among its attributes only; None without a usable one."""
    return Context(plain(get(_TARGETING_KEY)))._key or None


def about(flag_key: str, now_ms: Now) -> dict[str, Any]:
    """``$flagd``."""
    return {"flagKey": flag_key, "timestamp": now_ms() // 1000}


def whole(context: Context | dict[str, Any], key: bytes | None, flag_key: str, now_ms: Now) -> dict[str, Any]:
    """All that a rule can see, in one object."""
    data = dict(context if isinstance(context, dict) else context.attributes)
    if isinstance(context, dict):
        del data["unit"]
    if key is not None:
        data[_TARGETING_KEY] = key.decode()
    data["$flagd"] = about(flag_key, now_ms)
    return data


_CALLED: Final = {
    "NAN": javascript.NAN,
    "about": about,
    "bisect": bisect_right,
    "dict": dict,
    "digest": digest,
    "encode": str.encode,
    "int": int,
    "len": len,
    "longest": MAX_UNIT_BYTES,
    "share": share,
    "share_of": share_of,
    "stand_in": stand_in,
    "str": str,
    "type": type,
    "unit": "unit",
    "whole": whole,
    **{
        name: getattr(flagd_operations, name)
        for name in (
            *("add", "cat", "divide", "ends_with", "every", "greatest", "kept", "least", "mapped", "merge", "missing"),
            *("missing_some", "modulo", "multiply", "negative", "pick", "reduced", "rest", "sem_ver", "some"),
            *("starts_with", "substr", "subtract", "variable", "within", "within_charged"),
        )
    },
    **{name: getattr(javascript, name) for name in ("loose", "precedes", "precedes_or_equals", "strict", "truthy")},
}


_maker: Final = maker(_CALLED)
