"""flagkit beside PostHog's own Python SDK, deciding locally.

Random definitions and questions must be answered alike; where the SDK answers in its own way, the row is in
``EXPLAINED``, and in docs/backends/posthog.md with who is right. Of the extra ``peers``; without it all is skipped.
"""

from __future__ import annotations

import logging
import timeit
from collections.abc import Iterator
from typing import Any

import pytest

from flagkit import Client, sources
from flagkit.dialects.posthog import context
from tests.dialects.posthog_generator import Generator
from tests.dialects.posthogs import document, flag, in_cohort, matching, serves, when

Json = dict[str, Any]
#: The answer, None when undecided, and the payload.
Answer = tuple[bool | str | None, Any]
DOCUMENTS, FLAGS = 2000, 10


class Peer:
    """PyPI's posthog. It asks nobody: what it cannot decide locally is None."""

    def __init__(self, definitions: Json) -> None:
        posthog = pytest.importorskip("posthog", reason="of the extra peers")
        logging.getLogger("posthog").setLevel(logging.CRITICAL + 1)
        self.client = posthog.Posthog("phc_test", host="http://127.0.0.1:9", send=False)
        self.load(definitions)

    def load(self, definitions: Json) -> None:
        self.client.feature_flags = definitions["flags"]
        self.client.group_type_mapping = definitions["group_type_mapping"]
        self.client.cohorts = definitions["cohorts"]
        self.client._property_matching_version = definitions.get("property_matching_version", 1)

    def answer(self, key: str, asked: Json) -> Answer:
        found = self.client.get_feature_flag_result(
            key, only_evaluate_locally=True, send_feature_flag_events=False, **asked
        )
        return (None, None) if found is None else (found.get_value(), found.payload)


@pytest.fixture(scope="module")
def peer() -> Iterator[Peer]:
    made = Peer(document())
    yield made
    made.client.shutdown()


def ours(definitions: Json, asked: Json) -> list[Answer]:
    client = Client(source=sources.Static(definitions, dialect="posthog"), sink=None)
    decisions = [client.peek(each["key"], context(asked)) for each in definitions["flags"]]
    return [
        ({"true": True, "false": False}.get(d.variant or "", d.variant), d.value if isinstance(d.value, dict) else None)
        for d in decisions
    ]


def test_random_definitions_are_answered_as_by_posthog_s_sdk(peer: Peer) -> None:
    different = []
    for seed in range(DOCUMENTS):
        generator = Generator(seed)
        definitions, asked = generator.definitions(FLAGS), generator.asking()
        peer.load(definitions)
        for told, mine in zip(definitions["flags"], ours(definitions, asked), strict=True):
            theirs = peer.answer(told["key"], asked)
            if mine != theirs:
                different.append((seed, told, asked, mine, theirs))
    assert different == []


