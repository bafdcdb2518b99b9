"""Flags to functions: everything that can be settled when definitions are loaded is settled here.

A flag becomes one Python function of generated source. The source depends on the flag's shape only (how many rules,
which operators); every key, name, value, salt and bound from a document comes in as an argument of the enclosing
function, never as text. Flags of one shape therefore share one code object, and no document can write code. Decisions
are made here, one for each possible outcome. Called by ``Snapshot``, lazily, flag by flag.
"""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Callable, Mapping
from typing import Any, Final

from flagkit.context import MAX_UNIT_BYTES, SETTINGS, Context, as_context
from flagkit.core import bucketing
from flagkit.core.code import indented, maker
from flagkit.core.conditions import Conditions, key_reader
from flagkit.core.logic import ITS_OWN, Decide
from flagkit.core.model import UNIT, Comparison, Condition, Definitions, FlagDefinition, InSegment, Path, Rule
from flagkit.core.operators import OPERATORS
from flagkit.decision import Decision, ErrorCode, Reason

_UNDECIDING: Final = ("client", "description", "early_access", "expires", "guard", "overridable", "owner", "version")
_LONG_SPLIT: Final = 16
_SPECIAL: Final = SETTINGS.union(UNIT)
_BUILTINS: Final = {
    "bisect": bisect_right,
    "type": type,
    "str": str,
    "len": len,
    "digest": bucketing.digest,
    "dict": dict,
    "encode": str.encode,
    "unit": "unit",
    "longest": MAX_UNIT_BYTES,
    "as_context": as_context,
}


def version_of(flag: FlagDefinition) -> str:
    """The flag's version: its own, else 12 hex digits of what decides, whatever the order and spacing of its fields."""
    if flag.version is not None or not flag.text:
        return flag.version or "0"
    from hashlib import blake2b  # loads OpenSSL: not at import

    (fields,) = json.loads("{" + flag.text + "}").values()
    deciding = {name: value for name, value in fields.items() if name not in _UNDECIDING}
    return blake2b(json.dumps(deciding, sort_keys=True, separators=(",", ":")).encode(), digest_size=6).hexdigest()


class Outcomes:
    """The decisions one flag can come to, each made once. ``observe``: whether exposures to them may be recorded."""

    __slots__ = ("_flag", "_observe", "made", "version")

    def __init__(self, flag: FlagDefinition, observe: bool) -> None:
        self._flag = flag
        self._observe = observe
        self.version = version_of(flag)
        self.made: dict[tuple[Any, ...], Decision] = {}

    def serve(
        self,
        variant: str,
        reason: Reason,
        rule: str | None = None,
        analysable: bool = False,
        *,
        enabled: bool | None = None,
        value: Any = ITS_OWN,
        named: str | None = None,
    ) -> Decision:
        outcome = (variant, reason, rule, analysable, enabled)
        decision = self.made.get(outcome)
        if decision is None:
            decision = self.made[outcome] = self._new(
                variant, reason, rule, variant, analysable, enabled, value=value, named=named
            )
        return decision

    def otherwise(self, reason: Reason) -> Decision:
        return Decision(self._flag.key, None, None, reason, version=self.version)

    def fail(self, code: ErrorCode, rule: str | None = None) -> Decision:
        return failed(self._flag.key, code, rule)

    def tripped(self, instead_of: Decision, control: str) -> Decision:
        """The control, for units that were assigned a variant whose guard has tripped."""
        return self._new(control, Reason.GUARD, instead_of.rule, instead_of.assigned, False, instead_of=instead_of)

    def _new(
        self,
        variant: str,
        reason: Reason,
        rule: str | None,
        assigned: str | None,
        analysable: bool,
        enabled: bool | None = None,
        instead_of: Decision | None = None,
        value: Any = ITS_OWN,
        named: str | None = None,
    ) -> Decision:
        flag = self._flag
        return Decision(
            flag.key,
            variant if named is None else named,
            flag.variants[variant] if value is ITS_OWN else value,
            reason,
            arm=variant,
            enabled=variant != flag.off if enabled is None else enabled,
            control=flag.guard is not None and variant == flag.guard.control,
            rule=rule,
            assigned=assigned,
            analysable=analysable,
            version=self.version,
            exposed=set() if self._observe and reason is not Reason.OVERRIDE else None,
            instead_of=instead_of,
            telemetry=flag.telemetry,
        )


def failed(flag: str, code: ErrorCode, rule: str | None = None) -> Decision:
    """An answer that is none: the caller's default applies."""
    return Decision(flag, None, None, Reason.ERROR, error_code=code, rule=rule)


