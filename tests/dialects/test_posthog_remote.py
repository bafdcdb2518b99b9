"""PostHog asked about flags that cannot be decided here: never by the caller, bounded, and only if it was asked for."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import pytest

from flagkit import Client, Config, ConfigError, Context, Decision, ErrorCode, Reason
from flagkit.core.elsewhere import Heard
from flagkit.core.explain import explain
from flagkit.core.snapshot import Snapshot
from flagkit.dialects import posthog
from flagkit.dialects.posthog_elsewhere import MAX_QUESTION, question_of
from flagkit.errors import FetchError
from flagkit.runtime import inquiries
from flagkit.runtime.inquiries import Inquiries
from flagkit.sinks import Memory
from flagkit.sources import Cached, PostHog
from flagkit.sources.source import Told
from tests.dialects.posthogs import document, flag, in_cohort, matching, serves, when
from tests.unit.fakes import FakeClock, FixedRandom
from tests.unit.loopback import Call, serving

Json = dict[str, Any]
TOKEN, KEY = "phc_0123456789abcdef", "phx_0123456789abcdef"
HEADERS = {"Content-Type": "application/json"}
COHORT = flag("f", matching(in_cohort(9)), id=1, version=3)
STICKY = flag("sticky", matching(), id=2, version=1, ensure_experience_continuity=True)
LOCAL = flag("local", matching(), id=3, version=1)
VARIANTS = {"variants": [{"key": "a", "rollout_percentage": 50}, {"key": "b", "rollout_percentage": 50}]}
PAYLOADS = {"b": '{"steps": 2}'}
MULTI = flag("multi", matching(in_cohort(9)), id=4, version=2, multivariate=VARIANTS, payloads=PAYLOADS)


def said(enabled: bool, variant: str | None = None, **more: Any) -> Json:
    """One flag of an answer."""
    reason = {"code": "condition_match", "condition_index": 0, "description": "Matched condition set 1"}
    return {"enabled": enabled, "variant": variant, "reason": reason, "metadata": {"id": 1, "version": 3}, **more}


class Server:
    """A PostHog on loopback: its definitions, its answers by flag, and what it was asked."""

    def __init__(self, *flags: Json, **answers: Json) -> None:
        self.flags = flags
        self.answers = answers
        self.more: Json = {"requestId": "request-1", "evaluatedAt": 1795428000000}
        self.status = 200
        self.heard: list[Json] = []
        self.calls: list[Call] = []
        self.told = threading.Event()
        self.open = threading.Event()
        self.open.set()

    def __call__(self, call: Call) -> None:
        if call.path.startswith("/flags/definitions"):
            call.answer(200, json.dumps(document(*self.flags)).encode(), HEADERS)
            return
        self.calls.append(call)
        self.heard.append(json.loads(call.body))
        self.told.set()
        self.open.wait(10)
        call.answer(self.status, json.dumps({"flags": self.answers, **self.more}).encode(), HEADERS)


@contextmanager
def asking(server: Server, sink: Any = None, fallback: bool = True) -> Iterator[Client]:
    with serving(server) as running:
        source = PostHog(running.url, project_token=TOKEN, personal_key=KEY, remote_fallback=fallback)
        with Client(source=source, sink=sink) as client:
            assert client.wait_ready(10)
            yield client


def eventually(ask: Callable[[], Any], seconds: float = 10.0) -> Any:
    """What ``ask`` comes to, once it comes to anything."""
    pause, found = threading.Event(), ask()
    for _ in range(int(seconds / 0.01)):
        if found:
            break
        pause.wait(0.01)
        found = ask()
    assert found
    return found


def answered(client: Client, key: str, context: Any = "user-1") -> Decision:
    def ask() -> Decision | None:
        decision = client.decide(key, context)
        return None if decision.error_code else decision

    found: Decision = eventually(ask)
    return found


# -- through a client ------------------------------------------------------------------------------------------------


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


# -- the request's answers -------------------------------------------------------------------------------------------


def decided(server: Server, *flags: str) -> Any:
    with serving(server) as running:
        source = PostHog(running.url, project_token=TOKEN, personal_key=KEY, remote_fallback=True)
        assert source.decider is not None
        try:
            return source.decider.decide('{"distinct_id":"user-1"}', flags, deadline_s=5)
        finally:
            source.close()


def test_flags_that_the_server_could_not_decide_are_left_out() -> None:
    failed = said(False, failed=True)
    server = Server(f=said(True), g=failed, h={"enabled": "yes"}, other=said(True))
    server.more = {"errorsWhileComputingFlags": True}
    assert list(decided(server, "f", "g", "h", "i")) == ["f"]


def test_facts_that_are_none_are_left_out() -> None:
    server = Server(f={"enabled": True, "variant": 7, "metadata": {"id": "x", "version": 1.5}, "reason": None})
    server.more = {"requestId": "a\nb"}
    assert decided(server, "f") == {"f": Told("true", True, {"remote": True})}


@pytest.mark.parametrize(
    ("status", "more", "reason", "lasting"),
    [
        (200, {"quotaLimited": ["feature_flags"]}, "quota_limited", True),
        (200, {"flags": None}, "no_flags", False),
        (401, {}, "http_401", True),
        (402, {}, "http_402", True),
        (429, {}, "http_429", False),
        (503, {}, "http_503", False),
        (302, {}, "http_302", False),
    ],
)
def test_what_is_no_answer_is_an_error_of_one_word(status: int, more: Json, reason: str, lasting: bool) -> None:
    server = Server(f=said(True))
    server.status, server.more = status, more
    with pytest.raises(FetchError) as raised:
        decided(server, "f")
    assert (raised.value.reason, raised.value.lasting) == (reason, lasting)
    assert TOKEN not in str(raised.value)


# -- the question ----------------------------------------------------------------------------------------------------


class Hostile:
    def __getattr__(self, name: str) -> Any:
        raise RuntimeError(name)


@pytest.mark.parametrize(
    "attributes",
    [
        {"a": "\ud800"},
        {"a": {f"k{n}": "x" * 1000 for n in range(100)}, **{f"k{n}": "x" * 1000 for n in range(100)}},
    ],
)
def test_a_context_that_cannot_be_told_is_not_asked_about(attributes: Json) -> None:
    with asking(Server(COHORT, f=said(True))) as client:
        assert client.decide("f", Context("user-1", attributes)).rule == "static cohort"
        assert client.status.remote is not None
        assert client.status.remote.waiting == 0


def test_only_values_of_plain_json_are_told() -> None:
    attributes: Any = {
        "o": Hostile(),
        "n": float("nan"),
        "big": 1 << 70,
        "long": "x" * 2000,
        "b": b"x",
        3: "x",
        "ok": True,
    }
    text = question_of(Context("user-1", {**attributes, "$groups": Hostile(), "list": [Hostile(), "x"], "d": {"a": 1}}))
    assert text is not None
    assert json.loads(text)["person_properties"] == {"ok": True, "list": ["x"]}


def test_the_same_context_is_the_same_question_whatever_its_order() -> None:
    assert question_of(Context("u", {"a": 1, "b": 2})) == question_of(Context("u", {"b": 2, "a": 1}))
    assert question_of(Context("u", {f"k{n}": "x" * 900 for n in range(MAX_QUESTION // 900 + 1)})) is None


# -- step by step ----------------------------------------------------------------------------------------------------


class Oracle:
    """A server of scripted answers; the last again and again."""

    name = "oracle"

    def __init__(self, *script: Any) -> None:
        self.script = list(script) or [{}]
        self.asked: list[tuple[str, tuple[str, ...]]] = []

    def decide(self, question: str, flags: Any, *, deadline_s: float) -> Any:
        self.asked.append((question, tuple(flags)))
        answer = self.script.pop(0) if len(self.script) > 1 else self.script[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


ON = Told("true", True, {})
DOWN = FetchError("refused", "down")


def steps(*script: Any) -> tuple[Inquiries, Oracle, FakeClock]:
    """Inquiries whose thread never runs."""
    clock, oracle = FakeClock(), Oracle(*script)
    made = Inquiries(oracle, Config(), clock, FixedRandom())  # type: ignore[arg-type]
    made._worker._stopped = True
    return made, oracle, clock


def run(made: Inquiries, clock: FakeClock, rounds: int = 1) -> None:
    for _ in range(rounds):
        clock.advance(made.step())
        clock.advance(made.step())


def test_flags_of_one_unit_travel_in_one_request_and_a_question_is_put_once() -> None:
    made, oracle, clock = steps({"f": ON, "g": ON})
    for name in ("f", "g", "f", "f"):
        assert made.answer(name, "1", "{}") is None
    run(made, clock, 3)
    assert oracle.asked == [("{}", ("f", "g"))]
    assert made.answer("f", "1", "{}") is not None
    assert made.answer("g", "1", "{}") is not None


def test_requests_are_so_many_a_second_at_most() -> None:
    made, oracle, clock = steps({"f": ON})
    for number in range(50):
        made.answer("f", "1", f'{{"n":{number}}}')
    began_s = clock.monotonic_s()
    while len(oracle.asked) < 50:
        clock.advance(made.step())
    assert clock.monotonic_s() - began_s >= 49 * inquiries.EVERY_S


def test_an_answer_is_asked_for_again_after_a_while_and_counts_until_the_new_one_is_there() -> None:
    made, oracle, clock = steps({"f": ON}, {"f": Told("false", False, {})})
    made.answer("f", "1", "{}")
    run(made, clock)
    clock.advance(inquiries.FRESH_S - 1)
    assert made.answer("f", "1", "{}")
    assert not made._waiting
    clock.advance(2)
    old = made.answer("f", "1", "{}")
    assert old is not None
    assert old.enabled
    run(made, clock, 2)
    new = made.answer("f", "1", "{}")
    assert new is not None
    assert not new.enabled
    assert len(oracle.asked) == 2


def test_while_the_server_is_down_an_answer_counts_for_so_long_and_no_longer() -> None:
    made, _, clock = steps({"f": ON}, DOWN)
    made.answer("f", "1", "{}")
    run(made, clock)
    clock.advance(inquiries.KEPT_S - 60)
    assert made.answer("f", "1", "{}") is not None
    run(made, clock, 3)
    clock.advance(120)
    assert made.answer("f", "1", "{}") is None


def test_a_flag_without_an_answer_is_not_asked_about_again_at_once() -> None:
    made, oracle, clock = steps({})
    made.answer("f", "1", "{}")
    run(made, clock)
    assert made.answer("f", "1", "{}") is None
    assert not made._waiting
    clock.advance(inquiries.UNANSWERED_S + 1)
    made.answer("f", "1", "{}")
    assert len(made._waiting) == 1
    assert len(oracle.asked) == 1


def test_a_failing_server_is_left_alone_longer_and_longer() -> None:
    made, oracle, clock = steps(DOWN)
    pauses = []
    for number in range(5):
        made.answer("f", "1", f'{{"n":{number}}}')
        pause_s = made.step()
        while len(oracle.asked) == number:
            clock.advance(pause_s)
            pause_s = made.step()
        pauses.append(pause_s)
    assert pauses == sorted(pauses)
    assert pauses[-1] > 4 * pauses[0]
    assert made.state.link.consecutive_failures == 5
    assert made.state.lost == {"refused": 5}


def test_the_server_s_own_wish_is_heeded() -> None:
    made, _, clock = steps(FetchError("http_429", "slowly", retry_after_s=200.0))
    made.answer("f", "1", "{}")
    clock.advance(made.step())
    assert made.step() >= 200


def test_a_question_that_the_server_refuses_costs_the_others_nothing() -> None:
    made, oracle, clock = steps(FetchError("http_400", "bad", lasting=True), {"f": ON})
    made.answer("f", "1", '{"n":1}')
    made.answer("f", "1", '{"n":2}')
    while len(oracle.asked) < 2:
        clock.advance(made.step())
    assert made.answer("f", "1", '{"n":2}') is not None
    assert made.answer("f", "1", '{"n":1}') is None
    assert not made._waiting


def test_memory_is_bounded_in_questions_and_in_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inquiries, "MAX_KEPT", 20)
    made, _, clock = steps({"f": ON})
    for number in range(inquiries.MAX_WAITING + 10):
        made.answer("f", "1", f'{{"n":{number}}}')
    state = made.state
    assert (state.waiting, state.lost) == (inquiries.MAX_WAITING, {"overflow": 10})
    run(made, clock, inquiries.MAX_WAITING + 1)
    assert (made.state.waiting, made.state.kept) == (0, 20)


def test_threads_that_ask_at_once_find_what_one_thread_would() -> None:
    made, oracle, clock = steps({"f": ON, "g": ON, "h": ON})
    start = threading.Barrier(8)

    def ask(name: str) -> None:
        start.wait()
        for number in range(200):
            made.answer(name, "1", f'{{"n":{number % 20}}}')

    threads = [threading.Thread(target=ask, args=("fgh"[index % 3],)) for index in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made._order) == len(made._waiting) == 20
    run(made, clock, 60)
    assert {len(flags) for _, flags in oracle.asked} == {3}
    assert (made.state.kept, made.state.waiting) == (20, 0)
