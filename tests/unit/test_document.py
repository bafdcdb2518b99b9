"""A document is read as ``json`` reads it, whatever the size of what is in it, and never for long at a stretch."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flagkit.dialects.document import Document
from flagkit.errors import DefinitionsError

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**60), 2**60)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=30)
)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4)
)
LARGE: dict[str, Any] = {
    "object": {f"key {number}": number for number in range(2000)},
    "list": [f"unit-{number}" for number in range(2000)],
    "of small lists": {f"k{number}": [number, None] for number in range(2000)},
    "of large ones": [{f"k{number}": [[[number]] * 3] for number in range(900)}] * 3,
    "text": "\\ud83d\\ude00" * 2000,
    "empty": [[], {}, "", [[]], {"": {}}] * 1500,
}


def read(text: str) -> Any:
    """The member ``x`` of a document."""
    ((_, _, value, *_),) = [entry for entry in Document(text.encode(), {}).entries() if entry.key == "x"]
    return value


@pytest.mark.parametrize("what", LARGE)
@pytest.mark.parametrize("indent", [None, 2])
def test_a_large_value_is_what_json_says_it_is(what: str, indent: int | None) -> None:
    value = LARGE[what]
    text = json.dumps({"a": 1, "x": value, "b": [2]}, indent=indent)
    assert read(text) == json.loads(text)["x"]


@settings(max_examples=60, deadline=None)
@given(VALUES, st.integers(0, 40), st.sampled_from([None, 1]))
def test_any_value_is_what_json_says_it_is_wherever_a_piece_ends(value: Any, shift: int, indent: int | None) -> None:
    text = json.dumps({"x": ["-" * (4050 + shift), value, {"after": value}], "end": True}, indent=indent)
    assert read(text) == json.loads(text)["x"]


@pytest.mark.parametrize(
    ("broken", "why"),
    [
        ("[%s,]", "a value expected"),
        ("[%s 1]", "a comma or a closing bracket expected"),
        ('{"k":%s,}', "a comma with nothing after it|a key in double quotes expected"),
        ('{"k":%s "l":1}', "a comma or a closing brace expected"),
        ("[%s", "expected"),
        ("[%s,tru]", "a value expected"),
    ],
)
def test_a_mistake_behind_much_is_found_where_it_is(broken: str, why: str) -> None:
    much = json.dumps(["unit"] * 2000)
    with pytest.raises(DefinitionsError, match=why) as caught:
        read('{"x":' + broken % much + "}")
    column = int(str(caught.value).rpartition("column ")[2].split()[0])
    assert column > len(much)


def test_a_key_that_stands_twice_in_a_large_object_is_a_flaw() -> None:
    members = ",".join(f'"k{number}":0' for number in range(2000))
    (entry,) = Document(('{"x":{' + members + ',"k7":1}}').encode(), {}).entries()
    assert entry.flaws == ('the key "k7" stands twice',)


def test_a_flaw_in_the_first_piece_is_told_once() -> None:
    (entry,) = Document(b'{"x":[NaN,"' + b"-" * 5000 + b'"]}', {}).entries()
    assert entry.flaws == ("NaN is not JSON",)


def test_nesting_without_end_is_refused() -> None:
    with pytest.raises(DefinitionsError, match="nested too deeply"):
        read('{"x":' + "[" * 100_000 + "]" * 100_000 + "}")
