"""Why a flag answered what it did: every step tried, every condition with its operand and outcome, buckets and bounds.

It walks the model step by step, where the compiled flag takes the short way; tests hold the two together. Slow and
thorough: for a person at a prompt, never on a request's path.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from flagkit.boundary import contained
from flagkit.context import Context
from flagkit.core import bucketing
from flagkit.core.conditions import Conditions, key_reader, reader
from flagkit.core.holds import hold_text
from flagkit.core.logic import Forced
from flagkit.core.model import (
    UNIT,
    AllOf,
    AnyOf,
    Comparison,
    Condition,
    Enrolled,
    FlagDefinition,
    InSegment,
    Path,
    Rule,
    TimeWindow,
)
from flagkit.core.operators import MAX_MATCHED, MAX_STRING
from flagkit.core.snapshot import Snapshot
from flagkit.decision import Decision, ErrorCode, Reason
from flagkit.errors import shown

_NO_DEFINITION: Mapping[ErrorCode | None, str] = {
    ErrorCode.PROVIDER_NOT_READY: "no definitions are loaded yet",
    ErrorCode.PARSE_ERROR: "refused: see the problems at load",
}
_OUTCOMES: Mapping[bool | None, str] = {True: "true", False: "false", None: "unknown"}


class Finding(NamedTuple):
    """One condition: what it asks, what it asked of (``operand``), and True, False or None (unknown)."""

    condition: str
    outcome: bool | None
    operand: str | None = None
    inner: tuple[Finding, ...] = ()


class Bucket(NamedTuple):
    """Where a unit fell: ``low <= bucket < high`` is in. In buckets, 0 to 100,000 (thousandths of a percent)."""

    by: str
    salt: str
    bucket: int
    low: int
    high: int

    @property
    def is_in(self) -> bool:
        return self.low <= self.bucket < self.high


class Step(NamedTuple):
    """One step of the order of precedence. ``decided``: the answer came from here."""

    name: str
    outcome: str
    findings: tuple[Finding, ...] = ()
    buckets: tuple[Bucket, ...] = ()
    decided: bool = False


class Explanation(NamedTuple):
    """``decision`` and the ``steps`` that led to it, in the order they were tried."""

    decision: Decision
    unit: str | None
    steps: tuple[Step, ...]

    def text(self) -> str:
        """For a person: one line a step, its conditions and buckets below it."""
        decision = self.decision
        answer = f"{decision.flag} = {decision.variant or 'the caller’s default'} ({decision.reason.value}"
        answer += f", {decision.error_code.value}" if decision.error_code else ""
        answer += f', rule "{decision.rule}"' if decision.rule else ""
        lines = [f"{answer}) for {'no unit' if self.unit is None else f'unit {self.unit!r}'}"]
        for step in self.steps:
            lines.append(f"{'→' if step.decided else ' '} {step.name}: {step.outcome}")
            for finding in step.findings:
                lines += _finding_lines(finding, "    ")
            for found in step.buckets:
                bounds = f"{found.low:,} to {found.high:,}" if found.low else f"{found.high:,}"
                side = "inside" if found.is_in else "outside"
                lines.append(
                    f"    bucket {found.bucket:,} of {found.by} (salt {found.salt}), {side} {bounds} of 100,000"
                )
        return "\n".join(lines)

    def to_json(self) -> dict[str, Any]:
        """The same as JSON-ready values."""
        decision = self.decision
        return {
            "flag": decision.flag,
            "unit": self.unit,
            "variant": decision.variant,
            "value": decision.value,
            "reason": decision.reason.value,
            "error_code": decision.error_code.value if decision.error_code else None,
            "rule": decision.rule,
            "version": decision.version,
            "analysable": decision.analysable,
            "steps": [
                {
                    "step": step.name,
                    "outcome": step.outcome,
                    "decided": step.decided,
                    "conditions": [_finding_json(finding) for finding in step.findings],
                    "buckets": [{**found._asdict(), "in": found.is_in} for found in step.buckets],
                }
                for step in self.steps
            ],
        }


def explain(snapshot: Snapshot, flag: str, context: Context, forced: Forced = None) -> Explanation:
    """How ``snapshot.decide(flag, context, forced)`` comes about. Raises: nothing."""
    decision = snapshot.decide(flag, context, forced)
    definition = snapshot.flag(flag) if issubclass(type(flag), str) else None
    if definition is None:
        outcome = _NO_DEFINITION.get(decision.error_code, "no such flag")
        return Explanation(decision, context.unit_text, (Step("definition", outcome, decided=True),))
    return Explanation(decision, context.unit_text, _Walk(snapshot, definition, context, forced, decision).steps())


class _Walk:
    def __init__(
        self, snapshot: Snapshot, flag: FlagDefinition, context: Context, forced: Forced, decision: Decision
    ) -> None:
        self.snapshot = snapshot
        self.flag = flag
        self.context = context
        self.forced = forced
        self.decision = decision
        self.conditions = Conditions(snapshot.definitions.segments, snapshot.now_ms, snapshot.definitions.enrolled)

    def steps(self) -> tuple[Step, ...]:
        """All steps up to the one that decided."""
        taken: list[Step] = []
        for step in self._tried():
            taken.append(step)
            if step.decided:
                break
        decision = self.decision
        if decision.reason is Reason.GUARD:
            taken[-1] = taken[-1]._replace(decided=False)
            taken.append(Step("guard", f"{decision.assigned} has tripped: serves {decision.variant}", decided=True))
        return tuple(taken)

    def _tried(self) -> Any:
        flag, context = self.flag, self.context
        if self.decision.reason is Reason.OVERRIDE:
            yield Step("override", f"serves {self.decision.variant}", decided=True)
        if self.decision.error_code is ErrorCode.GENERAL:
            yield Step("context", "something in it raised an exception", decided=True)
        if flag.logic is not None and flag.enabled and flag.key not in self.snapshot.stale:
            yield Step("rules", f"as its backend has them: {self.decision.reason.value}", decided=True)
        if context._key is False:
            yield Step("context", f"{shown(context.unit)[:64]} is not a unit", decided=True)
        if not flag.enabled:
            yield Step("enabled", f"false: serves {flag.off}", decided=True)
        if flag.key in self.snapshot.stale:
            yield Step("stale", f"the definitions are too old: serves {flag.off}", decided=True)
        if flag.prerequisites:
            yield self._prerequisites()
        if flag.exclude:
            findings = tuple(self._finding(condition) for condition in flag.exclude)
            excluded = any(finding.outcome is not False for finding in findings)
            yield Step("exclude", f"serves {flag.off}" if excluded else "not excluded", findings, decided=excluded)
        if flag.targets:
            target = flag.targets.get(context._key) if isinstance(context._key, bytes) else None
            yield Step("targets", f"serves {target}" if target else "not a target", decided=target is not None)
        hold = self.snapshot.holds.get(flag.key)
        if hold is not None:
            yield Step("hold", f"its guard holds {hold_text(hold)}")
        yield from (self._rule(rule) for rule in flag.rules if rule.is_enrolment)
        yield from self._holdouts()
        yield from (self._rule(rule) for rule in flag.rules if not rule.is_enrolment)
        yield Step("default", f"serves {flag.default}", decided=True)

    def _prerequisites(self) -> Step:
        findings = []
        for parent in self.flag.prerequisites:
            variant = self.snapshot.decide(parent.flag, self.context, self.forced).variant
            asked = f"{parent.flag} in [{', '.join(parent.variants)}]"
            findings.append(Finding(asked, variant in parent.variants, variant or "no answer"))
        failed = not all(finding.outcome for finding in findings)
        return Step(
            "prerequisites", f"serves {self.flag.off}" if failed else "all hold", tuple(findings), decided=failed
        )

    def _holdouts(self) -> Any:
        for holdout in self.snapshot.definitions.holdouts:
            if holdout.applies_to(self.flag):
                found = self._bucket(UNIT, holdout.salt, 0, holdout.threshold)
                held = any(each.is_in for each in found)
                outcome = f"serves {self.flag.off}" if held else "not held out"
                yield Step(f'holdout "{holdout.name}"', outcome, buckets=found, decided=held)

    def _rule(self, rule: Rule) -> Step:
        name = f'rule "{rule.name}"'
        findings = tuple(self._finding(condition) for condition in rule.when)
        if not all(finding.outcome for finding in findings):
            return Step(name, "does not match", findings)
        if rule.by is None:
            return Step(name, f"serves {rule.serve}", findings, decided=True)
        layer = self.snapshot.definitions.layer_of(self.flag.key)
        slot = self._bucket(layer.by, layer.salt, *layer.slots[self.flag.key]) if layer else ()
        if layer and not any(found.is_in for found in slot):
            return Step(name, f'outside the flag’s slot in layer "{layer.name}"', findings, slot)
        threshold = 100_000
        if rule.rollout:
            threshold = rule.rollout.threshold
            for step in rule.rollout.steps:
                threshold = step.threshold if step.from_ms <= self.snapshot.now_ms() else threshold
        found = self._bucket(rule.by, self.flag.salt, 0, threshold)
        if not found:
            return Step(name, f"no unit to bucket by {'.'.join(rule.by)}", findings, slot)
        if not found[0].is_in:
            return Step(name, "matches, but the rollout leaves the unit out", findings, slot + found)
        if rule.split:
            return self._split(rule, name, findings, slot + (found if rule.rollout else ()))
        return Step(name, f"serves {rule.serve}", findings, slot + found, decided=True)

    def _split(self, rule: Rule, name: str, findings: tuple[Finding, ...], buckets: tuple[Bucket, ...]) -> Step:
        total, reached = sum(share.weight for share in rule.split), 0
        for share in rule.split:
            low = -(-reached * bucketing.BUCKETS // total)
            reached += share.weight
            high = -(-reached * bucketing.BUCKETS // total)
            (found,) = self._bucket(rule.by or UNIT, self.flag.salt, low, high, bucketing.SPLIT_SEED)
            if found.is_in:
                return Step(name, f"serves {share.variant}", findings, (*buckets, found), decided=True)
        raise AssertionError("the shares of a split cover every bucket")

    def _bucket(self, by: Path, salt: str, low: int, high: int, seed: int = 0) -> tuple[Bucket, ...]:
        """The unit's bucket, or nothing when there is no unit to bucket."""
        key = key_reader(by)(self.context) if by != UNIT else self.context._key
        if not isinstance(key, bytes):
            return ()
        return (Bucket(".".join(by), salt, bucketing.bucket(salt, key, seed), low, high),)

    def _finding(self, condition: Condition) -> Finding:
        # Attributes are foreign objects: what raises in a condition made the decision an error, and is unknown here.
        outcome = contained(self.conditions.test(condition, self.flag.key), self.context, otherwise=None)
        inner: tuple[Finding, ...] = ()
        operand = None
        if isinstance(condition, Comparison):
            value = contained(reader(condition.attribute), self.context, otherwise="?")
            longest = MAX_MATCHED if condition.operator == "matches" else MAX_STRING
            too_long = outcome is None and type(value) is str and len(value) > longest
            operand = shown(value) + (f" (too long: over {longest:,} characters)" if too_long else "")
        elif isinstance(condition, (AllOf, AnyOf)):
            inner = tuple(self._finding(each) for each in condition.conditions)
        elif isinstance(condition, InSegment):
            segments = (self.snapshot.definitions.segments[name] for name in condition.names)
            inner = tuple(self._finding(each.conditions) for each in segments if each.conditions)
        elif isinstance(condition, Enrolled):
            operand = "its enrolments"
        return Finding(_asked(condition), outcome, operand, inner)


