"""Who is enrolled, at the service: which event counts, what is served of it and when, and what there is no room for."""

from __future__ import annotations

import json
import random
import sqlite3
import threading
from collections.abc import Callable, Iterator
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest
from server_events import NOW_MS, batch, metric
from sites import READ, Answer, Site

from flagkit.cli.summary import _lines
from flagkit.server import enrolments
from flagkit.server.enrolments import Enrolment, Entering
from flagkit.server.store import Store

Json = dict[str, Any]
EARLY: Json = {"early_access": True, "rules": [{"name": "opted in", "when": [{"enrolled": True}], "serve": "on"}]}
FLAGS: Json = {"f": EARLY, "g": EARLY, "closed": {"rules": EARLY["rules"]}}


def document(**changed: Any) -> str:
    return json.dumps({"schema": 1, "environment": "production", "flags": {**FLAGS, **changed}})


def enrolment(unit: Any = "user-1", enrolled: Any = True, time_ms: int = NOW_MS, flag: Any = "f", **more: Any) -> Json:
    return metric("flagkit.enrolment", unit, time_ms, **{"properties": {"flag": flag, "enrolled": enrolled}, **more})


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    site = Site(tmp_path, document(), max_units=3)
    site.service.start()
    site.service.early_access.look()
    yield site
    site.service.close()


def post(site: Site, *events: Json) -> Answer:
    """Events that have come, and what becomes of them within a second."""
    answer = site.post(batch(*events))
    site.service.early_access.look()
    return answer


def served(site: Site) -> Any:
    return json.loads(site.service.definitions.served.body).get("enrolments")


def number(site: Site) -> int:
    return site.service.definitions.served.number


def restart(site: Site) -> None:
    site.service.close()
    site.make()
    site.service.start()


# -- what is served ----------------------------------------------------------------------------------------------------


def test_who_opts_in_is_served_beside_the_flags_with_a_number_of_its_own(site: Site) -> None:
    before = site.get("/v1/definitions", READ)
    written = site.path.read_bytes()
    answer = post(site, enrolment("user-2"), enrolment("user-1"), enrolment("user-1", flag="g"))
    assert (answer.status, answer.json["accepted"], answer.json["rejected"]) == (202, 3, [])
    assert served(site) == {"f": ["user-1", "user-2"], "g": ["user-1"]}
    after = site.get("/v1/definitions", {**READ, "If-None-Match": before.headers["etag"]})
    assert (after.status, after.json["number"], after.json["flags"]) == (200, 2, FLAGS)
    assert after.headers["etag"] != before.headers["etag"]
    assert site.path.read_bytes() == written


def test_however_many_come_they_are_one_change_and_nothing_new_is_none(site: Site) -> None:
    for unit in ("a", "b", "c"):
        site.post(batch(enrolment(unit)))
    assert (number(site), served(site)) == (1, None)
    site.service.early_access.look()
    assert (number(site), served(site)) == (2, {"f": ["a", "b", "c"]})
    post(site, enrolment("a", time_ms=NOW_MS - 1), metric(), enrolment("z", enrolled=False))
    assert number(site) == 2


def test_a_flag_that_offers_none_enrols_nobody_and_its_events_are_stored(site: Site) -> None:
    answer = post(site, enrolment(flag="closed"), enrolment(flag="none"))
    assert (answer.status, answer.json["accepted"]) == (202, 2)
    assert (number(site), served(site)) == (1, None)


def test_who_opts_out_is_served_no_more(site: Site) -> None:
    post(site, enrolment("a"), enrolment("b"))
    post(site, enrolment("a", enrolled=False, time_ms=NOW_MS))
    assert served(site) == {"f": ["b"]}
    post(site, enrolment("b", enrolled=False))
    assert served(site) is None


def test_edits_of_the_file_switches_and_trips_keep_it(site: Site) -> None:
    post(site, enrolment("a"))
    site.edit(document(new={}))
    assert served(site) == {"f": ["a"]}
    assert site.order(kind="kill", flag="new").status == 200
    assert served(site) == {"f": ["a"]}
    site.edit("{")
    assert site.service.definitions.switch_off({"closed"})
    assert served(site) == {"f": ["a"]}
    post(site, enrolment("b"))  # the file is bad, and people enrol all the same
    assert served(site) == {"f": ["a", "b"]}
    assert json.loads(site.service.definitions.served.body)["flags"]["closed"]["enabled"] is False


