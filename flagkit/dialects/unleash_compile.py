"""One Unleash feature as a function of generated source, as ``core.compile`` makes native flags.

Keys, names, values and bounds come in as constants, never as text. The function is written twice over where it asks for
the user: once for contexts with a unit, which is the user then and hashed as it is, and once for those without, where
attributes may say who it is. Called by the engine through ``FlagDefinition.logic``, at the flag's first question.

A unit that a rollout or split placed by something stable is comparable, as long as no earlier strategy left it out;
those that all strategies leave out are the first rollout's control, as with native flags.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from flagkit.context import MAX_UNIT_BYTES, SETTINGS, as_context
from flagkit.core.bucketing import digest
from flagkit.core.code import indented, maker
from flagkit.core.logic import Answers, Decide, Logic, Now
from flagkit.decision import Decision, ErrorCode, Reason
from flagkit.dialects.unleash_constraints import Constraint
from flagkit.dialects.unleash_lookups import absent_app_name, absent_user, asked_as_text, asked_moment
from flagkit.dialects.unleash_model import (
    APP,
    DEFAULT,
    DISABLED,
    ENVIRONMENT,
    RANDOM,
    TIME,
    USER,
    Arm,
    Feature,
    Strategy,
)
from flagkit.dialects.unleash_strategies import custom, draws
from flagkit.dialects.unleash_values import is_text, utf8

_VARIANT_SEED: Final = 86028157
_EVERYONE: Final = 100  # percent, and the number of buckets
_LONG_SPLIT: Final = 16
_SPECIAL: Final = SETTINGS | {"unit"}
_UNSTABLE: Final = frozenset({APP, TIME, ENVIRONMENT})
_BUILTINS: Final = {
    "as_context": as_context,
    "bisect": bisect_right,
    "dict": dict,
    "digest": digest,
    "encode": str.encode,
    "len": len,
    "longest": MAX_UNIT_BYTES,
    "str": str,
    "type": type,
    "unit": "unit",
    "utf8": utf8,
}


class _Hash(NamedTuple):
    """Where a unit falls. ``number``: the expression; ``present``: what must hold first, if anything.

    by: what is hashed, when units can be compared by it; "" otherwise.
    """

    number: str
    present: str
    by: str


def logic_of(feature: Feature) -> Logic:
    """The feature as the engine asks for it."""
    return lambda answers, now_ms: _Writer(feature, answers, now_ms).function()


class _Writer:
    """Writes the function of one feature: lines of source, and the constants they name."""

    def __init__(self, feature: Feature, answers: Answers, now_ms: Now) -> None:
        self.feature = feature
        self.answers = answers
        self.now_ms = now_ms
        self.lines: list[str] = []
        self.constants: list[Any] = []
        self.names: dict[int, str] = {}  # of the decisions
        self.draw = ""  # the name of what draws by chance
        self.reads_attributes = False
        self.needs_context = False  # whether a mapping has to be made a context first
        self.has_unit = True  # whether what is being written is for contexts with a unit
        self.asks_user = False
        self.left_out = False  # whether a rollout stands before the line being written
        self.off = self.name(self._nobody(Reason.DEFAULT, None))

    def function(self) -> Decide:
        lines = self._body()
        if self.asks_user:
            self.has_unit = False
            lines = ["if key is None:", *indented(self._body()), *lines]
        invalid = self.name(self.answers.fail(ErrorCode.INVALID_CONTEXT))
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
        body = "\n  ".join(head + lines)
        source = f"def make({names}):\n def decide(c, forced, parents):\n  {body}\n return decide"
        decide: Decide = _maker(source)(*self.constants)
        return decide

    def constant(self, value: Any) -> str:
        self.constants.append(value)
        return f"k{len(self.constants) - 1}"

    def name(self, decision: Decision) -> str:
        known = self.names.get(id(decision))
        if known is None:
            known = self.names[id(decision)] = self.constant(decision)
        return known

    # -- statements --------------------------------------------------------------------------------------------------

    def _body(self) -> list[str]:
        self.lines, self.left_out = [], False
        feature = self.feature
        for parent in feature.dependencies:
            unmet = self.name(self._nobody(Reason.PREREQUISITE_FAILED, None))
            if parent.impossible:
                return [f"return {unmet}"]
            holds = "p.enabled" if parent.enabled else "p.variant is not None and not p.enabled"
            if parent.enabled and parent.variants:
                holds += f" and p.variant in {self.constant(parent.variants)}"
            self.lines.append(f"p = parents.decide({self.constant(parent.feature)}, c, forced)")
            self.lines.append(f"if not ({holds}): return {unmet}")
        if any(strategy.rollout not in (None, _EVERYONE) for strategy in feature.strategies):
            self.lines.append(f"out = {self.off}")
        for strategy in feature.strategies:
            self._strategy(strategy)
        if not feature.strategies:
            self._serve(None, "", None, Reason.TARGETING_MATCH if feature.dependencies else Reason.STATIC)
        self.lines.append("return out" if self.left_out else f"return {self.off}")
        return self.lines

    def _strategy(self, strategy: Strategy) -> None:
        tests = [self._test(constraint) for constraint in strategy.constraints]
        if strategy.custom is not None:
            tests.append(self._custom(*strategy.custom))
        if strategy.never or "False" in tests:
            return
        if strategy.rollout is None:
            static = not (tests or self.feature.dependencies or strategy is not self.feature.strategies[0])
            if tests:
                self.lines.append(f"if {' and '.join(tests)}:")
            reason = Reason.STATIC if static else Reason.TARGETING_MATCH
            self._serve(strategy, "  " if tests else "", None, reason)
            return
        found = self._hash(strategy.stickiness, strategy.group, "u")
        tests += [found.present] if found.present else []
        self.lines.append(f"if {' and '.join(tests) or 'True'}:")
        if strategy.rollout == _EVERYONE:  # and nobody is left out, so that nothing has to be hashed
            self._serve(strategy, "  ", found.by, Reason.SPLIT)
            return
        self.lines.append(f"  if {found.number} % {_EVERYONE} < {self.constant(strategy.rollout)}:")
        self._serve(strategy, "    ", found.by, Reason.SPLIT)
        # Left out: being off, if it comes to that, is then this strategy's control. The first such one keeps the unit.
        out = self.name(self._nobody(Reason.SPLIT, strategy.name, analysable=found.by != ""))
        self.lines.append(f"  if out is {self.off}: out = {out}" if self.left_out else f"  out = {out}")
        self.left_out = True

    def _serve(self, strategy: Strategy | None, indent: str, by: str | None, reason: Reason) -> None:
        """Return what a strategy, or a feature without any, serves to whom it lets in.

        by: what its rollout hashed, as in ``_Hash``; None when there was none.
        """
        rule = None if strategy is None else strategy.name
        split = strategy.split if strategy is not None and any(strategy.split.weights) else self.feature.split
        for override in split.overrides:
            served = self._arm(split.arms[override.arm], Reason.TARGETING_MATCH, rule)
            asked = self._test(Constraint(override.field, values=override.values))
            self.lines.append(f"{indent}if {asked}: return {self.name(served)}")
        arms = [(arm, weight) for arm, weight in zip(split.arms, split.weights, strict=True) if weight]
        if not arms:
            on = Arm(self.feature.on, DISABLED, None)
            self._return(indent, bool(by), lambda placed: self.name(self._arm(on, reason, rule, placed)))
        elif len(arms) == 1:
            self._return(indent, bool(by), lambda placed: self.name(self._arm(arms[0][0], reason, rule, placed)))
        else:
            found = self._hash(split.stickiness, split.group, "v")
            number = f"({found.number} if {found.present} else {self._draw()}())" if found.present else found.number
            self.lines.append(f"{indent}h = {number} % {self.constant(sum(split.weights))}")
            # Guards find out by the rule what units are; without one they take the user.
            stable = bool(found.by) and by in (None, found.by) and (rule is not None or found.by == USER)
            self._return(indent, stable, lambda placed: self._choice(arms, rule, placed))

    def _choice(self, arms: list[tuple[Arm, int]], rule: str | None, placed: bool) -> str:
        """The expression of the arm in which ``h`` falls."""
        served = [self._arm(arm, Reason.SPLIT, rule, placed) for arm, _ in arms]
        limits, reached = [], 0
        for _, weight in arms:
            reached += weight
            limits.append(reached)
        if len(served) > _LONG_SPLIT:  # a chain this long would be slow, and in the end too deep to compile
            return f"{self.constant(served)}[bisect({self.constant(limits)}, h)]"
        reached_names = zip(served[:-1], limits[:-1], strict=True)
        chain = [f"{self.name(each)} if h < {self.constant(limit)} else" for each, limit in reached_names]
        return " ".join([*chain, self.name(served[-1])])

    def _return(self, indent: str, stable: bool, chosen: Callable[[bool], str]) -> None:
        """Return what is chosen; comparable if ``stable``, unless an earlier rollout had left the unit out."""
        if stable and self.left_out:
            self.lines.append(f"{indent}if out is not {self.off}: return {chosen(False)}")
        self.lines.append(f"{indent}return {chosen(stable)}")

    def _arm(self, arm: Arm, reason: Reason, rule: str | None, analysable: bool = False) -> Decision:
        return self.answers.serve(arm.key, reason, rule, analysable, enabled=True, value=arm.value, named=arm.name)

    def _nobody(self, reason: Reason, rule: str | None, analysable: bool = False) -> Decision:
        return self.answers.serve(DISABLED, reason, rule, analysable, enabled=False)

    # -- expressions -------------------------------------------------------------------------------------------------

    def _hash(self, stickiness: str, group: str, local: str) -> _Hash:
        seed = f", {_VARIANT_SEED}" if local == "v" else ""
        prefix = self.constant(group.encode() + b":")
        if stickiness == RANDOM:
            return _Hash(f"{self._draw()}()", "", "")
        hashed = f"digest({prefix} + {local}{seed})"
        if stickiness in (DEFAULT, USER):
            self.asks_user = True
            if self.has_unit:
                return _Hash(f"digest({prefix} + key{seed})", "", USER)
            if stickiness == DEFAULT:
                self.reads_attributes = True
                found = f"({local} := {self.constant(absent_user)}(get)) is not None"
                return _Hash(f"({hashed} if {found} else {self._draw()}())", "", "")
        present = f"({local} := utf8({self._value(stickiness)})) is not None"
        return _Hash(hashed, present, "" if stickiness in _UNSTABLE or stickiness == USER else stickiness)

    def _draw(self) -> str:
        if not self.draw:
            # Time comes in from outside, and tells processes apart that did not start in the same millisecond.
            self.draw = self.constant(draws((self.now_ms() ^ digest(self.feature.key.encode())) & 0xFFFFFFFF))
        return self.draw

    def _value(self, field: str) -> str:
        self.reads_attributes = True
        if field in _SPECIAL:
            self.needs_context = True
        if field == APP and self.feature.app_name is not None:
            return f"{self.constant(absent_app_name(self.feature.app_name))}(get)"
        return f"get({self.constant(field)})"

    def _test(self, constraint: Constraint) -> str:
        """An expression that is true exactly when the constraint holds."""
        if constraint.never:
            return "False"
        asked = self._asked(constraint)
        return f"not {asked}" if constraint.inverted else asked

    def _asked(self, constraint: Constraint) -> str:
        field, test = constraint.field, constraint.test
        if constraint.dated is not None and field == TIME:
            return f"{self.constant(asked_moment(constraint.dated, self.now_ms))}({self._value(TIME)})"
        if field == USER:
            self.asks_user = True
            if self.has_unit:
                return self._asked_unit(constraint)
        slowly = self.constant(asked_as_text(constraint))
        if constraint.edge:
            quickly = f"x.{constraint.edge}({self.constant(constraint.affixes)})"
        else:
            quickly = f"x in {self.constant(constraint.values)}" if test is None else f"{self.constant(test)}(x)"
        return f"({quickly} if type(x := {self._value(field)}) is str else {slowly}(x))"

    def _asked_unit(self, constraint: Constraint) -> str:
        if constraint.edge:
            return f"key.{constraint.edge}({self.constant(tuple(_encoded(constraint.affixes)))})"
        if constraint.test is None:
            return f"(key in {self.constant(frozenset(_encoded(constraint.values)))})"
        return f"{self.constant(constraint.test)}(key.decode())"

    def _custom(self, name: str, parameters: Any) -> str:
        admits = custom(name, parameters)
        if admits is None:
            return "False"
        self.needs_context = True
        return f"{self.constant(admits)}(c)"


def _encoded(texts: Any) -> list[bytes]:
    """The UTF-8 of texts, without those that have none: they are nobody's."""
    return [each.encode() for each in texts if is_text(each)]


_maker: Final = maker(_BUILTINS)
