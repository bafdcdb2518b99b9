"""The judge at the service over time: what it goes by, what it keeps, what gives way, and what the summary shows."""

from __future__ import annotations

import json
import logging
import sqlite3
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest
from sites import READ, WRITE, Site
from tallies import packed, report, text_of

from flagkit.fleets import Trial
from flagkit.server import trials as module
from flagkit.server.trials import Trials

GUARD = {"revision": 2}
TRIAL = Trial("production", "f", 2, "on")


def document(**flag: Any) -> str:
    half = {"rules": [{"name": "half", "rollout": {"percent": 50}, "serve": "on"}], "guard": GUARD, **flag}
    return json.dumps({"schema": 1, "environment": "production", "flags": {"f": half, "free": {}}})


class Time:
    """The judge's time, as a test has it."""

    now_s = 1000.0

    def monotonic_s(self) -> float:
        return self.now_s

    def wall_ms(self) -> int:
        return int(self.now_s * 1000)

    def wait(self, *_: Any) -> bool:
        raise AssertionError("the judge does not wait")


class Court(Site):
    """A site whose judge goes by a time of its own."""

    def make(self) -> None:
        super().make()
        self.time = Time()
        service = self.service
        service.trials = Trials(service.definitions, service.chronicle, service.store, self.time)

    @property
    def trials(self) -> Trials:
        return self.service.trials

    def told(self, *reports: dict[str, Any], process: int = 1, sequence: int = 1, waited_s: float = 0.0) -> Any:
        body = {"process": f"{process:032x}", "sequence": sequence, "reports": list(reports)}
        return self.trials.exchange(json.dumps(body).encode(), "", self.time.now_s - waited_s)

    def calls(self, **fields: Any) -> Any:
        """Calls by arm, of the trial that is asked about."""
        (word,) = self.told(report(**fields))["words"]
        return json.loads(word["word"])["evidence"]["calls"]

    def restart(self) -> None:
        self.service.close()
        self.make()
        self.service.start()

    def lose_power(self) -> None:
        """End without keeping anything more, and start again."""
        self.trials._sittings.clear()
        self.restart()


@pytest.fixture
def court(tmp_path: Path) -> Iterator[Court]:
    court = Court(tmp_path, document())
    court.service.start()
    yield court
    court.service.close()


def counts(process: int = 1, failing: int = 0, calls: int = 400) -> str:
    return text_of(packed(process, failing, calls))


def verdict(court: Court, **fields: Any) -> dict[str, Any]:
    for process in range(1, 9):
        (word,) = court.told(report(counted=counts(process, failing=3), **fields), process=process)["words"]
    said: dict[str, Any] = json.loads(word["word"])
    assert "fails more often" in said["why"]
    return said


# -- what counts


def test_counts_that_have_waited_a_minute_for_their_turn_do_not_count(court: Court) -> None:
    court.told(report(counted=counts()), waited_s=60.5)
    assert court.calls() == [0, 0]
    court.told(report(counted=counts()), waited_s=59.5)
    assert court.calls() == [200, 200]


@pytest.mark.parametrize(
    ("other", "why"),
    [
        ({"revision": 1}, "the definitions have revision 2"),
        ({"flag": "none"}, "the definitions have no such flag"),
        ({"environment": "test"}, "the definitions are those of environment 'production'"),
        ({"candidate": "none"}, "the flag has no such candidate"),
        ({"candidate": "off"}, "the flag has no such candidate"),
        ({"flag": "free", "candidate": "none"}, "the flag has no such candidate"),
    ],
)
def test_what_is_not_judged_is_named_with_the_reason(court: Court, other: dict[str, Any], why: str) -> None:
    answer = court.told(report(**other, counted=counts()), report(counted=counts(2)))
    assert [word["flag"] for word in answer["words"]] == ["f"]
    asked = {name: value for name, value in report(**other).items() if name in Trial._fields}
    assert answer["left_out"] == [{**asked, "why": why}]


def test_counts_of_another_version_are_named_and_cost_nothing_else(court: Court) -> None:
    answer = court.told(report(counted=text_of(b"\xff\x00")), report(flag="free", counted=counts()))
    assert len(answer["words"]) == 2
    assert answer["left_out"] == [{**TRIAL._asdict(), "why": "the counts cannot be read by this version"}]
    assert court.calls(flag="free") == [200, 200]


