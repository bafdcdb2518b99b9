"""``flagkit eval FILE FLAG``: the decision a client would make for one context, and how it comes about."""

from __future__ import annotations

import json
import time
from typing import Any

import click

from flagkit.cli import documents, options
from flagkit.cli.text import columns, plain
from flagkit.context import Context
from flagkit.core.explain import explain
from flagkit.core.snapshot import Snapshot
from flagkit.decision import Decision, Reason


@click.command("eval")
@click.argument("file")
@click.argument("flag")
@click.option("--unit", metavar="U", help="Who asks; left out: a context without a unit.")
@click.option("--attr", "pairs", multiple=True, metavar="NAME=VALUE", help="An attribute; VALUE is JSON, else text.")
@click.option("--attrs", metavar="JSON", help="Attributes as one JSON object.")
@click.option("--enrolled", is_flag=True, help="The unit has opted in to FLAG.")
@click.option("--now", type=options.instant, metavar="RFC3339", help="The time for steps and dates; default: now.")
@click.option("--override", "forced", multiple=True, metavar="FLAG=VARIANT", help="Force a flag, a parent for example.")
@click.option("--explain", "explained", is_flag=True, help="Show every rule tried, with conditions and buckets.")
@click.option("--json", "as_json", is_flag=True, help="Print the answer as JSON.")
def command(
    file: str,
    flag: str,
    unit: str | None,
    pairs: tuple[str, ...],
    attrs: str | None,
    enrolled: bool,
    now: int | None,
    forced: tuple[str, ...],
    explained: bool,
    as_json: bool,
) -> None:
    """Decide FLAG of the definitions in FILE for one context.

    Exit status: 1 when there is no answer (the flag is unknown or refused, the unit is not one).
    """
    definitions, problems = documents.load(file)
    if flag not in definitions.flags and flag not in definitions.refused:
        raise documents.unknown("flag", flag, definitions.flags)
    for problem in problems:
        if problem.flag == flag:
            click.echo(plain(f"{file}: {problem}"), err=True)
    enrolments = {flag: True} if enrolled else None
    facts = options.attributes(pairs, attrs)
    context = Context(attributes=facts, enrolments=enrolments)
    if unit is not None:
        context = Context(unit, facts, enrolments=enrolments)
    now_ms = time.time_ns() // 1_000_000 if now is None else now
    explanation = explain(
        Snapshot(definitions, now_ms=lambda: now_ms), flag, context, options.overrides(forced, definitions)
    )
    if as_json:
        click.echo(json.dumps(explanation.to_json() if explained else _record(explanation.decision), indent=2))
    elif explained:
        for line in explanation.text().splitlines():
            click.echo(plain(line))
    else:
        _print(explanation.decision)
    if explanation.decision.reason is Reason.ERROR:
        raise SystemExit(1)


def _print(decision: Decision) -> None:
    why = decision.reason.value
    if decision.rule is not None:
        why += f', rule "{decision.rule}"'
    if decision.error_code is not None:
        why += f", {decision.error_code.value}"
    answer = (
        ("variant", decision.variant or "none: the caller's default"),
        ("value", json.dumps(decision.value)),
        ("reason", why),
    )
    for line in columns(answer):
        click.echo(plain(line))


def _record(decision: Decision) -> dict[str, Any]:
    return {
        "flag": decision.flag,
        "variant": decision.variant,
        "enabled": decision.enabled,
        "value": decision.value,
        "reason": decision.reason.value,
        "error_code": decision.error_code.value if decision.error_code else None,
        "rule": decision.rule,
        "version": decision.version,
    }
