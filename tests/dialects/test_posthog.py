"""PostHog's flags: who gets what, why, and what is left undecided."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest

from flagkit import Client, Context, sources
from flagkit.decision import Reason
from flagkit.dialects.posthog import context
from flagkit.dialects.posthog_bucketing import prefix, rollout_bound, sha1, variant_bound
from flagkit.dialects.posthog_compile import _maker
from tests.dialects.posthogs import (
    cause,
    client,
    decided,
    flag,
    in_cohort,
    matching,
    serves,
    snapshot,
    variant,
    when,
)

EVERYBODY = matching()
THREE = {"variants": [{"key": key, "rollout_percentage": share} for key, share in (("a", 30), ("b", 30), ("c", 40))]}
SCALE = float(0xFFFFFFFFFFFFFFF)
MISSING = ("INVALID_CONTEXT", "missing context")
UNSUPPORTED = ("GENERAL", "unsupported definition")
STATIC = ("GENERAL", "static cohort")


def fraction(text: str) -> float:
    """PostHog's formula, word for word."""
    return int(hashlib.sha1(text.encode()).hexdigest()[:15], 16) / SCALE


# -- bucketing


@pytest.mark.parametrize(
    ("unit", "rollout", "split"),
    [
        ("user-1", 0.16342791562465697, 0.03834367294165884),
        ("user-2", 0.4128555680609123, 0.0065865150785721135),
        ("héllo", 0.3709468557221163, 0.015482249526943385),
    ],
)
def test_golden_vectors(unit: str, rollout: float, split: float) -> None:
    assert fraction(f"my-flag.{unit}") == rollout
    assert fraction(f"my-flag.{unit}variant") == split
    digest = sha1(prefix("my-flag") + unit.encode()).digest()
    for percentage in (rollout * 100, rollout * 100 - 1e-12, rollout * 100 + 1e-12, 0.0, 99.999):
        bound = rollout_bound(percentage)
        assert bound is not None
        assert (digest < bound) == (rollout <= percentage / 100)
        assert (digest < variant_bound(percentage / 100)) == (rollout < percentage / 100)


def test_a_rollout_takes_in_whom_posthog_s_hash_takes_in_whatever_the_percentage() -> None:
    for percentage in (0, 0.001, 12.5, 33.33, 50, 99.99, 100):
        ask = client(flag("f", matching(percentage=percentage)))
        for unit in map(str, range(200)):
            assert ask.enabled("f", unit) == (fraction(f"f.{unit}") <= percentage / 100)


def test_a_unit_that_a_higher_percentage_takes_in_stays_in() -> None:
    few, many = client(flag("f", matching(percentage=20))), client(flag("f", matching(percentage=60)))
    assert all(many.enabled("f", unit) for unit in map(str, range(300)) if few.enabled("f", unit))


def test_a_split_is_by_its_own_hash_and_what_lies_beyond_it_is_true() -> None:
    short = {"variants": [{"key": "a", "rollout_percentage": 10}, {"key": "b", "rollout_percentage": 0}]}
    for unit in map(str, range(200)):
        where = fraction(f"f.{unit}variant")
        assert variant(flag("f", EVERYBODY, multivariate=THREE), unit=unit) == (
            "a" if where < 0.3 else "b" if where < 0.6 else "c"
        )
        assert variant(flag("f", EVERYBODY, multivariate=short), unit=unit) == ("a" if where < 0.1 else "true")


def test_long_splits_are_looked_up() -> None:
    many = {"variants": [{"key": f"v{index}", "rollout_percentage": 2.5} for index in range(40)]}
    for unit in map(str, range(100)):
        expected = f"v{int(fraction(f'f.{unit}variant') / 0.025)}"
        assert variant(flag("f", EVERYBODY, multivariate=many), unit=unit) == expected


# -- what is served


