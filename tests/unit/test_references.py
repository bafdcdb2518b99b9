"""What flags and segments say of each other: what is missing, what turns in circles, what is too deep."""

from __future__ import annotations

import time
from typing import Any

import pytest
from documents import ON, parsed, snapshot, when

from flagkit.context import Context
from flagkit.decision import Reason
from flagkit.errors import DefinitionsError

Json = dict[str, Any]


def needing(*parents: str, **more: Any) -> Json:
    return {"default": "on", "prerequisites": [{"flag": parent, "variants": ["on"]} for parent in parents], **more}


def within(*names: str) -> Json:
    """A segment of those who are in the named ones."""
    return {"any": [{"segment": list(names)}]}


def broken(flags: Json, **head: Any) -> dict[str, str]:
    """Refused flags, and what is said of each."""
    read = parsed(flags, **head)
    said = {problem.flag: problem.message for problem in read.problems if problem.refused and problem.flag}
    assert set(said) == read.definitions.refused
    assert all(problem.path == f"$.flags.{problem.flag}" for problem in read.problems if problem.refused)
    return {str(flag): message for flag, message in said.items()}


# -- prerequisites ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("length", [1, 2, 3, 5])
def test_flags_that_need_each_other_in_a_circle_are_refused(length: int) -> None:
    flags = {f"f{number}": needing(f"f{(number + 1) % length}") for number in range(length)}
    said = broken({**flags, "innocent": {}})
    assert said == dict.fromkeys(flags, "its prerequisites form a cycle")


def test_a_flag_that_needs_one_on_a_cycle_is_used_and_never_served() -> None:
    read = parsed({"a": needing("b"), "b": needing("a"), "child": needing("a")})
    assert read.definitions.refused == {"a", "b"}
    assert [problem.refused for problem in read.problems if problem.flag == "child"] == [False]


def test_a_flag_on_a_cycle_keeps_its_good_version() -> None:
    before = parsed({"a": ON, "b": needing("a")}).definitions
    after = parsed({"a": needing("b"), "b": needing("a")}, before)
    assert {problem.flag for problem in after.problems} == {"a", "b"}
    assert after.definitions.flags["a"] is before.flags["a"]
    assert after.definitions.refused == frozenset()


def test_a_chain_of_thirty_two_is_followed_and_a_longer_one_refused() -> None:
    flags = {f"f{number}": needing(f"f{number + 1}") for number in range(32)} | {"f32": ON}
    decision = snapshot(flags).decide("f0", Context("u"))
    assert (decision.variant, decision.reason) == ("on", Reason.DEFAULT)
    off = snapshot({**flags, "f32": {"enabled": False}}).decide("f0", Context("u"))
    assert (off.variant, off.reason) == ("off", Reason.PREREQUISITE_FAILED)
    assert broken({**flags, "f33": needing("f0")}) == {"f33": "its prerequisites form a chain deeper than 32"}


@pytest.mark.parametrize("circle", [False, True])
def test_the_longest_chains_and_circles_are_found_quickly(circle: bool) -> None:
    flags = {f"f{number}": needing(f"f{number + 1}") for number in range(2000)}
    flags["f2000"] = needing("f0") if circle else {}
    started_s = time.perf_counter()
    with pytest.raises(DefinitionsError, match="flags are bad"):
        parsed(flags)
    assert time.perf_counter() - started_s < 2


def test_a_prerequisite_that_is_not_defined_is_said_and_never_holds() -> None:
    read = parsed({"a": needing("ghost"), "b": {"prerequisites": [{"flag": "a", "variants": ["on", "blue"]}]}})
    assert [(str(problem), problem.refused) for problem in read.problems] == [
        ('$.flags.a.prerequisites[0]: the flag "ghost" is not defined: this never holds', False),
        ('$.flags.b.prerequisites[0]: the flag "a" has no variant "blue": this never holds', False),
    ]


def test_a_flag_that_is_off_needs_none_of_what_it_refers_to() -> None:
    flags = {"a": needing("b", enabled=False), "b": needing("a"), "c": {**when({"segment": "ghost"}), "enabled": False}}
    definitions = parsed(flags).definitions
    assert definitions.refused <= {"b"}
    assert (definitions.flags["a"].enabled, definitions.flags["c"].enabled) == (False, False)


# -- segments --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("length", [1, 2, 4])
def test_flags_that_use_a_segment_on_a_cycle_are_refused(length: int) -> None:
    segments = {f"s{number}": within(f"s{(number + 1) % length}") for number in range(length)}
    said = broken(
        {"a": when({"segment": "s0"}), "b": when({"segment": "free"})}, segments={**segments, "free": {"units": []}}
    )
    assert said == {"a": 'uses the segment "s0", whose segments form a cycle'}


def test_a_segment_above_a_cycle_is_as_bad_as_one_on_it() -> None:
    segments = {"top": within("middle"), "middle": within("low"), "low": within("low")}
    said = broken({"a": when({"segment": "top"})}, segments=segments)
    assert said == {"a": 'uses the segment "top", which uses "middle", which uses "low", whose segments form a cycle'}


def test_segments_nest_thirty_two_deep_and_no_deeper() -> None:
    segments: Json = {f"s{number}": within(f"s{number + 1}") for number in range(32)} | {"s32": {"units": ["u"]}}
    member = snapshot({"a": when({"segment": "s0"})}, segments=segments)
    assert member.decide("a", Context("u")).enabled
    assert not member.decide("a", Context("v")).enabled
    deeper = {**segments, "top": within("s0")}
    said = broken({"a": when({"segment": "top"})}, segments=deeper)
    assert said == {"a": 'uses the segment "top", whose segments form a chain deeper than 32'}


@pytest.mark.parametrize(
    "condition",
    [
        {"segment": "ghost"},
        {"segment": ["team", "ghost"]},
        {"segment": "ghost", "not": True},
        {"any": [{"not": {"all": [{"segment": "ghost"}]}}]},
    ],
)
def test_a_flag_that_uses_an_unknown_segment_is_refused_however_deep_it_stands(condition: Json) -> None:
    head = {"segments": {"team": {"units": ["u"]}}}
    expected = {"a": 'uses the segment "ghost", which is not defined'}
    assert broken({"a": when(condition)}, **head) == expected
    assert broken({"a": {"exclude": [condition]}}, **head) == expected


def test_a_segment_that_uses_an_unknown_one_breaks_the_flags_that_use_it() -> None:
    said = broken({"a": when({"segment": "s"})}, segments={"s": within("ghost")})
    assert said == {"a": 'uses the segment "s", which uses "ghost", which is not defined'}


def test_every_unknown_segment_of_a_flag_is_told() -> None:
    read = parsed({"a": when({"segment": ["ghost", "spectre"]})})
    assert len(read.problems) == 2


def test_a_flag_outlives_the_segment_it_uses() -> None:
    flags = {"a": when({"segment": "team"}), "b": {}}
    before = parsed(flags, segments={"team": {"units": ["u"]}}).definitions
    after = parsed(flags, before)
    assert [problem.flag for problem in after.problems] == ["a"]
    assert after.definitions.refused == frozenset()
    assert after.definitions.flags["a"] is before.flags["a"]
