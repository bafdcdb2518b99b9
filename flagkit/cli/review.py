"""What is worth a look in definitions that are correct: expired flags, finished ones, rules that say it unsafely.

Pure: definitions, code flags and a date in, findings out. Called by ``lint``.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from typing import Final, NamedTuple

from flagkit.cli.code_flags import CodeFlags
from flagkit.core.bucketing import BUCKETS
from flagkit.core.dates import parse_date_ms
from flagkit.core.model import UNIT, Definitions, FlagDefinition, Rule

_DAY_MS: Final = 86_400_000
_EPOCH: Final = date(1970, 1, 1)


class Finding(NamedTuple):
    """Something to look at. ``place``: a JSON path when ``line`` is None, else a source file."""

    place: str
    line: int | None
    message: str
    code: str
    flag: str | None = None


def review(definitions: Definitions, today: date, *, strict: bool = False) -> Iterator[Finding]:
    """Findings in the definitions alone. strict: also flags of kind release without an owner or a date of expiry."""
    for key in definitions.refused:
        yield Finding(f"$.flags.{key}", None, f"{key} cannot be used; see flagkit validate", "refused", key)
    for flag in definitions.flags.values():
        place = f"$.flags.{flag.key}"
        if flag.expires is not None and is_past(flag.expires, today):
            yield Finding(place, None, f"{flag.key} expired on {flag.expires}", "expired", flag.key)
        # A kill switch stands one way until the day it is needed.
        served = set() if flag.kind == "ops" else _outcomes(definitions, flag, _day_ms(today))
        if len(served) == 1:
            state = "serves" if flag.enabled else "is disabled and serves"
            message = f'{flag.key} {state} "{served.pop()}" to everyone; keep that path in the code and drop the flag'
            yield Finding(place, None, message, "one-way", flag.key)
        yield from _unsafe_rules(flag)
        if strict and flag.kind == "release":
            if flag.owner is None:
                yield Finding(place, None, f'{flag.key} has no "owner"', "no-owner", flag.key)
            if flag.expires is None:
                yield Finding(place, None, f'{flag.key} has no "expires"', "no-expiry", flag.key)


def compare(definitions: Definitions, code: CodeFlags, today: date) -> Iterator[Finding]:
    """Findings between the definitions and the code, and in the flags that the code declares."""
    defined = definitions.flags.keys() | definitions.refused
    for use in code.uses:
        if use.ignored:
            continue
        if use.flag not in defined:
            yield Finding(use.path, use.line, f"{use.flag} is not defined", "undefined", use.flag)
        if use.expires is not None and is_past(use.expires, today):
            yield Finding(use.path, use.line, f"{use.flag} expired on {use.expires}", "expired", use.flag)
    asked = {use.flag for use in code.uses} | code.mentions
    asked |= {parent.flag for flag in definitions.flags.values() for parent in flag.prerequisites}
    for key in defined:
        if key not in asked:
            yield Finding(f"$.flags.{key}", None, f"{key} is not in the code", "unused", key)
    for place in code.broken:
        yield Finding(place.path, place.line, place.message, "unreadable")


def is_past(expires: str, today: date) -> bool:
    """Whether the day of ``expires`` is over."""
    at = parse_date_ms(expires)
    return at is not None and at // _DAY_MS * _DAY_MS < _day_ms(today)


def _day_ms(day: date) -> int:
    return (day - _EPOCH).days * _DAY_MS


# -- flags that are finished -----------------------------------------------------------------------------------------


def _outcomes(definitions: Definitions, flag: FlagDefinition, now_ms: int) -> set[str]:
    """The variants that anyone could get from ``now_ms`` on, without trips and overrides."""
    if not flag.enabled:
        return {flag.off}
    served = set(flag.targets.values())
    held_out = any(holdout.threshold and holdout.applies_to(flag) for holdout in definitions.holdouts)
    if flag.prerequisites or flag.exclude or held_out:
        served.add(flag.off)
    layer = definitions.layer_of(flag.key)
    start, end = layer.slots[flag.key] if layer else (0, BUCKETS)
    for rule in flag.rules:
        least, most = _shares(rule, now_ms)
        if rule.by is not None:
            least, most = (least if end - start == BUCKETS else 0), (most if end > start else 0)
        if most:
            served |= _served(rule)
        if least == BUCKETS and not rule.when:
            return served
    return served | {flag.default}


def _shares(rule: Rule, now_ms: int) -> tuple[int, int]:
    """The least and the most buckets that the rule lets in, now and in all steps to come."""
    rollout = rule.rollout
    if rollout is None:
        return BUCKETS, BUCKETS
    everyone = rollout.by == UNIT  # by anything else, whoever lacks that attribute is left out
    if not rollout.steps:
        return (rollout.threshold if everyone else 0), rollout.threshold
    past = [step.threshold for step in rollout.steps if step.from_ms <= now_ms]
    ahead = [step.threshold for step in rollout.steps if step.from_ms > now_ms]
    shares = [past[-1] if past else 0, *ahead]
    return (min(shares) if everyone else 0), max(shares)


# -- rules that let through whom they do not know --------------------------------------------------------------------


def _unsafe_rules(flag: FlagDefinition) -> Iterator[Finding]:
    """Rules that serve off above a wider one: with a missing attribute the wider one decides. `exclude` is safe."""
    if not flag.enabled:
        return
    for index, rule in enumerate(flag.rules):
        if not rule.when or rule.serve != flag.off:
            continue
        wider = next((later for later in flag.rules[index + 1 :] if _takes_more(later, rule, flag.off)), None)
        if wider is None and flag.default == flag.off:
            continue
        below = f'rule "{wider.name}"' if wider else f'the default "{flag.default}"'
        message = (
            f'rule "{rule.name}" of {flag.key} serves "{flag.off}" above {below}, which decides where its conditions '
            f"are unknown; use `exclude`"
        )
        yield Finding(f"$.flags.{flag.key}.rules[{index}]", None, message, "off-above-wider", flag.key)


def _takes_more(later: Rule, rule: Rule, off: str) -> bool:
    """Whether ``later`` asks for less than ``rule`` and serves anything but off."""
    narrower = len(rule.when) > len(later.when) and all(condition in rule.when for condition in later.when)
    return narrower and _served(later) != {off}


def _served(rule: Rule) -> set[str]:
    return {share.variant for share in rule.split if share.weight} or {str(rule.serve)}