def test_the_answer_is_the_payload_if_there_is_one_else_the_variant_or_a_bool() -> None:
    ask = client(
        flag("plain", EVERYBODY),
        flag("paid", EVERYBODY, payloads={"true": '{"a": [1]}'}),
        flag("many", matching(variant="a"), multivariate=THREE),
        flag("paying", matching(variant="a"), multivariate=THREE, payloads={"a": "3.5", "b": "{"}),
        flag("odd", matching(variant="b"), multivariate=THREE, payloads={"b": "{", "a": {"not": "text"}}),
    )
    assert ask.value("plain", "u", default=False) is True
    assert ask.value("paid", "u", default={}) == {"a": [1]}
    assert ask.value("many", "u", default="x") == "a"
    assert ask.value("paying", "u", default=1.0) == 3.5
    assert ask.value("odd", "u", default="x") == "{"
    assert [ask.variant(key, "u") for key in ("plain", "many")] == ["true", "a"]


def test_numbers_that_json_does_not_know_are_no_payload() -> None:
    assert decided(flag("f", EVERYBODY, payloads={"true": "NaN"})).value == "NaN"
    assert decided(flag("f", EVERYBODY, payloads={"true": "1e999"})).value == "1e999"


def test_a_flag_that_is_off_or_deleted_serves_false() -> None:
    for off in ({"active": False}, {"deleted": True}):
        decision = decided(flag("f", EVERYBODY, **off))
        assert (decision.variant, decision.enabled, decision.reason) == ("false", False, Reason.DISABLED)


def test_a_variant_called_false_is_on() -> None:
    named = {"variants": [{"key": "false", "rollout_percentage": 100}]}
    decision = decided(flag("f", EVERYBODY, multivariate=named))
    assert (decision.variant, decision.enabled) == ("false", True)


def test_the_version_is_posthog_s_and_changes_with_a_cohort_that_has_none() -> None:
    cohorts = {"1": {"type": "AND", "values": [when("plan", "exact", "pro")]}}
    plain, within = flag("f", EVERYBODY, version=7), flag("f", matching(in_cohort(1)), version=7)
    assert decided(plain).version == "7"
    before = decided(within, head={"cohorts": cohorts}, plan="pro").version
    cohorts["1"]["values"] = [when("plan", "exact", "free")]
    after = decided(within, head={"cohorts": cohorts}, plan="free").version
    assert before is not None
    assert before.startswith("7-")
    assert before != after
    assert len(decided(flag("f", EVERYBODY)).version or "") == 12


# -- condition sets


def test_the_first_condition_set_that_matches_decides() -> None:
    told = flag("f", matching(when("plan", "exact", "pro"), variant="a"), matching(variant="b"), multivariate=THREE)
    assert (variant(told, plan="pro"), variant(told, plan="free")) == ("a", "b")
    assert decided(told, plan="pro").rule == "condition set 1"
    assert decided(told, plan="free").rule == "condition set 2"


def test_a_variant_of_a_condition_set_that_is_none_leaves_it_to_the_hash() -> None:
    assert variant(flag("f", matching(variant="z"), multivariate=THREE), unit="7") in ("a", "b", "c")
    assert variant(flag("f", matching(variant="z"))) == "true"


def test_reasons_say_what_decided() -> None:
    assert decided(flag("f", EVERYBODY)).reason is Reason.STATIC
    assert decided(flag("f", matching(when("a", "exact", "b"))), a="b").reason is Reason.TARGETING_MATCH
    assert decided(flag("f", matching(percentage=50)), unit="in").reason is Reason.SPLIT
    assert decided(flag("f", EVERYBODY, multivariate=THREE)).reason is Reason.SPLIT
    nobody = decided(flag("f", matching(when("a", "exact", "b"))), a="c")
    assert (nobody.reason, nobody.rule, nobody.variant) == (Reason.DEFAULT, None, "false")
    assert decided(flag("f")).variant == "false"


def test_both_sides_of_a_rollout_are_comparable_and_whom_an_earlier_one_left_out_is_not() -> None:
    ramp = flag("f", matching(percentage=50))
    sides = {decision.variant: decision for unit in "abcdefgh" if (decision := decided(ramp, unit=unit))}
    assert {name: (side.analysable, side.rule) for name, side in sides.items()} == {
        "true": (True, "condition set 1"),
        "false": (True, "condition set 1"),
    }
    two = flag("f", matching(percentage=10), matching(percentage=90))
    rows = {
        (decision.variant, decision.rule, decision.analysable)
        for unit in map(str, range(100))
        if (decision := decided(two, unit=unit))
    }
    assert rows == {
        ("true", "condition set 1", True),
        ("true", "condition set 2", False),
        ("false", "condition set 1", True),
    }


