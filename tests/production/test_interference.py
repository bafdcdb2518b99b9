"""After a step of a ramp all arms fail more often: the rule goes back to the step before, and is held there."""

from __future__ import annotations

import json
import random
from datetime import UTC, datetime
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import pytest

from flagkit import Client
from flagkit.production.interference import Interference
from tests.production.guarded import Site

USERS = [f"user-{number}" for number in range(3000)]
ALONE: dict[str, Any] = {"latency_tolerance": None}


def rollout(percent: float, *, name: str = "ramp", **fields: Any) -> dict[str, Any]:
    return {"name": name, "rollout": {"percent": percent}, "serve": "on", **fields}


def site(*rules: dict[str, Any], **fields: Any) -> Site:
    """A site that has run for 4,000 calls, of which one in a hundred fails, whichever arm."""
    made = Site({"rules": list(rules), "guard": ALONE, **fields.pop("flag", {})}, **fields)
    fails(made, 0.01)
    made.calls(4000)
    return made


def fails(of: Site, rate: float) -> None:
    of.failing = dict.fromkeys([*of.flag.get("variants", ("on", "off"))], rate)


def hurts(of: Site, calls: int = 2000) -> int | None:
    """All arms fail ten times as often; return how many calls that takes to be held. None: it is not."""
    fails(of, 0.1)
    before, held = len(of.served), of.client.status.holds
    of.calls(calls, until=lambda: of.client.status.holds != held)
    fails(of, 0.01)
    return len(of.served) - before if of.client.status.holds != held else None


def served(client: Client, variant: str = "on") -> set[str]:
    return {user for user in USERS if client.peek("f", user).variant == variant}


def test_the_share_goes_back_a_step_and_the_same_units_keep_the_candidate() -> None:
    ramped = site(rollout(5))
    five = served(ramped.client)
    ramped.edit(rules=[rollout(25)])
    assert served(ramped.client) > five
    calls = hurts(ramped)
    assert calls is not None
    assert calls < 300
    assert served(ramped.client) == five


def test_it_is_told_with_evidence_and_is_no_rollback() -> None:
    ramped = site(rollout(5))
    alerts: SimpleQueue[Any] = SimpleQueue()
    ramped.client.add_handler("alert", alerts.put)
    ramped.edit(rules=[rollout(25)])
    hurts(ramped)
    (told,) = ramped.trips
    assert (told["kind"], told["rolled_back"], told["candidate"]) == ("interference", False, None)
    assert told["held"] == {"ramp": {"percent": 5.0, "shares": {"on": 1}}}
    assert sum(told["failures"]) > 5
    assert sum(told["calls"]) < 300
    status = ramped.status
    assert status.trips == {}
    assert status.holds["f"].startswith('rule "ramp" at 5 %: all arms fail more often')
    (guard,) = status.guards
    assert (guard.state, guard.why) == ("held", status.holds["f"])
    alert = alerts.get(timeout=10)
    assert alert.flags_changed == {"f"}
    assert "goes back a step of its ramp and is held there: ramp" in alert.message


def test_explain_says_what_is_held() -> None:
    ramped = site(rollout(5))
    ramped.edit(rules=[rollout(25)])
    hurts(ramped)
    text = ramped.client.explain("f", "user-1").text()
    assert 'hold: its guard holds rule "ramp" at 5 %' in text
    assert "of 100,000" in text
    assert "5,000" in text


def test_no_ramp_ends_it_while_a_smaller_share_is_served_at_once() -> None:
    ramped = site(rollout(5))
    five = served(ramped.client)
    ramped.edit(rules=[rollout(25)])
    hurts(ramped)
    ramped.edit(rules=[rollout(60)], description="somebody insists")
    assert served(ramped.client) == five
    ramped.edit(rules=[rollout(2)])
    assert served(ramped.client) < five
    ramped.edit(rules=[{"name": "ramp", "serve": "on"}])
    assert served(ramped.client) == five, "everyone is more than 5 %"
    ramped.edit(enabled=False)
    assert served(ramped.client) == set()


def test_a_reset_ends_it_and_the_step_is_watched_again() -> None:
    ramped = site(rollout(5))
    five = served(ramped.client)
    ramped.edit(rules=[rollout(25)])
    hurts(ramped)
    ramped.calls(3000)
    ramped.edit(guard={**ALONE, "revision": 1})
    assert ramped.client.status.holds == {}
    assert served(ramped.client) > five
    assert hurts(ramped) is not None
    assert served(ramped.client) == five


