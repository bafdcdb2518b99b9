"""The OpenFeature provider, asked through the official SDK, with a real client behind it."""

from __future__ import annotations

import asyncio
import queue
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from documents import FLAGS, ON, StillClock, document
from fakes import ScriptedSource, unavailable
from openfeature import api
from openfeature.client import OpenFeatureClient
from openfeature.evaluation_context import EvaluationContext
from openfeature.event import EventDetails, ProviderEvent
from openfeature.exception import ErrorCode, ProviderFatalError, ProviderNotReadyError
from openfeature.flag_evaluation import FlagEvaluationDetails, FlagEvaluationOptions, Reason
from openfeature.hook import Hook, HookContext
from openfeature.provider import ProviderStatus
from openfeature.track import TrackingEventDetails

import flagkit
from flagkit import Client, Config, ConfigError, sinks
from flagkit.errors import FetchError
from flagkit.integrations.openfeature import FlagkitProvider
from flagkit.sources import Fetched

Make = Callable[..., Client]
Asker = Callable[..., OpenFeatureClient]

USER = EvaluationContext("user-1")
OFF = {"enabled": False}
TYPES = {"boolean": True, "string": "x", "integer": 9, "float": 2.5, "object": {"d": 1}}


@pytest.fixture
def asker(make: Make) -> Iterator[Asker]:
    """Makes a client of the SDK whose provider answers from flagkit; everything is undone when the test ends."""

    def make_one(flags: Any = FLAGS, *, client: Client | None = None, **settings: Any) -> OpenFeatureClient:
        api.set_provider_and_wait(FlagkitProvider(client or make(flags), **settings), "test")
        return api.get_client("test")

    yield make_one
    api.shutdown()


def ask(client: OpenFeatureClient, kind: str, flag: str, context: EvaluationContext = USER) -> FlagEvaluationDetails:
    """The details of a typed question, asked both ways: the answers must not differ."""
    details = getattr(client, f"get_{kind}_details")(flag, TYPES[kind], context)
    assert asyncio.run(getattr(client, f"get_{kind}_details_async")(flag, TYPES[kind], context)) == details
    return details


def exposed(client: Client, sink: sinks.Memory) -> list[tuple[str, str, str]]:
    assert client.flush(10) == 0
    names = ("feature_flag.key", "feature_flag.result.variant", "feature_flag.context.id")
    return [tuple(event[name] for name in names) for event in sink.events if event["type"] == "exposure"]


class Heard:
    """A handler of the SDK that keeps what it is told, for a test to wait for."""

    def __init__(self, event: ProviderEvent) -> None:
        self._queue: queue.Queue[EventDetails] = queue.Queue()
        api.add_handler(event, self._queue.put)

    def next(self) -> EventDetails:
        return self._queue.get(timeout=10)

    @property
    def silent(self) -> bool:
        return self._queue.empty()


# -- answers


@pytest.mark.parametrize(
    ("kind", "flag", "value"),
    [
        ("boolean", "on", True),
        ("boolean", "off", False),
        ("string", "text", "a"),
        ("integer", "int", 7),
        ("float", "float", 1.5),
        ("float", "int", 7.0),
        ("object", "list", [1, [2], {"a": 3}]),
        ("object", "object", {"a": [1], "b": {"c": 2}}),
    ],
)
def test_a_value_of_the_type_asked_for_is_served(asker: Asker, kind: str, flag: str, value: object) -> None:
    details = ask(asker(), kind, flag)
    assert (details.value, type(details.value)) == (value, type(value))
    assert details.error_code is None


