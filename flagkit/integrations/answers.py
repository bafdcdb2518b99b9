"""``follow``: have one client tell of every answer that it gives to the application, as it gives it.

For monitoring that wants to know what a request has met: Sentry and traces are made of it, and others can be. The verbs
of that client are covered by others of the same meaning; all other clients stay as they are, so that nobody pays who
follows none.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from flagkit.arguments import UNSET
from flagkit.boundary import contained
from flagkit.client import Client
from flagkit.context import Context
from flagkit.counting import tell_of_answers
from flagkit.decision import Decision

#: Told of an answer and of the context it was given for.
Told: TypeAlias = Callable[[Decision, Context], object]


def follow(client: Client, told: Told) -> None:
    """Have ``client`` call ``told`` with each answer of ``enabled``, ``variant``, ``value``, ``decide`` and gates.

        follow(client, lambda decision, context: statsd.increment(f"flag.{decision.flag}.{decision.variant}"))

    Call it right after the client is made: functions that were gated before are not followed. ``peek``, ``decide_all``
    and ``explain`` only look, and are not told. Overridden answers and those of synthetic contexts are.

    Args: told, is called on the caller's thread, so it should be quick; what it raises is contained.
    Raises: nothing. Cost: ``enabled`` is decided twice.
    """
    asks: Any = client  # what the verbs are made of is not public
    resolve, peek, plain_enabled = asks._resolve, asks.peek, asks.enabled

    def tell(decision: Decision, context: object) -> None:
        contained(told, decision, resolve(context), otherwise=None)

    def enabled(flag: str, context: object = None, default: bool = UNSET) -> bool:
        answer: bool = plain_enabled(flag, context, default)
        tell(peek(flag, context), context)
        return answer

    asks.enabled = enabled
    tell_of_answers(asks, tell)
