"""Native flags: one flag's decoded JSON to a ``FlagDefinition``, noting every mistake. Called by ``native``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from flagkit.core import policy
from flagkit.core.dates import DATE_FORM, parse_date_ms
from flagkit.core.holds import read_hold
from flagkit.core.model import Condition, FlagDefinition, Hold, Overridable, Prerequisite, Rule
from flagkit.core.policy import GuardPolicy
from flagkit.dialects.fields import (
    At,
    Faults,
    check_depth,
    one_of,
    read_bool,
    read_choice,
    read_list,
    read_object,
    read_text,
    read_whole,
    said,
    unknown_fields,
)
from flagkit.dialects.native_conditions import (
    asks_enrolment,
    read_conditions,
    read_key,
    read_rule,
    read_units,
    segments_in,
)
from flagkit.errors import Problem

_FLAG: Final = frozenset(
    {
        "client",
        "default",
        "description",
        "early_access",
        "enabled",
        "exclude",
        "expires",
        "guard",
        "hash",
        "kind",
        "max_age_s",
        "off",
        "overridable",
        "owner",
        "prerequisites",
        "rules",
        "salt",
        "targets",
        "variants",
        "version",
    }
)
_PREREQUISITE: Final = frozenset({"flag", "variants"})
_OVERRIDABLE: Final = frozenset({"issued_after", "revoked"})
_ALWAYS: Final = Overridable()
_KINDS: Final = ("release", "experiment", "ops", "permission")
_BOOLEAN: Final[Mapping[str, Any]] = {"on": True, "off": False}
_NO_TARGETS: Final[Mapping[bytes, str]] = {}
_NO_SEGMENTS: Final[frozenset[str]] = frozenset()
_MAX_VARIANTS: Final = 1000
_MAX_VERSION: Final = 1 << 63
_MAX_DESCRIPTION: Final = 4096
_MAX_REVOKED: Final = 1000
_MAX_RULES: Final = 250  # a flag is compiled at its first question, in time that grows with its rules


class _Guard(NamedTuple):
    policy: GuardPolicy | None = None
    tripped: Mapping[str, str] = {}
    held: Hold | None = None
    remarks: tuple[Problem, ...] = ()


_NO_GUARD: Final = _Guard()


def read_flag(key: str, value: object, text: str, at: At, faults: Faults) -> FlagDefinition:
    """One flag, written as ``text``. With faults noted, the result is not for use."""
    raw = read_object(value, at, faults)
    if not raw.keys() <= _FLAG:
        unknown_fields(raw, _FLAG, at, faults)
    variants, off, default = _variants(raw, at, faults)
    guard = _guard(raw["guard"], variants, key, (at, "guard")) if "guard" in raw else _NO_GUARD
    rules = tuple(
        [
            read_rule(rule, variants, index, ((at, "rules"), index), faults)
            for index, rule in enumerate(read_list(raw["rules"], (at, "rules"), faults))
        ]
        if "rules" in raw
        else ()
    )
    if len(rules) > _MAX_RULES:
        faults.add((at, "rules"), f"{len(rules)} rules; expected at most {_MAX_RULES}")
    if len(rules) > 1 and len({rule.name for rule in rules}) != len(rules):
        faults.add((at, "rules"), "two rules have the same name")
    exclude = read_conditions(raw["exclude"], (at, "exclude"), faults) if "exclude" in raw else ()
    early_access = read_bool(raw["early_access"], (at, "early_access"), faults) if "early_access" in raw else False
    if "hash" in raw:
        read_choice(raw["hash"], ("murmur3-v1",), (at, "hash"), faults)
    prerequisites = (
        _prerequisites(raw["prerequisites"], (at, "prerequisites"), faults) if "prerequisites" in raw else ()
    )
    return FlagDefinition(
        key,
        variants,
        off,
        default,
        read_bool(raw["enabled"], (at, "enabled"), faults) if "enabled" in raw else True,
        prerequisites,
        exclude,
        targets=_targets(raw["targets"], variants, (at, "targets"), faults) if "targets" in raw else _NO_TARGETS,
        rules=rules,
        salt=read_key(raw["salt"], (at, "salt"), faults) if "salt" in raw else key,
        kind=read_choice(raw["kind"], _KINDS, (at, "kind"), faults) if "kind" in raw else "release",
        version=_version(raw["version"], (at, "version"), faults) if "version" in raw else None,
        max_age_s=read_whole(raw["max_age_s"], (at, "max_age_s"), faults, 1, 1 << 31) if "max_age_s" in raw else None,
        guard=guard.policy,
        owner=read_text(raw["owner"], (at, "owner"), faults) if "owner" in raw else None,
        expires=_expires(raw["expires"], (at, "expires"), faults) if "expires" in raw else None,
        description=_description(raw["description"], (at, "description"), faults) if "description" in raw else None,
        segments=_segments(rules, exclude),
        text=text,
        tripped=guard.tripped,
        held=guard.held,
        client=read_bool(raw["client"], (at, "client"), faults) if "client" in raw else False,
        overridable=_overridable(raw["overridable"], (at, "overridable"), faults) if "overridable" in raw else None,
        early_access=early_access,
        remarks=guard.remarks + _in_vain(key, rules, at) if early_access else guard.remarks,
    )


def _in_vain(key: str, rules: tuple[Rule, ...], at: At) -> tuple[Problem, ...]:
    """A remark when enrolment is offered and no rule asks for it: people would opt in to nothing."""
    if any(asks_enrolment(condition) for rule in rules for condition in rule.when):
        return ()
    faults = Faults()
    faults.add((at, "early_access"), 'offers enrolment that no rule asks for; expected one with {"enrolled": true}')
    return tuple(faults.problems(key, refused=False))


def _version(value: object, at: At, faults: Faults) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        return str(read_whole(value, at, faults, 0, _MAX_VERSION))
    return read_text(value, at, faults)


def _segments(rules: tuple[Rule, ...], exclude: tuple[Condition, ...]) -> frozenset[str]:
    conditions = [condition for rule in rules for condition in rule.when]
    conditions += exclude
    return segments_in(conditions) if conditions else _NO_SEGMENTS


def _description(value: object, at: At, faults: Faults) -> str | None:
    if isinstance(value, str) and len(value) <= _MAX_DESCRIPTION:
        return value
    faults.expected(at, value, f"a string of at most {_MAX_DESCRIPTION:,} characters")
    return None


def _variants(raw: dict[str, Any], at: At, faults: Faults) -> tuple[Mapping[str, Any], str, str]:
    if "variants" not in raw:
        variants = _BOOLEAN
        off = read_choice(raw["off"], variants, (at, "off"), faults) if "off" in raw else "off"
    else:
        at_variants: At = (at, "variants")
        variants = read_object(raw["variants"], at_variants, faults)
        if not 0 < len(variants) <= _MAX_VARIANTS:
            faults.add(at_variants, f"{len(variants)} variants; expected 1 to {_MAX_VARIANTS:,}")
            return _BOOLEAN, "off", "off"
        for name, value in variants.items():
            read_text(name, (at_variants, name), faults)
            check_depth(value, (at_variants, name), faults, 28)
        if "off" not in raw:
            faults.add((at, "off"), f"missing; expected {one_of(variants)}")
        off = read_choice(raw["off"], variants, (at, "off"), faults) if "off" in raw else "?"
    default = read_choice(raw["default"], variants, (at, "default"), faults) if "default" in raw else off
    return variants, off, default


def _targets(value: object, variants: Mapping[str, Any], at: At, faults: Faults) -> dict[bytes, str]:
    targets: dict[bytes, str] = {}
    for variant, units in read_object(value, at, faults).items():
        read_choice(variant, variants, (at, variant), faults)
        for index, key in enumerate(read_units(units, (at, variant), faults)):
            if targets.setdefault(key, variant) != variant:
                faults.add(((at, variant), index), f"{said(key.decode())} is a target of two variants")
    return targets


def _prerequisites(value: object, at: At, faults: Faults) -> tuple[Prerequisite, ...]:
    parents = []
    for index, item in enumerate(read_list(value, at, faults)):
        parent = read_object(item, (at, index), faults)
        if parent is not item:
            continue
        unknown_fields(parent, _PREREQUISITE, (at, index), faults)
        names = read_list(parent.get("variants"), ((at, index), "variants"), faults)
        if not names and "variants" in parent:
            faults.add(((at, index), "variants"), "an empty list; expected at least one variant")
        variants = tuple(read_text(name, ((at, index), "variants"), faults) for name in names)
        parents.append(Prerequisite(read_key(parent.get("flag"), ((at, index), "flag"), faults), variants))
    return tuple(parents)


def _overridable(value: object, at: At, faults: Faults) -> Overridable | None:
    if isinstance(value, bool):
        return _ALWAYS if value else None
    if not isinstance(value, dict):
        faults.expected(at, value, "true, false, or an object with issued_after or revoked")
        return None
    unknown_fields(value, _OVERRIDABLE, at, faults)
    issued_after_ms = None
    if "issued_after" in value:
        issued = value["issued_after"]
        issued_after_ms = parse_date_ms(issued) if isinstance(issued, str) else None
        if issued_after_ms is None:
            faults.expected((at, "issued_after"), issued, DATE_FORM)
    ids = read_list(value["revoked"], (at, "revoked"), faults) if "revoked" in value else []
    if len(ids) > _MAX_REVOKED:
        faults.add((at, "revoked"), f"{len(ids)} tokens; expected at most {_MAX_REVOKED:,}, and issued_after for more")
    revoked = frozenset(read_text(one, ((at, "revoked"), index), faults) for index, one in enumerate(ids))
    return Overridable(issued_after_ms, revoked)


def _guard(value: object, variants: Mapping[str, Any], flag: str, at: At) -> _Guard:
    """The policy, or none and why: a mistake in it costs the flag its guard and nothing else."""
    faults = Faults()
    raw = dict(read_object(value, at, faults))
    tripped = raw.pop("tripped", {})
    held = _held(raw.pop("held"), (at, "held"), faults) if "held" in raw else None
    unknown_fields(raw, policy.FIELDS, at, faults)
    for field in raw.keys() & policy.FIELDS:
        expected = policy.expected_of(field, raw[field])
        if expected is not None:
            faults.expected((at, field), raw[field], expected)
        elif field == "control" and raw[field] is not None:
            read_choice(raw[field], variants, (at, field), faults)
    for variant, why in read_object(tripped, (at, "tripped"), faults).items():
        read_choice(variant, variants, (at, "tripped"), faults)
        read_text(why, ((at, "tripped"), variant), faults)
    if not faults.found:
        return _Guard(GuardPolicy(**raw), tripped, held)
    found = sorted(faults.problems(flag, refused=False))
    without = [problem._replace(message=f"{problem.message}; the flag is served without a guard") for problem in found]
    return _Guard(remarks=tuple(without))


def _held(value: object, at: At, faults: Faults) -> Hold | None:
    """What a service holds. The control's name is not in it: whoever serves it knows."""
    raw = read_object(value, at, faults)
    hold = read_hold(raw.get("rules"), "", read_text(raw.get("why"), (at, "why"), faults))
    if hold is None:
        faults.expected((at, "rules"), raw.get("rules"), "an object: rule -> percent, 0 to 100, and shares, by variant")
    return hold


def _expires(value: object, at: At, faults: Faults) -> str | None:
    if isinstance(value, str) and parse_date_ms(value) is not None:
        return value
    faults.expected(at, value, DATE_FORM)
    return None
