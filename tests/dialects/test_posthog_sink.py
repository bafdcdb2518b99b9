"""The PostHog sink: events field by field, what answers mean for a batch, and its bounds."""

from __future__ import annotations

import gzip
import json
import logging
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID

import pytest
import responses

from flagkit import Client, ConfigError, Context, sources
from flagkit.clock import Waitable
from flagkit.events import Batch, Delivered, Rejected, Retry, Sent, TooLarge, encode_metric
from flagkit.sinks import PostHog, Sink
from flagkit.sinks.posthog_events import event_of
from tests.dialects.posthogs import document, flag, matching
from tests.unit.fakes import WALL_MS, FakeClock
from tests.unit.loopback import Call, refusing, serving

Json = dict[str, Any]
TOKEN = "phc_0123456789abcdef"
TIMESTAMP = "2026-11-23T14:13:20.000+00:00"
OK = {"status": "Ok"}
LIBRARY = {"$lib": "flagkit", "$is_server": True, "$geoip_disable": True}
HALVES = {"variants": [{"key": "a", "rollout_percentage": 50}, {"key": "b", "rollout_percentage": 50}]}


class StillClock(FakeClock):
    """Time that stands still: background threads wait until they are woken."""

    def wait(self, event: Waitable, timeout_s: float) -> bool:
        return event.wait(600)


class Receiver:
    """The requests to a PostHog that takes everything, or answers as it is told."""

    def __init__(self, answer: Any = OK) -> None:
        self.answer = answer
        self.bodies: list[Json] = []

    def __call__(self, call: Call) -> None:
        self.bodies.append(json.loads(gzip.decompress(call.body)))
        call.answer(200, json.dumps(self.answer).encode())

    @property
    def events(self) -> list[Json]:
        return [event for body in self.bodies for event in body["batch"]]


def recorded(ask: Callable[[Client], Any], *flags: Json, head: Json | None = None, **settings: Any) -> list[Json]:
    """What PostHog has after ``ask`` has asked a client of these flags."""
    receiver = Receiver()
    with serving(receiver) as server:
        sink = PostHog(server.url, project_token=TOKEN, **settings)
        source = sources.Static(document(*flags, **(head or {})), dialect="posthog")
        client = Client(source=source, sink=sink, clock=StillClock())
        ask(client)
        assert client.close(10) == 0
    return receiver.events


def properties(ask: Callable[[Client], Any], *flags: Json, **settings: Any) -> Json:
    (event,) = recorded(ask, *flags, **settings)
    told: Json = event["properties"]
    assert {name: told[name] for name in LIBRARY} == LIBRARY
    assert re.fullmatch(r"[\w.]+", told["$lib_version"])
    return {name: value for name, value in told.items() if name not in (*LIBRARY, "$lib_version")}


def metric(name: str = "paid", unit: str | None = "user-1", value: float | None = None, **told: Any) -> str:
    return encode_metric(name, unit, WALL_MS, value, told, None)


def batch_of(*events: str) -> Batch:
    return Batch.seal(events or (metric(), metric("left")), {})


@contextmanager
def answering(status: int, body: Any = b"", **headers: str) -> Iterator[PostHog]:
    with responses.RequestsMock() as mocked:
        text = body if isinstance(body, bytes) else json.dumps(body).encode()
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        mocked.post("https://us.i.posthog.com/batch/", status=status, body=text, headers=named)
        yield PostHog(project_token=TOKEN)


def sent(status: int, body: Any = b"", **headers: str) -> Sent:
    with answering(status, body, **headers) as sink:
        return sink.send(batch_of(), deadline_s=5)


# -- requests


