"""What ``flagkit lint`` finds in definitions alone."""

from __future__ import annotations

import json
from datetime import date
from typing import Any

import pytest

from flagkit.cli.review import review
from flagkit.core.model import Definitions
from flagkit.dialects import native

RAMP = {"rollout": {"percent": 5}, "serve": "on"}


def definitions(**flags: Any) -> Definitions:
    rest = {name: flags.pop(name) for name in ("layers", "holdouts", "segments") if name in flags}
    document = {"schema": 1, **rest, "flags": {key.replace("_", "-"): flag for key, flag in flags.items()}}
    parsed = native.parse(json.dumps(document).encode())
    assert [str(problem) for problem in parsed.problems if problem.refused] == []
    return parsed.definitions


def steps(*each: tuple[str, float]) -> dict[str, Any]:
    return {"steps": [{"from": day, "percent": percent} for day, percent in each]}


def codes(found: Definitions, *, strict: bool = False, today: str = "2026-11-23") -> set[str]:
    return {finding.code for finding in review(found, date.fromisoformat(today), strict=strict)}


@pytest.mark.parametrize(
    ("expires", "today", "expected"),
    [
        ("2026-11-23", "2026-11-23", set()),
        ("2026-11-23", "2026-11-24", {"expired"}),
        ("2026-11-23T23:30:00-05:00", "2026-11-24", set()),
        ("2026-11-23T23:30:00-05:00", "2026-11-25", {"expired"}),
    ],
)
def test_a_flag_is_expired_when_its_day_is_over(expires: str, today: str, expected: set[str]) -> None:
    assert codes(definitions(x={"expires": expires, "rules": [RAMP]}), today=today) == expected


@pytest.mark.parametrize(
    ("flag", "serves"),
    [
        ({}, "off"),
        ({"enabled": False, "rules": [RAMP]}, "off"),
        ({"default": "on"}, "on"),
        ({"rules": [{"serve": "on"}]}, "on"),
        ({"rules": [{"rollout": {"percent": 100}, "serve": "on"}]}, "on"),
        ({"rules": [{"rollout": {"percent": 0}, "serve": "on"}]}, "off"),
        ({"rules": [{"when": [{"enrolled": True}], "serve": "on"}, {"serve": "on"}, RAMP]}, "on"),
        ({"targets": {"on": ["u"]}, "rules": [{"serve": "on"}]}, "on"),
        ({"rules": [{"rollout": steps(("2026-11-01", 100)), "serve": "on"}]}, "on"),
        ({"rules": [{"split": [{"variant": "on", "weight": 1}, {"variant": "off", "weight": 0}]}]}, "on"),
    ],
)
def test_a_flag_that_serves_everyone_the_same_is_finished(flag: dict[str, Any], serves: str) -> None:
    found = [each for each in review(definitions(x=flag), date(2026, 11, 23)) if each.code == "one-way"]
    assert [each.message.split('"')[1] for each in found] == [serves]


@pytest.mark.parametrize(
    "flag",
    [
        {"rules": [RAMP]},
        {"targets": {"on": ["u"]}},
        {"exclude": [{"attribute": "a", "op": "exists"}], "rules": [{"serve": "on"}]},
        {"rules": [{"rollout": {"percent": 100, "by": "company"}, "serve": "on"}]},
        {"rules": [{"rollout": steps(("2026-12-01", 100)), "serve": "on"}]},
        {"rules": [{"rollout": steps(("2026-11-01", 100), ("2026-12-01", 5)), "serve": "on"}]},
        {"kind": "ops", "rules": [{"serve": "on"}]},
        {"rules": [{"when": [{"enrolled": True}], "serve": "on"}]},
    ],
)
def test_a_flag_that_may_still_answer_differently_is_not_finished(flag: dict[str, Any]) -> None:
    assert "one-way" not in codes(definitions(x=flag))


def test_holdouts_slots_and_prerequisites_keep_a_flag_from_being_finished() -> None:
    on = {"rules": [{"rollout": {"percent": 100}, "serve": "on"}]}
    assert codes(definitions(x=on)) == {"one-way"}
    assert codes(definitions(x=on, holdouts={"h": {"percent": 1, "flags": ["*"]}})) == set()
    assert codes(definitions(x=on, holdouts={"h": {"percent": 0, "flags": ["*"]}})) == {"one-way"}
    assert codes(definitions(x=on, layers={"l": {"slots": {"x": [0, 50]}}})) == set()
    assert codes(definitions(x=on, layers={"l": {"slots": {"x": [0, 100]}}})) == {"one-way"}
    both = definitions(x={**on, "prerequisites": [{"flag": "y", "variants": ["on"]}]}, y={"rules": [RAMP]})
    assert codes(both) == set()


PLAN = {"attribute": "plan", "op": "in", "values": ["enterprise"]}
SWEDEN = {"attribute": "country", "op": "in", "values": ["SE"]}


@pytest.mark.parametrize(
    ("rules", "default", "expected"),
    [
        ([{"when": [PLAN], "serve": "off"}, RAMP], "off", True),
        ([{"when": [PLAN, SWEDEN], "serve": "off"}, {"when": [SWEDEN], "serve": "on"}], "off", True),
        ([{"when": [PLAN], "serve": "off"}, {"split": [{"variant": "on", "weight": 1}]}], "off", True),
        ([{"when": [PLAN], "serve": "off"}], "on", True),
        ([{"when": [PLAN], "serve": "off"}, {"when": [SWEDEN], "serve": "on"}], "off", False),
        ([{"when": [PLAN], "serve": "off"}, {"when": [PLAN], "serve": "on"}], "off", False),
        ([RAMP, {"when": [PLAN], "serve": "off"}], "off", False),
        ([{"rollout": {"percent": 10}, "serve": "off"}, {"serve": "on"}], "off", False),
        ([{"when": [PLAN], "serve": "on"}, RAMP], "off", False),
    ],
)
def test_a_rule_that_serves_off_above_a_wider_one_should_be_an_exclude(
    rules: list[dict[str, Any]], default: str, expected: bool
) -> None:
    assert ("off-above-wider" in codes(definitions(x={"rules": rules, "default": default}))) is expected


def test_strict_asks_release_flags_for_an_owner_and_a_date() -> None:
    bare = definitions(x={"rules": [RAMP]}, y={"rules": [RAMP], "kind": "permission"})
    assert codes(bare) == set()
    assert codes(bare, strict=True) == {"no-owner", "no-expiry"}
    assert codes(definitions(x={"rules": [RAMP], "owner": "a", "expires": "2027-01-01"}), strict=True) == set()