def test_early_exit_ends_at_the_first_rollout_that_leaves_the_unit_out() -> None:
    conditions = (matching(when("plan", "exact", "pro"), percentage=0), EVERYBODY)
    assert variant(flag("f", *conditions), plan="pro") == "true"
    assert variant(flag("f", *conditions, early_exit=True), plan="pro") == "false"
    assert variant(flag("f", *conditions, early_exit=True), plan="free") == "true"


def test_what_is_undecided_does_not_match_and_a_later_condition_set_may() -> None:
    told = flag("f", matching(when("plan", "exact", "pro"), variant="a"), matching(variant="b"), multivariate=THREE)
    assert variant(told) == "b"
    assert cause(flag("f", matching(when("plan", "exact", "pro")))) == MISSING
    assert cause(flag("f", matching(when("plan", "exact", "pro")), matching(percentage=0), early_exit=True)) == MISSING


def test_a_filter_that_does_not_hold_decides_its_condition_set_whatever_the_others() -> None:
    told = flag(
        "f", matching(when("plan", "exact", "pro"), in_cohort(9), when("a", "no_such", 1), when("b", "exact", "x"))
    )
    assert variant(told, b="y") == "false"


def test_the_caller_s_default_applies_to_what_is_undecided_and_it_is_counted() -> None:
    ask = client(flag("f", matching(when("plan", "exact", "pro"))))
    assert ask.enabled("f", "u", default=True) is True
    assert ask.value("f", "u", default="mine") == "mine"
    assert ask.status.errors == {"INVALID_CONTEXT": 2}


def test_an_unknown_operator_is_undecided_and_a_problem_that_is_told() -> None:
    told = flag("f", matching(when("a", "sounds_like", "b")))
    assert cause(told, a="b") == UNSUPPORTED
    (problem,) = client(told).status.problems
    assert "sounds_like" in problem.message
    assert problem.path == "$.flags.f.filters.groups[0].properties[0]"
    assert not problem.refused


def test_experience_continuity_is_never_decided_here() -> None:
    told = flag("f", EVERYBODY, ensure_experience_continuity=True)
    assert cause(told) == ("GENERAL", "experience continuity")
    assert variant(flag("f", EVERYBODY, ensure_experience_continuity=True, active=False)) == "false"


def test_configurations_of_a_later_version_are_undecided() -> None:
    told = flag("f", version=3)
    told["filters"] = {"version": 2, "rules": [{"id": "r"}], "default": None}
    assert cause(told) == UNSUPPORTED


# -- cohorts


COHORTS: dict[str, Any] = {
    "1": {"type": "OR", "values": [when("plan", "exact", "pro"), in_cohort(2)]},
    "2": {"type": "AND", "values": [when("age", "gt", 30), when("banned", "exact", ["true"], negation=True)]},
    "3": {"type": "OR", "values": []},
    "4": {"type": "AND", "values": [{"type": "OR", "values": [when("a", "exact", "1"), when("b", "exact", "1")]}, {}]},
    "5": {"type": "OR", "values": [in_cohort(77), when("plan", "exact", "pro")]},
    "6": {"type": "OR", "values": [in_cohort(7)]},
    "7": {"type": "OR", "values": [in_cohort(6)]},
}


def member(cohort: Any, operator: str | None = None, **properties: Any) -> Any:
    told = flag("f", matching(in_cohort(cohort, operator=operator)))
    decision = decided(told, head={"cohorts": COHORTS}, **properties)
    return decision.enabled if decision.variant is not None else decision.rule


def test_cohorts_nest_and_negate() -> None:
    assert member(1, plan="pro") is True
    assert member(1, plan="free", age=31, banned=False) is True
    assert member(1, plan="free", age=31, banned=True) is False
    assert member("2", "in", age=5, banned=False) is False
    assert member(2, "not_in", age=5, banned=False) is True
    assert member(2, "exact", age=31, banned=False) is True
    assert member(4, a="0", b="1") is True
    assert member(4, a="0", b="0") is False


def test_an_empty_cohort_is_everybody() -> None:
    assert member(3) is True
    assert member(3, "not_in") is False


def test_of_a_cohort_only_what_matters_must_be_known() -> None:
    assert member(1, plan="pro") is True
    assert member(1, plan="free") == "missing context"
    assert member(2, banned=True) is False


