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
