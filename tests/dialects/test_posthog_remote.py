"""PostHog asked about flags that cannot be decided here: never by the caller, bounded, and only if it was asked for."""

from __future__ import annotations

import json
import os
import threading
from datetime import UTC, datetime
from typing import Any

import pytest

from flagkit import Client, Config, ConfigError, Context, ErrorCode, Reason
from flagkit.core.elsewhere import Heard
from flagkit.core.explain import explain
from flagkit.core.snapshot import Snapshot
from flagkit.dialects import posthog
from flagkit.sinks import Memory
from flagkit.sources import Cached, PostHog
from tests.dialects.posthog_server import (
    COHORT,
    KEY,
    LOCAL,
    MULTI,
    STICKY,
    TOKEN,
    Server,
    answered,
    asking,
    eventually,
    said,
)
from tests.dialects.posthogs import document, flag, in_cohort, matching, serves, when
from tests.unit.loopback import serving


def test_the_first_answer_comes_at_once_with_its_reason_and_later_ones_are_posthogs() -> None:
    server = Server(COHORT, f=said(True))
    server.open.clear()
    with asking(server) as client:
        first = client.decide("f", "user-1")
        assert (first.error_code, first.rule) == (ErrorCode.GENERAL, "static cohort")
        assert server.told.wait(10)
        assert client.decide("f", "user-1").variant is None  # nobody waits for it, however long it takes
        server.open.set()
        found = answered(client, "f")
        assert (found.variant, found.enabled, found.reason, found.rule) == ("true", True, Reason.CACHED, "remote")
        assert not found.analysable
        assert found.version is not None
        assert found.version.startswith("3-")
        assert client.enabled("f", "user-1")
        assert client.decide("f", "user-1") is found


def test_the_request_is_what_posthog_documents() -> None:
    server = Server(COHORT, STICKY, f=said(True), sticky=said(False))
    groups = {"$groups": {"company": "acme"}, "$group_properties": {"company": {"plan": "pro"}}, "$device_id": "d-1"}
    context = {"unit": "user-1", "age": 7, "on": datetime(2026, 11, 28, tzinfo=UTC), "tags": ["a", 1], **groups}
    with asking(server) as client:
        client.decide("f", context)
        client.decide("sticky", context)
        assert answered(client, "sticky", context).variant == "false"
    body = {
        "api_key": TOKEN,
        "distinct_id": "user-1",
        "person_properties": {"age": 7, "on": "2026-11-28T00:00:00+00:00", "tags": ["a", 1]},
        "groups": {"company": "acme"},
        "group_properties": {"company": {"plan": "pro"}},
        "$device_id": "d-1",
        "geoip_disable": True,
    }
    asked = [flag for heard in server.heard for flag in heard.pop("flag_keys_to_evaluate")]
    assert sorted(set(asked)) == ["f", "sticky"]
    for call, heard in zip(server.calls, server.heard, strict=True):  # one, unless this machine slept in between
        assert (call.method, call.path, heard) == ("POST", "/flags/?v=2", body)
        assert KEY not in str(call.headers) + call.body.decode()


def test_a_variant_brings_the_payload_of_its_definition() -> None:
    with asking(Server(MULTI, multi=said(True, "b"))) as client:
        found = answered(client, "multi")
        assert (found.variant, found.value, found.enabled) == ("b", {"steps": 2}, True)
        assert client.value("multi", "user-1", default={}) == {"steps": 2}


def test_what_is_decided_here_is_never_asked_of_anybody() -> None:
    server = Server(LOCAL, COHORT)
    with asking(server) as client:
        assert client.enabled("local", "user-1")
        client.decide("no-such-flag", "user-1")
        assert client.status.remote is not None
        assert (client.status.remote.waiting, client.status.remote.asked) == (0, 0)
    assert server.heard == []


def test_nothing_is_asked_unless_the_source_was_told_to() -> None:
    server = Server(COHORT, f=said(True))
    with asking(server, fallback=False) as client:
        assert client.decide("f", "user-1").rule == "static cohort"
        assert client.status.remote is None
        assert "flagkit-remote" not in [thread.name for thread in threading.enumerate()]
    assert server.heard == []


def test_nobody_is_asked_about_units_that_are_none_or_made_up_or_under_an_override() -> None:
    asks = flag("child", matching(serves("f", True)), id=5, version=1)
    server = Server(COHORT, asks, f=said(True))
    with asking(server) as client:
        client.decide("f")
        client.decide("f", Context("user-1", synthetic=True))
        with client.override({"f": "false"}):
            assert client.decide("child", "user-1").variant == "false"
        assert client.status.remote is not None
        assert client.status.remote.waiting == 0


def test_a_flag_that_asks_for_an_undecided_one_is_decided_here_once_that_one_is_known() -> None:
    asks = flag("child", matching(serves("f", True)), id=5, version=1)
    with asking(Server(COHORT, asks, f=said(True))) as client:
        assert client.decide("child", "user-1").rule == "unresolved dependency on a static cohort"
        found = answered(client, "child")
        assert (found.variant, found.reason) == ("true", Reason.TARGETING_MATCH)


def test_a_trip_holds_for_what_posthog_answers_and_an_explanation_tells_of_it() -> None:
    class Known:
        def answer(self, flag: str, version: str, question: str) -> Heard:
            return Heard("b", True, {"request_id": question[:8]})

    data = json.dumps(document(MULTI)).encode()
    definitions = posthog.parse(data, None, Known()).definitions
    before = Snapshot(definitions, now_ms=lambda: 0)
    assert before.decide("multi", Context("user-1")).reason is Reason.CACHED
    assert '"remote"' in explain(before, "multi", Context("user-1")).text()
    after = before.following(trips={"multi": {"b": "a"}})
    tripped = after.decide("multi", Context("user-1"))
    assert (tripped.variant, tripped.reason) == ("a", Reason.GUARD)


