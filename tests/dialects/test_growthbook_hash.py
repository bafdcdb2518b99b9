"""GrowthBook's hash, and thresholds as whole numbers: they decide as the specification's floats do."""

from __future__ import annotations

from bisect import bisect_right

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flagkit.dialects.growthbook_hash import (
    BUCKETS,
    bucket_ranges,
    bucketing,
    choose_variation,
    code_units,
    digest,
    first_above,
    first_at,
    pieces,
    units_of,
    units_of_key,
)

TEXTS = st.text(alphabet=st.characters(), max_size=30)
SHARES = st.one_of(
    st.floats(-0.5, 1.5),
    st.integers(-1, 11_000).map(lambda n: n / 10_000),
    st.integers(0, 1000).map(lambda n: n / 1000),
)
VERSIONS = st.sampled_from((1, 2))


def plainly(seed: str, value: str, version: int) -> float:
    """The specification's words, and JavaScript's characters."""

    def fnv(text: str) -> int:
        state = 0x811C9DC5
        data = text.encode("utf-16-le", "surrogatepass")
        for at in range(0, len(data), 2):
            state = ((state ^ int.from_bytes(data[at : at + 2], "little")) * 0x01000193) % 2**32
        return state

    return fnv(value + seed) % 1000 / 1000 if version == 1 else fnv(str(fnv(seed + value))) % 10_000 / 10_000


@pytest.mark.parametrize(
    ("unit", "first", "second"), [("user-1", 0.459, 0.3435), ("user-2", 0.748, 0.3864), ("héllo", 0.274, 0.6568)]
)
def test_golden_vectors(unit: str, first: float, second: float) -> None:
    assert (digest("my-flag", unit, 1), digest("my-flag", unit, 2)) == (first, second)


@given(seed=TEXTS, value=TEXTS, version=VERSIONS)
def test_the_hash_is_the_specification_s(seed: str, value: str, version: int) -> None:
    assert digest(seed, value, version) == plainly(seed, value, version)


@pytest.mark.parametrize("version", [0, 3, 99, True, 1.0, "1", None])
def test_of_other_versions_there_is_no_hash(version: object) -> None:
    assert digest("seed", "value", version) is None
    assert bucketing("seed", version) is None


@given(key=st.text(alphabet=st.characters(exclude_categories=("Cs",)), min_size=1, max_size=20))
def test_a_unit_is_hashed_as_the_same_text_in_an_attribute(key: str) -> None:
    assert list(units_of_key(key.encode()) or b"") == list(units_of(key) or b"") == list(code_units(key))


@pytest.mark.parametrize(
    ("value", "shown"),
    [("a", "a"), (7, "7"), (-2, "-2"), (2.0, "2"), (1.5, "1.5"), (1e21, "1e+21"), (2**53 + 1, "9007199254740992")],
)
def test_what_is_hashed_of_a_value_is_javascript_s_text(value: object, shown: str) -> None:
    assert units_of(value) == shown.encode()


@pytest.mark.parametrize(
    "value", [None, "", 0, 0.0, True, False, float("nan"), float("inf"), [], {}, "x" * 1025, object(), b"a", 10**400]
)
def test_what_identifies_nobody_is_not_hashed(value: object) -> None:
    assert units_of(value) is None


@given(bound=SHARES, version=VERSIONS)
def test_thresholds_decide_as_the_floats(bound: float, version: int) -> None:
    buckets = BUCKETS[version]
    at, above = first_at(bound, buckets), first_above(bound, buckets)
    for bucket in {0, 1, buckets - 1, *range(max(0, at - 2), min(buckets, above + 2))}:
        assert (bucket >= at) is (bucket / buckets >= bound)
        assert (bucket >= above) is (bucket / buckets > bound)


@given(ranges=st.lists(st.tuples(SHARES, SHARES), max_size=5), bucket=st.integers(0, 999))
def test_pieces_choose_the_variation_that_the_ranges_do(ranges: list[tuple[float, float]], bucket: int) -> None:
    begins, owners = pieces(tuple(ranges), 1000)
    assert owners[bisect_right(begins, bucket)] == choose_variation(bucket / 1000, ranges)


@pytest.mark.parametrize(
    "weights", [None, [1], [0.5, 0.6], [1.2, -0.2], ["a", "b"], [True, False], [float("nan"), 1], {}]
)
def test_weights_that_are_none_are_equal_ones(weights: object) -> None:
    assert bucket_ranges(2, 0.5, weights) == [(0, 0.25), (0.5, 0.75)]
