"""``flagkit ramp FLAG PERCENT``: another percentage for a rollout, in a file or by a service."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation

import click

from flagkit.changes import OrderError, Ramp
from flagkit.changes.orders import percentage
from flagkit.cli.changes import Counter, change_options


def _percent(text: str) -> Decimal:
    """A number from 0 to 100. Raises: BadParameter."""
    try:
        return percentage(Decimal(text))
    except (InvalidOperation, OrderError):
        raise click.BadParameter(f"got {text!r}; expected a number from 0 to 100, three decimals at most") from None


@click.command("ramp")
@click.argument("flag")
@click.argument("percent", type=_percent)
@click.option("--rule", metavar="NAME", help="The rule, when several have a rollout.")
@click.option("--replace-steps", is_flag=True, help="The rollout rises by steps; end them.")
@change_options
def command(flag: str, percent: Decimal, rule: str | None, replace_steps: bool, counter: Counter) -> None:
    """Change the percentage of FLAG's rollout to PERCENT, up or down. Nobody who is in moves out on the way up."""
    counter.take(Ramp(flag, percent, rule, replace_steps))
