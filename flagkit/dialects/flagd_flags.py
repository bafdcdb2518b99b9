"""flagd's flags: one flag's decoded JSON to a ``FlagDefinition``, noting every mistake. Called by ``flagd``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from itertools import islice
from typing import Any, Final, NamedTuple

from flagkit.core.model import FlagDefinition
from flagkit.dialects.fields import (
    At,
    Faults,
    check_depth,
    one_of,
    path_text,
    read_choice,
    read_object,
    said,
    unknown_fields,
)
from flagkit.dialects.flagd_compile import Flag, logic_of, variant_named
from flagkit.dialects.flagd_evaluators import Evaluators
from flagkit.dialects.flagd_fractional import Hashing
from flagkit.dialects.flagd_rules import MAX_DEPTH, check_rule, named_variants, operation
from flagkit.dialects.flagd_rules import check_depth as check_rule_depth
from flagkit.errors import Problem

_FLAG: Final = frozenset(
    {"defaultVariant", "key", "metadata", "selector", "source", "state", "targeting", "variants", "$schema"}
)
_STATES: Final = ("ENABLED", "DISABLED")
_MAX_VARIANTS: Final = 1000
_MAX_VALUE_DEPTH: Final = 28
_MAX_SIZE: Final = 20_000  # lists and objects in a rule with everything put in
_MAX_TEXT: Final = 128
_MAX_NOTED: Final = 100  # fields, of one object
_OFF: Final = "off"


class Surroundings(NamedTuple):
    """What a flag is read with. version: the ``version`` of the set's metadata."""

    evaluators: Evaluators
    hashing: Hashing
    version: str | None


def read_flag(key: str, value: object, text: str, at: At, faults: Faults, around: Surroundings) -> FlagDefinition:
    """One flag, written as ``text``. With faults noted, the result is not for use."""
    raw = read_object(value, at, faults)
    state = read_choice(raw.get("state"), _STATES, (at, "state"), faults)
    variants = _variants(raw.get("variants"), (at, "variants"), faults)
    default = _default(raw.get("defaultVariant"), variants, (at, "defaultVariant"), faults)
    targeting = _targeting(raw.get("targeting"), (at, "targeting"), faults, around.evaluators)
    off, on = _off(variants, default)
    notes = Faults()
    note_unknown(raw, _FLAG, at, notes)
    for where, named in () if faults.found else named_variants(targeting, (at, "targeting")):
        if named is not None and variant_named(named) not in variants:
            notes.add(where, f"{said(named)} is none of the variants: an error, GENERAL, for whom it comes to that")
    metadata = _metadata(raw.get("metadata"), (at, "metadata"), notes)
    version = version_in(metadata) or around.version
    decides = [state, variants, default, targeting, around.hashing.version]
    flag = Flag(key, state == "DISABLED", variants, default, on, targeting, around.hashing)
    return FlagDefinition(
        key,
        variants,
        off,
        default or off,
        version=version or ("?" if faults.found else _digest(decides)),
        owner=_text(metadata, "owner"),
        description=_text(metadata, "description"),
        text=text,
        logic=logic_of(flag),
        remarks=tuple(notes.problems(key, refused=False)),
    )


def disabled(key: str, instead: FlagDefinition | None, hashing: Hashing) -> FlagDefinition:
    """A flag that is switched off in words that can be read, whatever else of it cannot."""
    variants = instead.variants if instead else {_OFF: False}
    off = instead.off if instead else _OFF
    flag = Flag(key, True, variants, None, frozenset(), None, hashing)
    return FlagDefinition(key, variants, off, off, version=_digest([key, "DISABLED"]), logic=logic_of(flag))


def note_unknown(value: Mapping[str, Any], known: frozenset[str], at: At, notes: Faults) -> None:
    """Note the first fields of ``value`` that are not ``known``."""
    unknown_fields(dict(islice(((key, None) for key in value if key not in known), _MAX_NOTED)), known, at, notes)


