"""What each of PostHog's operators answers: true, false, or undecided (None)."""

from __future__ import annotations

import math
from datetime import UTC, date, datetime
from typing import Any

import pytest

from flagkit.dialects.posthog_operators import Asked, made
from flagkit.dialects.posthog_regex import pattern
from flagkit.dialects.posthog_values import ABSENT, ago, text
from tests.dialects.posthogs import NOW_MS


def answer(operator: str, asked: Any, value: Any = ABSENT, *, strict: bool = False) -> bool | None:
    test = made(Asked(operator, asked, strict, lambda: NOW_MS)).test
    found = test(value) if callable(test) else test
    return None if found > 1 else bool(found)


def problem(operator: str, asked: Any) -> str | None:
    return made(Asked(operator, asked, False, lambda: NOW_MS)).problem


ROWS: list[tuple[str, Any, Any, bool | None]] = [
    # equality: text, whatever the case
    ("exact", "SE", "se", True),
    ("exact", ["SE", "NO"], "no", True),
    ("exact", ["SE", "NO"], "DK", False),
    ("exact", "5", 5, True),
    ("exact", 5, "5", True),
    ("exact", 5, 5.0, False),
    ("exact", 1.5, "1.5", True),
    ("exact", "ÅÄÖ", "åäö", True),
    ("exact", "null", None, True),
    ("exact", '["a","b"]', ["a", "b"], True),
    ("exact", {"b": 1, "a": [None]}, '{"a":[null],"b":1}', True),
    ("exact", "x", b"x", None),
    ("exact", "x", math.nan, None),
    ("is_not", "SE", "no", True),
    ("is_not", ["SE", "NO"], "NO", False),
    ("is_not", "x", None, True),
    # true and false, in whatever form
    ("exact", "true", True, True),
    ("exact", ["true"], "TRUE", True),
    ("exact", True, "yes", False),
    ("exact", False, "yes", True),
    ("exact", "false", None, True),
    ("exact", [], True, True),
    ("exact", [], "x", False),
    ("is_not", ["true"], True, False),
    ("exact", "true", b"true", None),
    # text
    ("icontains", "EXAMPLE", "user@example.com", True),
    ("icontains", "å", "Å", False),  # ASCII only
    ("icontains", "Å", "xÅy", True),
    ("icontains", "3", 1234, True),
    ("icontains", "ull", None, True),
    ("not_icontains", "x", "abc", True),
    ("not_icontains", "B", "abc", False),
    ("icontains", "", "anything", True),
    ("starts_with", "US", "user", True),
    ("not_starts_with", "US", "user", False),
    ("ends_with", ".COM", "a.com", True),
    ("not_ends_with", ".COM", "a.com", False),
    ("icontains_multi", ["x", "EX"], "an example", True),
    ("icontains_multi", ["x", "y"], "abc", False),
    ("icontains_multi", "AN", "an example", True),
    ("not_icontains_multi", ["x", "y"], "abc", True),
    # patterns
    ("regex", r"^\d+$", 123, True),
    ("regex", r"^\d+$", "123\n", False),
    ("regex", "a", None, False),
    ("not_regex", r"^\d+$", "abc", True),
    ("regex", "[", "[", False),
    ("not_regex", "[", "x", False),
    ("regex", r"(?=a)", "a", None),
    ("not_regex", r"(?=a)", "a", None),
    ("regex", r"^\w+$", "åäö", True),
    ("regex", r"^\d$", "٣", True),
    ("regex", r"a\sb", "a\u3000b", True),
    ("regex", r"\bb", "å b", None),
    ("regex", r"\bb", "a b", True),
    ("regex", "(?i)EX", "example", True),
    ("regex", "a", "\ud800", None),
    # numbers
    ("gt", 5, 6, True),
    ("gt", 5, "5.5", True),
    ("gt", "5", 5, False),
    ("gte", 5, 5, True),
    ("lt", 5, "abc", False),
    ("lte", 5, None, False),
    ("lte", 5, True, False),
    ("gt", 5, math.inf, False),
    ("gt", 5, "1e400", False),
    ("gt", "abc", 5, None),
    ("gt", True, 5, None),
    ("between", [1, 3], 1, True),
    ("between", [1, 3], "3", True),
    ("between", [1, "3"], 3.01, False),
    ("not_between", [1, 3], 0, True),
    ("not_between", [1, 3], 2, False),
    ("between", [1, 3], None, False),
    ("not_between", [1, 3], None, True),
    ("not_between", [1, 3], "abc", True),
    ("between", [1, 3], math.nan, False),
    ("not_between", [1, 3], "NaN", False),
    ("between", [3, 1], 2, None),
    ("not_between", [1], 2, None),
    ("between", 7, 2, None),
    # presence
    ("is_set", None, None, True),
    ("is_set", "is_set", "x", True),
    ("is_not_set", None, "x", False),
    ("is_not_set", "is_not_set", None, False),
    # dates
    ("is_date_before", "2022-05-01", "2022-04-30", True),
    ("is_date_before", "2022-05-01", "2022-05-01", False),
    ("is_date_after", "2022-05-01", "2022-05-01T00:00:01Z", True),
    ("is_date_after", "2022-05-01T00:00:00+02:00", "2022-04-30 22:00:01", True),
    ("is_date_after", "2022-05-01 00:00:00 +02:00", "2022-04-30 22:00:01 UTC", True),
    ("is_date_exact", "2022-05-01", "2022-05-01T02:00:00+02:00", True),
    ("is_date_exact", "2022-05-01", "2022-05-01T00:00:01Z", False),
    ("is_date_exact", "2022-05-01", 1_651_363_200, True),
    ("is_date_before", "2022-05-01", "1651363199", True),
    ("is_date_before", "2022-05-01", datetime(2022, 4, 30, 23, tzinfo=UTC), True),
    ("is_date_before", "2022-05-01", datetime(2022, 4, 30, 23), True),
    ("is_date_exact", "2022-05-01", date(2022, 5, 1), True),
    ("is_date_before", "2022-05-01", None, False),
    ("is_date_before", "2022-05-01", "soon", None),
    ("is_date_before", "2022-05-01", True, None),
    ("is_date_before", "soon", "2022-05-01", None),
    ("is_date_before", "soon", None, False),
    ("is_date_before", 2022, "2022-05-01", None),
    ("is_date_before", "-7d", "2026-11-16T09:59:59Z", True),
    ("is_date_before", "7d", "2026-11-16T10:00:01Z", False),
    ("is_date_after", "-1h", "2026-11-23T09:00:01Z", True),
    ("is_date_after", "3w", "2026-11-02T10:00:01Z", True),
    ("is_date_after", "2m", "2026-09-23T10:00:01Z", True),
    ("is_date_before", "1y", "2025-11-23T09:59:59Z", True),
    ("is_date_before", "10000d", "2025-11-23", None),
    ("is_date_before", "9999y", "2025-11-23", None),
    # versions
    ("semver_eq", "1.2.3", "v1.2.3-beta+7", True),
    ("semver_eq", "1.2", "1.2.0", True),
    ("semver_neq", "1.2.3", "1.2.4", True),
    ("semver_gt", "1.9.0", "1.10.0", True),
    ("semver_gte", "1.2.3", "1.2.3", True),
    ("semver_lt", "2", "1.99.99", True),
    ("semver_lte", "2", "2.0.1", False),
    ("semver_gt", "1", 1.5, True),
    ("semver_gt", "1", "1.2.3.4", True),
    ("semver_gt", "1", "01.2", None),
    ("semver_gt", "1", "x", None),
    ("semver_gt", "1", "", None),
    ("semver_gt", "1", None, False),
    ("semver_gt", "x", "1.0", None),
    ("semver_gt", "x", None, False),
    ("semver_tilde", "1.2.3", "1.2.9", True),
    ("semver_tilde", "1.2.3", "1.3.0", False),
    ("semver_caret", "1.2.3", "1.9.0", True),
    ("semver_caret", "0.2.3", "0.3.0", False),
    ("semver_caret", "0.0.3", "0.0.4", False),
    ("semver_wildcard", "1.*", "1.9.9", True),
    ("semver_wildcard", "1.2.*", "1.3.0", False),
    ("semver_wildcard", "1.2.3", "1.2.3", True),
    ("semver_wildcard", "1.*.*", "1.7.0", True),
    ("semver_wildcard", "*", "1.7.0", None),
    # what is no operator of properties
    ("in", [1], 1, None),
    ("flag_evaluates_to", True, True, None),
    ("sounds_like", "x", "x", None),
]


