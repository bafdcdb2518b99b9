"""One Unleash feature: decoded JSON to a ``FlagDefinition``, noting every mistake. Called by ``unleash``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final, NamedTuple, TypeGuard

from flagkit.core.model import FlagDefinition, Prerequisite, Rollout, Rule
from flagkit.dialects.fields import At, Faults, check_depth, read_bool, read_list, read_object
from flagkit.dialects.unleash_compile import logic_of
from flagkit.dialects.unleash_constraints import Constraint, read_constraints
from flagkit.dialects.unleash_model import (
    DEFAULT,
    DISABLED,
    RANDOM,
    SESSION,
    USER,
    Dependency,
    Feature,
    Segment,
    Split,
    Strategy,
)
from flagkit.dialects.unleash_strategies import BUILT_IN, is_registered
from flagkit.dialects.unleash_values import Networks, is_text, number
from flagkit.dialects.unleash_variants import read_variants

_MAX_NAME: Final = 1024
_MAX_LABEL: Final = 100
_MAX_STRATEGIES: Final = 500
_MAX_DEPENDENCIES: Final = 100
_MAX_DEPTH: Final = 28
#: What of a feature does not decide.
_UNDECIDING: Final = frozenset({"createdAt", "description", "impressionData", "lastSeenAt", "project", "stale", "type"})
_OPS: Final = frozenset({"kill-switch", "operational"})
#: The names that being on without a variant may have; the last if variants are called after all others.
_ON: Final = ("on", "enabled", "(on)")
_UNIT: Final = ("unit",)


class References(NamedTuple):
    """What a feature refers to: segments by number and parents by name, each once, in order."""

    segments: tuple[int, ...]
    parents: tuple[str, ...]


class Surroundings(NamedTuple):
    """What a feature is read with.

    segments: by number. parents: the features there are -> whether they have dependencies. app_name, hostname: of this
    application, if known.
    """

    segments: Mapping[int, Segment]
    parents: Mapping[str, bool]
    app_name: str | None = None
    hostname: str | None = None

    def used(self, references: References) -> tuple[Any, ...]:
        """What of it a feature is made with: while this and the text are the same, so is the flag."""
        segments = [self.segments.get(number) for number in references.segments]
        return (self.app_name, self.hostname, segments, [self.parents.get(name) for name in references.parents])


def references(raw: Mapping[str, Any]) -> References:
    """What a feature's JSON refers to, as far as it can be read."""
    segments = {
        each
        for strategy in _objects(raw.get("strategies"))
        for each in (strategy["segments"] if isinstance(strategy.get("segments"), list) else ())
        if isinstance(each, int)
    }
    parents = {each["feature"] for each in _objects(raw.get("dependencies")) if isinstance(each.get("feature"), str)}
    return References(tuple(sorted(segments)), tuple(sorted(parents)))


def _objects(value: object) -> list[dict[str, Any]]:
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def is_name(name: object) -> TypeGuard[str]:
    """Whether a feature may be called so. Unleash's names are Unicode."""
    return is_text(name) and 0 < len(name) <= _MAX_NAME


def read_feature(
    key: str, raw: Mapping[str, Any], text: str, at: At, faults: Faults, around: Surroundings
) -> FlagDefinition:
    """One feature, written as ``text``. With faults noted, the result is not for use."""
    notes = Faults()
    check_depth(raw, at, faults, _MAX_DEPTH)
    enabled = read_bool(raw.get("enabled"), (at, "enabled"), faults)
    listed = _listed(raw.get("strategies"), (at, "strategies"), faults, _MAX_STRATEGIES)
    reader = _Strategies(key, around, faults, notes)
    strategies = tuple(reader.read(index, each, ((at, "strategies"), index)) for index, each in enumerate(listed))
    split = read_variants(raw.get("variants"), (at, "variants"), faults, notes, group=key, stickiness=None)
    dependencies = _dependencies(raw.get("dependencies"), (at, "dependencies"), faults, notes, around.parents)
    arms = {arm.key: arm.value for each in (*(s.split for s in strategies[::-1]), split) for arm in each.arms[::-1]}
    on = next((name for name in _ON if name not in arms), _ON[-1])
    bare = not any(split.weights) and (not strategies or not all(any(s.split.weights) for s in strategies))
    if bare or not arms:
        arms = {on: None, **arms}
    feature = Feature(key, on, strategies, split, dependencies, around.app_name)
    kind = raw.get("type")
    return FlagDefinition(
        key,
        {DISABLED: None, **arms},
        DISABLED,
        next(iter(arms)),
        enabled,
        prerequisites=tuple(Prerequisite(each.feature, tuple(sorted(each.variants))) for each in dependencies),
        rules=_rules(strategies, split, next(iter(arms))),
        kind="ops" if kind in _OPS else "release",
        version=_digest(raw, around),
        description=raw["description"] if isinstance(raw.get("description"), str) else None,
        text=text,
        logic=logic_of(feature),
        remarks=tuple(notes.problems(key, refused=False)),
    )


