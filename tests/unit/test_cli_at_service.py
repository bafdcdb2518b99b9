"""Orders handed in at a service: what is sent, how often, with which key, and what is said when it does not work."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result
from fakes import FakeClock
from loopback import Call, Loopback, Script, refusing, serving

from flagkit.cli import main
from flagkit.cli.service import Service

KEY = "admin-key-0123456789"
DONE = {
    "flag": "checkout",
    "changed": True,
    "change": 3,
    "summary": "enabled -> disabled",
    "note": "",
    "undo": ["revert", "checkout"],
    "epoch": "e",
    "number": 7,
    "warnings": [],
}
ROOT = Path(__file__).parents[2]


def answering(*answers: tuple[int, Any] | None) -> Script:
    """Gives these answers in order, the last one again and again; None hangs up."""
    left = list(answers)

    def script(call: Call) -> None:
        answer = left.pop(0) if len(left) > 1 else left[0]
        if answer is None:
            call.hang_up()
        else:
            call.answer(answer[0], json.dumps(answer[1]).encode(), {"Content-Type": "application/json"})

    return script


def run(url: str, *arguments: str, key: str | None = KEY) -> Result:
    words = [*arguments, "--url", url]
    if arguments[0] != "history":
        words += ["--by", "ann", "--reason", "because"]
    result = CliRunner().invoke(main, words, env={"FLAGKIT_ADMIN_KEY": key, "FLAGKIT_READ_KEY": key})
    assert result.exception is None or isinstance(result.exception, SystemExit)
    assert KEY not in result.output
    return result


@pytest.mark.parametrize(
    ("arguments", "document"),
    [
        (("kill", "checkout"), {"kind": "kill", "flag": "checkout"}),
        (("ramp", "checkout", "12.5"), {"kind": "ramp", "flag": "checkout", "percent": 12.5}),
        (
            ("ramp", "checkout", "5", "--rule", "canary", "--replace-steps"),
            {"kind": "ramp", "flag": "checkout", "percent": 5, "rule": "canary", "replace_steps": True},
        ),
        (("set", "items", "many"), {"kind": "set", "flag": "items", "variant": "many"}),
        (("revert",), {"kind": "revert"}),
        (("revert", "items", "--to", "0", "--force"), {"kind": "revert", "flag": "items", "to": 0, "force": True}),
    ],
)
def test_an_order_is_sent_as_it_was_typed(arguments: tuple[str, ...], document: dict[str, Any]) -> None:
    with serving(answering((200, DONE))) as server:
        assert run(server.url, *arguments).exit_code == 0
    (call,) = server.calls
    assert (call.method, call.path, call.headers["authorization"]) == ("POST", "/v1/changes", f"Bearer {KEY}")
    assert json.loads(call.body) == {**document, "by": "ann", "reason": "because"}


def test_what_was_done_is_one_line_that_says_how_to_undo_it() -> None:
    with serving(answering((200, DONE))) as server:
        result = run(server.url, "kill", "checkout")
    undo = f"undo: flagkit revert checkout --url {server.url}"
    assert result.output == f"3. checkout: enabled -> disabled; served as number 7; {undo}\n"


def test_warnings_go_to_stderr() -> None:
    with serving(answering((200, {**DONE, "change": None, "undo": [], "warnings": ["mind\nthis"]}))) as server:
        result = run(server.url, "kill", "checkout")
    assert result.stdout == "checkout: enabled -> disabled; served as number 7\n"
    assert result.stderr == f"{server.url}: mind\\nthis\n"


def test_what_is_so_already_is_said() -> None:
    with serving(answering((200, {**DONE, "changed": False, "change": None}))) as server:
        assert run(server.url, "kill", "checkout").stdout == "checkout: it is so already, nothing is changed\n"


@pytest.mark.parametrize(
    ("status", "body", "message"),
    [
        (409, {"error": "no flag 'x'"}, "no flag 'x'"),
        (422, {"error": "by: say who"}, "by: say who"),
        (409, "no", "answered with status 409"),
        (404, {"error": "Not Found"}, "Not Found"),
        (500, None, "answered with status 500"),
        (401, {}, "not the admin key (give it in FLAGKIT_ADMIN_KEY)"),
        (403, {}, "not the admin key (give it in FLAGKIT_ADMIN_KEY)"),
        (302, {}, "answered with status 302"),
        (200, [], "the answer is not that of a flagkit service"),
        (200, {"flag": "checkout"}, "the answer is not that of a flagkit service"),
    ],
)
def test_a_refusal_is_one_line_with_the_reason(status: int, body: Any, message: str) -> None:
    with serving(answering((status, body))) as server:
        result = run(server.url, "kill", "checkout")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == f"Error: {server.url}: {message}\n"
    assert len(server.calls) == 1


def test_a_service_that_is_not_there_is_one_line() -> None:
    with refusing() as url:
        result = run(url, "kill", "checkout")
    assert (result.exit_code, result.stderr) == (1, f"Error: {url}/v1/changes: connection refused\n")


Post = Callable[[Loopback], Any]


@pytest.fixture
def post() -> Post:
    """Sends an order, with no time to lose between two tries."""
    return lambda server: Service(server.url, KEY, insecure=False, clock=FakeClock()).post(
        "/v1/changes", {"kind": "kill"}
    )


@pytest.mark.parametrize("lost", [None, (503, {}), (502, {}), (429, {})])
def test_an_order_whose_answer_is_lost_is_sent_again_under_the_same_id(post: Post, lost: Any) -> None:
    with serving(answering(lost, lost, (200, DONE))) as server:
        assert post(server) == DONE
    ids = {call.headers["idempotency-key"] for call in server.calls}
    assert (len(server.calls), len(ids)) == (3, 1)


def test_two_orders_have_two_ids(post: Post) -> None:
    with serving(answering((200, DONE))) as server:
        post(server)
        post(server)
    assert len({call.headers["idempotency-key"] for call in server.calls}) == 2


def test_after_some_tries_it_is_said_that_nobody_knows(post: Post) -> None:
    with serving(answering(None)) as server, pytest.raises(click.ClickException) as error:
        post(server)
    assert len(server.calls) == 4
    assert "whether it was done is not known" in error.value.message


def test_a_service_that_stays_busy_says_why(post: Post) -> None:
    busy = answering((503, {"error": "somebody else is changing it"}))
    with serving(busy) as server, pytest.raises(click.ClickException, match="somebody else is changing it"):
        post(server)
    assert len(server.calls) == 4


@pytest.mark.parametrize("command", ["kill", "history"])
def test_either_a_file_or_a_service_has_to_be_named(command: str) -> None:
    for place in ([], ["--file", "f", "--url", "https://flags.example.com"]):
        result = CliRunner().invoke(main, [command, "checkout", *place])
        assert (result.exit_code, "either --file FILE or --url URL" in result.stderr) == (1, True)


@pytest.mark.parametrize("url", ["nonsense", "http://flags.example.com", "https://user:secret@flags.example.com"])
def test_an_address_that_is_not_safe_is_refused_before_anything_is_sent(url: str) -> None:
    result = run(url, "kill", "checkout")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("Error: url: got ")
    assert "secret@" not in result.stderr


# -- keys -------------------------------------------------------------------------------------------------------------


def test_without_a_key_nothing_is_sent() -> None:
    with serving(answering((200, DONE))) as server:
        result = run(server.url, "kill", "checkout", key=None)
    assert "no admin key: give it in FLAGKIT_ADMIN_KEY or with --key-file" in result.stderr
    assert (result.exit_code, server.calls) == (1, [])


@pytest.mark.parametrize("text", [f"{KEY}\n", json.dumps({"admin": KEY, "read": "r"})])
def test_a_key_can_be_in_a_file(tmp_path: Path, text: str) -> None:
    (tmp_path / "key").write_text(text)
    with serving(answering((200, DONE))) as server:
        run(server.url, "kill", "checkout", "--key-file", str(tmp_path / "key"), key=None)
    assert server.calls[0].headers["authorization"] == f"Bearer {KEY}"


@pytest.mark.parametrize(
    ("text", "message"), [('{"read": "secret-r"}', "no admin key in it"), (None, "cannot be read")]
)
def test_a_file_without_the_key_is_named_and_not_quoted(tmp_path: Path, text: str | None, message: str) -> None:
    path = tmp_path / "key"
    if text is not None:
        path.write_text(text)
    result = run("http://127.0.0.1:1", "kill", "checkout", "--key-file", str(path))
    assert result.exit_code == 1
    assert f"{path}: {message}" in result.stderr
    assert "secret-r" not in result.stderr


def test_no_command_that_changes_a_flag_takes_a_key_on_its_command_line() -> None:
    for command in ("kill", "ramp", "set", "revert", "history"):
        assert "--key " not in CliRunner().invoke(main, [command, "--help"]).output


def test_at_a_terminal_the_key_is_asked_for_and_not_shown() -> None:
    ours, theirs = pty.openpty()
    with serving(answering((200, DONE))) as server:
        words = ["kill", "checkout", "--url", server.url, "--by", "ann", "--reason", "because"]
        environment = {name: value for name, value in os.environ.items() if name != "FLAGKIT_ADMIN_KEY"}
        command = [sys.executable, "-m", "flagkit", *words]
        with subprocess.Popen(
            command, stdin=theirs, stdout=theirs, stderr=theirs, cwd=ROOT, env=environment
        ) as process:
            os.close(theirs)
            shown = b""
            while b"Admin key" not in shown:
                shown += os.read(ours, 1000)
            os.write(ours, f"{KEY}\n".encode())
            try:
                while more := os.read(ours, 1000):
                    shown += more
            except OSError:  # the terminal is gone when the process is
                pass
            assert process.wait(30) == 0
    os.close(ours)
    assert KEY.encode() not in shown
    assert server.calls[0].headers["authorization"] == f"Bearer {KEY}"


# -- history ----------------------------------------------------------------------------------------------------------

CHANGE = {
    "time": "2026-11-23T12:00:00Z", "number": 7, "change": 3, "command": "kill", "flag": "items", "by": "ann",
    "reason": "it\nburns", "summary": "enabled -> disabled", "before": "{}", "after": "{}",
}  # fmt: skip
EDIT = {**CHANGE, "change": None, "by": None, "reason": None, "flag": None, "summary": "segments edited"}


def test_the_history_of_a_service_is_a_table() -> None:
    with serving(answering((200, {"changes": [CHANGE, EDIT], "older": 0}))) as server:
        result = run(server.url, "history")
    assert server.calls[0].path == "/v1/changes"
    assert [line.split() for line in result.stdout.splitlines()] == [
        ["when", "who", "flag", "what", "why"],
        ["3", "2026-11-23T12:00:00Z", "ann", "items", "enabled", "->", "disabled", "it\\nburns"],
        ["2026-11-23T12:00:00Z", "segments", "edited"],
    ]


def test_the_history_of_one_flag_is_asked_for_and_printed_as_it_came() -> None:
    with serving(answering((200, {"changes": [CHANGE], "older": 12}))) as server:
        result = run(server.url, "history", "items", "--json")
    assert server.calls[0].path == "/v1/changes?flag=items"
    assert json.loads(result.stdout) == [CHANGE]
    assert result.stderr == f"{server.url}: 12 older changes not shown\n"


def test_the_history_of_a_flag_that_the_service_has_not_is_an_error_with_the_nearest_name() -> None:
    nothing = {"changes": [], "older": 0}
    with serving(answering((200, nothing), (200, {"schema": 1, "flags": {"items": {}}}))) as server:
        result = run(server.url, "history", "itms")
    assert [call.path for call in server.calls] == ["/v1/changes?flag=itms", "/v1/definitions"]
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "Error: no flag 'itms'; did you mean 'items'?\n"


def test_a_flag_of_the_service_that_was_never_changed_has_no_changes() -> None:
    nothing = {"changes": [], "older": 0}
    with serving(answering((200, nothing), (200, {"schema": 1, "flags": {"items": {}}}))) as server:
        assert run(server.url, "history", "items").stdout == "no changes\n"


@pytest.mark.parametrize("answer", [[], {}, {"changes": 7}, {"changes": [7]}, {"changes": [{}]}])
def test_what_is_no_history_is_said(answer: Any) -> None:
    with serving(answering((200, answer))) as server:
        result = run(server.url, "history")
    assert (result.exit_code, result.stderr) == (1, f"Error: {server.url}: the answer is not a history\n")
