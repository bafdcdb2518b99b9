"""Flags as functions: every outcome is one object, whatever the flag is like."""

from __future__ import annotations

import re
from typing import Any

import pytest
from documents import HALF, ON, SPLIT, attribute, document, parsed, rollout, snapshot, when
from fakes import WALL_MS

from flagkit.context import Context
from flagkit.core import compile as compiling
from flagkit.core.conditions import Conditions
from flagkit.core.model import FlagDefinition
from flagkit.core.snapshot import Snapshot
from flagkit.decision import Reason
from flagkit.dialects import native

Json = dict[str, Any]
USERS = [Context(f"user-{number}", {"a": number % 7, "country": "SE"}) for number in range(200)]


@pytest.fixture
def sources(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The source of every flag compiled during a test, as it goes to the Python compiler."""
    written: list[str] = []
    maker = compiling._maker

    def noted(source: str) -> Any:
        written.append(source)
        return maker(source)

    monkeypatch.setattr(compiling, "_maker", noted)
    return written


# -- large flags -----------------------------------------------------------------------------------------------------


def test_a_split_may_have_any_number_of_shares() -> None:
    shares = [{"variant": "on" if number % 2 else "off", "weight": 1} for number in range(5000)]
    answers = snapshot({"f": {"rules": [{"split": shares}]}})
    assert {answers.decide("f", user).variant for user in USERS[:20]} == {"on", "off"}


def test_as_many_rules_as_a_flag_may_have_are_a_flag_like_any_other() -> None:
    rules = [
        {"when": [{"attribute": "a", "op": "in", "values": [number + 1_000_000]}], "serve": "on"}
        for number in range(249)
    ]
    answers = snapshot({"f": {"rules": [*rules, {"rollout": {"percent": 50}, "serve": "on"}]}})
    assert answers.decide("f", Context("u", {"a": 1_000_248})).rule == "rule-248"
    assert {answers.decide("f", user).variant for user in USERS} == {"on", "off"}


# -- decisions -------------------------------------------------------------------------------------------------------


def test_the_same_outcome_is_the_same_object() -> None:
    answers = snapshot({"on": ON, "half": HALF, "split": SPLIT, "target": {"targets": {"on": ["user-1"]}}})
    for flag in answers.definitions.flags:
        met = {id(answers.decide(flag, user)) for user in USERS}
        again = {id(answers.decide(flag, Context(user.unit, {"a": "other"}))) for user in USERS}
        assert met == again
        assert len(met) == (1 if flag == "on" else 2)


def test_a_decision_knows_its_flag_and_why() -> None:
    decision = snapshot({"f": {**SPLIT, "version": 7}}).decide("f", Context("user-1"))
    assert decision.flag == "f"
    assert (decision.reason, decision.rule, decision.analysable) == (Reason.SPLIT, "test", True)
    assert (decision.assigned, decision.version, decision.error_code) == (decision.variant, "7", None)
    assert decision.enabled == (decision.variant == "b")


def test_exposures_are_remembered_only_where_somebody_records_them() -> None:
    assert snapshot({"f": ON}).decide("f", Context("u"))._exposed is None
    watched = snapshot({"f": ON}, observe=True)
    assert watched.decide("f", Context("u"))._exposed == set()
    assert watched.decide("f", Context("u"), {"f": "off"})._exposed is None
    assert watched.decide("ghost", Context("u"))._exposed is None
    assert watched.decide("f", Context(None))._exposed is None


def test_values_are_handed_out_as_copies_and_scalars_as_they_are() -> None:
    value = {"a": [1, {"b": 2}], "c": "text"}
    decision = snapshot({"f": {"variants": {"v": value, "o": 0}, "off": "o", "default": "v"}}).decide("f", Context("u"))
    mine = decision.value
    mine["a"][1]["b"] = 99
    mine["a"].append(3)
    mine["new"] = 1
    assert decision.value == value
    assert decision.value is not decision.value


# -- versions --------------------------------------------------------------------------------------------------------


def version(flag: Json) -> str | None:
    return snapshot({"f": flag}).decide("f", Context("u")).version


def test_a_version_of_its_own_is_the_flags_version() -> None:
    assert version({"version": "2026-11-23.4"}) == "2026-11-23.4"
    assert version({"version": 12}) == "12"


def test_without_one_the_version_follows_from_what_decides_and_nothing_else() -> None:
    digest = version(HALF)
    assert re.fullmatch("[0-9a-f]{12}", str(digest))
    assert version({**HALF, "description": "d", "owner": "o", "expires": "2027-01-31"}) == digest
    text = b'{"schema":1,"flags":{"other":{ "rules" : [ {"serve":"on","rollout":{"percent":50},"name":"half"}]}}}'
    same = Snapshot(native.parse(text).definitions, now_ms=lambda: WALL_MS)
    assert same.decide("other", Context("u")).version == digest
    changes: list[Json] = [
        {"kind": "ops"},
        {"salt": "s"},
        {"max_age_s": 60},
        {"enabled": False},
        rollout(51),
        {"default": "on"},
    ]
    assert len({version({**HALF, **change}) for change in changes} | {digest}) == len(changes) + 1


# -- trips -----------------------------------------------------------------------------------------------------------


def tripped(flag: Json, *variants: str, control: str = "off", **head: Any) -> Snapshot:
    definitions = native.parse(document({"f": flag}, **head)).definitions
    return Snapshot(definitions, now_ms=lambda: WALL_MS, trips={"f": dict.fromkeys(variants, control)}, observe=True)


def test_whoever_was_assigned_a_tripped_variant_gets_the_control() -> None:
    guarded = {**SPLIT, "guard": {"control": "a"}}
    answers, healthy = tripped(guarded, "b", control="a"), tripped(guarded)
    for user in USERS:
        before, after = healthy.decide("f", user), answers.decide("f", user)
        if before.variant == "a":
            assert (after.variant, after.reason) == ("a", Reason.SPLIT)
            assert after.analysable
        else:
            assert (after.variant, after.reason, after.assigned) == ("a", Reason.GUARD, "b")
            assert (after.value, after.enabled, after.rule) == (1, False, "test")
            assert not after.analysable
            assert after._exposed == set()


def test_a_trip_reaches_targets_too_but_not_overrides() -> None:
    answers = tripped({"targets": {"on": ["user-1"]}}, "on")
    assert answers.decide("f", Context("user-1")).reason is Reason.GUARD
    assert answers.decide("f", Context("user-1"), {"f": True}).variant == "on"
    assert answers.decide("f", Context("user-2")).reason is Reason.DEFAULT


def test_a_trip_of_a_parent_holds_for_its_children() -> None:
    flags = {"f": ON, "child": {"default": "on", "prerequisites": [{"flag": "f", "variants": ["on"]}]}}
    definitions = native.parse(document(flags)).definitions
    answers = Snapshot(definitions, now_ms=lambda: WALL_MS, trips={"f": {"on": "off"}})
    assert answers.decide("child", Context("u")).reason is Reason.PREREQUISITE_FAILED


def test_the_tripped_answer_is_one_object_too() -> None:
    answers = tripped(ON, "on")
    assert answers.decide("f", Context("u")) is answers.decide("f", Context("v"))


# -- stale -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("flag", [ON, HALF, SPLIT, {"targets": {"on": ["user-1"]}}])
def test_a_flag_that_outlived_its_definitions_is_off(flag: Json) -> None:
    definitions = native.parse(document({"f": flag})).definitions
    answers = Snapshot(definitions, now_ms=lambda: WALL_MS, stale=frozenset({"f"}))
    decision = answers.decide("f", Context("user-1"))
    assert (decision.variant, decision.reason) == (definitions.flags["f"].off, Reason.STALE)
    assert answers.decide("f", Context("u"), {"f": True}).reason is Reason.OVERRIDE


def test_a_flag_that_is_off_says_so_even_when_stale() -> None:
    definitions = native.parse(document({"f": {"enabled": False}})).definitions
    answers = Snapshot(definitions, now_ms=lambda: WALL_MS, stale=frozenset({"f"}))
    assert answers.decide("f", Context("u")).reason is Reason.DISABLED


def test_which_flags_are_partial_is_what_decides_who_does_not_age_well() -> None:
    partial: list[Json] = [rollout(50), rollout(0.001), rollout(99.999), SPLIT]
    partial.append({"rules": [{"rollout": {"steps": [{"from": "2026-12-01", "percent": 100}]}, "serve": "on"}]})
    whole: list[Json] = [ON, rollout(0), rollout(100), attribute("in", "x"), {"enabled": False}]
    flags = {f"partial-{index}": flag for index, flag in enumerate(partial)}
    flags |= {f"whole-{index}": flag for index, flag in enumerate(whole)}
    found = parsed(flags).definitions.flags
    assert {key for key in found if found[key].is_partial} == {key for key in flags if key.startswith("partial")}


# -- trouble ---------------------------------------------------------------------------------------------------------


class Hostile:
    """A value that fails whatever is done with it."""

    def __getattribute__(self, name: str) -> Any:
        raise RuntimeError(name)


def test_an_attribute_that_fails_is_an_answer_and_not_an_exception() -> None:
    flags = {"f": attribute("in", "x"), "g": when({"attribute": ["a", "b"], "op": "in", "values": ["x"]})}
    for decision in snapshot(flags).decide_all(Context("u", {"a": Hostile()})).values():
        assert not decision.enabled


def test_a_flag_that_is_no_string_is_an_error_and_not_an_exception() -> None:
    strange: list[Any] = [None, 7, [], {}, Hostile()]
    for flag in strange:
        decision = snapshot({"f": ON}).decide(flag, Context("u"))
        assert decision.reason is Reason.ERROR
        assert type(decision.flag) is str


def test_a_long_key_that_does_not_exist_is_not_kept_whole() -> None:
    assert len(snapshot().decide("x" * 10_000_000, Context("u")).flag) == 128


def test_definitions_compile_to_nothing_until_they_are_asked(sources: list[str]) -> None:
    answers = snapshot({f"f{number}": HALF for number in range(50)})
    assert sources == []
    answers.decide("f7", Context("u"))
    assert len(sources) == 1


def test_a_compiled_flag_never_asks_the_clock_unless_its_rules_do() -> None:
    asked: list[int] = []

    def now_ms() -> int:
        asked.append(1)
        return WALL_MS

    flags = {
        "half": HALF,
        "steps": {"rules": [{"rollout": {"steps": [{"from": "2026-01-01", "percent": 50}]}, "serve": "on"}]},
    }
    answers = Snapshot(native.parse(document(flags)).definitions, now_ms=now_ms)
    answers.decide("half", Context("u"))
    assert asked == []
    answers.decide("steps", Context("u"))
    assert asked == [1]


def test_conditions_can_be_asked_one_at_a_time() -> None:
    definitions = parsed({"f": attribute("in", "x")}).definitions
    flag: FlagDefinition = definitions.flags["f"]
    test = Conditions(definitions.segments, lambda: WALL_MS).test(flag.rules[0].when[0], "f")
    assert [test(Context("u", {"a": value})) for value in ("x", "y", None)] == [True, False, None]