def test_the_request_is_posthog_s() -> None:
    with responses.RequestsMock() as mocked:
        mocked.post("https://eu.i.posthog.com/batch/", json=OK)
        sink = PostHog("https://eu.posthog.com", project_token=TOKEN, clock=StillClock())
        assert sink.send(batch_of(metric(value=9.5, currency="SEK")), deadline_s=5) == Delivered()
        request = mocked.calls[0].request
    assert request.headers["Content-Type"] == "application/json"
    assert request.headers["Content-Encoding"] == "gzip"
    assert "Authorization" not in request.headers
    body = json.loads(gzip.decompress(request.body))
    (event,) = body.pop("batch")
    assert body == {"api_key": TOKEN, "historical_migration": False, "sent_at": TIMESTAMP}
    uuid, version = event.pop("uuid"), event["properties"].pop("$lib_version")
    assert (str(UUID(uuid)), UUID(uuid).version, bool(version)) == (uuid, 8, True)
    assert event == {
        "event": "paid",
        "distinct_id": "user-1",
        "timestamp": TIMESTAMP,
        "properties": {"currency": "SEK", "value": 9.5, **LIBRARY},
    }


# -- exposures


def test_an_exposure_is_a_flag_called() -> None:
    told = flag("f", matching(percentage=100, variant="a"), multivariate=HALVES, id=12, version=7, has_experiment=True)
    (event,) = recorded(lambda client: client.variant("f", "user-1"), told)
    del event["properties"]["$lib_version"]
    assert UUID(event.pop("uuid")).version == 8
    assert event == {
        "event": "$feature_flag_called",
        "distinct_id": "user-1",
        "timestamp": TIMESTAMP,
        "properties": {
            "$feature_flag": "f",
            "$feature_flag_response": "a",
            "$feature/f": "a",
            "locally_evaluated": True,
            "$feature_flag_id": 12,
            "$feature_flag_version": 7,
            "$feature_flag_has_experiment": True,
            "$feature_flag_reason": "Matched condition set 1",
            **LIBRARY,
        },
    }


def test_what_is_not_known_of_a_flag_is_left_out() -> None:
    assert properties(lambda client: client.enabled("f", "u"), flag("f", matching())) == {
        "$feature_flag": "f",
        "$feature_flag_response": True,
        "$feature/f": True,
        "locally_evaluated": True,
        "$feature_flag_reason": "Matched condition set 1",
    }


@pytest.mark.parametrize(
    ("told", "response", "reason"),
    [
        (flag("f", matching(percentage=0)), False, "Out of rollout bound"),
        (flag("f"), False, "No matching condition set"),
        (flag("f", active=False), False, "Feature flag is disabled"),
        (flag("f", holdout={"id": 3, "exclusion_percentage": 100}), "holdout-3", "Holdout condition value"),
        (flag("f", aggregation_group_type_index=0), False, "No group type"),
    ],
    ids=lambda value: str(value)[-40:],
)
def test_reasons_are_posthog_s(told: Json, response: Any, reason: str) -> None:
    found = properties(lambda client: client.enabled("f", "u"), told)
    assert (found["$feature_flag_response"], found["$feature_flag_reason"]) == (response, reason)


def test_early_access_has_posthog_s_reason() -> None:
    told = flag("f", feature_enrollment=True)
    found = properties(lambda client: client.enabled("f", Context("u", {}, {"f": True})), told)
    assert (found["$feature_flag_response"], found["$feature_flag_reason"]) == (True, "Super condition value")


def test_exposures_of_flags_of_other_kinds_say_what_they_have() -> None:
    receiver = Receiver()
    native = {"schema": 1, "flags": {"f": {"rules": [{"name": "ramp", "rollout": {"percent": 100}, "serve": "on"}]}}}
    with serving(receiver) as server:
        client = Client(
            source=sources.Static(native), sink=PostHog(server.url, project_token=TOKEN), clock=StillClock()
        )
        client.enabled("f", "u")
        assert client.close(10) == 0
    told = receiver.events[0]["properties"]
    assert (told["$feature_flag_response"], told["$feature_flag_reason"]) == ("on", "split: ramp")


