"""Early access in definitions: what may be written, whom it enrols, what is compiled anew, and what is told of it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from documents import HALF, ON, document, parsed, snapshot

from flagkit.context import Context
from flagkit.core.compile import version_of
from flagkit.core.snapshot import Snapshot
from flagkit.decision import Reason
from flagkit.dialects import native, native_changes
from flagkit.dialects.native_envelope import enveloped

Json = dict[str, Any]
OPTED_IN: Json = {"name": "opted in", "when": [{"enrolled": True}], "serve": "on"}
EARLY: Json = {"early_access": True, "rules": [OPTED_IN]}
ASKING: Json = {"rules": [OPTED_IN]}


def enabled(snap: Snapshot, context: Context, flag: str = "f") -> bool:
    return snap.decide(flag, context).enabled


# -- what may be written -----------------------------------------------------------------------------------------------


def test_a_flag_says_whether_it_offers_enrolment() -> None:
    flags = parsed({"yes": EARLY, "no": {**EARLY, "early_access": False}, "unsaid": ASKING}).definitions.flags
    assert {key: flag.early_access for key, flag in flags.items()} == {"yes": True, "no": False, "unsaid": False}


@pytest.mark.parametrize("said", ["true", 1, None, [], {}])
def test_whether_is_true_or_false(said: Any) -> None:
    (problem,) = parsed({"f": {**EARLY, "early_access": said}}).problems
    assert (problem.path, problem.refused) == ("$.flags.f.early_access", True)
    assert problem.message.endswith("expected true or false")


@pytest.mark.parametrize("flag", [{}, HALF, {"rules": [{"when": [{"attribute": "a", "op": "exists"}], "serve": "on"}]}])
def test_an_offer_that_no_rule_asks_for_is_remarked_and_served_all_the_same(flag: Json) -> None:
    read = parsed({"f": {**flag, "early_access": True}})
    (problem,) = read.problems
    assert (problem.path, problem.flag, problem.refused) == ("$.flags.f.early_access", "f", False)
    assert '{"enrolled": true}' in problem.message
    assert read.definitions.flags["f"].early_access


@pytest.mark.parametrize(
    "condition",
    [
        {"enrolled": True},
        {"enrolled": True, "not": True},
        {"any": [{"attribute": "a", "op": "exists"}, {"all": [{"enrolled": True}]}]},
        {"not": {"enrolled": True}},
    ],
)
def test_any_rule_that_asks_at_any_depth_will_do(condition: Json) -> None:
    assert parsed({"f": {"early_access": True, "rules": [{"when": [condition], "serve": "on"}]}}).problems == ()


def test_offering_it_makes_no_other_version() -> None:
    flags = parsed({"f": EARLY, "g": ASKING}).definitions.flags
    assert version_of(flags["f"]) == version_of(flags["g"])


@pytest.mark.parametrize(
    ("enrolments", "path"),
    [
        ([], "$.enrolments"),
        ("f", "$.enrolments"),
        (None, "$.enrolments"),
    ],
)
def test_enrolments_that_are_no_object_refuse_the_document(enrolments: Any, path: str) -> None:
    with pytest.raises(native.DefinitionsError) as error:
        parsed({"f": EARLY}, enrolments=enrolments)
    assert [problem.path for problem in error.value.problems] == [path]


@pytest.mark.parametrize("units", ["user-1", {"units": ["user-1"]}, [None], [""], ["x" * 1025], [True], None])
def test_a_list_that_cannot_be_read_costs_this_list_one_update(units: Any) -> None:
    before = parsed({"f": EARLY, "g": EARLY}, enrolments={"f": ["user-1"], "g": ["user-1"]}).definitions
    read = parsed({"f": EARLY, "g": EARLY}, before, enrolments={"f": units, "g": ["user-2"]})
    assert read.problems
    assert all(problem.path.startswith("$.enrolments.f") for problem in read.problems)
    assert read.definitions.enrolled["f"] is before.enrolled["f"]
    assert read.definitions.enrolled["g"].units == {b"user-2"}


def test_the_same_flag_twice_is_said() -> None:
    data = document({"f": EARLY})[:-1] + b',"enrolments":{"f":["a"],"f":["b"]}}'
    read = native.parse(data)
    assert [problem.path for problem in read.problems] == ["$.enrolments.f"]
    assert read.definitions.enrolled["f"].units == {b"a"}


# -- whom it enrols ----------------------------------------------------------------------------------------------------


def test_the_units_enrolled_match_and_what_the_context_says_goes_before() -> None:
    snap = snapshot({"f": EARLY, "g": EARLY}, enrolments={"f": ["user-1", 7]})
    assert enabled(snap, Context("user-1"))
    assert enabled(snap, Context(7))
    assert enabled(snap, Context("7"))
    assert snap.decide("f", {"unit": "user-1"}).rule == "opted in"
    assert not enabled(snap, Context("user-2"))
    assert not enabled(snap, Context("user-1"), "g")
    assert not enabled(snap, Context("user-1", enrolments={"f": False}))
    assert enabled(snap, Context("user-2", enrolments={"f": True}))
    assert enabled(snap, Context("user-1", enrolments={"g": False}))


@pytest.mark.parametrize(
    "context", [Context(), Context(None), Context(b"user-1"), Context(attributes={"unit": "user-1"})]
)
def test_nobody_is_enrolled(context: Context) -> None:
    assert not enabled(snapshot({"f": EARLY}, enrolments={"f": ["user-1"]}), context)


def test_what_a_context_says_that_is_neither_is_unknown_and_matches_nothing() -> None:
    negated = {"rules": [{"when": [{"enrolled": True, "not": True}], "serve": "on"}]}
    snap = snapshot({"f": EARLY, "n": negated}, enrolments={"f": ["user-1"], "n": ["user-1"]})
    context = Context("user-1", enrolments={"f": 1, "n": 1})  # type: ignore[dict-item]
    assert (enabled(snap, context, "f"), enabled(snap, context, "n")) == (False, False)
    assert enabled(snap, Context("user-2"), "n")
    assert not enabled(snap, Context("user-1"), "n")


def test_the_order_of_precedence_is_that_of_rules_for_enrolled_units() -> None:
    flags = {
        "off": {**EARLY, "enabled": False},
        "excluded": {**EARLY, "exclude": [{"attribute": "plan", "op": "in", "values": ["enterprise"]}]},
        "held": EARLY,
    }
    snap = snapshot(
        flags,
        enrolments={key: ["user-1"] for key in flags},
        holdouts={"all": {"percent": 100, "flags": ["held"]}},
    )
    context = Context("user-1", {"plan": "enterprise"})
    assert [snap.decide(flag, context).reason for flag in flags] == [
        Reason.DISABLED,
        Reason.EXCLUDED,
        Reason.TARGETING_MATCH,
    ]
    assert snap.decide("held", Context("user-2")).reason is Reason.HOLDOUT


def test_explain_agrees_with_the_answer() -> None:
    snap = snapshot({"f": EARLY}, enrolments={"f": ["user-1"]})
    from flagkit.core.explain import explain

    for context in (Context("user-1"), Context("user-2"), Context("user-1", enrolments={"f": False})):
        assert explain(snap, "f", context).decision is snap.decide("f", context)


# -- the next definitions ----------------------------------------------------------------------------------------------


def test_only_the_flag_whose_list_has_changed_is_compiled_anew() -> None:
    flags = {"f": EARLY, "g": EARLY, "on": ON}
    texts = [
        enveloped({"schema": 1, "flags": flags, "enrolments": enrolments}, "e", number).body
        for number, enrolments in enumerate(({"f": ["a"], "g": ["a"]}, {"f": ["a", "b"], "g": ["a"]}), 1)
    ]
    before = Snapshot(native.parse(texts[0]).definitions, now_ms=lambda: 0)
    before.decide_all(Context("b"))
    after = before.following(native.parse(texts[1], before.definitions).definitions)
    assert after.compiled["f"] is not before.compiled["f"]
    assert after.compiled["g"] is before.compiled["g"]
    assert after.compiled["on"] is before.compiled["on"]
    assert (enabled(before, Context("b")), enabled(after, Context("b"))) == (False, True)
    assert after.affected_since(before) == {"f"}


def test_a_change_of_who_is_enrolled_is_told_as_one_to_fetch_and_a_change_of_flags_keeps_them() -> None:
    def read(number: int, enrolments: Json, **flag: Any) -> Any:
        body = enveloped({"schema": 1, "flags": {"f": {**EARLY, **flag}}, "enrolments": enrolments}, "e", number).body
        return native.parse(body).definitions

    one, two, three = read(1, {"f": ["a"]}), read(2, {"f": ["b"]}), read(3, {"f": ["b"]}, description="x")
    assert json.loads(native_changes.change(one, two, etag='"2"', spread_ms=3))["reload"] is True
    news = native_changes.change(two, three, etag='"3"', spread_ms=3)
    followed = native_changes.follow(news, two).parsed
    assert followed is not None
    assert followed.definitions.enrolled["f"].units == {b"b"}
