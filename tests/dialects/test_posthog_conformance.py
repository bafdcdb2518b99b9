"""PostHog's own consistency tables, through the client: the answer for each unit, in order."""

from __future__ import annotations

import json

import pytest

from flagkit import Client, sources
from tests.dialects.conformance import cases

SUITES = json.loads(cases("posthog", "consistency.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("suite", SUITES)
def test_each_unit_gets_the_answer_that_posthog_gives(suite: str) -> None:
    flags, results = SUITES[suite]["flags"], SUITES[suite]["results"]
    client = Client(source=sources.Static({"flags": flags}, dialect="posthog"), sink=None)
    answers: list[bool | str | None] = []
    for index in range(len(results)):
        decision = client.decide(flags[0]["key"], f"distinct_id_{index}")
        answers.append({"true": True, "false": False}.get(decision.variant or "", decision.variant))
    assert answers == results
