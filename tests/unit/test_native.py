"""The native format as a whole: what is refused, what is kept, what is reused."""

from __future__ import annotations

import json
import sys
from typing import Any

import pytest
from documents import HALF, ON, STEADY, document, parsed, when
from hypothesis import given
from hypothesis import strategies as st

from flagkit.core.compile import version_of
from flagkit.core.model import Dealing, Definitions, Hold
from flagkit.dialects import native
from flagkit.errors import DefinitionsError, Problem

Json = dict[str, Any]
FLAGS: Json = {f"flag-{number}": HALF for number in range(40)}
SEGMENTS: Json = {"team": {"units": ["user-1"]}}


def refused(data: bytes, previous: Definitions | None = None) -> list[str]:
    """The lines that say why a document is refused whole."""
    with pytest.raises(DefinitionsError) as caught:
        native.parse(data, previous)
    assert str(caught.value) == "; ".join(map(str, caught.value.problems))
    return [str(problem) for problem in caught.value.problems]


# -- documents -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "$: not JSON: a JSON object expected at line 1, column 1"),
        (b"  \n ", "$: not JSON: a JSON object expected at line 2, column 2"),
        (b"null", "$: not JSON: a JSON object expected at line 1, column 1"),
        (b"[]", "$: not JSON: a JSON object expected at line 1, column 1"),
        (b'{"schema": 1', "$: not JSON: a comma or a closing brace expected at line 1, column 13"),
        (b'{"schema": 1,}', "$: not JSON: a key in double quotes expected at line 1, column 14"),
        (b'{"schema": }', "$: not JSON: a value expected at line 1, column 12"),
        (b"{schema: 1}", "$: not JSON: a key in double quotes expected at line 1, column 2"),
        (b'{"schema" 1}', "$: not JSON: a colon expected at line 1, column 11"),
        (b'{"schema": 1, "flags": {"a": {},}}', "$: not JSON: a key in double quotes expected at line 1, column 33"),
        (b'{"schema": 1, "flags": {"a": {}\n"b": {}}}', "$: not JSON: a comma or a closing brace expected at line 2"),
        (b'{"schema": 1, "flags": {"a": {"x": "\n"}}}', "$: not JSON: Invalid control character at line 1"),
        (b'{"schema": 1, "flags": {}} {}', "$: not JSON: more text after the document at line 1"),
        (b'{"schema": 1, "flags": {"a": "\xff"}}', "$: not UTF-8 at byte 30"),
        ('{"schema": 1, "flags": {}}'.encode("utf-16"), "$: not UTF-8 at byte 0"),
        (b'{"schema": 1, "flags": {"a": ' + b"[" * 100_000, "$: nested too deeply"),
        (b'{"schema": 1, "flags": {"a": ' + b'{"a":' * 100_000, "$: nested too deeply"),
        (b'{"schema": 1, "flags": {}, "number": ' + b"9" * 5000 + b"}", "$: not JSON that can be read: a number is"),
    ],
)
def test_what_is_not_json_is_refused_in_one_line(data: bytes, why: str) -> None:
    (line,) = refused(data)
    assert line.startswith(why)
    assert line.isprintable()


