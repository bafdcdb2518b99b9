"""What has tripped is served whatever becomes of the file, until a guard has a higher revision."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sites import Site

WHY = "fails more often"
GUARDED = {"rules": [{"name": "half", "rollout": {"percent": 50}, "serve": "on"}], "guard": {"revision": 2}}


def document(**flag: Any) -> str:
    return json.dumps({"schema": 1, "environment": "production", "flags": {"f": {**GUARDED, **flag}, "g": {}}})


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    site = Site(tmp_path, document())
    site.service.start()
    assert site.service.definitions.trip("f", 2, "on", WHY)
    yield site
    site.service.close()


def restart(site: Site) -> None:
    site.service.close()
    site.make()
    site.service.start()


def guard(site: Site) -> Any:
    return json.loads(site.service.definitions.served.body)["flags"]["f"].get("guard")


def tripped(site: Site) -> Any:
    return dict(site.service.definitions.served.definitions.flags["f"].tripped)


def test_a_trip_is_served_in_the_guard_with_a_number_of_its_own(site: Site) -> None:
    assert guard(site) == {"revision": 2, "tripped": {"on": WHY}}
    assert site.service.definitions.served.number == 2
    assert site.service.definitions.ok


@pytest.mark.parametrize(
    ("flag", "revision", "variant"),
    [("none", 2, "on"), ("g", 0, "on"), ("f", 1, "on"), ("f", 3, "on"), ("f", 2, "none"), ("f", 2, "on")],
)
def test_what_is_not_there_or_has_tripped_already_changes_nothing(
    site: Site, flag: str, revision: int, variant: str
) -> None:
    assert not site.service.definitions.trip(flag, revision, variant, "again")
    assert site.service.definitions.served.number == 2
    assert tripped(site) == {"on": WHY}


RULES = {"half": {"percent": 5, "shares": {"on": 1}}}


def test_what_is_held_is_served_and_kept_as_a_trip_is(site: Site) -> None:
    assert site.service.definitions.hold("f", 2, RULES, "it hurts")
    assert not site.service.definitions.hold("f", 2, {"half": {"percent": 1, "shares": {"on": 1}}}, "again")
    for _ in range(2):
        assert guard(site) == {"revision": 2, "tripped": {"on": WHY}, "held": {"rules": RULES, "why": "it hurts"}}
        restart(site)
    site.edit(document(owner="search"))
    assert guard(site)["held"]["rules"] == RULES
    site.edit(document(guard={"revision": 3}))
    assert guard(site) == {"revision": 3}


@pytest.mark.parametrize(("flag", "revision"), [("none", 2), ("g", 0), ("f", 1), ("f", 3)])
def test_a_hold_of_what_is_not_there_changes_nothing(site: Site, flag: str, revision: int) -> None:
    assert not site.service.definitions.hold(flag, revision, RULES, "it hurts")
    assert site.service.definitions.served.number == 2


@pytest.mark.parametrize(
    "edit",
    [
        {"owner": "search"},
        {"guard": {"revision": 2, "alpha": 0.05}},
        {"guard": {"revision": 1}},
        {"guard": {}},
        {"enabled": False},
        {"rules": []},
    ],
)
def test_edits_that_raise_no_revision_clear_nothing(site: Site, edit: dict[str, Any]) -> None:
    for _ in range(2):
        site.edit(document(**edit))
        assert site.service.definitions.ok
        assert tripped(site) == {"on": WHY}
        restart(site)
        assert tripped(site) == {"on": WHY}
        site.edit(document())


def test_a_higher_revision_clears_it_for_good(site: Site) -> None:
    site.edit(document(guard={"revision": 3}))
    assert guard(site) == {"revision": 3}
    restart(site)
    assert tripped(site) == {}


def test_a_raised_revision_that_is_taken_back_brings_it_back(site: Site) -> None:
    site.edit(document(guard={"revision": 3}))
    restart(site)
    site.edit(document())
    assert tripped(site) == {"on": WHY}


def test_after_the_file_was_taken_back_the_next_revision_clears_it(site: Site) -> None:
    site.edit(document(guard={"revision": 0}))
    restart(site)
    assert tripped(site) == {"on": WHY}
    site.edit(document(guard={"revision": 1}))
    assert tripped(site) == {}


def test_a_flag_that_is_away_for_a_while_is_back_as_it_was(site: Site) -> None:
    site.edit(json.dumps({"schema": 1, "environment": "production", "flags": {"g": {}}}))
    assert "f" not in site.service.definitions.served.definitions.flags
    restart(site)
    site.edit(document())
    assert tripped(site) == {"on": WHY}


def test_a_flag_without_a_guard_has_no_trip(site: Site) -> None:
    site.edit(json.dumps({"schema": 1, "environment": "production", "flags": {"f": {}}}))
    assert guard(site) is None
    assert site.service.definitions.ok


@pytest.mark.parametrize("mistake", [{"revision": "3"}, {"revision": 3, "alpha": 7}, {"revsion": 3}, 7, None, []])
def test_a_mistake_in_the_guard_is_no_new_try(site: Site, mistake: Any) -> None:
    site.edit(document(guard=mistake))
    assert guard(site) == {"revision": 2, "tripped": {"on": WHY}}
    assert site.service.definitions.problems
    restart(site)
    assert tripped(site) == {"on": WHY}
    site.edit(document(guard={"revision": 3}))
    assert tripped(site) == {}


def test_a_variant_that_is_gone_costs_the_flag_no_guard(site: Site) -> None:
    variants = {"variants": {"new": 1, "off": 0}, "off": "off", "default": "off", "rules": []}
    site.edit(document(**variants))
    served = site.service.definitions.served.definitions.flags["f"]
    assert (served.tripped, served.remarks) == ({}, ())
    assert served.guard is not None
    site.edit(document())
    assert tripped(site) == {"on": WHY}


def test_a_second_candidate_trips_beside_the_first(site: Site) -> None:
    variants = {"variants": {"on": 1, "other": 2, "off": 0}, "off": "off", "default": "off"}
    site.edit(document(**variants))
    assert site.service.definitions.trip("f", 2, "other", "slower")
    assert tripped(site) == {"on": WHY, "other": "slower"}


def test_a_database_that_cannot_be_written_does_not_keep_a_candidate_served(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.edit(document(guard={"revision": 3}))

    def full(*_: Any) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(site.service.store, "accept", full)
    assert site.service.definitions.trip("f", 3, "on", WHY)
    assert tripped(site) == {"on": WHY}
