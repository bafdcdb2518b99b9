"""Hearing of the answers that one client gives: ``tell_of_answers``, and ``count_calls`` for sinks that count them.

The verbs of that client are covered by others of the same meaning; all other clients' verbs are as they were, so that
nobody pays who hears of none. Called by ``Client`` and integrations; a client is known by its verbs only.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flagkit.arguments import UNSET
from flagkit.context import in_shadow
from flagkit.decision import Decision, Reason
from flagkit.flags import Flag
from flagkit.production.branch import BORROWED


def tell_of_answers(client: Any, met: Callable[[Decision, Any], object]) -> None:
    """Have ``client`` call ``met`` with each answer that tells a variant, and what was given for its context.

    Those of ``variant``, ``value``, ``decide``, ``expose`` and gates; ``enabled`` is left as it is. Raises: nothing of
    its own; what ``met`` raises is the caller's.
    """
    plain_asked, plain_expose, plain_choose = client._asked, client.expose, client.choose

    def asked(flag: str, asker: Any) -> Decision:
        decision: Decision = plain_asked(flag, asker)
        met(decision, asker)
        return decision

    def expose(decision: Decision, context: object = None) -> None:
        plain_expose(decision, context)
        met(decision, context)

    def choose(flag: str, context: object) -> Any:
        chosen = plain_choose(flag, context)
        met(chosen[0], context)
        return chosen

    client._asked, client.expose, client.choose = asked, expose, choose


def count_calls(client: Any, count: Callable[[str, bool, str | None], None]) -> None:
    """Have ``client`` call ``count`` with every answer: the flag, whether it is enabled, and the variant if it is told.

    One call is counted once, whatever it records; none with a synthetic context, none that an override decided, and
    none of a shadow run.
    ``peek``, ``decide_all`` and ``explain`` only look, and what a flag depends on was not asked for.
    """
    resolve, peek, plain_expose, otherwise = client._resolve, client.peek, client.expose, client._otherwise

    def counts(decision: Decision, context: object) -> bool:
        overridden = decision.reason is Reason.OVERRIDE or decision._branch is BORROWED
        return not overridden and not resolve(context).synthetic and not in_shadow()

    def met(decision: Decision, context: object) -> None:
        if counts(decision, context):
            count(decision.flag, decision.enabled, decision.variant)

    def enabled(flag: str, context: object = None, default: bool = UNSET) -> bool:
        decision: Decision = peek(flag, context)
        plain_expose(decision, context)
        answer = decision.enabled
        if decision.variant is None:
            if default is UNSET:
                default = isinstance(flag, Flag) and flag.default is True
            answer = otherwise(decision, default)
        if counts(decision, context):
            count(decision.flag, answer is True, None)
        return answer

    client.enabled = enabled
    tell_of_answers(client, met)
