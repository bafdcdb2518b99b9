"""Guards through the public verbs: what is rolled back, how soon, what never is, and what ends a trip."""

from __future__ import annotations

import contextlib
import json
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from flagkit import Context, Reason, scope
from flagkit.core.policy import MAX_REVISION, GuardPolicy
from flagkit.dialects import edits
from tests.production.guarded import HALF, Failed, Site


def test_a_candidate_that_fails_more_often_is_rolled_back_from_the_next_call_on() -> None:
    site = Site()
    site.failing = {"on": 0.12, "off": 0.01}
    candidates = site.calls(20_000, lambda: site.tripped)
    assert candidates < 600
    assert site.calls(200) == 0
    decision = site.client.peek("f", "user-1")
    assert (decision.variant, decision.analysable) == ("off", decision.reason is Reason.SPLIT)
    (guard,) = site.status.guards
    assert (guard.flag, guard.candidate, guard.state) == ("f", "on", "tripped")
    assert site.client.status.trips == {"f": f"on: {guard.why}"}


def test_calls_of_many_threads_are_each_counted_once_whoever_counts_them() -> None:
    site, each = Site(), 400
    switching = sys.getswitchinterval()

    def call(number: int) -> None:
        for turn in range(each):
            with contextlib.suppress(Failed), site.client.gate("f", f"user-{number}-{turn}") as gate:
                if gate.variant and turn % 50 == 0:
                    raise Failed

    threads = [threading.Thread(target=call, args=(number,)) for number in range(8)]
    sys.setswitchinterval(1e-6)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(switching)
    site.tick()
    (guard,), guarded = site.status.guards, site.client._guards.guards["f"]
    assert sum(guard.calls) == sum(variant.calls for variant in site.status.variants) == 8 * each
    assert sum(guard.failures) == sum(variant.failures for variant in site.status.variants) > 0
    assert (site.client._guards.faults, len(guarded._under_way)) == (0, 0)


VERSIONS = {
    "variants": {"v1": 1, "v2": 2, "none": 0},
    "off": "none",
    "default": "v1",
    "rules": [{"name": "half", "rollout": {"percent": 50}, "serve": "v2"}],
}


@pytest.mark.parametrize("where", ["definitions", "code"])
def test_the_control_that_a_guard_names_runs_what_is_otherwise_called(where: str) -> None:
    in_code = GuardPolicy(control="v1") if where == "code" else None
    site = Site({**VERSIONS, "guard": {"control": "v1"} if where == "definitions" else {}})

    @site.client.gate("f", unit_from="user", otherwise=lambda user: "v1", guard=in_code)
    def page(user: str) -> str:
        return "v2"

    users = [f"user-{number}" for number in range(100)]
    assert [page(user) for user in users] == [site.client.variant("f", user) for user in users]
    for user in users:
        with site.client.gate("f", user, guard=in_code) as gate:
            assert gate.on is (gate.variant == "v2")

    @site.client.gate("f", unit_from="user", otherwise=lambda user: "v1", guard=in_code)
    def broken(user: str) -> str:
        raise ZeroDivisionError

    hurt = 0
    for number in range(500):
        try:
            assert broken(f"buyer-{number}") == "v1"
        except ZeroDivisionError:
            hurt += 1
    assert site.tripped
    assert hurt < 20
    assert site.client.variant("f", users[0]) == "v1"


def test_the_collector_is_told_once_with_the_evidence() -> None:
    site = Site()
    site.failing = {"on": 0.12}
    site.calls(20_000, lambda: site.tripped)
    site.calls(100)
    (trip,) = site.trips
    assert (trip["feature_flag.key"], trip["candidate"], trip["control"]) == ("f", "on", "off")
    assert (trip["kind"], trip["revision"], trip["rolled_back"]) == ("errors", 0, True)
    assert trip["failures"][1] > trip["failures"][0]
    assert max(value / limit for value, limit in zip(trip["evidence"], trip["limits"], strict=True)) >= 1


def test_a_slower_candidate_is_rolled_back_too() -> None:
    site = Site()
    site.taking = {"on": 0.02, "off": 0.01}
    assert site.calls(20_000, lambda: site.tripped) < 600
    assert site.trips[0]["kind"] == "latency"


def test_latency_is_left_alone_where_the_policy_says_so() -> None:
    site = Site({"guard": {"latency_tolerance": None}})
    site.taking = {"on": 0.05, "off": 0.01}
    site.calls(3000)
    assert not site.tripped


def test_a_healthy_candidate_is_not() -> None:
    site = Site()
    site.failing = {"on": 0.02, "off": 0.02}
    site.calls(10_000)
    assert not site.tripped
    assert site.status.guards[0].state == "judging"


