"""``flagkit revert [FLAG]``: a flag as it was before, from the history of its file; itself a change."""

from __future__ import annotations

import click

from flagkit.changes import Revert
from flagkit.cli.changes import Counter, change_options


@click.command("revert")
@click.argument("flag", required=False)
@click.option("--to", type=click.IntRange(min=0), metavar="N", help="As the flag was after change N; 0: before all.")
@click.option("--force", is_flag=True, help="Although it was edited by hand since, or reverted already.")
@change_options
def command(flag: str | None, to: int | None, force: bool, counter: Counter) -> None:
    """Undo the last change of FLAG, or the last change of the file. Other flags stay as they are.

    An edit by hand in between is not lost unasked, and a revert is not undone by a second one: two people may pull
    the same cord.
    """
    counter.take(Revert(flag, to, force))