def test_the_candidate_is_still_compared_and_rolled_back_while_it_is_held() -> None:
    ramped = site(rollout(20))
    ramped.edit(rules=[rollout(50)])
    hurts(ramped)
    ramped.failing = {"on": 0.5, "off": 0.01}
    ramped.calls(3000, until=lambda: ramped.client.status.trips)
    assert "f" in ramped.status.trips
    assert served(ramped.client) == set()


def test_an_alert_is_all_when_the_policy_wants_no_more() -> None:
    ramped = site(rollout(5), flag={"guard": {**ALONE, "action": "alert"}})
    ramped.edit(rules=[rollout(25)])
    assert hurts(ramped) is None
    (told,) = ramped.trips
    assert told["kind"] == "interference"
    assert "held" not in told


def test_the_first_step_goes_back_to_nobody() -> None:
    ramped = site(rollout(0))
    ramped.edit(rules=[rollout(5)])
    assert hurts(ramped) is not None
    assert served(ramped.client) == set()


def test_a_step_that_comes_by_schedule_is_a_step() -> None:
    steps = [{"from": "2020-01-01", "percent": 5}, {"from": "2099-01-01", "percent": 50}]
    ramped = site({"name": "ramp", "rollout": {"steps": steps}, "serve": "on"})
    five = served(ramped.client)
    soon = f"{datetime.fromtimestamp(ramped.clock.wall_ms() / 1000 + 60, UTC):%Y-%m-%dT%H:%M:%SZ}"
    steps = [steps[0], {"from": soon, "percent": 50}]
    ramped.edit(rules=[{"name": "ramp", "rollout": {"steps": steps}, "serve": "on"}])
    assert served(ramped.client) == five
    ramped.tick(30)
    ramped.client._feed.poller.poll()
    ramped.tick(31)
    ramped.client._feed.poller.poll()
    ramped.tick()
    assert served(ramped.client) > five
    assert hurts(ramped) is not None
    assert served(ramped.client) == five


def test_of_several_rules_those_are_held_that_the_step_raised() -> None:
    nordic = {"when": [{"attribute": "country", "op": "in", "values": ["SE"]}]}
    first, second = rollout(30, name="nordic", **nordic), rollout(5, name="rest")
    ramped = site(first, second)
    five = served(ramped.client)
    ramped.edit(rules=[first, rollout(40, name="rest")])
    assert hurts(ramped) is not None
    assert ramped.client.status.holds["f"].startswith('rule "rest" at 5 %: ')
    assert served(ramped.client) == five
    ramped.calls(3000)
    ramped.edit(rules=[rollout(60, name="nordic", **nordic), rollout(40, name="rest")])
    assert hurts(ramped) is not None
    assert ramped.client.status.holds["f"].startswith('rule "nordic" at 30 %, rule "rest" at 5 %: ')


VARIANTS = {"variants": {"off": 0, "a": 1, "b": 2}, "off": "off"}


def split(a: int, b: int, off: int) -> list[dict[str, Any]]:
    return [
        {"name": "test", "split": [{"variant": v, "weight": w} for v, w in (("a", a), ("b", b), ("off", off))]},
    ]


def test_several_candidates_go_back_together_to_exactly_the_units_they_had() -> None:
    ramped = site(*split(5, 5, 90), flag=VARIANTS)
    before = served(ramped.client, "a"), served(ramped.client, "b")
    ramped.edit(rules=split(20, 20, 60))
    assert hurts(ramped) is not None
    assert (served(ramped.client, "a"), served(ramped.client, "b")) == before
    assert {guard.state for guard in ramped.status.guards} == {"held"}
    ramped.edit(rules=split(0, 20, 80))
    assert served(ramped.client, "a") == set(), "nobody gets what the definitions no longer deal"
    assert len(served(ramped.client, "b")) == pytest.approx(len(before[1]), abs=60)


def test_a_step_down_or_an_edit_that_moves_nothing_is_no_step() -> None:
    ramped = site(rollout(25))
    ramped.edit(rules=[rollout(25)], owner="search")
    assert hurts(ramped) is None
    ramped = site(rollout(25))
    ramped.edit(rules=[rollout(5)])
    assert hurts(ramped) is None


def test_half_an_hour_after_the_step_it_is_something_else() -> None:
    ramped = site(rollout(5))
    ramped.edit(rules=[rollout(25)])
    ramped.call()
    ramped.tick(1801)
    assert hurts(ramped) is None