def test_a_static_cohort_is_undecided_and_no_later_condition_set_decides_instead() -> None:
    assert member(99) == member(5, plan="pro") == "static cohort"
    told = flag("f", matching(in_cohort(99)), EVERYBODY)
    assert cause(told) == STATIC
    assert variant(flag("f", matching(when("plan", "exact", "pro"), in_cohort(99)), EVERYBODY), plan="free") == "true"
    assert "cohort 99" in client(told).status.problems[0].message


def test_cohorts_that_go_in_circles_are_undecided() -> None:
    assert member(6) == member(7) == "static cohort"


def test_cohorts_that_multiply_are_undecided() -> None:
    cohorts = {str(level): {"type": "AND", "values": [in_cohort(level + 1)] * 4} for level in range(12)}
    cohorts["12"] = {"type": "AND", "values": [when("a", "exact", "b")]}
    assert cause(flag("f", matching(in_cohort(0))), head={"cohorts": cohorts}, a="b") == STATIC
    assert variant(flag("f", matching(in_cohort(8))), head={"cohorts": cohorts}, a="b") == "true"


def test_cohorts_have_no_other_operators() -> None:
    assert member(1, "icontains", plan="pro") == "unsupported definition"


# -- groups


GROUP = {"type": "group", "group_type_index": 0}
IN_ACME = {"groups": {"company": "acme"}, "group_properties": {"company": {"plan": "pro"}}}


def test_a_group_s_flag_is_decided_by_its_key_and_properties() -> None:
    told = flag("f", matching(when("plan", "exact", "pro", **GROUP), percentage=50), aggregation_group_type_index=0)
    for company in map(str, range(50)):
        asked = {"groups": {"company": company}, "group_properties": {"company": {"plan": "pro"}}}
        expected = "true" if fraction(f"f.{company}") <= 0.5 else "false"
        assert variant(told, **asked) == variant(told, unit="somebody else", **asked) == expected


def test_without_a_group_of_its_type_a_group_s_flag_is_false() -> None:
    told = flag("f", EVERYBODY, aggregation_group_type_index=0)
    for groups in ({}, {"project": "p"}, {"company": ""}):
        decision = decided(told, groups=groups)
        assert (decision.variant, decision.reason, decision.rule) == ("false", Reason.DEFAULT, "no group")
    assert variant(told, groups={"company": 7}) == "true"
    assert cause(told, groups={"company": 1.5}) == MISSING


def test_a_group_type_that_is_not_there_is_undecided() -> None:
    assert cause(flag("f", EVERYBODY, aggregation_group_type_index=5), **IN_ACME) == UNSUPPORTED


def test_the_key_of_a_group_is_a_property_of_it_and_others_must_be_passed() -> None:
    keyed = flag("f", matching(when("$group_key", "exact", "acme", **GROUP)), aggregation_group_type_index=0)
    assert variant(keyed, groups={"company": "acme"}) == "true"
    assert variant(keyed, groups={"company": "other"}) == "false"
    planned = flag("f", matching(when("plan", "exact", "pro", **GROUP)), aggregation_group_type_index=0)
    assert cause(planned, groups={"company": "acme"}) == MISSING


def test_condition_sets_may_be_for_groups_of_their_own() -> None:
    told = flag(
        "f",
        matching(when("plan", "exact", "pro", **GROUP), variant="a", aggregation_group_type_index=0),
        matching(when("plan", "exact", "pro"), variant="b", aggregation_group_type_index=None),
        matching(variant="c"),
        multivariate=THREE,
    )
    assert variant(told, **IN_ACME, plan="pro") == "a"
    assert variant(told, plan="pro") == "b"
    assert variant(told, plan="free") == "c"


def test_a_filter_asks_the_person_or_the_group_that_it_is_of() -> None:
    told = flag("f", matching(when("plan", "exact", "pro", **GROUP), when("plan", "exact", "free")))
    assert variant(told, **IN_ACME, plan="free") == "true"
    assert variant(told, **IN_ACME, plan="pro") == "false"
    assert cause(told, plan="free") == MISSING


# -- devices and nobody