def test_a_control_that_is_not_the_off_variant_is_no_candidate(court: Court) -> None:
    variants = {"variants": {"on": 1, "old": 2, "off": 0}, "off": "off", "default": "old"}
    court.edit(document(**variants, guard={**GUARD, "control": "old"}))
    answer = court.told(report(), report(candidate="old"), report(candidate="off"))
    assert [word["candidate"] for word in answer["words"]] == ["on"]


def test_a_policy_in_code_of_a_higher_revision_is_judged_but_rolls_back_nothing_of_the_file(court: Court) -> None:
    verdict(court, revision=5)
    assert court.service.definitions.served.definitions.flags["f"].tripped == {}
    assert court.calls() == [0, 0]


def test_a_verdict_is_the_end_and_says_the_same_for_good(court: Court) -> None:
    said = verdict(court)
    court.told(report(counted=counts(20, failing=1)), process=20)
    (word,) = court.told(report(), process=21)["words"]
    assert json.loads(word["word"])["why"] == said["why"]


def test_an_alert_is_told_and_nothing_is_rolled_back_until_the_policy_says_so(court: Court) -> None:
    court.edit(document(guard={**GUARD, "action": "alert"}))
    verdict(court)
    flags = court.service.definitions
    assert flags.served.definitions.flags["f"].tripped == {}
    assert court.trials.states("f")[0]["state"] == "found"
    court.edit(document())
    court.told(report())
    assert list(flags.served.definitions.flags["f"].tripped) == ["on"]


# -- what it goes by


def test_another_policy_goes_on_with_the_evidence(court: Court) -> None:
    court.told(report(counted=counts()))
    before = court.trials.states("f")[0]
    court.edit(document(guard={**GUARD, "alpha": 0.001}))
    assert court.calls() == [200, 200]
    after = court.trials.states("f")[0]
    assert after["limits"] == pytest.approx([10 * limit for limit in before["limits"]])


def test_another_control_begins_anew_and_the_first_one_is_remembered(court: Court) -> None:
    variants = {"variants": {"on": 1, "old": 2, "off": 0}, "off": "off", "default": "off"}
    court.edit(document(**variants))
    court.told(report(counted=counts()))
    court.edit(document(**variants, guard={**GUARD, "control": "old"}))
    assert court.calls() == [0, 0]
    court.edit(document(**variants))
    assert court.calls() == [200, 200]


def test_another_revision_begins_anew(court: Court) -> None:
    court.told(report(counted=counts()))
    court.edit(document(guard={"revision": 3}))
    assert court.calls(revision=3) == [0, 0]


def test_evidence_stays_through_edits_of_other_flags_and_of_the_rules(court: Court) -> None:
    court.told(report(counted=counts()))
    court.edit(document(owner="search"))
    assert court.calls() == [200, 200]
    court.edit(document(rules=[{"name": "half", "rollout": {"percent": 60}, "serve": "on"}]))
    assert court.calls() == [200, 200]


# -- what it keeps


def test_evidence_is_written_every_five_seconds_and_a_lost_machine_goes_on_from_there(court: Court) -> None:
    court.told(report(counted=counts(1)), process=1)
    court.time.now_s += 5.0
    court.told(report(counted=counts(2)), process=2)
    court.time.now_s += 4.0
    court.told(report(counted=counts(3)), process=3)
    court.lose_power()
    assert court.calls() == [400, 400]


def test_a_report_heard_before_the_restart_is_not_heard_again(court: Court) -> None:
    court.told(report(counted=counts()), sequence=5)
    court.restart()
    court.told(report(counted=counts()), sequence=5)
    assert court.calls() == [200, 200]


def test_a_verdict_is_written_at_once(court: Court) -> None:
    said = verdict(court)
    court.lose_power()
    (word,) = court.told(report())["words"]
    assert json.loads(word["word"])["why"] == said["why"]
    assert list(court.service.definitions.served.definitions.flags["f"].tripped) == ["on"]


def test_evidence_that_was_damaged_begins_anew_and_is_said(court: Court, caplog: pytest.LogCaptureFixture) -> None:
    court.told(report(counted=counts()))
    court.restart()
    court.service.store.submit(lambda connection: connection.execute("UPDATE trials SET state = x'00'")).result()
    caplog.set_level(logging.WARNING, "flagkit")
    assert court.calls() == [0, 0]
    assert "begins anew" in caplog.text