def test_it_rests_while_the_flag_offers_none_and_comes_back_with_the_offer(site: Site) -> None:
    post(site, enrolment("a"))
    site.edit(document(f=FLAGS["closed"]))
    assert served(site) is None
    site.edit(document())
    assert served(site) == {"f": ["a"]}


def test_a_file_copied_from_what_was_served_enrols_nobody(site: Site) -> None:
    copied = {**json.loads(document()), "enrolments": {"f": ["somebody"], "none": ["x"]}, "version": "2"}
    site.edit(json.dumps(copied))
    assert (site.service.definitions.ok, served(site)) == (True, None)


def test_a_restart_forgets_nothing_and_makes_no_new_number(site: Site) -> None:
    post(site, enrolment("a"), enrolment("b"), enrolment("b", enrolled=False, time_ms=NOW_MS))
    before = site.service.definitions.served
    restart(site)
    assert site.service.definitions.served.etag == before.etag
    post(site, enrolment("b", time_ms=NOW_MS - 5))  # late: it was opted out after that
    assert served(site) == {"f": ["a"]}
    assert number(site) == before.number


def test_a_list_that_is_emptied_by_hand_stays_empty_though_its_events_come_again(site: Site) -> None:
    events = [enrolment(unit) for unit in "abcd"]
    post(site, *events)
    site.service.close()
    connection = sqlite3.connect(site.config.db)
    connection.executescript("DELETE FROM enrolments WHERE flag = 'f'; DELETE FROM enrolled WHERE flag = 'f';")
    connection.close()
    site.make()
    site.service.start()
    post(site, *events)
    assert served(site) is None
    post(site, enrolment("e"))
    assert served(site) == {"f": ["e"]}


def test_changes_of_who_is_enrolled_are_not_in_the_history_of_changes(site: Site) -> None:
    post(site, enrolment("a"))
    assert site.get("/v1/changes", READ).json["changes"] == []


def test_the_service_decides_for_others_by_it_too(site: Site) -> None:
    post(site, enrolment("a"))
    body = json.dumps({"context": {"targetingKey": "a"}}).encode()
    answer = site.call("POST", "/ofrep/v1/evaluate/flags/f", {**READ, "content-type": "application/json"}, [body])
    assert (answer.status, answer.json["value"]) == (200, True)


