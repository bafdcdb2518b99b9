"""``flagkit summary URL``: what a service has stored, by flag and variant, as a table."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, Final

import click

from flagkit.cli import history, options
from flagkit.cli.service import Service
from flagkit.cli.text import columns, percent, plain

_FEEDBACK: Final = ("feedback", "variant", "units", "events", "with score", "mean", "with text")
_EARLY_ACCESS: Final = ("early access", "enrolled", "opted out", "no room")
_CALLS: Final = ("hour", "flag", "variant", "calls", "failed", "p50", "p90", "p99", "errors")
_MOST_ERRORS: Final = 3
_GUARD: Final = ("guard", "candidate", "revision", "state", "calls", "failed", "control", "failed", "evidence", "why")


@click.command("summary")
@click.argument("url")
@click.option("--key", envvar="FLAGKIT_READ_KEY", metavar="KEY", help="The read key. Better in FLAGKIT_READ_KEY.")
@click.option("--flag", metavar="KEY", help="Only this flag, and hour by hour.")
@click.option("--since", type=options.instant, metavar="RFC3339", help="Only what happened from then on.")
@click.option("--allow-insecure-http", is_flag=True, help="Speak http beyond this machine; the key goes in the clear.")
@click.option("--json", "as_json", is_flag=True, help="Print the service's answer as it is.")
def command(
    url: str, key: str | None, flag: str | None, since: int | None, allow_insecure_http: bool, as_json: bool
) -> None:
    """Show the units and exposures stored by the service at URL, by flag and variant."""
    asked = {"flag": flag, "since": None if since is None else _rfc3339(since)}
    answer = fetch(url, {name: text for name, text in asked.items() if text}, key, insecure=allow_insecure_http)
    if as_json:
        click.echo(json.dumps(answer, indent=2))
        return
    try:
        lines = list(_lines(answer, hourly=flag is not None))
    except (AttributeError, LookupError, TypeError, ValueError, ZeroDivisionError):
        raise click.ClickException(plain(f"{url}: the answer is not a summary")) from None
    for line in lines:
        click.echo(plain(line))


def fetch(url: str, query: Mapping[str, str], key: str | None, *, insecure: bool) -> Any:
    """The service's answer, decoded. Raises: ConfigError for a bad URL; ClickException when there is no answer."""
    return Service(url, key, insecure=insecure).get("/v1/summary", query)


def _lines(answer: Any, *, hourly: bool) -> Iterator[str]:
    flags = answer["flags"]
    variants = list(_variants(flags))
    if variants:
        yield from columns([("flag", "variant", "units", "share", "exposures"), *variants], frozenset({2, 3, 4}))
    else:
        yield "no exposures"
    metrics = list(_metrics(flags))
    if metrics:
        head = ("metric", "flag", "variant", "units", "with it", "events", "mean")
        yield ""
        yield from columns([head, *metrics], frozenset({3, 4, 5, 6}))
    feedback = list(_feedback(answer.get("feedback", {})))  # older services have none, here and below
    if feedback:
        yield ""
        yield from columns([_FEEDBACK, *feedback], frozenset({2, 3, 4, 5, 6}))
    enrolments = list(_enrolments(answer.get("early_access", {})))
    if enrolments:
        yield ""
        yield from columns([_EARLY_ACCESS, *enrolments], frozenset({1, 2, 3}))
    hours = list(_hours(flags)) if hourly else []
    if hours:
        yield ""
        yield from columns([("hour", "variant", "units", "exposures"), *hours], frozenset({2, 3}))
    calls = list(_calls(answer.get("calls", {}), hourly=hourly))
    if calls:
        yield ""
        yield from columns([_CALLS, *calls], frozenset({3, 4, 5, 6, 7}))
    guards = list(_guards(answer.get("guards", ())))  # older services have none
    if guards:
        yield ""
        yield from columns([_GUARD, *guards], frozenset({2, 4, 5, 6, 7, 8}))
    if answer.get("changes"):
        yield ""
        yield from history.table(answer["changes"])
    yield ""
    yield _counts("stored", answer["stored"])
    yield _counts("received", answer["received"])
    if answer["dropped"]:
        yield _counts("lost by clients", answer["dropped"])


def _variants(flags: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    for flag, found in flags.items():
        for name, variant in found["variants"].items():
            share = percent(variant["units"], found["units"])
            yield flag, name, f"{variant['units']:,}", share, f"{variant['exposures']:,}"


def _metrics(flags: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    for flag, found in flags.items():
        for name, variant in found["variants"].items():
            for metric, seen in variant["metrics"].items():
                counts = (f"{seen[count]:,}" for count in ("units", "units_with_event", "events"))
                yield metric, flag, name, *counts, "-" if seen["mean"] is None else f"{seen['mean']:,.4g}"


def _feedback(flags: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    for flag, variants in flags.items():
        for variant, said in variants.items():
            mean = "-" if said["mean"] is None else f"{said['mean']:,.4g}"
            counts = {count: f"{said[count]:,}" for count in ("units", "events", "scores", "texts")}
            yield flag, variant or "-", counts["units"], counts["events"], counts["scores"], mean, counts["texts"]


def _enrolments(flags: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    for flag, counts in flags.items():
        yield flag, *(f"{counts[count]:,}" for count in ("enrolled", "opted_out", "refused"))


def _hours(flags: Mapping[str, Any]) -> list[tuple[str, ...]]:
    return sorted(
        (hour["hour"], name, f"{hour['units']:,}", f"{hour['exposures']:,}")
        for found in flags.values()
        for name, variant in found["variants"].items()
        for hour in variant["hours"]
    )


def _calls(flags: Mapping[str, Any], *, hourly: bool) -> Iterator[tuple[str, ...]]:
    """What gates counted, of all the time and, if it is wanted, of every hour."""
    for flag, variants in flags.items():
        for variant, found in variants.items():
            often = sorted(found["errors"].items(), key=lambda error: -error[1])
            errors = ", ".join(f"{error} {count:,}" for error, count in often[:_MOST_ERRORS])
            yield "all", flag, variant, *_figures(found), errors + (", ..." if len(often) > _MOST_ERRORS else "") or "-"
            for hour in found["hours"] if hourly else ():
                yield hour["hour"], flag, variant, *_figures(hour), ""


def _figures(found: Mapping[str, Any]) -> Iterator[str]:
    yield f"{found['calls']:,}"
    yield f"{found['failures']:,}"
    for name in ("p50_s", "p90_s", "p99_s"):
        yield "-" if found[name] is None else f"{found[name] * 1000:,.4g} ms"


def _guards(guards: Iterable[Mapping[str, Any]]) -> Iterator[tuple[str, ...]]:
    """How far each has come: its evidence in parts of what trips it, the larger of the two clocks'."""
    for guard in guards:
        evidence = max(value / limit for value, limit in zip(guard["evidence"], guard["limits"], strict=True))
        sums = (f"{guard[count][arm]:,}" for arm in (1, 0) for count in ("calls", "failures"))
        stand = (guard["flag"], guard["candidate"], str(guard["revision"]), guard["state"])
        yield *stand, *sums, f"{evidence:.4f}", guard["why"] or "-"


def _counts(title: str, counts: Mapping[str, int]) -> str:
    return f"{title}: {', '.join(f'{number:,} {name}' for name, number in counts.items())}"


def _rfc3339(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
