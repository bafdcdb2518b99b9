"""``flagkit override sign``: a token with which one person's requests get the variants it names, in production."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from typing import Final

import click

from flagkit.cli.text import plain

KEYS: Final = "FLAGKIT_OVERRIDE_KEYS"


@click.group("override")
def command() -> None:
    """Signed overrides: try a candidate in production with nobody else seeing it."""


@command.command("sign")
@click.option(
    "--flag", "pairs", multiple=True, required=True, metavar="FLAG=VARIANT", help="What to force; repeatable."
)
@click.option("--env", "environment", required=True, metavar="NAME", help="The environment it is for.")
@click.option("--unit", metavar="U", help="Whose requests it is good for; left out: anybody's who shows it.")
@click.option("--hours", type=float, default=1, show_default=True, metavar="H", help="Until it expires, at most 24.")
def sign_command(pairs: tuple[str, ...], environment: str, unit: str | None, hours: float) -> None:
    """Print a token for the header Flagkit-Override or the cookie flagkit-override.

    The keys are read from the environment's FLAGKIT_OVERRIDE_KEYS, as id:secret,id:secret; the first signs. The token
    is the only line on stdout; its id, by which it can be revoked, goes to stderr.
    """
    from flagkit.integrations.overrides import sign

    keys = os.environ.get(KEYS)
    if not keys:
        raise click.ClickException(f"{KEYS} is not set; expected id:secret, as the application has it")
    signed = sign(keys, _flags(pairs), environment=environment, unit=unit, hours=hours)
    until = datetime.fromtimestamp(signed.expires_ms // 1000, UTC).isoformat()
    click.echo(plain(f"id {signed.id}, until {until}"), err=True)
    click.echo(signed.token)


def _flags(pairs: tuple[str, ...]) -> dict[str, str]:
    flags: dict[str, str] = {}
    for pair in pairs:
        flag, equals, variant = pair.partition("=")
        if not flag or not variant or not equals or flag in flags:
            raise click.UsageError(f"--flag: got {pair!r}; expected FLAG=VARIANT, each flag once")
        flags[flag] = variant
    return flags