def test_short_events_are_of_flags_without_an_experiment_where_posthog_asks_for_them() -> None:
    head = {"minimal_flag_called_events": True}
    plain, tested, unknown = (
        flag("f", matching(), id=1, **more) for more in ({"has_experiment": False}, {"has_experiment": True}, {})
    )
    found = [properties(lambda client: client.enabled("f", "u"), told, head=head) for told in (plain, tested, unknown)]
    assert ["$feature/f" in each for each in found] == [False, True, True]
    assert found[0] == {
        "$feature_flag": "f",
        "$feature_flag_response": True,
        "locally_evaluated": True,
        "$feature_flag_id": 1,
        "$feature_flag_has_experiment": False,
        "$feature_flag_reason": "Matched condition set 1",
    }


def test_an_exposure_is_sent_once_and_has_one_uuid_in_every_process() -> None:
    def ask(client: Client) -> None:
        for _ in range(3):
            client.enabled("f", "u")
            client.enabled("f", "v")
            client.enabled("g", "u")

    runs = [recorded(ask, flag("f", matching()), flag("g", matching())) for _ in range(2)]
    assert [len(run) for run in runs] == [3, 3]
    assert len({event["uuid"] for event in runs[0]}) == 3
    assert {event["uuid"] for event in runs[0]} == {event["uuid"] for event in runs[1]}


def test_nothing_is_recorded_of_what_is_undecided_or_forced() -> None:
    def ask(client: Client) -> None:
        client.enabled("f", "u")
        with client.override({"g": True}):
            client.enabled("g", "u")
        client.enabled("g", Context("u", synthetic=True))

    told = flag("f", matching({"key": "a", "value": "b", "type": "person"}))
    assert recorded(ask, told, flag("g", matching())) == []


def test_groups_come_from_a_function_of_the_unit() -> None:
    def groups(unit: str) -> dict[str, str]:
        return {"company": f"company of {unit}"}

    found = properties(lambda client: client.enabled("f", "u"), flag("f", matching()), groups=groups)
    assert found["$groups"] == {"company": "company of u"}


@pytest.mark.parametrize("groups", [lambda unit: 1 / 0, lambda unit: None, lambda unit: [1], len, dict])
def test_a_function_that_fails_costs_the_groups_and_not_the_event(groups: Any) -> None:
    found = properties(lambda client: client.enabled("f", "u"), flag("f", matching()), groups=groups)
    assert "$groups" not in found


# -- what is tracked


def test_what_is_tracked_goes_by_its_own_name() -> None:
    def ask(client: Client) -> None:
        client.track("order paid", "user-1", value=3, items=[1, {"a": None}], **{"$lib": "mine", "$groups": {"a": "b"}})

    (event,) = recorded(ask, groups=lambda unit: {"c": "d"})
    assert (event["event"], event["distinct_id"], event["timestamp"]) == ("order paid", "user-1", TIMESTAMP)
    told = event["properties"]
    assert (told["value"], told["items"], told["$groups"]) == (3, [1, {"a": None}], {"a": "b"})
    assert told["$lib"] == "flagkit"


def test_an_event_of_nobody_is_of_somebody_who_is_not_remembered() -> None:
    (event,) = recorded(lambda client: client.track("started"))
    assert event["distinct_id"] == event["uuid"]
    assert event["properties"]["$process_person_profile"] is False


@pytest.mark.parametrize("enrolled", [True, False])
def test_an_enrolment_sets_what_flags_ask_for(enrolled: bool) -> None:
    told = {"$feature_flag": "new", "$feature_enrollment": enrolled}
    (event,) = recorded(lambda client: client.track("$feature_enrollment_update", "u", **told))
    assert event["event"] == "$feature_enrollment_update"
    assert event["properties"]["$set"] == {"$feature_enrollment/new": enrolled}
    assert event["properties"]["$feature_enrollment"] is enrolled


