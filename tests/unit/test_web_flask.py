"""Flask: the scope of a request, its override, its headers; and that requests at the same time have one each."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from flask import Flask, Response, session, stream_with_context
from flask.testing import FlaskClient
from overridden_shop import COOKIE, HEADER, Meeting, asker, seen, shop, token, unit

import flagkit
from flagkit import default
from flagkit.errors import ConfigError
from flagkit.integrations.flask import Flags

client = shop()


@pytest.fixture
def app() -> Flask:
    app = Flask(__name__)
    app.secret_key = "for tests"
    Flags(app, context=lambda request: asker(request.headers), client=client)
    meeting = Meeting()

    @app.get("/")
    def look() -> str:
        return seen(client)

    @app.get("/meet")
    def meet() -> str:
        before = seen(client)
        meeting.wait()
        assert seen(client) == before
        meeting.wait()
        return seen(client)

    @app.get("/pool")
    def pool() -> str:
        with ThreadPoolExecutor(2) as executor:
            inside = set(executor.map(flagkit.carry(lambda _: seen(client)), range(4)))
            assert set(executor.map(lambda _: unit(), range(4))) == {None}
        return inside.pop()

    @app.get("/stream")
    def stream() -> Response:
        return Response(parts())

    @app.get("/stream-with-request")
    def stream_with_request() -> Response:
        return Response(stream_with_context(parts()))

    def parts() -> Iterator[str]:
        try:
            yield seen(client) + ";"
            yield seen(client)
        finally:
            closed.append(unit())

    @app.get("/fails")
    def fails() -> str:
        raise ValueError("the shop's own")

    @app.get("/varies")
    def varies() -> Response:
        return Response(seen(client), headers={"Vary": "Accept", "Cache-Control": "public, max-age=60"})

    return app


closed: list[str | None] = []


@pytest.fixture
def browser(app: Flask) -> FlaskClient:
    return app.test_client()


def test_the_scope_of_a_request_is_who_asks(browser: FlaskClient) -> None:
    assert browser.get("/", headers={"X-User": "ann", "X-Plan": "pro"}).text == "ann on TARGETING_MATCH"
    assert browser.get("/").text == "None off DEFAULT"
    assert unit() is None


@pytest.mark.parametrize("where", ["header", "cookie"])
def test_a_request_with_an_override_sees_the_candidate_and_the_next_does_not(browser: FlaskClient, where: str) -> None:
    if where == "cookie":
        browser.set_cookie(COOKIE, token())
    headers = {"X-User": "ann"} | ({HEADER: token()} if where == "header" else {})
    response = browser.get("/", headers=headers)
    assert response.text == "ann on OVERRIDE"
    assert response.headers["Cache-Control"] == "private, no-store"
    assert response.headers["Vary"] == "Flagkit-Override, Cookie"
    browser.delete_cookie(COOKIE)
    after = browser.get("/", headers={"X-User": "ann"})
    assert after.text == "ann off DEFAULT"
    assert "Cache-Control" not in after.headers
    assert after.headers["Vary"] == "Flagkit-Override"


def test_one_that_is_refused_changes_nothing_that_can_be_seen(browser: FlaskClient) -> None:
    plain = browser.get("/", headers={"X-User": "ann"})
    refused = browser.get("/", headers={"X-User": "ann", HEADER: token(unit="bo")})
    assert (plain.text, dict(plain.headers)) == (refused.text, dict(refused.headers))


def test_what_a_response_says_of_caching_is_kept_unless_there_was_an_override(browser: FlaskClient) -> None:
    plain = browser.get("/varies").headers
    assert (plain["Vary"], plain["Cache-Control"]) == ("Accept, Flagkit-Override", "public, max-age=60")
    overridden = browser.get("/varies", headers={HEADER: token()}).headers
    assert (overridden["Vary"], overridden["Cache-Control"]) == (
        "Accept, Flagkit-Override, Cookie",
        "private, no-store",
    )


def test_a_failing_view_ends_its_scope_and_its_answer_is_not_cached(browser: FlaskClient) -> None:
    response = browser.get("/fails", headers={"X-User": "ann", HEADER: token()})
    assert (response.status_code, response.headers["Cache-Control"]) == (500, "private, no-store")
    assert unit() is None


def test_when_the_application_cannot_say_who_asks_the_request_goes_on(browser: FlaskClient) -> None:
    before = client.status.errors.get("CONTEXT_FAILED", 0)
    assert browser.get("/", headers={"X-User": "bomb"}).text == "None None INVALID_CONTEXT"
    assert client.status.errors["CONTEXT_FAILED"] == before + 1


@pytest.mark.parametrize("path", ["/stream", "/stream-with-request"])
def test_a_body_made_while_it_is_sent_is_in_the_scope(browser: FlaskClient, path: str) -> None:
    closed.clear()
    response = browser.get(path, headers={"X-User": "ann", HEADER: token()})
    assert response.text == "ann on OVERRIDE;ann on OVERRIDE"
    response.close()
    assert closed == ["ann"]
    assert unit() is None


def test_a_request_made_inside_another_has_a_scope_of_its_own(app: Flask) -> None:
    @app.get("/outer")
    def outer() -> str:
        inner = app.test_client().get("/", headers={"X-User": "bo"}).text
        return f"{inner}; {seen(client)}"

    response = app.test_client().get("/outer", headers={"X-User": "ann", HEADER: token()})
    assert response.text == "bo off DEFAULT; ann on OVERRIDE"
    assert response.headers["Cache-Control"] == "private, no-store"
    assert unit() is None


def test_requests_in_threads_at_the_same_time_have_a_scope_each(app: Flask) -> None:
    def ask(headers: dict[str, str]) -> str:
        return app.test_client().get("/meet", headers=headers).text

    with ThreadPoolExecutor(2) as executor:
        overridden = executor.submit(ask, {"X-User": "ann", HEADER: token()})
        plain = executor.submit(ask, {"X-User": "bo"})
        assert (overridden.result(), plain.result()) == ("ann on OVERRIDE", "bo off DEFAULT")


def test_an_executor_has_the_scope_that_is_carried_to_it_and_keeps_nothing(browser: FlaskClient) -> None:
    assert browser.get("/pool", headers={"X-User": "ann", HEADER: token()}).text == "ann on OVERRIDE"


@pytest.fixture
def no_default_client() -> Iterator[None]:
    yield
    default.current().close(0)
    default._client = None


@pytest.mark.usefixtures("no_default_client")
def test_the_function_may_use_the_session_and_the_default_client_serves() -> None:
    app = Flask(__name__)
    app.secret_key = "for tests"
    flags = Flags(context=lambda request: session.get("user") or request.args["user"])
    flags.init_app(app)
    app.get("/")(lambda: str(unit()))
    assert app.test_client().get("/?user=cy").text == "cy"


def test_a_wrong_argument_is_named() -> None:
    with pytest.raises(ConfigError, match=r"^context: got 'ann'"):
        Flags(context="ann")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"^client: got 5"):
        Flags(context=asker, client=5)  # type: ignore[arg-type]
