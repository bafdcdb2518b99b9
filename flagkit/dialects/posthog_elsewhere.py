"""PostHog's flags that stay undecided in this process, where its servers may be asked: the question, and the answer.

Pure: questions are put to an ``Elsewhere``, which answers from memory, at once, and asks PostHog in its own time.
Only flags that are undecided come here; what decides them as long as there is no answer is in ``posthog_compile``.
Called by ``posthog``, when a source of that name was told to.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from datetime import date
from itertools import islice
from typing import Any, Final

from flagkit.boundary import contained
from flagkit.context import Context, as_context
from flagkit.core.elsewhere import Elsewhere, Heard
from flagkit.core.logic import FORCES_NOTHING, Answers, Decide, Forced, Logic, Now, Parents
from flagkit.core.model import FlagDefinition
from flagkit.decision import Decision, Reason, Relayed
from flagkit.dialects.posthog_filters import DEVICE, GROUP_PROPERTIES, GROUPS
from flagkit.dialects.posthog_values import mapping

#: The rule of decisions that were made elsewhere.
RULE: Final = "remote"
#: Characters of JSON, above which nobody is asked.
MAX_QUESTION: Final = 16_384
_NO_PROPERTIES: Final = frozenset({"unit", GROUPS, GROUP_PROPERTIES, DEVICE})
_MOST: Final = 200  # properties, groups, items of a list
_LONGEST: Final = 1024  # characters of a text
_LARGEST: Final = 1 << 63
_FALSE: Final = "false"


def asked_elsewhere(flag: FlagDefinition, elsewhere: Elsewhere) -> FlagDefinition:
    """The flag, answered by ``elsewhere`` for those for whom it is undecided."""
    logic = flag.logic
    return flag if logic is None else flag._replace(logic=_asking(flag, logic, elsewhere))


def _asking(flag: FlagDefinition, logic: Logic, elsewhere: Elsewhere) -> Logic:
    key, version, depends = flag.key, flag.version or "", bool(flag.prerequisites)

    def asking(answers: Answers, now_ms: Now) -> Decide:
        here = logic(answers, now_ms)
        outcomes = {(name, True): answers.serve(name, Reason.CACHED, RULE, enabled=True) for name in flag.variants}
        outcomes[_FALSE, False] = answers.serve(_FALSE, Reason.CACHED, RULE, enabled=False)

        def decide(context: Context | dict[str, Any], forced: Forced, parents: Parents) -> Decision:
            decision = here(context, forced, parents)
            if decision.error_code is None:
                return decision
            asker = as_context(context)
            # PostHog knows nobody without a name, no made-up ones, and nothing of what is forced here.
            if not asker._key or asker.synthetic or (forced and depends) or forced is FORCES_NOTHING:
                return decision
            question = contained(question_of, asker, otherwise=None)
            heard = None if question is None else elsewhere.answer(key, version, question)
            outcome = None if heard is None else outcomes.get((heard.variant, heard.enabled))
            return decision if heard is None or outcome is None else _relayed(heard, outcome, flag.telemetry)

        return decide

    return asking


def _relayed(heard: Heard, outcome: Decision, telemetry: Mapping[str, str | int | bool]) -> Decision:
    made = heard.made
    if made is None or made[0] is not outcome:  # two threads may each make one: the two are equal
        made = heard.made = (outcome, Relayed(outcome, {**telemetry, **heard.facts}))
    return made[1]


# -- the question ----------------------------------------------------------------------------------------------------


def question_of(context: Context) -> str | None:
    """Who is asked about, as JSON in PostHog's words; the same text for the same context. None: it would be too long.

    Texts, numbers, bools, dates, null and lists of such are told, of the person, the groups and their properties; of
    any other value PostHog goes by what it has stored itself.
    Raises: ValueError for too many of them, and whatever a hostile context makes it.
    """
    attributes = context.attributes
    told: dict[str, Any] = {"distinct_id": context.unit_text}
    told["person_properties"] = _properties(attributes, _NO_PROPERTIES)
    told["groups"] = _properties(mapping(attributes.get(GROUPS)) or {})
    of_groups = mapping(attributes.get(GROUP_PROPERTIES)) or {}
    told["group_properties"] = {
        kind: _properties(mapping(each) or {}) for kind, each in _few(of_groups) if type(kind) is str
    }
    device = attributes.get(DEVICE)
    if type(device) is str and len(device) <= _LONGEST:
        told[DEVICE] = device
    text = json.dumps(told, sort_keys=True, separators=(",", ":"), allow_nan=False)
    if "\\ud" in text:  # a surrogate escape: in pairs it is text, alone it is none to a strict reader
        json.dumps(told, ensure_ascii=False).encode()
    return text if len(text) <= MAX_QUESTION else None


def _properties(given: Mapping[Any, Any], without: frozenset[str] = frozenset()) -> dict[str, Any]:
    """What of it has a form in JSON that PostHog's filters look at."""
    found = ((name, _plain(value)) for name, value in _few(given) if type(name) is str)
    return {name: value for name, value in found if value is not _NOTHING and name not in without}


def _few(given: Mapping[Any, Any]) -> list[tuple[Any, Any]]:
    """All of it. Raises: ValueError when it is too much to be told, because a part of it would be another question."""
    items = list(islice(given.items(), _MOST + 1))
    if len(items) > _MOST:
        raise ValueError("too many to be told")
    return items


_NOTHING: Final[Any] = object()


def _plain(value: Any) -> Any:
    if type(value) is list or type(value) is tuple:
        told = len(value) <= _MOST and all((fits := _PLAIN.get(type(each))) and fits(each) for each in value)
        return list(value) if told else _NOTHING
    if issubclass(type(value), date):
        return value.isoformat()
    fits = _PLAIN.get(type(value))
    return value if fits is not None and fits(value) else _NOTHING


_PLAIN: Final[Mapping[type, Callable[[Any], bool]]] = {
    bool: lambda _: True,
    type(None): lambda _: True,
    int: lambda value: -_LARGEST < value < _LARGEST,
    float: math.isfinite,
    str: lambda value: len(value) <= _LONGEST,
}
