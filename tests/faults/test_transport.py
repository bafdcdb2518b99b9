"""Rows B11, B15, B16, B19, B21 and B22: bodies without bound, redirects, confirmations nobody asked for, TLS, herds."""

from __future__ import annotations

import ssl
import time
import warnings
from pathlib import Path

import pytest

from tests.faults import answers
from tests.faults.stage import App, Stage
from tests.faults.test_definitions import SOON, survives
from tests.unit.loopback import EXPIRED_CERTIFICATE, GOOD_CERTIFICATE, OTHER_CERTIFICATE, Script, server_tls

# -- size --------------------------------------------------------------------------------------------------------------

LARGE: dict[str, tuple[Script, str]] = {
    "200 MB, announced": (answers.body(b"", Content_Length=str(200 << 20)), "too_large"),
    "200 MB, in chunks": (answers.huge(200), "too_large"),
    "200 MB, until the end": (answers.raw(answers.HEAD + b"\r\n" + b" " * (20 << 20)), "too_large"),
    "gzip of 200 MB": (answers.bomb(200), "too_large"),
}


def test_b11_a_body_without_measure_is_cut_off_and_costs_little_memory(stage: Stage) -> None:
    app = stage.running(config={"deadline_s": 10})
    for name, (fault, error) in LARGE.items():
        app.do("import gc; gc.collect(); forget_peak(); before_kb = memory_kb()")
        survives(stage, app, fault, error=error, polls=2)
        grown_kb = app.do("answer = memory_kb() - before_kb")
        assert grown_kb < 40_000, name


# -- redirects ---------------------------------------------------------------------------------------------------------


def test_b15_a_redirect_loop_ends_after_three(stage: Stage) -> None:
    app = stage.running()
    asked = len(stage.server.polls())
    failures = app.source["failures"]
    survives(stage, app, answers.redirect("/v1/definitions"), error="redirect")
    followed = len(stage.server.polls()) - asked
    assert followed <= 4 * (app.source["failures"] - failures + 1) + 10  # ten good polls meanwhile at most


def test_b15_a_redirect_to_another_origin_is_not_followed(stage: Stage) -> None:
    elsewhere = stage.serve()
    app = stage.running(prelude=SOON)
    for location in (
        f"{elsewhere.url}/v1/definitions",
        f"//127.0.0.1:{elsewhere.port}/",
        "https://127.0.0.1:1/",
        "ftp://x/",
    ):
        for code in (301, 302, 303, 307, 308):
            survives(stage, app, answers.redirect(location, code), error="redirect", polls=1)
    assert elsewhere.asked == []


def test_b15_a_redirect_within_the_origin_is_followed(stage: Stage) -> None:
    app = stage.running()
    server = stage.server
    server.definitions = lambda call: (answers.redirect("/moved") if call.path != "/moved" else server.serve)(call)
    app.sees(server.publish())
    assert server.polls()[-1].headers["authorization"]


def test_b15_a_redirect_from_https_to_http_is_not_followed(stage: Stage) -> None:
    tls, ca_file = server_tls(stage.directory, GOOD_CERTIFICATE)
    secure, plain = stage.serve(tls), stage.server
    secure.publish()
    app = stage.running(server=secure, ca_file=ca_file, config={"deadline_s": 2})
    secure.definitions = answers.redirect(f"{plain.url}/v1/definitions")
    app.until(lambda: app.source["consecutive_failures"] >= 2)
    assert app.source["last_error"].startswith("redirect")
    assert plain.asked == []
    secure.heal()
    app.sees(secure.publish())


# -- confirmations -----------------------------------------------------------------------------------------------------


def test_b16_a_304_that_nobody_asked_for_at_the_start_is_a_failure(stage: Stage) -> None:
    stage.server.definitions = answers.status(304)
    app = stage.start()
    app.run()
    app.until(lambda: app.source["failures"] >= 2)
    assert "304" in app.source["last_error"]
    assert not app.status["ready"]
    stage.server.heal()
    app.sees(stage.server.number)


