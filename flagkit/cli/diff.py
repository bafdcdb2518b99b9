"""``flagkit diff OLD NEW``: the blast radius of an edit, counted on a sample of contexts before it is published."""

from __future__ import annotations

import json
import time
from collections.abc import Collection
from typing import Any

import click

from flagkit.cli import contexts, documents, options
from flagkit.cli.blast import Blast, Change
from flagkit.cli.text import columns, counted, percent, plain
from flagkit.core.model import Definitions


@click.command("diff")
@click.argument("old")
@click.argument("new")
@click.option("--contexts", "file", metavar="FILE.jsonl", help="Contexts to try: one JSON object or unit a line.")
@click.option("--units", type=click.IntRange(1, 100_000_000), metavar="N", help="Try N made-up units, no attributes.")
@click.option("--flag", "flags", multiple=True, metavar="KEY", help="Only this flag; may be repeated.")
@click.option("--segment", "segments", multiple=True, metavar="NAME", help="Only this segment; may be repeated.")
@click.option(
    "--max-percent", type=click.FloatRange(0, 100), metavar="P", help="Exit 2 when any flag changes for more."
)
@click.option(
    "--now", type=options.instant, metavar="RFC3339", help="The time for steps and dates, on both sides; default: now."
)
@click.option("--json", "as_json", is_flag=True, help="Print the counts as JSON.")
def command(
    old: str,
    new: str,
    file: str | None,
    units: int | None,
    flags: tuple[str, ...],
    segments: tuple[str, ...],
    max_percent: float | None,
    now: int | None,
    as_json: bool,
) -> None:
    """Show who would get another variant from NEW than from OLD, by flag and segment.

    A flag that only one file defines counts as off where it is missing: callers get their default there. A unit is in
    a segment when either file says so.

    Exit status: 1 for input that cannot be used, 2 when a flag changes for more than --max-percent of the contexts.
    """
    if (file is None) == (units is None):
        raise click.UsageError("give either --contexts or --units")
    before, after = _old(old), _new(new)
    now_ms = time.time_ns() // 1_000_000 if now is None else now
    chosen = _chosen("flag", flags, before.flags.keys() | after.flags.keys())
    named = _chosen("segment", segments, before.segments.keys() | after.segments.keys())
    blast = Blast(before, after, lambda: now_ms, chosen, sorted(named))
    for context in contexts.made_up(units or 0) if file is None else contexts.from_lines(file):
        blast.add(context)
    if not blast.contexts:
        raise click.ClickException(plain(f"{file}: no contexts"))
    over = [change for change in blast.changes if _is_over(change, blast, max_percent)]
    if as_json:
        click.echo(json.dumps(_record(blast, over), indent=2))
    else:
        for line in _lines(blast, old, new, bool(segments)):
            click.echo(plain(line))
    for change in over:
        share = percent(change.changed, blast.contexts)
        click.echo(plain(f"{change.flag}: {share} would change, more than {max_percent:g} %"), err=True)
    if over:
        raise SystemExit(2)


def _old(path: str) -> Definitions:
    definitions, problems = documents.load(path)
    documents.warn(path, problems)
    return definitions


def _new(path: str) -> Definitions:
    """What would be published: a flag that would be refused is no basis for a count. Raises: ClickException."""
    definitions, problems = documents.load(path)
    refused = [problem for problem in problems if problem.refused]
    if refused:
        raise click.ClickException(plain(f"{path}: {refused[0]} ({counted(len(refused), 'problem')} in all)"))
    documents.warn(path, problems)
    return definitions


def _chosen(noun: str, names: tuple[str, ...], known: Collection[str]) -> Collection[str]:
    for name in names:
        if name not in known:
            raise documents.unknown(noun, name, known)
    return names or known


def _is_over(change: Change, blast: Blast, max_percent: float | None) -> bool:
    return max_percent is not None and change.changed * 100 > max_percent * blast.contexts


def _lines(blast: Blast, old: str, new: str, all_segments: bool) -> list[str]:
    """The report: a row for each flag that changes, and below it one for each segment whose members do."""
    rows = [("flag", "changed", "share", "")]
    for change in blast.changes:
        if change.changed:
            rows.append((change.flag, f"{change.changed:,}", percent(change.changed, blast.contexts), _moves(change)))
            for name, members in blast.segments.items():
                if change.members[name] or all_segments:
                    part = change.members[name]
                    rows.append((f"  in {name}", f"{part:,}", percent(part, members), f"of {members:,}"))
    report = [f"{counted(blast.contexts, 'context')}, {old} -> {new}"]
    if len(rows) > 1:
        report += ["", *columns(rows, right=frozenset({1, 2}))]
    report.append("")
    for status in ("added", "removed"):
        names = [change.flag for change in blast.changes if change.status == status]
        if names:
            report.append(f"{status}: {', '.join(names)}")
    same = sum(change.changed == 0 for change in blast.changes)
    report.append(f"no change for these contexts: {counted(same, 'flag')}")
    return report


def _moves(change: Change) -> str:
    return ", ".join(
        f"{_name(before)} -> {_after(before, after)} {count:,}" for (before, after), count in change.moves.most_common()
    )


def _name(variant: str | None) -> str:
    return "(not defined)" if variant is None else variant


def _after(before: str | None, after: str | None) -> str:
    return f"{after} (changed)" if before == after else _name(after)


def _record(blast: Blast, over: list[Change]) -> dict[str, Any]:
    def share(part: int, whole: int) -> float | None:
        return round(100 * part / whole, 4) if whole else None

    return {
        "contexts": blast.contexts,
        "flags": [
            {
                "flag": change.flag,
                "status": change.status,
                "changed": change.changed,
                "percent": share(change.changed, blast.contexts),
                "moves": [
                    {"from": before, "to": after, "contexts": count}
                    for (before, after), count in change.moves.most_common()
                ],
                "segments": [
                    {
                        "segment": name,
                        "members": members,
                        "changed": change.members[name],
                        "percent": share(change.members[name], members),
                    }
                    for name, members in blast.segments.items()
                ],
            }
            for change in blast.changes
        ],
        "over": [change.flag for change in over],
    }