@pytest.mark.parametrize(("operator", "asked", "value", "expected"), ROWS, ids=repr)
def test_operators(operator: str, asked: Any, value: Any, expected: bool | None) -> None:
    assert answer(operator, asked, value) is expected


@pytest.mark.parametrize(
    "operator", sorted({row[0] for row in ROWS if row[3] is not None and row[0] != "is_not_set"}), ids=str
)
def test_what_the_context_lacks_is_undecided(operator: str) -> None:
    asked = next(row[1] for row in ROWS if row[0] == operator and row[3] is not None)
    assert answer(operator, asked) is None


def test_what_the_context_lacks_is_not_set() -> None:
    assert answer("is_not_set", "is_not_set") is True


@pytest.mark.parametrize("operator", ["exact", "is_not", "icontains", "regex", "gt", "between", "semver_eq"])
def test_a_filter_without_a_value_never_matches(operator: str) -> None:
    assert answer(operator, None, "x") is False
    assert problem(operator, None) == "has no value: it never matches"


def test_true_and_false_are_texts_like_others_where_the_document_says_so() -> None:
    assert answer("exact", ["true"], "yes", strict=True) is False
    assert answer("exact", "false", "yes", strict=True) is False
    assert answer("exact", "TRUE", True, strict=True) is True
    assert answer("exact", [], True, strict=True) is True


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (1e21, "1e+21"),
        (1e16, "1e+16"),
        (1e-5, "0.00001"),
        (1.5e-5, "0.000015"),
        (-1.5e-5, "-0.000015"),
        (1e-7, "1e-7"),
        (123456.789, "123456.789"),
        (5.0, "5.0"),
        (2**64, None),
        ([[]], "[[]]"),
        ({1: 2}, None),
        ("é", "é"),
        (["é\n"], '["é\\n"]'),
    ],
)
def test_values_are_written_as_posthog_s_servers_write_them(value: Any, expected: str | None) -> None:
    assert text(value) == expected


