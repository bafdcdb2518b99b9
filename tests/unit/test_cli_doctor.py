"""``flagkit doctor`` with patients of all kinds: it names what is wrong, says what to do, and shows no secret."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
import time
import zlib
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from loopback import GOOD_CERTIFICATE, Call, refusing, server_tls, serving

from flagkit.cli import main
from flagkit.cli.doctor import machine, reach, state
from flagkit.cli.doctor.finding import Verdict
from flagkit.disk import Folder

KEY = "client-key-0123456789"
FLAGS = {"schema": 1, "version": "7", "environment": "production", "flags": {"checkout": {}, "search": {}}}
HEALTH = {"ok": True, "number": 3, "flag_count": 2, "events": 10, "definitions": {"ok": True, "problems": []}}

Report = dict[str, list[tuple[str, str]]]


class Backend:
    """A backend that is well, unless something is done to it. ``document``: what is answered as definitions."""

    def __init__(self) -> None:
        self.document: bytes = json.dumps(FLAGS).encode()
        self.headers: dict[str, str | None] = {"Content-Type": "application/json", "ETag": '"1"'}
        self.ahead_s: float | None = 0.0
        self.health: Any = HEALTH
        self.replies: dict[str, Callable[[Call], None]] = {}

    def __call__(self, call: Call) -> None:
        path = call.path.partition("?")[0]
        reply = self.replies.get(path) or {
            "/healthz": self._healthz,
            "/v1/definitions": self._definitions,
            "/v1/events": self._events,
        }.get(path, lambda call: call.answer(404))
        reply(call)

    def _healthz(self, call: Call) -> None:
        call.answer(200, json.dumps(self.health).encode(), {"Content-Type": "application/json"})

    def _definitions(self, call: Call) -> None:
        date = {} if self.ahead_s is None else {"Date": formatdate(time.time() + self.ahead_s, usegmt=True)}
        headers = {name: value for name, value in self.headers.items() if value is not None}
        if call.headers.get("if-none-match") == headers.get("ETag", "no"):
            call.answer(304, b"", {**headers, **date})
        else:
            call.answer(200, self.document, {**headers, **date})

    def _events(self, call: Call) -> None:
        batch = json.loads(zlib.decompress(call.body, 31))
        assert batch["events"] == []
        body = json.dumps({"batch_id": batch["batch_id"], "accepted": 0, "rejected": []}).encode()
        call.answer(202, body, {"Content-Type": "application/json"})


@pytest.fixture
def backend() -> Backend:
    return Backend()


def status(code: int) -> Callable[[Call], None]:
    return lambda call: call.answer(code)


def doctor(*arguments: str, key: str | None = KEY) -> Report:
    """The findings by what was looked at: verdicts and texts."""
    environment = {"FLAGKIT_KEY": key, "FLAGKIT_READ_KEY": None, "FLAGKIT_REDIS_URL": None}
    result = CliRunner().invoke(main, ["doctor", "--json", *arguments], env=environment)
    assert result.exception is None or isinstance(result.exception, SystemExit)
    assert KEY not in result.output
    report: Report = {}
    for each in json.loads(result.stdout):
        report.setdefault(each["check"], []).append((each["verdict"], f"{each['found']}; {each['fix']}"))
    bad = any(verdict == "problem" for found in report.values() for verdict, _ in found)
    assert result.exit_code == int(bad)
    return report


def visit(backend: Backend, *arguments: str, path: str = "", **options: Any) -> Report:
    with serving(backend) as server:
        return doctor(server.url + path, *arguments, **options)


def only(report: Report, check: str, verdict: str, *texts: str) -> None:
    """The one finding of ``check`` has this verdict and says these things."""
    ((found, text),) = report[check]
    assert found == verdict, text
    assert all(part in text for part in texts), text


# -- a service ---------------------------------------------------------------------------------------------------------


def test_a_service_that_is_well_is_well_in_every_respect(backend: Backend) -> None:
    backend.health = {**HEALTH, "may": ["read", "write"]}
    report = visit(backend)
    only(report, "disk", "skipped", "--state-dir")
    del report["disk"]
    assert {verdict for found in report.values() for verdict, _ in found} == {"ok"}
    only(report, "service", "ok", "number 3, 2 flags, 10 events stored")
    only(report, "key", "ok", "may read and write")
    only(report, "definitions", "ok", "2 flags, version 7, environment production, ")
    only(report, "clock", "ok", "within 1 s")
    only(report, "polling", "ok", "median of 5")
    only(report, "events", "ok", "acknowledged")


def test_the_report_is_a_line_a_finding_and_a_sum(backend: Backend) -> None:
    backend.headers["ETag"] = None
    backend.replies["/healthz"] = status(503)
    with serving(backend) as server:
        result = CliRunner().invoke(main, ["doctor", server.url], env={"FLAGKIT_KEY": KEY})
    lines = result.stdout.splitlines()
    assert all(re.match(r"(ok     |warning|problem|skipped)  [a-z]+ +\S", line) for line in lines[:-2])
    assert lines[-2:] == ["", "1 problem, 1 warning, 1 skipped"]
    assert "problem  service      it cannot store events (503); look at its disk, and into its log" in lines
    assert result.exit_code == 1


def test_nothing_is_stored_and_the_key_goes_only_into_its_header(backend: Backend) -> None:
    with serving(backend) as server:
        doctor(server.url)
    assert {call.headers["authorization"] for call in server.calls} == {f"Bearer {KEY}"}
    assert all(KEY not in call.path for call in server.calls)
    assert [call.method for call in server.calls].count("POST") == 1


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("nonsense", "expected a URL such as"),
        ("http://flags.example.com", "expected https://"),
        ("https://user:hunter2@flags.example.com", "a value not shown here"),
        ("https://flags.example.com?key=hunter2", "a value not shown here"),
        ("https://no-such-host.invalid", "no-such-host.invalid cannot be resolved"),
    ],
)
def test_an_address_that_is_none(url: str, text: str) -> None:
    report = doctor(url)
    only(report, "address", "problem", text)
    assert "hunter2" not in str(report)
    assert "definitions" not in report


def test_a_port_where_nobody_listens() -> None:
    with refusing() as url:
        only(doctor(url), "address", "problem", "refuses connections", "start the service there")


def test_a_port_that_takes_no_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reach, "_PATIENCE_S", 0.1)
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener, ExitStack() as crowd:
        for _ in range(4):
            other = crowd.enter_context(socket.socket())
            other.setblocking(False)
            other.connect_ex(listener.getsockname())
        (found,) = reach.examine(f"http://127.0.0.1:{listener.getsockname()[1]}", insecure=False)
    assert (found.verdict, found.found.endswith("does not answer")) == (Verdict.PROBLEM, True)


def test_a_certificate_that_nobody_trusts_and_the_file_that_helps(backend: Backend, tmp_path: Path) -> None:
    context, trusted = server_tls(tmp_path, GOOD_CERTIFICATE)
    with serving(backend, context) as server:
        url = server.url
        only(doctor(url), "service", "problem", "no trusted TLS connection", "--ca-file")
        only(doctor(url, "--ca-file", trusted), "definitions", "ok")


def test_a_certificate_file_that_is_none(backend: Backend) -> None:
    only(visit(backend, "--ca-file", "/nowhere.pem"), "ca file", "problem", "at least one certificate")


@pytest.mark.parametrize("key", ["two\nlines", "sn\u0416w"])
def test_a_key_that_no_header_can_carry_is_not_shown(backend: Backend, key: str) -> None:
    report = visit(backend, key=key)
    only(report, "key", "problem", "a value not shown here")
    assert key not in str(report)


def test_no_key_where_one_is_wanted(backend: Backend) -> None:
    backend.replies["/v1/definitions"] = status(401)
    report = visit(backend, key=None)
    only(report, "key", "problem", "no key is given, and it is wanted (401)", "FLAGKIT_KEY")
    assert "events" not in report


def test_no_key_where_none_is_needed(backend: Backend) -> None:
    only(visit(backend, key=None), "key", "ok", "none is needed to read")


def test_unknown_and_forbidden_keys_are_told_apart(backend: Backend) -> None:
    backend.replies["/v1/definitions"] = status(401)
    only(visit(backend), "key", "problem", "is not known there (401)")
    backend.replies["/v1/definitions"] = status(403)
    only(visit(backend), "key", "problem", "forbids the way (403)")


@pytest.mark.parametrize(
    ("may", "definitions", "verdict", "text"),
    [
        (["write"], 401, "problem", "may write, not read (401)"),
        (["read"], None, "ok", "may read"),
        (["read", "change"], None, "warning", "give clients one that changes nothing"),
    ],
)
def test_the_role_of_a_key_is_told(
    backend: Backend, may: list[str], definitions: int | None, verdict: str, text: str
) -> None:
    backend.health = {**HEALTH, "may": may}
    if definitions is not None:
        backend.replies["/v1/definitions"] = status(definitions)
    only(visit(backend), "key", verdict, text)


def test_a_key_that_may_not_send_events(backend: Backend) -> None:
    backend.replies["/v1/events"] = status(403)
    only(visit(backend), "events", "warning", "may not send events (403)", "the client key")


@pytest.mark.parametrize(
    ("code", "verdict", "text"),
    [
        (404, "warning", "nobody takes them there (404)"),
        (400, "warning", "an empty batch is refused (http_400)"),
        (500, "problem", "not acknowledged (http_500)"),
        (200, "problem", "not acknowledged (not_an_ack); something answers in the collector's place"),
        (302, "problem", "not acknowledged (not_an_ack)"),
    ],
)
def test_a_collector_that_does_not_acknowledge(backend: Backend, code: int, verdict: str, text: str) -> None:
    backend.replies["/v1/events"] = status(code)
    only(visit(backend), "events", verdict, text)


def test_a_portal_that_answers_everything_with_a_page(backend: Backend) -> None:
    def page(call: Call) -> None:
        call.answer(200, b"<html>Sign in</html>", {"Content-Type": "text/html"})

    backend.replies = dict.fromkeys(("/healthz", "/v1/definitions", "/v1/events"), page)
    report = visit(backend)
    only(report, "definitions", "problem", "answered with 'text/html', not JSON", "captive portal")
    only(report, "service", "warning", "no flagkit service says how it is")
    only(report, "events", "problem", "in the collector's place")


@pytest.mark.parametrize(
    ("reply", "text"),
    [
        (status(404), "give the URL of the service without a path"),
        (status(500), "answered with status 500; look at what answers there"),
        (lambda call: call.hang_up(), "closed before an answer came"),
        (lambda call: call.answer(302, b"", {"Location": "https://elsewhere.example/"}), "the address it redirects to"),
        (lambda call: call.answer(200, b"x" * 11 * 1024 * 1024, {"Content-Type": "application/json"}), "max_document"),
    ],
)
def test_definitions_that_do_not_come(backend: Backend, reply: Callable[[Call], None], text: str) -> None:
    backend.replies["/v1/definitions"] = reply
    only(visit(backend), "definitions", "problem", text)


def test_a_document_by_its_own_address_needs_neither_service_nor_collector(backend: Backend) -> None:
    backend.replies["/secret-path/flags.json"] = backend._definitions
    report = visit(backend, path="/secret-path/flags.json")
    only(report, "definitions", "ok")
    assert {"service", "events"}.isdisjoint(report)


def test_the_path_of_an_address_which_may_be_a_key_is_not_shown(backend: Backend) -> None:
    assert "secret-path" not in str(visit(backend, path="/secret-path/flags.json"))


@pytest.mark.parametrize(
    ("ahead_s", "verdict", "text"),
    [
        (3.0, "ok", "within"),
        (-60.0, "warning", "s ahead of the server"),
        (60.0, "warning", "s behind the server"),
        (3600.0, "problem", "s behind the server"),
        (None, "warning", "does not say what time it is"),
    ],
)
def test_clocks_that_differ(backend: Backend, ahead_s: float | None, verdict: str, text: str) -> None:
    backend.ahead_s = ahead_s
    only(visit(backend), "clock", verdict, text)


def test_polls_that_carry_the_whole_document(backend: Backend) -> None:
    backend.headers["ETag"] = None
    only(visit(backend), "polling", "warning", "carries the whole document", "ETag")


def test_a_service_whose_file_has_mistakes(backend: Backend) -> None:
    backend.health = {**HEALTH, "definitions": {"ok": False, "problems": ["$.flags.a: got 7"]}}
    report = visit(backend)
    assert (report["service"][1][0], report["service"][1][1][:33]) == ("warning", "its definitions file has mistakes")
    assert "$.flags.a: got 7" in report["service"][1][1]


# -- definitions ------------------------------------------------------------------------------------------------------


def test_definitions_that_cannot_be_used_at_all(backend: Backend) -> None:
    backend.document = b'{"schema": 2, "flags": {}}'
    only(visit(backend), "definitions", "problem", "cannot be used: $.schema", "flagkit validate")


def test_single_flags_that_cannot_be_used_and_flags_past_their_date(tmp_path: Path) -> None:
    path = tmp_path / "flags.json"
    old = {key: {"expires": "2020-01-01"} for key in "abcd"}
    path.write_text(json.dumps({"schema": 1, "flags": {"bad": {"default": "maybe"}, "worse": 7, **old}}))
    report = doctor("--file", str(path))
    only(report, "definitions", "problem", "4 flags", "$.flags.bad.default", "(and 1 more problem)", f"validate {path}")
    only(report, "flags", "warning", "4 flags past `expires`: a, b, c ...")


def test_remarks_on_definitions_are_warnings(tmp_path: Path) -> None:
    (tmp_path / "flags.json").write_text('{"schema": 1, "colour": "blue", "flags": {}}')
    verdicts = [verdict for verdict, _ in doctor("--file", str(tmp_path / "flags.json"))["definitions"]]
    assert verdicts == ["ok", "warning"]


def test_a_file_that_is_not_there_is_one_line() -> None:
    result = CliRunner().invoke(main, ["doctor", "--file", "/nowhere.json"])
    assert (result.exit_code, result.stderr) == (1, "Error: /nowhere.json: cannot be read: No such file or directory\n")


# -- what was not looked at -------------------------------------------------------------------------------------------


def test_without_anything_to_look_at_it_is_said_what_was_not_checked_and_how_to_have_it_checked() -> None:
    result = CliRunner().invoke(main, ["doctor"], env={"FLAGKIT_REDIS_URL": None})
    skipped = [line for line in result.stdout.splitlines() if line.startswith("skipped")]
    assert [line.split()[1] for line in skipped] == ["service", "definitions", "disk"]
    for line, how in zip(skipped, ("flagkit doctor URL", "flagkit doctor --file", "--state-dir DIR"), strict=True):
        assert ("not looked at" in line, how in line) == (True, True)
    assert "address, key, clock" in skipped[0]
    assert (result.stdout.splitlines()[-1], result.exit_code) == ("0 problems, 0 warnings, 3 skipped", 0)


def test_what_was_looked_at_is_not_skipped(tmp_path: Path) -> None:
    (tmp_path / "flags.json").write_text('{"schema": 1, "flags": {}}')
    report = doctor("--file", str(tmp_path / "flags.json"), "--state-dir", str(tmp_path / "state"))
    assert [check for check, found in report.items() if found[0][0] == "skipped"] == ["service"]


# -- the disk ---------------------------------------------------------------------------------------------------------


def test_a_directory_that_is_not_there_yet_is_tried_and_not_left_behind(tmp_path: Path) -> None:
    report = doctor("--state-dir", str(tmp_path / "state"))
    only(report, "disk", "ok", "can be made, files and locks work", "MiB free")
    assert list(tmp_path.iterdir()) == []


def test_a_directory_that_can_be_used_is_left_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir(0o700)
    report = doctor("--state-dir", str(tmp_path / "state"))
    only(report, "disk", "ok", "mode 0700")
    only(report, "spool", "ok")
    assert list((tmp_path / "state").iterdir()) == []


def test_a_directory_that_others_may_read(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "state").chmod(0o755)
    only(doctor("--state-dir", str(tmp_path / "state")), "disk", "warning", "chmod 700")


@pytest.mark.parametrize("ruin", ["a file", "a link", "for everybody", "without a parent"])
def test_a_directory_that_cannot_be_used(tmp_path: Path, ruin: str) -> None:
    path = tmp_path / "state"
    if ruin == "a file":
        path.touch()
    elif ruin == "a link":
        path.symlink_to(tmp_path)
    elif ruin == "for everybody":
        path.mkdir()
        path.chmod(0o777)
    else:
        path = tmp_path / "no" / "state"
    report = doctor("--state-dir", str(path))
    only(report, "disk", "problem", str(path), "another as state_dir")
    assert "spool" not in report


@pytest.mark.parametrize(
    ("method", "text"), [("replace", "a file cannot be kept: No space left"), ("lock", "no locks there: No space left")]
)
def test_a_disk_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str, text: str) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Folder, method, fail)
    only(doctor("--state-dir", str(tmp_path / "state")), "disk", "problem", text)


def test_locks_that_lock_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Lock:
        def release(self) -> None: ...

    monkeypatch.setattr(Folder, "lock", lambda *_: Lock())
    only(doctor("--state-dir", str(tmp_path / "state")), "disk", "problem", "two processes can have the same lock")


def test_what_waits_in_the_spool_is_told(tmp_path: Path) -> None:
    root = Folder.open(tmp_path / "state")
    spool = root.folder("sinks").folder("0123456789ab")
    living, gone = spool.folder("1-1-aa"), spool.folder("1-2-bb")
    lock = living.lock("lock")
    spool.lock("lock").release()
    gone.lock("lock").release()
    for owner, name in ((living, "000001.seg"), (gone, "000001.seg"), (gone, "000002.seg"), (gone, "000001.ack")):
        owner.replace(name, b"x" * 1024)
    now_ms = time.time_ns() // 1_000_000
    (fresh,) = list(state.examine(root.name, now_ms))[1:]
    assert (fresh.verdict, fresh.found) == (Verdict.OK, "3.0 KiB in 3 segments, the oldest for 0 min, 1 client at work")
    (old,) = list(state.examine(root.name, now_ms + 7_200_000))[1:]
    assert (old.verdict, old.fix) == (Verdict.WARNING, "see that the collector takes events")
    lock.release()
    (left,) = list(state.examine(root.name, now_ms + 7_200_000))[1:]
    assert "0 clients at work" in left.found
    assert "start a client" in left.fix
    gone.replace("000003.seg", b"x" * 40 * 1024 * 1024)
    (large,) = list(state.examine(root.name, now_ms))[1:]
    assert (large.verdict, large.fix[:32]) == (Verdict.WARNING, "beyond max_spool_bytes (64.0 MiB")
    spool.folder("dead").replace("1-1-aa.jsonl", b"x" * 2048)
    refused = list(state.examine(root.name, now_ms))[-1]
    assert (refused.verdict, refused.found) == (Verdict.WARNING, "2.0 KiB of events that will never be sent")


# -- the installation -------------------------------------------------------------------------------------------------


def test_the_installation_is_told_with_its_versions() -> None:
    report = doctor()
    only(report, "libraries", "ok", "flagkit ", "requests ", "urllib3 ", "mmh3 ")
    only(report, "extras", "ok", "cli, server")
    only(report, "python", "ok")


def test_what_the_environment_says_and_clients_do_not_hear_is_told() -> None:
    environment: Mapping[str, str] = {"HTTPS_PROXY": "http://user:hunter2@proxy", "SSL_CERT_FILE": "/x"}
    told = [finding.found for finding in machine.examine(environment) if finding.check == "environment"]
    assert told == [
        "HTTPS_PROXY set, and not read: clients go through no proxy",
        "SSL_CERT_FILE set, and not read: clients take the file as ca_file=",
    ]


def test_a_missing_extra_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "find_spec", lambda module: None if module == "re2" else object())
    (told,) = [finding.found for finding in machine.examine({}) if finding.check == "extras"]
    assert told.endswith("not installed: regex")


def test_the_key_can_come_from_the_file_of_a_service(backend: Backend, tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    path.write_text(json.dumps({"client": KEY, "admin": "other"}))
    with serving(backend) as server:
        doctor(server.url, "--key-file", str(path), key=None)
    assert server.calls[0].headers["authorization"] == f"Bearer {KEY}"


def test_loading_the_command_loads_no_http_library() -> None:
    code = "import sys, flagkit.cli.doctor; sys.exit('requests' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, cwd=Path(__file__).parents[2]).returncode == 0
