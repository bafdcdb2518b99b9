"""``flagkit kill FLAG``: a flag switched off for everyone, in a file or by a service."""

from __future__ import annotations

import click

from flagkit.changes import Kill
from flagkit.cli.changes import Counter, change_options


@click.command("kill")
@click.argument("flag")
@change_options
def command(flag: str, counter: Counter) -> None:
    """Disable FLAG: everyone gets its off variant.

    Works whatever else is wrong with the definitions: in a file, as long as it is JSON; by a service, always.
    """
    counter.take(Kill(flag))
