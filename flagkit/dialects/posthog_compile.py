"""One PostHog flag as a function: enrolment, holdout, then one condition set after the other, down to decisions.

Written as source from fixed parts, like native flags: all that comes from a document is a constant. Called by the
engine through ``FlagDefinition.logic``, at the flag's first question.

    disabled > undecidable > no group of its type > enrolment > holdout > condition sets > false

A condition set is false when one of its filters is, undecided when one is, and matches when the rollout has the unit
as well. One that is undecided does not match; if no later one does, the flag is undecided.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from typing import Any, Final

from flagkit.context import MAX_UNIT_BYTES, SETTINGS, Context, as_context
from flagkit.core.code import indented, maker
from flagkit.core.logic import Answers, Decide, Logic
from flagkit.decision import Decision, ErrorCode, Reason
from flagkit.dialects.posthog_bucketing import HOLDOUT, VARIANT_SALT, prefix, rollout_bound, sha1, variant_bound
from flagkit.dialects.posthog_filters import Filters, Surroundings, device_unit, group_unit
from flagkit.dialects.posthog_model import INHERITED, Condition, Flag, Holdout, Property
from flagkit.dialects.posthog_values import ABSENT, CAUSES, MISSING, REMOTE, UNSUPPORTED, mapping, worse

_LONG_SPLIT: Final = 16
_SHARED: Final = 20_000  # characters of source, up to which its code is kept for other flags of the same shape
_SPECIAL: Final = SETTINGS | {"distinct_id"}
_ENROLMENT: Final = "enrolment"
_HELD_OUT: Final = "holdout"
_NO_GROUP: Final = "no group"
_TRUE, _FALSE = "true", "false"


def logic_of(flag: Flag, around: Surroundings, hindrance: str | None) -> Logic:
    """The flag as the engine asks for it. hindrance: why it is never decided in this process."""
    return lambda answers, now_ms: _Writer(flag, Filters(around, now_ms), answers, hindrance).function()


class _Unit:
    """What is bucketed: the name that holds its bytes in the function, and whether it may hold None."""

    def __init__(self, name: str, *, optional: bool) -> None:
        self.name = name
        self.optional = optional
        self.rollouts = 0  # how many of them ask for its hash


class _Writer:
    """Writes the function of one flag."""

    def __init__(self, flag: Flag, filters: Filters, answers: Answers, hindrance: str | None) -> None:
        self.flag = flag
        self.filters = filters
        self.answers = answers
        self.hindrance = hindrance
        self.constants: list[Any] = []
        self.head: list[str] = []
        self.lines: list[str] = []
        self.units: dict[str | None, _Unit] = {}
        self.prefix = prefix(flag.key)
        self.undecided = {code: self._fails(code) for code in CAUSES}
        self.default = answers.serve(_FALSE, Reason.DEFAULT)
        self.left_out = False  # whether a rollout stands before the line being written
        self.loses = False  # whether a condition set before it may be undecided
        self.needs_context = False  # whether what is called in a line takes the whole of it
        self.hashed = self.constant(self.prefix)

    def function(self) -> Decide:
        ends = self._body()
        if not ends:
            out = "out" if self.left_out else self.constant(self.default)
            self.lines.append(f"return undecided[lost] if lost else {out}" if self.loses else f"return {out}")
        invalid = self.constant(self.answers.fail(ErrorCode.INVALID_CONTEXT))
        of_context = ["key = c._key", f"if key is False: return {invalid}", "get = c.attributes.get"]
        of_dict = ["key = encode(c[unit])", f"if not key or len(key) > longest: return {invalid}", "get = c.get"]
        if self.needs_context:
            head = ["if type(c) is dict: c = as_context(c)", *of_context]
        else:
            head = ["if type(c) is dict:", *indented(of_dict), "else:", *indented(of_context)]
        if self.loses:
            head.append("lost = 0")
        if self.left_out:
            head.append(f"out = {self.constant(self.default)}")
        head += self.head
        body = "\n  ".join(head + self.lines)
        for unit in self.units.values():
            hashed = f"sha1({self.hashed} + {unit.name}).digest()"
            if unit.rollouts > 1:
                body = f"h_{unit.name} = None\n  {body}"
                hashed = f"(h_{unit.name} or (h_{unit.name} := {hashed}))"
            body = body.replace(f"HASH({unit.name})", hashed)
        names = ", ".join(["undecided", *(f"k{index}" for index in range(len(self.constants)))])
        source = f"def make({names}):\n def decide(c, forced, parents):\n  {body}\n return decide"
        maker = _maker if len(source) <= _SHARED else _maker.__wrapped__
        decide: Decide = maker(source)(self.undecided, *self.constants)
        return decide

    def constant(self, value: Any) -> str:
        self.constants.append(value)
        return f"k{len(self.constants) - 1}"

    # -- the flag ----------------------------------------------------------------------------------------------------

    def _body(self) -> bool:
        """Write what decides; return whether it always comes to a decision."""
        flag = self.flag
        hindrance = self.hindrance
        group = None if flag.group is None else self.filters.around.groups.get(flag.group)
        if hindrance is None and flag.group is not None and group is None:
            hindrance = CAUSES[UNSUPPORTED]
        if hindrance is not None:
            self.lines.append(f"return {self.constant(self.answers.fail(ErrorCode.GENERAL, hindrance))}")
            return True
        unit = self._unit(group)
        if group is not None:
            none = self.constant(self.answers.serve(_FALSE, Reason.DEFAULT, _NO_GROUP))
            self.lines.append(f"if {unit.name} is None: return {none}")
            self.lines.append(f"if {unit.name} is False: return {self._undecided(MISSING)}")
        if flag.enrolment:
            self._enrolment()
        if flag.holdout is not None and self._holdout(flag.holdout, unit):
            return True
        return any(self._condition(index, each, group) for index, each in enumerate(flag.conditions))

    def _enrolment(self) -> None:
        self.needs_context = True
        asked = self.constant(_enrolled(self.flag.key))
        for said, variant in ((True, _TRUE), (False, _FALSE)):
            served = self.constant(self.answers.serve(variant, Reason.TARGETING_MATCH, _ENROLMENT))
            found = f"(found := {asked}(c))" if said else "found"
            self.lines.append(f"if {found} is {said}: return {served}")

    def _holdout(self, holdout: Holdout, unit: _Unit) -> bool:
        """Write the holdout; return whether everybody is in it."""
        held = self.constant(self.answers.serve(holdout.name, Reason.HOLDOUT, _HELD_OUT, enabled=True))
        bound = rollout_bound(holdout.percentage)
        if bound is None:
            self.lines.append(f"return {held}")
            return True
        if unit.optional:
            self.lines.append(f"if {unit.name} is None: return {self._undecided(MISSING)}")
        salt = self.constant(HOLDOUT)
        self.lines.append(f"if sha1({salt} + {unit.name}).digest() < {self.constant(bound)}: return {held}")
        return False

    # -- condition sets ----------------------------------------------------------------------------------------------

    def _condition(self, index: int, condition: Condition, of_flag: str | None) -> bool:
        """Write a condition set; return whether no unit gets past it."""
        group = of_flag
        if condition.group != INHERITED:
            group = None if condition.group is None else self.filters.around.groups.get(condition.group)
            if condition.group is not None and group is None:
                return False  # nobody is in a group of a type that is not there
        tests = [self._test(each, group) for each in condition.properties]
        if "False" in tests:
            return False
        tests = [test for test in tests if test != "True"]
        rule = f"condition set {index + 1}"
        unit = self._unit(group)
        block: list[str] = []
        if group is not None and group != of_flag:
            block.append(f"if {unit.name} is None: break")
            block += [f"if {unit.name} is False:", *self._loses(str(MISSING), " ")]
        block += self._asked(tests)
        bound = rollout_bound(condition.percentage)
        if bound is not None:
            block += self._rollout(unit, bound, rule)
        block += self._serve(condition, unit, rule, placed=bound is not None, static=not tests and not index)
        always = not tests and bound is None and group == of_flag and len(block) == 1
        self.lines += block if always else ["while True:", *(f" {line}" for line in block)]
        if bound is not None:
            self.left_out = True
        return always

    def _asked(self, tests: list[str]) -> list[str]:
        """Leave the block unless all filters hold."""
        block = ["lacks = 0"] if tests else []
        for test in tests:
            block += [
                f"r = {test}",
                "if r is not True:",
                " if r is False: break",
                " lacks = worse(lacks, r) if lacks else r",
            ]
        if tests:
            block += [
                "if lacks:",
                f" if lacks & {REMOTE}: return undecided[lacks]",
                *self._loses("lacks", " "),
            ]
        return block

    def _rollout(self, unit: _Unit, bound: bytes, rule: str) -> list[str]:
        block = self._needs(unit)
        unit.rollouts += 1
        # Left out: false, if it comes to that, is then this condition's control. The first such one keeps the unit.
        out = self.constant(self.answers.serve(_FALSE, Reason.SPLIT, rule, analysable=True))
        block.append(f"if not HASH({unit.name}) < {self.constant(bound)}:")
        block.append(f" if out is {self.constant(self.default)}: out = {out}" if self.left_out else f" out = {out}")
        ends = " return undecided[lost] if lost else out" if self.loses else " return out"
        block.append(ends if self.flag.early_exit else " break")
        return block

    def _serve(self, condition: Condition, unit: _Unit, rule: str, *, placed: bool, static: bool) -> list[str]:
        """Return what a condition set that matches serves; comparable unless an earlier one had left the unit out."""
        names = [name for name, _ in self.flag.variants]
        bounds, served = self._split(condition.variant if condition.variant in names else None)
        block, hashes = [], len(served) > 1
        if hashes:
            block += self._needs(unit)
            block.append(f"h = sha1({self.hashed} + {unit.name} + {self.constant(VARIANT_SALT)}).digest()")
        bucketed = placed or hashes
        plain = not (self.flag.enrolment or self.flag.holdout or self.flag.group is not None)
        reason = Reason.SPLIT if bucketed else Reason.STATIC if static and plain else Reason.TARGETING_MATCH

        def chosen(analysable: bool) -> str:
            # A variant that is called "false" is on all the same: PostHog has two answers of that name.
            made = [self.answers.serve(name, reason, rule, analysable, enabled=True) for name in served]
            if len(made) > _LONG_SPLIT:
                return f"{self.constant(made)}[bisect({self.constant(bounds)}, h)]"
            chain = [
                f"{self.constant(each)} if h < {self.constant(bound)} else"
                for each, bound in zip(made, bounds, strict=False)
            ]
            return " ".join([*chain, self.constant(made[-1])])

        if bucketed and self.left_out:
            block.append(f"if out is not {self.constant(self.default)}: return {chosen(False)}")
        block.append(f"return {chosen(bucketed)}")
        return block

    def _split(self, pinned: str | None) -> tuple[list[bytes], list[str]]:
        """The bounds of the variants, in order, and what is served below each; the last one has none."""
        if pinned is not None:
            return [], [pinned]
        reached = 0.0
        bounds: list[bytes] = []
        served: list[str] = []
        for name, percentage in self.flag.variants:
            reached += percentage / 100
            bound = variant_bound(reached)
            if percentage and (not bounds or bound > bounds[-1]):
                bounds.append(bound)
                served.append(name)
        if not bounds or bounds[-1] < variant_bound(2.0):
            served.append(_TRUE)  # the hash may be beyond the last
        else:
            bounds.pop()
        return bounds, served

    # -- parts -------------------------------------------------------------------------------------------------------

    def _test(self, asked: Property, group: str | None) -> str:
        """An expression for what a filter answers: "True" or "False" if that is known."""
        known = self.filters.made(asked) if asked.kind not in ("cohort", "flag") else None
        own = asked.kind != "group" or asked.group is None
        person = own and (group is None or asked.kind == "person") and asked.key not in _SPECIAL
        if known is not None and person and callable(known.test):
            name, test = self.constant(asked.key), self.constant(known.test)
            called = f"{test}(get({name}, ABSENT))"
            if known.inline is None:
                return called
            constant = self.constant(known.inline.constant)
            expression = known.inline.expression.format(x="x", k=constant)
            when = f" and {known.inline.when.format(x='x', k=constant)}" if known.inline.when else ""
            return f"{expression} if type(x := get({name})) is str{when} else {called}"
        asks = self.filters.asks(asked, group)
        self.needs_context = True
        return f"{self.constant(asks)}(c, forced, parents)" if callable(asks) else str(asks)

    def _unit(self, group: str | None) -> _Unit:
        """What a condition set buckets: the group, or else the device or the person."""
        found = self.units.get(group)
        if found is not None:
            return found
        if group is not None:
            found = _Unit(f"u{len(self.units)}", optional=False)
            self.needs_context = True
            self.head.append(f"{found.name} = {self.constant(group_unit(group))}(c)")
        elif self.flag.by_device:
            found = _Unit("device", optional=True)
            self.needs_context = True
            self.head.append(f"device = {self.constant(device_unit)}(c)")
        else:
            found = _Unit("key", optional=True)
        self.units[group] = found
        return found

    def _needs(self, unit: _Unit) -> list[str]:
        return [f"if {unit.name} is None:", *self._loses(str(MISSING), " ")] if unit.optional else []

    def _loses(self, code: str, indent: str) -> list[str]:
        """Leave the block, which stays undecided."""
        self.loses = True
        return [f"{indent}if {code} > lost: lost = {code}", f"{indent}break"]

    def _undecided(self, code: int) -> str:
        return self.constant(self.undecided[code])

    def _fails(self, code: int) -> Decision:
        error = ErrorCode.INVALID_CONTEXT if code == MISSING else ErrorCode.GENERAL
        return self.answers.fail(error, CAUSES[code])


def _enrolled(flag: str) -> Callable[[Context], bool | None]:
    """Whether a context is opted in to early access, True, or out, False: by its enrolments, else as PostHog tells."""
    told = f"$feature_enrollment/{flag}"

    def read(context: Context) -> bool | None:
        enrolments = mapping(context.enrolments)
        said = enrolments.get(flag) if enrolments is not None else None
        if said is True or said is False:
            return said
        value = context.attributes.get(told, ABSENT)
        return None if value is ABSENT else value is True or (type(value) is str and value == "true")

    return read


_BUILTINS: Final = {
    "ABSENT": ABSENT,
    "as_context": as_context,
    "bisect": bisect_right,
    "dict": dict,
    "encode": str.encode,
    "len": len,
    "longest": MAX_UNIT_BYTES,
    "sha1": sha1,
    "str": str,
    "type": type,
    "unit": "unit",
    "worse": worse,
}


_maker: Final = maker(_BUILTINS)