def test_a_gross_failure_opens_the_breaker_which_closes_again_after_clean_probes() -> None:
    site = Site()
    site.calls(200)
    site.failing = {"on": 1.0}
    assert site.calls(100, lambda: site.tripped) == 5
    assert site.status.guards[0].state == "open"
    assert site.calls(50) == 0
    site.failing = {}
    site.tick(40)
    assert site.status.guards[0].state == "half_open"
    assert site.calls(200, lambda: not site.tripped) == 8
    assert site.status.trips == {}
    assert site.calls(100) > 30


def test_it_opens_again_for_longer_and_in_the_end_for_good() -> None:
    site = Site()
    site.calls(200)
    site.failing = {"on": 1.0}
    site.calls(100, lambda: site.tripped)
    for wait_s in (40, 75, 150):
        site.tick(wait_s)
        assert site.status.guards[0].state == "half_open"
        assert site.calls(100) == 2
    site.tick(10_000)
    assert site.status.guards[0].state == "tripped"
    assert site.calls(100) == 0


def test_while_it_is_half_open_one_call_at_a_time_tries() -> None:
    site = Site()
    site.calls(200)
    site.failing = {"on": 1.0}
    site.calls(100, lambda: site.tripped)
    site.failing = {}
    site.tick(40)
    on = next(f"user-{n}" for n in range(100) if site.client.peek("f", f"user-{n}").reason is Reason.GUARD)
    with site.client.gate("f", on) as first, site.client.gate("f", on) as second:
        assert (first.variant, second.variant) == ("on", "off")
    with site.client.gate("f", on) as third:
        assert third.variant == "on"


def test_an_outage_of_both_is_not_the_candidate_s() -> None:
    site = Site()
    site.failing = {"on": 0.0, "off": 0.0}
    site.calls(400)
    site.failing = {"on": 1.0, "off": 1.0}
    site.calls(400)
    site.failing = {}
    site.tick(60)
    site.calls(300)
    assert not [trip for trip in site.trips if trip["kind"] != "breaker"]
    assert site.status.trips == {}


def test_an_alert_says_so_and_goes_on() -> None:
    site = Site({"guard": {"action": "alert"}})
    site.failing = {"on": 0.12}
    site.calls(3000)
    assert [trip["rolled_back"] for trip in site.trips if trip["kind"] == "errors"] == [False]
    assert site.status.trips == {}
    assert site.calls(100) > 30


def test_a_higher_revision_is_a_new_try_and_nothing_else_clears_a_trip() -> None:
    site = Site({"guard": {"revision": 3}})
    site.failing = {"on": 0.12}
    site.calls(20_000, lambda: site.tripped)
    for edit in (
        {"owner": "search"},
        {"rules": [{**HALF["rules"][0], "rollout": {"percent": 90}}]},
        {"guard": {"revision": 3, "alpha": 0.1}},
        {"guard": {"revision": 2}},
    ):
        site.edit(**edit)
        assert site.calls(100) == 0, edit
    site.failing = {}
    site.edit(guard={"revision": 4})
    assert site.calls(100) > 50
    (guard,) = site.status.guards
    assert (guard.revision, guard.state, sum(guard.calls) <= 100) == (4, guard.state, True)


def test_a_policy_in_code_stands_in_for_the_definitions() -> None:
    site = Site({"guard": {"action": "alert"}}, policy=GuardPolicy())
    site.failing = {"on": 0.12}
    site.calls(20_000, lambda: site.tripped)
    assert site.calls(100) == 0
    site.edit(guard={"revision": 1})
    assert site.calls(100) > 20


@pytest.mark.parametrize("revision", [0, 7, MAX_REVISION - 1])
@pytest.mark.parametrize("guard", [None, {}, {"revision": 3}])
def test_reset_is_a_new_try_of_a_policy_in_code_whatever_revisions_there_are(revision: int, guard: Any) -> None:
    site = Site({"guard": guard}, policy=GuardPolicy(revision=revision))
    if guard is None:
        del site.flag["guard"]
        site.source.document = site.document()
    site.failing = {"on": 0.12}
    site.calls(20_000, lambda: site.tripped)
    assert site.calls(100) == 0
    site.failing = {}
    document = edits.new_try(json.dumps(site.document()), "f", in_code=guard is None).text
    site.edit(guard=json.loads(document)["flags"]["f"]["guard"])
    if revision + (guard or {}).get("revision", 0) < MAX_REVISION:
        assert site.calls(100) > 20
    assert site.status.problems == ()


def test_each_candidate_is_on_trial_by_itself() -> None:
    split = [{"variant": name, "weight": 1} for name in ("off", "b", "c")]
    site = Site({"variants": {"off": 0, "b": 1, "c": 2}, "off": "off", "rules": [{"name": "s", "split": split}]})
    site.failing = {"b": 0.12, "c": 0.01, "off": 0.01}
    site.calls(20_000, lambda: site.tripped)
    site.served.clear()
    site.calls(300)
    assert set(site.served) == {"off", "c"}
    assert {guard.candidate: guard.state for guard in site.status.guards}["b"] == "tripped"
    assert list(site.client.status.trips) == ["f"]