@pytest.mark.parametrize("enrolled", [True, False])
def test_opting_in_and_out_are_enrolment_updates(enrolled: bool) -> None:
    def ask(client: Client) -> None:
        assert (client.enroll if enrolled else client.unenroll)("new", "u") is True
        assert client.enroll("closed", "u") is False

    told = {**LIBRARY, "$feature_flag": "new", "$feature_enrollment": enrolled}
    (event,) = recorded(ask, flag("new", feature_enrollment=True), flag("closed", matching()))
    assert (event["event"], event["distinct_id"]) == ("$feature_enrollment_update", "u")
    assert {name: event["properties"][name] for name in told} == told
    assert event["properties"].keys() - told.keys() == {"$set", "$lib_version"}
    assert event["properties"]["$set"] == {"$feature_enrollment/new": enrolled}


def test_feedback_goes_by_its_own_name_with_the_variant() -> None:
    ask = lambda client: client.feedback("f", score=3, text="good", context="u")  # noqa: E731
    (event,) = recorded(ask, flag("f", matching()))
    told = event["properties"]
    assert event["event"] == "flagkit.feedback"
    assert (told["flag"], told["variant"], told["value"], told["text"]) == ("f", "true", 3, "good")


def test_events_of_kinds_to_come_and_broken_ones_cost_only_themselves() -> None:
    receiver = Receiver()
    gate = json.dumps({"id": "ab" * 16, "type": "gate", "time_ms": WALL_MS})
    with serving(receiver) as server:
        sink = PostHog(server.url, project_token=TOKEN)
        broken = ("{", "[]", "7", '{"type": "metric"}', gate, metric().replace('"id":"', '"id":"x'))
        assert sink.send(batch_of(*broken, metric("good")), deadline_s=5) == Delivered({"unencodable": 6})
        assert sink.send(batch_of(*broken), deadline_s=5) == Delivered({"unencodable": 6})
        sink.close()
    assert [event["event"] for event in receiver.events] == ["good"]
    assert event_of(json.loads(gate), {}, "1") is None


# -- bounds


def test_a_request_holds_a_hundred_events_at_most() -> None:
    receiver = Receiver()
    with serving(receiver) as server:
        sink = PostHog(server.url, project_token=TOKEN)
        assert sink.send(batch_of(*(metric(f"e{index}") for index in range(250))), deadline_s=5) == Delivered()
        sink.close()
    assert [len(body["batch"]) for body in receiver.bodies] == [100, 100, 50]
    assert [event["event"] for event in receiver.events] == [f"e{index}" for index in range(250)]


def test_a_request_is_no_larger_than_posthog_takes_and_neither_is_an_event() -> None:
    sizes: list[int] = []

    def receive(call: Call) -> None:
        sizes.append(len(gzip.decompress(call.body)))
        call.answer(200, json.dumps(OK).encode())

    fits, too_large = metric(text="x" * 800_000), metric(text="x" * 930_000)
    with serving(receive) as server:
        sink = PostHog(server.url, project_token=TOKEN)
        assert sink.send(batch_of(*[fits] * 8, too_large), deadline_s=5) == Delivered({"too_large": 1})
        sink.close()
    assert len(sizes) == 2
    assert max(sizes) <= 5 * 1024 * 1024


def test_portions_that_were_taken_are_sent_again_with_one_that_was_not_as_the_same_events() -> None:
    receiver = Receiver()
    failing = [False, True, False, False]

    def receive(call: Call) -> None:
        if failing.pop(0):
            call.answer(503, b"", {"Retry-After": "3"})
        else:
            receiver(call)

    batch = batch_of(*(metric(f"e{index}") for index in range(150)))
    with serving(receive) as server:
        sink = PostHog(server.url, project_token=TOKEN)
        assert sink.send(batch, deadline_s=5) == Retry("http_503", 3.0)
        assert sink.send(batch, deadline_s=5) == Delivered()
        sink.close()
    first, again = receiver.bodies[0]["batch"], receiver.bodies[1]["batch"]
    assert first == again
    assert len({event["uuid"] for event in receiver.events}) == 150


