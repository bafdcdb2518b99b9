"""What every command that changes a file has in common: its options, and the one line it prints.

A change is an edit made under the file's lock; what it does is the command's own. Called by ``kill``, ``ramp``,
``set`` and ``revert``.
"""

from __future__ import annotations

import getpass
import shlex
import sys
from collections.abc import Callable
from typing import Any, TypeVar

import click

from flagkit.cli.logbook import Author, Logbook, opened
from flagkit.cli.text import counted, plain
from flagkit.dialects import edits
from flagkit.dialects.edits import Edit

_Command = TypeVar("_Command", bound=Callable[..., Any])


def change_options(command: _Command) -> _Command:
    """``--file``, ``--by`` and ``--reason``, as the parameters ``file``, ``by`` and ``reason``."""
    for option in (
        click.option("--reason", metavar="WHY", help="Why; asked for when it is left out at a terminal."),
        click.option("--by", default=_user, metavar="WHO", help="Who; default: the name you are logged in with."),
        click.option("--file", required=True, metavar="FILE", help="The definitions file."),
    ):
        command = option(command)
    return command


def author(command: str, by: str | None, reason: str | None) -> Author:
    """Who makes a change, asked for the reason if need be. Raises: UsageError when either is not known."""
    if reason is None and sys.stdin.isatty():
        reason = click.prompt("Reason", err=True)
    if not by or not by.strip():
        raise click.UsageError("--by: say who makes the change")
    if not reason or not reason.strip():
        raise click.UsageError("--reason: say why")
    return Author(by.strip(), reason.strip(), command)


def make(file: str, who: Author, edit: Callable[[Logbook], Edit]) -> None:
    """Edit ``file``, enter it in the history, and say what changed and how to undo it.

    Raises: EditError; ClickException when the file cannot be read or written.
    """
    with opened(file) as book:
        made = edit(book)
        if not made.is_change:
            click.echo(plain(f"{made.flag}: it is so already, nothing is changed"))
            return
        change = book.enter(made, who)
    note = f"; {made.note}" if made.note else ""
    words = ["flagkit", "revert", made.flag, *_undoing(book, made, who), "--file", file]
    click.echo(plain(f"{change.number}. {made.flag}: {made.summary}{note}; undo: {shlex.join(words)}"))
    bad = sum(problem.refused for problem in made.problems)
    if bad:
        found = f"{counted(bad, 'problem')} left from before; a service takes from it only that a flag is off"
        click.echo(plain(f"{file}: {found}; see flagkit validate {file}"), err=True)


def _undoing(book: Logbook, made: Edit, who: Author) -> tuple[str, ...]:
    """The options with which ``revert`` undoes the change just made: a revert is not undone by a second one."""
    if who.command != "revert":
        return ()
    last = book.history.of(made.flag)[-1]
    return ("--to", str(last.number)) if edits.same(last.after, made.before) else ("--force",)


def _user() -> str | None:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # no such variable, and no entry for the user: as in some containers
        return None