def test_the_control_may_be_another_variant_than_off() -> None:
    split = [{"variant": name, "weight": 1} for name in ("a", "b")]
    site = Site(
        {
            "variants": {"none": 0, "a": 1, "b": 2},
            "off": "none",
            "rules": [{"name": "s", "split": split}],
            "guard": {"control": "a"},
        }
    )
    site.failing = {"b": 0.12}
    site.calls(20_000, lambda: site.tripped)
    site.served.clear()
    site.calls(100)
    assert set(site.served) == {"a"}


def test_calls_that_are_forced_targeted_or_synthetic_speak_for_nobody() -> None:
    site = Site({"targets": {"on": ["dev"]}})
    site.failing = {"on": 1.0}
    for _ in range(50):
        site.call("dev")
        site.call(Context("user-1", synthetic=True))
        with site.client.override({"f": True}):
            site.call("user-2")
    assert not site.tripped
    assert all(guard.calls == (0, 0) for guard in site.status.guards)


def test_a_failure_that_a_metric_event_reports_counts_against_its_unit() -> None:
    site = Site({"guard": {"metrics": ["refund"]}})
    for number in range(6000):
        unit = f"user-{number}"
        if site.call(unit) == "on" and number % 4 == 0:
            site.client.track("refund", unit)
        if site.tripped:
            break
    assert site.trips[0]["kind"] == "errors"


def test_a_rollout_by_organization_counts_organizations() -> None:
    site = Site({"rules": [{"name": "orgs", "rollout": {"percent": 50, "by": "org"}, "serve": "on"}]})
    for number in range(400):
        site.call({"unit": f"user-{number}", "org": f"org-{number % 4}"})
    (guard,) = site.client._guards.guards.values()
    site.tick()
    counted = sum(cell & 31 for cell in guard.trials["on"].counting.clocks[0].table)
    assert counted == 4 * 31


def test_a_pinned_answer_gives_way_to_a_trip() -> None:
    site = Site()
    on = next(f"user-{n}" for n in range(100) if site.client.peek("f", f"user-{n}").variant == "on")
    with scope(on):
        assert site.client.enabled("f")
        site.failing = {"on": 0.12}
        site.calls(20_000, lambda: site.tripped)
        assert not site.client.enabled("f")


def test_a_trip_of_a_parent_holds_for_its_children() -> None:
    site = Site()
    site.source.document["flags"]["child"] = {"default": "on", "prerequisites": [{"flag": "f", "variants": ["on"]}]}
    site.client._feed.poller.poll()
    on = next(f"user-{n}" for n in range(100) if site.client.peek("child", f"user-{n}").variant == "on")
    site.failing = {"on": 0.12}
    site.calls(20_000, lambda: site.tripped)
    assert site.client.peek("child", on).reason is Reason.PREREQUISITE_FAILED


def test_a_call_that_hangs_counts_as_failed_and_slow_without_another_call() -> None:
    site = Site({"guard": {"deadline_s": 5}})
    site.calls(200)
    hanging: list[Any] = []
    for number in range(40):
        gate = site.client.gate("f", f"new-{number}")
        gate.__enter__()
        if gate.on:
            hanging.append(gate)
        else:
            gate.__exit__(None, None, None)
    site.tick(4)
    assert not site.tripped
    site.tick(2)
    assert site.tripped
    failures = site.status.guards[0].failures
    for gate in hanging:
        gate.__exit__(None, None, None)
    assert site.status.guards[0].failures == failures, "what ends after all is not counted again"


def test_a_generator_that_hangs_counts_as_one_while_a_slow_reader_does_not() -> None:
    site = Site({"guard": {"deadline_s": 5}, "rules": [], "default": "on"})
    never, entered = threading.Event(), threading.Semaphore(0)

    def rows(unit: str) -> Iterator[int]:
        yield 1
        entered.release()
        never.wait()
        yield 2

    guarded = site.client.gate("f", unit_from="unit", otherwise=rows)(rows)
    slow = [guarded(f"reader {number}") for number in range(20)]
    assert [next(each) for each in slow] == [1] * 20
    threads = [threading.Thread(target=lambda each=each: list(each)) for each in slow[:12]]
    for thread in threads:
        thread.start()
        entered.acquire()
    for _ in range(4):
        site.tick(4)
    assert site.status.guards[0].failures == (0, 0), "the units were not dealt, and are compared with nobody"
    (metrics,) = [each for each in site.status.variants if each.variant == "on"]
    assert (metrics.failures, dict(metrics.errors)) == (12, {"Hung": 12})
    assert site.tripped, "the breaker sees them"
    never.set()
    for thread in threads:
        thread.join()
    assert site.status.variants[0].failures == 12, "what ends after all is not counted again"


