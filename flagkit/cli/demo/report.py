"""The report at the end of a run: tables, figures and checks as text, or all of it as JSON.

Only form: it judges nothing and measures nothing.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from typing import Any

from flagkit.cli.demo.checks import Check
from flagkit.cli.demo.findings import Findings, Rollback, Share
from flagkit.cli.text import columns, counted


def lines(found: Findings, checks: Sequence[Check]) -> Iterator[str]:
    """The report for people, line by line."""
    yield from _titled("Units and exposures stored", _shares(found.shares))
    yield from _titled("Purchases, by the variant met first", _purchases(found.summary))
    yield from _titled("Changes", _changes(found))
    yield from _titled("A candidate with a bug for some users", _rollback(found.rollback))
    yield from _titled("The caller's wait in enabled()", _waits(found))
    yield from _titled("The account", _accounts(found))
    yield from _titled("Checks", (f"{'holds' if check.holds else 'FAILS'}  {check.text}" for check in checks))
    failing = sum(not check.holds for check in checks)
    verdict = f"{failing} of {len(checks)} checks fail" if failing else f"All {len(checks)} checks hold"
    yield ""
    yield f"{verdict}. {found.took_s:.0f} s."


def to_json(found: Findings, checks: Sequence[Check]) -> dict[str, Any]:
    """The same for programs."""
    shares = [
        {**asdict(share), "seen": share.seen, "band": share.band, "within": share.within} for share in found.shares
    ]
    return {
        "holds": all(check.holds for check in checks),
        "checks": [check._asdict() for check in checks],
        "users": found.users,
        "workers": found.workers,
        "requests": len(found.answers) + len(found.failures),
        "shares": shares,
        "changes": [asdict(change) for change in found.changes],
        "outage": None if found.outage is None else asdict(found.outage),
        "rollback": None if found.rollback is None else asdict(found.rollback),
        "waits": list(found.waits),
        "accounts": list(found.accounts),
        "summary": found.summary,
        "took_s": found.took_s,
    }


def _titled(title: str, body: Iterable[str]) -> Iterator[str]:
    yield ""
    yield title
    yield ""
    yield from (textwrap.indent(line, "  ") for line in body)


def _shares(shares: Sequence[Share]) -> list[str]:
    rows = [("flag", "when", "variant", "units", "exposures", "asked for", "seen", "3 standard errors", "")]
    group = None
    for share in shares:
        new, group = group != (share.flag, share.when), (share.flag, share.when)
        rows.append(
            (
                share.flag if new else "",
                share.when if new else "",
                share.variant,
                f"{share.units:,}",
                f"{share.exposures:,}",
                f"{share.promised:.2f} %",
                f"{share.seen:.2f} %",
                f"{share.promised - share.band:.2f} to {share.promised + share.band:.2f} %",
                "within" if share.within else "OUTSIDE",
            )
        )
    return columns(rows, frozenset({3, 4, 5, 6, 7}))


def _purchases(summary: Any) -> list[str]:
    rows: list[Sequence[str]] = [("flag", "variant", "units", "bought", "rate", "purchases", "mean value")]
    for flag, found in summary["flags"].items():
        for name, variant in found["variants"].items():
            seen = variant["metrics"].get("purchase")
            if seen is not None:
                rate = 100 * seen["units_with_event"] / seen["units"]
                counts = (f"{seen['units']:,}", f"{seen['units_with_event']:,}", f"{rate:.1f} %", f"{seen['events']:,}")
                rows.append((flag, name, *counts, f"{seen['mean']:.2f}"))
    return columns(rows, frozenset({2, 3, 4, 5, 6}))


def _changes(found: Findings) -> list[str]:
    rows = [("change", "until the last worker served it", "allowed")]
    rows += [(change.title, f"{change.took_s:.2f} s", f"{change.bar_s:.2f} s") for change in found.changes]
    table = columns(rows, frozenset({1, 2}))
    if (outage := found.outage) is not None:
        table += [
            "",
            f"Without a service for {outage.lasted_s:.1f} s: {outage.answers:,} requests answered all the same.",
            f"After its return: definitions confirmed by every worker in {outage.confirmed_s:.1f} s,"
            f" everything delivered in {outage.delivered_s:.1f} s.",
        ]
    return table


def _rollback(rollback: Rollback | None) -> Iterator[str]:
    if rollback is None:
        return
    yield f"Rolled back: {rollback.why or 'no'}."
    yield f"After {rollback.candidates:,} calls of the candidate, in all workers together."
    since = "the verdict" if rollback.judged else "the first of them had"
    for number, back_ms in enumerate(rollback.back_ms, 1):
        when = "never" if back_ms is None else f"{back_ms:,} ms after {since}"
        yield f"Worker {number} served the control again: {when}."
    yield f"{counted(rollback.hurt, 'user')} hurt. A breaker at half of the last 20 calls: {rollback.would_hurt:,}."


def _waits(found: Findings) -> list[str]:
    rows = [("worker", "calls", "99.9 % within", "longest")]
    rows += [
        (str(number), f"{waits['calls']:,}", _ms(waits["p999_ns"]), _ms(waits["longest_ns"]))
        for number, waits in enumerate(found.waits, 1)
    ]
    return columns(rows, frozenset({1, 2, 3}))


def _accounts(found: Findings) -> list[str]:
    names = ("recorded", "delivered", "lost", "pending")
    rows: list[Sequence[str]] = [("worker", *names)]
    for number, account in enumerate(found.accounts, 1):
        figures = {**account, "lost": sum(account["lost"].values())}
        rows.append((str(number), *(f"{figures[name]:,}" for name in names)))
    rows.append(("all", *(f"{found.total(name):,}" for name in names)))
    stored, received = found.summary["stored"], found.summary["received"]
    return [
        *columns(rows, frozenset({1, 2, 3, 4})),
        "",
        f"The service stored {counted(stored['exposures'], 'exposure')} and {counted(stored['metrics'], 'purchase')}"
        f" from {counted(received['deliveries'], 'request')}, and met {received['duplicates']:,} a second time.",
    ]


def _ms(ns: int) -> str:
    return f"{ns / 1e6:,.3f} ms"
