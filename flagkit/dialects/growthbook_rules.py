"""GrowthBook's features: one feature's decoded JSON to a ``Feature``, noting every mistake.

What GrowthBook forgives is forgiven as it does (weights that come to nothing, a coverage beyond 1, a rule that is
none); what it cannot mean is a mistake. Variants get their names here. Called by ``growthbook``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from flagkit.dialects.fields import At, Faults, check_depth, read_list, read_object
from flagkit.dialects.growthbook_conditions import Around, Place, read_condition
from flagkit.dialects.growthbook_groups import Group
from flagkit.dialects.growthbook_hash import BUCKETS, Range, bucket_ranges, first_above, first_at, pieces
from flagkit.dialects.growthbook_variants import Variants
from flagkit.dialects.growthbook_writing import Node

_MAX_RULES, _MAX_VARIATIONS, _MAX_RANGES, _MAX_PARENTS = 500, 500, 500, 100
_MAX_VALUE_DEPTH: Final = 28
_MAX_TEXT: Final = 1024
_MAX_NAME: Final = 128
_DEFAULT_ATTRIBUTE: Final = "id"


class Bucketing(NamedTuple):
    """What is hashed: an attribute, with a seed, in a version of the hash."""

    attribute: str
    seed: str
    version: int


class Share(NamedTuple):
    """A unit is in when its bucket is. buckets: (first, first behind), any number of them."""

    by: Bucketing
    buckets: tuple[tuple[int, int], ...]


class Parent(NamedTuple):
    """Another feature whose value has to match. gate: the whole feature is blocked unless it does."""

    key: str
    condition: Node | None
    gate: bool


class Experiment(NamedTuple):
    """key: what the experiment is known by. names: of the variants and what callers are told, by variation.

    passes: variations that go on to the next rule. begins, owners: as ``growthbook_hash.pieces``; None without a hash.
    """

    key: str
    names: tuple[tuple[str, str], ...]
    passes: frozenset[int]
    by: Bucketing | None
    begins: tuple[int, ...]
    owners: tuple[int, ...]
    namespace: Share | None


class Rule(NamedTuple):
    """parents, then condition and filters; then the variant ``force``, for a share of units if there is one, or an
    experiment. With neither it is none. name: the experiment's key, the rule's id, or where it stands."""

    name: str
    condition: Node | None
    parents: tuple[Parent, ...]
    filters: tuple[Share, ...]
    force: str | None = None
    share: Share | None = None
    experiment: Experiment | None = None


class Feature(NamedTuple):
    """default, off: variants. groups: ids of the saved groups it refers to, there or not.

    digest: of all of it, whatever the order and spacing of its fields.
    """

    key: str
    variants: Mapping[str, Any]
    default: str
    off: str
    rules: tuple[Rule, ...]
    groups: frozenset[str]
    digest: bytes

    @property
    def parents(self) -> list[str]:
        """The features it asks, each as often as it does."""
        return [parent.key for rule in self.rules for parent in rule.parents]


def read_feature(
    key: str, value: object, at: At, groups: Mapping[str, Group], faults: Faults, notes: Faults
) -> Feature:
    """One feature. With faults noted, the result is not for use."""
    raw = read_object(value, at, faults)
    around = Around(groups, faults, notes)
    default = raw.get("defaultValue")
    check_depth(default, (at, "defaultValue"), faults, _MAX_VALUE_DEPTH)
    variants = Variants(default)
    rules = []
    written = raw.get("rules")
    for index, each in enumerate([] if written is None else read_list(written, (at, "rules"), faults)):
        if index == _MAX_RULES:
            faults.add((at, "rules"), f"more than {_MAX_RULES} rules")
            break
        rules.append(_Reading(key, index, ((at, "rules"), index), around, variants).rule(each))
    used = frozenset(around.used)
    return Feature(key, variants.named, variants.default, variants.off, tuple(rules), used, _digest(value))


class _Reading:
    """One rule being read."""

    def __init__(self, feature: str, index: int, at: At, around: Around, variants: Variants) -> None:
        self.feature = feature
        self.index = index
        self.at = at
        self.around = around
        self.faults = around.faults
        self.variants = variants

    def rule(self, value: object) -> Rule:
        raw = read_object(value, self.at, self.faults)
        condition = raw.get("condition")
        rule = Rule(
            _name(raw.get("id")) or f"rules[{self.index}]",
            read_condition(condition, Place((self.at, "condition")), self.around) if condition else None,
            tuple(self._parents(raw.get("parentConditions"))),
            tuple(self._filters(raw.get("filters"))),
        )
        if "force" in raw:
            check_depth(raw["force"], (self.at, "force"), self.faults, _MAX_VALUE_DEPTH)
            return rule._replace(force=self.variants.forced(raw["force"]), share=self._rollout(raw))
        if raw.get("variations") is None:
            if not rule.parents:
                self.around.notes.add(self.at, "neither force nor variations: a rule that does nothing")
            return rule
        key = self._text(raw, "key", "", self.at) or self.feature
        experiment = self._experiment(key, raw, filtered=bool(rule.filters))
        return rule._replace(name=_name(key) or rule.name, experiment=experiment)

    # -- what a rule asks for ----------------------------------------------------------------------------------------

    def _parents(self, value: object) -> list[Parent]:
        parents = []
        at = (self.at, "parentConditions")
        for index, each in enumerate(self._list(value, at, _MAX_PARENTS)):
            raw = read_object(each, (at, index), self.faults)
            key, condition = raw.get("id"), raw.get("condition")
            if not isinstance(key, str):
                self.faults.expected(((at, index), "id"), key, "the key of a feature")
                continue
            place = Place(((at, index), "condition"))
            node = read_condition(condition, place, self.around) if condition else None
            parents.append(Parent(key, node, raw.get("gate") is True))
        return parents

    def _filters(self, value: object) -> list[Share]:
        shares = []
        for index, each in enumerate(self._list(value, (self.at, "filters"), _MAX_RANGES)):
            at = ((self.at, "filters"), index)
            raw = read_object(each, at, self.faults)
            by = Bucketing(
                self._text(raw, "attribute", _DEFAULT_ATTRIBUTE, at),
                self._text(raw, "seed", "", at),
                self._version(raw, 2, at),
            )
            shares.append(_share(by, self._ranges(raw.get("ranges"), (at, "ranges"))))
        return shares

    def _rollout(self, raw: dict[str, Any]) -> Share | None:
        """The share of units that a value is forced for; None when it is for all."""
        coverage, bounds = self._number(raw, "coverage"), raw.get("range")
        if coverage is None and bounds is None:
            return None
        by = self._bucketing(raw, self.feature)
        if bounds is not None:
            return _share(by, self._ranges([bounds], (self.at, "range")))
        # A coverage of 0 is for nobody, although bucket 0 is not above it.
        last = first_above(coverage, BUCKETS[by.version]) if coverage and by.version in BUCKETS else 0
        return Share(by, ((0, last),))

    def _experiment(self, key: str, raw: dict[str, Any], *, filtered: bool) -> Experiment | None:
        variations = self._list(raw["variations"], (self.at, "variations"), _MAX_VARIATIONS)
        check_depth(variations, (self.at, "variations"), self.faults, _MAX_VALUE_DEPTH)
        meta = [
            each if isinstance(each, dict) else {}
            for each in self._list(raw.get("meta"), (self.at, "meta"), _MAX_VARIATIONS)
        ]
        meta += [{}] * (len(variations) - len(meta))
        names = tuple(
            self.variants.of_experiment(key, meta[index].get("key"), index, each)
            for index, each in enumerate(variations)
        )
        coverage = self._number(raw, "coverage")
        written = raw.get("ranges")
        ranges = (
            self._ranges(written, (self.at, "ranges"))
            if written
            else bucket_ranges(len(variations), coverage, raw.get("weights"))
        )
        if len(variations) < 2:
            self.around.notes.add((self.at, "variations"), "fewer than two: nobody is in the experiment")
            return None
        by = self._bucketing(raw, key)
        passes = frozenset(index for index, each in enumerate(meta) if each.get("passthrough") is True)
        namespace = None if filtered else self._namespace(raw.get("namespace"), by.attribute)
        if by.version not in BUCKETS:
            return Experiment(key, names, passes, None, (), (-1,), namespace)
        begins, owners = pieces(tuple(ranges), BUCKETS[by.version])
        known = tuple(owner if owner < len(variations) else -1 for owner in owners)
        return Experiment(key, names, passes, by, begins, known, namespace)

    def _namespace(self, value: object, attribute: str) -> Share | None:
        if value is None:
            return None
        if not isinstance(value, list) or len(value) != 3 or not isinstance(value[0], str):
            self.faults.expected((self.at, "namespace"), value, "an array of a name, a start and an end")
            return None
        return _share(Bucketing(attribute, "__" + value[0], 1), self._ranges([value[1:]], (self.at, "namespace")))

    # -- fields ------------------------------------------------------------------------------------------------------

    def _bucketing(self, raw: dict[str, Any], seed: str) -> Bucketing:
        return Bucketing(
            self._text(raw, "hashAttribute", _DEFAULT_ATTRIBUTE, self.at),
            self._text(raw, "seed", "", self.at) or seed,
            self._version(raw, 1, self.at),
        )

    def _version(self, raw: dict[str, Any], otherwise: int, at: At) -> int:
        version = raw.get("hashVersion") or otherwise
        if type(version) is int and version in BUCKETS:
            return version
        self.around.notes.expected((at, "hashVersion"), version, "1 or 2; nobody is in what is drawn by it")
        return 0

    def _text(self, raw: dict[str, Any], field: str, otherwise: str, at: At) -> str:
        value = raw.get(field)
        if value is None:
            return otherwise
        if isinstance(value, str) and len(value) <= _MAX_TEXT:
            return value
        self.faults.expected((at, field), value, f"a string of at most {_MAX_TEXT:,} characters")
        return otherwise

    def _number(self, raw: dict[str, Any], field: str) -> float | None:
        value = raw.get(field)
        if value is None or (isinstance(value, (int, float)) and not isinstance(value, bool)):
            return value
        self.faults.expected((self.at, field), value, "a number from 0 to 1")
        return None

    def _list(self, value: object, at: At, most: int) -> list[Any]:
        if value is None:
            return []
        found = read_list(value, at, self.faults)
        if len(found) > most:
            self.faults.add(at, f"more than {most:,} entries")
        return found[:most]

    def _ranges(self, value: object, at: At) -> list[Range]:
        ranges = []
        for index, each in enumerate(self._list(value, at, _MAX_RANGES)):
            numbers = isinstance(each, list) and len(each) == 2 and all(type(n) in (int, float) for n in each)
            if not numbers:
                self.faults.expected((at, index), each, "two numbers from 0 to 1")
                return []
            ranges.append((each[0], each[1]))
        return ranges


def _name(value: object) -> str | None:
    """``value`` if decisions and events can name a rule so."""
    return value if isinstance(value, str) and 0 < len(value) <= _MAX_NAME and value.isprintable() else None


def _share(by: Bucketing, ranges: list[Range]) -> Share:
    buckets = BUCKETS.get(by.version, 0)
    return Share(by, tuple((first_at(start, buckets), first_at(end, buckets)) for start, end in ranges if buckets))


def _digest(value: object) -> bytes:
    from hashlib import blake2b  # loads OpenSSL: not at import

    return blake2b(json.dumps(value, sort_keys=True, separators=(",", ":")).encode(), digest_size=16).digest()