def compile_flag(
    flag: FlagDefinition,
    definitions: Definitions,
    conditions: Conditions,
    *,
    observe: bool,
    stale: bool,
    tripped: Mapping[str, str],
) -> Decide:
    """One flag as a function.

    Args: stale, the definitions are older than this flag bears; tripped, variant whose guard has tripped -> control.
    """
    outcomes = Outcomes(flag, observe)
    if flag.logic is not None and flag.enabled and not stale:
        decide = flag.logic(outcomes, conditions.now_ms)
    else:
        decide = _Writer(flag, definitions, conditions, outcomes, stale).function()
    if not tripped:
        return decide
    instead = {
        made: outcomes.tripped(made, control)
        for made in outcomes.made.values()
        if (control := tripped.get(made._arm or "")) is not None
    }
    return lambda context, forced, parents: instead.get(answer := decide(context, forced, parents), answer)


class _Writer:
    """Writes the function of one flag: lines of source, and the constants they name."""

    def __init__(
        self, flag: FlagDefinition, definitions: Definitions, conditions: Conditions, outcomes: Outcomes, stale: bool
    ) -> None:
        self.flag = flag
        self.definitions = definitions
        self.conditions = conditions
        self.outcomes = outcomes
        self.stale = stale
        self.lines: list[str] = []
        self.constants: list[Any] = []
        self.reads_attributes = False
        self.needs_context = False  # whether what is called in a line takes the whole of it
        self.default = ""  # the name of the decision when nothing matched
        self.has_rollout = any(rule.rollout for rule in flag.rules)
        self.left_out = False  # whether a rollout stands before the line being written

    def function(self) -> Decide:
        self._body()
        invalid = self.constant(failed(self.flag.key, ErrorCode.INVALID_CONTEXT))
        of_context = ["key = c._key", f"if key is False: return {invalid}"]
        of_dict = ["key = encode(c[unit])", f"if not key or len(key) > longest: return {invalid}"]
        if self.reads_attributes:
            of_context.append("get = c.attributes.get")
            of_dict.append("get = c.get")
        if self.needs_context:
            head = ["if type(c) is dict: c = as_context(c)", *of_context]
        else:
            head = ["if type(c) is dict:", *indented(of_dict), "else:", *indented(of_context)]
        names = ", ".join(f"k{index}" for index in range(len(self.constants)))
        body = "\n  ".join(head + self.lines)
        source = f"def make({names}):\n def decide(c, forced, parents):\n  {body}\n return decide"
        decide: Decide = _maker(source)(*self.constants)
        return decide

    def constant(self, value: Any) -> str:
        self.constants.append(value)
        return f"k{len(self.constants) - 1}"

    def _body(self) -> None:
        flag, serve = self.flag, self.outcomes.serve
        if not flag.enabled or self.stale:
            reason = Reason.STALE if flag.enabled else Reason.DISABLED
            self.lines.append(f"return {self.constant(serve(flag.off, reason))}")
            return
        for parent in flag.prerequisites:
            asked, wanted = self.constant(parent.flag), self.constant(frozenset(parent.variants))
            unmet = self.constant(serve(flag.off, Reason.PREREQUISITE_FAILED))
            self.lines.append(f"if parents.decide({asked}, c, forced).variant not in {wanted}: return {unmet}")
        if flag.exclude:
            excluded = self._asked(self.conditions.any_of(flag.exclude, flag.key))
            self.lines.append(f"if {excluded} is not False: return {self.constant(serve(flag.off, Reason.EXCLUDED))}")
        if flag.targets:
            served = {unit: serve(variant, Reason.TARGETING_MATCH) for unit, variant in flag.targets.items()}
            self.lines.append(f"if (found := {self.constant(served.get)}(key)) is not None: return found")
        held_out = [holdout for holdout in self.definitions.holdouts if holdout.applies_to(flag)]
        static = not (flag.prerequisites or flag.exclude or flag.targets or flag.rules or held_out)
        self.default = self.constant(serve(flag.default, Reason.STATIC if static else Reason.DEFAULT))
        if self.has_rollout:
            self.lines.append(f"out = {self.default}")
        for rule in flag.rules:
            if rule.is_enrolment:
                self._rule(rule)
        for holdout in held_out:
            salt = self.constant(bucketing.prefix(holdout.salt))
            limit = self.constant(bucketing.hash_limit(holdout.threshold))
            held = self.constant(serve(flag.off, Reason.HOLDOUT))
            self.lines.append(f"if key is not None and digest({salt} + key) < {limit}: return {held}")
        for rule in flag.rules:
            if not rule.is_enrolment:
                self._rule(rule)
        self.lines.append("return out" if self.has_rollout else f"return {self.default}")

    def _rule(self, rule: Rule) -> None:
        tests = [self._test(condition) for condition in rule.when]
        if rule.by is None:
            served = self.constant(self.outcomes.serve(str(rule.serve), Reason.TARGETING_MATCH, rule.name))
            self.lines.append(f"if {' and '.join(tests) or 'True'}: return {served}")
            return
        present, unit = self._unit(rule.by, "u")
        self.lines.append(f"if {' and '.join([present, *tests, *self._slot()])}:")
        salt = self.constant(bucketing.prefix(self.flag.salt))
        if rule.rollout is None:
            self._serve(rule, salt, unit, "  ")
            return
        limit = (
            f"{self.constant(self.conditions.step_limit(rule.rollout.steps))}()"
            if rule.rollout.steps
            else self.constant(bucketing.hash_limit(rule.rollout.threshold))
        )
        self.lines.append(f"  if digest({salt} + {unit}) < {limit}:")
        self._serve(rule, salt, unit, "    ")
        # Left out: the default, if it comes to that, is then this rule's control. The first such rule keeps the unit.
        out = self.constant(self.outcomes.serve(self.flag.default, Reason.SPLIT, rule.name, analysable=True))
        self.lines.append(f"  if out is {self.default}: out = {out}" if self.left_out else f"  out = {out}")
        self.left_out = True

    def _serve(self, rule: Rule, salt: str, unit: str, indent: str) -> None:
        """Return what a rule serves to the units it placed; comparable unless an earlier rollout had left them out."""
        if rule.split:
            self.lines.append(f"{indent}h = digest({salt} + {unit}, {bucketing.SPLIT_SEED})")
        if self.left_out:
            self.lines.append(f"{indent}if out is not {self.default}: return {self._choice(rule, analysable=False)}")
        self.lines.append(f"{indent}return {self._choice(rule, analysable=True)}")

    def _choice(self, rule: Rule, *, analysable: bool) -> str:
        def name(variant: str) -> str:
            return self.constant(self.outcomes.serve(variant, Reason.SPLIT, rule.name, analysable))

        if not rule.split:
            return name(str(rule.serve))
        limits = bucketing.split_limits([share.weight for share in rule.split])
        reached = [(share, limit) for share, limit in zip(rule.split, limits, strict=True) if share.weight]
        if len(reached) > _LONG_SPLIT:  # a chain this long would be slow, and in the end too deep to compile
            served = self.constant(
                [self.outcomes.serve(s.variant, Reason.SPLIT, rule.name, analysable) for s, _ in reached]
            )
            return f"{served}[bisect({self.constant([limit for _, limit in reached])}, h)]"
        chain = [f"{name(share.variant)} if h < {self.constant(limit)} else" for share, limit in reached[:-1]]
        return " ".join([*chain, name(reached[-1][0].variant)])

    def _membership(self, condition: InSegment) -> str:
        """As ``_test``; a segment that is one list of units is looked up on the spot."""
        first = self.definitions.segments[condition.names[0]]
        if len(condition.names) > 1 or first.units is None or first.conditions is not None:
            return self._asked(self.conditions.test(condition, self.flag.key))
        units = self.constant(first.units)
        return f"key is not None and key not in {units}" if condition.negated else f"key in {units}"

    def _unit(self, by: Path, local: str) -> tuple[str, str]:
        """An expression that is true when there is a unit to bucket, and the name that then holds its key."""
        if by == UNIT:
            return "key is not None", "key"
        return f"({local} := {self._asked(key_reader(by))}) is not None", local

    def _asked(self, of_context: Callable[[Context], Any]) -> str:
        self.needs_context = True
        return f"{self.constant(of_context)}(c)"

    def _slot(self) -> list[str]:
        layer = self.definitions.layer_of(self.flag.key)
        if layer is None:
            return []
        present, unit = self._unit(layer.by, "w")
        low, high = (self.constant(bucketing.hash_limit(bound)) for bound in layer.slots[self.flag.key])
        return [present, f"{low} <= digest({self.constant(bucketing.prefix(layer.salt))} + {unit}) < {high}"]

    def _test(self, condition: Condition) -> str:
        """An expression that is true exactly when the condition is true (not unknown)."""
        if isinstance(condition, InSegment):
            return self._membership(condition)
        if not isinstance(condition, Comparison) or len(condition.attribute) > 1 or condition.attribute[0] in _SPECIAL:
            return self._asked(self.conditions.test(condition, self.flag.key))
        self.reads_attributes = True
        asks = self.conditions.operator(condition)
        test = self.constant(asks)
        value = f"get({self.constant(condition.attribute[0])})"
        if condition.negated:
            return f"{test}({value}) is False"
        inline = None if condition.ignore_case else OPERATORS[condition.operator].inline
        short_way = inline(condition.values, asks) if inline else None
        if short_way is None:
            return f"{test}({value})"
        constant = self.constant(short_way.constant)
        expression = short_way.expression.format(x="x", k=constant)
        when = f" and {short_way.when.format(x='x', k=constant)}" if short_way.when else ""
        return f"({expression} if type(x := {value}) is str{when} else {test}(x))"


_maker: Final = maker(_BUILTINS)
