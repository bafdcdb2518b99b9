"""What did not change from one document to the next is the same object, however the document is written."""

from __future__ import annotations

import gc
import json
import timeit
from collections.abc import Callable
from typing import Any

import pytest
from documents import HALF, ON, parsed, when

from flagkit.core.model import Definitions, FlagDefinition
from flagkit.dialects import native
from flagkit.errors import DefinitionsError

Json = dict[str, Any]
FLAGS: Json = {f"flag-{number}": HALF for number in range(40)}
SEGMENTS: Json = {"team": {"units": ["user-1"]}}


def refused(data: bytes, previous: Definitions | None = None) -> list[str]:
    """The lines that say why a document is refused whole."""
    with pytest.raises(DefinitionsError) as caught:
        native.parse(data, previous)
    assert str(caught.value) == "; ".join(map(str, caught.value.problems))
    return [str(problem) for problem in caught.value.problems]


def one_a_line(flags: Json) -> bytes:
    lines = ",\n".join(f"{json.dumps(key)}:{json.dumps(flag)}" for key, flag in flags.items())
    segments = ",\n".join(f"{json.dumps(name)}:{json.dumps(segment)}" for name, segment in SEGMENTS.items())
    return f'{{"schema":1,"segments":{{\n{segments}\n}},"flags":{{\n{lines}\n}}}}'.encode()


def minified(flags: Json) -> bytes:
    return json.dumps({"schema": 1, "segments": SEGMENTS, "flags": flags}, separators=(",", ":")).encode()


def indented(flags: Json) -> bytes:
    return json.dumps({"flags": flags, "schema": 1, "segments": SEGMENTS}, indent=4).encode()


def with_carriage_returns(flags: Json) -> bytes:
    return one_a_line(flags).replace(b"\n", b"\r\n")


@pytest.mark.parametrize("written", [one_a_line, minified, indented, with_carriage_returns])
def test_what_did_not_change_is_the_same_object_however_the_document_is_written(written: Any) -> None:
    flags = {**FLAGS, "member": when({"segment": "team"})}
    before = native.parse(written(flags)).definitions
    after = native.parse(written({**flags, "flag-7": ON, "new": ON}), before)
    assert after.problems == ()
    changed = [key for key in flags if after.definitions.flags[key] is not before.flags[key]]
    assert changed == ["flag-7"]
    assert list(after.definitions.flags) == [*flags, "new"]
    assert after.definitions.segments["team"] is before.segments["team"]


@pytest.mark.parametrize("written", [one_a_line, minified, indented])
def test_a_flag_may_move_and_the_last_line_is_like_any_other(written: Any) -> None:
    before = native.parse(written(FLAGS)).definitions
    backwards = dict(reversed(FLAGS.items()))
    after = native.parse(written(backwards), before).definitions
    assert list(after.flags) == list(backwards)
    assert all(after.flags[key] is before.flags[key] for key in FLAGS)


def test_a_flag_and_a_segment_of_one_text_are_not_taken_for_each_other() -> None:
    line = b'"team":{"units":["user-1"]}'
    before = native.parse(b'{"schema":1,"flags":{"a":{}},"segments":{\n%s,\n"s":{"units":[]}}}' % line).definitions
    read = native.parse(b'{"schema":1,"flags":{\n%s,\n"a":{}}}' % line, before)
    assert [problem.path for problem in read.problems] == ["$.flags.team.units"]
    assert read.definitions.refused == {"team"}


@pytest.mark.parametrize("written", [one_a_line, minified, indented])
def test_reuse_changes_nothing_about_what_is_read(written: Any) -> None:
    before = native.parse(written({**FLAGS, "a": ON, "b": HALF})).definitions
    flags = {**FLAGS, "a": HALF, "b": ON}
    again, afresh = native.parse(written(flags), before), native.parse(written(flags))
    assert again.definitions.flags == afresh.definitions.flags
    assert again.definitions.entries == afresh.definitions.entries
    assert again.problems == afresh.problems == ()


@pytest.mark.parametrize("tail", [b",}}", b",\n}}", b",\n,\n}}", b"\n}", b""])
def test_reuse_is_as_strict_as_reading(tail: bytes) -> None:
    text = b'{"schema":1,"flags":{\n"a":{},\n"b":{}'
    before = native.parse(text + b',\n"c":{}}}').definitions
    assert len(refused(text + tail, before)) == 1


def test_definitions_of_the_past_are_not_kept() -> None:
    now = parsed({"past": {"version": 0}, "b": {}}).definitions
    for version in range(1, 5):
        now = parsed({"past": {"version": version}, "b": {}}, now).definitions
    gc.collect()
    kept = [each for each in gc.get_objects() if type(each) is FlagDefinition and each.key == "past"]
    assert [each.version for each in kept] == ["4"]
    assert len(now.entries) == 3


def test_a_minified_document_is_read_in_a_small_multiple_of_plain_json() -> None:
    data = minified({f"flag-{number}": {"description": "x" * 2000} for number in range(4000)})
    before = native.parse(data).definitions

    def best_s(read: Callable[[], Any]) -> float:
        return min(timeit.repeat(read, number=1, repeat=5))

    assert best_s(lambda: native.parse(data, before)) < 20 * best_s(lambda: json.loads(data))
