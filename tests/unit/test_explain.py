"""Explanations: every step up to the one that decided, for a person and as JSON."""

from __future__ import annotations

import json
from typing import Any

import pytest
from documents import HALF, ON, SPLIT, document, parsed, rollout, snapshot, when
from fakes import WALL_MS

from flagkit.context import Context
from flagkit.core.bucketing import bucket
from flagkit.core.explain import Explanation, Finding, explain
from flagkit.core.model import Definitions
from flagkit.core.snapshot import Snapshot
from flagkit.decision import Reason
from flagkit.dialects import native

Json = dict[str, Any]
USER = Context("user-1", {"country": "SE", "plan": "pro"})
COUNTRY: Json = {"attribute": "country", "op": "in", "values": ["NO", "SE"]}


def explained(flag: Json, context: Context = USER, forced: Any = None, **head: Any) -> Explanation:
    answers = snapshot({"f": flag, "parent": ON, "off": {}}, **head)
    explanation = explain(answers, "f", context, forced)
    assert explanation.decision is answers.decide("f", context, forced)
    assert [step.decided for step in explanation.steps] == [False] * (len(explanation.steps) - 1) + [True]
    assert json.loads(json.dumps(explanation.to_json(), allow_nan=False)) == explanation.to_json()
    return explanation


def steps(explanation: Explanation) -> list[tuple[str, str]]:
    return [(step.name, step.outcome) for step in explanation.steps]


FULL: Json = {
    "prerequisites": [{"flag": "parent", "variants": ["on"]}],
    "exclude": [{"attribute": "plan", "op": "in", "values": ["free"]}],
    "targets": {"on": ["user-9"]},
    "rules": [
        {"name": "canary", "when": [COUNTRY], "rollout": {"percent": 0}, "serve": "on"},
        {"name": "opted in", "when": [{"enrolled": True}], "serve": "on"},
        {"name": "rest", "when": [{**COUNTRY, "not": True}], "serve": "on"},
    ],
}


def test_every_step_is_shown_in_the_order_of_precedence() -> None:
    assert steps(explained(FULL, holdouts={"h": {"percent": 0, "flags": ["*"]}})) == [
        ("prerequisites", "all hold"),
        ("exclude", "not excluded"),
        ("targets", "not a target"),
        ('rule "opted in"', "does not match"),
        ('holdout "h"', "not held out"),
        ('rule "canary"', "matches, but the rollout leaves the unit out"),
        ('rule "rest"', "does not match"),
        ("default", "serves off"),
    ]


@pytest.mark.parametrize(
    ("flag", "context", "last"),
    [
        ({"enabled": False}, USER, ("enabled", "false: serves off")),
        (ON, USER, ("default", "serves on")),
        (ON, Context(None), ("context", "None is not a unit")),
        ({"prerequisites": [{"flag": "off", "variants": ["on"]}]}, USER, ("prerequisites", "serves off")),
        ({"exclude": [COUNTRY]}, USER, ("exclude", "serves off")),
        ({"exclude": [COUNTRY]}, Context("u"), ("exclude", "serves off")),
        ({"targets": {"on": ["user-1"]}}, USER, ("targets", "serves on")),
        (when(COUNTRY), USER, ('rule "rule-0"', "serves on")),
        (rollout(100), USER, ('rule "rule-0"', "serves on")),
        (rollout(100), Context(), ("default", "serves off")),
    ],
)
def test_the_last_step_is_the_one_that_decided(flag: Json, context: Context, last: tuple[str, str]) -> None:
    assert steps(explained(flag, context))[-1] == last


def test_an_override_says_so_and_nothing_else() -> None:
    assert steps(explained(FULL, forced={"f": True})) == [("override", "serves on")]


def test_a_holdout_shows_where_the_unit_fell() -> None:
    explanation = explained(ON, holdouts={"h": {"percent": 100, "flags": ["*"], "salt": "held"}})
    assert steps(explanation) == [('holdout "h"', "serves off")]
    (found,) = explanation.steps[0].buckets
    assert found == ("unit", "held", bucket("held", b"user-1"), 0, 100_000)


def test_a_condition_shows_what_it_asked_of_what_and_the_outcome() -> None:
    rule = explained(when({"attribute": "plan", "op": "starts_with", "values": ["x", "y"], "not": True})).steps[0]
    assert rule.findings == (Finding('not plan starts_with ["x", "y"]', True, "'pro'"),)


def test_unknown_is_told_from_false() -> None:
    findings = [
        explained(when({"attribute": "plan", "op": "in", "values": ["free"]}), Context("u", attributes))
        .steps[0]
        .findings[0]
        for attributes in ({"plan": "pro"}, {"plan": 7.5}, {"plan": None}, {})
    ]
    assert [finding.outcome for finding in findings] == [False, False, None, None]
    assert [finding.operand for finding in findings] == ["'pro'", "7.5", "None", "None"]


def test_nested_conditions_and_segments_are_shown_within() -> None:
    condition = {"any": [{"segment": "team"}, {"not": {"all": [COUNTRY]}}]}
    (finding,) = explained(when(condition), segments={"team": {"all": [COUNTRY]}}).steps[0].findings
    assert (finding.condition, finding.outcome) == ("any of", True)
    team, opposite = finding.inner
    assert (team.condition, team.outcome) == ("in segment team", True)
    assert team.inner
    assert (opposite.condition, opposite.outcome) == ("not all of", False)


