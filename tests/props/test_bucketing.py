"""The hash, the bucket and the threshold: golden vectors, a second murmur3, and every three-decimal percentage."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import Any

import pytest

from flagkit.core import bucketing
from tests.reference import murmur3

GOLDEN = json.loads((Path(__file__).parents[1] / "spec" / "bucketing.json").read_text(encoding="utf-8"))
MOST = 100_000


def hash_of(vector: dict[str, Any]) -> int:
    return murmur3.murmur3_x86_32(f"{vector['salt']}:{vector['unit']}".encode(), vector["seed"])


@pytest.mark.parametrize("vector", GOLDEN["bare"], ids=lambda vector: vector["text"][:20] or "nothing")
def test_the_second_murmur3_agrees_with_the_bare_vector(vector: dict[str, Any]) -> None:
    assert murmur3.murmur3_x86_32(vector["text"].encode(), vector["seed"]) == vector["hash"]


def test_the_second_murmur3_agrees_with_every_golden_vector() -> None:
    assert [hash_of(vector) for vector in GOLDEN["vectors"]] == [vector["hash"] for vector in GOLDEN["vectors"]]


def test_the_package_puts_every_golden_vector_into_its_bucket() -> None:
    for vector in GOLDEN["vectors"]:
        assert bucketing.bucket(vector["salt"], vector["unit"].encode(), vector["seed"]) == vector["bucket"]
        assert vector["bucket"] == (vector["hash"] * MOST) >> 32


def test_the_vectors_hold_the_longest_units_salts_and_every_script() -> None:
    sizes = {len(vector["unit"].encode()) for vector in GOLDEN["vectors"]}
    assert max(sizes) == 1024
    assert max(len(vector["salt"]) for vector in GOLDEN["vectors"]) == 128
    assert any(not vector["unit"].isascii() for vector in GOLDEN["vectors"])
    assert {vector["seed"] for vector in GOLDEN["vectors"]} == {0, 1}


def test_both_murmur3_agree_on_random_bytes_of_every_length_and_seed() -> None:
    rng = Random(3)
    for length in range(300):
        key, seed = rng.randbytes(length), rng.choice((0, 1))
        expected = (murmur3.murmur3_x86_32(b"salt:" + key, seed) * MOST) >> 32
        assert bucketing.bucket("salt", key, seed) == expected


def test_every_three_decimal_percentage_is_its_number_of_buckets() -> None:
    for thousandths in range(MOST + 1):
        percent = Decimal(thousandths) / 1000
        assert bucketing.threshold(float(percent)) == thousandths
    for whole in range(101):
        assert bucketing.threshold(whole) == whole * 1000


def test_every_three_decimal_percentage_survives_a_definitions_document() -> None:
    for thousandths in range(0, MOST + 1, 7):
        for text in (f"{thousandths / 1000:.3f}", str(thousandths / 1000), f"{thousandths}e-3"):
            assert bucketing.threshold(json.loads(text)) == thousandths


@pytest.mark.parametrize(
    "percent",
    [-0.001, 100.001, 101, -1, 0.0001, 33.3333, 99.9999, 50.0005, 1e-9, float("nan"), float("inf"), True, "5"],
)
def test_what_is_no_percentage_of_three_decimals_is_refused(percent: Any) -> None:
    with pytest.raises(ValueError, match="percentage"):
        bucketing.threshold(percent)


def test_a_hash_below_the_limit_is_exactly_a_bucket_below_the_threshold() -> None:
    for threshold in range(MOST + 1):
        limit = bucketing.hash_limit(threshold)
        assert limit == 0 or ((limit - 1) * MOST) >> 32 < threshold
        assert limit == 1 << 32 or (limit * MOST) >> 32 >= threshold
    assert (bucketing.hash_limit(0), bucketing.hash_limit(MOST)) == (0, 1 << 32)
