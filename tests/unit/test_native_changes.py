"""Changes of native definitions: what is told, and what becomes of it on the other side."""

from __future__ import annotations

import json
from typing import Any

import pytest
from documents import HALF, ON, STEADY, when
from hypothesis import given
from hypothesis import strategies as some

from flagkit.core.model import Definitions
from flagkit.dialects import Followed, follower, native
from flagkit.dialects.native_changes import MOST_BYTES, announcement, change, follow
from flagkit.dialects.native_envelope import enveloped
from flagkit.errors import DefinitionsError

Json = dict[str, Any]
TEAM = {"team": {"units": ["user-1"]}}
FLAGS: Json = {"a": ON, "b": HALF, "member": when({"segment": "team"})}


def published(flags: Json, number: int = 1, epoch: str = "e", **head: Any) -> Definitions:
    """Definitions as a client has them who fetched their document."""
    document = {"schema": 1, "segments": TEAM, "flags": flags, **head}
    parsed = native.parse(enveloped(document, epoch, number).body)
    assert [problem for problem in parsed.problems if problem.refused] == []
    return parsed.definitions


def told(before: Definitions, after: Definitions) -> Json:
    news: Json = json.loads(change(before, after, etag='"w"', spread_ms=7))
    return news


def news(**fields: Any) -> bytes:
    base = {"epoch": "e", "number": 2, "base": 1, "flag_count": 3, "removed": [], "flags": {}}
    return json.dumps({**base, **fields}).encode()


def alike(one: Definitions, other: Definitions) -> bool:
    """Whether they are the same, but for the order of their flags."""
    assert one.flags.keys() == other.flags.keys()
    return one == other._replace(flags=one.flags, entries=one.entries) and dict(one.flags) == dict(other.flags)


# -- telling


def test_a_change_says_what_it_is_made_of_and_names_only_what_differs() -> None:
    before = published(FLAGS, version="1")
    after = published({"b": FLAGS["b"], "member": FLAGS["member"], "a": {"enabled": False}, "new": {}}, 2, version="2")
    assert told(before, after) == {
        "epoch": "e",
        "number": 2,
        "base": 1,
        "flag_count": 4,
        "etag": '"w"',
        "removed": [],
        "version": "2",
        "flags": {"a": {"enabled": False}, "new": {}},
    }


def test_a_flag_that_is_gone_is_named() -> None:
    assert told(published(FLAGS), published({"a": ON}, 2))["removed"] == ["b", "member"]


def test_news_are_one_line() -> None:
    flags = {"a": {"description": "one\ntwo\u2028three\r"}}
    assert change(published({}), published(flags, 2), etag="", spread_ms=0).splitlines(keepends=True)[1:] == []


@pytest.mark.parametrize(
    "head",
    [
        {"segments": {"team": {"units": ["user-2"]}}},
        {"layers": {"l": {"slots": {"b": [0, 50]}}}},
        {"holdouts": {"h": {"percent": 1, "flags": ["*"]}}},
        {"environment": "production"},
        {"epoch": "f"},
    ],
)
def test_what_is_about_more_than_flags_means_a_fetch_for_everyone(head: Json) -> None:
    after = published(FLAGS, 2, **head)
    assert told(published(FLAGS), after) == {"epoch": after.epoch, "number": 2, "reload": True, "spread_ms": 7}
    followed = follow(change(published(FLAGS), after, etag="", spread_ms=7), published(FLAGS))
    assert followed == Followed(fetch=True, spread_s=0.007)


