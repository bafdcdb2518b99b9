"""``flagkit power FLAG``: how soon its guard would find a regression, before anything is rolled out."""

from __future__ import annotations

import math
from typing import Any

import click

from flagkit.cli import documents
from flagkit.cli.documents import unknown
from flagkit.cli.text import columns
from flagkit.core.policy import GuardPolicy
from flagkit.dialects import native
from flagkit.production.power import expected_calls

_RATIOS = (2, 5, 10, 50)


class _Number(click.FloatRange):
    """One that is a number, too: every comparison with NaN is false, so that a range lets it pass."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        number = super().convert(value, param, ctx)
        if math.isnan(number):
            self.fail(f"{value} is no number", param, ctx)
        return number


@click.command("power")
@click.argument("flag")
@click.option(
    "--file", "file", metavar="FILE", help="Definitions, for the guard's alpha and tolerance, and the rollout."
)
@click.option("--rate", type=_Number(0, 1, min_open=True, max_open=True), required=True, metavar="RATE",
              help="The control's error rate, over 0 and under 1.")  # fmt: skip
@click.option("--share", type=_Number(0, 100, min_open=True, max_open=True), metavar="PERCENT",
              help="Calls that are the candidate's; without it, the flag's last rollout.")  # fmt: skip
@click.option("--units", type=click.IntRange(1), metavar="N", help="How many units there are, if they are few.")
@click.option("--a-second", "a_second", type=_Number(0, min_open=True), metavar="CALLS",
              help="Calls of both arms a second, to say how long it takes.")  # fmt: skip
def command(
    flag: str, file: str | None, rate: float, share: float | None, units: int | None, a_second: float | None
) -> None:
    """Print about how many calls of the candidate it takes until errors at x2, x5, x10 and x50 are rolled back.

    The median of many, by the information in a call and the guard's own costs: docs/guards.md.
    """
    policy = GuardPolicy()
    if file is not None:
        definitions, problems = native.parse(documents.read(file))
        definition = definitions.flags.get(flag)
        if definition is None:
            raise unknown("flag", flag, definitions.flags)
        if definition.guard is None:
            wrong = [problem for problem in problems if problem.flag == flag and ".guard" in problem.path]
            click.echo(f"{flag} is served without a guard; with one and its defaults:", err=True)
            for problem in wrong:
                click.echo(f"  {problem}", err=True)
        policy = definition.guard or policy
        rollouts = [rule.rollout for rule in definition.rules if rule.rollout is not None]
        if share is None and rollouts and 0 < rollouts[-1].threshold < 100_000:
            share = rollouts[-1].threshold / 1000
    if share is None:
        raise click.UsageError("--share: expected the percentage of calls that are the candidate's")
    rows = [("errors", "candidate calls", *(("about",) if a_second else ()))]
    for ratio in _RATIOS:
        calls = expected_calls(
            rate, share / 100, ratio, alpha=policy.alpha, tolerance=policy.error_tolerance, units=units
        )
        takes = (_duration(calls / (a_second * share / 100)) if calls else "-",) if a_second else ()
        rows.append((f"x{ratio}", f"{calls:,.0f}" if calls is not None else "not found", *takes))
    click.echo("\n".join(columns(rows, right=frozenset({1, 2}))))
    click.echo(
        f"alpha {policy.alpha:g}, error tolerance {policy.error_tolerance:g}; "
        f"gross failure opens the breaker earlier: 5 calls if all fail, 13 if half do"
    )


def _duration(seconds: float) -> str:
    for unit, size in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:,.0f} {unit}"
    return f"{seconds:,.0f} s"
