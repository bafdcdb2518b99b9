"""Unleash's own Python client is asked the same questions: 20,000 random ones, and those where it is known to differ.

Skipped where it is not installed (extra ``peers``).
"""

from __future__ import annotations

import json
from random import Random
from typing import Any

import pytest

from flagkit import Client, sources
from flagkit.dialects import unleash
from tests.dialects import unleash_generator as generator

pytest.importorskip("UnleashClient", reason="needs the extra `peers`: UnleashClient")
pytest.importorskip("re2", reason="needs the extra `regex`")

DOCUMENTS, FEATURES, CONTEXTS = 200, 10, 10
Answer = tuple[bool, str, Any]


class Both:
    """One document in both clients."""

    def __init__(self, document: dict[str, Any]) -> None:
        from UnleashClient import UnleashClient
        from UnleashClient.cache import FileCache

        cache = FileCache("flagkit")
        cache.bootstrap_from_dict(document)
        self.theirs = UnleashClient(
            "http://127.0.0.1:1/api",
            "flagkit",
            cache=cache,
            disable_metrics=True,
            disable_registration=True,
            multiple_instance_mode=_many(),
        )
        self.theirs.initialize_client(fetch_toggles=False)
        self.ours = Client(source=sources.Static(document, dialect="unleash"), sink=None)

    def ask(self, feature: str, context: dict[str, Any]) -> tuple[Answer, Answer]:
        variant = self.theirs.get_variant(feature, context)
        theirs = (self.theirs.is_enabled(feature, context), variant["name"], _value(variant.get("payload")))
        made = unleash.context(context)
        decision = self.ours.decide(feature, made)
        assert self.ours.enabled(feature, made) is decision.enabled
        assert variant["feature_enabled"] is theirs[0]
        return theirs, (decision.enabled, str(decision.variant), decision.value)

    def close(self) -> None:
        self.theirs.destroy()


def _many() -> Any:
    from UnleashClient.clients.unleash_client import InstanceAllowType

    return InstanceAllowType.SILENTLY_ALLOW


def _value(payload: dict[str, str] | None) -> Any:
    if payload is None:
        return None
    return json.loads(payload["value"]) if payload["type"] in ("number", "json") else payload["value"]


@pytest.mark.full
@pytest.mark.filterwarnings("ignore")
def test_twenty_thousand_random_questions_have_the_same_answers() -> None:
    random, asked, differing = Random(20261128), 0, []
    enabled = named = 0
    for _ in range(DOCUMENTS):
        document = generator.document(random, FEATURES)
        both = Both(document)
        for context in (generator.context(random) for _ in range(CONTEXTS)):
            for feature in document["features"]:
                asked += 1
                theirs, ours = both.ask(feature["name"], context)
                enabled += ours[0]
                named += ours[1] != "disabled"
                if theirs != ours:
                    differing.append((feature, context, theirs, ours))
        both.close()
    assert asked == DOCUMENTS * FEATURES * CONTEXTS == 20_000
    assert 0.15 < enabled / asked < 0.85
    assert named / asked > 0.1
    assert [json.dumps(each, default=str, ensure_ascii=False) for each in differing[:3]] == []


def feature(*strategies: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"name": "f", "enabled": True, "strategies": list(strategies), **more}


def constrained(operator: str, *values: str, field: str = "p", **more: Any) -> dict[str, Any]:
    asked = {"contextName": field, "operator": operator, "values": list(values), **more}
    return {"name": "default", "constraints": [asked]}


def rollout(**parameters: str) -> dict[str, Any]:
    return {"name": "flexibleRollout", "parameters": {"groupId": "g", "stickiness": "default", **parameters}}


def properties(value: Any) -> dict[str, Any]:
    return {"userId": "u", "properties": {"p": value}}


ANYONE = {"name": "default"}
#: What docs/backends/unleash.md lists: a feature, a context, whether it is enabled there and here.
DIFFERENCES = [
    pytest.param(feature(constrained("IN", "true")), properties(True), False, True, id="bools-are-true-and-false"),
    pytest.param(feature(constrained("IN", "None")), properties(None), True, False, id="none-is-missing"),
    pytest.param(feature(constrained("STR_CONTAINS", "1")), properties([1]), True, False, id="lists-are-missing"),
    pytest.param(feature(constrained("NUM_GT", value="1")), properties("inf"), True, False, id="infinity-is-no-number"),
    pytest.param(
        feature(constrained("NUM_GT", value="x"), ANYONE),
        properties("1"),
        False,
        True,
        id="a-bad-bound-costs-a-strategy",
    ),
    pytest.param(
        feature({"name": "default", "segments": [404]}, ANYONE),
        {},
        False,
        True,
        id="a-missing-segment-costs-a-strategy",
    ),
    pytest.param(
        feature(constrained("STR_CONTAINS", inverted=True)),
        properties("a"),
        False,
        True,
        id="no-values-contain-nothing",
    ),
    pytest.param(feature(constrained("STR_CONTAINS", "a\\")), properties("a\\"), False, True, id="backslashes"),
    pytest.param(
        feature(constrained("SEMVER_LT", value="1.2", inverted=True)),
        properties("9.0.0"),
        True,
        False,
        id="short-versions",
    ),
    pytest.param(feature(rollout(rollout="100.0")), {"userId": "u"}, False, True, id="percentages-with-a-point"),
    pytest.param(feature(rollout(rollout="100", groupId='a"b')), {"userId": "u"}, False, True, id="quotes-in-groups"),
]


PARENT = {"name": "parent", "enabled": True, "strategies": [ANYONE]}
NOBODY = {**PARENT, "strategies": [rollout(rollout="0")], "variants": [{"name": "a", "weight": 1}]}
#: The same of features with a parent.
DIFFERENCES_OF_CHILDREN = [
    pytest.param(PARENT, {"variants": ["a"]}, True, False, id="a-parent-without-variants-serves-none"),
    pytest.param(NOBODY, {"enabled": False, "variants": ["b"]}, False, True, id="a-parent-that-is-off-serves-none"),
]


def enabled_in_both(features: list[dict[str, Any]], context: dict[str, Any]) -> tuple[bool, bool]:
    both = Both({"version": 2, "features": features, "segments": []})
    theirs, ours = both.ask("f", context)
    both.close()
    return theirs[0], ours[0]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("asked", "context", "there", "here"), DIFFERENCES)
def test_where_they_differ_is_known(asked: dict[str, Any], context: dict[str, Any], there: bool, here: bool) -> None:
    assert enabled_in_both([asked], context) == (there, here)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("parent", "wanted", "there", "here"), DIFFERENCES_OF_CHILDREN)
def test_where_they_differ_on_parents_is_known(parent: dict[str, Any], wanted: Any, there: bool, here: bool) -> None:
    child = feature(ANYONE, dependencies=[{"feature": "parent", **wanted}])
    assert enabled_in_both([parent, child], {"userId": "u"}) == (there, here)


@pytest.mark.filterwarnings("ignore")
def test_there_a_parent_without_a_group_is_hashed_by_its_child_s_name() -> None:
    parent = {**PARENT, "strategies": [{"name": "flexibleRollout", "parameters": {"rollout": "40"}}]}
    child = feature(ANYONE, dependencies=[{"feature": "parent"}])
    answers = {enabled_in_both([parent, child], {"userId": f"u{number}"}) for number in range(30)}
    assert {(True, False), (False, True)} <= answers
