"""What an operator does to a flag, as pure edits: the text of a native document in, the text of the next one out.

Only what has to change is written anew; the rest of the document stays byte for byte. No edit makes a problem that
was not there before, and switching a flag off works in any document that is JSON. It opens nothing and keeps no
history. Called by the commands ``kill``, ``ramp``, ``set`` and ``revert``.
"""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Final, NamedTuple

from flagkit.core.model import Definitions, FlagDefinition, Rollout, Rule
from flagkit.dialects import native
from flagkit.dialects.names import unknown
from flagkit.dialects.splice import Span, drop, find, put, replace
from flagkit.errors import DefinitionsError, FlagkitError, Problem

#: The name of the rule that ``serve_all`` leaves as the only one.
EVERYONE: Final = "everyone"


class EditError(FlagkitError, ValueError):
    """An edit that was not made, and why."""


class Edit(NamedTuple):
    """One flag's change. ``text`` is the new document; ``before`` and ``after`` are the flag as written.

    summary: before -> after, in words. note: what the operator should know besides. problems: those of ``text``.
    """

    flag: str
    text: str
    before: str
    after: str
    summary: str
    note: str
    problems: tuple[Problem, ...]

    @property
    def is_change(self) -> bool:
        """Whether the flag means anything else than before."""
        return not same(self.before, self.after)


def kill(text: str, flag: str) -> Edit:
    """The flag with ``"enabled": false``: its off variant for everyone.

    Raises: EditError when ``text`` is not JSON or has no such flag.
    """
    document = _Document(text)
    return document.edit(flag, put(document.flag(flag), ("enabled",), False), "enabled -> disabled")


def ramp(text: str, flag: str, percent: Decimal, *, rule: str | None = None, replace_steps: bool = False) -> Edit:
    """The flag with another percentage in the rollout of ``rule``, or of its only rule that has one.

    Raises: EditError, also when it is not clear which rule is meant, or when it rises by steps of its own
        and ``replace_steps`` does not say that they go.
    """
    document = _Document(text)
    definition = document.good(flag)
    index, rollout = _rollout(definition, rule)
    name = definition.rules[index].name
    if rollout.steps and not replace_steps:
        raise EditError(f'{flag}: the rollout of rule "{name}" has steps; to end them say --replace-steps')
    at = ("rules", index, "rollout")
    number = int(percent) if percent == int(percent) else float(percent)
    after = drop(put(document.flag(flag), (*at, "percent"), number), (*at, "steps"))
    note = "" if definition.enabled else "the flag is disabled all the same"
    return document.edit(flag, after, f'rule "{name}": {_extent(rollout)} -> {percent.normalize():f} %', note)


def serve_all(text: str, flag: str, variant: str) -> Edit:
    """The flag enabled, with one unconditional rule that serves ``variant``; targets, exclude, prerequisites go.

    Holdouts are not the flag's own and stay. Raises: EditError.
    """
    document = _Document(text)
    definition = document.good(flag)
    if variant not in definition.variants:
        raise EditError(unknown(f"variant of {flag}", variant, definition.variants))
    after = document.flag(flag)
    for field in ("prerequisites", "exclude", "targets"):
        after = drop(after, (field,))
    after = put(after, ("rules",), [{"name": EVERYONE, "serve": variant}])
    if not definition.enabled:
        after = put(after, ("enabled",), True)
    held = "" if variant == definition.off else document.holdouts(definition)
    return document.edit(flag, after, f'{_served(definition)} -> "{variant}" for everyone', held)


def new_try(text: str, flag: str, *, in_code: bool = False) -> Edit:
    """The flag with the next revision of its guard: what has tripped or is held is served again, and judged anew.

    in_code: the guard may be one of which the definitions do not know, for its policy is given in code.
    Raises: EditError, also when the flag has no guard otherwise.
    """
    document = _Document(text)
    guard = document.good(flag).guard
    if guard is None:
        if not in_code:
            raise EditError(f"{flag}: has no guard here; if its policy is given in code, say --in-code")
        after = put(document.flag(flag), ("guard",), {"revision": 1})
        note = "where the code gives no policy, there is a guard with the defaults now"
        return document.edit(flag, after, "guard of the code: one revision more", note)
    after = put(document.flag(flag), ("guard", "revision"), guard.revision + 1)
    after = drop(drop(after, ("guard", "tripped")), ("guard", "held"))
    return document.edit(flag, after, f"guard: revision {guard.revision} -> {guard.revision + 1}")