@pytest.mark.parametrize(
    ("kind", "flag"),
    [
        ("boolean", "int"),
        ("boolean", "text"),
        ("string", "int"),
        ("integer", "true"),
        ("integer", "float"),
        ("float", "true"),
        ("float", "text"),
        ("float", "huge"),
        ("object", "text"),
        *((kind, "null") for kind in TYPES),
    ],
)
def test_a_value_of_another_json_type_is_a_type_mismatch_and_no_exposure(
    asker: Asker, make: Make, sink: sinks.Memory, kind: str, flag: str
) -> None:
    client = make()
    details = ask(asker(client=client), kind, flag)
    assert details.value == TYPES[kind]
    assert (details.error_code, details.reason) == (ErrorCode.TYPE_MISMATCH, Reason.ERROR)
    assert details.variant is None
    assert exposed(client, sink) == []


YES = {"attribute": "plan", "op": "in", "values": ["pro"]}
REASONS = {
    "static": ({"default": "on"}, Reason.STATIC, None),
    "default": ({"rules": [{"when": [{**YES, "not": True}], "serve": "on"}]}, Reason.DEFAULT, None),
    "targeted": ({"targets": {"on": ["user-1"]}}, Reason.TARGETING_MATCH, None),
    "split": ({"rules": [{"rollout": {"percent": 100}, "serve": "on"}]}, Reason.SPLIT, None),
    "disabled": (OFF, Reason.DISABLED, None),
    "excluded": ({"exclude": [YES]}, Reason.TARGETING_MATCH, "EXCLUDED"),
    "held-out": ({"default": "on"}, Reason.SPLIT, "HOLDOUT"),
    "child": (
        {"default": "on", "prerequisites": [{"flag": "disabled", "variants": ["on"]}]},
        Reason.DEFAULT,
        "PREREQUISITE_FAILED",
    ),
}


@pytest.mark.parametrize("flag", REASONS)
def test_a_reason_is_in_openfeature_s_words_and_flagkit_s_own_is_in_the_metadata(
    asker: Asker, make: Make, flag: str
) -> None:
    holdouts = {"all": {"percent": 100, "flags": ["held-out"]}}
    client = make({name: definition for name, (definition, *_) in REASONS.items()}, holdouts=holdouts)
    details = ask(asker(client=client), "boolean", flag, EvaluationContext("user-1", {"plan": "pro"}))
    _, reason, own = REASONS[flag]
    assert (details.reason, details.flag_metadata.get("reason")) == (reason, own)


def test_an_override_is_static_to_openfeature_and_not_recorded(asker: Asker, make: Make, sink: sinks.Memory) -> None:
    client = make()
    asking = asker(client=client)
    with client.override({"off": True}):
        details = ask(asking, "boolean", "off")
    assert (details.value, details.reason, details.flag_metadata["reason"]) == (True, Reason.STATIC, "OVERRIDE")
    assert exposed(client, sink) == []


def test_the_metadata_names_the_flag_s_version_and_the_rule(asker: Asker) -> None:
    rule = {"name": "everyone", "rollout": {"percent": 100}, "serve": "on"}
    details = ask(asker({"f": {"version": "7", "rules": [rule]}}), "boolean", "f")
    assert details.flag_metadata == {"version": "7", "rule": "everyone"}
    assert details.variant == "on"


@pytest.mark.parametrize(
    ("flag", "context", "code"),
    [
        ("nope", USER, ErrorCode.FLAG_NOT_FOUND),
        ("bad", USER, ErrorCode.PARSE_ERROR),
        ("on", EvaluationContext("\ud800"), ErrorCode.INVALID_CONTEXT),
        ("on", EvaluationContext("x" * 1025), ErrorCode.INVALID_CONTEXT),
    ],
)
def test_what_goes_wrong_is_the_default_with_openfeature_s_error_code(
    asker: Asker, flag: str, context: EvaluationContext, code: ErrorCode
) -> None:
    details = ask(asker({"on": ON, "bad": {"default": "maybe"}}), "boolean", flag, context)
    assert (details.value, details.error_code, details.reason) == (True, code, Reason.ERROR)
    assert details.error_message