def test_a_device_is_bucketed_where_the_flag_says_so() -> None:
    told = flag("f", matching(percentage=50), bucketing_identifier="device_id")
    for device in map(str, range(50)):
        assert variant(told, device_id=device) == ("true" if fraction(f"f.{device}") <= 0.5 else "false")
    assert cause(told) == MISSING
    within = flag("f", matching(percentage=50))
    within["filters"]["bucketing_identifier"] = "device_id"
    assert cause(within) == MISSING


def test_without_a_device_or_a_unit_what_needs_no_hash_is_decided() -> None:
    assert variant(flag("f", EVERYBODY, bucketing_identifier="device_id")) == "true"
    assert snapshot(flag("f", EVERYBODY)).decide("f", Context()).variant == "true"
    undecided = snapshot(flag("f", matching(percentage=50))).decide("f", Context())
    assert undecided.rule == "missing context"
    assert snapshot(flag("f", EVERYBODY)).decide("f", Context(None)).rule is None


def test_the_unit_is_the_property_distinct_id_unless_there_is_another() -> None:
    told = flag("f", matching(when("distinct_id", "exact", "user-1")))
    assert (variant(told), variant(told, unit="user-2")) == ("true", "false")
    assert variant(told, distinct_id="other") == "false"


# -- early access and holdouts


def test_early_access_comes_before_everything_else() -> None:
    told = flag("f", matching(percentage=0), feature_enrollment=True, holdout={"id": 1, "exclusion_percentage": 100})
    for yes in (True, "true"):
        decision = decided(told, **{"$feature_enrollment/f": yes})
        assert (decision.variant, decision.rule) == ("true", "enrolment")
    for no in (False, "false", "True", None, 1):
        assert variant(flag("f", EVERYBODY, feature_enrollment=True), **{"$feature_enrollment/f": no}) == "false"
    assert variant(flag("f", EVERYBODY, feature_enrollment=True)) == "true"


def test_enrolments_of_a_context_are_heard_first() -> None:
    told = snapshot(flag("f", matching(percentage=0), feature_enrollment=True), flag("g", matching(percentage=0)))
    opposite = {"$feature_enrollment/f": "false"}
    assert told.decide("f", Context("u", opposite, {"f": True})).variant == "true"
    assert told.decide("f", Context("u", {"$feature_enrollment/f": True}, {"f": False})).variant == "false"
    assert told.decide("f", Context("u", {}, {"g": True})).variant == "false"
    assert told.decide("g", Context("u", {}, {"g": True})).variant == "false"


def test_early_access_is_the_person_s_for_a_group_s_flag_too() -> None:
    told = flag("f", matching(percentage=0), feature_enrollment=True, aggregation_group_type_index=0)
    assert variant(told, **IN_ACME, **{"$feature_enrollment/f": True}) == "true"


def test_a_holdout_keeps_its_share_out_before_any_condition_set_whatever_the_flag() -> None:
    held = {"id": 5, "exclusion_percentage": 20}
    for unit in map(str, range(100)):
        one, two = (decided(flag(key, EVERYBODY, multivariate=THREE, holdout=held), key, unit=unit) for key in "fg")
        assert (one.variant == "holdout-5") == (two.variant == "holdout-5") == (fraction(f"holdout-{unit}") <= 0.2)
    everybody = decided(flag("f", EVERYBODY, holdout={"id": 5, "exclusion_percentage": 150}))
    assert (everybody.variant, everybody.value, everybody.enabled) == ("holdout-5", "holdout-5", True)
    assert (everybody.reason, everybody.rule) == (Reason.HOLDOUT, "holdout")
    for none in (None, {"id": 5}, {"id": 5, "exclusion_percentage": -3}):
        assert variant(flag("f", EVERYBODY, holdout=none)) == "true"


# -- flags that ask for flags


ON, OFF = flag("on", EVERYBODY), flag("off", matching(percentage=0))
SPLIT = flag("split", matching(variant="a"), multivariate=THREE)


@pytest.mark.parametrize(
    ("parent", "wanted", "expected"),
    [
        ("on", True, "true"),
        ("on", False, "false"),
        ("off", False, "true"),
        ("off", True, "false"),
        ("split", True, "true"),
        ("split", False, "false"),
        ("split", "a", "true"),
        ("split", "A", "false"),
        ("on", "true", "false"),
        ("on", 1, "false"),
    ],
)
def test_a_flag_may_ask_for_another_s_answer(parent: str, wanted: Any, expected: str) -> None:
    assert variant([flag("f", matching(serves(parent, wanted))), ON, OFF, SPLIT]) == expected