def test_a_process_that_has_seen_less_than_a_thousand_calls_knows_no_rate() -> None:
    ramped = Site({"rules": [rollout(5)], "guard": ALONE})
    fails(ramped, 0.01)
    ramped.calls(900)
    ramped.edit(rules=[rollout(25)])
    assert hurts(ramped) is None


def test_units_that_always_fail_and_come_anew_with_a_window_are_no_interference() -> None:
    """The first calls of a window fail more often than its last: only calls of the same history are compared."""
    units = list(range(1000))
    for seed in range(5):
        ramped, draw = site(rollout(5)), random.Random(seed)
        poison = {f"unit-{unit}" for unit in draw.sample(units, 50)}
        for number in range(32_000):
            unit = f"unit-{draw.randrange(1000)}"
            if number == 26_000:
                ramped.edit(rules=[rollout(25)])
            ramped.failing = dict.fromkeys(("on", "off"), 1.0 if unit in poison else 0.001)
            ramped.call(unit)
        assert ramped.client.status.holds == {}


def test_the_processes_of_a_host_hold_it_together_and_one_that_starts_knows(tmp_path: Path) -> None:
    first = site(rollout(5), state_dir=tmp_path)
    five = served(first.client)
    second = Site({"rules": [rollout(5)], "guard": ALONE}, state_dir=tmp_path)
    second.call()
    for each in (first, second):
        each.edit(rules=[rollout(25)])
    assert hurts(first) is not None
    first.tick()
    second.tick()
    assert served(second.client) == five
    third = Site({"rules": [rollout(25)], "guard": ALONE}, state_dir=tmp_path)
    assert served(third.client) == five
    assert third.client.status.holds.keys() == {"f"}
    third.edit(guard={**ALONE, "revision": 1})
    assert third.client.status.holds == {}
    for each in (first, second, third):
        each.client.close()


def test_how_often_calls_failed_long_ago_is_forgotten() -> None:
    watched, draw = Interference(), random.Random(5)
    for rate, calls in ((0.2, 50_000), (0.01, 100_000)):
        for _ in range(calls):
            assert not watched.ended(0, 0, draw.random() < rate, 0.0)
    watched.step(True, 0.0)
    assert any(watched.ended(0, 0, draw.random() < 0.1, 1.0) for _ in range(500))


def test_calls_from_before_a_step_say_nothing_of_it() -> None:
    watched, draw = Interference(), random.Random(5)
    for _ in range(5000):
        watched.ended(0, 0, draw.random() < 0.01, 0.0)
    watched.step(True, 10.0)
    assert not any(watched.ended(0, 0, True, 9.0) for _ in range(500))
    assert any(watched.ended(0, 0, True, 10.0) for _ in range(500))


def test_what_two_processes_of_a_host_hold_of_a_flag_both_hold(tmp_path: Path) -> None:
    both = [site(rollout(5, name="a"), rollout(5, name="b"), state_dir=tmp_path) for _ in range(2)]
    for each, name in zip(both, ("a", "b"), strict=True):  # each sees the step of one rule only
        each.edit(rules=[rollout(25 if name == "a" else 5, name="a"), rollout(25 if name == "b" else 5, name="b")])
        fails(each, 0.2)
        for _ in range(300):
            each.call()
        assert name in each.client._feed.snapshot.holds["f"].rules
    for _ in range(3):
        for each in both:
            each.tick()
    for each in both:
        assert set(each.client._feed.snapshot.holds["f"].rules) == {"a", "b"}
        each.client.close()


def test_a_trip_is_written_for_processes_of_an_earlier_version_too(tmp_path: Path) -> None:
    broken = Site(state_dir=tmp_path)
    broken.failing = {"on": 1.0}
    broken.calls(200, until=lambda: broken.tripped)
    broken.tick()
    (told,) = [json.loads(path.read_text()) for path in (tmp_path / "guards").glob("*.trip")]
    assert told["kind"] == "breaker"
    assert "held" not in told
    broken.client.close()


def test_the_more_processes_test_by_themselves_the_more_it_takes() -> None:
    def calls(processes: int) -> int:
        watched, draw = Interference(processes), random.Random(5)
        for _ in range(5000):
            watched.ended(0, 0, draw.random() < 0.01, 0.0)
        watched.step(True, 0.0)
        return next(number for number in range(10_000) if watched.ended(0, 0, draw.random() < 0.1, 1.0))

    assert calls(1) < calls(100)
