"""Native segments, layers and holdouts: decoded JSON to ``core.model``, noting every mistake. Called by ``native``."""

from __future__ import annotations

from typing import Final

from flagkit.core.model import UNIT, AllOf, AnyOf, Condition, Holdout, Layer, Segment
from flagkit.dialects.fields import At, Faults, read_list, read_object, unknown_fields
from flagkit.dialects.native_conditions import (
    asks_enrolment,
    read_conditions,
    read_key,
    read_path,
    read_threshold,
    read_units,
    segments_in,
)

_SEGMENT: Final = frozenset({"description", "units", "any", "all"})
_LAYER: Final = frozenset({"description", "by", "salt", "slots"})
_HOLDOUT: Final = frozenset({"description", "percent", "flags", "salt"})


def read_segment(name: str, value: object, at: At, faults: Faults) -> Segment:
    raw = read_object(value, at, faults)
    unknown_fields(raw, _SEGMENT, at, faults)
    units = frozenset(read_units(raw["units"], (at, "units"), faults)) if "units" in raw else None
    parts: list[Condition] = []
    for field, kind in (("any", AnyOf), ("all", AllOf)):
        if field in raw:
            inner = read_conditions(raw[field], (at, field), faults)
            if not inner:
                faults.add((at, field), "no conditions; expected at least one")
            if any(map(asks_enrolment, inner)):
                faults.add((at, field), '"enrolled" is asked for one flag; expected it in a rule, not in a segment')
            parts.append(kind(inner))
    if units is None and not parts and isinstance(value, dict):
        faults.add(at, 'expected "units", "any" or "all"')
    conditions = AnyOf(tuple(parts)) if len(parts) > 1 else parts[0] if parts else None
    return Segment(name, units, conditions, segments_in(tuple(parts)))


def read_layers(value: object, at: At, faults: Faults) -> tuple[Layer, ...]:
    layers: list[Layer] = []
    for name, item in read_object(value, at, faults).items():
        raw, here = read_object(item, (at, name), faults), (at, name)
        read_key(name, here, faults)
        if raw is not item:
            continue
        unknown_fields(raw, _LAYER, here, faults)
        slots: dict[str, tuple[int, int]] = {}
        for flag, bounds in read_object(raw.get("slots"), (here, "slots"), faults).items():
            slot_at = ((here, "slots"), flag)
            pair = read_list(bounds, slot_at, faults)
            if pair is not bounds:
                continue
            if len(pair) != 2:
                faults.expected(slot_at, bounds, "a pair of percentages, such as [0, 20]")
                continue
            before = len(faults.found)
            start, end = (read_threshold(bound, (slot_at, index), faults) for index, bound in enumerate(pair))
            if len(faults.found) > before:
                continue
            if start >= end:
                faults.expected(slot_at, bounds, "the lower percentage first")
            for other, (low, high) in slots.items():
                if start < high and low < end:
                    faults.add(slot_at, f'overlaps the slot of "{other}"')
            if any(flag in layer.slots for layer in layers):
                faults.add(slot_at, "the flag is in another layer already")
            slots[flag] = (start, end)
        by = read_path(raw["by"], (here, "by"), faults) if "by" in raw else UNIT
        salt = read_key(raw["salt"], (here, "salt"), faults) if "salt" in raw else name
        layers.append(Layer(name, salt, by, slots))
    return tuple(layers)


def read_holdouts(value: object, at: At, faults: Faults) -> tuple[Holdout, ...]:
    holdouts = []
    for name, item in read_object(value, at, faults).items():
        raw, here = read_object(item, (at, name), faults), (at, name)
        read_key(name, here, faults)
        if raw is not item:
            continue
        unknown_fields(raw, _HOLDOUT, here, faults)
        threshold = read_threshold(raw.get("percent"), (here, "percent"), faults)
        flags = read_list(raw.get("flags"), (here, "flags"), faults)
        keys = frozenset(flag if flag == "*" else read_key(flag, (here, "flags"), faults) for flag in flags)
        salt = read_key(raw["salt"], (here, "salt"), faults) if "salt" in raw else name
        holdouts.append(Holdout(name, salt, threshold, keys))
    return tuple(holdouts)
