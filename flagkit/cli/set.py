"""``flagkit set FLAG VARIANT``: one variant for everyone, in a file."""

from __future__ import annotations

import click

from flagkit.cli.changes import author, change_options, make
from flagkit.dialects import edits


@click.command("set")
@click.argument("flag")
@click.argument("variant")
@change_options
def command(flag: str, variant: str, file: str, by: str | None, reason: str | None) -> None:
    """Serve VARIANT of FLAG to everyone: the flag is enabled, with one rule and nothing beside it.

    Its rules, targets, exclusions and prerequisites come back with `flagkit revert`. Holdouts keep their units out.
    """
    make(file, author("set", by, reason), lambda book: edits.serve_all(book.text, flag, variant))