def test_malformed_questions_for_flags_never_match_and_circles_are_undecided() -> None:
    for bad in (serves("on", None), serves("", True), {**serves("on", True), "operator": "exact"}):
        assert variant([flag("f", matching(bad)), ON]) == "false"
    for chain in ([], None, "on"):
        assert cause([flag("f", matching(serves("on", True, chain))), ON]) == UNSUPPORTED
    assert cause(flag("f", matching(serves("nowhere", True)))) == UNSUPPORTED


def test_what_a_parent_lacks_its_child_lacks() -> None:
    parent = flag("p", matching(when("plan", "exact", "pro")))
    child, grandchild = flag("c", matching(serves("p", True))), flag("f", matching(serves("c", True)))
    assert cause([grandchild, child, parent]) == ("GENERAL", "unresolved dependency")
    assert variant([grandchild, child, parent], plan="pro") == "true"
    static = flag("p", matching(in_cohort(9)))
    assert cause([flag("f", matching(serves("p", True)), EVERYBODY), static]) == (
        "GENERAL",
        "unresolved dependency on a static cohort",
    )


def test_circles_of_flags_end_whatever_their_chains_say() -> None:
    flags = [flag(key, matching(serves(parent, True))) for key, parent in ("ab", "bc", "ca", "dd")]
    ask = snapshot(*flags, flag("e", matching(serves("a", True)), EVERYBODY))
    assert all(ask.decide(key, Context("u")).variant is None for key in "abcd")
    assert ask.decide("e", Context("u")).variant == "true"


def test_flags_that_multiply_are_undecided() -> None:
    flags = [flag(f"f{level}", matching(*[serves(f"f{level + 1}", True)] * 3)) for level in range(60)]
    ask = snapshot(*flags, flag("f60", EVERYBODY))
    assert ask.decide("f0", Context("u")).variant is None
    assert ask.decide("f55", Context("u")).variant == "true"


def test_an_override_of_a_parent_holds_for_its_children() -> None:
    ask = client(flag("f", matching(serves("off", True))), OFF)
    with ask.override({"off": True}):
        assert ask.enabled("f", "u") is True
    assert ask.enabled("f", "u") is False


# -- contexts


def test_contexts_of_posthog_s_shape_and_of_flagkit_s_mean_the_same() -> None:
    asked = {"distinct_id": "u", "person_properties": {"plan": "pro"}, **IN_ACME, "device_id": "d"}
    made = context(asked)
    assert made.unit_text == "u"
    assert made.attributes == {
        "plan": "pro",
        "$groups": {"company": "acme"},
        "$group_properties": {"company": {"plan": "pro"}},
        "$device_id": "d",
    }
    assert context("u").unit_text == context({"unit": "u"}).unit_text == "u"
    assert context(made) is made


def test_a_plain_dict_is_asked_in_place_as_a_context_is() -> None:
    ask = client(flag("f", matching(when("plan", "exact", "pro"), percentage=50)))
    for unit in map(str, range(30)):
        assert ask.enabled("f", {"unit": unit, "plan": "pro"}) is ask.enabled("f", Context(unit, {"plan": "pro"}))
    assert ask.decide("f", {"unit": "", "plan": "pro"}).rule is None


def test_flags_of_one_shape_share_one_function() -> None:
    before = _maker.cache_info().misses
    flags = [
        flag(f"shape-{index}", matching(when(f"k{index}", "exact", f"v{index}"), percentage=index))
        for index in range(1, 50)
    ]
    ask = snapshot(*flags)
    for told in flags:
        ask.decide(told["key"], Context("u"))
    assert _maker.cache_info().misses <= before + 1


def test_the_document_may_come_from_a_file_and_lack_what_is_not_needed(tmp_path: Any) -> None:
    path = tmp_path / "flags.json"
    path.write_text('{"flags": [{"key": "f", "active": true, "filters": null}, {"key": "g", "active": true}]}')
    ask = Client(source=sources.File(path, dialect="posthog"), sink=None)
    assert (ask.variant("f", "u"), ask.variant("g", "u"), ask.status.problems) == ("false", "false", ())
