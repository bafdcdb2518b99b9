"""flagkit beside PyPI's growthbook 4.0.0: random definitions and contexts are answered alike.

4.0.0 goes beyond the published specification (0.7.1) in some places, and behind it in others. Each is a row of
``DIFFERENCES``, shown by an example, and in docs/backends/growthbook.md with who is right; with those rows put right in
the library, 20,000 random features have to be answered alike. Of the extra ``peers``; skipped if not installed.
"""

from __future__ import annotations

import json
import logging
import re
import timeit
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from flagkit import Client, sources
from flagkit.decision import Decision
from flagkit.dialects import growthbook
from flagkit.dialects.growthbook_values import order
from tests.dialects.growthbook_generator import Generator

peer = pytest.importorskip("growthbook", reason="of the extra peers")
core = pytest.importorskip("growthbook.core")

Json = dict[str, Any]
DOCUMENTS, FEATURES = 2000, 10
Patch = Callable[[pytest.MonkeyPatch], None]


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    logger = logging.getLogger("growthbook")
    level = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    yield
    logger.setLevel(level)


def theirs(document: Json, attributes: Json, forced: Json | None = None) -> Any:
    copy = json.loads(json.dumps(document))
    return peer.GrowthBook(
        attributes=json.loads(json.dumps(attributes)),
        features=copy["features"],
        savedGroups=copy.get("savedGroups", {}),
        forcedVariations=forced or {},
    )


def ours(document: Json) -> Client:
    return Client(source=sources.Static(document, dialect="growthbook"), sink=None)


# -- where 4.0.0 is not what is published


def _in_order(patch: pytest.MonkeyPatch) -> None:
    def compare(one: Any, other: Any) -> int:
        found = order(one, other)
        if found is None:
            raise ValueError("in no order")
        return found

    patch.setattr(core, "compare", compare)
    patch.setattr(core, "_is_orderable", lambda one, other: True)


def _covered(patch: pytest.MonkeyPatch) -> None:
    def included(seed: str, eval_context: Any, **rule: Any) -> bool:
        coverage, bounds = rule["coverage"], rule["range"]
        if bounds is None and (coverage is None or coverage == 0):
            return coverage is None
        _, value = core._getHashValue(attr=rule["hashAttribute"], eval_context=eval_context)
        n = core.gbhash(seed, value, rule["hashVersion"] or 1) if value else None
        if n is None:
            return False
        return bool(core.inRange(n, bounds)) if bounds else bool(n <= coverage)

    patch.setattr(core, "_isIncludedInRollout", included)


def _keys(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(core, "_js_key_order", sorted)


def _unknown(patch: pytest.MonkeyPatch) -> None:
    evaluate = core._eval_operator_condition

    def evaluated(operator: str, actual: Any, wanted: Any, groups: Json, visited: Any = None) -> bool | None:
        if "egex" in operator:
            try:
                re.compile(wanted)
            except re.error:
                return None
        group = groups.get(wanted) if "Group" in operator else None
        if isinstance(group, dict) and group["type"] == "condition":
            return None
        return evaluate(operator, actual, wanted, groups, visited)  # type: ignore[no-any-return]

    patch.setattr(core, "_eval_operator_condition", evaluated)


def _rule(**rule: Any) -> Json:
    return {"features": {"f": {"defaultValue": False, "rules": [{"force": True, **rule}]}}}


#: What it is about -> what puts 4.0.0 right, a document, attributes, and our answer, which is not 4.0.0's.
DIFFERENCES: dict[str, tuple[Patch | None, Json, Json, bool]] = {
    "numbers and texts are in order": (_in_order, _rule(condition={"n": {"$gt": "5"}}), {"n": 8}, True),
    "a missing value is 0": (_in_order, _rule(condition={"age": {"$lt": 10}}), {}, True),
    "a number is a version": (_in_order, _rule(condition={"v": {"$vgte": "1.0"}}), {"v": 2}, True),
    "the end of a coverage is in": (_covered, _rule(coverage=0.459, seed="my-flag"), {"id": "user-1"}, True),
    "a fallback attribute needs a sticky bucket": (
        _covered,
        _rule(coverage=1, hashAttribute="gone", fallbackAttribute="id"),
        {"id": "user-1"},
        False,
    ),
    "an object's keys are in any order": (
        _keys,
        _rule(condition={"o": {"a": 1, "b": 2}}),
        {"o": {"b": 2, "a": 1}},
        True,
    ),
    "a pattern that is none": (_unknown, _rule(condition={"a": {"$notRegex": "("}}), {"a": "b"}, False),
    "a group that is no list": (
        _unknown,
        {
            **_rule(condition={"$not": {"a": {"$inGroup": "g"}}}),
            "savedGroups": {"g": {"type": "condition", "condition": {}}},
        },
        {"a": 1},
        False,
    ),
    "null is forced": (None, {"features": {"f": {"defaultValue": True, "rules": [{"force": None}]}}}, {}, False),
}


@pytest.mark.parametrize("about", DIFFERENCES)
def test_differences_are_known(about: str, monkeypatch: pytest.MonkeyPatch) -> None:
    patch, document, attributes, answer = DIFFERENCES[about]
    assert ours(document).enabled("f", growthbook.context(attributes)) is answer
    assert theirs(document, attributes).is_on("f") is not answer
    if patch is not None:
        patch(monkeypatch)
        assert theirs(document, attributes).is_on("f") is answer


# -- where it is


def agrees(decision: Decision, result: Any) -> bool:
    """Whether value, on, and where the answer comes from are the same."""
    experiment = result.experimentResult
    reasons = {
        "defaultValue": {"STATIC", "DEFAULT", "SPLIT"},
        "force": {"TARGETING_MATCH", "SPLIT"},
        "experiment": {"SPLIT"} if experiment and experiment.hashUsed else {"OVERRIDE"},
        "prerequisite": {"PREREQUISITE_FAILED"},
        "cyclicPrerequisite": {"ERROR"},
    }
    same = json.dumps(decision.value) == json.dumps(result.value) and decision.enabled is result.on
    if experiment is not None:
        same = same and decision.rule == result.experiment.key and decision.variant == experiment.key
    if result.ruleId and result.source == "force":
        same = same and decision.rule == result.ruleId
    return same and decision.reason.value in reasons[result.source]


def test_random_features_are_answered_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    for patch in {patch for patch, *_ in DIFFERENCES.values() if patch is not None}:
        patch(monkeypatch)
    different = []
    for seed in range(DOCUMENTS):
        generator = Generator(seed)
        document = generator.document(FEATURES)
        client = ours(document)
        assert not [problem for problem in client.status.problems if problem.refused]
        attributes, forced = generator.attributes(), generator.forced()
        context = growthbook.context({"attributes": attributes, "forcedVariations": forced})
        library = theirs(document, attributes, forced)
        for key in document["features"]:
            decision, result = client.peek(key, context), library.eval_feature(key)
            if not agrees(decision, result):
                different.append((seed, key, decision, decision.value, result.to_dict()))
    assert different == []


def test_it_is_at_least_twice_as_fast() -> None:
    condition = {"country": {"$in": ["SE", "NO"]}, "plan": "pro"}
    document = _rule(condition=condition, coverage=0.5, hashVersion=2)
    attributes = {"id": "user-7", "country": "SE", "plan": "pro"}
    client, library = ours(document), theirs(document, attributes)
    context = growthbook.context(attributes)
    mine = min(timeit.repeat(lambda: client.enabled("f", context), number=500, repeat=9))
    other = min(timeit.repeat(lambda: library.is_on("f"), number=500, repeat=9))
    assert other / mine > 2