def test_attributes_that_do_anything_cost_the_answer_and_nothing_else(make: Make) -> None:
    class Hostile(dict[str, Any]):
        def items(self) -> Any:
            raise RuntimeError

    provider = FlagkitProvider(make())
    details = provider.resolve_boolean_details("on", False, EvaluationContext("u", Hostile(a=1)))
    assert (details.value, details.error_code) == (False, ErrorCode.INVALID_CONTEXT)


# -- contexts


def test_the_targeting_key_is_the_unit_and_attributes_are_attributes(asker: Asker) -> None:
    client = asker()
    assert ask(client, "boolean", "member", EvaluationContext("u", {"a": "x"})).value is True
    assert ask(client, "boolean", "member", EvaluationContext(None, {"a": "x"})).value is True
    assert ask(client, "boolean", "member", EvaluationContext("u", {"a": "y"})).value is False


def test_every_unit_gets_what_the_client_itself_gives_it(asker: Asker, make: Make) -> None:
    client = make()
    asking = asker(client=client)
    for number in range(100):
        unit = f"user-{number}"
        expected = client.value("split", unit, default=0)
        assert asking.get_integer_value("split", 0, EvaluationContext(unit)) == expected


def test_an_attribute_called_unit_is_not_the_unit(asker: Asker, make: Make, sink: sinks.Memory) -> None:
    client = make()
    asking = asker(client=client)
    asking.get_boolean_value("on", False, EvaluationContext("user-1", {"unit": "metric"}))
    asking.get_boolean_value("on", False, EvaluationContext(None, {"unit": "metric"}))
    assert exposed(client, sink) == [("on", "on", "user-1")]


def test_enrolments_and_synthetic_keep_their_meaning(asker: Asker, make: Make, sink: sinks.Memory) -> None:
    client = make({"beta": {"rules": [{"when": [{"enrolled": True}], "serve": "on"}]}})
    asking = asker(client=client)
    enrolled = EvaluationContext("user-1", {"enrolments": {"beta": True}, "synthetic": True})
    assert asking.get_boolean_value("beta", False, enrolled) is True
    assert exposed(client, sink) == []


@pytest.mark.parametrize(
    ("moment", "late"),
    [
        (datetime(2026, 1, 1, 12, tzinfo=UTC), True),
        (datetime(2026, 1, 1, 12, tzinfo=timezone(timedelta(hours=14))), False),
        (datetime.max.replace(tzinfo=timezone(timedelta(hours=-1))), False),
    ],
)
def test_a_datetime_is_a_date_to_conditions(asker: Asker, moment: datetime, late: bool) -> None:
    after = {"attribute": "since", "op": "after", "values": ["2026-01-01T00:00:00Z"]}
    client = asker({"late": {"rules": [{"when": [after], "serve": "on"}]}})
    assert ask(client, "boolean", "late", EvaluationContext("u", {"since": moment})).value is late


def test_an_empty_context_is_the_ambient_one(asker: Asker, make: Make, sink: sinks.Memory) -> None:
    client = make()
    asking = asker(client=client)
    with flagkit.scope("user-7", a="x"):
        assert asking.get_boolean_value("member", False) is True
        assert asking.get_boolean_value("member", True, EvaluationContext("user-8")) is False
    assert exposed(client, sink) == [("member", "on", "user-7"), ("member", "off", "user-8")]


# -- exposures and tracking


def test_an_exposure_is_recorded_once_for_each_unit_and_outcome(asker: Asker, make: Make, sink: sinks.Memory) -> None:
    client = make()
    asking = asker(client=client)
    for _ in range(3):
        ask(asking, "boolean", "on")
        ask(asking, "boolean", "on", EvaluationContext("user-2"))
    assert exposed(client, sink) == [("on", "on", "user-1"), ("on", "on", "user-2")]


