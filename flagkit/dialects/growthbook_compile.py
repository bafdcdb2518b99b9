"""One GrowthBook feature as a function: its rules, statement by statement, down to decisions made beforehand.

The source depends on the feature's shape only; keys, values and bounds come in as constants. Called by the engine
through ``FlagDefinition.logic``, at the feature's first question.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Mapping
from typing import Any, Final

from flagkit.context import MAX_UNIT_BYTES, as_context
from flagkit.core.logic import Answers, Decide, Logic
from flagkit.decision import Decision, ErrorCode, Reason
from flagkit.dialects.growthbook_hash import BUCKETS, bucketing, units_of, units_of_key
from flagkit.dialects.growthbook_rules import Bucketing, Experiment, Feature, Parent, Rule, Share
from flagkit.dialects.growthbook_values import Get, truthy
from flagkit.dialects.growthbook_visit import entered
from flagkit.dialects.growthbook_writing import AllOf, Expressions, Field, Node, function_of, maker

#: The attribute with experiment keys -> number of the variation that is forced, where a context has it.
FORCED: Final = "$forcedVariations"
_ID: Final = "id"
_PARENT: Final = "\0value"  # no path: what another feature comes to
_WRITTEN: Final = 8  # ranges, or shares of an experiment, that are compared one by one


def logic_of(feature: Feature, *, guarded: bool) -> Logic:
    """The feature as the engine asks for it. guarded: its prerequisites may lead back to it, or are very many."""
    return lambda answers, _: _Writer(feature, answers, guarded).function()


class _Writer:
    """Writes the function of one feature."""

    def __init__(self, feature: Feature, answers: Answers, guarded: bool) -> None:
        self.feature = feature
        self.answers = answers
        self.guarded = guarded
        self.write = Expressions({_ID: "id", _PARENT: "d.value"})
        self.lines: list[str] = []
        self.default = ""  # the name of the decision when no rule decided
        self.left_out = False  # whether a share stands before the line being written
        self.ended = False  # whether the rule just written decides for everybody
        self.failed = answers.fail(ErrorCode.GENERAL)

    def function(self) -> Decide:
        feature = self.feature
        reason = Reason.DEFAULT if feature.rules else Reason.STATIC
        self.default = self._constant(self._serve(feature.default, reason, None))
        has_share = any(rule.share for rule in feature.rules)
        if has_share:
            self.lines.append(f"out = {self.default}")
        for rule in feature.rules:
            self._rule(rule)
            if self.ended:
                break
        else:
            self.lines.append("return out" if has_share else f"return {self.default}")
        return self._assembled()

    def _assembled(self) -> Decide:
        invalid = self._constant(self.answers.fail(ErrorCode.INVALID_CONTEXT))
        head = ["if type(c) is dict:"]
        if self.guarded:
            head[0] += " c = as_context(c)"
            head.append(f"c = entered(c, {self._constant(self.feature.key)})")
            head.append(f"if c is None: return {self._constant(self.failed)}")
            head += ["key = c._key", f"if key is False: return {invalid}", "get = c.attributes.get"]
        else:
            head += [" key = encode(c[unit])", f" if not key or len(key) > longest: return {invalid}", " get = c.get"]
            head += ["else:", " key = c._key", f" if key is False: return {invalid}", " get = c.attributes.get"]
        if _ID in self.write.used:
            head.append(f"if (id := get({self._constant(_ID)})) is None and key is not None: id = key.decode()")
        names = ", ".join(f"k{index}" for index in range(len(self.write.constants)))
        body = "\n  ".join(head + self.lines)
        source = f"def make({names}):\n def decide(c, forced, parents):\n  {body}\n return decide"
        decide: Decide = _maker(source)(*self.write.constants)
        return decide

    def _constant(self, value: Any) -> str:
        return self.write.constant(value)

    def _serve(
        self, variant: str, reason: Reason, rule: str | None, *, analysable: bool = False, named: str | None = None
    ) -> Decision:
        enabled = truthy(self.feature.variants[variant])
        named = None if named == variant else named
        return self.answers.serve(variant, reason, rule, analysable, enabled=enabled, named=named)

    # -- rules -------------------------------------------------------------------------------------------------------

    def _rule(self, rule: Rule) -> None:
        may_end = any(parent.gate or self.guarded for parent in rule.parents)
        if rule.force is None and rule.experiment is None and not may_end:
            return  # decides nothing for anybody
        indent = ""
        if rule.parents:
            self.lines.append("while True:")  # left by break where the next rule's turn has come
            indent = " "
            for parent in rule.parents:
                self._parent(parent, indent)
        tests = [] if rule.condition is None else [self.write.condition(rule.condition)]
        tests += [self._within(share) for share in rule.filters]
        inner = indent
        if tests and tests != ["True"]:
            self.lines.append(f"{indent}if {' and '.join(tests)}:")
            inner += " "
        begun = len(self.lines)
        decides = self._body(rule, inner)
        if len(self.lines) == begun:
            self.lines.append(f"{inner}pass")
        self.ended = decides and inner == ""
        if rule.parents:
            self.lines.append(f"{indent}break")

    def _parent(self, parent: Parent, indent: str) -> None:
        key = self._constant(parent.key)
        self.lines.append(f"{indent}d = parents.decide({key}, c, forced)")
        self.lines.append(f"{indent}if d.error_code is general: return {self._constant(self.failed)}")
        if parent.condition is None:
            return
        passes = self._met(parent.condition)
        unmet = "break"
        if parent.gate:
            unmet = f"return {self._constant(self.answers.otherwise(Reason.PREREQUISITE_FAILED))}"
        self.lines.append(f"{indent}if not {passes}: {unmet}")

    def _met(self, condition: Node) -> str:
        """Whether a condition on the value of ``d`` is met, most of which ask for nothing but ``value``."""
        nodes = condition.nodes if isinstance(condition, AllOf) else ()
        fields = [each for each in nodes if isinstance(each, Field) and each.path == "value"]
        if fields and len(fields) == len(nodes):
            return self.write.condition(AllOf(tuple(each._replace(path=_PARENT) for each in fields)))
        return f"{self._constant(function_of(condition))}(value_of(d))"

    def _body(self, rule: Rule, indent: str) -> bool:
        """What a rule comes to for those it is for; True when it decides for all of them."""
        if rule.experiment is not None:
            self._experiment(rule.name, rule.experiment, indent)
            return False
        if rule.force is None:
            return False
        if rule.share is not None:
            self._rollout(rule, rule.force, rule.share, indent)
            return False
        served = self._serve(rule.force, Reason.TARGETING_MATCH, rule.name)
        self.lines.append(f"{indent}return {self._constant(served)}")
        return True

    def _rollout(self, rule: Rule, variant: str, share: Share, indent: str) -> None:
        if share.by.version not in BUCKETS:
            return
        x = self.write.name()
        self.lines.append(f"{indent}if ({x} := {self._units(share.by.attribute)}) is not None:")
        indent += " "
        if any(first < end for first, end in share.buckets):
            self.lines.append(f"{indent}if {self._compared(share, x)}:")
            if self.left_out:
                apart = self._constant(self._serve(variant, Reason.SPLIT, rule.name))
                self.lines.append(f"{indent} if out is not {self.default}: return {apart}")
            served = self._constant(self._serve(variant, Reason.SPLIT, rule.name, analysable=True))
            self.lines.append(f"{indent} return {served}")
        # Left out: the default, if it comes to that, is then this rule's control. The first such rule keeps the unit.
        out = self._constant(self._serve(self.feature.default, Reason.SPLIT, rule.name, analysable=True))
        self.lines.append(f"{indent}if out is {self.default}: out = {out}" if self.left_out else f"{indent}out = {out}")
        self.left_out = True

    def _experiment(self, rule: str, experiment: Experiment, indent: str) -> None:
        forced = self._constant(_forcing(experiment.key, self._forced(rule, experiment)))
        f, x, d = self.write.name(), self.write.name(), self.write.name()
        asked = f"({f} := get({self._constant(FORCED)})) is not None and ({f} := {forced}({f})) is not None"
        self.lines += [f"{indent}if {asked}:", f"{indent} if {f} is not False: return {f}"]
        if experiment.by is None:
            return
        tests = [f"({x} := {self._units(experiment.by.attribute)}) is not None"]
        if experiment.namespace is not None:
            tests.append(self._compared(experiment.namespace, x))
        self.lines.append(f"{indent}elif {' and '.join(tests)}:")
        bucket = f"{self._hash(experiment.by)}({x})"
        place = bucket
        if self.left_out:
            self.lines.append(f"{indent} {x} = {bucket}")
            place = x
            apart = self._chosen(experiment, self._outcomes(rule, experiment, analysable=False), x)
            self.lines += [f"{indent} if out is not {self.default}:", f"{indent}  {d} = {apart}"]
            self.lines.append(f"{indent}  if {d} is not None: return {d}")
        outcomes = self._outcomes(rule, experiment, analysable=True)
        chosen = self._chosen(experiment, outcomes, place)
        otherwise = "elif" if self.left_out else "if"
        if None in outcomes:
            self.lines.append(f"{indent} {otherwise} ({d} := {chosen}) is not None: return {d}")
        else:
            self.lines.append(f"{indent} {'else: ' if self.left_out else ''}return {chosen}")

    def _outcomes(self, rule: str, experiment: Experiment, *, analysable: bool) -> list[Decision | None]:
        return [
            None
            if owner < 0 or owner in experiment.passes
            else self._variation(experiment, owner, Reason.SPLIT, rule, analysable=analysable)
            for owner in experiment.owners
        ]

    def _chosen(self, experiment: Experiment, outcomes: list[Decision | None], place: str) -> str:
        """What the bucket ``place`` comes to."""
        if len(outcomes) > _WRITTEN:
            return f"{self._constant(outcomes)}[bisect({self._constant(experiment.begins)}, {place})]"
        b = self.write.name()
        written, place = [], f"({b} := {place})"
        for outcome, begin in zip(outcomes, experiment.begins, strict=False):
            written.append(f"{self._constant(outcome)} if {place} < {self._constant(begin)} else ")
            place = b
        return "".join([*written, self._constant(outcomes[-1])])

    def _forced(self, rule: str, experiment: Experiment) -> list[Decision | None]:
        return [
            None if index in experiment.passes else self._variation(experiment, index, Reason.OVERRIDE, rule)
            for index in range(len(experiment.names))
        ]

    def _variation(
        self, experiment: Experiment, index: int, reason: Reason, rule: str, *, analysable: bool = False
    ) -> Decision:
        variant, named = experiment.names[index]
        return self._serve(variant, reason, rule, analysable=analysable, named=named)

    # -- buckets -----------------------------------------------------------------------------------------------------

    def _units(self, attribute: str) -> str:
        """What is hashed of an attribute; the context's unit stands in for an ``id`` it has not.

        A text of plain characters, which nearly all are, is seen to on the spot: as ``units_of`` would.
        """
        x = self.write.name()
        plain = f"encode({x}) if type({x} := get({self._constant(attribute)})) is str and {x}.isascii()"
        plain += f" and 0 < len({x}) <= longest"
        if attribute != _ID:
            return f"({plain} else units_of({x}))"
        own = "key if key is None or key.isascii() else wide(key)"
        return f"({plain} else units_of({x}) if {x} is not None else {own})"

    def _hash(self, by: Bucketing) -> str:
        return self._constant(bucketing(by.seed, by.version))

    def _within(self, share: Share) -> str:
        if share.by.version not in BUCKETS:
            return "False"
        x = self.write.name()
        return f"(({x} := {self._units(share.by.attribute)}) is not None and {self._compared(share, x)})"

    def _compared(self, share: Share, x: str) -> str:
        """Whether the bucket of what ``x`` names is within a share."""
        ranges = [(first, end) for first, end in share.buckets if first < end]
        bucket = f"{self._hash(share.by)}({x})"
        if not ranges:
            return "False"
        if len(ranges) > _WRITTEN:
            return f"within({bucket}, {self._constant(tuple(ranges))})"
        b = self.write.name()
        written, place = [], f"({b} := {bucket})"
        for first, end in ranges:
            low = f"{self._constant(first)} <= " if first else ""
            written.append(f"{low}{place} < {self._constant(end)}")
            place = b
        return f"({' or '.join(written)})"


# -- what the functions call -----------------------------------------------------------------------------------------


def _forcing(key: str, decisions: list[Decision | None]) -> Callable[[Any], Decision | bool | None]:
    """From a context's forced variations: this experiment's decision; False to go on; None when it is not forced."""

    def forcing(given: Any) -> Decision | bool | None:
        index = given.get(key) if issubclass(type(given), Mapping) else None
        if type(index) is not int:
            return None
        return (decisions[index] if 0 <= index < len(decisions) else None) or False

    return forcing


def value_of(decision: Decision) -> Get:
    """What a condition on another feature sees."""
    return {"value": decision.value}.get


def within(bucket: int, ranges: tuple[tuple[int, int], ...]) -> bool:
    return any(first <= bucket < end for first, end in ranges)


_CALLED: Final[Mapping[str, Any]] = {
    "as_context": as_context,
    "bisect": bisect_right,
    "dict": dict,
    "encode": str.encode,
    "entered": entered,
    "general": ErrorCode.GENERAL,
    "len": len,
    "longest": MAX_UNIT_BYTES,
    "unit": "unit",
    "units_of": units_of,
    "value_of": value_of,
    "wide": units_of_key,
    "within": within,
}

_maker: Final = maker(_CALLED)
