"""The dialect of Unleash: what is reused, what is refused, what can be compared, and what never raises."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flagkit import Client, Context, sources
from flagkit.core.model import Definitions
from flagkit.core.snapshot import Snapshot
from flagkit.decision import Decision, ErrorCode, Reason
from flagkit.dialects import Followed, Parsed, follower, parser, unleash, unleash_strategies
from flagkit.errors import ConfigError, DefinitionsError

Json = dict[str, Any]
USER = Context("user-1")
NOW_MS = 1_795_443_200_000  # 2026-11-23


def feature(name: str = "f", *strategies: Json, **more: Any) -> Json:
    return {"name": name, "enabled": True, "strategies": list(strategies) or [{"name": "default"}], **more}


def rollout(percent: Any, stickiness: str = "default", **more: Any) -> Json:
    parameters = {"rollout": str(percent), "stickiness": stickiness, "groupId": "g"}
    return {"name": "flexibleRollout", "parameters": parameters, **more}


def constrained(field: str, operator: str, *values: str, **more: Any) -> Json:
    return {"name": "default", "constraints": [{"contextName": field, "operator": operator, "values": values, **more}]}


def document(*features: Any, segments: Any = ()) -> bytes:
    return json.dumps({"version": 2, "features": features, "segments": segments}).encode()


def parse(*features: Any, previous: Definitions | None = None, **more: Any) -> Parsed:
    return unleash.parse(document(*features, **more), previous)


def snapshot(*features: Any, now_ms: int = NOW_MS, trips: Any = None, **more: Any) -> Snapshot:
    return Snapshot(parse(*features, **more).definitions, now_ms=lambda: now_ms, observe=True, trips=trips)


def decide(strategy: Json, context: Any = USER, **more: Any) -> Decision:
    return snapshot(feature("f", strategy, **more)).decide("f", context)


def said(parsed: Parsed) -> list[str]:
    return [str(problem) for problem in parsed.problems]


# -- what is reused, and what a mistake costs


def test_an_unchanged_feature_is_the_same_object_and_a_changed_one_is_not() -> None:
    first = parse(feature("a"), feature("b")).definitions
    second = parse(feature("a"), feature("b", rollout(5)), previous=first).definitions
    assert second.flags["a"] is first.flags["a"]
    assert second.flags["b"] is not first.flags["b"]


def test_a_changed_segment_makes_new_flags_of_those_that_use_it_and_of_no_other() -> None:
    def segment(value: str) -> list[Json]:
        asked = {"contextName": "country", "operator": "IN", "values": [value]}
        return [{"id": 1, "name": "s", "constraints": [asked]}, {"id": 2, "name": "t", "constraints": []}]

    using = feature("using", {"name": "default", "segments": [1]})
    other = feature("other", {"name": "default", "segments": [2]})
    first = parse(using, other, segments=segment("SE")).definitions
    second = parse(using, other, segments=segment("NO"), previous=first).definitions
    assert second.flags["other"] is first.flags["other"]
    assert second.flags["using"] is not first.flags["using"]
    assert second.flags["using"].version != first.flags["using"].version
    before = Snapshot(first, now_ms=lambda: NOW_MS)
    swede = Context("u", {"country": "SE"})
    assert before.decide("using", swede).enabled
    assert not before.following(second).decide("using", swede).enabled


def test_a_parent_that_gains_a_parent_itself_makes_another_flag_of_its_child() -> None:
    child = feature("child", dependencies=[{"feature": "parent"}])
    first = parse(child, feature("parent"), feature("top")).definitions
    second = parse(
        child, feature("parent", dependencies=[{"feature": "top"}]), feature("top"), previous=first
    ).definitions
    before = Snapshot(first, now_ms=lambda: NOW_MS)
    assert before.decide("child", USER).enabled
    after = before.following(second).decide("child", USER)
    assert (after.enabled, after.reason) == (False, Reason.PREREQUISITE_FAILED)


@pytest.mark.parametrize(
    ("bad", "where"),
    [
        ({"enabled": "yes"}, "enabled"),
        ({"strategies": {}}, "strategies"),
        ({"strategies": [{"name": 7}]}, "strategies[0].name"),
        ({"strategies": [{"name": "default", "constraints": [{"operator": "IN"}]}]}, "constraints[0].contextName"),
        ({"strategies": [{"name": "default", "segments": ["one"]}]}, "segments[0]"),
        ({"variants": [{"name": "a", "weight": -1}]}, "variants[0].weight"),
        ({"variants": [{"name": "", "weight": 1}]}, "variants[0].name"),
        ({"dependencies": [{"enabled": True}]}, "dependencies[0].feature"),
        ({"strategies": [{"name": "flexibleRollout", "parameters": {"groupId": "\ud800"}}]}, "parameters.groupId"),
        ({"variants": [{"name": "\ud800", "weight": 1}]}, "variants[0].name"),
    ],
)
def test_a_bad_feature_keeps_its_good_version_and_says_where_it_is_bad(bad: Json, where: str) -> None:
    first = parse(feature("f", rollout(50)), feature("g")).definitions
    parsed = parse({**feature("f"), **bad}, feature("g"), previous=first)
    assert parsed.definitions.flags["f"] is first.flags["f"]
    assert [problem.flag for problem in parsed.problems] == ["f"]
    assert where in parsed.problems[0].path
    alone = Snapshot(parse({**feature("f"), **bad}, feature("g")).definitions, now_ms=lambda: NOW_MS)
    assert alone.decide("f", USER).error_code is ErrorCode.PARSE_ERROR
    assert alone.decide("g", USER).enabled


def test_off_is_obeyed_whatever_else_is_wrong() -> None:
    first = parse(feature("f")).definitions
    parsed = parse({"name": "f", "enabled": False, "strategies": "?"}, previous=first)
    decision = Snapshot(parsed.definitions, now_ms=lambda: NOW_MS).decide("f", USER)
    assert (decision.enabled, decision.variant, decision.reason) == (False, "disabled", Reason.DISABLED)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"{}",
        b"\xff",
        b"[" * 9999,
        b'{"features": {}}',
        b'{"features": [,]}',
        b'{"features": [] "x": 1}',
        b'{"features": [], "events": []}',
        b'{"features": [], "features": []}',
        b'{"features": [' + b"[" * 9999,
    ],
)
def test_a_document_that_is_none_is_refused_whole(data: bytes) -> None:
    with pytest.raises(DefinitionsError):
        unleash.parse(data)


def test_when_all_features_are_gone_at_once_that_is_an_accident_and_when_most_are_that_is_said() -> None:
    first = parse(*(feature(f"f{index}") for index in range(10))).definitions
    with pytest.raises(DefinitionsError, match="all 10 features are gone"):
        parse(previous=first)
    assert said(parse(feature("f1"), previous=first)) == ["$.features: 9 of 10 are gone"]


def test_many_bad_features_at_once_refuse_the_document_but_not_what_it_turns_off() -> None:
    bad = [{"name": f"bad{index}", "enabled": 1} for index in range(7)]
    with pytest.raises(DefinitionsError) as raised:
        parse({**feature("off"), "enabled": False}, *bad)
    assert raised.value.off == {"off"}


def test_a_feature_that_stands_twice_keeps_its_good_version() -> None:
    first = parse(feature("f")).definitions
    parsed = parse(feature("f", rollout(1)), feature("f", rollout(2)), previous=first)
    assert parsed.definitions.flags["f"] is first.flags["f"]
    assert "stands twice" in said(parsed)[0]


def test_what_says_nothing_lets_in_nobody_and_says_so() -> None:
    bound = {"contextName": "age", "operator": "NUM_GT", "value": "many", "inverted": True}
    parsed = parse(
        feature("a", {"name": "unheardOf"}),
        feature("b", rollout("most")),
        feature("c", constrained("x", "SOUNDS_LIKE", "y", inverted=True)),
        feature("d", {"name": "default", "constraints": [bound]}),
        feature("e", {"name": "default", "segments": [404]}),
        feature("f", dependencies=[{"feature": "nowhere", "enabled": False}]),
    )
    made = Snapshot(parsed.definitions, now_ms=lambda: NOW_MS)
    assert not any(decision.enabled for decision in made.decide_all(Context("u", {"age": "7"})).values())
    assert [problem.flag for problem in parsed.problems] == list("abcdef")
    assert not any(problem.refused for problem in parsed.problems)
    again = parse(feature("a", {"name": "unheardOf"}), previous=parsed.definitions)
    assert [problem.flag for problem in again.problems] == ["a"]


# -- delta events


def events(*made: Json) -> bytes:
    return json.dumps({"events": [{"eventId": index, **each} for index, each in enumerate(made)]}).encode()


def test_events_change_what_they_name_and_leave_the_rest_as_it_is() -> None:
    using = feature("using", {"name": "default", "segments": [1]})
    first = parse(using, feature("kept"), feature("gone"), segments=[{"id": 1, "constraints": []}]).definitions
    asked = {"contextName": "country", "operator": "IN", "values": ["SE"]}
    followed = unleash.follow(
        events(
            {"type": "feature-updated", "feature": feature("new", rollout(100))},
            {"type": "feature-removed", "featureName": "gone", "project": "default"},
            {"type": "segment-updated", "segment": {"id": 1, "name": "s", "constraints": [asked]}},
        ),
        first,
    )
    assert isinstance(followed, Followed)
    assert followed.parsed is not None
    assert followed.confirmed
    after = followed.parsed.definitions
    assert set(after.flags) == {"using", "kept", "new"}
    assert after.flags["kept"] is first.flags["kept"]
    made = Snapshot(after, now_ms=lambda: NOW_MS)
    assert [made.decide("using", Context("u", {"country": each})).enabled for each in ("SE", "NO")] == [True, False]
    removed = unleash.follow(events({"type": "segment-removed", "segmentId": 1}), after)
    assert removed.parsed is not None
    assert not Snapshot(removed.parsed.definitions, now_ms=lambda: NOW_MS).decide("using", USER).enabled


def test_hydration_replaces_everything_and_a_whole_document_does_too() -> None:
    first = parse(feature("a"), feature("b")).definitions
    hydrated = unleash.parse(events({"type": "hydration", "features": [feature("c")], "segments": []}), first)
    assert set(hydrated.definitions.flags) == {"c"}
    assert set(parse(feature("a"), previous=hydrated.definitions).definitions.flags) == {"a"}


def test_an_event_that_cannot_be_read_is_said_and_left_out() -> None:
    first = parse(feature("a")).definitions
    parsed = unleash.parse(
        events({"type": "telepathy"}, {"type": "feature-updated"}, {"type": "feature-removed", "featureName": []}),
        first,
    )
    assert parsed.definitions.flags["a"] is first.flags["a"]
    assert len(parsed.problems) == 2
    assert all(problem.refused for problem in parsed.problems)


def test_a_bad_feature_in_an_event_keeps_its_good_version() -> None:
    first = parse(feature("a"), feature("b")).definitions
    parsed = unleash.parse(events({"type": "feature-updated", "feature": {"name": "a", "enabled": "?"}}), first)
    assert parsed.definitions.flags["a"] is first.flags["a"]


def test_what_is_no_event_is_nothing_to_follow() -> None:
    with pytest.raises(DefinitionsError):
        unleash.follow(document(feature("a")), parse(feature("a")).definitions)


# -- what a decision says


def units(strategy: Json, count: int = 400, **more: Any) -> Iterator[Decision]:
    made = snapshot(feature("f", strategy, **more))
    return (made.decide("f", Context(f"user-{number}", {"tenant": f"t{number}"})) for number in range(count))


def test_a_rollout_s_two_sides_are_comparable_within_it() -> None:
    for decision in units(rollout(50)):
        expected = (Reason.SPLIT, "flexibleRollout[0]", True)
        assert (decision.reason, decision.rule, decision.analysable) == expected
    assert {decision.enabled for decision in units(rollout(50))} == {True, False}


def test_who_was_left_out_by_one_rollout_and_let_in_by_another_is_not_comparable() -> None:
    made = snapshot(feature("f", rollout(30), rollout(60, "tenant")))
    for number in range(200):
        decision = made.decide("f", Context(f"user-{number}", {"tenant": f"t{number}"}))
        assert decision.analysable is (decision.rule == "flexibleRollout[0]")


@pytest.mark.parametrize("stickiness", ["random", "environment", "appName"])
def test_what_is_not_a_unit_s_own_makes_nothing_comparable(stickiness: str) -> None:
    decision = decide(rollout(50, stickiness), Context("u", {"environment": "dev", "appName": "shop"}))
    assert (decision.reason, decision.analysable) == (Reason.SPLIT, False)


def test_a_guard_counts_by_what_the_rollout_is_sticky_on() -> None:
    flags = parse(feature("f", rollout(50, "tenant"), rollout(50))).definitions.flags
    assert [(rule.name, rule.by) for rule in flags["f"].rules] == [
        ("flexibleRollout[0]", ("tenant",)),
        ("flexibleRollout[1]", ("unit",)),
    ]
    assert flags["f"].is_partial


def test_variants_that_are_split_by_something_else_than_the_rollout_are_not_comparable() -> None:
    split = [{"name": name, "weight": 1, "stickiness": "tenant"} for name in "ab"]
    decisions = list(units(rollout(99), variants=split))
    assert {decision.analysable for decision in decisions if decision.enabled} == {False}
    assert {decision.variant for decision in decisions if decision.enabled} == {"a", "b"}


def test_a_split_without_a_rollout_is_comparable_by_what_it_is_sticky_on() -> None:
    split = [{"name": name, "weight": 1, "stickiness": "tenant"} for name in "ab"]
    assert {decision.analysable for decision in units({"name": "default"}, variants=split)} == {True}
    (rule,) = parse(feature("f", {"name": "default"}, variants=split)).definitions.flags["f"].rules
    assert (rule.name, rule.by) == ("default[0]", ("tenant",))
    bare = parse({**feature("f"), "strategies": [], "variants": split}).definitions
    decision = Snapshot(bare, now_ms=lambda: NOW_MS).decide("f", Context("u", {"tenant": "t"}))
    assert (decision.rule, decision.analysable, decision.reason) == (None, False, Reason.SPLIT)


def test_chance_lets_in_the_share_it_is_told_to() -> None:
    made = snapshot(feature("f", {"name": "gradualRolloutRandom", "parameters": {"percentage": "30"}}))
    enabled = sum(made.decide("f", USER).enabled for _ in range(4000))
    assert 1100 < enabled < 1300


def test_chance_differs_from_one_process_s_beginning_to_the_next() -> None:
    def drawn(now_ms: int) -> list[bool]:
        made = snapshot(feature("f", rollout(50, "random")), now_ms=now_ms)
        return [made.decide("f", USER).enabled for _ in range(64)]

    assert drawn(1) == drawn(1) != drawn(2)


def test_on_without_a_variant_is_called_disabled_and_can_still_be_told_from_off() -> None:
    made = snapshot(feature("f", rollout(50)))
    on, off = (next(d for d in units(rollout(50)) if d.enabled is each) for each in (True, False))
    assert on.variant == off.variant == "disabled"
    assert (on._arm, off._arm) == ("on", "disabled")
    assert made.decide("f", USER, {"f": True}).enabled
    assert not made.decide("f", USER, {"f": False}).enabled


def test_a_trip_of_being_on_serves_off() -> None:
    made = snapshot(feature("f", rollout(100)), trips={"f": {"on": "disabled"}})
    decision = made.decide("f", USER)
    assert (decision.enabled, decision.reason, decision.assigned) == (False, Reason.GUARD, "on")


def test_a_variant_called_disabled_is_none_of_the_two() -> None:
    payload = {"type": "string", "value": "x"}
    decision = decide(rollout(100), variants=[{"name": "disabled", "weight": 1, "payload": payload}])
    assert (decision.variant, decision.value, decision.enabled) == ("disabled", "x", True)
    assert decision._arm not in ("disabled", "on")


def test_strategies_may_give_one_variant_different_payloads() -> None:
    def variant(value: str) -> list[Json]:
        return [{"name": "blue", "weight": 1, "payload": {"type": "string", "value": value}}]

    swedes = constrained("country", "IN", "SE")
    made = snapshot(feature("f", {**swedes, "variants": variant("blå")}, rollout(100, variants=variant("blue"))))
    decisions = [made.decide("f", Context("u", {"country": country})) for country in ("SE", "NO")]
    assert [(each.variant, each.value) for each in decisions] == [("blue", "blå"), ("blue", "blue")]


@pytest.mark.parametrize(
    ("payload", "value"),
    [
        ({"type": "string", "value": "1"}, "1"),
        ({"type": "csv", "value": "a,b"}, "a,b"),
        ({"type": "number", "value": "12"}, 12),
        ({"type": "number", "value": "-1.5"}, -1.5),
        ({"type": "number", "value": "a dozen"}, "a dozen"),
        ({"type": "json", "value": '{"a": [1]}'}, {"a": [1]}),
        ({"type": "json", "value": "{"}, "{"),
        ({"type": "json", "value": "1e999"}, "1e999"),
        (None, None),
    ],
)
def test_the_value_is_the_payload(payload: Any, value: Any) -> None:
    found = decide(rollout(100), variants=[{"name": "v", "weight": 1, "payload": payload}]).value
    assert (found, type(found)) == (value, type(value))


def test_a_long_split_is_looked_up() -> None:
    split = [{"name": f"v{index}", "weight": index % 3} for index in range(60)]
    named = Counter(decision.variant for decision in units(rollout(100), 4000, variants=split))
    assert set(named) == {f"v{index}" for index in range(60) if index % 3}


def test_overrides_come_first_and_in_order() -> None:
    split = [
        {"name": "a", "weight": 1, "overrides": [{"contextName": "tenant", "values": ["t1"]}]},
        {"name": "b", "weight": 0, "overrides": [{"contextName": "userId", "values": ["user-1", "user-2"]}]},
    ]
    decisions = list(units(rollout(100), 4, variants=split))
    assert [decision.variant for decision in decisions] == ["a", "a", "b", "a"]
    assert decisions[2].reason is Reason.TARGETING_MATCH


def test_the_time_is_the_definitions_clock_s_where_a_context_does_not_say() -> None:
    after = constrained("currentTime", "DATE_AFTER", value="2026-11-23T00:00:00Z")
    made = [snapshot(feature("f", after), now_ms=NOW_MS + hours * 3_600_000) for hours in (-48, 0)]
    assert [each.decide("f", USER).enabled for each in made] == [False, True]
    assert not made[1].decide("f", Context("u", {"currentTime": "2020-01-01T00:00:00Z"})).enabled


def test_a_later_strategy_is_asked_when_an_earlier_one_does_not_match() -> None:
    decision = snapshot(feature("f", constrained("x", "IN", "y"), {"name": "default"})).decide("f", USER)
    assert (decision.enabled, decision.rule, decision.reason) == (True, "default[1]", Reason.TARGETING_MATCH)


def test_a_parent_that_is_overridden_decides_for_its_child() -> None:
    made = snapshot(feature("parent", rollout(0)), feature("child", dependencies=[{"feature": "parent"}]))
    assert not made.decide("child", USER).enabled
    assert made.decide("child", USER, {"parent": True}).enabled


# -- contexts


@pytest.mark.parametrize(
    ("raw", "unit"),
    [
        ({"userId": "u"}, "u"),
        ({"userId": 7}, "7"),
        ({"userId": ""}, None),
        ({"userId": None}, None),
        ({"properties": {"userId": "p"}}, "p"),
        ({"sessionId": "s"}, None),
        ({}, None),
    ],
)
def test_the_user_s_id_is_the_unit_if_it_can_be_one(raw: Json, unit: str | None) -> None:
    assert unleash.context(raw).unit_text == unit


def test_fields_come_before_properties_and_those_before_nothing() -> None:
    made = unleash.context(
        {"userId": "u", "sessionId": "s", "plan": "top", "properties": {"sessionId": "x", "plan": "p"}}
    )
    assert (made.attributes["sessionId"], made.attributes["plan"]) == ("s", "p")


def test_an_id_that_can_be_no_unit_is_asked_for_all_the_same() -> None:
    made = snapshot(feature("f", {"name": "userWithId", "parameters": {"userIds": "x" * 2000}}))
    assert made.decide("f", unleash.context({"userId": "x" * 2000})).enabled
    assert not made.decide("f", unleash.context({"userId": "y" * 2000})).enabled


def test_dicts_and_contexts_and_plain_units_get_the_same_answers() -> None:
    asked = feature("f", rollout(50, constraints=constrained("country", "IN", "SE")["constraints"]))
    client = Client(source=sources.Static(document(asked), dialect="unleash"), sink=None)
    for number in range(50):
        attributes = {"country": "SE"}
        given = [Context(f"u{number}", attributes), {"unit": f"u{number}", **attributes}]
        assert len({client.enabled("f", each) for each in given}) == 1
    odd = feature("f", constrained("synthetic", "NOT_IN", "true"))
    client = Client(source=sources.Static(document(odd), dialect="unleash"), sink=None)
    assert client.enabled("f", {"unit": "u", "synthetic": True})


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary() | st.datetimes() | st.uuids(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)
FIELDS = st.sampled_from(["userId", "sessionId", "p", "remoteAddress", "currentTime", "properties", "appName", "unit"])
ASKED = [
    ("IN", {}), ("NOT_IN", {}), ("STR_CONTAINS", {"caseInsensitive": True}), ("STR_STARTS_WITH", {}), ("NUM_GT", {}),
    ("DATE_AFTER", {"value": "2026-01-01T00:00:00Z"}), ("SEMVER_LT", {"value": "1.2.3"}), ("REGEX", {"value": "a+"}),
    ("IN_CIDR", {}),
]  # fmt: skip
EVERYTHING = snapshot(
    feature("rollout", rollout(50), rollout(30, "p"), variants=[{"name": name, "weight": 1} for name in "ab"]),
    *(
        feature(f"{operator}-{name}", constrained(name, operator, "a", "10.0.0.0/8", **{"value": "7", **more}))
        for operator, more in ASKED
        for name in ("userId", "p", "currentTime", "unit")
    ),
    feature("users", {"name": "userWithId", "parameters": {"userIds": "a,b"}}),
    feature("addresses", {"name": "remoteAddress", "parameters": {"IPs": "10.0.0.0/8"}}),
)


@given(st.dictionaries(FIELDS, VALUES) | VALUES)
def test_whatever_a_context_holds_nothing_raises(raw: Any) -> None:
    for decision in EVERYTHING.decide_all(unleash.context(raw)).values():
        assert decision.error_code in (None, ErrorCode.INVALID_CONTEXT)


@given(st.binary() | st.recursive(VALUES, lambda inner: st.dictionaries(st.sampled_from(["features", "name"]), inner)))
def test_whatever_a_document_holds_it_is_read_or_refused(raw: Any) -> None:
    data = raw if isinstance(raw, bytes) else json.dumps(raw, default=str).encode()
    with suppress(DefinitionsError):
        assert unleash.parse(data).definitions.flags is not None


@given(st.dictionaries(st.sampled_from(["enabled", "strategies", "variants", "dependencies", "segments"]), VALUES))
def test_whatever_a_feature_holds_it_costs_that_feature_only(raw: Any) -> None:
    odd = json.loads(json.dumps({"name": "odd", "enabled": True, **raw}, default=str))
    made = snapshot(odd, feature("good"))
    assert made.decide("good", USER).enabled
    assert made.decide("odd", USER).error_code in (None, ErrorCode.PARSE_ERROR)


# -- what comes in from outside


@pytest.fixture
def register(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(unleash_strategies, "_made", {})
    return unleash.register_strategy


def test_a_registered_strategy_decides_with_its_parameters_and_the_whole_context(register: Any) -> None:
    register("long", lambda parameters: lambda context: len(context.unit_text) > int(parameters["least"]))
    strategy = {"name": "long", "parameters": {"least": "5"}, "constraints": []}
    assert parse(feature("f", strategy)).problems == ()
    made = snapshot(feature("f", strategy))
    answers = [made.decide("f", unit).enabled for unit in (USER, Context("u"), {"unit": "user-12"})]
    assert answers == [True, False, True]


@pytest.mark.parametrize(
    "make",
    [lambda p: 1 / 0, lambda p: lambda c: 1 / 0, lambda p: None, lambda p: lambda c: "yes", lambda p: lambda: True],
)
def test_a_registered_strategy_that_misbehaves_lets_in_nobody(register: Any, make: Any) -> None:
    register("odd", make)
    decision = decide({"name": "odd"})
    assert (decision.enabled, decision.error_code) == (False, None)


@pytest.mark.parametrize(("name", "make"), [("default", lambda p: None), ("", lambda p: None), ("odd", 7), (7, 7)])
def test_what_cannot_be_a_strategy_is_not_registered(register: Any, name: Any, make: Any) -> None:
    with pytest.raises(ConfigError):
        register(name, make)


def test_facts_of_the_application_stand_in_for_what_a_context_does_not_say() -> None:
    hosts = feature("hosts", {"name": "applicationHostname", "parameters": {"hostNames": "other, Web-1"}})
    app = feature("app", constrained("appName", "IN", "shop"))
    for facts, wanted in (({"hostname": "web-1", "appName": "shop"}, True), ({}, False)):
        parsed = parser("unleash", facts)(document(hosts, app), None)
        made = Snapshot(parsed.definitions, now_ms=lambda: NOW_MS)
        assert {name: each.enabled for name, each in made.decide_all(USER).items()} == {"hosts": wanted, "app": wanted}
        assert not made.decide("app", Context("u", {"appName": "admin"})).enabled
    assert follower("unleash", {"appName": "shop"}) is not None


def test_names_are_unicode() -> None:
    made = snapshot(feature("ünïcode 機能 🙂", rollout(100)))
    assert made.decide("ünïcode 機能 🙂", USER).enabled


def test_everything_is_bounded() -> None:
    parsed = parse(
        feature("strategies", *[rollout(1)] * 501),
        feature("constraints", {"name": "default", "constraints": constrained("a", "IN")["constraints"] * 1001}),
        feature("variants", variants=[{"name": "a", "weight": 1}] * 1001),
        feature("x" * 1025),
    )
    assert set(parsed.definitions.flags) == set()
    assert len(parsed.problems) == 4
    many = snapshot(feature("f", *[constrained("a", "IN", str(index)) for index in range(500)]))
    assert many.decide("f", Context("u", {"a": "499"})).rule == "default[499]"
