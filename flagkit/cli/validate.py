"""``flagkit validate FILE...``: every mistake in definitions files, one line each: where, what, what would be right."""

from __future__ import annotations

import json
from typing import NamedTuple

import click

from flagkit.cli import documents
from flagkit.cli.places import lines_of
from flagkit.cli.shape import shape_problems
from flagkit.cli.text import counted, plain
from flagkit.core.model import Definitions
from flagkit.dialects import native
from flagkit.errors import DefinitionsError, Problem


class Verdict(NamedTuple):
    """One file. ``definitions`` is None when none can be used; ``data`` when the file could not be read."""

    file: str
    data: bytes | None
    definitions: Definitions | None
    problems: tuple[Problem, ...]


@click.command("validate")
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option("--json", "as_json", is_flag=True, help="Print the verdicts as JSON.")
def command(files: tuple[str, ...], as_json: bool) -> None:
    """Check definitions files as a client would read them at its start, and against the JSON Schema.

    Prints one line a mistake: the file, the JSON path, what was found and what would be right.
    Exit status: 1 when any file has a problem.
    """
    verdicts = [judge(file) for file in files]
    if as_json:
        click.echo(json.dumps([_record(verdict) for verdict in verdicts], indent=2))
    else:
        for verdict in verdicts:
            _print(verdict)
    if any(verdict.problems for verdict in verdicts):
        raise SystemExit(1)


def judge(file: str) -> Verdict:
    """The verdict on one file. Raises: nothing for any file."""
    try:
        data = documents.read(file)
    except click.ClickException as error:
        return Verdict(file, None, None, (Problem("$", error.message.removeprefix(f"{file}: ")),))
    try:
        definitions, problems = native.parse(data)
    except DefinitionsError as error:
        return Verdict(file, data, None, (*error.problems, *shape_problems(data, error.problems)))
    return Verdict(file, data, definitions, (*problems, *shape_problems(data, problems)))


def _print(verdict: Verdict) -> None:
    for problem in verdict.problems:
        click.echo(plain(f"{verdict.file}: {problem}"))
    if verdict.definitions is not None and not verdict.problems:
        flags = counted(len(verdict.definitions.flags), "flag")
        segments = counted(len(verdict.definitions.segments), "segment")
        click.echo(plain(f"{verdict.file}: valid, {flags}, {segments}"))


def _record(verdict: Verdict) -> dict[str, object]:
    lines = lines_of(verdict.data or b"", {problem.path for problem in verdict.problems})
    return {
        "file": verdict.file,
        "valid": not verdict.problems,
        "flags": len(verdict.definitions.flags) if verdict.definitions else 0,
        "problems": [{**problem._asdict(), "line": lines.get(problem.path)} for problem in verdict.problems],
    }
