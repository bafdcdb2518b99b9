"""``flagkit demo``: the whole loop on this machine, in real processes, with a report that can fail.

The command only: it makes the directory, lets the story run, prints, and sees to it that nothing is left behind.
``story`` tells the acts, ``checks`` judges, ``report`` shows.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click


@click.command("demo")
@click.option(
    "--users", default=10_000, show_default=True, type=click.IntRange(100, 100_000), metavar="N", help="100 and up."
)
@click.option(
    "--workers", default=2, show_default=True, type=click.IntRange(2, 16), metavar="N", help="Processes, 2 and up."
)
@click.option(
    "--outage",
    "outage_s",
    default=5.0,
    show_default=True,
    type=click.FloatRange(1, 120),
    metavar="SECONDS",
    help="How long the service stays killed.",
)
@click.option(
    "--keep", type=click.Path(file_okay=False, path_type=Path), metavar="DIR", help="Keep the files in DIR, a new one."
)
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON; progress goes to stderr.")
def command(users: int, workers: int, outage_s: float, keep: Path | None, as_json: bool) -> None:
    """Run the whole loop on this machine and report what happened.

    A service, several worker processes of a small web application, and thousands of users over HTTP: a rollout rises
    from 5 % to 25 %, the service is killed and returns, the kill switch is pulled. Everything is on 127.0.0.1 and in a
    temporary directory. Exit status 0: every check holds.
    """
    # Here, so that --help needs no more than `cli`; the story brings in what the workers need, the extra `server`.
    from flagkit.cli.demo.checks import judge
    from flagkit.cli.demo.fleet import Fleet
    from flagkit.cli.demo.interrupts import ending_is_an_exception, held_off
    from flagkit.cli.demo.progress import Progress
    from flagkit.cli.demo.report import lines, to_json
    from flagkit.cli.demo.story import Plan, tell

    out = sys.stderr if as_json else sys.stdout
    with ending_is_an_exception(), _directory(keep) as directory:
        click.echo(f"flagkit demo: {users:,} users, {workers} workers, one service, all on 127.0.0.1\n", file=out)
        fleet = Fleet(directory)
        try:
            found = tell(Plan(users, workers, outage_s), fleet, Progress(out))
        finally:
            with held_off():
                fleet.stop()
    checks = judge(found)
    click.echo(json.dumps(to_json(found, checks), indent=2) if as_json else "\n".join(lines(found, checks)))
    if not all(check.holds for check in checks):
        sys.exit(1)


@contextmanager
def _directory(keep: Path | None) -> Iterator[Path]:
    """Where the files go: ``keep``, or a directory that is gone afterwards. Raises: ClickException."""
    if keep is None:
        with tempfile.TemporaryDirectory(prefix="flagkit-demo-") as made:
            yield Path(made)
        return
    try:
        keep.mkdir(parents=True, exist_ok=True)
        used = any(keep.iterdir())
    except OSError as error:
        raise click.ClickException(f"--keep {keep}: {error.strerror}") from None
    if used:
        raise click.ClickException(f"--keep {keep}: is not empty")
    yield keep
