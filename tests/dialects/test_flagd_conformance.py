"""flagd's own test bed, through the client: value, variant, reason and error code of each of its cases."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import pytest

from flagkit import Client, sources
from flagkit.dialects import flagd
from tests.dialects.conformance import cases

BED = json.loads(cases("flagd", "cases.json").read_text(encoding="utf-8"))


@cache
def client() -> Client:
    return Client(source=sources.Static(BED["definitions"], dialect="flagd"), sink=None)


@pytest.mark.parametrize("case", BED["cases"], ids=lambda case: f"{case['flag']}-{json.dumps(case['context'])}")
def test_the_answer_is_flagd_s(case: dict[str, Any]) -> None:
    context, expected = flagd.context(case["context"]), case["expect"]
    decision = client().decide(case["flag"], context)
    before = client().status.errors.get("TYPE_MISMATCH", 0)
    value = client().value(case["flag"], context, default=case["default"])
    mismatched = client().status.errors.get("TYPE_MISMATCH", 0) > before
    error = "TYPE_MISMATCH" if mismatched else decision.error_code
    assert error == expected.get("error_code", error)  # a case that says nothing of it may end in one
    assert decision.reason == expected.get("reason", decision.reason)
    assert decision.variant == expected.get("variant", decision.variant)
    wanted = case["default"] if error else expected["value"]
    assert (value, type(value)) == (wanted, type(wanted))