def test_a_database_that_fails_costs_nobody_an_answer(
    court: Court, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def failing(*_: Any) -> Future[None]:
        future: Future[None] = Future()
        future.set_exception(sqlite3.OperationalError("disk I/O error"))
        return future

    def unread(*_: Any) -> bytes:
        raise sqlite3.OperationalError("disk I/O error")

    monkeypatch.setattr(court.service.store, "remember", failing)
    monkeypatch.setattr(court.service.store, "trial", unread)
    court.told(report(counted=counts(1)))
    court.time.now_s += 10
    court.told(report(counted=counts(2)), process=2)
    assert court.calls() == [400, 400]
    assert "disk I/O error" in caplog.text


def test_a_database_that_hangs_is_given_so_much_and_no_more(court: Court, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[str] = []

    def hanging(place: str, *_: Any) -> Future[None]:
        given.append(place)
        return Future()

    remember = court.service.store.remember
    monkeypatch.setattr(court.service.store, "remember", hanging)
    for number in range(100):
        court.time.now_s += 20
        court.told(report(flag="free", revision=number % 2, counted=counts(1, 0, 20)), sequence=number + 1)
    assert len(given) == 64
    monkeypatch.setattr(court.service.store, "remember", remember)
    for future in court.trials._waiting:
        future.set_result(None)


def test_the_database_holds_so_many_trials_and_the_oldest_give_way(
    court: Court, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = court.service.store
    monkeypatch.setattr("flagkit.server.store._MOST_TRIALS", 3)
    for number in range(6):
        store.remember(f"place-{number}", b"state", number).result()
    assert [store.trial(f"place-{number}") is not None for number in range(6)] == [False] * 3 + [True] * 3


# -- what gives way


def test_whatever_is_reported_of_policies_in_code_the_guards_of_the_definitions_stay_in_memory(
    court: Court, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_MOST_SITTINGS", 5)
    court.told(report(counted=counts()))
    for revision in range(20):
        court.told(report(flag="free", revision=revision, counted=counts(1, 0, 20)))
    assert len(court.trials._sittings) == 5
    assert TRIAL in court.trials._sittings
    assert court.calls(flag="free", revision=0) == [10, 10], "what gave way was kept"


# -- what the summary shows


def test_the_summary_has_every_guard_of_the_definitions_and_what_code_guards(court: Court) -> None:
    court.told(report(flag="free", revision=0, counted=counts()))
    guard, free = court.get("/v1/summary", READ).json["guards"]
    assert (guard["flag"], guard["candidate"], guard["control"]) == ("f", "on", "off")
    assert (guard["state"], guard["action"], guard["why"], guard["calls"]) == ("waiting", "rollback", None, [0, 0])
    assert (free["flag"], free["state"], free["action"], free["calls"]) == ("free", "judging", None, [200, 200])
    assert court.get("/v1/summary?flag=none", READ).json["guards"] == []
    assert [each["flag"] for each in court.get("/v1/summary?flag=free", READ).json["guards"]] == ["free"]
    assert court.get("/v1/summary", WRITE).status == 401


def test_the_summary_has_calls_evidence_and_trips_also_after_a_restart(court: Court) -> None:
    said = verdict(court)
    for _ in range(2):
        (guard,) = court.get("/v1/summary?flag=f", READ).json["guards"]
        assert (guard["state"], guard["why"], guard["revision"]) == ("tripped", said["why"], 2)
        assert guard["calls"] == said["evidence"]["calls"]
        assert max(value / limit for value, limit in zip(guard["evidence"], guard["limits"], strict=True)) >= 1
        court.restart()


def test_a_revision_that_is_over_is_not_shown_any_more(court: Court) -> None:
    verdict(court)
    court.edit(document(guard={"revision": 3}))
    (guard,) = court.get("/v1/summary", READ).json["guards"]
    assert (guard["revision"], guard["state"]) == (3, "waiting")


# -- a new try


def test_reset_clears_the_trip_and_revert_brings_it_back(court: Court) -> None:
    verdict(court)
    flags = court.service.definitions
    assert court.order(kind="reset", flag="f").status == 200
    assert flags.served.definitions.flags["f"].tripped == {}
    assert json.loads(court.path.read_text())["flags"]["f"]["guard"] == {"revision": 3}
    assert court.calls(revision=3) == [0, 0]
    assert court.told(report(counted=counts()))["words"] == [], "whoever has not heard of it yet counts for nobody"
    assert court.order(kind="revert", flag="f").status == 200
    assert list(flags.served.definitions.flags["f"].tripped) == ["on"]
    changes = court.get("/v1/changes", READ).json["changes"]
    assert [(change["by"], change["command"]) for change in changes if change["flag"] == "f"][-3:] == [
        ("guard", "trip"),
        ("ann", "reset"),
        ("ann", "revert"),
    ]
