"""``flagkit ramp FLAG PERCENT``: another percentage for a rollout, in a file or by a service."""

from __future__ import annotations

import re
from decimal import Decimal, InvalidOperation
from typing import Final

import click
from click.exceptions import NoSuchOption

from flagkit.changes import OrderError, Ramp
from flagkit.changes.orders import percentage
from flagkit.cli.changes import Counter, change_options

_negative: Final = re.compile(r"-\.?[0-9]").match


class _Ramp(click.Command):
    """A percentage below 0 is a wrong percentage, and not an option that does not exist."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        typed = tuple(args)  # click takes them out of the list
        try:
            return super().parse_args(ctx, args)
        except NoSuchOption as error:
            for text in typed:
                if _negative(text) and text.startswith(error.option_name):
                    raise _wrong(text, next(each for each in self.params if each.name == "percent")) from None
            raise


def _wrong(text: str, parameter: click.Parameter | None = None) -> click.BadParameter:
    expected = "a number from 0 to 100, three decimals at most"
    return click.BadParameter(f"got {text!r}; expected {expected}", param=parameter)


def _percent(text: str) -> Decimal:
    """A number from 0 to 100. Raises: BadParameter."""
    try:
        return percentage(Decimal(text))
    except (InvalidOperation, OrderError):
        raise _wrong(text) from None


@click.command("ramp", cls=_Ramp)
@click.argument("flag")
@click.argument("percent", type=_percent)
@click.option("--rule", metavar="NAME", help="The rule, when several have a rollout.")
@click.option("--replace-steps", is_flag=True, help="The rollout rises by steps; end them.")
@change_options
def command(flag: str, percent: Decimal, rule: str | None, replace_steps: bool, counter: Counter) -> None:
    """Change the percentage of FLAG's rollout to PERCENT, up or down. Nobody who is in moves out on the way up."""
    counter.take(Ramp(flag, percent, rule, replace_steps))