def test_b16_a_304_after_documents_without_a_validator_is_a_failure(stage: Stage) -> None:
    server = stage.server
    server.definitions = lambda call: answers.body(server.document)(call)
    app = stage.running()
    survives(stage, app, answers.status(304), error="304")
    assert {asked.headers.get("if-none-match") for asked in server.polls()[:3]} == {None}


def test_b16_a_304_confirms_the_document_in_use_only(stage: Stage) -> None:
    app = stage.running()
    server, good = stage.server, stage.server.etag
    server.publish()
    server.definitions = answers.status(304, ETag='"another"')
    app.until(lambda: len(server.polls()) > 8)
    server.heal()
    app.sees(server.number)
    app.until(lambda: server.polls()[-1].headers.get("if-none-match") == server.etag)
    assert {asked.headers.get("if-none-match") for asked in server.polls()} == {None, good, server.etag}


def test_b16_once_an_hour_nobody_is_asked_to_confirm(stage: Stage) -> None:
    app = stage.running(prelude="import flagkit.runtime.poller as poller; poller._REFETCH_S = 1.0")
    server = stage.server
    # A confused cache confirms for ever what is long replaced.
    server.definitions = lambda call: (answers.status(304) if "if-none-match" in call.headers else server.serve)(call)
    app.sees(server.publish(), within_s=8)


# -- TLS ---------------------------------------------------------------------------------------------------------------


