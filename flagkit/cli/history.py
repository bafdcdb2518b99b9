"""``flagkit history [FLAG]``: the changes made to a definitions file, oldest first, from the file or the service."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import click

from flagkit.changes import read_history
from flagkit.cli import documents
from flagkit.cli.changes import one_place
from flagkit.cli.options import strict_json
from flagkit.cli.service import Service, key_for, service_options
from flagkit.cli.text import columns, counted, plain


@click.command("history")
@click.argument("flag", required=False)
@click.option("--file", metavar="FILE", help="The definitions file.")
@service_options
@click.option("--json", "as_json", is_flag=True, help="Print the changes as JSON, with the flag before and after.")
def command(
    flag: str | None, file: str | None, url: str | None, key_file: str | None, insecure: bool, as_json: bool
) -> None:
    """Show who changed what in definitions, when and why; of FLAG only, if it is given.

    A FLAG that is not defined, and of which there is no change, is an error.
    A file knows the changes made with this command; a service also the edits by hand that it has seen.
    """
    one_place(file, url)
    if file is not None:
        changes, remark = _of_file(file, flag)
        count = "number"
    else:
        service = Service(url or "", key_for("read", key_file), insecure=insecure)
        changes, remark = _of_service(service, flag)
        count = "change"
    if as_json:
        click.echo(json.dumps(changes, indent=2))
    elif changes:
        try:
            lines = table(changes, count)
        except (KeyError, TypeError):
            raise click.ClickException(plain(f"{url}: the answer is not a history")) from None
        for line in lines:
            click.echo(line)
    else:
        click.echo("no changes")
    if remark:
        click.echo(plain(remark), err=True)


def table(changes: Sequence[Mapping[str, Any]], count: str = "change") -> list[str]:
    """The changes as lines whose cells line up; ``count`` is the field with their number.

    Raises: KeyError, TypeError: they are none.
    """
    fields = (count, "time", "by", "flag", "summary", "reason")
    rows = [[plain("" if (cell := each[field]) is None else str(cell)) for field in fields] for each in changes]
    return columns([("", "when", "who", "flag", "what", "why"), *rows], frozenset({0}))


def _of_file(file: str, flag: str | None) -> tuple[list[Any], str]:
    history = read_history(file)
    changes = history.changes if flag is None else history.of(flag)
    if flag is not None and not changes and not history.unread:
        try:
            document = strict_json(documents.read(file))
        except ValueError:  # nobody can say what is defined there
            document = None
        _demand(flag, document, {change.flag for change in history.changes})
    unread = f"{file}: {counted(history.unread, 'line')} of its history cannot be read" if history.unread else ""
    return [change.record() for change in changes], unread


def _of_service(service: Service, flag: str | None) -> tuple[list[Any], str]:
    answer = service.get("/v1/changes", {} if flag is None else {"flag": flag})
    if not isinstance(answer, dict) or not isinstance(answer.get("changes"), list):
        raise click.ClickException(plain(f"{service.url}: the answer is not a history"))
    if flag is not None and not answer["changes"]:
        _demand(flag, service.get("/v1/definitions", {}))
    older = answer.get("older")
    return answer["changes"], f"{service.url}: {counted(older, 'older change')} not shown" if older else ""


def _demand(flag: str, document: object, past: Collection[str] = ()) -> None:
    """Raises: ClickException when the definitions have no such flag; ``past``: flags that have changes."""
    flags = document.get("flags") if isinstance(document, dict) else None
    if isinstance(flags, dict) and flag not in flags:
        raise documents.unknown("flag", flag, {**flags, **dict.fromkeys(sorted(past))})
