"""``flagkit set FLAG VARIANT``: one variant for everyone, in a file or by a service."""

from __future__ import annotations

import click

from flagkit.changes import Serve
from flagkit.cli.changes import Counter, change_options


@click.command("set")
@click.argument("flag")
@click.argument("variant")
@change_options
def command(flag: str, variant: str, counter: Counter) -> None:
    """Serve VARIANT of FLAG to everyone: the flag is enabled, with one rule and nothing beside it.

    Its rules, targets, exclusions and prerequisites come back with `flagkit revert`. Holdouts keep their units out.
    """
    counter.take(Serve(flag, variant))
