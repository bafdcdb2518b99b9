"""The key and private attributes are written nowhere and sent nowhere else, whatever goes wrong.

The closing check of every scenario searches what its applications wrote (logs at DEBUG, what objects print, local
variables of exceptions, state files, reports) and what its servers were asked. Here one application goes through all
there is, and the search is shown to find what is there.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.faults import answers
from tests.faults.server import Server
from tests.faults.stage import KEY, PRIVATE, Stage, check_secrets
from tests.faults.test_definitions import SOON
from tests.faults.test_documents import SHAPES
from tests.faults.test_transport import HEADERS
from tests.unit.loopback import Call, Script


def repeated(call: Script) -> Callable[[Server], Script]:
    return lambda server: call


def echo(call: Call) -> None:
    """What it was sent, as some proxies say it in their error pages."""
    call.answer(400, repr(call.headers).encode(), {"X-Echo": call.headers["authorization"]})


FAULTS: dict[str, Callable[[Server], Script]] = {
    **{name: repeated(script) for name, script in HEADERS.items()},
    **{f"shape {number}": repeated(answers.body(shape)) for number, shape in enumerate(SHAPES)},
    **{f"status {code}": repeated(answers.status(code)) for code in (400, 401, 403, 404, 413, 418, 429, 500, 503, 204)},
    "hang": repeated(answers.hang),
    "reset": repeated(answers.reset),
    "drip": repeated(answers.drip_body),
    "portal": repeated(answers.portal),
    "bomb": repeated(answers.bomb(20)),
    "half": answers.half,
    "echo": lambda server: echo,
    "redirect": repeated(answers.redirect("/elsewhere")),
    "redirect away": repeated(answers.redirect("https://elsewhere.example/?key=")),
    "bad gzip": repeated(answers.body(b"{}", Content_Encoding="gzip")),
}


def test_a_tour_of_all_faults_leaves_no_secret_behind(stage: Stage) -> None:
    app = stage.running(prelude=SOON, config={"deadline_s": 0.3})
    app.may_lose = {"http_400", "http_404", "http_418", "http_413", "too_large", "rejected"}
    for name, fault in FAULTS.items():
        failures = app.source["failures"]
        stage.server.definitions = stage.server.collector = fault(stage.server)
        stage.server.publish()
        app.until(lambda failures=failures: app.source["failures"] > failures)
        stage.server.definitions = stage.server.serve
        app.sees(stage.server.number)
        assert KEY not in str(app.status), name


def test_an_exception_that_nobody_expected_shows_no_secret_to_a_crash_reporter(stage: Stage) -> None:
    app = stage.running()
    app.may_fault = True
    app.do("""
import http.client
failing, read = True, http.client.HTTPResponse.begin
def begin(self):
    if failing:
        raise ZeroDivisionError("nobody expected this")
    return read(self)
http.client.HTTPResponse.begin = begin
""")
    stage.server.cut()
    app.until(lambda: app.status["worker_faults"] >= 1 and app.status["sink"]["failures"] >= 1)
    app.do("failing = False")
    app.sees(stage.server.publish())
    assert "ZeroDivisionError" in (app.directory / "app.log").read_text()


def test_an_exception_while_sending_shows_no_secret_to_a_crash_reporter(stage: Stage) -> None:
    app = stage.running()
    app.may_fault = True
    app.do("""
import socket
failing, send = True, socket.socket.sendall
def sendall(self, *given):
    if failing:
        raise ZeroDivisionError("nobody expected this")
    return send(self, *given)
socket.socket.sendall = sendall
""")
    app.until(lambda: app.status["worker_faults"] >= 1 and app.status["sink"]["failures"] >= 1)
    app.do("failing = False")
    app.sees(stage.server.publish())
    assert "ZeroDivisionError" in (app.directory / "app.log").read_text()


@pytest.mark.parametrize("secret", [KEY, PRIVATE])
def test_the_search_finds_what_is_there(stage: Stage, secret: str) -> None:
    app = stage.running()
    app.do("logging.getLogger('app').debug('oops %s', secret)", secret=secret)
    app.finish()
    with pytest.raises(AssertionError, match="a secret in"):
        check_secrets(stage)
    (app.directory / "app.log").unlink()
    check_secrets(stage)
