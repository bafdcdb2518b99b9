"""A PostHog on loopback that decides flags itself, and a client that may ask it."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from flagkit import Client, Decision
from flagkit.sources import PostHog
from tests.dialects.posthogs import document, flag, in_cohort, matching
from tests.unit.loopback import Call, serving

Json = dict[str, Any]
TOKEN, KEY = "phc_0123456789abcdef", "phx_0123456789abcdef"
HEADERS = {"Content-Type": "application/json"}
COHORT = flag("f", matching(in_cohort(9)), id=1, version=3)
STICKY = flag("sticky", matching(), id=2, version=1, ensure_experience_continuity=True)
LOCAL = flag("local", matching(), id=3, version=1)
VARIANTS = {"variants": [{"key": "a", "rollout_percentage": 50}, {"key": "b", "rollout_percentage": 50}]}
PAYLOADS = {"b": '{"steps": 2}'}
MULTI = flag("multi", matching(in_cohort(9)), id=4, version=2, multivariate=VARIANTS, payloads=PAYLOADS)


def said(enabled: bool, variant: str | None = None, **more: Any) -> Json:
    """One flag of an answer."""
    reason = {"code": "condition_match", "condition_index": 0, "description": "Matched condition set 1"}
    return {"enabled": enabled, "variant": variant, "reason": reason, "metadata": {"id": 1, "version": 3}, **more}


class Server:
    """A PostHog on loopback: its definitions, its answers by flag, and what it was asked."""

    def __init__(self, *flags: Json, **answers: Json) -> None:
        self.flags = flags
        self.answers = answers
        self.more: Json = {"requestId": "request-1", "evaluatedAt": 1795428000000}
        self.status = 200
        self.heard: list[Json] = []
        self.calls: list[Call] = []
        self.told = threading.Event()
        self.open = threading.Event()
        self.open.set()

    def __call__(self, call: Call) -> None:
        if call.path.startswith("/flags/definitions"):
            call.answer(200, json.dumps(document(*self.flags)).encode(), HEADERS)
            return
        self.calls.append(call)
        self.heard.append(json.loads(call.body))
        self.told.set()
        self.open.wait(10)
        call.answer(self.status, json.dumps({"flags": self.answers, **self.more}).encode(), HEADERS)


@contextmanager
def asking(server: Server, sink: Any = None, fallback: bool = True) -> Iterator[Client]:
    with serving(server) as running:
        source = PostHog(running.url, project_token=TOKEN, personal_key=KEY, remote_fallback=fallback)
        with Client(source=source, sink=sink) as client:
            assert client.wait_ready(10)
            yield client


def eventually(ask: Callable[[], Any], seconds: float = 10.0) -> Any:
    """What ``ask`` comes to, once it comes to anything."""
    pause, found = threading.Event(), ask()
    for _ in range(int(seconds / 0.01)):
        if found:
            break
        pause.wait(0.01)
        found = ask()
    assert found
    return found


def answered(client: Client, key: str, context: Any = "user-1") -> Decision:
    def ask() -> Decision | None:
        decision = client.decide(key, context)
        return None if decision.error_code else decision

    found: Decision = eventually(ask)
    return found
