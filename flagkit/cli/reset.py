"""``flagkit reset FLAG``: a new try for what a guard has rolled back, in a file or by a service."""

from __future__ import annotations

import click

from flagkit.changes import Reset
from flagkit.cli.changes import Counter, change_options


@click.command("reset")
@click.argument("flag")
@click.option("--in-code", is_flag=True, help="The guard's policy is given in code; the definitions have none.")
@change_options
def command(flag: str, in_code: bool, counter: Counter) -> None:
    """Give FLAG's guard its next revision: what has tripped is served again, with evidence and alpha of its own.

    Find out first why it tripped; a trip says so in the collector's events and in client.status.
    """
    counter.take(Reset(flag, in_code))
