"""``fractional``: golden vectors of both versions, the canonical CBOR behind the third, and what has no share.

Vectors of version 3 were made with PyPI's openfeature-flagd-core 2.0.0; those of the encoding
are RFC 8949's, appendix A.
"""

from __future__ import annotations

import json
import math
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mmh3 import mmh3_32_uintdigest

from flagkit import Client, Context, sources
from flagkit.decision import Decision, Reason
from flagkit.dialects.flagd_cbor import encoded
from flagkit.dialects.flagd_fractional import limits_of, share, share_of

SHARES = [["a", 25], ["b", 25], ["c", 25], ["d", 25]]
CANONICAL: list[tuple[Any, str]] = [
    (0, "00"),
    (23, "17"),
    (24, "1818"),
    (255, "18ff"),
    (256, "190100"),
    (1_000_000, "1a000f4240"),
    (1_000_000_000_000, "1b000000e8d4a51000"),
    (18446744073709551615, "1bffffffffffffffff"),
    (-1, "20"),
    (-1000, "3903e7"),
    (-(2**63), "3b7fffffffffffffff"),
    (1.5, "f93e00"),
    (65504.0, "19ffe0"),  # whole: an integer
    (2.0**63, "1b8000000000000000"),
    (2.0**64, "fa5f800000"),  # beyond 64 bits: a float again
    (3.4028234663852886e38, "fa7f7fffff"),
    (5.960464477539063e-08, "f90001"),
    (1.1, "fb3ff199999999999a"),
    (math.inf, "f97c00"),
    (math.nan, "f97e00"),
    (False, "f4"),
    (True, "f5"),
    ("", "60"),
    ("IETF", "6449455446"),
    ("ü", "62c3bc"),
    ([], "80"),
    ([1, [2, 3], None], "83018202 03f6".replace(" ", "")),
    ({"b": 1, "a": [True], "aa": 2}, "a3616181f561620162616102"),
]


def answer(targeting: Any, context: Any, dialect: str = "flagd", default: str | None = "z") -> Decision:
    """What a flag ``my-flag`` with the variants a to d and z decides."""
    flag = {"state": "ENABLED", "variants": {v: v for v in "abcdz"}, "defaultVariant": default, "targeting": targeting}
    client = Client(source=sources.Static({"flags": {"my-flag": flag}}, dialect=dialect), sink=None)
    assert client.status.problems == ()
    return client.decide("my-flag", context)


@pytest.mark.parametrize(("unit", "bucket"), [("user-1", 26), ("user-2", 31), ("héllo", 75)])
def test_version_2_hashes_the_flag_s_key_and_the_targeting_key(unit: str, bucket: int) -> None:
    assert mmh3_32_uintdigest(f"my-flag{unit}".encode()) * 100 >> 32 == bucket
    decision = answer({"fractional": SHARES}, Context(unit))
    assert (decision.variant, decision.reason) == ("abcd"[bucket // 25], Reason.TARGETING_MATCH)


@pytest.mark.parametrize(
    ("key", "bucket"),
    [("user-1", 33), ("user-2", 3), ("héllo", 8), (24, 43), (1.5, 8), (True, 19), ([1, "a", None], 12)],
)
def test_version_3_hashes_the_canonical_cbor_of_a_key_of_any_kind(key: Any, bucket: int) -> None:
    rule = {"fractional": [{"var": "key"}, *[[v, 1] for v in "abcd"]]}
    assert answer(rule, Context("u", {"key": key}), "flagd-v3").variant == "abcd"[bucket * 4 // 100]


def test_version_3_hashes_the_list_of_both_keys() -> None:
    assert encoded(["my-flag", "user-1"]) == bytes.fromhex("82676d792d666c616766757365722d31")
    assert answer({"fractional": SHARES}, Context("user-1"), "flagd-v3").variant == "b"  # bucket 25 of 100


def test_a_targeting_key_named_is_hashed_as_one_read_from_the_context() -> None:
    for dialect in ("flagd", "flagd-v3"):
        for number in range(50):
            unit = f"unit-{number}"
            named = answer({"fractional": [{"var": "targetingKey"}, *SHARES]}, Context(unit), dialect)
            read = answer({"fractional": [{"var": "id"}, *SHARES]}, Context("else", {"id": unit}), dialect)
            assert named.variant == read.variant


@pytest.mark.parametrize(("value", "expected"), CANONICAL, ids=lambda each: str(each)[:30])
def test_the_encoding_is_canonical(value: Any, expected: str) -> None:
    assert (encoded(value) or b"").hex() == expected


def test_what_is_no_json_value_has_no_encoding() -> None:
    circle: list[Any] = []
    circle.append(circle)
    for value in (None, object(), b"bytes", {1: 2}, 2**64, -(2**65), "\ud800", circle, "x" * 70_000):
        assert encoded(value) is None


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text(st.characters(codec="utf-8")),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(st.characters(codec="utf-8")), inner, max_size=4)
    ),
    max_leaves=20,
)


@given(JSON_VALUES)
def test_the_encoding_is_that_of_cbor2(value: Any) -> None:
    cbor2 = pytest.importorskip("cbor2", reason="of the extra peers")

    def whole(each: Any) -> Any:
        if isinstance(each, float) and each.is_integer() and -(2.0**63) <= each < 2.0**64:
            return int(each)
        if isinstance(each, list):
            return [whole(item) for item in each]
        return {key: whole(item) for key, item in each.items()} if isinstance(each, dict) else each

    assert encoded(value) == (None if value is None else cbor2.dumps(whole(value), canonical=True))