@pytest.mark.parametrize(
    ("head", "why"),
    [
        ({"schema": None}, "$.schema: got null; expected 1, the version of this format"),
        ({"schema": 2}, "$.schema: got 2; expected 1, the version of this format"),
        ({"schema": "1"}, '$.schema: got "1"; expected 1, the version of this format'),
        ({"schema": True}, "$.schema: got true; expected 1, the version of this format"),
        ({"flags": []}, "$.flags: got []; expected an object"),
        ({"flags": None}, "$.flags: got null; expected an object"),
        ({"segments": []}, "$.segments: got []; expected an object"),
        ({"version": 7}, "$.version: got 7; expected a string of 1 to 128 printable characters"),
        ({"environment": ""}, '$.environment: got ""; expected a string of 1 to 128 printable characters'),
        ({"epoch": 1}, "$.epoch: got 1; expected a string of 1 to 128 printable characters"),
        ({"number": -1}, "$.number: got -1; expected a whole number from 0 to 9,007,199,254,740,992"),
        ({"number": 1.5}, "$.number: got 1.5; expected a whole number from 0 to 9,007,199,254,740,992"),
        ({"replaces": "yes"}, '$.replaces: got "yes"; expected true or false'),
        ({"flag_count": 3}, "$.flag_count: says 3 flags, but there are 0"),
        ({"layers": []}, "$.layers: got []; expected an object"),
        ({"layers": {"l": 5}}, "$.layers.l: got 5; expected an object"),
        ({"layers": {"l": {}}}, "$.layers.l.slots: got null; expected an object"),
        ({"layers": {"a b": {"slots": {}}}}, "$.layers.a b: got"),
        ({"layers": {"l": {"slots": {}, "slot": {}}}}, '$.layers.l.slot: unknown field; did you mean "slots"?'),
        ({"layers": {"l": {"slots": {"f": 20}}}}, "$.layers.l.slots.f: got 20; expected an array"),
        ({"layers": {"l": {"slots": {"f": [20]}}}}, "$.layers.l.slots.f: got [20]; expected a pair of percentages"),
        ({"layers": {"l": {"slots": {"f": [20, 10]}}}}, "$.layers.l.slots.f: got [20, 10]; expected the lower"),
        ({"layers": {"l": {"slots": {"f": [0, 101]}}}}, "$.layers.l.slots.f[1]: got 101; expected a percentage"),
        (
            {"layers": {"l": {"slots": {"f": [0, 20], "g": [19.999, 40]}}}},
            '$.layers.l.slots.g: overlaps the slot of "f"',
        ),
        (
            {"layers": {"l": {"slots": {"f": [0, 20]}}, "m": {"slots": {"f": [0, 20]}}}},
            "$.layers.m.slots.f: the flag is in another layer already",
        ),
        ({"holdouts": {"h": {"flags": ["*"]}}}, "$.holdouts.h.percent: got null; expected a percentage from 0 to 100"),
        ({"holdouts": {"h": {"percent": 2}}}, "$.holdouts.h.flags: got null; expected an array"),
        ({"holdouts": {"h": {"percent": 2, "flags": ["a b"]}}}, '$.holdouts.h.flags: got "a b"; expected 1 to 128'),
        ({"holdouts": {"h": {"percent": 2, "flags": [], "salt": ""}}}, '$.holdouts.h.salt: got ""; expected 1 to 128'),
    ],
)
def test_a_document_of_the_wrong_shape_is_refused_in_one_line(head: Json, why: str) -> None:
    (line,) = refused(json.dumps({"schema": 1, "flags": {}, **head}).encode())
    assert line.startswith(why)
    assert line.isprintable()


def test_all_that_is_wrong_with_a_document_is_told_at_once() -> None:
    lines = refused(document(version=7, number="x", layers=[]))
    assert [line.split(":")[0] for line in lines] == ["$.version", "$.number", "$.layers"]


@pytest.mark.parametrize("key", ["schema", "flags", "version", "segments"])
def test_a_part_that_stands_twice_is_refused(key: str) -> None:
    text = '{"schema": 1, "flags": {}, "version": "1", "segments": {}, '
    part = {"schema": "1", "flags": "{}", "version": '"2"', "segments": "{}"}[key]
    assert refused(f'{text}"{key}": {part}}}'.encode()) == [f"$.{key}: the key stands twice"]


def test_a_field_nobody_knows_is_a_problem_but_the_document_is_used() -> None:
    read = parsed({"a": {}}, flgs={}, **{"$schema": "https://example.com/schema.json"})
    assert read.problems == (Problem("$.flgs", 'unknown field; did you mean "flags"?', None, False),)
    assert set(read.definitions.flags) == {"a"}


def test_a_byte_order_mark_and_white_space_do_not_matter() -> None:
    assert set(native.parse(b"\xef\xbb\xbf \r\n\t" + document({"a": {}}) + b"\n\n").definitions.flags) == {"a"}


def test_the_head_of_the_document_is_kept() -> None:
    definitions = parsed(version="7", environment="test", epoch="e", number=12, flag_count=0).definitions
    assert (definitions.version, definitions.environment) == ("7", "test")
    assert (definitions.epoch, definitions.number) == ("e", 12)


@given(st.binary(max_size=80) | st.text(max_size=60).map(str.encode))
@STEADY
def test_no_bytes_make_it_raise_anything_but_a_refusal(data: bytes) -> None:
    said: tuple[Problem, ...] = ()
    try:
        native.parse(data)
    except DefinitionsError as error:
        said = error.problems
    assert all(str(problem).isprintable() for problem in said)