def test_an_answer_that_the_definitions_do_not_know_is_none() -> None:
    with asking(Server(MULTI, multi=said(True, "new"))) as client:
        client.decide("multi", "user-1")
        eventually(lambda: client.status.remote and client.status.remote.answered)
        assert client.decide("multi", "user-1").rule == "static cohort"


def test_answers_belong_to_the_unit_and_all_that_was_told_of_it() -> None:
    missing = flag("f", matching(when("plan", "exact", ["pro"]), when("age", "gt", 5)), id=1, version=1)
    server = Server(missing, f=said(True))
    with asking(server) as client:
        answered(client, "f", {"unit": "user-1", "plan": "pro"})
        assert client.decide("f", {"unit": "user-1", "plan": "pro", "x": 1}).error_code is ErrorCode.INVALID_CONTEXT
        assert client.decide("f", {"unit": "user-2", "plan": "pro"}).error_code is ErrorCode.INVALID_CONTEXT
        assert client.decide("f", {"unit": "user-1", "plan": "free"}).variant == "false"  # decided here


def test_the_exposure_says_that_posthog_decided_and_by_which_request() -> None:
    memory = Memory()
    with asking(Server(COHORT, f=said(True)), sink=memory) as client:
        answered(client, "f")
        client.enabled("f", "user-1")
        client.flush()
        (event,) = (each for each in memory.events if each["type"] == "exposure")
    assert (event["feature_flag.result.reason"], event["flagkit.rule"]) == ("cached", "remote")
    from flagkit.sinks.posthog_events import event_of

    made = event_of(event, {}, "1.0")
    assert made is not None
    properties = made["properties"]
    assert properties["locally_evaluated"] is False
    assert properties["$feature_flag_request_id"] == "request-1"
    assert properties["$feature_flag_evaluated_at"] == 1795428000000
    assert (properties["$feature_flag_id"], properties["$feature_flag_version"]) == (1, 3)
    assert properties["$feature_flag_reason"] == "Matched condition set 1"
    assert properties["$feature_flag_response"] is True


def test_exposures_of_many_units_are_one_outcome_in_memory() -> None:
    memory = Memory()
    with asking(Server(COHORT, f=said(True)), sink=memory) as client:
        one, other = answered(client, "f", "user-1"), answered(client, "f", "user-2")
        assert one is not other
        assert one == other
        assert hash(one) == hash(other)
        assert one._exposed is other._exposed
        assert len(client._recording.exposures._touched) == 1  # type: ignore[union-attr]
        client.flush()
        assert len(memory.events) == 2


def test_a_definition_that_changes_ends_the_answers_to_it() -> None:
    server = Server(COHORT, f=said(True))
    with asking(server) as client:
        answered(client, "f")
        server.flags = (flag("f", matching(in_cohort(8)), id=1, version=4),)
        server.open.clear()
        eventually(lambda: client.refresh(10) and client.decide("f", "user-1").variant is None)
        server.open.set()
        assert (answered(client, "f").version or "").startswith("4-")
        server.flags = (flag("f", matching(in_cohort(8)), id=1, version=5, active=False),)
        eventually(lambda: client.refresh(10) and client.decide("f", "user-1").reason is Reason.DISABLED)


def test_the_status_tells_of_a_used_up_quota_and_the_definitions_stay() -> None:
    server = Server(COHORT, LOCAL)
    server.more = {"quotaLimited": ["feature_flags"], "flags": {}}
    with asking(server) as client:
        client.decide("f", "user-1")
        remote = eventually(lambda: (r := client.status.remote) and r.link.failures and r)
        assert (remote.link.state, remote.link.last_error) == ("rejected", "quota_limited")
        assert (remote.asked, remote.answered, remote.lost) == (1, 0, {"quota_limited": 1})
        assert client.decide("f", "user-1").rule == "static cohort"
        assert client.enabled("local", "user-1")


def test_a_closed_client_still_answers_what_it_knows_and_asks_nothing() -> None:
    server = Server(COHORT, f=said(True))
    with asking(server) as client:
        found = answered(client, "f")
        client.close()
        assert client.decide("f", "user-1") is found
        assert client.decide("f", "user-2").rule == "static cohort"
        assert client.status.remote is not None
        assert client.status.remote.waiting == 0
    assert len(server.heard) == 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_keeps_the_answers_and_asks_for_itself() -> None:
    server = Server(COHORT, f=said(True))
    with asking(server) as client:
        answered(client, "f")
        child = os.fork()
        if child == 0:
            code = 1
            try:
                kept = client.decide("f", "user-1").variant == "true"
                code = 0 if kept and answered(client, "f", "user-2").variant == "true" else 2
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert sorted(body["distinct_id"] for body in server.heard) == ["user-1", "user-2"]


def test_a_source_whose_documents_are_kept_on_disk_asks_as_well(tmp_path: Any) -> None:
    server = Server(COHORT, f=said(True))
    with serving(server) as running:
        source = PostHog(running.url, project_token=TOKEN, personal_key=KEY, remote_fallback=True)
        assert Cached(source, tmp_path).decider is source.decider
        with Client(source=source, sink=None, config=Config(state_dir=str(tmp_path))) as client:
            assert client.wait_ready(10)
            assert answered(client, "f").variant == "true"


def test_whether_to_ask_is_a_bool() -> None:
    with pytest.raises(ConfigError, match="remote_fallback"):
        PostHog(project_token=TOKEN, personal_key=KEY, remote_fallback="yes")  # type: ignore[arg-type]
