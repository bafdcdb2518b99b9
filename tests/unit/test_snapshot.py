"""Snapshots: answers for one flag and all, forced answers, and what the next snapshot takes over from the last."""

from __future__ import annotations

from typing import Any

import pytest
from documents import HALF, ON, SPLIT, document, rollout, snapshot, when
from fakes import WALL_MS, in_threads

from flagkit.context import Context
from flagkit.core.model import Definitions
from flagkit.core.snapshot import Snapshot, forced_variant
from flagkit.decision import Decision, ErrorCode, Reason
from flagkit.dialects import native

Json = dict[str, Any]
USER = Context("user-1")
SEGMENTS: Json = {"team": {"units": ["user-1"]}, "all": {"any": [{"segment": "team"}]}, "other": {"units": ["user-2"]}}
FLAGS: Json = {
    "on": ON,
    "half": HALF,
    "member": when({"segment": "team"}),
    "nested": when({"segment": "all"}),
    "other": when({"segment": "other"}),
    "slotted": rollout(50),
    "neighbour": rollout(50),
}
LAYERS: Json = {"layer": {"slots": {"slotted": [0, 50], "neighbour": [50, 100]}}}
HEAD: Json = {"segments": SEGMENTS, "layers": LAYERS}


def compiled(flags: Json = FLAGS, *asked: str, **head: Any) -> Snapshot:
    """A snapshot whose flags (or those ``asked``) have answered once."""
    made = snapshot(flags, **{**HEAD, **head})
    for flag in asked or flags:
        made.decide(flag, USER)
    return made


def next_of(before: Snapshot, flags: Json = FLAGS, **head: Any) -> Snapshot:
    read = native.parse(document(flags, **{**HEAD, **head}), before.definitions)
    assert read.problems == ()
    return before.following(read.definitions)


def anew(before: Snapshot, after: Snapshot) -> set[str]:
    """Flags compiled in both that are not the same function."""
    return {
        key for key in before.compiled.keys() & after.compiled.keys() if before.compiled[key] is not after.compiled[key]
    }


# -- answers ---------------------------------------------------------------------------------------------------------


def test_all_flags_are_answered_in_the_order_of_the_document() -> None:
    answers = compiled().decide_all(USER)
    assert list(answers) == list(FLAGS)
    assert all(answers[flag] is compiled_answer for flag, compiled_answer in answers.items())


def test_all_answers_are_the_single_ones() -> None:
    whole = compiled()
    for flag, decision in whole.decide_all(USER, {"half": "on"}).items():
        assert decision is whole.decide(flag, USER, {"half": "on"})


def test_before_the_first_definitions_there_is_no_answer_yet() -> None:
    empty = Snapshot(Definitions({}), now_ms=lambda: WALL_MS, ready=False)
    assert empty.decide("on", USER).error_code is ErrorCode.PROVIDER_NOT_READY
    assert empty.decide("on", USER, {"on": True}).error_code is ErrorCode.PROVIDER_NOT_READY
    assert empty.decide_all(USER) == {}
    assert empty.following(snapshot(FLAGS, **HEAD).definitions).decide("on", USER).enabled


def test_a_flag_that_is_not_there_and_one_that_is_bad_are_told_apart() -> None:
    read = native.parse(document({"good": {}, "bad": {"enabled": "yes"}}))
    answers = Snapshot(read.definitions, now_ms=lambda: WALL_MS)
    assert answers.decide("ghost", USER).error_code is ErrorCode.FLAG_NOT_FOUND
    assert answers.decide("bad", USER).error_code is ErrorCode.PARSE_ERROR
    assert list(answers.decide_all(USER)) == ["good"]


# -- forced answers --------------------------------------------------------------------------------------------------

VARIANTS: Json = {"variants": {"a": 1, "b": 2, "c": 3}, "off": "b"}