@given(st.data())
@STEADY
def test_a_document_cut_off_anywhere_is_refused(data: st.DataObject) -> None:
    whole = document({"a": HALF, "b": when({"segment": "team"})}, segments=SEGMENTS, version="7")
    lines = refused(whole[: data.draw(st.integers(0, len(whole) - 1))])
    assert len(lines) == 1


@pytest.mark.parametrize(
    "around",
    [
        b'{"schema": 1, "flags": {"a": %s}}',
        b'{"schema": 1, "flags": {}, "version": %s}',
        b'{"schema": 1, "flags": {"a": {"exclude": [{"attribute": "a", "op": "in", "values": [%s]}]}}}',
        b'{"schema": 1, "flags": {}, "segments": {"a": %s}}',
    ],
)
def test_nesting_about_as_deep_as_the_interpreter_goes_is_refused_like_any_other(around: bytes) -> None:
    for depth in range(sys.getrecursionlimit() - 100, sys.getrecursionlimit() + 10):
        try:
            native.parse(around % (b"[" * depth + b"]" * depth))
        except DefinitionsError:
            continue


def test_a_slot_and_a_holdout_for_a_flag_that_is_not_there_are_said_and_change_nothing() -> None:
    head = {"layers": {"l": {"slots": {"ghost": [0, 50]}}}, "holdouts": {"h": {"percent": 1, "flags": ["ghost", "a"]}}}
    read = parsed({"a": {}}, **head)
    assert [(problem.path, problem.refused) for problem in read.problems] == [
        ("$.layers.l.slots.ghost", False),
        ("$.holdouts.h.flags", False),
    ]
    assert all("not defined" in problem.message for problem in read.problems)


# -- accidents -------------------------------------------------------------------------------------------------------


def test_a_document_in_which_a_fifth_of_the_flags_are_bad_is_refused_whole() -> None:
    bad = {"enabled": "yes"}
    flags = {**FLAGS, **{f"flag-{number}": bad for number in range(8)}}
    assert len(parsed(flags).problems) == 8
    lines = refused(document({**flags, "flag-8": bad}))
    assert lines[0] == "$.flags: 9 of 40 flags are bad: the document is refused"
    assert len(lines) == 10


def test_five_bad_flags_are_never_too_many() -> None:
    flags = {f"flag-{number}": {"enabled": "yes"} for number in range(5)}
    assert parsed(flags).definitions.refused == set(flags)


def test_most_of_the_flags_vanishing_at_once_is_taken_for_an_accident_unless_it_is_said_to_be_meant() -> None:
    before = parsed(FLAGS).definitions
    few = {f"flag-{number}": HALF for number in range(19)}
    assert refused(document(few), before) == [
        '$.flags: 21 of 40 flags are gone: refused; if that is meant, add "replaces": true'
    ]
    assert len(parsed(few, before, replaces=True).definitions.flags) == 19
    assert len(parsed({**few, "flag-19": HALF}, before).definitions.flags) == 20


def test_all_flags_vanishing_is_an_accident_however_few_they_were() -> None:
    before = parsed({"a": {}}).definitions
    assert "1 of 1 flags are gone" in refused(document({}), before)[0]
    assert parsed({}, before, replaces=True).definitions.flags == {}
    assert parsed({"b": {}}, before).definitions.flags.keys() == {"b"}


# -- good versions stay ----------------------------------------------------------------------------------------------


def test_a_bad_flag_keeps_its_good_version_through_any_number_of_bad_ones() -> None:
    good = parsed({"a": ON, "b": {}}).definitions
    now = good
    for owner in (1, 2, 3):
        now = parsed({"a": {"owner": owner}, "b": {}}, now).definitions
        assert now.flags["a"] is good.flags["a"]
    assert parsed({"a": HALF, "b": {}}, now).problems == ()


def test_a_bad_segment_keeps_its_good_version() -> None:
    flags = {"a": when({"segment": "team"})}
    before = parsed(flags, segments=SEGMENTS).definitions
    after = parsed(flags, before, segments={"team": {"units": "user-1"}})
    assert [str(problem) for problem in after.problems] == [
        '$.segments.team.units: got "user-1"; expected an array of units'
    ]
    assert after.definitions.flags["a"] is before.flags["a"]
    assert after.definitions.segments["team"] is before.segments["team"]


