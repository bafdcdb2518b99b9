"""Counting the answers that one client gives, for a sink that wants to know how often flags are asked for.

The verbs of that client are covered by others of the same meaning; all other clients' verbs are as they were, so that
nobody pays who has no such sink. Called by ``Client``, which it knows by its verbs only.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

from flagkit.arguments import UNSET
from flagkit.decision import Decision, Reason
from flagkit.flags import Flag


def count_calls(client: Any, count: Callable[[str, bool, str | None], None]) -> None:
    """Have ``client`` call ``count`` with every answer: the flag, whether it is enabled, and the variant if it is told.

    One call is counted once, whatever it records; none with a synthetic context, and none that an override decided.
    ``peek``, ``decide_all``, ``explain``, and the flags that others depend on are not asked for.
    """
    plain: Any = type(client)
    me = weakref.ref(client)  # or the client would wait for the garbage collector

    def met(decision: Decision, context: object, answer: bool | None = None) -> None:
        if decision.reason is not Reason.OVERRIDE and not plain._resolve(me(), context).synthetic:
            told = answer is None
            count(decision.flag, decision.enabled if told else answer is True, decision.variant if told else None)

    def enabled(flag: str, context: object = None, default: bool = UNSET) -> bool:
        client = me()
        decision = plain.peek(client, flag, context)
        plain.expose(client, decision, context)
        answer: bool = decision.enabled
        if decision.variant is None:
            otherwise = isinstance(flag, Flag) and flag.default is True if default is UNSET else default
            answer = bool(plain._otherwise(client, decision, otherwise))
        met(decision, context, answer)
        return answer

    def asked(flag: str, asker: Any) -> Decision:
        decision: Decision = plain._decide(me(), flag, asker)
        met(decision, asker)
        return decision

    def expose(decision: Decision, context: object = None) -> None:
        plain.expose(me(), decision, context)
        met(decision, context)

    def choose(flag: str, context: object) -> Any:
        chosen = plain.choose(me(), flag, context)
        met(chosen[0], context)
        return chosen

    client.enabled, client._asked, client.expose, client.choose = enabled, asked, expose, choose
