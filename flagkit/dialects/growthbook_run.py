"""An experiment by itself, outside of any feature: ``run`` of GrowthBook's specification.

For definitions flagkit compiles; this one is decided step by step, for an experiment that a program has at hand and for
the specification's cases. Pure: nothing is recorded. Called by tests and by whoever has such experiments.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from flagkit.core.snapshot import Snapshot
from flagkit.dialects.growthbook import context, parse
from flagkit.dialects.growthbook_conditions import eval_condition
from flagkit.dialects.growthbook_hash import (
    BUCKETS,
    bucket_ranges,
    bucketing,
    choose_variation,
    in_namespace,
    in_range,
    units_of,
)

_NUMBER: Final = re.compile(r"\s*\+?([0-9]{1,9})", re.ASCII).match


class Result(NamedTuple):
    """variation: the number of the one assigned; 0 for those who are not in the experiment. bucket: from 0 up to 1."""

    variation: int
    value: Any
    in_experiment: bool
    hash_used: bool
    key: str
    bucket: float | None = None
    passthrough: bool = False


def run(experiment: Mapping[str, Any], options: Mapping[str, Any]) -> Result:
    """Assign a variation.

    Args:
        experiment: ``key`` and ``variations``, and what else the specification has.
        options: of the specification's context: ``attributes``, ``enabled``, ``url``, ``forcedVariations``,
            ``qaMode``, ``features`` (for prerequisites) and ``savedGroups``.

    Raises: DefinitionsError when ``features`` cannot be used at all.
    """
    variations = experiment["variations"]
    if len(variations) < 2 or options.get("enabled") is False:
        return _result(experiment, -1)
    asked = query_override(experiment["key"], options.get("url") or "", len(variations))
    if asked is not None:
        return _result(experiment, asked)
    forced = (options.get("forcedVariations") or {}).get(experiment["key"])
    if forced is not None:
        return _result(experiment, forced)
    if experiment.get("active") is False or experiment.get("status") == "draft":
        return _result(experiment, -1)
    bucket = _bucket(experiment, options)
    if bucket is None:
        return _result(experiment, -1)
    ranges = experiment.get("ranges") or bucket_ranges(
        len(variations), experiment.get("coverage"), experiment.get("weights")
    )
    assigned = choose_variation(bucket, ranges)
    if assigned < 0:
        return _result(experiment, -1)
    if experiment.get("force") is not None:
        return _result(experiment, experiment["force"])
    if options.get("qaMode") or experiment.get("status") == "stopped":
        return _result(experiment, -1)
    return _result(experiment, assigned, bucket)


def query_override(key: str, url: str, variations: int) -> int | None:
    """The variation that a URL's query asks for: the first ``key=number`` in it, if there is such a variation."""
    query = url.partition("#")[0].partition("?")[2]
    for pair in query.split("&"):
        name, _, number = pair.partition("=")
        if name == key:
            found = _NUMBER(number)
            return int(found[1]) if found and int(found[1]) < variations else None
    return None


def _bucket(experiment: Mapping[str, Any], options: Mapping[str, Any]) -> float | None:
    """Where the unit is, from 0 up to 1; None when it is kept out, or there is nothing to hash."""
    attributes = options.get("attributes") or {}
    value = attributes.get(experiment.get("hashAttribute") or "id")
    units = units_of(value)
    version = experiment.get("hashVersion") or 1
    bucket = bucketing(experiment.get("seed") or experiment["key"], version)
    if units is None or bucket is None or not _passes(experiment, options, attributes, value):
        return None
    return bucket(units) / BUCKETS[version]


def _passes(
    experiment: Mapping[str, Any], options: Mapping[str, Any], attributes: Mapping[str, Any], value: Any
) -> bool:
    filters, namespace = experiment.get("filters"), experiment.get("namespace")
    if filters:
        if not all(_within(each, attributes) for each in filters):
            return False
    elif namespace and not in_namespace(_shown(value), namespace):
        return False
    groups = options.get("savedGroups")
    condition = experiment.get("condition")
    if condition and not eval_condition(attributes, condition, groups):
        return False
    parents = experiment.get("parentConditions") or ()
    return not parents or _prerequisites(parents, options, attributes)


def _within(share: Mapping[str, Any], attributes: Mapping[str, Any]) -> bool:
    units = units_of(attributes.get(share.get("attribute") or "id"))
    version = share.get("hashVersion") or 2
    bucket = bucketing(share.get("seed") or "", version)
    if units is None or bucket is None:
        return False
    n = bucket(units) / BUCKETS[version]
    return any(in_range(n, each) for each in share["ranges"])


def _prerequisites(parents: Any, options: Mapping[str, Any], attributes: Mapping[str, Any]) -> bool:
    document = {"features": options.get("features") or {}, "savedGroups": options.get("savedGroups") or {}}
    definitions = parse(json.dumps(document).encode()).definitions
    snapshot = Snapshot(definitions, now_ms=lambda: 0)
    unit = context(attributes)
    return all(
        eval_condition(
            {"value": snapshot.decide(each["id"], unit).value}, each.get("condition") or {}, options.get("savedGroups")
        )
        for each in parents
    )


def _shown(value: Any) -> str:
    """The text that is hashed of a value."""
    units = units_of(value)
    return "" if units is None else "".join(map(chr, units))


def _result(experiment: Mapping[str, Any], variation: int, bucket: float | None = None) -> Result:
    variations = experiment["variations"]
    inside = 0 <= variation < len(variations)
    number = variation if inside else 0
    meta = experiment.get("meta") or []
    about = meta[number] if number < len(meta) else {}
    return Result(
        number,
        variations[number] if variations else None,
        inside,
        bucket is not None,
        about.get("key") or str(number),
        bucket,
        about.get("passthrough") is True,
    )