def version_in(metadata: Mapping[str, Any]) -> str | None:
    """The ``version`` of a set's or a flag's metadata, as text; None without a usable one."""
    version = metadata.get("version")
    named = None if isinstance(version, bool) else variant_named(version)
    return named if named and len(named) <= _MAX_TEXT and named.isprintable() else None


def _variants(value: object, at: At, faults: Faults) -> Mapping[str, Any]:
    if not isinstance(value, dict) or not 0 < len(value) <= _MAX_VARIANTS:
        faults.expected(at, value, f"an object of 1 to {_MAX_VARIANTS:,} variants")
        return {_OFF: False}
    for name, each in value.items():
        if not _is_name(name):
            faults.add((at, name), f"not a variant's name; expected 1 to {_MAX_TEXT} characters of Unicode")
        if each is None:
            faults.expected((at, name), each, "true or false, a number, a string, an object or an array")
        check_depth(each, (at, name), faults, _MAX_VALUE_DEPTH)
    return value


def _is_name(name: str) -> bool:
    return 0 < len(name) <= _MAX_TEXT and not any("\ud800" <= character <= "\udfff" for character in name)


def _default(value: object, variants: Mapping[str, Any], at: At, faults: Faults) -> str | None:
    if value is None or value == "":
        return None
    name = variant_named(value) if isinstance(value, (str, bool)) else None
    if name is None or name not in variants:
        faults.expected(at, value, f"null or {one_of(variants)}")
        return None
    return name


def _off(variants: Mapping[str, Any], default: str | None) -> tuple[str, frozenset[str]]:
    """The variant served when the flag is switched off from here, and those that count as enabled.

    Of true and false it is false; else the one named off, or the default, or the first.
    """
    if all(isinstance(value, bool) for value in variants.values()):
        no = [name for name, value in variants.items() if value is False]
        off = default if default in no or not no else no[0]
        return off or next(iter(variants)), frozenset(name for name, value in variants.items() if value is True)
    off = _OFF if _OFF in variants else default or next(iter(variants))
    return off, frozenset(variants) - {off}


def _targeting(value: object, at: At, faults: Faults, evaluators: Evaluators) -> Any:
    """The rule with everything put in; None when there is none."""
    if value is None or value == {}:
        return None
    if not isinstance(value, dict) or operation(value) is None:
        faults.expected(at, value if not isinstance(value, dict) else list(value), "an object of one operation")
        return None
    if not check_rule_depth(value, at, faults):
        return None
    measure = evaluators.measure(value)
    if measure.size > _MAX_SIZE or measure.depth > MAX_DEPTH:
        faults.add(at, f"too large with all it refers to; expected {_MAX_SIZE:,} lists and objects, {MAX_DEPTH} levels")
        return None
    rule = evaluators.put_in(value)
    check_rule(rule, at, faults)
    return rule


def _metadata(value: object, at: At, notes: Faults) -> Mapping[str, Any]:
    if value is None:
        return {}
    metadata = read_object(value, at, notes)
    for name, each in islice(metadata.items(), _MAX_NOTED):
        if not isinstance(each, (str, int, float)):
            notes.expected((at, name), each, "a string, a number, true or false")
    return metadata


def _text(metadata: Mapping[str, Any], name: str) -> str | None:
    value = metadata.get(name)
    return value if isinstance(value, str) and 0 < len(value) <= 4096 else None


def _digest(decides: list[Any]) -> str:
    """12 hex digits of what decides, whatever the order and spacing of its fields."""
    from hashlib import blake2b  # loads OpenSSL: not at import

    text = json.dumps(decides, sort_keys=True, separators=(",", ":"))
    return blake2b(text.encode(), digest_size=6).hexdigest()


def key_problem(key: str, at: At) -> Problem | None:
    """Why ``key`` cannot be a flag's; None when it can."""
    if _is_name(key):
        return None
    return Problem(path_text(at), f"not a flag's key; expected 1 to {_MAX_TEXT} characters of Unicode", key)