def test_who_enrols_while_the_store_fails_is_served_when_it_works_again(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.post(batch(enrolment("a")))
    with monkeypatch.context() as broken:
        broken.setattr(site.service.store, "members", failing)
        site.service.early_access.look()
        assert served(site) is None
    site.service.early_access.look()
    assert served(site) == {"f": ["a"]}


class SteppingClock:
    """Runs when somebody waits; ends the wait for good after a number of rounds."""

    def __init__(self, rounds: int, at: Callable[[int], object]) -> None:
        self.now_s = 0.0
        self.waits: list[float] = []
        self._rounds = rounds
        self._at = at

    def monotonic_s(self) -> float:
        return self.now_s

    def wall_ms(self) -> int:
        return NOW_MS

    def wait(self, event: threading.Event, timeout_s: float) -> bool:
        self._at(len(self.waits))
        self.waits.append(timeout_s)
        self.now_s += timeout_s
        return len(self.waits) > self._rounds


def test_it_is_looked_at_once_a_second_and_less_often_when_that_takes_long(site: Site) -> None:
    clock = SteppingClock(4, lambda round_: site.post(batch(enrolment(f"user-{round_}"))) if round_ in (1, 3) else None)

    def take_long(before: Any, after: Any) -> None:
        if "user-3" in after.body.decode():
            clock.now_s += 0.5

    site.service.definitions.listeners.append(take_long)
    site.service.early_access.watch(threading.Event(), clock)
    assert clock.waits == [1.0, 1.0, 1.0, 1.0, 5.0]
    assert served(site) == {"f": ["user-1", "user-3"]}


def test_watching_goes_on_after_whatever_one_look_did(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    def fail_once(before: Any, after: Any) -> None:
        site.service.definitions.listeners.remove(fail_once)
        raise RuntimeError("a listener's")

    site.service.definitions.listeners.insert(0, fail_once)
    site.post(batch(enrolment("a")))
    clock = SteppingClock(2, lambda round_: None)
    site.service.early_access.watch(threading.Event(), clock)
    assert served(site) == {"f": ["a"]}
    assert "a listener's" in caplog.text


def failing() -> Any:
    raise sqlite3.OperationalError("database or disk is full")


# -- which event counts ------------------------------------------------------------------------------------------------


def test_the_latest_word_counts_in_whatever_order_and_however_often_they_come(tmp_path: Path) -> None:
    said = [(True, 1), (False, 2), (True, 3), (False, 4)]
    for case, order in enumerate(permutations(range(4))):
        with Entered(tmp_path / f"{case}.db") as entered:
            for index in (*order, *order):
                enrolled, time_ms = said[index]
                entered.enter(Enrolment(bytes([index]), "f", "u", enrolled, time_ms))
            assert entered.members() == {}
            assert entered.counts() == [("f", 0, 1, 0, 0)]


def test_of_two_of_the_same_millisecond_the_one_that_opts_out_counts(tmp_path: Path) -> None:
    for case, order in enumerate(([True, False], [False, True])):
        with Entered(tmp_path / f"{case}.db") as entered:
            for index, enrolled in enumerate(order):
                entered.enter(Enrolment(bytes([index]), "f", "u", enrolled, 5))
            assert entered.members() == {}


def test_counts_are_those_of_the_rows_whatever_has_come(tmp_path: Path) -> None:
    chance = random.Random(7)
    with Entered(tmp_path / "x.db", max_units=6) as entered:
        for index in range(1500):
            flag, unit = chance.choice("fg"), f"é{chance.randrange(12)}"
            entered.enter(
                Enrolment(index.to_bytes(2), flag, unit, chance.random() < 0.6, chance.randrange(index + 1)), index
            )
            members = entered.members()
            assert all(len(units) <= 6 for units in members.values())
        for flag, units, _, size, refused in entered.counts():
            assert units == len(members.get(flag, []))
            assert size == sum(len(json.dumps(unit)) + 1 for unit in members.get(flag, []))
            assert refused > 0


def test_a_clock_in_the_future_does_not_have_the_last_word(site: Site) -> None:
    far = enrolment("a", time_ms=253_402_300_799_999)
    post(site, far)
    assert served(site) == {"f": ["a"]}
    post(site, enrolment("a", enrolled=False, time_ms=NOW_MS))
    assert served(site) is None
    post(site, far)  # delivered again, later: it has counted
    assert served(site) is None


@pytest.mark.parametrize(
    ("event", "reason"),
    [
        (enrolment(properties={}), "invalid_enrolment"),
        (enrolment(properties={"flag": "f"}), "invalid_enrolment"),
        (enrolment(properties={"flag": "f", "enrolled": True, "more": 1}), "invalid_enrolment"),
        (enrolment(enrolled=1), "invalid_enrolment"),
        (enrolment(enrolled="true"), "invalid_enrolment"),
        (enrolment(unit=None), "invalid_enrolment"),
        (enrolment(**{"feature_flag.context.id": ""}), "invalid_enrolment"),
        (enrolment(**{"feature_flag.context.id": "x" * 1025}), "invalid_unit"),
        (enrolment(flag=7), "invalid_flag"),
        (enrolment(flag=""), "invalid_flag"),
        (enrolment(flag="x" * 300), "invalid_flag"),
        (enrolment(flag=["f"]), "invalid_flag"),
        (enrolment(properties=[]), "invalid_properties"),
        (enrolment(time_ms=-1), "invalid_time"),
    ],
)
def test_what_is_no_enrolment_is_refused_alone(site: Site, event: Json, reason: str) -> None:
    answer = post(site, event, enrolment("good"))
    assert [each["reason"] for each in answer.json["rejected"]] == [reason]
    assert served(site) == {"f": ["good"]}


def test_units_may_be_whatever_a_unit_may_be(site: Site) -> None:
    odd = ["\u0000", '"],"x":["', "é" * 500]
    post(site, *[enrolment(unit) for unit in odd])
    assert site.service.definitions.served.definitions.enrolled["f"].units == {unit.encode() for unit in odd}


# -- what there is no room for -----------------------------------------------------------------------------------------


def test_past_max_units_enrolment_is_refused_and_counted_and_opting_out_makes_room(site: Site) -> None:
    post(site, *[enrolment(unit) for unit in "abcde"], enrolment("a", flag="g"))
    assert served(site) == {"f": ["a", "b", "c"], "g": ["a"]}
    assert site.get("/healthz").json["enrolments"] == {"units": 4, "refused": 2}
    summary = site.get("/v1/summary", READ).json
    assert summary["max_units"] == 3
    assert summary["early_access"] == {
        "f": {"enrolled": 3, "opted_out": 0, "refused": 2},
        "g": {"enrolled": 1, "opted_out": 0, "refused": 0},
    }
    post(site, enrolment("a", enrolled=False))
    post(site, enrolment("e", time_ms=NOW_MS))
    assert served(site) == {"f": ["b", "c", "e"], "g": ["a"]}
    assert site.get("/v1/summary?flag=f", READ).json["early_access"] == {
        "f": {"enrolled": 3, "opted_out": 1, "refused": 2}
    }


def test_all_together_take_no_more_of_the_definitions_than_they_may(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(enrolments, "MOST_BYTES", 20)
    with Entered(tmp_path / "x.db") as entered:
        for index, unit in enumerate(("1234", "12345", "1234")):
            entered.enter(Enrolment(bytes([index]), "fgf"[index], unit, True, index))
        entered.enter(Enrolment(b"x", "g", "123", True, 9))  # 7 + 8 + 6 bytes
        entered.enter(Enrolment(b"y", "g", "1", True, 9))
        assert entered.members() == {"f": ["1234"], "g": ["1", "12345"]}
        assert [row[-1] for row in entered.counts()] == [0, 1]


class Entered:
    """A store in which events are entered by hand."""

    def __init__(self, path: Path, max_units: int = 100) -> None:
        self._store = Store(path, lambda: NOW_MS)
        self._max_units = max_units

    def __enter__(self) -> Entered:
        self._store.open()
        return self

    def __exit__(self, *_: object) -> None:
        self._store.close()

    def enter(self, event: Enrolment, now_ms: int = NOW_MS) -> None:
        offered = frozenset("fg")
        self._store.submit(
            lambda connection: Entering(connection, offered, self._max_units).enter([event], now_ms)
        ).result()

    def members(self) -> dict[str, list[str]]:
        return self._store.members()

    def counts(self) -> list[Any]:
        rows: list[Any] = self._store.submit(
            lambda connection: connection.execute("SELECT * FROM enrolled ORDER BY flag").fetchall()
        ).result()
        return rows


# -- feedback ----------------------------------------------------------------------------------------------------------


def feedback(unit: str = "u", value: float | None = None, **said: Any) -> Json:
    return metric("flagkit.feedback", unit, NOW_MS, value, properties={"flag": "f", **said})


def test_the_summary_has_feedback_by_flag_and_variant(site: Site) -> None:
    deep = {"flag": "f", "deep": json.loads("[" * 900 + "]" * 900)}
    post(
        site,
        feedback("a", 4, variant="on", text="good"),
        feedback("a", 2, variant="on"),
        feedback("b", None, variant="off", text="bad"),
        feedback("c", 1),
        metric("other", "a", properties=deep),
    )
    assert site.get("/v1/summary", READ).json["feedback"] == {
        "f": {
            "": {"units": 1, "events": 1, "scores": 1, "mean": 1.0, "texts": 0},
            "off": {"units": 1, "events": 1, "scores": 0, "mean": None, "texts": 1},
            "on": {"units": 1, "events": 2, "scores": 2, "mean": 3.0, "texts": 1},
        }
    }
    assert site.get("/v1/summary?flag=g", READ).json["feedback"] == {}


def test_flagkit_summary_shows_both(site: Site) -> None:
    post(site, *[enrolment(unit) for unit in "abcd"], enrolment("z", enrolled=False))
    post(site, feedback("a", 4, variant="on", text="good"), feedback("b", variant="off", text="bad"))
    lines = list(_lines(site.get("/v1/summary", READ).json, hourly=False))
    assert lines[2:8] == [
        "feedback  variant  units  events  with score  mean  with text",
        "f         off          1       1           0     -          1",
        "f         on           1       1           1     4          1",
        "",
        "early access  enrolled  opted out  no room",
        "f                    3          1        1",
    ]


@pytest.mark.parametrize(
    "said",
    [
        {"flag": None},
        {"flag": 7},
        {"variant": ["on"]},
        {"version": 1},
        {"text": 1},
        {"text": "x" * 2001},
        {"text": "\ud800"},
        {"more": {}},
    ],
    ids=repr,
)
def test_what_is_no_feedback_is_refused_alone(site: Site, said: Json) -> None:
    answer = post(site, feedback(**said), feedback("good", 1))
    assert [each["reason"][:8] for each in answer.json["rejected"]] == ["invalid_"]
    assert site.get("/v1/summary", READ).json["feedback"]["f"][""]["events"] == 1