def switched_off(key: str, instead: FlagDefinition | None) -> FlagDefinition:
    """A feature that is readably off, whatever else of it cannot be read."""
    made = instead or FlagDefinition(key, {DISABLED: None}, DISABLED, DISABLED, version="0")
    return made._replace(enabled=False, text="", logic=None, rules=(), prerequisites=())


class _Strategies:
    """Reads a feature's strategies."""

    def __init__(self, key: str, around: Surroundings, faults: Faults, notes: Faults) -> None:
        self.key = key
        self.around = around
        self.faults = faults
        self.notes = notes

    def read(self, index: int, value: object, at: At) -> Strategy:
        faults, notes = self.faults, self.notes
        raw = read_object(value, at, faults)
        kind = raw.get("name")
        if not isinstance(kind, str) or not kind:
            faults.expected((at, "name"), kind, "the name of a strategy")
            kind = DEFAULT
        parameters = {} if raw.get("parameters") is None else read_object(raw["parameters"], (at, "parameters"), faults)
        constraints = read_constraints(raw.get("constraints"), (at, "constraints"), faults, notes)
        in_segments = self._segments(raw.get("segments"), (at, "segments"))
        group, stickiness = parameters.get("groupId"), parameters.get("stickiness")
        if isinstance(group, str) and not is_text(group):
            faults.expected(((at, "parameters"), "groupId"), group, "characters of Unicode")
            group = None
        strategy = Strategy(
            f"{kind[:_MAX_LABEL]}[{index}]",
            (*constraints, *(in_segments or ())),
            stickiness=stickiness if isinstance(stickiness, str) else DEFAULT,
            group=group if isinstance(group, str) else self.key,
            never=in_segments is None,
        )
        split = read_variants(
            raw.get("variants"), (at, "variants"), faults, notes, group=strategy.group, stickiness=strategy.stickiness
        )
        return self._of_kind(kind, strategy._replace(split=split), parameters, at)

    def _of_kind(self, kind: str, strategy: Strategy, parameters: Mapping[str, Any], of: At) -> Strategy:
        at: At = (of, "parameters")
        if kind == "flexibleRollout":
            return self._rollout(strategy, parameters, "rollout", at)
        if kind in _GRADUAL:
            if kind != "gradualRolloutRandom" and not isinstance(parameters.get("groupId"), str):
                self.notes.add((at, "groupId"), "is missing; this strategy lets in nobody")
                strategy = strategy._replace(never=True)
            return self._rollout(strategy._replace(stickiness=_GRADUAL[kind]), parameters, "percentage", at)
        if kind == "userWithId":
            users = Constraint(USER, values=frozenset(_split(parameters.get("userIds"))))
            return strategy._replace(constraints=(*strategy.constraints, users))
        if kind == "remoteAddress":
            networks = Networks(_split(parameters.get("IPs")))
            return strategy._replace(
                constraints=(*strategy.constraints, Constraint("remoteAddress", networks.__contains__))
            )
        if kind == "applicationHostname":
            hosts = [each.lower() for each in _split(parameters.get("hostNames"))]
            return strategy._replace(never=strategy.never or (self.around.hostname or "").lower() not in hosts)
        if kind not in BUILT_IN:
            if not is_registered(kind):
                self.notes.expected((of, "name"), kind, "a strategy that is built in or registered; it lets in nobody")
            return strategy._replace(custom=(kind, parameters))
        return strategy

    def _rollout(self, strategy: Strategy, parameters: Mapping[str, Any], name: str, at: At) -> Strategy:
        value = parameters.get(name)
        percent = number(value) if isinstance(value, str) else value
        if isinstance(percent, bool) or not isinstance(percent, (int, float)) or not 0 <= percent <= 100:
            self.notes.expected((at, name), value, "a percentage from 0 to 100; this strategy lets in nobody")
            return strategy._replace(never=True)
        return strategy._replace(rollout=int(percent))  # of a hundred buckets, none is cut in two

    def _segments(self, value: object, at: At) -> tuple[Constraint, ...] | None:
        """The constraints of all segments; None when one is not there or cannot be read."""
        found: list[Constraint] = []
        missing = False
        for index, each in enumerate(_listed(value, at, self.faults, _MAX_STRATEGIES)):
            if isinstance(each, bool) or not isinstance(each, int):
                self.faults.expected((at, index), each, "the number of a segment")
                continue
            segment = self.around.segments.get(each)
            if segment is None or segment.constraints is None:
                missing = True
                self.notes.add((at, index), f"segment {each} is not there or cannot be read: nobody is let in")
            else:
                found += segment.constraints
        return None if missing else tuple(found)


