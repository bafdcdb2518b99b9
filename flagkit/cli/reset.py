"""``flagkit reset FLAG``: a new try for what a guard has rolled back, in a file or by a service."""

from __future__ import annotations

import click

from flagkit.changes import Reset
from flagkit.cli.changes import Counter, change_options


@click.command("reset")
@click.argument("flag")
@change_options
def command(flag: str, counter: Counter) -> None:
    """Give FLAG's guard its next revision: what has tripped is served again, with evidence and alpha of its own.

    Find out first why it tripped; a trip says so in the collector's events and in client.status.
    """
    counter.take(Reset(flag))
