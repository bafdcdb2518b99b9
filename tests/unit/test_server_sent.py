"""Server-sent events, however the bytes are cut."""

from __future__ import annotations

import pytest
from documents import STEADY
from hypothesis import given
from hypothesis import strategies as some

from flagkit.http import ServerSent

STREAM = b': hello\n\nid: 1\ndata: {"a": 1}\n\nevent: x\ndata:one\ndata: two\n\nretry: 5\n\ndata\n\n:\n\ndata: \n\n'
MEANT = [None, b'{"a": 1}', b"one\ntwo", None, b""]


def test_data_and_comments_are_what_counts() -> None:
    assert ServerSent(1000).feed(STREAM) == MEANT


def test_lines_may_end_as_in_http() -> None:
    assert ServerSent(1000).feed(STREAM.replace(b"\n", b"\r\n")) == MEANT


@STEADY
@given(cuts=some.lists(some.integers(0, len(STREAM)), max_size=20))
def test_where_the_bytes_are_cut_makes_no_difference(cuts: list[int]) -> None:
    ends = sorted({*cuts, len(STREAM)})
    events = ServerSent(1000)
    found = [event for start, end in zip([0, *ends], ends, strict=False) for event in events.feed(STREAM[start:end])]
    assert found == MEANT


def test_what_is_not_complete_is_not_an_event() -> None:
    events = ServerSent(1000)
    assert events.feed(b"data: one\n") == []
    assert events.feed(b"data: two") == []
    assert events.feed(b"\n\n") == [b"one\ntwo"]


@pytest.mark.parametrize(
    "pieces",
    [
        [b"x" * 101],
        [b"x"] * 101,
        [b"data: " + b"x" * 95 + b"\n"],
        [b"data: x\n"] * 15,
        [b"id: " + b"x" * 90 + b"\ndata: 12345678\n"],
    ],
)
def test_an_event_is_never_larger_than_the_bound(pieces: list[bytes]) -> None:
    events = ServerSent(100)
    assert [events.feed(piece) for piece in pieces][-1] is None
    assert sum(map(len, events._data)) + len(events._line) <= 101


def test_the_bound_is_for_each_event_and_not_for_the_stream() -> None:
    events = ServerSent(100)
    assert [events.feed(b"data: " + b"x" * 94 + b"\n\n") for _ in range(50)] == [[b"x" * 94]] * 50