def old_tls(directory: Path) -> ssl.SSLContext:
    context, _ = server_tls(directory, GOOD_CERTIFICATE)
    context.set_ciphers("ALL:@SECLEVEL=0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # deprecated for everyone but a test like this one
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    return context


@pytest.mark.parametrize("what", ["self-signed", "wrong name", "expired", "TLS 1.1"])
def test_b19_a_server_that_cannot_be_trusted_gets_no_request(stage: Stage, what: str) -> None:
    pem = {"wrong name": OTHER_CERTIFICATE, "expired": EXPIRED_CERTIFICATE}.get(what, GOOD_CERTIFICATE)
    tls, ca_file = server_tls(stage.directory, pem)
    impostor = stage.serve(old_tls(stage.directory) if what == "TLS 1.1" else tls)
    impostor.publish()
    app = stage.start(server=impostor, ca_file=None if what == "self-signed" else ca_file, prelude=SOON)
    app.may_keep = None
    app.run()
    app.until(lambda: app.source["failures"] >= 2)
    assert app.source["last_error"].startswith("tls"), app.source
    assert not app.status["ready"]
    assert impostor.asked == []


def test_b19_a_certificate_of_ones_own_is_trusted_when_it_is_named(stage: Stage) -> None:
    tls, ca_file = server_tls(stage.directory, GOOD_CERTIFICATE)
    own = stage.serve(tls)
    own.publish()
    app = stage.running(server=own, ca_file=ca_file, config={"deadline_s": 2})
    app.sees(own.publish())


def test_b19_http_is_for_loopback_only(stage: Stage) -> None:
    app = stage.start()
    told = app.do("""
answer = []
for url in ("http://flags.example.com", "http://10.0.0.1:8400", "http://[2001:db8::1]/"):
    try:
        flagkit.Client(url, key=SETTINGS["key"])
    except flagkit.ConfigError as error:
        answer.append([error.field, SETTINGS["key"] in str(error)])
""")
    assert told == [["url", False]] * 3


# -- herds -------------------------------------------------------------------------------------------------------------


def test_b21_eight_processes_that_start_together_do_not_come_back_together(stage: Stage) -> None:
    server = stage.server
    server.definitions = answers.status(503)
    apps = [stage.start(callers=0, config={"poll_interval_s": 1.5, "flush_interval_s": 5}) for _ in range(8)]
    began_s = herd(apps)
    time.sleep(9)  # as long as six polls of each
    polls = [asked.at_s - began_s for asked in server.polls() if asked.at_s < began_s + 9]
    # Chance has no bound. Of 50,000 herds that were simulated 16 polled more than 32 times and none more than 34; in 38
    # more than five came together, in one more than six. Without jitter all eight do, each time.
    assert len(polls) <= 34, "48 without backing off"
    again = polls[8:]  # without definitions everybody asks at once
    busiest = max(sum(0 <= other - at < 0.19 for other in again) for at in again)
    assert busiest <= 6, sorted(again)


def herd(apps: list[App]) -> float:
    """Start all clients at the same time; return when, monotonic seconds."""
    for app in apps:
        app.alone = False
        app.do("answer = client.status.ready")
    at_s = time.time() + 0.3
    for app in apps:
        app.do("threading.Timer(at_s - time.time(), client.start).start()", at_s=at_s)
    return time.monotonic() + at_s - time.time()


def test_b21_processes_forked_together_first_poll_at_a_random_time(stage: Stage) -> None:
    app = stage.running(callers=0, config={"poll_interval_s": 2.0, "flush_interval_s": 5})
    app.may_keep = None
    began_s = time.monotonic()
    app.do("""
import warnings
warnings.simplefilter("ignore", DeprecationWarning)
children = []
for _ in range(8):
    child = os.fork()
    if not child:
        client.enabled("half", "u")
        time.sleep(4)  # two seconds more than the latest waits, for a machine that is busy
        os._exit(0)
    children.append(child)
for child in children:
    os.waitpid(child, 0)
""")
    connections = {}
    for asked in stage.server.polls():
        connections.setdefault(asked.connection, asked.at_s - began_s)
    first = sorted(at_s for at_s in connections.values() if at_s > 0)[:8]
    assert len(first) == 8
    assert first[-1] - first[0] > 0.5, "spread over the interval, 1.6 seconds on average"


# -- headers -----------------------------------------------------------------------------------------------------------

HEADERS: dict[str, Script] = {
    "10 MiB of headers": answers.raw(b"HTTP/1.1 200 OK\r\n" + b"X-Filler: %s\r\n" % (b"x" * 1000) * 10_000 + b"\r\n{}"),
    "a line of 10 MiB": answers.raw(b"HTTP/1.1 200 OK\r\nX-Filler: " + b"x" * (10 << 20) + b"\r\n\r\n{}"),
    "200 headers": answers.raw(b"HTTP/1.1 200 OK\r\n" + b"".join(b"X-%d: x\r\n" % n for n in range(200)) + b"\r\n{}"),
    "100 without end": answers.informed,
    "103 without end": answers.hinted,
    "bytes that are no header": answers.raw(b"HTTP/1.1 200 OK\r\n\x00\xff\xfe: \x80\r\n:\r\n \r\nX\r\n\r\n{}"),
    "no HTTP": answers.raw(b"SSH-2.0-OpenSSH_9.6\r\n"),
    "no status": answers.raw(b"HTTP/1.1 many OK\r\n\r\n"),
    "a length that is none": answers.raw(answers.HEAD + b"Content-Length: -5\r\n\r\n{}"),
    "two lengths": answers.raw(answers.HEAD + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}"),
    "chunks of no size": answers.raw(answers.CHUNKED + b"zz\r\n{}\r\n0\r\n\r\n"),
    "a chunk of all the memory": answers.raw(answers.CHUNKED + b"7fffffffffffffff\r\n{}\r\n"),
}


def test_b22_what_no_http_client_should_be_sent_is_a_failure(stage: Stage) -> None:
    app = stage.running()
    app.do("forget_peak(); before_kb = memory_kb()")
    for name, fault in HEADERS.items():
        try:
            survives(stage, app, fault, state="any", polls=1)
        except AssertionError as error:
            error.add_note(name)
            raise
    assert app.do("answer = memory_kb() - before_kb") < 40_000