def test_without_a_control_the_rate_that_is_borne_is_the_measure() -> None:
    site = Site({"rules": [{"name": "all", "rollout": {"percent": 100}, "serve": "on"}], "guard": {"slo": 0.02}})
    site.failing = {"on": 0.01}
    site.calls(3000)
    assert not site.tripped
    site.failing = {"on": 0.1}
    assert site.calls(4000, lambda: site.tripped) < 600
    assert site.trips[0]["kind"] == "slo"


def test_without_a_control_reports_of_failures_are_held_against_the_rate_too() -> None:
    everyone = [{"name": "all", "rollout": {"percent": 100}, "serve": "on"}]
    site = Site({"rules": everyone, "guard": {"slo": 0.02, "metrics": ["refund"]}})

    def reported(chance: float, most: int) -> int:
        for number in range(most):
            unit = f"buyer {chance} {number}"
            site.call(unit)
            for _ in range(5 if site.random.random() < chance else 0):
                site.client.track("refund", unit)  # of one unit the first counts
            if number % 50 == 49:
                site.tick()
            if site.tripped:
                return number
        return most

    assert reported(0.01, 3000) == 3000
    assert reported(0.1, 4000) < 600
    assert site.trips[0]["kind"] == "slo"


def test_without_a_control_and_a_rate_it_says_that_it_is_blind() -> None:
    site = Site({"rules": [{"name": "all", "rollout": {"percent": 100}, "serve": "on"}]})
    site.failing = {"on": 0.1}
    site.calls(3000)
    assert site.status.guards[0].state == "blind"


EVERYONE: dict[str, Any] = {"rules": [{"name": "all", "rollout": {"percent": 100}, "serve": "on"}]}
ONLY_CANDIDATES = {"rules": [{"name": "all", "split": [{"variant": "on", "weight": 1}]}]}


@pytest.mark.parametrize(
    ("flag", "state"),
    [
        ({}, "underpowered"),
        (EVERYONE, "blind"),
        (ONLY_CANDIDATES, "blind"),
        ({**EVERYONE, "guard": {"slo": 0.01}}, "underpowered"),
    ],
)
def test_a_guard_has_a_state_before_any_call_comes(flag: dict[str, Any], state: str) -> None:
    site = Site(flag)
    site.client.start()
    assert site.client.wait_ready(5)
    (before,) = site.status.guards
    assert before == ("f", "on", 0, state, (0, 0), (0, 0), 0.0, None)
    site.call()
    assert site.status.guards[0].state == state


def test_a_status_has_the_latest_call() -> None:
    site = Site()
    for number in range(1, 70):
        site.call()
        (guard,) = site.status.guards
        assert sum(guard.calls) == sum(variant.calls for variant in site.status.variants) == number


def test_after_a_reset_a_guard_s_state_is_that_of_the_new_try() -> None:
    site = Site()
    site.failing = {"on": 0.12, "off": 0.01}
    site.calls(20_000, lambda: site.tripped)
    assert site.status.guards[0].state == "tripped"
    site.edit(guard={"revision": 1})
    (after,) = site.status.guards
    assert (after.revision, after.state, after.calls) == (1, "underpowered", (0, 0))


@pytest.mark.parametrize("guard", [{"alpha": 0}, {"action": "panic"}, {"control": "none"}])
def test_a_bad_policy_leaves_the_flag_served_without_a_guard_and_is_said(guard: dict[str, Any]) -> None:
    site = Site({"guard": guard})
    site.failing = {"on": 1.0}
    assert site.calls(100) > 30
    assert not site.tripped
    (problem,) = site.client.status.problems
    assert "served without a guard" in problem.message


def test_calls_failures_and_latency_of_each_variant_are_in_the_status() -> None:
    site = Site({"guard": {"alpha": 1e-9}})
    site.failing = {"on": 0.1}
    site.calls(1000)
    on, off = sorted(site.status.variants, key=lambda variant: variant.variant == "off")
    assert (on.variant, off.variant, on.calls + off.calls) == ("on", "off", 1000)
    assert on.errors == {"Failed": on.failures}
    assert on.failures > 20
    assert off.failures == 0
    assert on.p50_s == pytest.approx(0.01, rel=0.1)


def test_a_policy_in_code_whose_control_is_no_variant_is_said_and_not_gone_by() -> None:
    site = Site({"guard": {"alpha": 0.02}}, policy=GuardPolicy(control="nope"))
    site.call("u")
    (problem,) = site.client.status.problems
    assert (problem.path, problem.flag) == ("$.flags.f.guard.control", "f")
    assert 'got "nope" in code; expected one of on, off' in problem.message
    (guard,) = site.client._guards.guards.values()
    assert guard.policy.alpha == 0.02
