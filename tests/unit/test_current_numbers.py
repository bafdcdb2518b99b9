"""The definitions in use, by number: what is older, late or told, and two threads that bring it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from documents import ON, document
from fakes import in_threads
from test_current import USER, Watched

from flagkit.errors import DefinitionsError


@pytest.fixture
def watched() -> Watched:
    return Watched()


def numbered(number: int, epoch: str = "e", **flags: Any) -> bytes:
    return document({"f": ON, **flags}, epoch=epoch, number=number)


def number_of(watched: Watched) -> int | None:
    return watched.current.snapshot.definitions.number


def poll(watched: Watched, data: bytes, validator: str | None = None) -> bool:
    """A document arrives that was asked for just now, as the poller has it arrive."""
    taken = watched.current.install(data, validator, watched.current.generation)
    if taken:
        watched.current.confirm(None)
    return taken


def test_an_older_number_is_set_aside_for_five_minutes_and_then_taken_and_told(watched: Watched) -> None:
    poll(watched, numbered(9))
    assert not poll(watched, numbered(7))
    assert number_of(watched) == 9
    assert [problem.path for problem in watched.current.problems] == ["$.number"]
    watched.clock.advance(299)
    assert not poll(watched, numbered(8))
    assert watched.current.age_s == 299, "what is older confirms nothing"
    watched.clock.advance(1)
    assert poll(watched, numbered(8))
    assert number_of(watched) == 8
    (problem,) = watched.current.problems
    assert "gone back" in problem.message
    poll(watched, numbered(10))
    assert watched.current.problems == ()


def test_a_replica_that_lags_behind_is_absorbed_as_long_as_another_does_not(watched: Watched) -> None:
    poll(watched, numbered(9))
    for _ in range(10):
        watched.clock.advance(100)
        assert not poll(watched, numbered(8))
        watched.clock.advance(100)
        assert poll(watched, numbered(9))
        assert watched.current.problems == ()


@pytest.mark.parametrize(
    "data",
    [numbered(1, epoch="f"), document({"f": ON}), document({"f": ON}, epoch="e"), document({"f": ON}, number=1)],
)
def test_what_has_another_epoch_or_no_number_is_taken(watched: Watched, data: bytes) -> None:
    poll(watched, numbered(9))
    assert poll(watched, data)


def test_the_first_document_of_all_is_taken_whatever_its_number(watched: Watched) -> None:
    assert poll(watched, numbered(0))


def test_a_late_document_replaces_what_came_meanwhile_only_if_it_is_newer(watched: Watched) -> None:
    poll(watched, numbered(5))
    asked = watched.current.generation
    watched.current.install(numbered(7), None)
    for late in (numbered(6), numbered(7, g=ON), numbered(9, epoch="f"), document({"f": ON}), b"{"):
        assert not watched.current.install(late, None, asked)
        assert (number_of(watched), watched.current.problems) == (7, ())
    assert watched.current.install(numbered(8), None, asked)
    assert number_of(watched) == 8


def test_the_validator_is_that_of_the_definitions_in_use(watched: Watched) -> None:
    assert watched.current.validator is None
    poll(watched, numbered(1), "one")
    assert (watched.current.validator, watched.current.whole) == ("one", True)
    with pytest.raises(DefinitionsError):
        watched.current.install(b"{", "two")
    assert watched.current.validator == "one"
    watched.current.follow(news(2, "two", f={}))
    assert (watched.current.validator, watched.current.whole) == ('"two"', False)
    poll(watched, numbered(3))
    assert (watched.current.validator, watched.current.whole) == (None, True)


def news(number: int, etag: str = "", **flags: Any) -> bytes:
    head = {"epoch": "e", "number": number, "base": number - 1, "removed": [], "flag_count": 1, "etag": f'"{etag}"'}
    return json.dumps({**head, "flags": flags}).encode()


def test_a_change_is_applied_published_and_a_confirmation(watched: Watched) -> None:
    poll(watched, numbered(1))
    watched.clock.advance(50)
    followed = watched.current.follow(news(2, f={}))
    assert followed.confirmed
    assert (number_of(watched), watched.current.mark, watched.current.age_s) == (2, "e:2", 0)
    assert not watched.current.snapshot.decide("f", USER).enabled
    assert watched.published[-1] is watched.current.snapshot


def test_news_of_no_change_are_a_confirmation_and_old_news_are_not(watched: Watched) -> None:
    poll(watched, numbered(5))
    published = len(watched.published)
    watched.clock.advance(50)
    assert not watched.current.follow(b'{"epoch": "e", "number": 4}').confirmed
    assert watched.current.age_s == 50
    assert watched.current.follow(b'{"epoch": "e", "number": 5}').confirmed
    assert (watched.current.age_s, len(watched.published)) == (0, published)


@pytest.mark.parametrize("data", [b"{", news(4, f={}), b'{"epoch": "e", "number": 2, "reload": true}'])
def test_news_that_cannot_be_applied_change_nothing_and_mean_a_fetch(watched: Watched, data: bytes) -> None:
    poll(watched, numbered(1))
    watched.clock.advance(50)
    assert watched.current.follow(data).fetch
    assert (number_of(watched), watched.current.age_s, watched.current.problems) == (1, 50, ())


def test_news_before_the_first_document_mean_a_fetch(watched: Watched) -> None:
    assert watched.current.follow(news(2, f={})).fetch
    assert not watched.current.snapshot.ready


def test_a_change_with_a_bad_flag_is_a_problem_and_the_next_one_means_a_fetch(watched: Watched) -> None:
    poll(watched, numbered(1))
    assert watched.current.follow(news(2, f={"default": 5})).confirmed
    assert [problem.flag for problem in watched.current.problems] == ["f"]
    assert watched.current.snapshot.decide("f", USER).enabled
    assert watched.current.follow(news(3, f={"enabled": False})).fetch


def test_flags_that_a_refused_document_turned_off_are_no_ground_for_a_change(watched: Watched) -> None:
    flags = {f"flag-{number}": ON for number in range(20)}
    poll(watched, document(flags, epoch="e", number=1), "one")
    few = {key: {"enabled": False} for key in list(flags)[:4]}
    with pytest.raises(DefinitionsError):
        watched.current.install(document(few, epoch="e", number=2))
    assert not watched.current.snapshot.decide("flag-0", USER).enabled
    assert watched.current.validator is None
    assert watched.current.follow(news(2, flag_0={})).fetch


def test_what_was_read_against_definitions_that_are_gone_is_read_again(watched: Watched) -> None:
    poll(watched, numbered(1))
    parse = watched.current._parse
    overtaken = []

    def slow(data: bytes, known: Any) -> Any:
        parsed = parse(data, known)
        if not overtaken:
            overtaken.append(watched.current.follow(news(2, f={})).confirmed)
        return parsed

    watched.current._parse = slow
    assert watched.current.install(numbered(3), None, watched.current.generation)
    assert overtaken == [True]
    assert number_of(watched) == 3
    watched.current._parse = parse

    follow, met = watched.current._follow, []

    def late(data: bytes, known: Any) -> Any:
        followed = follow(data, known)
        if not met:
            met.append(known.number)
            watched.current.install(numbered(5))
        return followed

    watched.current._follow = late
    assert not watched.current.follow(news(4, f={})).parsed, "it was made from number 3, not from 5"
    assert (met, number_of(watched)) == ([3], 5)


def test_a_poller_and_a_stream_at_the_same_time_never_go_back(watched: Watched) -> None:
    """Changes 2 to 300 are told in order while documents, some of them late, keep coming in."""
    watched.current.install(numbered(1, f={"owner": "1"}))
    latest = [1]
    seen: list[int] = []
    watched.current._publish = lambda new, _: seen.append(watched.current.snapshot.definitions.number)

    def bring(index: int) -> None:
        if index == 0:
            for number in range(2, 300):
                latest[0] = number
                watched.current.follow(news(number, f={"owner": str(number)}))
        else:
            while latest[0] < 299:
                asked, number = watched.current.generation, latest[0] - index + 1
                watched.current.install(numbered(max(1, number), f={"owner": str(number)}), None, asked)
                watched.current.age()

    in_threads(4, bring)
    assert number_of(watched) is not None
    assert number_of(watched) == max(seen)
    assert watched.current.snapshot.definitions.flags["f"].owner == str(number_of(watched))