def test_a_rollout_shows_the_bucket_and_the_threshold() -> None:
    explanation = explained({**HALF, "salt": "pepper"})
    (found,) = explanation.steps[0].buckets
    assert found == ("unit", "pepper", bucket("pepper", b"user-1"), 0, 50_000)
    assert found.is_in == (explanation.decision.variant == "on")


def test_a_rollout_by_another_attribute_says_which_and_when_it_is_missing() -> None:
    flag = rollout(50, by=["organization", "id"])
    inside = explained(flag, Context("u", {"organization": {"id": 7}}))
    assert inside.steps[0].buckets[0][:3] == ("organization.id", "f", bucket("f", b"7"))
    assert explained(flag).steps[0].outcome == "no unit to bucket by organization.id"


def test_a_split_shows_the_share_the_unit_fell_into() -> None:
    explanation = explained(SPLIT)
    (found,) = explanation.steps[0].buckets
    assert found.bucket == bucket("f", b"user-1", 1)
    assert (found.low, found.high) in [(0, 50_000), (50_000, 100_000)]
    assert found.is_in


def test_a_layer_shows_the_slot() -> None:
    spot = bucket("layer", b"user-1") // 1000
    layers = {"layer": {"slots": {"f": [spot + 1, 100]} if spot < 99 else {"f": [0, spot]}}}
    first = explained(rollout(100), layers=layers).steps[0]
    assert first.outcome == 'outside the flag’s slot in layer "layer"'
    assert first.buckets[0].salt == "layer"
    assert not first.buckets[0].is_in


def test_steps_of_a_rollout_show_the_share_of_today() -> None:
    ramp = [
        {"from": "2026-01-01", "percent": 10},
        {"from": "2026-06-01", "percent": 30},
        {"from": "2030-01-01", "percent": 90},
    ]
    explanation = explained({"rules": [{"rollout": {"steps": ramp}, "serve": "on"}]})
    assert explanation.steps[0].buckets[0].high == 30_000


def test_a_trip_is_shown() -> None:
    definitions = native.parse(document({"f": ON})).definitions
    answers = Snapshot(definitions, now_ms=lambda: WALL_MS, trips={"f": {"on": "off"}})
    explanation = explain(answers, "f", USER)
    assert explanation.decision.reason is Reason.GUARD
    assert "off" in explanation.steps[-1].outcome


def test_stale_definitions_are_shown() -> None:
    definitions = native.parse(document({"f": HALF})).definitions
    answers = Snapshot(definitions, now_ms=lambda: WALL_MS, stale=frozenset({"f"}))
    assert steps(explain(answers, "f", USER)) == [("stale", "the definitions are too old: serves off")]


def test_a_flag_that_is_not_there_is_told_from_a_bad_one_and_from_one_not_loaded_yet() -> None:
    read = parsed({"bad": {"enabled": "yes"}})
    answers = Snapshot(read.definitions, now_ms=lambda: WALL_MS)
    assert steps(explain(answers, "ghost", USER)) == [("definition", "no such flag")]
    assert steps(explain(answers, "bad", USER)) == [("definition", "refused: see the problems at load")]
    empty = Snapshot(Definitions({}), now_ms=lambda: WALL_MS, ready=False)
    ((_, outcome),) = steps(explain(empty, "f", USER))
    assert outcome != "no such flag"


def test_the_text_is_for_a_person() -> None:
    lines = explained({**HALF, "version": 3}).text().splitlines()
    assert lines[0].startswith("f = ")
    assert "SPLIT" in lines[0]
    assert lines[0].endswith("for unit 'user-1'")
    assert sum(line.startswith("→") for line in lines) == 1
    assert any("of 100,000" in line for line in lines)
    assert "no unit" in explained(ON, Context()).text().splitlines()[0]


def test_json_holds_the_same() -> None:
    shown = explained(FULL, Context("user-1", {"country": float("nan"), "plan": {1, 2}})).to_json()
    assert (shown["flag"], shown["unit"], shown["variant"]) == ("f", "user-1", "off")
    assert [step["decided"] for step in shown["steps"]].count(True) == 1
    (asked,) = shown["steps"][1]["conditions"]
    assert asked == {"condition": 'plan in ["free"]', "outcome": False, "operand": "{1, 2}"}


@pytest.mark.parametrize("flag", [None, 7, [], {}])
def test_a_flag_that_is_no_string_is_explained_as_one_that_is_not_there(flag: Any) -> None:
    assert explain(snapshot({"f": ON}), flag, USER).decision.reason is Reason.ERROR


def test_operands_are_cut_and_hostile_ones_named() -> None:
    class Rude:
        def __repr__(self) -> str:
            raise RuntimeError

    for value in ("x" * 10_000, Rude()):
        (finding,) = explained(when({"attribute": "a", "op": "exists"}), Context("u", {"a": value})).steps[0].findings
        assert finding.operand is not None
        assert len(finding.operand) <= 128