def _asked(condition: Condition) -> str:
    """A condition in words."""
    negation = "not " if condition.negated else ""
    if isinstance(condition, Comparison):
        values = json.dumps(list(condition.values))
        wanted = values if len(values) <= 80 else values[:79] + "…"
        case = " (ignoring case)" if condition.ignore_case else ""
        asked = f"{negation}{'.'.join(condition.attribute)} {condition.operator}"
        return f"{asked} {wanted}{case}" if condition.values else asked
    if isinstance(condition, InSegment):
        return f"{negation}in segment {' or '.join(condition.names)}"
    if isinstance(condition, Enrolled):
        return f"{negation}enrolled"
    if isinstance(condition, TimeWindow):
        return f"{negation}from {condition.from_ms} until {condition.until_ms} (ms since 1970)"
    return f"{negation}{'all' if isinstance(condition, AllOf) else 'any'} of"


def _finding_lines(finding: Finding, indent: str) -> list[str]:
    operand = "" if finding.operand is None else f", of {finding.operand}"
    lines = [f"{indent}{finding.condition}{operand}: {_OUTCOMES[finding.outcome]}"]
    for inner in finding.inner:
        lines += _finding_lines(inner, indent + "  ")
    return lines


def _finding_json(finding: Finding) -> dict[str, Any]:
    inner = [_finding_json(each) for each in finding.inner]
    return {
        "condition": finding.condition,
        "outcome": finding.outcome,
        "operand": finding.operand,
        **({"of": inner} if inner else {}),
    }
