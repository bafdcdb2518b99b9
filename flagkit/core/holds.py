"""Holds: rules that give a candidate no more than an earlier step of the ramp did, whatever the definitions say. Pure.

What a flag's rules deal by now, which of them have been raised, and the flag with a hold laid over it. A unit that had
the candidate at the earlier step still has it: the share goes back, and nobody is dealt anew. Who decides that there is
a hold, and for how long, is ``production``'s; ``snapshot`` compiles flags with theirs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, TypeAlias

from flagkit.core.model import UNIT, Dealing, FlagDefinition, Hold, Path, Rollout, Rule, Share

_ALL: Final = 100_000
_MOST_RULES: Final = 250
_MOST_SHARES: Final = 1000
_MOST_WEIGHT: Final = 1 << 53

#: Flag -> what holds of it.
Holds: TypeAlias = Mapping[str, Hold]


def dealt(flag: FlagDefinition, now_ms: int) -> dict[str, Dealing]:
    """Rule -> what it deals at ``now_ms``, of the rules that deal units; none of a flag that decides by its own logic.

    Raises: nothing.
    """
    return {rule.name: _dealing(rule, now_ms) for rule in flag.rules if rule.by is not None and flag.logic is None}


def raised(before: Mapping[str, Dealing], after: Mapping[str, Dealing], control: str, off: str) -> dict[str, Dealing]:
    """What those rules dealt before which give some candidate more than they did, and could go back.

    control, off: the two variants that are no candidates.
    """
    found = {}
    for name, now in after.items():
        was = before.get(name) or Dealing(0, now.shares, now.by)
        more = any(now.gives_more(was, variant) for variant in now.shares if variant not in (control, off))
        if more and (len(now.shares) == 1 or control in now.shares or now.threshold > was.threshold):
            found[name] = was
    return found


def deals_to(flag: FlagDefinition, control: str, now_ms: int) -> bool:
    """Whether ``control`` is given to units beside others, as far as can be told: not if no rule leaves it any."""
    dealings = dealt(flag, now_ms).values()
    return not dealings or any(each.threshold < _ALL or each.shares.get(control, 0) > 0 for each in dealings)


def held(flag: FlagDefinition, hold: Hold | None) -> FlagDefinition:
    """The flag with a hold laid over it. Raises: nothing."""
    if hold is None:
        return flag
    rules = tuple(
        _held(rule, hold.rules[rule.name], hold.control) if rule.name in hold.rules else rule for rule in flag.rules
    )
    return flag._replace(rules=rules)


def hold_text(hold: Hold) -> str:
    """What is held at what, for people."""
    return ", ".join(f'rule "{name}" at {_text(dealing)}' for name, dealing in hold.rules.items())


def hold_document(hold: Hold) -> dict[str, Any]:
    """The rules of a hold as JSON values.

    Rule -> ``percent`` (0 to 100), ``shares`` (variant -> weight), and ``by``, a list of keys, if it is not the unit.
    """
    return {
        name: {
            "percent": dealing.threshold / 1000,
            "shares": dict(dealing.shares),
            **({"by": list(dealing.by)} if dealing.by != UNIT else {}),
        }
        for name, dealing in hold.rules.items()
    }


def read_hold(document: object, control: str, why: str = "") -> Hold | None:
    """The hold that ``hold_document`` made this of; None when it is none. Raises: nothing."""
    if not isinstance(document, dict) or not 0 < len(document) <= _MOST_RULES:
        return None
    rules = {name: _read(dealing) for name, dealing in document.items() if isinstance(name, str)}
    known = {name: dealing for name, dealing in rules.items() if dealing is not None}
    return Hold(known, control, why) if len(known) == len(document) else None


def _text(dealing: Dealing) -> str:
    percent = f"{dealing.threshold / 1000:g} %"
    if len(dealing.shares) == 1:
        return percent
    shares = ", ".join(f"{variant} {weight}" for variant, weight in dealing.shares.items())
    return f"{percent} ({shares})" if dealing.threshold < _ALL else shares


def _read(dealing: object) -> Dealing | None:
    if not isinstance(dealing, dict) or dealing.keys() - {"by"} != {"percent", "shares"}:
        return None
    percent, shares, by = dealing["percent"], dealing["shares"], dealing.get("by", list(UNIT))
    if not isinstance(by, list) or not by or not all(isinstance(key, str) for key in by):
        return None
    if isinstance(percent, bool) or not isinstance(percent, (int, float)) or not 0 <= percent <= 100:
        return None
    if not isinstance(shares, dict) or not 0 < len(shares) <= _MOST_SHARES:
        return None
    if not all(type(weight) is int and 0 <= weight <= _MOST_WEIGHT for weight in shares.values()):
        return None
    return Dealing(round(percent * 1000), shares, tuple(by)) if any(shares.values()) else None


def _dealing(rule: Rule, now_ms: int) -> Dealing:
    threshold = _ALL
    if rule.rollout is not None:
        threshold = rule.rollout.threshold
        for step in rule.rollout.steps:
            threshold = step.threshold if step.from_ms <= now_ms else threshold
    shares: dict[str, int] = {}
    for share in rule.split:
        shares[share.variant] = shares.get(share.variant, 0) + share.weight
    return Dealing(threshold, shares or {str(rule.serve): 1}, rule.by or UNIT)


def _held(rule: Rule, was: Dealing, control: str) -> Rule:
    """The rule, giving no candidate more than ``was`` did."""
    if not rule.split:
        if rule.serve == control:
            return rule
        return rule._replace(rollout=_capped(rule.rollout, was.most(str(rule.serve)), was.by))
    rule = rule._replace(rollout=_capped(rule.rollout, was.threshold, was.by)) if was.threshold < _ALL else rule
    variants = [share.variant for share in rule.split]
    if variants.count(control) != 1:
        return rule  # nobody to give to what is taken away
    total, had = sum(share.weight for share in rule.split), sum(was.shares.values())
    weights = [
        min(share.weight * had, was.shares.get(share.variant, 0) * total) if share.variant != control else 0
        for share in rule.split
    ]
    weights[variants.index(control)] = total * had - sum(weights)
    return rule._replace(split=tuple(Share(*pair) for pair in zip(variants, weights, strict=True)))


def _capped(rollout: Rollout | None, most: int, by: Path) -> Rollout:
    if rollout is None:
        return Rollout(most, by=by)
    steps = tuple(step._replace(threshold=min(step.threshold, most)) for step in rollout.steps)
    return rollout._replace(threshold=min(rollout.threshold, most), steps=steps)
