"""``flagkit lint FILE SRC...``: what has gone stale between definitions and code. Findings are ``review``'s."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import click

from flagkit.cli import documents
from flagkit.cli.code_flags import CodeFlags, read_code
from flagkit.cli.places import lines_of
from flagkit.cli.review import Finding, compare, review
from flagkit.cli.text import counted, plain

_NAMED = 5


@click.command("lint")
@click.argument("file")
@click.argument("sources", nargs=-1, metavar="SRC...", type=click.Path(exists=True))
@click.option("--today", type=click.DateTime(["%Y-%m-%d"]), help="The day to count expiry from; default: today, UTC.")
@click.option("--strict", is_flag=True, help="Also report release flags without an owner or a date of expiry.")
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON.")
def command(file: str, sources: tuple[str, ...], today: datetime | None, strict: bool, as_json: bool) -> None:
    """Compare the definitions in FILE with the Python code in SRC (files or directories).

    \b
    expired          past its `expires`, in the definitions or in a declared flagkit.Flag
    undefined        asked for in the code, not in the definitions
    unused           in the definitions, nowhere in the code, no prerequisite of another flag
    one-way          serves one variant to everyone, now and in all steps to come (not for kind ops)
    off-above-wider  a rule that serves off above one that takes more: use `exclude`
    no-owner, no-expiry    with --strict, for kind release
    refused          a flag that cannot be used
    unreadable       a source file that is not Python

    A line with the comment `# flagkit: ignore` is left alone. Without SRC only the definitions are looked at.
    Exit status: 1 when anything was found.
    """
    data = documents.read(file)
    definitions, problems = documents.parse(file, data)
    documents.warn(file, problems)
    day = today.date() if today else datetime.now(UTC).date()
    found = list(review(definitions, day, strict=strict))
    if sources:
        try:
            code = read_code(sources)
        except OSError as error:
            raise click.ClickException(plain(f"{error.filename}: cannot be read: {error.strerror}")) from None
        found += compare(definitions, code, day)
        _say_unread(code)
    findings = _located(found, file, data)
    if as_json:
        click.echo(json.dumps([finding._asdict() for finding in findings], indent=2))
    elif findings:
        for finding in findings:
            click.echo(plain(f"{finding.place}:{finding.line}: {finding.message} [{finding.code}]"))
    else:
        click.echo(plain(f"{file}: {counted(len(definitions.flags), 'flag')}, nothing found"))
    if findings:
        raise SystemExit(1)


def _located(findings: list[Finding], file: str, data: bytes) -> list[Finding]:
    """``findings`` in reading order, those of the definitions with the file and line their path is at."""
    lines = lines_of(data, {finding.place for finding in findings if finding.line is None})
    located = [
        finding if finding.line is not None else finding._replace(place=file, line=lines.get(finding.place, 1))
        for finding in findings
    ]
    return sorted(located, key=lambda finding: (finding.place != file, finding.place, finding.line or 1, finding.code))


def _say_unread(code: CodeFlags) -> None:
    """Say on stderr what could not be looked at: a flag named at run time is neither defined nor unused for sure."""
    if code.unread:
        places = ", ".join(f"{place.path}:{place.line}" for place in code.unread[:_NAMED])
        more = ", ..." if len(code.unread) > _NAMED else ""
        what = counted(len(code.unread), "call")
        click.echo(plain(f"not checked: {what} with a flag named at run time ({places}{more})"), err=True)
