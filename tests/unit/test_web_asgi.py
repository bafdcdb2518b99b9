"""ASGI: the scope of a request, its override and its headers, also in its tasks and threads; and one each."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from fastapi.responses import StreamingResponse
from overridden_shop import COOKIE, HEADER, PATIENCE_S, asker, seen, shop, token, unit
from starlette.background import BackgroundTask
from starlette.requests import HTTPConnection
from starlette.responses import JSONResponse, PlainTextResponse

import flagkit
from flagkit.errors import ConfigError
from flagkit.integrations.asgi import FlagsMiddleware

client = shop()
told: list[str] = []


async def who(connection: HTTPConnection) -> object:
    await asyncio.sleep(0)
    return asker(connection.headers)


def application(context: Callable[[HTTPConnection], Any] = lambda connection: asker(connection.headers)) -> FastAPI:
    app = FastAPI()
    app.add_middleware(FlagsMiddleware, context=context, client=client)
    meeting = asyncio.Barrier(2)

    @app.get("/")
    async def look() -> PlainTextResponse:
        return PlainTextResponse(seen(client))

    @app.get("/thread")
    def thread() -> PlainTextResponse:  # FastAPI calls a plain function in a thread
        return PlainTextResponse(seen(client))

    @app.get("/tasks")
    async def tasks() -> JSONResponse:
        async def look() -> str:
            await asyncio.sleep(0)
            return seen(client)

        carried = flagkit.carry(seen)
        inside = asyncio.get_running_loop().run_in_executor
        nobody = await inside(None, unit)
        found = [*await asyncio.gather(look(), look()), await inside(None, carried, client)]
        found.append(await asyncio.to_thread(seen, client))
        return JSONResponse([nobody, *found])

    @app.get("/meet")
    async def meet() -> PlainTextResponse:
        before = seen(client)
        await asyncio.wait_for(meeting.wait(), PATIENCE_S)
        assert seen(client) == before
        await asyncio.wait_for(meeting.wait(), PATIENCE_S)
        return PlainTextResponse(seen(client))

    @app.get("/stream")
    async def stream() -> StreamingResponse:
        async def parts() -> AsyncIterator[str]:
            yield seen(client) + ";"
            await asyncio.sleep(0)
            yield seen(client)

        return StreamingResponse(parts(), background=BackgroundTask(lambda: told.append(seen(client))))

    @app.get("/varies")
    async def varies() -> PlainTextResponse:
        return PlainTextResponse("", headers={"Vary": "Accept", "Cache-Control": "public, max-age=60"})

    return app


def run(work: Callable[[httpx.AsyncClient], Awaitable[Any]], app: FastAPI | None = None) -> Any:
    async def go() -> Any:
        served = app or application()
        async with httpx.AsyncClient(transport=httpx.ASGITransport(served), base_url="http://shop") as browser:
            return await work(browser)

    return asyncio.run(go())


def get(path: str, app: FastAPI | None = None, **headers: str) -> httpx.Response:
    response: httpx.Response = run(
        lambda browser: browser.get(path, headers={n.replace("_", "-"): v for n, v in headers.items()}), app
    )
    return response


@pytest.mark.parametrize("path", ["/", "/thread"])
def test_the_scope_of_a_request_is_who_asks(path: str) -> None:
    assert get(path, x_user="ann", x_plan="pro").text == "ann on TARGETING_MATCH"
    assert get(path).text == "None off DEFAULT"
    assert unit() is None


@pytest.mark.parametrize("path", ["/", "/thread"])
@pytest.mark.parametrize("shown", [{HEADER: token()}, {"Cookie": f"a=b; {COOKIE}={token()}"}])
def test_a_request_with_an_override_sees_the_candidate_and_the_next_does_not(path: str, shown: dict[str, str]) -> None:
    async def visit(browser: httpx.AsyncClient) -> list[httpx.Response]:
        mine = {"x-user": "ann"}
        return [await browser.get(path, headers=headers) for headers in (mine, mine | shown, mine)]

    before, during, after = run(visit)
    assert [before.text, during.text, after.text] == ["ann off DEFAULT", "ann on OVERRIDE", "ann off DEFAULT"]
    assert during.headers["cache-control"] == "private, no-store"
    assert during.headers["vary"] == "Flagkit-Override, Cookie"
    assert "cache-control" not in after.headers
    assert after.headers["vary"] == "Flagkit-Override"


def test_what_a_response_says_of_caching_is_kept_unless_there_was_an_override() -> None:
    plain, overridden = get("/varies").headers, get("/varies", flagkit_override=token()).headers
    assert (plain["vary"], plain["cache-control"]) == ("Accept, Flagkit-Override", "public, max-age=60")
    assert overridden.get_list("vary") == ["Accept, Flagkit-Override, Cookie"]
    assert overridden.get_list("cache-control") == ["private, no-store"]


def test_tasks_and_threads_of_a_request_are_in_its_scope_and_an_executor_if_it_is_carried_there() -> None:
    inside = "ann on OVERRIDE"
    assert get("/tasks", x_user="ann", flagkit_override=token()).json() == [None, *[inside] * 4]


def test_a_body_made_while_it_is_sent_and_what_comes_after_it_are_in_the_scope() -> None:
    told.clear()
    assert get("/stream", x_user="ann", flagkit_override=token()).text == "ann on OVERRIDE;ann on OVERRIDE"
    assert told == ["ann on OVERRIDE"]


def test_requests_in_tasks_at_the_same_time_have_a_scope_each() -> None:
    async def visit(browser: httpx.AsyncClient) -> list[str]:
        shown = ({"x-user": "ann", HEADER: token()}, {"x-user": "bo"})
        return [r.text for r in await asyncio.gather(*(browser.get("/meet", headers=headers) for headers in shown))]

    assert run(visit) == ["ann on OVERRIDE", "bo off DEFAULT"]


def test_the_function_may_be_a_coroutine_function() -> None:
    assert get("/", application(who), x_user="ann").text == "ann off DEFAULT"


@pytest.mark.parametrize("context", [who, lambda connection: asker(connection.headers)])
def test_when_the_application_cannot_say_who_asks_the_request_goes_on(context: Any) -> None:
    before = client.status.errors.get("CONTEXT_FAILED", 0)
    assert get("/", application(context), x_user="bomb").text == "None None INVALID_CONTEXT"
    assert client.status.errors["CONTEXT_FAILED"] == before + 1


def test_a_web_socket_has_a_scope_too_and_the_life_of_the_server_has_none() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        told.append(seen(client))

    headers = [(b"x-user", b"ann"), (HEADER.lower().encode(), token().encode())]
    told.clear()
    served = FlagsMiddleware(app, context=who, client=client)
    for scope in ({"type": "websocket", "path": "/", "headers": headers}, {"type": "lifespan"}):
        asyncio.run(served(scope, None, None))  # type: ignore[arg-type]
    assert told == ["ann on OVERRIDE", "None off DEFAULT"]


def test_a_client_that_takes_no_overrides_has_no_say_in_headers() -> None:
    app = FastAPI()
    silent = flagkit.Client(source=flagkit.sources.Static({"schema": 1, "flags": {}}))
    app.add_middleware(FlagsMiddleware, context=lambda _: "ann", client=silent)
    app.get("/")(lambda: None)
    assert "vary" not in get("/", app).headers


def test_a_wrong_argument_is_named() -> None:
    with pytest.raises(ConfigError, match=r"^context: got 'ann'"):
        FlagsMiddleware(FastAPI(), context="ann")  # type: ignore[arg-type]
