"""The web application of the demo: a shop's checkout page, and what it measures about flagkit while serving it.

A Starlette application like any other: one client, a scope a request, decisions where they matter. It knows nothing of
the demo's acts. ``worker`` runs it; the pages that begin with an underscore are for the demo, not for customers.
"""

from __future__ import annotations

import asyncio
from array import array
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from time import perf_counter_ns, time_ns
from typing import Any, Final
from zlib import crc32

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from flagkit.cli.demo.definitions import BUTTON, CHECKOUT, PAYMENT
from flagkit.client import Client
from flagkit.context import scope
from flagkit.decision import Reason

_WAIT_S: Final = 10.0
_CLOSE_S: Final = 2.0
#: What the page looks like when no definitions say otherwise.
_PAGE: Final[dict[str, Any]] = {"title": "Checkout", "steps": ["address", "payment", "summary"]}
_BUTTON: Final[dict[str, Any]] = {"background": "#808080", "label": "Buy"}


#: One user in so many cannot be paid for by the candidate, and one in so many by nobody.
CANDIDATE_FAILS, CONTROL_FAILS = 8, 100


class PaymentFailed(Exception):
    """No money."""


def pay(user: str, *, by_candidate: bool) -> None:
    """Raises: PaymentFailed, for some users by one provider and for others by any."""
    card = crc32(user[::-1].encode())
    if card % CONTROL_FAILS == 0 or (by_candidate and card % CANDIDATE_FAILS == 3):
        raise PaymentFailed


class Shop:
    """The pages. One instance a process, used from the event loop only."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._waits_ns = array("q")
        self._exceptions = 0
        self._trial: dict[str, Any] = {"candidates": 0, "hurt": [], "last_ms": None, "back_ms": None}

    def app(self) -> Starlette:
        """The ASGI application, whose lifespan is the client's life."""
        return Starlette(
            routes=[
                Route("/checkout", self._checkout),
                Route("/pay", self._pay),
                Route("/_trial", self._tried),
                Route("/_stats", self._stats),
                Route("/_waits", self._waits),
                Route("/_flush", self._flush, methods=["POST"]),
            ],
            exception_handlers={Exception: self._failed},
            lifespan=self._lifespan,
        )

    @asynccontextmanager
    async def _lifespan(self, _: Starlette) -> AsyncIterator[None]:
        await asyncio.to_thread(self._client.wait_ready, _WAIT_S)
        try:
            yield
        finally:
            await asyncio.to_thread(self._client.close, _CLOSE_S)

    async def _checkout(self, request: Request) -> Response:
        user = request.query_params["user"]
        with scope(user):
            return JSONResponse(self._page(user))

    def _page(self, user: str) -> dict[str, Any]:
        client = self._client
        asked_ns = perf_counter_ns()
        express = client.enabled(CHECKOUT)
        self._waits_ns.append(perf_counter_ns() - asked_ns)
        page = client.value(CHECKOUT, default=_PAGE)
        button = client.value(BUTTON, default=_BUTTON)
        # Every user makes up their mind once and for all; a shorter way to the till loses fewer of them.
        mood = crc32(user.encode())
        bought = mood % 100 < (14 if express else 10)
        if bought:
            client.track("purchase", value=10 + mood % 9000 / 100, page=page["title"])
        return {"page": page, "button": button, "bought": bought, "served": self._served()}

    async def _pay(self, request: Request) -> Response:
        """The risky path of the shop, behind its gate."""
        user, trial = request.query_params["user"], self._trial
        paid, now_ms = True, time_ns() // 1_000_000
        try:
            with self._client.gate(PAYMENT, user) as gate:
                if gate.on:
                    trial["candidates"] += 1
                    trial["last_ms"] = now_ms
                elif gate.decision.reason is Reason.GUARD and trial["back_ms"] is None:
                    trial["back_ms"] = now_ms
                pay(user, by_candidate=gate.on)
        except PaymentFailed:
            paid = False
            if gate.on:
                trial["hurt"].append(user)
        return JSONResponse({"paid": paid, "candidate": gate.on})

    async def _tried(self, _: Request) -> Response:
        """What became of the candidate in this process."""
        return JSONResponse({**self._trial, "why": self._client.status.trips.get(PAYMENT)})

    def _served(self) -> dict[str, tuple[str | None, str | None]]:
        decisions = (self._client.decide(flag) for flag in (CHECKOUT, BUTTON))
        return {decision.flag: (decision.variant, decision.version) for decision in decisions}

    async def _stats(self, _: Request) -> Response:
        status = self._client.status
        account = status.account
        assert account is not None  # noqa: S101 - a worker's client has a sink
        return JSONResponse(
            {
                "version": status.version,
                "age_s": status.age_s,
                "exceptions": self._exceptions,
                "errors": sum(status.errors.values()) + status.worker_faults,
                "account": {**account._asdict(), "lost": dict(account.lost)},
            }
        )

    async def _waits(self, _: Request) -> Response:
        """How long ``enabled`` kept its callers: the longest of so many calls, and what 99.9 % of them were within."""
        waits_ns = sorted(self._waits_ns) or [0]
        beyond = len(waits_ns) // 1000
        return JSONResponse(
            {"calls": len(self._waits_ns), "longest_ns": waits_ns[-1], "p999_ns": waits_ns[-1 - beyond]}
        )

    async def _flush(self, _: Request) -> Response:
        return JSONResponse({"left": await asyncio.to_thread(self._client.flush, _WAIT_S)})

    async def _failed(self, _: Request, error: Exception) -> Response:
        self._exceptions += 1
        return JSONResponse({"error": type(error).__name__}, 500)