@pytest.mark.parametrize(
    ("flag", "wanted", "variant"),
    [
        ({}, True, "on"),
        ({}, False, "off"),
        ({}, "on", "on"),
        ({**VARIANTS, "default": "c"}, True, "c"),
        (VARIANTS, True, "a"),
        (VARIANTS, False, "b"),
        (VARIANTS, "c", "c"),
        (VARIANTS, "d", None),
        ({"variants": {"x": 1, "on": 2, "off": 3}, "off": "off"}, True, "on"),
        ({"variants": {"on": 1, "x": 2}, "off": "on"}, True, "x"),
        ({"variants": {"only": 1}, "off": "only"}, True, None),
        ({}, None, None),
        ({}, 1, None),
        ({}, 0, None),
        ({}, [], None),
    ],
)
def test_an_override_means_a_variant(flag: Json, wanted: Any, variant: str | None) -> None:
    answers = snapshot({"f": flag})
    assert forced_variant(answers.definitions.flags["f"], wanted) == variant
    decision = answers.decide("f", USER, {"f": wanted})
    if variant is None:
        assert decision is answers.decide("f", USER)
    else:
        assert (decision.variant, decision.reason) == (variant, Reason.OVERRIDE)
        assert decision.enabled == (variant != answers.definitions.flags["f"].off)
        assert decision.version == answers.decide("f", USER).version
        assert not decision.analysable


def test_an_override_beats_everything_else() -> None:
    flags: Json = {
        "off": {"enabled": False},
        "excluded": {"exclude": [{"attribute": "unit", "op": "exists"}]},
        "unmet": {"prerequisites": [{"flag": "off", "variants": ["on"]}]},
        "target": {"targets": {"off": ["user-1"]}},
    }
    definitions = native.parse(document(flags)).definitions
    answers = Snapshot(
        definitions, now_ms=lambda: WALL_MS, stale=frozenset(flags), trips={key: {"on": "off"} for key in flags}
    )
    for flag in flags:
        assert answers.decide(flag, USER, {flag: True}).variant == "on"
        assert answers.decide(flag, Context(None), {flag: True}).variant == "on"


def test_an_override_of_a_parent_holds_for_its_children() -> None:
    flags: Json = {
        "parent": {"enabled": False},
        "child": {"default": "on", "prerequisites": [{"flag": "parent", "variants": ["on"]}]},
        "grandchild": {"default": "on", "prerequisites": [{"flag": "child", "variants": ["on"]}]},
    }
    answers = snapshot(flags)
    assert answers.decide("grandchild", USER).reason is Reason.PREREQUISITE_FAILED
    assert answers.decide("grandchild", USER, {"parent": True}).variant == "on"
    assert answers.decide("grandchild", USER, {"parent": True, "child": False}).reason is Reason.PREREQUISITE_FAILED


def test_forced_answers_are_one_object_each_and_their_number_is_bounded_by_the_definitions() -> None:
    answers = snapshot({"f": VARIANTS})
    assert answers.decide("f", USER, {"f": "c"}) is answers.decide("f", Context("v"), {"f": "c"})
    for number in range(100):
        answers.decide("f", USER, {"f": f"no-{number}"})
        answers.decide(f"ghost-{number}", USER, {f"ghost-{number}": True})
    assert len(answers._forced) == 1


# -- the next snapshot -----------------------------------------------------------------------------------------------


def test_an_unchanged_flag_is_taken_over_with_its_decisions() -> None:
    before = compiled()
    decisions = before.decide_all(USER)
    after = next_of(before, {**FLAGS, "half": rollout(60), "new": ON})
    assert anew(before, after) == {"half"}
    for flag, decision in after.decide_all(USER).items():
        if flag in FLAGS and flag != "half":
            assert decision is decisions[flag]


def test_what_nobody_asked_is_not_compiled_for_the_next_snapshot_either() -> None:
    before = compiled(FLAGS, "half")
    after = next_of(before, {**FLAGS, "half": rollout(60), "on": {}})
    assert set(after.compiled) == {"half"}


def test_a_flag_that_is_gone_is_gone() -> None:
    after = next_of(compiled(), {key: flag for key, flag in FLAGS.items() if key != "half"})
    assert "half" not in after.compiled
    assert after.decide("half", USER).error_code is ErrorCode.FLAG_NOT_FOUND


def test_the_last_snapshot_goes_on_answering_as_it_did() -> None:
    before = compiled()
    next_of(before, {**FLAGS, "on": {"enabled": False}})
    assert before.decide("on", USER).enabled


@pytest.mark.parametrize(
    ("segments", "using"),
    [
        ({"team": {"units": []}}, {"member", "nested"}),
        ({"all": {"units": []}}, {"nested"}),
        ({"other": {"units": ["user-1"]}}, {"other"}),
        ({"new": {"units": []}}, set()),
    ],
)
def test_a_changed_segment_is_compiled_into_all_that_use_it_and_nothing_else(segments: Json, using: set[str]) -> None:
    before = compiled()
    after = next_of(before, segments={**SEGMENTS, **segments})
    assert anew(before, after) == using
    fresh = snapshot(FLAGS, **{**HEAD, "segments": {**SEGMENTS, **segments}})
    for user in (USER, Context("user-2")):
        assert _variants(after, user) == _variants(fresh, user)