def test_values_that_nest_deep_or_go_in_circles_have_no_text() -> None:
    circle: list[Any] = []
    circle.append(circle)
    assert text(circle) is None
    assert text([0] * 100_000) is None
    assert text(10**5000) is None


@pytest.mark.parametrize(
    ("then", "amount", "unit", "expected"),
    [
        ("2026-03-31", 1, "m", "2026-02-28"),
        ("2026-03-31", 2, "m", "2026-01-28"),  # step by step: the day is lost on the way
        ("2024-02-29", 1, "y", "2023-02-28"),
        ("2024-02-29", 4, "y", "2020-02-28"),
        ("2024-03-31", 1, "m", "2024-02-29"),
        ("2026-01-15", 13, "m", "2024-12-15"),
        ("2026-01-15", 0, "m", "2026-01-15"),
    ],
)
def test_months_and_years_go_back_by_the_calendar(then: str, amount: int, unit: str, expected: str) -> None:
    def ms(day: str) -> int:
        return int(datetime.fromisoformat(day).replace(tzinfo=UTC).timestamp() * 1000)

    assert ago(amount, unit, ms(then)) == ms(expected) / 1000


def test_patterns_that_would_take_a_backtracking_engine_for_ever_do_not() -> None:
    search = pattern(r"^(a+)+$").search
    assert search is not None
    assert search("a" * 5000 + "!") is False


def test_a_pattern_s_problem_says_what_would_be_right() -> None:
    assert problem("regex", "(?<!a)b") is not None
    assert "look-around" in (problem("regex", "(?<!a)b") or "")
    assert "never matches" in (problem("regex", "(") or "")
    assert "1,024" in (problem("regex", "a" * 2000) or "")
    assert problem("regex", r"[\w.]+@[^\s]+\.com$") is None
