"""PostHog's documents: what a mistake costs, what is reused, and what is refused whole."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest

from flagkit import Context
from flagkit.core.model import Definitions
from flagkit.core.snapshot import Snapshot
from flagkit.dialects import Parsed
from flagkit.dialects.document import Document
from flagkit.dialects.posthog import parse
from flagkit.errors import DefinitionsError
from tests.dialects.posthogs import NOW_MS, document, flag, in_cohort, matching, serves, when

Json = dict[str, Any]


def read(*flags: Any, previous: Definitions | None = None, **head: Any) -> Parsed:
    return parse(json.dumps(document(*flags, **head)).encode(), previous)


def refusal(data: Any, previous: Definitions | None = None) -> DefinitionsError:
    with pytest.raises(DefinitionsError) as raised:
        parse(data if isinstance(data, bytes) else json.dumps(data).encode(), previous)
    return raised.value


def on(definitions: Definitions, key: str = "f") -> bool:
    return Snapshot(definitions, now_ms=lambda: NOW_MS).decide(key, Context("u")).enabled


# -- mistakes


MISTAKES: list[tuple[Any, str, str]] = [
    ({"filters": 7}, "filters", "an object"),
    ({"active": "yes"}, "active", "true or false"),
    ({"filters": {"groups": {}}}, "filters.groups", "an array"),
    ({"filters": {"groups": [7]}}, "filters.groups[0]", "an object"),
    ({"filters": {"groups": [{"rollout_percentage": 101}]}}, "filters.groups[0].rollout_percentage", "0 to 100"),
    ({"filters": {"groups": [{"rollout_percentage": "5"}]}}, "filters.groups[0].rollout_percentage", "0 to 100"),
    ({"filters": {"groups": [{"rollout_percentage": True}]}}, "filters.groups[0].rollout_percentage", "0 to 100"),
    ({"filters": {"groups": [{"variant": 7}]}}, "filters.groups[0].variant", "a variant"),
    ({"filters": {"groups": [{"properties": [7]}]}}, "filters.groups[0].properties[0]", "an object"),
    ({"filters": {"groups": [{"properties": [{"value": 1}]}]}}, "filters.groups[0].properties[0].key", "a property"),
    (
        {"filters": {"groups": [{"properties": [{"key": "a", "operator": 7}]}]}},
        "filters.groups[0].properties[0].operator",
        "a string",
    ),
    ({"filters": {"multivariate": {"variants": [{}]}}}, "filters.multivariate.variants[0].key", "a key"),
    ({"filters": {"payloads": []}}, "filters.payloads", "an object"),
    ({"filters": {"aggregation_group_type_index": "0"}}, "filters.aggregation_group_type_index", "group type"),
    ({"filters": {"holdout": {"id": "x", "exclusion_percentage": 1}}}, "filters.holdout.id", "a whole number"),
    ({"filters": {"feature_enrollment": "yes"}}, "filters.feature_enrollment", "true or false"),
]


@pytest.mark.parametrize(("wrong", "path", "expected"), MISTAKES, ids=lambda value: str(value)[:60])
def test_a_bad_flag_costs_that_flag_one_update(wrong: Json, path: str, expected: str) -> None:
    good = read(flag("f", matching()), flag("g", matching()))
    found = read({**flag("f"), **wrong}, flag("g"), previous=good.definitions)
    assert on(found.definitions, "f")
    assert found.definitions.flags["f"] is good.definitions.flags["f"]
    assert not on(found.definitions, "g")
    problem, *_ = [each for each in found.problems if each.refused]
    assert (problem.path, problem.flag) == (f"$.flags[0].{path}", "f")
    assert expected in problem.message


def test_a_bad_flag_without_a_good_version_is_known_to_be_bad() -> None:
    found = read({**flag("f"), "filters": 7}, flag("g"))
    assert found.definitions.refused == {"f"}
    decision = Snapshot(found.definitions, now_ms=lambda: NOW_MS).decide("f", Context("u"))
    assert decision.error_code == "PARSE_ERROR"


def test_turning_a_flag_off_is_never_refused() -> None:
    good = read(flag("f", matching())).definitions
    for previous in (good, None):
        found = read({"key": "f", "active": False, "filters": 7}, flag("g"), previous=previous).definitions
        assert not found.flags["f"].enabled
        assert not on(found)
    twice = read(flag("f", matching()), flag("f", matching(), active=False), previous=good).definitions
    assert not twice.flags["f"].enabled


def test_a_flag_that_stands_twice_keeps_its_previous_version() -> None:
    good = read(flag("f", matching()))
    found = read(flag("f"), flag("f", matching(percentage=0)), previous=good.definitions)
    assert on(found.definitions)
    assert [problem.message for problem in found.problems] == ["the flag stands twice"]


@pytest.mark.parametrize("bad", [7, None, {}, {"key": ""}, {"key": "\ud800"}, {"key": "k" * 401}, {"key": 7}])
def test_what_has_no_key_is_a_problem_of_nobody(bad: Any) -> None:
    found = read(bad, flag("f", matching()))
    assert on(found.definitions)
    assert found.definitions.refused <= {"#0"}
    assert found.problems[0].path.startswith("$.flags[0]")


def test_a_document_in_which_most_is_bad_is_refused() -> None:
    good = read(*(flag(f"f{index}") for index in range(20)))
    bad = [{**flag(f"f{index}"), "filters": 7} for index in range(8)]
    error = refusal(document(*bad, flag("f9", active=False)), good.definitions)
    assert "8 of 9 flags are bad" in str(error)
    assert error.off == {"f9"}


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"<html>",
        b"[]",
        b"{}",
        b'{"flags": {}}',
        b'{"flags": null}',
        b'{"flags": [}',
        b'{"flags": [1,]}',
        b'{"flags": [1 2]}',
        b'{"flags": [',
        b'{"flags": [], "flags": []}',
        b'{"flags": [], "cohorts": []}',
        b'{"flags": [], "group_type_mapping": {"0": 7}}',
        b'{"flags": [], "group_type_mapping": [1]}',
        b'{"detail": "Invalid personal API key."}',
    ],
)
def test_a_malformed_document_is_refused_whole(data: bytes) -> None:
    assert refusal(data).problems


def test_an_answer_that_says_the_quota_is_used_up_is_refused() -> None:
    error = refusal({"flags": [], "quotaLimited": ["feature_flags"]})
    assert "quota" in str(error)
    assert on(read(flag("f", matching()), quotaLimited=["recordings"]).definitions)


def test_flags_that_vanish_all_at_once_are_taken_for_an_accident() -> None:
    good = read(*(flag(f"f{index}") for index in range(12))).definitions
    assert "12 of 12" in str(refusal(document(), good))
    assert "7 of 12" in str(refusal(document(*(flag(f"f{index}") for index in range(5))), good))
    assert len(read(*(flag(f"f{index}") for index in range(6)), previous=good).definitions.flags) == 6
    assert read().definitions.flags == {}


def test_a_bad_cohort_is_as_unknown_as_a_static_one() -> None:
    found = read(flag("f", matching(in_cohort(1))), flag("g", matching()), cohorts={"1": {"type": "XOR", "values": []}})
    decision = Snapshot(found.definitions, now_ms=lambda: NOW_MS).decide("f", Context("u"))
    assert (decision.error_code, decision.rule) == ("GENERAL", "static cohort")
    assert found.problems[0].path == "$.cohorts.1"
    assert on(found.definitions, "g")


def test_paths_count_flags_wherever_they_stand_in_the_document() -> None:
    found = parse(json.dumps({"cohorts": {"1": {}}, "x": 1, "flags": [flag("g"), {"key": "f", "filters": 7}]}).encode())
    assert found.problems[0].path == "$.flags[1].filters"


def test_what_is_not_known_of_a_flag_or_a_document_is_read_over() -> None:
    told = {**flag("f", matching()), "team_id": 2, "evaluation_runtime": "all", "super_groups": None, "x": {"y": 1}}
    found = read(told, unheard_of={"z": 1}, minimal_flag_called_events=False)
    assert on(found.definitions)
    assert found.problems == ()


def test_bounds_hold() -> None:
    many = [{"key": f"v{index}", "rollout_percentage": 0} for index in range(1001)]
    deep: Any = 1
    for _ in range(40):
        deep = [deep]
    for wrong in (
        {"groups": [{}] * 1001},
        {"groups": [{"properties": [when("a", "exact", 1)] * 501}] * 4},
        {"multivariate": {"variants": many}},
        {"groups": [{"properties": [when("a", "exact", deep)]}]},
        {"multivariate": {"variants": [{"key": "v", "rollout_percentage": 1}]}, "payloads": {"v": json.dumps(deep)}},
    ):
        assert read({**flag("f"), "filters": wrong}, flag("g")).definitions.refused == {"f"}


# -- what a flag brings along


def test_what_posthog_s_events_tell_of_a_flag_travels_with_it() -> None:
    told = flag("f", id=12, version=7, has_experiment=False, name="A flag")
    definition = read(told).definitions.flags["f"]
    assert definition.telemetry == {"id": 12, "version": 7, "has_experiment": False}
    assert (definition.version, definition.description) == ("7", "A flag")
    short = read(told, minimal_flag_called_events=True).definitions.flags["f"]
    assert short.telemetry["minimal"] is True
    for kept in ({"has_experiment": True}, {"has_experiment": None}):
        assert "minimal" not in read({**told, **kept}, minimal_flag_called_events=True).definitions.flags["f"].telemetry


def test_the_flags_that_a_flag_asks_for_are_known() -> None:
    cohorts = {"1": {"type": "OR", "values": [serves("q", True)]}}
    found = read(flag("f", matching(serves("p", True), in_cohort(1))), flag("p"), flag("q"), cohorts=cohorts)
    assert [each.flag for each in found.definitions.flags["f"].prerequisites] == ["p", "q"]


# -- reuse


def test_unchanged_flags_are_the_same_objects() -> None:
    flags = [flag(f"f{index}", matching(percentage=index)) for index in range(30)]
    before = read(*flags).definitions
    changed = [*flags]
    changed[7] = flag("f7", matching(percentage=99))
    del changed[20]
    changed.insert(3, flag("new"))
    changed[10], changed[11] = changed[11], changed[10]
    after = read(*changed, previous=before).definitions
    same = {key for key in after.flags if after.flags[key] is before.flags.get(key)}
    assert after.flags.keys() - same == {"f7", "new"}
    assert [*after.flags] == [told["key"] for told in changed]


def test_a_number_that_becomes_true_is_a_change() -> None:
    before = read(flag("f", matching(when("a", "exact", 1)))).definitions
    after = read(flag("f", matching(when("a", "exact", True))), previous=before).definitions
    assert after.flags["f"] is not before.flags["f"]


def test_a_cohort_that_changes_makes_new_flags_of_those_that_depend_on_it() -> None:
    cohorts = {
        "1": {"type": "AND", "values": [in_cohort(2)]},
        "2": {"type": "AND", "values": [when("a", "exact", "1")]},
    }
    flags = [flag("f", matching(in_cohort(1))), flag("g", matching(in_cohort(2))), flag("h", matching())]
    before = read(*flags, cohorts=cohorts).definitions
    assert read(*flags, cohorts=cohorts, previous=before).definitions.flags == before.flags
    cohorts["2"]["values"] = [when("a", "exact", "2")]
    after = read(*flags, cohorts=cohorts, previous=before).definitions
    assert [after.flags[key] is before.flags[key] for key in "fgh"] == [False, False, True]
    snapshot = Snapshot(after, now_ms=lambda: NOW_MS)
    assert snapshot.decide("f", Context("u", {"a": "2"})).enabled


def test_unchanged_cohorts_are_the_same_objects_and_what_was_made_of_them_is_shared() -> None:
    cohorts = {str(index): {"type": "AND", "values": [when("a", "exact", str(index))]} for index in range(3)}
    flags = [flag(f"f{index}", matching(in_cohort(index))) for index in range(3)]
    before = read(*flags, cohorts=cohorts).definitions
    again = read(*flags, flag("g", matching(in_cohort(1))), cohorts=cohorts, previous=before).definitions
    assert again.entries["around"]["around"] is before.entries["around"]["around"]
    cohorts["2"]["values"] = []
    after = read(*flags, cohorts=cohorts, previous=again).definitions
    old, new = (each.entries["around"]["around"].cohorts.known for each in (again, after))
    assert [new[key] is old[key] for key in "012"] == [True, True, False]
    snapshot = Snapshot(after, now_ms=lambda: NOW_MS)
    assert [snapshot.decide(f"f{index}", Context("u", {"a": "1"})).enabled for index in range(3)] == [False, True, True]


def test_a_bad_cohort_stays_bad_in_the_next_document() -> None:
    bad = {"1": {"type": "XOR", "values": []}}
    first = read(flag("f", matching(in_cohort(1))), cohorts=bad)
    second = read(flag("f", matching(in_cohort(1))), cohorts=bad, previous=first.definitions)
    assert second.problems == first.problems


def test_group_types_and_ways_of_matching_are_part_of_every_flag() -> None:
    before = read(flag("f", matching(when("a", "exact", "true")))).definitions
    for head in ({"group_type_mapping": {"0": "team"}}, {"property_matching_version": 2}):
        after = read(flag("f", matching(when("a", "exact", "true"))), previous=before, **head).definitions
        assert after.flags["f"] is not before.flags["f"]


def test_definitions_of_another_dialect_are_replaced() -> None:
    from flagkit.dialects import native

    before = native.parse(b'{"schema": 1, "flags": {"f": {"default": "on"}}}').definitions
    assert on(read(flag("f", matching()), previous=before).definitions)


# -- lists, entry by entry


def test_lists_are_read_as_json_reads_them_however_they_are_written() -> None:
    chance = random.Random(7)
    known: dict[str, Any] = {}
    for _ in range(300):
        items = [{"n": chance.randrange(30), "t": "a" * chance.randrange(3)} for _ in range(chance.randrange(6))]
        data = json.dumps({"x": 1, "list": items, "y": []}, indent=chance.choice((None, 1))).encode()
        found, texts = [], {}
        for entry in Document(data, {"list": known}, lists=frozenset({"list"})).entries():
            if entry.section == "list":
                value = entry.value if entry.known is None else entry.known
                found.append(value)
                texts[entry.text or next(text for text, made in known.items() if made == value)] = value
        assert found == items
        known = texts