IN_ACME: Json = {"groups": {"company": "acme"}, "group_properties": {"company": {"plan": "pro"}}}
GROUP: Json = {"type": "group", "group_type_index": 0}
EVERYBODY = matching()
#: Why, flags, what is asked, our answer, the SDK's.
EXPLAINED: list[tuple[str, list[Json], Json, Any, Any]] = [
    ("a property that is not there is not set", [flag("f", matching(when("a", "is_not_set")))], {}, True, None),
    (
        "ranges",
        [flag("f", matching(when("a", "between", [1, 3])))],
        {"person_properties": {"a": 2}},
        True,
        None,
    ),
    (
        "exact dates",
        [flag("f", matching(when("a", "is_date_exact", "2022-05-01")))],
        {"person_properties": {"a": "2022-05-01"}},
        True,
        None,
    ),
    (
        "several texts at once",
        [flag("f", matching(when("a", "icontains_multi", ["x", "y"])))],
        {"person_properties": {"a": "xyz"}},
        True,
        None,
    ),
    (
        "dates as seconds since 1970",
        [flag("f", matching(when("a", "is_date_before", "2022-05-01")))],
        {"person_properties": {"a": 0}},
        True,
        None,
    ),
    (
        "word boundaries in patterns",
        [flag("f", matching(when("a", "regex", r"\bx")))],
        {"person_properties": {"a": "x"}},
        True,
        None,
    ),
    (
        "a filter whose value is null",
        [flag("f", matching(when("a", "exact", None)))],
        {"person_properties": {"a": None}},
        False,
        True,
    ),
    ("nobody said whether the person is enrolled", [flag("f", EVERYBODY, feature_enrollment=True)], {}, True, None),
    (
        "enrolment in a group's flag",
        [flag("f", feature_enrollment=True, aggregation_group_type_index=0)],
        {**IN_ACME, "person_properties": {"$feature_enrollment/f": True}},
        True,
        None,
    ),
    (
        "a filter of the person in a condition set for groups",
        [flag("f", matching(when("plan", "exact", "free")), aggregation_group_type_index=0)],
        {**IN_ACME, "person_properties": {"plan": "free"}},
        True,
        False,
    ),
    (
        "a filter of a group in a condition set for persons",
        [flag("f", matching(when("plan", "exact", "pro", **GROUP)))],
        {**IN_ACME, "person_properties": {"plan": "free"}},
        True,
        False,
    ),
    (
        "a flag for groups that another asks for",
        [
            flag("f", matching(serves("p", True, ["p"]))),
            flag("p", matching(when("plan", "exact", "pro", **GROUP)), aggregation_group_type_index=0),
        ],
        {**IN_ACME, "person_properties": {"plan": "free"}},
        True,
        False,
    ),
    ("no device, and none is needed", [flag("f", EVERYBODY, bucketing_identifier="device_id")], {}, True, None),
    (
        "a flag further up is undecided, and does not matter",
        [
            flag("f", matching(serves("p", True, ["q", "p"]))),
            flag("p", matching(serves("q", True, ["q"])), EVERYBODY),
            flag("q", matching(when("a", "exact", "1"))),
        ],
        {},
        True,
        None,
    ),
    (
        "a cohort that is decided, whatever a flag in it says",
        [flag("f", matching(in_cohort(1))), flag("p", matching(in_cohort(9)))],
        {"person_properties": {"a": "1"}},
        True,
        None,
    ),
    (
        "configurations of a later version",
        [{"key": "f", "active": True, "filters": {"version": 2, "rules": []}}],
        {},
        None,
        False,
    ),
    ("a flag that is deleted", [flag("f", EVERYBODY, deleted=True)], {}, False, True),
]
COHORTS: Json = {"1": {"type": "OR", "values": [when("a", "exact", "1"), serves("p", True, ["p"])]}}


@pytest.mark.parametrize(("why", "flags", "asked", "mine", "theirs"), EXPLAINED, ids=[row[0] for row in EXPLAINED])
def test_differences_are_those_that_are_explained(
    why: str, flags: list[Json], asked: Json, mine: Any, theirs: Any, peer: Peer
) -> None:
    definitions, question = document(*flags, cohorts=COHORTS), {"distinct_id": "u", **asked}
    peer.load(definitions)
    assert ours(definitions, question)[0][0] == mine
    assert peer.answer("f", question)[0] == theirs


def test_flagkit_is_many_times_faster_than_the_sdk(peer: Peer) -> None:
    filters = [
        when("country", "exact", ["SE", "NO", "DK", "FI"]),
        when("plan", "exact", ["pro"]),
        when("email", "ends_with", "@example.com"),
        when("app_version", "semver_gte", "2.3.0"),
    ]
    split = {"variants": [{"key": key, "rollout_percentage": 25} for key in "abcd"]}
    kinds = [
        flag("simple", EVERYBODY),
        flag("rollout", matching(percentage=50)),
        flag("targeting", matching(*filters, percentage=25)),
        flag("multivariate", EVERYBODY, multivariate=split, payloads=dict.fromkeys("abcd", '{"x": 1}')),
    ]
    properties = {"country": "SE", "plan": "pro", "email": "anna@example.com", "app_version": "2.4.1"}
    definitions, asked = document(*kinds), {"distinct_id": "user-7", "person_properties": properties}
    client, mine = Client(source=sources.Static(definitions, dialect="posthog"), sink=None), context(asked)
    peer.load(definitions)
    ratios = {}
    for each in kinds:
        key = each["key"]
        fast = min(timeit.repeat(lambda key=key: client.decide(key, mine), number=200, repeat=20))
        slow = min(timeit.repeat(lambda key=key: peer.answer(key, asked), number=50, repeat=20)) * 4
        ratios[key] = slow / fast
    assert min(ratios.values()) > 5, ratios
