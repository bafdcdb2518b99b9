"""``flagkit override sign``: the token on stdout is one that a client takes, and the key is never on a command line."""

from __future__ import annotations

import re

import pytest
from click.testing import CliRunner, Result
from conftest import Make

from flagkit.cli import main
from flagkit.clock import SystemClock

SECRET = "s" * 32
ENOUGH = ("--flag", "new-checkout=on", "--env", "production")


def run(*arguments: str, keys: str | None = f"k1:{SECRET}") -> Result:
    return CliRunner().invoke(main, ["override", "sign", *arguments], env={"FLAGKIT_OVERRIDE_KEYS": keys})


def test_the_token_is_the_only_line_on_stdout_and_a_client_takes_it(make: Make) -> None:
    result = run(*ENOUGH, "--unit", "ann", "--hours", "0.5")
    assert result.exit_code == 0
    assert re.fullmatch(r"id [0-9a-f]{12}, until \S+\+00:00\n", result.stderr)
    token = result.stdout.removesuffix("\n")
    client = make({"new-checkout": {"overridable": True}}, environment="production", clock=SystemClock())
    client.allow_overrides(f"k2:{'t' * 32},k1:{SECRET}")
    with client.scope("ann", override=token) as granted:
        assert granted == {"new-checkout": "on"}


def test_the_id_it_says_revokes_the_token(make: Make) -> None:
    result = run(*ENOUGH)
    terms = {"revoked": [result.stderr.split()[1].rstrip(",")]}
    client = make({"new-checkout": {"overridable": terms}}, environment="production", clock=SystemClock())
    client.allow_overrides(f"k1:{SECRET}")
    with client.scope("ann", override=result.stdout.strip()) as granted:
        assert granted == {}
    assert client.status.overrides == {"revoked": 1}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--env", "production"), "Missing option '--flag'"),
        (("--flag", "a=on"), "Missing option '--env'"),
        (("--flag", "a", "--env", "p"), "--flag: got 'a'; expected FLAG=VARIANT"),
        (("--flag", "a=on", "--flag", "a=off", "--env", "p"), "each flag once"),
        ((*ENOUGH, "--hours", "25"), "hours: got 25.0; expected a number above 0, at most 24"),
    ],
)
def test_a_wrong_argument_is_named(arguments: tuple[str, ...], said: str) -> None:
    result = run(*arguments)
    assert result.exit_code == 1
    assert said in result.output


@pytest.mark.parametrize(
    ("keys", "said"), [(None, "FLAGKIT_OVERRIDE_KEYS is not set"), ("hush-hush", "keys: got a value")]
)
def test_a_key_that_is_missing_or_wrong_is_said_and_not_shown(keys: str | None, said: str) -> None:
    result = run(*ENOUGH, keys=keys)
    assert result.exit_code == 1
    assert said in result.output
    assert "hush" not in result.output
