"""The compiled engine and the naive interpreter give the same decisions on random documents and contexts.

A fixed-seed part runs always; ``-m full`` runs 100,000 more. Hypothesis looks for a small counterexample besides.
A failure prints the case: put it into tests/spec/decisions.json once it is understood.
"""

from __future__ import annotations

import json
from collections import Counter
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from flagkit.context import Context
from flagkit.core.explain import Explanation, explain
from flagkit.core.snapshot import Snapshot
from tests.reference import compiled, interpreter, standing
from tests.reference.strategies import Case, cases, edited, random_case

QUESTIONS = 5
STEPS = {
    "OVERRIDE": "override",
    "INVALID_CONTEXT": "context",
    "FLAG_NOT_FOUND": "definition",
    "PARSE_ERROR": "definition",
    "DISABLED": "enabled",
    "STALE": "stale",
    "PREREQUISITE_FAILED": "prerequisites",
    "EXCLUDED": "exclude",
}
searching = settings(derandomize=True, deadline=None, database=None, suppress_health_check=list(HealthCheck))


def disagreements(case: Case, snapshot: Snapshot) -> list[object]:
    """Every flag and context on which the engine and the interpreter differ; [] when they agree."""
    found: list[object] = []
    for context, forced in case.questions:
        for flag in (*case.document["flags"], "no such flag"):
            expected = interpreter.decide(case.document, flag, context, case.now_ms, forced, snapshot.stale)
            met = compiled.decided(snapshot, flag, context, forced)
            if met != expected:
                found.append({"flag": flag, "context": context, "forced": forced, "met": met, "expected": expected})
    return found


def check(case: Case, stale: frozenset[str] = frozenset()) -> None:
    snapshot = compiled.snapshot_of(case.document, case.now_ms, stale)
    assert snapshot.definitions.refused == standing.refused(case.document), case.document
    assert disagreements(case, snapshot) == [], case.document


def some_stale(case: Case, rng: Random) -> frozenset[str]:
    return frozenset(flag for flag in case.document["flags"] if rng.random() < 0.05)


def test_the_random_cases_reach_every_reason_often() -> None:
    reached: Counter[tuple[str, bool]] = Counter()
    for seed in range(300):
        case = random_case(Random(seed), QUESTIONS)
        stale = some_stale(case, Random(seed))
        for context, forced in case.questions:
            for flag in case.document["flags"]:
                answer = interpreter.decide(case.document, flag, context, case.now_ms, forced, stale)
                reached[answer["error_code"] or answer["reason"], answer["analysable"]] += 1
    assert {what for what, times in reached.items() if times >= 20} >= {
        *((reason, False) for reason in (*STEPS, "STATIC", "DEFAULT", "TARGETING_MATCH", "HOLDOUT", "SPLIT")),
        ("SPLIT", True),
    } - {("FLAG_NOT_FOUND", False), ("PARSE_ERROR", False)}
    assert reached["PARSE_ERROR", False] > 0


@pytest.mark.parametrize("block", range(3))
def test_the_engine_agrees_on_three_thousand_pairs_of_document_and_context(block: int) -> None:
    for seed in range(block * 200, block * 200 + 200):
        rng = Random(seed)
        case = random_case(rng, QUESTIONS)
        check(case, some_stale(case, rng))


@pytest.mark.full
@pytest.mark.parametrize("block", range(10))
def test_the_engine_agrees_on_a_hundred_thousand_documents_with_a_context_each(block: int) -> None:
    for seed in range(block * 10_000, block * 10_000 + 10_000):
        rng = Random(f"full {seed}")
        case = random_case(rng, 1)
        check(case, some_stale(case, rng))


@settings(searching, max_examples=150)
@given(cases())
def test_hypothesis_finds_no_small_disagreement(case: Case) -> None:
    check(case)


@pytest.mark.full
@settings(searching, max_examples=2000)
@given(cases())
def test_hypothesis_finds_no_small_disagreement_in_a_long_search(case: Case) -> None:
    check(case)


def test_a_refreshed_engine_answers_like_one_started_afresh() -> None:
    """Unchanged flags are reused: whatever changed around them must show all the same."""
    for seed in range(300):
        rng = Random(f"refresh {seed}")
        case = random_case(rng, QUESTIONS)
        snapshot = compiled.snapshot_of(case.document, case.now_ms)
        for _ in range(3):
            assert disagreements(case, snapshot) == [], case.document  # and now everything is compiled
            case = case._replace(document=edited(case.document, rng))
            definitions = compiled.parsed(case.document, snapshot.definitions)
            if definitions.refused or standing.refused(case.document):
                break  # refused flags keep their last good version, which the document alone does not show
            snapshot = snapshot.following(definitions, stale=some_stale(case, rng))