_GRADUAL: Final = {
    "gradualRolloutUserId": USER,
    "gradualRolloutSessionId": SESSION,
    "gradualRolloutRandom": RANDOM,
}


def _split(value: object) -> list[str]:
    return [each.strip() for each in value.split(",")] if isinstance(value, str) else []


def _listed(value: object, at: At, faults: Faults, most: int) -> list[Any]:
    listed = [] if value is None else read_list(value, at, faults)
    if len(listed) > most:
        faults.add(at, f"got {len(listed):,}; expected at most {most:,}")
        return []
    return listed


def _dependencies(
    value: object, at: At, faults: Faults, notes: Faults, parents: Mapping[str, bool]
) -> tuple[Dependency, ...]:
    found = []
    for index, each in enumerate(_listed(value, at, faults, _MAX_DEPENDENCIES)):
        raw = read_object(each, (at, index), faults)
        parent, enabled = raw.get("feature"), raw.get("enabled")
        if not isinstance(parent, str):
            faults.expected(((at, index), "feature"), parent, "the name of a feature")
            parent = "?"
        if enabled is not None:
            enabled = read_bool(enabled, ((at, index), "enabled"), faults)
        variants = _listed(raw.get("variants"), ((at, index), "variants"), faults, 1000)
        if not all(isinstance(variant, str) for variant in variants):
            faults.expected(((at, index), "variants"), variants, "an array of names")
            variants = []
        has_parents = parents.get(parent)
        if has_parents is not False:
            why = "is not there" if has_parents is None else "has dependencies itself"
            notes.add(((at, index), "feature"), f'"{parent[:128]}" {why}: nobody is let in')
        found.append(Dependency(parent, enabled is not False, frozenset(variants), has_parents is not False))
    return tuple(found)


def _rules(strategies: tuple[Strategy, ...], own: Split, serve: str) -> tuple[Rule, ...]:
    """The strategies that place units, as guards know them: what units are there, and whether they are only some."""
    rules = []
    for strategy in strategies:
        split = strategy.split if any(strategy.split.weights) else own
        if strategy.rollout is not None:
            by, percent = strategy.stickiness, 0 if strategy.never else strategy.rollout
        elif sum(map(bool, split.weights)) > 1:
            by, percent = split.stickiness, 100
        else:
            continue
        path = _UNIT if by in (DEFAULT, USER) else (by,)
        rules.append(Rule(strategy.name, (), serve, rollout=Rollout(1000 * percent, by=path)))
    return tuple(rules)


def _digest(raw: Mapping[str, Any], around: Surroundings) -> str:
    """12 hex digits of what decides, whatever the order and spacing of its fields."""
    from hashlib import blake2b  # loads OpenSSL: not at import

    deciding = {name: value for name, value in raw.items() if name not in _UNDECIDING}
    used = (around.segments.get(number) for number in references(raw).segments)
    texts = [segment.text for segment in used if segment is not None]
    text = json.dumps([deciding, texts], sort_keys=True, separators=(",", ":"))
    return blake2b(text.encode(), digest_size=6).hexdigest()
