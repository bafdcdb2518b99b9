"""``flagkit revert [FLAG]``: a flag as it was before, from the history of its file; itself a change."""

from __future__ import annotations

import click

from flagkit.cli.changes import author, change_options, make
from flagkit.cli.logbook import Change, Logbook
from flagkit.dialects import edits
from flagkit.dialects.edits import Edit, EditError


@click.command("revert")
@click.argument("flag", required=False)
@click.option("--to", type=click.IntRange(min=0), metavar="N", help="As the flag was after change N; 0: before all.")
@click.option("--force", is_flag=True, help="Although it was edited by hand since, or reverted already.")
@change_options
def command(flag: str | None, to: int | None, force: bool, file: str, by: str | None, reason: str | None) -> None:
    """Undo the last change of FLAG, or the last change of the file. Other flags stay as they are.

    An edit by hand in between is not lost unasked, and a revert is not undone by a second one: two people may pull
    the same cord.
    """
    make(file, author("revert", by, reason), lambda book: _undo(book, flag, to, force=force))


def _undo(book: Logbook, flag: str | None, to: int | None, *, force: bool) -> Edit:
    """Raises: EditError saying why it is not to be undone just so."""
    own = _changes_of(book, flag, to)
    last = own[-1]
    flag = last.flag
    if not force:
        if not edits.same(edits.written(book.text, flag), last.after):
            raise EditError(f"{flag} was edited by hand after number {last.number}; to lose that edit, say --force")
        if to is None and last.command == "revert":
            raise EditError(
                f"{flag} was reverted already, by {last.by} at {last.time} (number {last.number}); "
                "to go further back say --to N, to undo the revert --force"
            )
    if to is None:
        return edits.put_back(book.text, flag, last.before, f"undoes number {last.number} ({last.summary})")
    earlier = [change for change in own if change.number <= to]
    if earlier:
        return edits.put_back(book.text, flag, earlier[-1].after, f"as it was after number {earlier[-1].number}")
    return edits.put_back(book.text, flag, own[0].before, f"as it was before number {own[0].number}")


def _changes_of(book: Logbook, flag: str | None, to: int | None) -> tuple[Change, ...]:
    """All changes of the flag that is meant, at least one. Raises: EditError."""
    changes = book.history.changes
    if not changes:
        raise EditError("there is no history, so there is nothing to revert")
    if to is not None and to > changes[-1].number:
        raise EditError(f"there is no number {to}; the last one is {changes[-1].number}")
    if flag is None:
        meant = changes[-1] if to is None else next((change for change in changes if change.number == to), None)
        if meant is None:
            raise EditError(f"number {to} is no change of one flag; name the flag")
        flag = meant.flag
    own = book.history.of(flag)
    if not own:
        raise EditError(f"{flag}: no change in the history")
    return own
