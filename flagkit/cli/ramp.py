"""``flagkit ramp FLAG PERCENT``: another percentage for a rollout, in a file."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation

import click

from flagkit.cli.changes import author, change_options, make
from flagkit.dialects import edits


def percentage(text: str) -> Decimal:
    """A number from 0 to 100. Raises: BadParameter."""
    try:
        number = Decimal(text)
    except InvalidOperation:
        number = Decimal("NaN")
    if not number.is_finite() or not 0 <= number <= 100 or number != round(number, 3):
        raise click.BadParameter(f"got {text!r}; expected a number from 0 to 100, three decimals at most")
    return abs(number)  # -0 is 0


@click.command("ramp")
@click.argument("flag")
@click.argument("percent", type=percentage)
@click.option("--rule", metavar="NAME", help="The rule, when several have a rollout.")
@click.option("--replace-steps", is_flag=True, help="The rollout rises by steps; end them.")
@change_options
def command(
    flag: str, percent: Decimal, rule: str | None, replace_steps: bool, file: str, by: str | None, reason: str | None
) -> None:
    """Change the percentage of FLAG's rollout to PERCENT, up or down. Nobody who is in moves out on the way up."""
    make(
        file,
        author("ramp", by, reason),
        lambda book: edits.ramp(book.text, flag, percent, rule=rule, replace_steps=replace_steps),
    )