def test_a_change_that_is_too_large_is_not_told() -> None:
    texts = {f"flag-{number}": {"description": "x" * 950} for number in range(MOST_BYTES // 980)}
    assert told(published({}), published({**texts, "one": texts["flag-0"]}, 2))["reload"] is True
    del texts["flag-0"]
    assert len(told(published({}), published(texts, 2))["flags"]) == len(texts)


# -- following


def test_a_change_makes_the_definitions_that_the_document_would_have_made() -> None:
    before = published(FLAGS, version="1")
    after = published({"new": {}, "member": FLAGS["member"], "a": {"enabled": False}}, 2, version="2")
    followed = follow(change(before, after, etag='"w"', spread_ms=0), before)
    assert followed.parsed is not None
    assert alike(followed.parsed.definitions, after)
    assert (followed.confirmed, followed.validator, followed.fetch) == (True, '"w"', False)
    assert followed.parsed.definitions.flags["member"] is before.flags["member"]


def test_a_changed_flag_stays_where_it_was() -> None:
    before = published(FLAGS)
    followed = follow(news(flags={"a": {}}), before)
    assert followed.parsed is not None
    assert list(followed.parsed.definitions.flags) == list(FLAGS)


def test_the_document_after_a_change_reuses_every_flag_of_it() -> None:
    before = published(FLAGS)
    document = enveloped({"schema": 1, "segments": TEAM, "flags": {**FLAGS, "a": {}}}, "e", 2)
    followed = follow(change(before, native.parse(document.body).definitions, etag=document.etag, spread_ms=0), before)
    assert followed.parsed is not None
    fetched = native.parse(document.body, followed.parsed.definitions).definitions
    assert all(fetched.flags[key] is followed.parsed.definitions.flags[key] for key in fetched.flags)
    assert fetched.segments["team"] is followed.parsed.definitions.segments["team"]


def test_where_the_service_is_confirms_or_means_a_fetch_or_nothing() -> None:
    here = published(FLAGS, 5)
    assert follow(announcement(here), here) == Followed(confirmed=True)
    assert follow(announcement(published(FLAGS, 6)), here) == Followed(fetch=True)
    assert follow(announcement(published(FLAGS, 4)), here) == Followed(), "the poller sees whether it stays so"
    assert follow(announcement(published(FLAGS, 4, "f")), here) == Followed(fetch=True)


def test_a_change_that_was_made_from_something_else_means_a_fetch() -> None:
    one, two, three = (published({**FLAGS, "a": {"description": str(n)}}, n) for n in (1, 2, 3))
    assert follow(change(two, three, etag="", spread_ms=0), one) == Followed(fetch=True)
    assert follow(change(one, two, etag="", spread_ms=0), three) == Followed(), "old news"
    assert follow(change(one, two, etag="", spread_ms=0), published(FLAGS, 1, "f")) == Followed(fetch=True)


def test_definitions_without_a_number_are_fetched_whenever_there_are_news() -> None:
    plain = native.parse(b'{"schema": 1, "flags": {}}').definitions
    assert follow(news(), plain) == Followed(fetch=True)


def test_what_stands_in_for_a_bad_flag_is_no_ground_for_a_change() -> None:
    before = published(FLAGS)
    body = enveloped({"schema": 1, "segments": TEAM, "flags": {**FLAGS, "a": {"default": 5}}}, "e", 2).body
    patched = native.parse(body, before).definitions
    assert patched.flags["a"] is before.flags["a"]
    assert follow(news(number=3, base=2, flags={"b": {}}), patched) == Followed(fetch=True)
    body = enveloped({"schema": 1, "segments": {}, "flags": FLAGS}, "e", 2).body
    patched = native.parse(body, before).definitions
    assert "team" in patched.segments
    assert follow(news(number=3, base=2, flags={"b": {}}), patched) == Followed(fetch=True)


def test_a_bad_flag_keeps_its_version_and_the_others_change() -> None:
    before = published(FLAGS)
    followed = follow(news(flags={"a": {"default": 5}, "b": {"enabled": False}}), before)
    assert followed.parsed is not None
    assert followed.parsed.definitions.flags["a"] is before.flags["a"]
    assert not followed.parsed.definitions.flags["b"].enabled
    assert [problem.flag for problem in followed.parsed.problems] == ["a"]


def test_a_bad_flag_that_is_off_is_off() -> None:
    followed = follow(news(flags={"a": {"default": 5, "enabled": False}}), published(FLAGS))
    assert followed.parsed is not None
    assert not followed.parsed.definitions.flags["a"].enabled


def test_references_are_looked_at_in_the_whole() -> None:
    before = published({"a": ON, "b": {"prerequisites": [{"flag": "a", "variants": ["on"]}]}, "c": {}})
    circle = follow(news(flags={"a": {"default": "on", "prerequisites": [{"flag": "b", "variants": ["on"]}]}}), before)
    assert circle.parsed is not None
    assert circle.parsed.definitions.flags["a"] is before.flags["a"]
    assert any("cycle" in problem.message for problem in circle.parsed.problems)
    gone = follow(news(removed=["a"], flag_count=2), before)
    assert gone.parsed is not None
    assert any('"a" is not defined' in problem.message for problem in gone.parsed.problems)


def test_remarks_on_flags_that_stay_are_made_again() -> None:
    before = published({**FLAGS, "guarded": {"guard": {"alpha": 0}}})
    followed = follow(news(flags={"a": {}}, flag_count=4), before)
    assert followed.parsed is not None
    assert [problem.flag for problem in followed.parsed.problems] == ["guarded"]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"7",
        b"{",
        b"[]",
        b'{"number": 2}',
        b'{"epoch": 1, "number": 2}',
        b'{"epoch": "e", "number": "2"}',
        b'{"epoch": "e", "epoch": "e", "number": 2}',
        b"[" * 100_000,
        news(flags=[]),
        news(flags=None),
        news(flag_count=4),
        news(flag_count="3"),
        news(removed="a"),
        news(removed=[7]),
        news(removed=["b"]),
        news(version=2),
        news(flags={"a": {}}).replace(b'"a": {}', b'"a": {}, "a": {}'),
        news(flags={f"bad-{number}": 7 for number in range(6)}, flag_count=9),
    ],
)
def test_news_that_cannot_be_trusted_are_refused_whole(data: bytes) -> None:
    with pytest.raises(DefinitionsError) as caught:
        follow(data, published(FLAGS))
    assert caught.value.problems


