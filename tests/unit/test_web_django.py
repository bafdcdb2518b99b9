"""Django, under WSGI and ASGI: the scope of a request, its override, its headers; and one for each request."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from typing import Any

import django
import pytest
from django.conf import settings
from django.http import FileResponse, HttpRequest, HttpResponse, StreamingHttpResponse
from django.test import AsyncClient, RequestFactory, override_settings
from django.test import Client as Browser
from django.urls import path
from overridden_shop import COOKIE, HEADER, PATIENCE_S, Meeting, asker, seen, shop, token, unit

from flagkit.errors import ConfigError
from flagkit.integrations.django import FlagsMiddleware

client = shop()
meeting = Meeting()
closed: list[str | None] = []


def context_of(request: HttpRequest) -> object:
    return asker(request.headers)


async def find_out(request: HttpRequest) -> object:
    await asyncio.sleep(0)
    return asker(request.headers)


def look(request: HttpRequest) -> HttpResponse:
    return HttpResponse(seen(client))


async def alook(request: HttpRequest) -> HttpResponse:
    return HttpResponse(seen(client))


def meet(request: HttpRequest) -> HttpResponse:
    before = seen(client)
    meeting.wait()
    assert seen(client) == before
    meeting.wait()
    return HttpResponse(seen(client))


async def ameet(request: HttpRequest) -> HttpResponse:
    before = seen(client)
    for _ in range(2):
        await asyncio.wait_for(ameetings[-1].wait(), PATIENCE_S)
        assert seen(client) == before
    return HttpResponse(before)


ameetings: list[asyncio.Barrier] = []


def stream(request: HttpRequest) -> StreamingHttpResponse:
    def parts() -> Iterator[str]:
        try:
            yield seen(client) + ";"
            yield seen(client)
        finally:
            closed.append(unit())

    return StreamingHttpResponse(parts())


async def astream(request: HttpRequest) -> StreamingHttpResponse:
    async def parts() -> AsyncIterator[str]:
        try:
            yield seen(client) + ";"
            await asyncio.sleep(0)
            yield seen(client)
        finally:
            closed.append(unit())

    return StreamingHttpResponse(parts())


def download(request: HttpRequest) -> FileResponse:
    return FileResponse(BytesIO(b"a file"))


def varies(request: HttpRequest) -> HttpResponse:
    return HttpResponse("", headers={"Vary": "Accept", "Cache-Control": "public, max-age=60"})


def fails(request: HttpRequest) -> HttpResponse:
    raise ValueError("the shop's own")


VIEWS = (look, alook, meet, ameet, stream, astream, download, varies, fails)
urlpatterns = [path(f"{view.__name__}/", view) for view in VIEWS]

if not settings.configured:
    settings.configure(
        ROOT_URLCONF=__name__,
        ALLOWED_HOSTS=["testserver"],
        SECRET_KEY="for tests",
        MIDDLEWARE=["flagkit.integrations.django.FlagsMiddleware"],
        FLAGKIT={"context": context_of, "client": client},
        LOGGING_CONFIG=None,
    )
    django.setup()


@pytest.fixture
def browser() -> Browser:
    return Browser(raise_request_exception=False)


def both(path: str, cookie: str = "", **headers: str) -> list[Any]:
    """The responses under WSGI and under ASGI."""
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    plain, asynchronous = Browser(raise_request_exception=False), AsyncClient(raise_request_exception=False)
    for browser in (plain, asynchronous) if cookie else ():
        browser.cookies[COOKIE] = cookie

    async def ask() -> Any:
        return await asynchronous.get(path, headers=sent)

    return [plain.get(path, headers=sent), asyncio.run(ask())]


@pytest.mark.parametrize("view", ["/look/", "/alook/"])
def test_the_scope_of_a_request_is_who_asks(view: str) -> None:
    for response in both(view, x_user="ann", x_plan="pro"):
        assert response.content == b"ann on TARGETING_MATCH"
    for response in both(view):
        assert response.content == b"None off DEFAULT"
    assert unit() is None


@pytest.mark.parametrize("view", ["/look/", "/alook/"])
@pytest.mark.parametrize("shown", [{HEADER: token()}, {"cookie": token()}])
def test_a_request_with_an_override_sees_the_candidate_and_the_next_does_not(view: str, shown: Any) -> None:
    for response in both(view, x_user="ann", **shown):
        assert response.content == b"ann on OVERRIDE"
        assert (response["Cache-Control"], response["Vary"]) == ("private, no-store", "Flagkit-Override, Cookie")
    for response in both(view, x_user="ann"):
        assert response.content == b"ann off DEFAULT"
        assert "Cache-Control" not in response
        assert response["Vary"] == "Flagkit-Override"


def test_what_a_response_says_of_caching_is_kept_unless_there_was_an_override() -> None:
    for response in both("/varies/"):
        assert (response["Vary"], response["Cache-Control"]) == ("Accept, Flagkit-Override", "public, max-age=60")
    for response in both("/varies/", **{HEADER: token()}):
        assert response["Vary"] == "Accept, Flagkit-Override, Cookie"
        assert response["Cache-Control"] == "private, no-store"


@pytest.mark.filterwarnings("ignore:StreamingHttpResponse must consume:Warning")  # Django's, of the other kind of body
def test_a_body_made_while_it_is_sent_is_in_the_scope(browser: Browser) -> None:
    closed.clear()
    shown = {"x-user": "ann", HEADER: token()}
    assert b"".join(browser.get("/stream/", headers=shown).streaming_content) == b"ann on OVERRIDE;ann on OVERRIDE"  # type: ignore[attr-defined]

    async def ask() -> bytes:
        response = await AsyncClient().get("/astream/", headers=shown)
        return b"".join([part async for part in response.streaming_content])  # type: ignore[attr-defined]

    assert asyncio.run(ask()) == b"ann on OVERRIDE;ann on OVERRIDE"
    assert closed == ["ann", "ann"]
    assert unit() is None


def test_a_file_stays_one_that_the_server_may_send_its_own_way() -> None:
    response: Any = FlagsMiddleware(download)(RequestFactory().get("/"))
    assert response.file_to_stream is not None
    assert b"".join(response) == b"a file"
    response.close()


def test_a_failing_view_ends_its_scope_and_its_answer_is_not_cached() -> None:
    for response in both("/fails/", x_user="ann", **{HEADER: token()}):
        assert (response.status_code, response["Cache-Control"]) == (500, "private, no-store")
    assert unit() is None


@pytest.mark.parametrize("context", [context_of, find_out])
def test_when_the_application_cannot_say_who_asks_the_request_goes_on(context: Any) -> None:
    with override_settings(FLAGKIT={"context": context, "client": client}):
        before = client.status.errors.get("CONTEXT_FAILED", 0)

        async def ask() -> Any:
            return await AsyncClient().get("/alook/", headers={"x-user": "bomb"})

        assert asyncio.run(ask()).content == b"None None INVALID_CONTEXT"
        assert client.status.errors["CONTEXT_FAILED"] == before + 1


def test_under_asgi_the_function_may_be_a_coroutine_function() -> None:
    with override_settings(FLAGKIT={"context": f"{__name__}.find_out", "client": f"{__name__}.client"}):

        async def ask() -> Any:
            return await AsyncClient().get("/alook/", headers={"x-user": "ann"})

        assert asyncio.run(ask()).content == b"ann off DEFAULT"


def test_requests_in_threads_at_the_same_time_have_a_scope_each() -> None:
    def ask(headers: dict[str, str]) -> bytes:
        return Browser().get("/meet/", headers=headers).content

    with ThreadPoolExecutor(2) as executor:
        overridden = executor.submit(ask, {"X-User": "ann", HEADER: token()})
        plain = executor.submit(ask, {"X-User": "bo"})
        assert (overridden.result(), plain.result()) == (b"ann on OVERRIDE", b"bo off DEFAULT")


def test_requests_in_tasks_at_the_same_time_have_a_scope_each() -> None:
    async def ask() -> list[bytes]:
        ameetings.append(asyncio.Barrier(2))
        shown = ({"X-User": "ann", HEADER: token()}, {"X-User": "bo"})
        found = await asyncio.gather(*(AsyncClient().get("/ameet/", headers=headers) for headers in shown))
        return [response.content for response in found]

    assert asyncio.run(ask()) == [b"ann on OVERRIDE", b"bo off DEFAULT"]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (None, r"^settings.FLAGKIT: got None; expected a dict"),
        ({}, r"^settings.FLAGKIT: got \{\}"),
        ({"context": context_of, "key": 1}, r'expected a dict with "context" and, if need be, "client"'),
        ({"context": "no.such.function"}, r"^settings.FLAGKIT\['context'\]: got 'no.such.function'"),
        ({"context": 5}, r"^context: got 5"),
        ({"context": context_of, "client": 5}, r"^client: got 5"),
        ({"context": find_out}, r"^context: got <function find_out .*; expected a plain function"),
    ],
)
def test_a_wrong_setting_is_named_when_the_server_starts(given: Any, said: str) -> None:
    with override_settings(FLAGKIT=given), pytest.raises(ConfigError, match=said):
        FlagsMiddleware(look)