def _variants(answers: Snapshot, context: Context) -> dict[str, str | None]:
    return {flag: decision.variant for flag, decision in answers.decide_all(context).items()}


@pytest.mark.parametrize(
    ("layers", "using"),
    [
        ({}, {"slotted", "neighbour"}),
        ({"layer": {"slots": {"slotted": [0, 10], "neighbour": [50, 100]}}}, {"slotted"}),
        ({"layer": {"salt": "s", "slots": {"slotted": [0, 50], "neighbour": [50, 100]}}}, {"slotted", "neighbour"}),
        ({**LAYERS, "second": {"slots": {"half": [0, 50]}}}, {"half"}),
    ],
)
def test_a_changed_layer_is_compiled_into_the_flags_it_moves(layers: Json, using: set[str]) -> None:
    before = compiled()
    after = next_of(before, layers=layers)
    assert using <= anew(before, after) <= using | {"slotted", "neighbour"}
    fresh = snapshot(FLAGS, **{**HEAD, "layers": layers})
    for number in range(50):
        assert _variants(after, Context(number)) == _variants(fresh, Context(number))


@pytest.mark.parametrize("flags", [["*"], ["half", "on"]])
def test_a_changed_holdout_is_compiled_into_the_flags_it_holds(flags: list[str]) -> None:
    before = compiled()
    after = next_of(before, holdouts={"h": {"percent": 100, "flags": flags}})
    held = set(FLAGS) if flags == ["*"] else set(flags)
    assert held <= anew(before, after)
    assert {flag for flag, met in after.decide_all(USER).items() if met.reason is Reason.HOLDOUT} == held


def test_only_the_flags_that_turned_stale_or_tripped_are_compiled_again() -> None:
    before = compiled()
    stale = before.following(stale=frozenset({"half"}))
    assert anew(before, stale) == {"half"}
    assert stale.decide("half", USER).reason is Reason.STALE
    tripped = stale.following(trips={"on": {"on": "off"}})
    assert anew(stale, tripped) == {"on"}
    assert tripped.decide("on", USER).reason is Reason.GUARD
    assert tripped.decide("half", USER).reason is Reason.STALE
    well = tripped.following(stale=frozenset(), trips={})
    assert anew(tripped, well) == {"half", "on"}
    assert _variants(well, USER) == _variants(before, USER)


def test_exposures_go_on_being_recorded_in_the_next_snapshot() -> None:
    watched = snapshot({"f": ON, "g": ON}, observe=True)
    after = watched.following(native.parse(document({"f": ON, "g": HALF}), watched.definitions).definitions)
    assert after.decide("f", USER)._exposed == set()
    assert after.decide("g", USER)._exposed == set()


def test_what_units_an_unchanged_decision_met_is_remembered_across_a_refresh() -> None:
    watched = snapshot({"f": ON, "g": ON}, observe=True)
    met = watched.decide("f", USER)._exposed
    after = watched.following(native.parse(document({"f": ON, "g": HALF}), watched.definitions).definitions)
    assert after.decide("f", USER)._exposed is met


def test_a_very_large_flag_holds_up_no_other() -> None:
    flag: Json = {"rules": [{"split": [{"variant": "on", "weight": 1}] * 5000}]}
    before = compiled()
    after = next_of(before, {**FLAGS, "half": flag, "on": {"enabled": False}})
    assert after.decide("on", USER).reason is Reason.DISABLED
    assert isinstance(after.decide("half", USER), Decision)


# -- threads ---------------------------------------------------------------------------------------------------------


def test_threads_that_ask_first_at_the_same_time_get_the_same_objects() -> None:
    for _ in range(20):
        answers = snapshot({"f": SPLIT, "g": HALF})
        met: list[tuple[Decision, Decision]] = []
        in_threads(8, lambda _, a=answers, m=met: m.append((a.decide("f", USER), a.decide("g", USER, {"g": True}))))
        assert {id(decision) for decision, _ in met} == {id(answers.decide("f", USER))}
        assert {decision.variant for _, decision in met} == {"on"}