def test_tracking_records_a_metric_event_of_the_unit(asker: Asker, make: Make, sink: sinks.Memory) -> None:
    client = make()
    asking = asker(client=client)
    asking.track("order", USER, TrackingEventDetails(9.5, {"currency": "SEK", "self": 1, "event": "e"}))
    asking.track("visit", USER)
    asking.track("refund", USER, TrackingEventDetails(attributes={"value": 3}))
    assert client.flush(10) == 0
    found = [
        (event["name"], event["value"], event["properties"], event["feature_flag.context.id"]) for event in sink.events
    ]
    assert found == [
        ("order", 9.5, {"currency": "SEK", "self": 1, "event": "e"}, "user-1"),
        ("visit", None, {}, "user-1"),
        ("refund", 3, {}, "user-1"),
    ]


# -- hooks


class Noting(Hook):
    """Notes what it is told, and gives everyone a plan."""

    def __init__(self) -> None:
        self.seen: list[object] = []

    def before(self, hook_context: HookContext, hints: object) -> EvaluationContext:
        self.seen.append(("before", hook_context.flag_key, hook_context.provider_metadata.name))
        return EvaluationContext(attributes={"a": "x"})

    def after(self, hook_context: HookContext, details: FlagEvaluationDetails, hints: object) -> None:
        self.seen.append(("after", details.variant, details.reason))

    def error(self, hook_context: HookContext, exception: Exception, hints: object) -> None:
        self.seen.append(("error", exception.error_code))

    def finally_after(self, hook_context: HookContext, details: FlagEvaluationDetails, hints: object) -> None:
        self.seen.append(("finally", details.error_code))


def test_hooks_see_the_answer_and_what_they_add_to_the_context_counts(asker: Asker) -> None:
    hook, client = Noting(), asker()
    options = FlagEvaluationOptions([hook])
    assert client.get_boolean_value("member", False, USER, options) is True
    assert client.get_string_value("member", "x", USER, options) == "x"
    assert hook.seen == [
        ("before", "member", "flagkit"),
        ("after", "on", Reason.TARGETING_MATCH),
        ("finally", None),
        ("before", "member", "flagkit"),
        ("error", ErrorCode.TYPE_MISMATCH),
        ("finally", ErrorCode.TYPE_MISMATCH),
    ]


# -- life and events


def scripted(*answers: Any) -> ScriptedSource:
    return ScriptedSource(
        *[answer if isinstance(answer, Exception) else Fetched(document(answer)) for answer in answers]
    )


def test_the_sdk_is_told_once_that_the_provider_is_ready(asker: Asker, make: Make) -> None:
    ready, changed = Heard(ProviderEvent.PROVIDER_READY), Heard(ProviderEvent.PROVIDER_CONFIGURATION_CHANGED)
    ready.next()  # the SDK's own provider, which is there before
    client = make(source=scripted({"a": ON}, {"a": OFF}))
    asking = asker(client=client)
    assert ready.next().provider_name == "flagkit"
    assert asking.get_provider_status() is ProviderStatus.READY
    assert client.refresh(10)
    changed.next()  # comes after anything the client has to say of being ready
    assert ready.silent


def test_a_change_names_the_flags_that_may_answer_differently(asker: Asker, make: Make) -> None:
    changed = Heard(ProviderEvent.PROVIDER_CONFIGURATION_CHANGED)
    client = make(source=scripted({"a": ON, "b": ON, "c": ON}, {"a": OFF, "b": ON, "c": OFF}))
    asking = asker(client=client)
    assert asking.get_boolean_value("c", False, USER) is True
    assert client.refresh(10)
    assert changed.next().flags_changed == ["a", "c"]
    assert asking.get_boolean_value("c", True, USER) is False


def test_a_source_that_goes_silent_makes_the_provider_stale_and_its_return_ready_again(
    asker: Asker, make: Make, clock: StillClock
) -> None:
    stale = Heard(ProviderEvent.PROVIDER_STALE)
    source = scripted({"a": ON}, unavailable())
    client = make(source=source, config=Config(poll_interval_s=30))
    asking = asker(client=client)
    ready = Heard(ProviderEvent.PROVIDER_READY)
    clock.advance(100)
    assert not client.refresh(0)
    assert stale.next().provider_name == "flagkit"
    assert asking.get_provider_status() is ProviderStatus.STALE
    assert asking.get_boolean_value("a", False, USER) is True
    source.script = [Fetched(document({"a": ON}))]
    client._feed.poll()
    while ready.next().provider_name != "flagkit":
        pass
    assert asking.get_provider_status() is ProviderStatus.READY


