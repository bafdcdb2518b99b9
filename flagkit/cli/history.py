"""``flagkit history [FLAG]``: the changes made to a definitions file with this command, oldest first."""

from __future__ import annotations

import json

import click

from flagkit.cli.logbook import read_history
from flagkit.cli.text import columns, counted, plain


@click.command("history")
@click.argument("flag", required=False)
@click.option("--file", required=True, metavar="FILE", help="The definitions file.")
@click.option("--json", "as_json", is_flag=True, help="Print the changes as JSON, with the flag before and after.")
def command(flag: str | None, file: str, as_json: bool) -> None:
    """Show who changed what in a definitions file, when and why; of FLAG only, if it is given.

    Edits by hand are not in it.
    """
    history = read_history(file)
    changes = history.changes if flag is None else history.of(flag)
    if as_json:
        click.echo(json.dumps([change._asdict() for change in changes], indent=2))
    elif changes:
        rows = [(str(each.number), each.time, each.by, each.flag, each.summary, each.reason) for each in changes]
        shown = [tuple(plain(cell) for cell in row) for row in rows]
        for line in columns([("", "when", "who", "flag", "what", "why"), *shown], frozenset({0})):
            click.echo(line)
    else:
        click.echo("no changes")
    if history.unread:
        click.echo(plain(f"{file}: {counted(history.unread, 'line')} of its history cannot be read"), err=True)
