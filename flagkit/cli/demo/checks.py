"""The demo's checks: each a sentence with figures, and whether it holds. All of them holding is exit status 0.

Pure; reads ``Findings`` and nothing else.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Final, NamedTuple

from flagkit.cli.demo.definitions import CHECKOUT, EXPRESS, FIRST, RAISED
from flagkit.cli.demo.findings import Findings, Outage, Rollback, differences, exposures_owed, express_users, fell_out
from flagkit.cli.text import counted

#: A worker serves the control again so soon after the verdict, milliseconds.
_BACK_MS: Final = 2_000


class Check(NamedTuple):
    """``text`` says what was counted, so that it reads well whether or not it ``holds``."""

    holds: bool
    text: str


def judge(found: Findings) -> list[Check]:
    """Every check, in the order of the story."""
    return [
        *_answers(found),
        *_decisions(found),
        *_outage(found.outage),
        *_events(found),
        *_rollback(found.rollback),
    ]


def _answers(found: Findings) -> Iterator[Check]:
    reasons = Counter(found.failures)
    why = f" ({', '.join(f'{count:,} {reason}' for reason, count in reasons.items())})" if reasons else ""
    yield Check(
        not found.failures,
        f"{counted(len(found.answers), 'request')} answered, {len(found.failures):,} not{why}.",
    )
    exceptions, errors = counted(found.exceptions, "exception"), counted(found.errors, "error")
    yield Check(found.exceptions == found.errors == 0, f"{exceptions} in the application, {errors} in its clients.")


def _decisions(found: Findings) -> Iterator[Check]:
    within = sum(share.within for share in found.shares)
    yield Check(
        within == len(found.shares),
        f"{within} of {len(found.shares)} shares are within 3 standard errors of what was asked for.",
    )
    compared, different = differences(found.answers)
    yield Check(
        compared > 0 and different == 0,
        f"{different:,} of {compared:,} questions put to several processes were answered differently.",
    )
    were_in, out = express_users(found.answers, FIRST), fell_out(found.answers, FIRST, RAISED)
    yield Check(
        bool(were_in) and not out,
        f"{len(out):,} of {len(were_in):,} who were in at {FIRST.title} fell out at {RAISED.title}.",
    )
    for change in found.changes:
        yield Check(
            change.took_s <= change.bar_s,
            f"{change.title}: {change.took_s:.2f} s until the last worker served it; {change.bar_s:.2f} s are allowed.",
        )
    still = sum(answer.served[CHECKOUT][0] == EXPRESS for answer in found.killed)
    yield Check(
        bool(found.killed) and still == 0,
        f"{still:,} of {len(found.killed):,} answers after that gave the candidate.",
    )


def _outage(outage: Outage | None) -> Iterator[Check]:
    if outage is None:
        return
    yield Check(
        outage.answers > 0 and outage.astray == 0,
        f"{outage.astray:,} of {outage.answers:,} answers without the service were not the last good ones.",
    )
    new = outage.newcomers
    kept = ", ".join(f"{flag} {exposures:,}" for flag, (_, exposures) in outage.stored.items())
    yield Check(
        new > 0 and all(stored == (new, new) for stored in outage.stored.values()),
        f"{counted(new, 'user')} came first then; their exposures are stored once each: {kept}.",
    )


def _rollback(rollback: Rollback | None) -> Iterator[Check]:
    if rollback is None:
        return
    back_ms = [ms for ms in rollback.back_ms if ms is not None]
    yield Check(
        rollback.why is not None and len(back_ms) == len(rollback.back_ms),
        f"the guard rolled the payment back in {len(back_ms)} of {len(rollback.back_ms)} workers, "
        f"after {rollback.candidates:,} candidate calls.",
    )
    yield Check(
        max(back_ms, default=0) <= _BACK_MS,
        f"the last of them served the control again after {max(back_ms, default=0):,} ms; {_BACK_MS:,} are allowed.",
    )
    yield Check(rollback.after == 0, f"{rollback.after:,} payments by the candidate after that.")
    yield Check(
        rollback.hurt < rollback.would_hurt,
        f"{rollback.hurt:,} users were hurt; {rollback.would_hurt:,} if it had taken half of the last 20 calls.",
    )


def _events(found: Findings) -> Iterator[Check]:
    recorded, delivered, lost, pending = map(found.total, ("recorded", "delivered", "lost", "pending"))
    yield Check(
        recorded == delivered + lost + pending,
        f"{recorded:,} recorded = {delivered:,} delivered + {lost:,} lost + {pending:,} pending.",
    )
    yield Check(lost == 0 and pending == 0, f"{lost:,} lost, {pending:,} pending at the end.")
    duplicates = found.summary["received"]["duplicates"]
    yield Check(
        found.stored == delivered - duplicates,
        f"{found.stored:,} stored = {delivered:,} delivered - {duplicates:,} that another worker had sent.",
    )
    owed, exposures = exposures_owed(found.answers), found.summary["stored"]["exposures"]
    yield Check(
        owed == exposures,
        f"{exposures:,} exposures stored; the answers call for {owed:,}.",
    )
    bought, purchases = sum(answer.bought for answer in found.answers), found.summary["stored"]["metrics"]
    yield Check(purchases == bought, f"{purchases:,} purchases stored; {bought:,} were made.")
