"""What the demo saw, as values, and what follows from them by counting.

Pure: no process, no clock, no terminal. The story fills ``Findings`` in; ``checks`` judges them, ``report`` shows them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from flagkit.cli.demo.definitions import CHECKOUT, EXPRESS, Edition
from flagkit.cli.demo.traffic import Answer


@dataclass(frozen=True)
class Share:
    """What the service stored for one variant, and what the definitions promise.

    when: the edition's title, or ``all along``. units, exposures: stored. of_units: of all variants together.
    promised: percent.
    """

    when: str
    flag: str
    variant: str
    units: int
    exposures: int
    of_units: int
    promised: float

    @property
    def seen(self) -> float:
        """Percent of the units that got this variant."""
        return 100 * self.units / self.of_units if self.of_units else math.nan

    @property
    def band(self) -> float:
        """Three standard errors of the share, in percent; for what is promised to all or none, 0."""
        part = self.promised / 100
        return 300 * math.sqrt(part * (1 - part) / self.of_units) if self.of_units else 0.0

    @property
    def within(self) -> bool:
        return abs(self.seen - self.promised) <= self.band + 1e-9


def shares(when: str, flag: str, promised: Mapping[str, float], summary: Any) -> list[Share]:
    """The shares of one flag in a service's summary, a variant that nobody got included."""
    found = summary["flags"].get(flag, {"units": 0, "variants": {}})
    nobody = {"units": 0, "exposures": 0}
    variants = {**dict.fromkeys(promised, nobody), **found["variants"]}
    return [
        Share(when, flag, name, got["units"], got["exposures"], found["units"], promised.get(name, 0.0))
        for name, got in variants.items()
    ]


@dataclass(frozen=True)
class Change:
    """An edit of the definitions: seconds from the file's replacement until the last worker served it."""

    title: str
    took_s: float
    bar_s: float


@dataclass(frozen=True)
class Outage:
    """The time without a service.

    lasted_s: from the kill until the service answered again. answers: given meanwhile. astray: of those, not the last
    good ones. newcomers: users who came for the first time then. stored: flag -> (units, exposures) stored since, in
    the end. confirmed_s, delivered_s: from the service's return until the last worker had confirmed its definitions,
    and had delivered all it had recorded.
    """

    lasted_s: float
    answers: int
    astray: int
    newcomers: int
    stored: Mapping[str, tuple[int, int]]
    confirmed_s: float
    delivered_s: float


@dataclass(frozen=True)
class Rollback:
    """What became of a candidate with a real bug for some users.

    why: it was rolled back; None if it was not. candidates: calls of it, over all workers, and hurt: users of those
    whose payment failed by its bug. would_hurt: users among all who came that it would have failed at 25 %, had nobody
    stopped it: as a breaker that opens when half of the last 20 calls fail would not have. back_ms: for each worker,
    when it served the control again, ms after the service's verdict, or without one after the first worker that did;
    None: it never did. judged: whether there was a verdict. after: payments by the candidate once every worker was
    back.
    """

    why: str | None
    candidates: int
    hurt: int
    would_hurt: int
    back_ms: Sequence[int | None]
    after: int
    judged: bool = True


@dataclass
class Findings:
    """Everything seen in one run, in the order it came.

    answers: every one, of all acts. killed: those to people who asked when the last worker had the kill switch.
    failures: why requests had no answer. exceptions: raised by the application's pages; errors: within its clients.
    accounts, waits: a mapping for each worker, as ``app`` words them. summary: the service's last.
    """

    users: int
    workers: int
    answers: list[Answer] = field(default_factory=list)
    shares: list[Share] = field(default_factory=list)
    changes: list[Change] = field(default_factory=list)
    outage: Outage | None = None
    rollback: Rollback | None = None
    killed: Sequence[Answer] = ()
    failures: Sequence[str] = ()
    exceptions: int = 0
    errors: int = 0
    accounts: Sequence[Mapping[str, Any]] = ()
    waits: Sequence[Mapping[str, int]] = ()
    summary: Any = None
    took_s: float = 0.0

    def total(self, name: str) -> int:
        """A figure of the account, over all workers."""
        figures = (account[name] for account in self.accounts)
        return sum(sum(each.values()) if isinstance(each, Mapping) else each for each in figures)

    @property
    def stored(self) -> int:
        """Events in the service's file."""
        return sum(self.summary["stored"].values())


def express_users(answers: Iterable[Answer], edition: Edition) -> set[str]:
    """Who got the candidate under ``edition``."""
    return {answer.user for answer in answers if answer.served[CHECKOUT] == (EXPRESS, edition.version)}


def fell_out(answers: Sequence[Answer], before: Edition, after: Edition) -> set[str]:
    """Who had the candidate under ``before`` and was ever without it under ``after``."""
    without = {
        answer.user
        for answer in answers
        if answer.served[CHECKOUT][1] == after.version and answer.served[CHECKOUT][0] != EXPRESS
    }
    return express_users(answers, before) & without


def differences(answers: Iterable[Answer]) -> tuple[int, int]:
    """How many (flag, version, user) were answered by several workers, and how many of them not with one variant."""
    variants: dict[tuple[str, str | None, str], set[str | None]] = {}
    workers: dict[tuple[str, str | None, str], set[int]] = {}
    for answer in answers:
        for flag, (variant, version) in answer.served.items():
            asked = flag, version, answer.user
            variants.setdefault(asked, set()).add(variant)
            workers.setdefault(asked, set()).add(answer.worker)
    compared = [asked for asked, by in workers.items() if len(by) > 1]
    return len(compared), sum(len(variants[asked]) > 1 for asked in compared)


def exposures_owed(answers: Iterable[Answer]) -> int:
    """How many exposures must be stored, once each, for these answers: one a user, flag, version and variant."""
    return len({(flag, *served, answer.user) for answer in answers for flag, served in answer.served.items()})
