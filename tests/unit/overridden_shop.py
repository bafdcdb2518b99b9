"""The flags of a shop whose new checkout takes signed overrides, and such overrides; for tests of frameworks."""

from __future__ import annotations

import threading
from time import time_ns
from typing import Any

from flagkit import Client, Context, sources
from flagkit.production.overrides import Keys, new_claim

KEYS = f"k1:{'s' * 32}"
HEADER, COOKIE = "Flagkit-Override", "flagkit-override"
FLAGS: dict[str, Any] = {
    "new-checkout": {
        "overridable": True,
        "rules": [{"when": [{"attribute": "plan", "op": "in", "values": ["pro"]}], "serve": "on"}],
    },
    "half": {"rules": [{"rollout": {"percent": 50}, "serve": "on"}]},
}
#: Longer than any request takes, shorter than anybody waits.
PATIENCE_S = 10.0


def shop() -> Client:
    """A client that takes overrides, with nothing to fetch and nowhere to send."""
    client = Client(source=sources.Static({"schema": 1, "environment": "production", "flags": FLAGS}))
    client.allow_overrides(KEYS)
    return client


def token(**given: Any) -> str:
    """An override of the new checkout that is good now, unless told otherwise."""
    usual = {"flags": {"new-checkout": "on"}, "environment": "production", "unit": None, "hours": 1}
    usual |= {"now_ms": time_ns() // 1_000_000, "token_id": "id-1"} | given
    return Keys(KEYS).sign(new_claim(**usual))


def asker(headers: Any) -> Context | None:
    """Who asks, going by two headers; ``x-user: bomb`` is somebody about whom the application errs."""
    user, plan = headers.get("x-user"), headers.get("x-plan")
    if user == "bomb":
        raise LookupError("no such user")
    return None if user is None else Context(user, {"plan": plan})


def seen(client: Client) -> str:
    """What the scope of now is: who asks, the checkout, why."""
    decision = client.decide("new-checkout")
    return f"{unit()} {decision.variant} {decision.reason if decision.error_code is None else decision.error_code}"


def unit() -> str | None:
    from flagkit.context import current_scope

    scope = current_scope()
    return scope.context.unit_text if scope is not None and scope.context is not None else None


class Meeting:
    """Where two requests wait until both are inside, so that whatever they share is shared at that moment."""

    def __init__(self) -> None:
        self._barrier = threading.Barrier(2)

    def wait(self) -> None:
        self._barrier.wait(PATIENCE_S)
