"""The acts of the demo: who is asked what, when the file is edited, when the service dies, and what is noted down.

It drives ``Fleet`` and ``Traffic`` and fills in ``Findings``; it judges nothing. The command calls ``tell``.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import click

from flagkit.cli.demo.app import PaymentFailed, pay
from flagkit.cli.demo.definitions import (
    BUTTON,
    CHECKOUT,
    COLOURS,
    FIRST,
    KILLED,
    PAYMENT,
    RAISED,
    RAMPED,
    TRIED,
    Edition,
)
from flagkit.cli.demo.findings import Change, Findings, Outage, Rollback, express_users, shares
from flagkit.cli.demo.fleet import Fleet
from flagkit.cli.demo.progress import Progress
from flagkit.cli.demo.traffic import Answer, Question, Traffic
from flagkit.cli.demo.worker import POLL_INTERVAL_S
from flagkit.context import Context
from flagkit.core.snapshot import Snapshot
from flagkit.dialects import native

_SAMPLE: Final = 1000
#: Users who pay, in the act of the guard.
_PAYERS: Final = 8000
_ALLOWED_S: Final = POLL_INTERVAL_S + 1.0
_PATIENCE_S: Final = 30.0
_LOOK_EVERY_S: Final = 0.02
#: Between two requests of the traffic that never stops, seconds.
_PAUSE_S: Final = 0.003

_Say: TypeAlias = Callable[[str], None]


@dataclass(frozen=True)
class Plan:
    """How large the demo is: ``users`` who come, ``workers`` who serve them, ``outage_s`` seconds without a service."""

    users: int
    workers: int
    outage_s: float


def tell(plan: Plan, fleet: Fleet, progress: Progress) -> Findings:
    """Run every act. Raises: ClickException when something that the acts stand on does not work at all."""
    begun_s = time.monotonic()
    with progress.stage("start") as say:
        FIRST.publish(fleet.definitions)
        fleet.start_service()
        fleet.start_workers(plan.workers)
        _until(lambda: _served_by_all(fleet, FIRST), "the workers did not get the definitions")
        say(f"service on {fleet.service_url.removeprefix('http://')}, and {plan.workers} worker processes")
    story = _Story(plan, fleet, progress)
    story.everybody_comes()
    story.the_percentage_rises()
    story.the_service_dies()
    story.the_switch_is_pulled()
    found = story.end()
    story.the_guard_steps_in()
    found.took_s = time.monotonic() - begun_s
    return found


class _Story:
    """The acts, in this order, and what they share."""

    def __init__(self, plan: Plan, fleet: Fleet, progress: Progress) -> None:
        self._plan = plan
        self._fleet = fleet
        self._progress = progress
        self._traffic = Traffic(fleet.worker_urls)
        self._users = [f"user-{number}" for number in range(plan.users)]
        self._found = Findings(plan.users, plan.workers, failures=self._traffic.failures)

    def everybody_comes(self) -> None:
        with self._progress.stage(FIRST.title) as say:
            self._ask(self._round(0), say)
            self._note(FIRST, 0)

    def the_percentage_rises(self) -> None:
        """It rises while people shop; then everybody comes again, to another process than before."""
        with self._progress.stage(RAISED.title) as say:
            since_ms = _now_ms()
            told = self._change(RAISED, f"{FIRST.title} to {RAISED.title}", say)
            self._ask(self._round(1), say, told)
            self._note(RAISED, since_ms)

    def the_service_dies(self) -> None:
        """It is killed in the middle of traffic, stays away, and returns to what was recorded without it."""
        with self._progress.stage("outage") as say:
            since_ms = _now_ms()
            answers, killed_s, before = self._without_service(say)
            self._fleet.start_service()
            back_s = time.monotonic()
            say(f"{before:,} requests before the service was killed, {len(answers) - before:,} without it; it is back")
            confirmed_s, delivered_s = self._recovery(back_s)
            newcomers = dict.fromkeys(answer.user for answer in answers if answer.user.startswith("late-"))
            self._ask((Question(n % self._plan.workers, user) for n, user in enumerate(newcomers)), _silent)
            self._fleet.flush()
            stored = self._fleet.summary(since_ms)["flags"]
            self._found.outage = outage = Outage(
                lasted_s=back_s - killed_s,
                answers=len(answers) - before,
                astray=self._astray(answers[before:]),
                newcomers=len(newcomers),
                stored={flag: _figures(stored.get(flag)) for flag in (CHECKOUT, BUTTON)},
                confirmed_s=confirmed_s,
                delivered_s=delivered_s,
            )
            self._found.answers += answers
            say(
                f"{outage.answers:,} requests answered in {outage.lasted_s:.1f} s without a service;"
                f" everything delivered {delivered_s:.1f} s after its return"
            )

    def the_switch_is_pulled(self) -> None:
        """All who ever had the candidate, and some others, come to every worker."""
        with self._progress.stage(KILLED.title) as say:
            since_ms = _now_ms()
            users = dict.fromkeys([*sorted(express_users(self._found.answers, RAISED)), *self._users[:_SAMPLE]])
            told = self._change(KILLED, KILLED.title, say)
            self._found.killed = self._ask(self._at_every_worker(users), say, told)
            self._note(KILLED, since_ms)

    def end(self) -> Findings:
        """The accounts, when nothing moves any more."""
        with self._progress.stage("account") as say:
            found, fleet = self._found, self._fleet
            fleet.flush()
            stats = fleet.stats()
            found.accounts = [each["account"] for each in stats]
            found.exceptions = sum(each["exceptions"] for each in stats)
            found.errors = sum(each["errors"] for each in stats)
            found.waits = fleet.stats("/_waits")
            found.summary = fleet.summary()
            found.shares += shares("all along", BUTTON, COLOURS, found.summary)
            say(f"{found.stored:,} events stored")
        return found

    def the_guard_steps_in(self) -> None:
        """A payment that fails for some users is ramped from 1 % to 25 %; nobody is told to stop it."""
        with self._progress.stage("guard") as say:
            plan, fleet = self._plan, self._fleet
            people = [Question(n % plan.workers, user) for n, user in enumerate(self._users[:_PAYERS])]
            for edition in (TRIED, RAMPED):
                edition.publish(fleet.definitions)
                _until(lambda edition=edition: _served_by_all(fleet, edition), f"{edition.title} did not arrive")  # type: ignore[misc]
                for n, _ in enumerate(self._traffic.pay(people if edition is RAMPED else people[: _PAYERS // 4])):
                    if not n % 100:
                        say(f"{edition.title}: {n:,} payments")
            trials = fleet.stats("/_trial")
            after = sum(self._traffic.pay(people[:_SAMPLE]))
            verdicts = [change["time_ms"] for change in fleet.changes(PAYMENT) if change["command"] == "trip"]
            self._found.rollback = rollback = _rollback(trials, verdicts, self._users[:_PAYERS], after)
            say(f"rolled back after {rollback.candidates:,} calls of the candidate; {rollback.hurt:,} users hurt")

    # -- within an act

    def _round(self, number: int) -> Iterator[Question]:
        """Everybody once, each round at another worker, and the first of them at every worker."""
        workers = self._plan.workers
        for n, user in enumerate(self._users):
            yield Question((n + number) % workers, user)
        yield from self._at_every_worker(self._users[:_SAMPLE])

    def _at_every_worker(self, users: Iterable[str]) -> Iterator[Question]:
        return (Question(worker, user) for user in users for worker in range(self._plan.workers))

    def _crowd(self) -> Iterator[Question]:
        """Customers without end."""
        for n, user in enumerate(itertools.cycle(self._users)):
            yield Question(n % self._plan.workers, user)

    def _mixed_crowd(self) -> Iterator[Question]:
        """Customers without end, every other one a newcomer."""
        for n, known in enumerate(self._crowd()):
            yield known
            yield Question(n % self._plan.workers, f"late-{n}")

    def _ask(self, questions: Iterable[Question], say: _Say, told: str = "") -> list[Answer]:
        """Ask as fast as the workers answer, and keep the answers."""
        asked = list(questions)
        begun_s = time.monotonic()

        def show(count: int) -> None:
            rate = count / (time.monotonic() - begun_s)
            say(f"{told}{count:,} of {len(asked):,} requests answered, {rate:,.0f} a second")

        answers = self._traffic.ask(asked, show)
        self._found.answers += answers
        return answers

    def _change(self, edition: Edition, title: str, say: _Say) -> str:
        """Publish an edition in the middle of traffic, note how long it took to reach the last worker, and say so."""
        with self._traffic.flowing(self._crowd(), _PAUSE_S) as answers:
            begun_s = time.monotonic()
            edition.publish(self._fleet.definitions)
            _until(lambda: _served_by_all(self._fleet, edition), f"{title}: the change did not reach every worker")
            took_s = time.monotonic() - begun_s
        self._found.answers += answers
        self._found.changes.append(Change(title, took_s, _ALLOWED_S))
        told = f"at the last worker in {took_s:.2f} s; "
        say(told)
        return told

    def _note(self, edition: Edition, since_ms: int) -> None:
        """Note what is stored of an edition: since its publication nothing new was recorded of those before it."""
        self._fleet.flush()
        self._found.shares += shares(edition.title, CHECKOUT, edition.promised, self._fleet.summary(since_ms))

    def _without_service(self, say: _Say) -> tuple[list[Answer], float, int]:
        """Kill the service in the middle of traffic. The answers, the time of the kill, and how many came before it."""
        with self._traffic.flowing(self._mixed_crowd(), _PAUSE_S) as answers:
            _until(lambda: len(answers) > 10 * self._plan.workers, "nobody is served")
            self._fleet.kill_service()
            killed_s, before = time.monotonic(), len(answers)
            while (left_s := killed_s + self._plan.outage_s - time.monotonic()) > 0:
                say(f"service killed; {len(answers) - before:,} requests answered without it")
                time.sleep(min(0.1, left_s))
        return answers, killed_s, before

    def _recovery(self, back_s: float) -> tuple[float, float]:
        """Seconds from ``back_s`` until every worker has confirmed its definitions, and delivered all it recorded."""
        took_s: dict[str, float] = {}

        def recovered() -> bool:
            stats, since_s = self._fleet.stats(), time.monotonic() - back_s
            if all(each["age_s"] < since_s for each in stats):
                took_s.setdefault("confirmed", since_s)
            if not any(each["account"]["pending"] for each in stats):
                took_s.setdefault("delivered", since_s)
            return len(took_s) == 2

        _until(recovered, "the workers did not find back to the service")
        return took_s["confirmed"], took_s["delivered"]

    def _astray(self, answers: Iterable[Answer]) -> int:
        """How many of the answers given without the service are not those given with it, before or after."""
        right = {answer.user: answer.served for answer in self._found.answers}
        return sum(answer.served != right[answer.user] for answer in answers)


def _rollback(trials: list[Any], verdicts: list[int], users: list[str], after: int) -> Rollback:
    back_ms = [trial["back_ms"] for trial in trials]
    # A breaker waits for no verdict: then it is told from the first worker that was back.
    since_ms = min([*verdicts, *(ms for ms in back_ms if ms is not None)], default=0)
    let_in = Snapshot(native.parse(RAMPED.document()).definitions, now_ms=_now_ms)
    would_hurt = [user for user in users if let_in.decide(PAYMENT, Context(user)).enabled and _is_hurt(user)]
    return Rollback(
        why=next((trial["why"] for trial in trials if trial["why"]), None),
        candidates=sum(trial["candidates"] for trial in trials),
        hurt=len({user for trial in trials for user in trial["hurt"] if _is_hurt(user)}),
        would_hurt=len(would_hurt),
        back_ms=[None if ms is None else ms - since_ms for ms in back_ms],
        judged=since_ms in verdicts,
        after=after,
    )


def _is_hurt(user: str) -> bool:
    """Whether a payment fails by the candidate that would not have failed otherwise."""
    return not _pays(user, by_candidate=True) and _pays(user, by_candidate=False)


def _pays(user: str, *, by_candidate: bool) -> bool:
    try:
        pay(user, by_candidate=by_candidate)
    except PaymentFailed:
        return False
    return True


def _served_by_all(fleet: Fleet, edition: Edition) -> bool:
    stats: list[Any] = fleet.stats()
    return all(each["version"] == edition.version for each in stats)


def _until(true: Callable[[], bool], otherwise: str) -> None:
    """Look until it is true. Raises: ClickException when it is not for too long."""
    give_up_s = time.monotonic() + _PATIENCE_S
    while not true():
        if time.monotonic() > give_up_s:
            raise click.ClickException(f"{otherwise} within {_PATIENCE_S:.0f} s")
        time.sleep(_LOOK_EVERY_S)


def _figures(found: Any) -> tuple[int, int]:
    return (found["units"], found["exposures"]) if found else (0, 0)


def _silent(_: str) -> None:
    """Says nothing."""


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
