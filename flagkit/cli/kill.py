"""``flagkit kill FLAG``: a flag switched off for everyone, in a file."""

from __future__ import annotations

import click

from flagkit.cli.changes import author, change_options, make
from flagkit.dialects import edits


@click.command("kill")
@click.argument("flag")
@change_options
def command(flag: str, file: str, by: str | None, reason: str | None) -> None:
    """Disable FLAG in a definitions file: everyone gets its off variant.

    Works whatever else is wrong with the file, as long as it is JSON.
    """
    make(file, author("kill", by, reason), lambda book: edits.kill(book.text, flag))
