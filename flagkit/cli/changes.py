"""What every command that changes a flag has in common: its options, and the one line it prints.

An order goes to a file, under its lock, or to the service that serves the file; what it is, is the command's own.
Called by ``kill``, ``ramp``, ``set`` and ``revert``.
"""

from __future__ import annotations

import functools
import getpass
import shlex
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import click

from flagkit.changes import Author, Order, opened, order_document, undoing
from flagkit.cli.service import Service, key_for, service_options
from flagkit.cli.text import counted, plain


class Counter(NamedTuple):
    """Where an order is handed in, by whom and why."""

    file: str | None
    url: str | None
    key_file: str | None
    insecure: bool
    by: str | None
    reason: str | None

    def take(self, order: Order) -> None:
        """Have ``order`` done, and say what changed and how to undo it.

        Raises: UsageError when place, person or reason are missing; EditError, LogbookError, ClickException.
        """
        one_place(self.file, self.url)
        by, reason = self._named()
        if self.file is not None:
            _on_file(self.file, order, Author(by, reason, order.kind))
        elif self.url is not None:
            service = Service(self.url, key_for("admin", self.key_file), insecure=self.insecure)
            _at_service(service, order, by, reason, ("--allow-insecure-http",) if self.insecure else ())

    def _named(self) -> tuple[str, str]:
        """Who and why; the reason is asked for if need be."""
        reason = self.reason
        if reason is None and sys.stdin.isatty():
            reason = click.prompt("Reason", err=True)
        if not self.by or not self.by.strip():
            raise click.UsageError("--by: say who makes the change")
        if not reason or not reason.strip():
            raise click.UsageError("--reason: say why")
        return self.by.strip(), reason.strip()


def change_options(command: Callable[..., None]) -> Callable[..., None]:
    """``--file`` or ``--url``, ``--by`` and ``--reason``, as the one parameter ``counter``."""

    @functools.wraps(command)
    def at_counter(**given: Any) -> None:
        counter = Counter(**{field: given.pop(field) for field in Counter._fields})
        command(counter=counter, **given)

    for option in (
        click.option("--reason", metavar="WHY", help="Why; asked for when it is left out at a terminal."),
        click.option("--by", default=_user, metavar="WHO", help="Who; default: the name you are logged in with."),
        service_options,
        click.option("--file", metavar="FILE", help="The definitions file."),
    ):
        at_counter = option(at_counter)
    return at_counter


def one_place(file: str | None, url: str | None) -> None:
    """Raises: UsageError unless one of a file and a service is given."""
    if (file is None) == (url is None):
        raise click.UsageError("give either --file FILE or --url URL")


def _on_file(file: str, order: Order, author: Author) -> None:
    with opened(file) as book:
        edit = order.edit(book.text, book.history)
        if not edit.is_change:
            click.echo(plain(f"{edit.flag}: it is so already, nothing is changed"))
            return
        change = book.enter(edit, author)
    note = f"; {edit.note}" if edit.note else ""
    words = ["flagkit", *undoing(change, book.history), "--file", file]
    click.echo(plain(f"{change.number}. {edit.flag}: {edit.summary}{note}; undo: {shlex.join(words)}"))
    bad = sum(problem.refused for problem in edit.problems)
    if bad:
        found = f"{counted(bad, 'problem')} left from before; a service takes from it only that a flag is off"
        click.echo(plain(f"{file}: {found}; see flagkit validate {file}"), err=True)


def _at_service(service: Service, order: Order, by: str, reason: str, options: tuple[str, ...]) -> None:
    answer = service.post("/v1/changes", {**order_document(order), "by": by, "reason": reason})
    try:
        flag, number, note = answer["flag"], answer["number"], f"; {answer['note']}" if answer["note"] else ""
        said = f"{flag}: it is so already, nothing is changed"
        if answer["changed"]:
            said = f"{flag}: {answer['summary']}{note}; served as number {number}"
        if answer["change"] is not None:
            words = ["flagkit", *answer["undo"], "--url", service.url, *options]
            said = f"{answer['change']}. {said}; undo: {shlex.join(words)}"
        warnings = [f"{service.url}: {warning}" for warning in answer["warnings"]]
    except (KeyError, TypeError):
        raise click.ClickException(plain(f"{service.url}: the answer is not that of a flagkit service")) from None
    click.echo(plain(said))
    for warning in warnings:
        click.echo(plain(warning), err=True)


def _user() -> str | None:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # no such variable, and no entry for the user: as in some containers
        return None