def test_most_flags_vanishing_at_once_is_refused_as_in_a_document() -> None:
    flags = {f"flag-{number}": {} for number in range(20)}
    with pytest.raises(DefinitionsError):
        follow(news(removed=list(flags)[:15], flag_count=5), published(flags))


@pytest.mark.parametrize(
    ("said", "validator"),
    [
        ('"w"', '"w"'),
        ('W/"7"', 'W/"7"'),
        ("w", None),
        ('"w\r\nX: y"', None),
        ('"\u00e9"', None),
        (7, None),
        (None, None),
    ],
)
def test_a_name_of_the_document_is_kept_only_if_a_header_can_carry_it(said: Any, validator: str | None) -> None:
    assert follow(news(flags={"a": {}}, etag=said), published(FLAGS)).validator == validator


def test_fields_of_a_later_version_are_read_over() -> None:
    followed = follow(news(flags={"a": {}}, colour="blue", hints={"x": [1]}), published(FLAGS))
    assert followed.parsed is not None
    assert followed.parsed.problems == ()


@pytest.mark.parametrize(("said", "spread_s"), [(0, 0), (250, 0.25), (10**9, 60), (-1, None), ("9", None)])
def test_within_what_time_to_fetch_is_believed_up_to_a_minute(said: Any, spread_s: float | None) -> None:
    data = json.dumps({"epoch": "e", "number": 2, "reload": True, "spread_ms": said}).encode()
    assert follow(data, published(FLAGS)) == Followed(fetch=True, spread_s=spread_s)


def test_a_dialect_without_a_form_for_changes_has_no_follower() -> None:
    assert follower("native") is follow
    assert follower("somebody's") is None


FLAG = some.sampled_from(
    [
        ON,
        HALF,
        {},
        {"enabled": False},
        when({"segment": "team"}),
        {"prerequisites": [{"flag": "f1", "variants": ["on"]}]},
    ]
)
DOCUMENTS = some.lists(
    some.dictionaries(some.sampled_from([f"f{number}" for number in range(8)]), FLAG, min_size=1),
    min_size=2,
    max_size=6,
)


@STEADY
@given(documents=DOCUMENTS)
def test_one_change_after_the_other_leads_where_the_documents_lead(documents: list[Json]) -> None:
    def read(flags: Json, number: int, previous: Definitions | None = None) -> Definitions:
        body = enveloped({"schema": 1, "segments": TEAM, "flags": flags}, "e", number).body
        return native.parse(body, previous).definitions

    used = read(documents[0], 1)
    served = read(documents[0], 1)
    for number, flags in enumerate(documents[1:], 2):
        before, served = served, read(flags, number)
        try:
            followed = follow(change(before, served, etag="", spread_ms=0), used)
        except DefinitionsError:
            followed = Followed(fetch=True)
        if followed.parsed is not None:
            used = followed.parsed.definitions
        else:
            assert followed.fetch
            used = read(flags, number, used)
        assert alike(used, read(flags, number, used))
