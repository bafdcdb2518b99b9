"""``flagkit doctor [URL]``: looks at everything a client depends on, and says what to fix.

The command only: it lets the examinations run, prints what they found, and exits with 1 if there is a problem. Each
looks at one thing: ``reach`` and ``service`` at a URL, ``redis`` at that of a Redis, ``document`` at definitions,
``state`` at a directory, ``machine`` at this installation. What there was nothing to look at for is said as well.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from itertools import chain
from typing import Final

import click

from flagkit.cli import documents
from flagkit.cli.doctor.finding import Finding, Verdict, skipped
from flagkit.cli.service import key_in
from flagkit.cli.text import columns, counted, plain

#: The environment variables that may hold a client's key, the first one that is set counts.
_VARIABLES: Final = ("FLAGKIT_KEY", "FLAGKIT_READ_KEY")


@click.command("doctor")
@click.argument("url", required=False, envvar="FLAGKIT_REDIS_URL")
@click.option("--file", metavar="FILE", help="A definitions file to look at.")
@click.option("--state-dir", metavar="DIR", help="The state_dir of your clients.")
@click.option("--key-file", metavar="PATH", help="A file with the client's key, or the keys a service generated.")
@click.option("--ca-file", metavar="PEM", help="Certificates trusted in addition to the public ones.")
@click.option("--redis-key", default="flagkit:definitions", show_default=True, help="What they are under, in a Redis.")
@click.option("--redis-channel", default=None, help="Where changes are told, in a Redis.  [default: like the key]")
@click.option(
    "--allow-insecure-http",
    "--allow-insecure-redis",
    "insecure",
    is_flag=True,
    help="As your clients, if they speak in the clear beyond this machine.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON.")
def command(
    url: str | None,
    file: str | None,
    state_dir: str | None,
    key_file: str | None,
    ca_file: str | None,
    redis_key: str,
    redis_channel: str | None,
    insecure: bool,
    as_json: bool,
) -> None:
    """Check what a client of the service or the Redis at URL depends on, and say what to fix.

    The address, the key, the clocks, the definitions, the way back for events, the disk, this installation. It asks
    what a client asks and stores nothing. The key is taken from FLAGKIT_KEY or FLAGKIT_READ_KEY, or a file; the URL of
    a Redis with a password is better in FLAGKIT_REDIS_URL, which is looked at when URL is left out.
    Exit status: 1 when there is a problem; warnings alone leave it 0.
    """
    findings = []
    how = (key_file, ca_file, insecure)
    examined = _examined(url, file, state_dir, how, (redis_key, redis_channel))
    for finding in chain(examined, _left_out(url, file, state_dir)):
        findings.append(finding)
        if not as_json:
            _print(finding)
    if as_json:
        click.echo(json.dumps([finding._asdict() for finding in findings], indent=2))
    problems = sum(finding.verdict is Verdict.PROBLEM for finding in findings)
    warnings = sum(finding.verdict is Verdict.WARNING for finding in findings)
    if not as_json:
        left = sum(finding.verdict is Verdict.SKIPPED for finding in findings)
        more = f", {left} skipped" if left else ""
        click.echo(f"\n{counted(problems, 'problem')}, {counted(warnings, 'warning')}{more}")
    if problems:
        raise SystemExit(1)


def _examined(
    url: str | None,
    file: str | None,
    state_dir: str | None,
    how: tuple[str | None, str | None, bool],
    names: tuple[str, str | None],
) -> Iterator[Finding]:
    from flagkit.cli.doctor import document, machine, reach, redis, service, state  # the HTTP library is slow to load

    key_file, ca_file, insecure = how
    now_ms = time.time_ns() // 1_000_000
    if url is not None and redis.is_redis(url):
        yield from redis.examine(url, now_ms, names, ca_file=ca_file, insecure=insecure)
    elif url is not None:
        reached = list(reach.examine(url, insecure=insecure))
        yield from reached
        if all(finding.is_ok for finding in reached):
            yield from service.examine(url, _key(key_file), ca_file, insecure=insecure)
    if file is not None:
        yield from document.examine(documents.read(file), now_ms, f"flagkit validate {file}")
    if state_dir is not None:
        yield from state.examine(state_dir, now_ms)
    yield from machine.examine()


def _left_out(url: str | None, file: str | None, state_dir: str | None) -> Iterator[Finding]:
    """What was not looked at, because nobody said where it is."""
    if url is None:
        found = "address, key, clock, polling, stream and events were not looked at"
        yield skipped("service", found, "give the URL that your clients are given: flagkit doctor URL")
    if url is None and file is None:
        yield skipped("definitions", "not looked at", "give that URL, or a file: flagkit doctor --file FILE")
    if state_dir is None:
        fix = "give the state_dir of your clients, if they have one: flagkit doctor --state-dir DIR"
        yield skipped("disk", "not looked at", fix)


def _key(key_file: str | None) -> str | None:
    if key_file is not None:
        return key_in(key_file, "client")
    return next((key for variable in _VARIABLES if (key := os.environ.get(variable))), None)


def _print(finding: Finding) -> None:
    told = f"{finding.found}; {finding.fix}" if finding.fix else finding.found
    (line,) = columns([(finding.verdict.value.ljust(7), finding.check.ljust(11), plain(told))])
    click.echo(line)
