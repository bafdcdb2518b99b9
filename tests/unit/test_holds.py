"""A flag with a hold laid over it: no candidate gets more than at the earlier step, and nobody is dealt anew."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flagkit import Context
from flagkit.core.holds import dealt, held, hold_document, hold_text, raised, read_hold
from flagkit.core.model import FlagDefinition, Hold
from flagkit.core.snapshot import Snapshot
from flagkit.dialects import native

NOW_MS = 1_800_000_000_000
UNITS = [Context(f"user-{number}") for number in range(400)]
VARIANTS = {"off": 0, "a": 1, "b": 2}


def flag(*rules: dict[str, Any], **fields: Any) -> FlagDefinition:
    document = {"schema": 1, "flags": {"f": {"rules": list(rules), **fields}}}
    return native.parse(json.dumps(document).encode()).definitions.flags["f"]


def rollout(percent: float, serve: str = "on") -> dict[str, Any]:
    return {"name": "r", "rollout": {"percent": percent}, "serve": serve}


def split(weights: dict[str, int], **fields: Any) -> FlagDefinition:
    shares = [{"variant": name, "weight": weight} for name, weight in weights.items()]
    return flag({"name": "r", "split": shares, **fields}, variants=VARIANTS, off="off")


def step(before: FlagDefinition, after: FlagDefinition) -> Hold:
    return Hold(raised(dealt(before, NOW_MS), dealt(after, NOW_MS), "off", "off"), "off", "it hurts")


def served(definition: FlagDefinition, hold: Hold | None = None) -> list[str | None]:
    definitions = native.parse(b'{"schema": 1, "flags": {}}').definitions._replace(flags={"f": definition})
    snapshot = Snapshot(definitions, now_ms=lambda: NOW_MS, holds={"f": hold} if hold is not None else {})
    return [snapshot.decide("f", unit).variant for unit in UNITS]


def test_a_share_that_was_raised_goes_back_to_whom_it_had() -> None:
    before, after = flag(rollout(5)), flag(rollout(25))
    assert served(after, step(before, after)) == served(before) != served(after)


def test_what_was_not_raised_is_not_held() -> None:
    assert step(flag(rollout(25)), flag(rollout(5))).rules == {}
    assert step(flag(rollout(25)), flag(rollout(25))).rules == {}
    assert step(flag(rollout(5, "off")), flag(rollout(25, "off"))).rules == {}, "more of the control"


def test_a_rule_that_was_not_there_goes_back_to_nobody() -> None:
    after = flag(rollout(25))
    assert set(served(after, step(flag(), after))) == {"off"}


@given(*[st.integers(0, 50)] * 4)
def test_a_split_whose_candidates_were_raised_goes_back_to_exactly_its_units(a: int, b: int, c: int, d: int) -> None:
    before = split({"a": a, "b": b, "off": 200 - a - b})
    after = split({"a": a + c, "b": b + d, "off": 200 - a - b - c - d})
    hold = step(before, after)
    if not hold.rules:
        assert (c, d) == (0, 0)
    else:
        assert served(after, hold) == served(before)


@given(st.lists(st.integers(0, 9), min_size=3, max_size=3), st.lists(st.integers(0, 9), min_size=3, max_size=3))
def test_nobody_ever_gets_more_of_a_candidate_than_by_either_of_the_two(was: list[int], now: list[int]) -> None:
    if not sum(was) or not sum(now):
        return
    earlier, later = (split(dict(zip(("a", "off", "b"), weights, strict=True))) for weights in (was, now))
    hold = Hold(dealt(earlier, NOW_MS), "off")
    (rule,) = held(later, hold).rules
    total = sum(share.weight for share in rule.split)
    for share in rule.split:
        if share.variant != "off":
            at = ("a", "off", "b").index(share.variant)
            assert share.weight * sum(was) <= was[at] * total
            assert share.weight * sum(now) <= now[at] * total


def test_a_split_among_candidates_alone_is_held_by_its_rollout() -> None:
    before = split({"a": 1, "b": 1}, rollout={"percent": 10})
    after = split({"a": 1, "b": 1}, rollout={"percent": 40})
    assert served(after, step(before, after)) == served(before)


def test_shares_among_candidates_alone_cannot_go_back() -> None:
    assert step(split({"a": 1, "b": 1}), split({"a": 4, "b": 1})).rules == {}


def test_what_was_dealt_by_an_attribute_goes_back_by_it_even_when_everyone_is_served() -> None:
    by = {"name": "r", "rollout": {"percent": 5, "by": "organization"}, "serve": "on"}
    hold = read_hold(hold_document(Hold(dealt(flag(by), NOW_MS), "off")), "off")
    assert held(flag({"name": "r", "serve": "on"}), hold).rules == flag(by).rules


def test_a_ramp_by_schedule_is_held_at_every_later_step() -> None:
    steps = [{"from": "2026-01-01", "percent": 5}, {"from": "2026-06-01", "percent": 50}]
    ramp = flag({"name": "r", "rollout": {"steps": steps}, "serve": "on"})
    before_ms = 1_770_000_000_000
    hold = Hold(raised(dealt(ramp, before_ms), dealt(ramp, NOW_MS), "off", "off"), "off")
    assert served(ramp, hold) == served(flag(rollout(5)))


def test_a_flag_that_decides_by_its_backend_s_logic_has_no_steps() -> None:
    assert dealt(flag(rollout(5))._replace(logic=lambda *_: lambda *_: None), NOW_MS) == {}  # type: ignore[arg-type,return-value]


def test_a_hold_comes_back_from_json_as_it_was_and_is_told_in_words() -> None:
    hold = step(split({"a": 1, "b": 1, "off": 8}), split({"a": 3, "b": 1, "off": 6}))
    assert read_hold(json.loads(json.dumps(hold_document(hold))), "off", "it hurts") == hold
    assert hold_text(hold) == 'rule "r" at a 1, b 1, off 8'
    assert hold_text(step(flag(rollout(2.5)), flag(rollout(3)))) == 'rule "r" at 2.5 %'


@pytest.mark.parametrize(
    "document",
    [
        None,
        [],
        {},
        {"r": 5},
        {"r": {"percent": 5}},
        {"r": {"percent": 5, "shares": {}}},
        {"r": {"percent": 5, "shares": {"on": 0}}},
        {"r": {"percent": 5, "shares": {"on": -1}}},
        {"r": {"percent": 5, "shares": {"on": True}}},
        {"r": {"percent": 101, "shares": {"on": 1}}},
        {"r": {"percent": float("nan"), "shares": {"on": 1}}},
        {"r": {"percent": True, "shares": {"on": 1}}},
        {"r": {"percent": "5", "shares": {"on": 1}}},
        {"r": {"percent": 5, "shares": {"on": 1}, "more": 1}},
        {"r": {"percent": 5, "shares": {"on": 1}, "by": "unit"}},
        {"r": {"percent": 5, "shares": {"on": 1}, "by": []}},
        {"r": {"percent": 5, "shares": {"on": 1}}, "s": None},
        {f"r{number}": {"percent": 5, "shares": {"on": 1}} for number in range(251)},
    ],
)
def test_what_is_no_hold_is_none(document: Any) -> None:
    assert read_hold(document, "off") is None