def test_all_portions_together_keep_the_deadline() -> None:
    clock = StillClock()

    def receive(call: Call) -> None:
        clock.advance(3)
        call.answer(200, json.dumps(OK).encode())

    with serving(receive) as server:
        sink = PostHog(server.url, project_token=TOKEN, clock=clock)
        assert sink.send(batch_of(*[metric()] * 500), deadline_s=5) == Retry("deadline")
        sink.close()
    assert len(server.calls) == 2


# -- answers


@pytest.mark.parametrize("body", [{"status": 1}, {"status": "Ok"}, {"status": "Ok", "quota_limited": []}])
def test_posthog_s_words_for_success_are_believed(body: Any) -> None:
    assert sent(200, body) == Delivered()


@pytest.mark.parametrize(
    "body", [b"", b"<html>Log in</html>", b"[" * 50_000, b"\xff", None, [], {}, {"status": 0}, {"status": "Error"}]
)
def test_anything_else_is_no_acknowledgement(body: Any) -> None:
    assert sent(200, body) == Retry("not_an_ack")


@pytest.mark.parametrize("status", [201, 204, 301, 307])
def test_other_statuses_below_400_are_none_either(status: int) -> None:
    assert sent(status, OK if status == 201 else b"", Location="https://elsewhere.example") == Retry("not_an_ack")


def test_what_is_dropped_for_a_used_up_quota_is_lost_and_counted() -> None:
    assert sent(200, {"status": "Ok", "quota_limited": ["events"]}) == Delivered({"quota_limited": 2})


@pytest.mark.parametrize("status", [401, 402, 403, 404])
def test_a_batch_that_is_not_at_fault_is_kept_at_a_slower_pace(status: int) -> None:
    assert sent(status) == Retry(f"http_{status}", lasting=True)


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_a_server_that_asks_for_time_gets_it(status: int) -> None:
    assert sent(status, Retry_After="7") == Retry(f"http_{status}", 7.0)


def test_a_bad_event_is_looked_for_and_a_large_request_divided() -> None:
    assert sent(400) == Rejected("http_400", divisible=True)
    assert sent(413) == TooLarge()


def test_the_network_s_failures_are_named() -> None:
    with refusing() as url:
        assert PostHog(url, project_token=TOKEN).send(batch_of(), deadline_s=5) == Retry("refused")
    with serving(Call.hang) as server:
        sink = PostHog(server.url, project_token=TOKEN)
        assert sink.send(batch_of(), deadline_s=0.2) == Retry("deadline")
        sink.close()


# -- construction


@pytest.mark.parametrize("token", ["phx_secret", "", None, 7, "phc_\n"])
def test_a_token_that_is_none_is_refused_and_not_shown(token: Any) -> None:
    with pytest.raises(ConfigError) as raised:
        PostHog(project_token=token)
    assert raised.value.field == "project_token"
    assert "secret" not in str(raised.value).replace("not a key", "")


def test_groups_are_a_function_and_hosts_are_addresses() -> None:
    for field, settings in (("groups", {"groups": {"a": "b"}}), ("host", {"host": "http://example.com"})):
        with pytest.raises(ConfigError) as raised:
            PostHog(project_token=TOKEN, **settings)  # type: ignore[arg-type]
        assert raised.value.field == field


def test_nothing_shows_the_token(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with serving(Receiver()) as server:
        sink = PostHog(server.url, project_token=TOKEN)
        sink.send(batch_of(), deadline_s=5)
        sink.close()
    assert isinstance(sink, Sink)
    shown = [repr(sink), sink.name, repr(vars(sink)), *(f"{each.getMessage()} {each.args}" for each in caplog.records)]
    assert any("/batch/" in text for text in shown)
    assert not [text for text in shown if TOKEN in text]
