"""Variants of an Unleash feature or strategy: decoded JSON to a ``Split``. Called by ``unleash_flags``.

A variant's value is its payload: text (types string and csv), a number, or whatever the JSON says; None without one.
"""

from __future__ import annotations

import json
import math
from typing import Any, Final

from flagkit.dialects.fields import At, Faults, check_depth, read_list, read_object, read_whole
from flagkit.dialects.unleash_model import DEFAULT, DISABLED, Arm, Override, Split
from flagkit.dialects.unleash_values import is_text, number

_MAX_VARIANTS: Final = 1000
_MAX_NAME: Final = 1024
_MAX_DEPTH: Final = 28
_MAX_WEIGHT: Final = 1 << 22


def read_variants(value: object, at: At, faults: Faults, notes: Faults, *, group: str, stickiness: str | None) -> Split:
    """A list of variants.

    Args: group, what is hashed with the stickiness; stickiness, of the strategy they belong to; None for a feature's
        own, which name theirs.
    """
    listed = [] if value is None else read_list(value, at, faults, "an array of variants")
    if len(listed) > _MAX_VARIANTS:
        faults.add(at, f"got {len(listed):,} variants; expected at most {_MAX_VARIANTS:,}")
        listed = []
    arms, weights, overrides = [], [], []
    for index, each in enumerate(listed):
        here: At = (at, index)
        raw = read_object(each, here, faults)
        name = raw.get("name")
        if not is_text(name) or not 0 < len(name) <= _MAX_NAME:
            faults.expected((here, "name"), name, f"a string of 1 to {_MAX_NAME:,} characters of Unicode")
            name = "?"
        weights.append(read_whole(raw.get("weight"), (here, "weight"), faults, 0, _MAX_WEIGHT))
        arms.append(Arm(_key(name), name, _payload(raw.get("payload"), (here, "payload"), faults, notes)))
        if stickiness is None:  # a strategy's variants have no overrides
            overrides += _overrides(raw.get("overrides"), (here, "overrides"), index, faults)
    if stickiness is None:
        first = listed[0].get("stickiness") if listed and isinstance(listed[0], dict) else None
        stickiness = first if isinstance(first, str) else DEFAULT
    return Split(tuple(arms), tuple(weights), stickiness, group, tuple(overrides))


def _key(name: str) -> str:
    """``disabled`` is what Unleash calls having no variant, too; those two are not to be taken for one."""
    return f"({name})" if name == DISABLED else name


def _overrides(value: object, at: At, variant: int, faults: Faults) -> list[Override]:
    found = []
    for index, each in enumerate([] if value is None else read_list(value, at, faults)):
        raw = read_object(each, (at, index), faults)
        field, values = raw.get("contextName"), raw.get("values")
        if not isinstance(field, str) or not isinstance(values, list) or not all(isinstance(v, str) for v in values):
            faults.expected((at, index), each, "an object with contextName and values")
            continue
        found.append(Override(field, frozenset(values), variant))
    if len(found) > _MAX_VARIANTS:
        faults.add(at, f"got {len(found):,} overrides; expected at most {_MAX_VARIANTS:,}")
        return []
    return found


def _payload(value: object, at: At, faults: Faults, notes: Faults) -> Any:
    if value is None:
        return None
    raw = read_object(value, at, faults)
    content = raw.get("value")
    if not isinstance(content, str) or raw.get("type") not in ("number", "json"):
        check_depth(content, at, faults, _MAX_DEPTH)
        return content
    if raw["type"] == "number":
        found = number(content.strip())
        if found is None:
            notes.expected((at, "value"), content, "a number; it is served as text")
            return content
        return int(content) if content.strip().lstrip("+-").isdecimal() else found
    try:
        decoded = json.loads(content, parse_constant=_refused, parse_float=_finite)
    except (ValueError, RecursionError):
        notes.expected((at, "value"), content, "JSON; it is served as text")
        return content
    check_depth(decoded, at, faults, _MAX_DEPTH)
    return decoded


def _refused(name: str) -> None:
    raise ValueError(name)


def _finite(digits: str) -> float:
    found = float(digits)
    if not math.isfinite(found):
        raise ValueError(digits)
    return found
