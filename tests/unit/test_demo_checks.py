"""The demo's checks on findings made by hand: each one holds when all is well and fails when its one thing is not."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from flagkit.cli.demo.checks import judge
from flagkit.cli.demo.definitions import BUTTON, CHECKOUT, FIRST, KILLED, RAISED, RAMPED, TRIED, Edition
from flagkit.cli.demo.findings import Change, Findings, Outage, Rollback, Share, shares
from flagkit.cli.demo.fleet import exposure_window_s
from flagkit.cli.demo.report import lines, to_json
from flagkit.cli.demo.traffic import Answer
from flagkit.dialects import native

OUTAGE: dict[str, Any] = {
    "lasted_s": 5.0,
    "answers": 10,
    "astray": 0,
    "newcomers": 3,
    "stored": {CHECKOUT: (3, 3), BUTTON: (3, 3)},
    "confirmed_s": 1.0,
    "delivered_s": 1.0,
}


def answer(edition: Edition, variant: str, *, worker: int = 0, user: str = "u") -> Answer:
    return Answer(worker, user, {CHECKOUT: (variant, edition.version)}, bought=worker == 0)


def summary(exposures: int, metrics: int, duplicates: int) -> dict[str, Any]:
    received = {"batches": 1, "deliveries": 1, "events": 9, "accepted": 9, "duplicates": duplicates}
    return {"flags": {}, "stored": {"exposures": exposures, "metrics": metrics}, "received": received, "dropped": {}}


def sound() -> Findings:
    """Findings of a run in which all is well: one user, two workers, three editions."""
    killed = [answer(KILLED, "classic"), answer(KILLED, "classic", worker=1)]
    found = Findings(users=1, workers=2, killed=killed, outage=Outage(**OUTAGE))
    for edition in (FIRST, RAISED):
        found.answers += [answer(edition, "express"), answer(edition, "express", worker=1)]
    found.answers += killed
    found.shares = [Share("5 %", CHECKOUT, "express", 50, 50, 1000, 5.0)]
    found.changes = [Change("5 % to 25 %", 0.7, 1.5)]
    found.accounts = [{"recorded": 5, "delivered": 5, "lost": {}, "pending": 0}] * 2
    found.rollback = Rollback("on: fails more often", 200, 30, 250, [0, 9], 0)
    found.waits = [{"calls": 3, "p999_ns": 1000, "longest_ns": 2000}] * 2
    found.summary = summary(exposures=3, metrics=3, duplicates=4)
    return found


def failing(found: Findings) -> list[str]:
    return [check.text for check in judge(found) if not check.holds]


def test_all_hold_when_all_is_well():
    assert failing(sound()) == []


def lose(found: Findings) -> None:
    found.accounts = [{"recorded": 6, "delivered": 5, "lost": {"overflow": 1}, "pending": 0}, found.accounts[1]]


def forget(found: Findings) -> None:
    found.accounts = [{"recorded": 6, "delivered": 5, "lost": {}, "pending": 0}, found.accounts[1]]


SABOTAGE: dict[str, tuple[Callable[[Findings], object], str]] = {
    "a request without an answer": (
        lambda found: setattr(found, "failures", ["status 500", "status 500"]),
        "6 requests answered, 2 not (2 status 500).",
    ),
    "an exception": (lambda found: setattr(found, "exceptions", 1), "1 exception in the application, 0 errors"),
    "an error in a client": (lambda found: setattr(found, "errors", 2), "2 errors in its clients."),
    "a share too far off": (
        lambda found: found.shares.append(Share("5 %", CHECKOUT, "express", 90, 90, 1000, 5.0)),
        "1 of 2 shares are within",
    ),
    "nothing stored": (
        lambda found: found.shares.extend(shares("5 %", CHECKOUT, {"express": 5.0}, found.summary)),
        "1 of 2 shares are within",
    ),
    "processes that disagree": (
        lambda found: found.answers.append(answer(FIRST, "classic", worker=1)),
        "1 of 3 questions put to several processes",
    ),
    "someone who fell out": (
        lambda found: found.answers.append(answer(RAISED, "classic")),
        "1 of 1 who were in at 5 % fell out",
    ),
    "a slow change": (lambda found: found.changes.append(Change("slow", 1.6, 1.5)), "slow: 1.60 s until"),
    "a candidate after the kill": (
        lambda found: setattr(found, "killed", [*found.killed, answer(RAISED, "express")]),
        "1 of 3 answers after that gave the candidate.",
    ),
    "other answers in the outage": (
        lambda found: setattr(found, "outage", Outage(**{**OUTAGE, "astray": 1})),
        "1 of 10 answers without the service",
    ),
    "an exposure of the outage missing": (
        lambda found: setattr(found, "outage", Outage(**{**OUTAGE, "stored": {CHECKOUT: (3, 3), BUTTON: (2, 2)}})),
        "3 users came first then",
    ),
    "an exposure of the outage stored twice": (
        lambda found: setattr(found, "outage", Outage(**{**OUTAGE, "stored": {CHECKOUT: (3, 4), BUTTON: (3, 3)}})),
        "3 users came first then",
    ),
    "a loss": (lose, "1 lost, 0 pending at the end."),
    "an account that does not add up": (forget, "11 recorded = 10 delivered + 0 lost + 0 pending."),
    "less stored than delivered": (
        lambda found: setattr(found, "summary", summary(3, 3, duplicates=3)),
        "6 stored = 10 delivered - 3",
    ),
    "another number of exposures than answers": (
        lambda found: setattr(found, "summary", summary(4, 3, duplicates=3)),
        "4 exposures stored; the answers call for 3.",
    ),
    "a purchase too few": (
        lambda found: setattr(found, "summary", summary(3, 2, duplicates=5)),
        "2 purchases stored; 3 were made.",
    ),
}


@pytest.mark.parametrize("what", SABOTAGE)
def test_a_check_fails_for(what: str) -> None:
    found = sound()
    sabotage, says = SABOTAGE[what]
    sabotage(found)
    texts = failing(found)
    assert any(says in text for text in texts), texts
    shown = "\n".join(lines(found, judge(found)))
    assert all(f"FAILS  {text}" in shown for text in texts)
    assert f"\n{len(texts)} of {len(judge(found))} checks fail." in shown
    assert to_json(found, judge(found))["holds"] is False


@pytest.mark.parametrize(
    "wrong",
    [{"why": None}, {"back_ms": [0, None]}, {"back_ms": [0, 2001]}, {"after": 1}, {"hurt": 250}],
    ids=lambda wrong: next(iter(wrong)),
)
def test_a_candidate_that_is_not_rolled_back_everywhere_and_in_time_fails_a_check(wrong: dict[str, Any]) -> None:
    found = sound()
    assert found.rollback is not None
    found.rollback = replace(found.rollback, **wrong)
    assert len(failing(found)) == 1


def test_the_findings_have_a_json_form():
    found = sound()
    again = json.loads(json.dumps(to_json(found, judge(found))))
    assert again["holds"] is True
    assert again["requests"] == 6
    assert again["shares"][0]["within"] is True


def test_a_variant_that_nobody_got_has_a_share():
    seen = {"units": 4, "exposures": 4, "variants": {"classic": {"units": 4, "exposures": 5}}}
    found = shares("kill switch", CHECKOUT, KILLED.promised, {"flags": {CHECKOUT: seen}})
    assert [(share.variant, share.units, share.exposures, share.within) for share in found] == [
        ("classic", 4, 5, True),
        ("express", 0, 0, True),
    ]


@pytest.mark.parametrize("edition", [FIRST, RAISED, KILLED, TRIED, RAMPED])
def test_every_edition_is_good_definitions(edition, tmp_path):
    path = tmp_path / "flags.json"
    edition.publish(path)
    parsed = native.parse(path.read_bytes())
    assert parsed.problems == ()
    assert parsed.definitions.version == edition.version
    assert parsed.definitions.flags[CHECKOUT].enabled is (edition.title in ("5 %", "25 %"))
    assert [each.name for each in tmp_path.iterdir()] == ["flags.json"]


@pytest.mark.parametrize("time", ["00:00:00", "12:30:00", "23:39:59", "23:40:00", "23:59:59"])
def test_no_exposure_window_turns_during_a_run(time):
    now_s = datetime.fromisoformat(f"2026-11-23T{time}").replace(tzinfo=UTC).timestamp()
    window_s = exposure_window_s(now_s)
    assert now_s // window_s == (now_s + 1199) // window_s