@given(st.lists(st.integers(-5, 1000), min_size=1, max_size=8), st.integers(0, 2**32 - 1))
def test_the_share_is_the_first_whose_weights_summed_exceed_the_bucket(weights: list[int], found: int) -> None:
    total = sum(max(0, weight) for weight in weights)
    expected, reached = None, 0
    for index, weight in enumerate(weights):
        reached += max(0, weight)
        if expected is None and total and reached > (found * total) >> 32:
            expected = index
    assert share_of(found, weights) == expected
    assert share(found, [[index, weight] for index, weight in enumerate(weights)]) == expected


@pytest.mark.parametrize("weights", [[], [0, 0], [-1], [2**31 - 1, 1], [1.5], [True], ["1"], [None]])
def test_weights_that_are_none_have_no_shares(weights: list[Any]) -> None:
    assert limits_of(weights) is None


def test_the_largest_sum_of_weights_has_shares() -> None:
    assert limits_of([2**31 - 2, 1.0]) == [2**32 - 2, 2**32]


def test_raising_a_weight_at_the_expense_of_the_next_moves_nobody_who_is_in() -> None:
    units = [Context(f"unit-{number}") for number in range(300)]
    served = [[answer({"fractional": [["a", n], ["b", 100 - n]]}, unit).variant for unit in units] for n in (5, 20, 50)]
    for few, more in pairwise(served):
        assert all(after == "a" for before, after in zip(few, more, strict=True) if before == "a")


@pytest.mark.parametrize(
    "rule",
    [
        [{"var": "absent"}, ["a", 1], ["b", 1]],
        [{"var": "list"}, ["a", 1]],
        [["a", 0], ["b", 0]],
        [["a", 1.5]],
        [["a", "1"]],
        [["a", 1, 2]],
        [[]],
        ["key"],
        ["key", "a"],
        [],
        "key",
    ],
)
def test_where_there_is_no_share_the_default_applies(rule: Any) -> None:
    decision = answer({"fractional": rule}, Context("user-1", {"list": ["a"]}))
    assert (decision.variant, decision.reason, decision.analysable) == ("z", Reason.DEFAULT, False)


def test_without_a_unit_there_is_no_share() -> None:
    assert answer({"fractional": SHARES}, Context()).reason is Reason.DEFAULT
    assert answer({"fractional": SHARES}, Context(attributes={"targetingKey": "user-1"})).variant == "b"


def test_a_negative_weight_is_none() -> None:
    assert answer({"fractional": [["a", -50], ["b", 100]]}, Context("u")).variant == "b"


def test_many_shares_are_found_too() -> None:
    entries = [["abcd"[index % 4], index % 7] for index in range(200)]
    for number in range(50):
        key = f"key-{number}"
        bucket = mmh3_32_uintdigest(key.encode()) * sum(weight for _, weight in entries) >> 32
        index = next(i for i in range(len(entries)) if sum(weight for _, weight in entries[: i + 1]) > bucket)
        assert answer({"fractional": [key, *entries]}, Context("u")).variant == entries[index][0]


# -- what may be compared


def test_the_units_of_shares_may_be_compared_and_those_left_out_with_them() -> None:
    rule = {"if": [{"==": [{"var": "country"}, "SE"]}, {"fractional": [["a", 50], [None, 50]]}, "b"]}
    placed = {answer(rule, Context(f"unit-{number}", {"country": "SE"})) for number in range(40)}
    assert {(d.variant, d.reason.value, d.rule, d.analysable) for d in placed} == {
        ("a", "TARGETING_MATCH", "if[1].fractional", True),
        ("z", "DEFAULT", "if[1].fractional", True),
    }
    elsewhere = answer(rule, Context("u"))
    assert (elsewhere.variant, elsewhere.rule, elsewhere.analysable) == ("b", "if[2]", False)


def test_a_share_asked_as_a_condition_places_units_in_both_branches() -> None:
    rule = {"if": [{"fractional": [[True, 30], [False, 70]]}, "a", "b"]}
    placed = {answer(rule, Context(f"unit-{number}")) for number in range(40)}
    assert {(d.variant, d.rule, d.analysable) for d in placed} == {("a", "if[1]", True), ("b", "if[2]", True)}
    assert not answer(rule, Context()).analysable
    beside = {"if": [{"and": [{"var": "beta"}, {"fractional": [[True, 1]]}]}, "a", "b"]}
    assert not answer(beside, Context("u", {"beta": True})).analysable


def test_a_ramp_by_the_time_may_be_compared_weights_by_attributes_may_not() -> None:
    ramp = {"fractional": [["a", {"-": [{"var": "$flagd.timestamp"}, 1000]}], ["b", 10]]}
    by_tier = {"fractional": [["a", {"if": [{"==": [{"var": "tier"}, "gold"]}, 100, 1]}], ["b", 10]]}
    variant_by_tier = {"fractional": [[{"var": "tier"}, 50], ["b", 50]]}
    assert answer(ramp, Context("u")).analysable
    assert not answer(by_tier, Context("u", {"tier": "gold"})).analysable
    assert not answer(variant_by_tier, Context("u", {"tier": "a"})).analysable


def test_the_cases_of_the_protocol_hold_for_a_plain_mapping_too() -> None:
    rule = json.loads('{"fractional": [["a", 1], ["b", 1]]}')
    for number in range(20):
        unit = f"unit-{number}"
        assert answer(rule, {"unit": unit}).variant == answer(rule, Context(unit)).variant