@pytest.mark.parametrize(("links", "reason"), [(32, "DEFAULT"), (33, "ERROR")])
def test_a_chain_of_32_prerequisites_is_followed_and_a_longer_one_refused(links: int, reason: str) -> None:
    flags: dict[str, Any] = {"f0": {"default": "on"}}
    for link in range(1, links + 1):
        flags[f"f{link}"] = {"default": "on", "prerequisites": [{"flag": f"f{link - 1}", "variants": ["on"]}]}
    snapshot = compiled.snapshot_of({"schema": 1, "flags": flags}, 0)
    assert compiled.decided(snapshot, f"f{links}", {"unit": "user-1"})["reason"] == reason
    assert compiled.decided(snapshot, "f32", {"unit": "user-1"})["reason"] == "DEFAULT"


def test_decide_all_says_what_decide_says() -> None:
    for seed in range(100):
        case = random_case(Random(seed), QUESTIONS)
        snapshot = compiled.snapshot_of(case.document, case.now_ms)
        for given_context, forced in case.questions:
            context = compiled.context_of(given_context)
            every = snapshot.decide_all(context, forced)
            assert set(every) == set(case.document["flags"]) - snapshot.definitions.refused
            assert all(snapshot.decide(flag, context, forced) is decision for flag, decision in every.items())


def test_the_same_outcome_is_the_same_object_and_assigns_what_it_serves() -> None:
    case = random_case(Random(1), 50)
    snapshot = compiled.snapshot_of(case.document, case.now_ms)
    outcomes: dict[str, Any] = {}
    for given_context, forced in case.questions:
        for flag in snapshot.definitions.flags:
            decision = snapshot.decide(flag, compiled.context_of(given_context), forced)
            assert outcomes.setdefault(f"{flag} {compiled.in_words(decision)}", decision) is decision
            assert decision.assigned == decision.variant


def test_explain_reaches_the_decision_by_its_own_way() -> None:
    for seed in range(150):
        rng = Random(f"explain {seed}")
        case = random_case(rng, QUESTIONS)
        snapshot = compiled.snapshot_of(case.document, case.now_ms, some_stale(case, rng))
        for context, forced in case.questions:
            for flag in (*case.document["flags"], "no such flag"):
                whole = compiled.context_of(context)
                explanation = explain(snapshot, flag, whole, forced)
                decision = snapshot.decide(flag, whole, forced)
                assert explanation.decision is decision or flag not in snapshot.definitions.flags
                assert compiled.in_words(explanation.decision) == compiled.in_words(decision)
                check_steps(explanation)
                check_findings(explanation, case, flag, context, whole)
                assert explanation.text()
                json.dumps(explanation.to_json())


def check_steps(explanation: Explanation) -> None:
    """One step decided, the last, and it is the one the decision names."""
    decision, steps = explanation.decision, explanation.steps
    assert [step.decided for step in steps] == [False] * (len(steps) - 1) + [True], explanation
    last = steps[-1]
    if decision.error_code or decision.reason in STEPS:
        assert last.name == STEPS[decision.error_code or decision.reason], explanation
    elif decision.reason == "HOLDOUT":
        assert last.name.startswith("holdout "), explanation
    elif last.name == "default":
        assert decision.reason in ("STATIC", "DEFAULT", "SPLIT"), explanation
    else:
        assert last.name == (f'rule "{decision.rule}"' if decision.rule else "targets"), explanation
    if decision.variant is not None:
        assert last.outcome.endswith(f"serves {decision.variant}"), explanation


def check_findings(explanation: Explanation, case: Case, flag: str, given: dict[str, Any], context: Context) -> None:
    """What it found of each condition is what the interpreter finds, and the bucket it shows is the unit's."""
    rules = case.document["flags"].get(flag, {}).get("rules", [])
    for index, rule in enumerate(rules):
        name = f'rule "{rule.get("name", f"rule-{index}")}"'
        for step in explanation.steps:
            if step.name == name:
                found = [finding.outcome for finding in step.findings]
                assert found == interpreter.rule_outcomes(case.document, flag, rule, given, case.now_ms), explanation
    assert explanation.unit == context.unit_text