def test_a_flag_whose_segment_is_bad_and_new_is_refused_with_it() -> None:
    read = parsed({"a": when({"segment": "team"}), "b": {}}, segments={"team": {"unit": ["user-1"]}})
    assert read.definitions.refused == {"a"}
    assert [problem.path for problem in read.problems][-1] == "$.flags.a"


@pytest.mark.parametrize(
    ("segment", "path"),
    [
        ({}, ""),
        ({"units": [], "any": []}, ".any"),
        ({"all": [5]}, ".all[0]"),
        ({"units": [""]}, ".units[0]"),
        (["user-1"], ""),
        ({"members": ["user-1"], "units": []}, ".members"),
    ],
)
def test_a_mistake_in_a_segment_is_one_line(segment: Any, path: str) -> None:
    (problem,) = parsed(segments={"s": segment}).problems
    assert problem.path == f"$.segments.s{path}"


@pytest.mark.parametrize(
    "flags",
    [
        '"a": {"enabled": false}, "a": {}',
        '"a": {}, "a": {"enabled": false}',
        '"a": {"enabled": false, "owner": 5}, "a": {}',
    ],
)
def test_a_flag_that_stands_twice_is_refused_and_off_wins(flags: str) -> None:
    before = parsed({"a": ON}).definitions
    read = native.parse(b'{"schema": 1, "flags": {%s, "b": {}}}' % flags.encode(), before)
    assert "$.flags.a: the flag stands twice" in [str(problem) for problem in read.problems]
    assert read.definitions.flags["a"].enabled is False


def test_a_flag_that_stands_twice_keeps_its_good_version() -> None:
    before = parsed({"a": ON}).definitions
    read = native.parse(b'{"schema": 1, "flags": {"a": {}, "a": {"kind": "ops"}}}', before)
    assert read.definitions.flags["a"] is before.flags["a"]
    assert native.parse(b'{"schema": 1, "flags": {"a": {}, "a": {}, "a": {}}}').definitions.refused == {"a"}


def test_what_is_said_of_a_flag_in_use_is_said_again_after_every_refresh() -> None:
    guarded = {"guard": {"alpha": 0}}
    first = parsed({"a": guarded, "b": {}})
    assert [problem.path for problem in first.problems] == ["$.flags.a.guard.alpha"]
    assert parsed({"a": guarded, "b": ON}, first.definitions).problems == first.problems


def test_what_has_tripped_is_read_with_its_guard_and_does_not_make_another_version() -> None:
    flag = {**ON, "guard": {"revision": 3}}
    read = parsed({"f": {**flag, "guard": {"revision": 3, "tripped": {"on": "errors"}}}})
    assert read.problems == ()
    assert read.definitions.flags["f"].tripped == {"on": "errors"}
    assert version_of(read.definitions.flags["f"]) == version_of(parsed({"f": flag}).definitions.flags["f"])


HELD = {"rules": {"r": {"percent": 2.5, "shares": {"on": 1}}}, "why": "it hurts"}


def test_what_is_held_is_read_with_its_guard_and_does_not_make_another_version() -> None:
    flag = {**ON, "guard": {"revision": 3}}
    read = parsed({"f": {**flag, "guard": {"revision": 3, "held": HELD}}})
    assert read.problems == ()
    assert read.definitions.flags["f"].held == Hold({"r": Dealing(2500, {"on": 1})}, "", "it hurts")
    assert version_of(read.definitions.flags["f"]) == version_of(parsed({"f": flag}).definitions.flags["f"])


@pytest.mark.parametrize(
    ("held", "path"),
    [
        ([], "held"),
        ({}, "held"),
        ({**HELD, "why": 5}, "held.why"),
        ({**HELD, "rules": {"r": {"percent": 300, "shares": {"on": 1}}}}, "held.rules"),
    ],
)
def test_a_hold_that_cannot_be_read_costs_the_guard(held: Any, path: str) -> None:
    read = parsed({"f": {**ON, "guard": {"held": held}}})
    assert f"$.flags.f.guard.{path}" in [problem.path for problem in read.problems] or path == "held"
    assert read.problems
    assert (read.definitions.flags["f"].guard, read.definitions.flags["f"].held) == (None, None)


def test_a_trip_of_what_is_no_variant_costs_the_guard() -> None:
    read = parsed({"f": {**ON, "guard": {"tripped": {"none": "errors"}}}})
    assert [problem.path for problem in read.problems] == ["$.flags.f.guard.tripped"]
    assert (read.definitions.flags["f"].guard, read.definitions.flags["f"].tripped) == (None, {})