def put_back(text: str, flag: str, definition: str, summary: str) -> Edit:
    """The flag exactly as it was once written. Raises: EditError."""
    return _Document(text).edit(flag, definition, summary)


def written(text: str, flag: str) -> str:
    """The flag as it is written now. Raises: EditError when it is not there."""
    return _Document(text).flag(flag)


def same(one: str, other: str) -> bool:
    """Whether two JSON texts say the same, however they are laid out and whatever the order of keys."""
    return _canonical(one) == _canonical(other)


class _Document:
    """One document, its problems, and where its flags are. Raises: EditError when it is not JSON."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._definitions, self._problems = _parsed(text)
        try:
            found = find(text, ("flags",))
        except (ValueError, RecursionError):
            raise EditError(f"{self._problems[0] if self._problems else 'not JSON'}") from None
        self._keys = list(json.loads(text[found.value : found.end])) if found and text[found.value] == "{" else []

    def flag(self, flag: str) -> str:
        """The flag as written. Raises: EditError when it is not there, or not an object."""
        span = self._span(flag)
        if self.text[span.value] != "{":
            raise EditError(f"{flag}: not an object; see flagkit validate")
        return self.text[span.value : span.end]

    def good(self, flag: str) -> FlagDefinition:
        """The flag as clients use it. Raises: EditError when they do not, for a mistake in it."""
        self._span(flag)
        bad = [problem for problem in self._problems if problem.refused and problem.flag == flag]
        if self._definitions is None or flag not in self._definitions.flags or bad:
            why = bad[0] if bad else self._problems[0]
            raise EditError(f"{flag} cannot be changed before this is put right: {why}")
        return self._definitions.flags[flag]

    def holdouts(self, flag: FlagDefinition) -> str:
        """A note that some units are held out, if there are such."""
        holdouts = self._definitions.holdouts if self._definitions else ()
        names = [f'"{holdout.name}"' for holdout in holdouts if holdout.threshold and holdout.applies_to(flag)]
        return f'units of holdout {", ".join(names)} still get "{flag.off}"' if names else ""

    def edit(self, flag: str, after: str, summary: str, note: str = "") -> Edit:
        """The document with the flag written as ``after``. Raises: EditError when that makes a new problem."""
        span = self._span(flag)
        text = replace(self.text, span, after)
        _, problems = _parsed(text)
        new = [problem for problem in problems if problem not in self._problems]
        if new:
            raise EditError(f"not changed, it would be a mistake: {new[0]}")
        return Edit(flag, text, self.text[span.value : span.end], after, summary, note, problems)

    def _span(self, flag: str) -> Span:
        span = find(self.text, ("flags", flag))
        if span is None:
            raise EditError(unknown("flag", flag, self._keys))
        return span


def _parsed(text: str) -> tuple[Definitions | None, tuple[Problem, ...]]:
    try:
        return native.parse(text.encode())
    except DefinitionsError as error:
        return None, error.problems


def _rollout(flag: FlagDefinition, name: str | None) -> tuple[int, Rollout]:
    """The place and rollout of the rule that is meant. Raises: EditError."""
    found = [(i, rule.rollout) for i, rule in enumerate(flag.rules) if rule.rollout and name in (None, rule.name)]
    if len(found) == 1:
        return found[0]
    listed = ", ".join(_listed(rule) for rule in flag.rules if rule.rollout)
    if not listed:
        raise EditError(f"{flag.key}: no rule has a rollout")
    if name is not None:
        raise EditError(f'{flag.key}: no rule "{name}" with a rollout; there are: {listed}')
    raise EditError(f"{flag.key}: several rules have a rollout, name one with --rule: {listed}")


def _listed(rule: Rule) -> str:
    return f'"{rule.name}" ({_extent(rule.rollout)})' if rule.rollout else ""


def _extent(rollout: Rollout) -> str:
    if rollout.steps:
        return f"{len(rollout.steps)} step{'' if len(rollout.steps) == 1 else 's'}"
    return f"{rollout.threshold / 1000:g} %"


def _served(flag: FlagDefinition) -> str:
    if not flag.enabled:
        return "disabled"
    if len(flag.rules) == 1 and flag.rules[0].name == EVERYONE and flag.rules[0].serve:
        return f'"{flag.rules[0].serve}" for everyone'
    return f"{len(flag.rules)} rule{'' if len(flag.rules) == 1 else 's'}"


def _canonical(text: str) -> str:
    # Through text, because in Python 1 == True.
    return json.dumps(json.loads(text), sort_keys=True)