def test_a_key_that_is_refused_later_is_an_error_and_the_last_good_definitions_still_answer(
    asker: Asker, make: Make
) -> None:
    error = Heard(ProviderEvent.PROVIDER_ERROR)
    client = make(source=scripted({"a": ON}, FetchError("http_401", "answered with status 401", lasting=True)))
    asking = asker(client=client)
    assert not client.refresh(0)
    told = error.next()
    assert (told.error_code, told.message) == (ErrorCode.GENERAL, "http_401: answered with status 401")
    assert asking.get_provider_status() is ProviderStatus.ERROR
    assert asking.get_boolean_value("a", False, USER) is True


def test_a_provider_without_definitions_says_so_and_is_ready_when_they_come(asker: Asker, make: Make) -> None:
    source = scripted(unavailable())
    client = make(source=source)
    with pytest.raises(ProviderNotReadyError, match="503"):
        asker(client=client, ready_timeout_s=0.2)
    asking = api.get_client("test")
    details = asking.get_boolean_details("a", False, USER)
    assert (details.value, details.error_code) == (False, ErrorCode.PROVIDER_NOT_READY)
    ready = Heard(ProviderEvent.PROVIDER_READY)
    source.script = [Fetched(document({"a": ON}))]
    client._feed.poll()
    while ready.next().provider_name != "flagkit":
        pass
    assert asking.get_boolean_value("a", False, USER) is True


def test_a_key_that_is_refused_from_the_start_is_fatal(asker: Asker, make: Make) -> None:
    client = make(source=scripted(FetchError("http_401", "answered with status 401", lasting=True)))
    with pytest.raises(ProviderFatalError, match="401"):
        asker(client=client, ready_timeout_s=0.2)
    assert api.get_client("test").get_provider_status() is ProviderStatus.FATAL


def test_shutting_down_leaves_the_client_to_whoever_made_it(make: Make) -> None:
    client = make(source=scripted({"a": ON}, {"a": OFF}))
    api.set_provider_and_wait(FlagkitProvider(client), "test")
    api.shutdown()
    client.track("order", "user-1")
    assert client.flush(10) == 0
    assert client.status.account.delivered == 1
    assert not client._feed.handlers.wants("configuration_changed")


def test_shutting_down_closes_a_client_that_the_provider_owns(make: Make, sink: sinks.Memory) -> None:
    client = make()
    api.set_provider_and_wait(FlagkitProvider(client, owns_client=True), "test")
    api.get_client("test").get_boolean_value("on", False, USER)
    api.shutdown()
    assert len(sink.events) == 1
    client.track("order", "user-1")
    assert client.status.account.lost == {"closed": 1}


def test_one_provider_serves_several_domains(make: Make) -> None:
    provider = FlagkitProvider(make())
    api.set_provider_and_wait(provider, "one")
    api.set_provider_and_wait(provider, "two")
    assert [api.get_client(name).get_boolean_value("on", False, USER) for name in ("one", "two")] == [True, True]
    api.shutdown()


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"client": "flags.json"}, "client"),
        ({"ready_timeout_s": -1}, "ready_timeout_s"),
        ({"ready_timeout_s": True}, "ready_timeout_s"),
        ({"ready_timeout_s": float("nan")}, "ready_timeout_s"),
    ],
)
def test_a_wrong_argument_is_named(make: Make, settings: dict[str, Any], field: str) -> None:
    with pytest.raises(ConfigError) as raised:
        FlagkitProvider(**{"client": make(), **settings})
    assert raised.value.field == field
