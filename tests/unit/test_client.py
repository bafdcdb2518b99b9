"""The client's verbs: what they answer, what they record, and that they never raise."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from documents import HALF, ON, SPLIT, StillClock, attribute, document, when
from fakes import WALL_MS, ScriptedSource, in_threads, unavailable

import flagkit
from flagkit import Client, Config, ConfigError, Context, ErrorCode, Flag, Reason, scope, sinks, sources
from flagkit.sources import Fetched, NotModified

Json = dict[str, Any]
Make = Callable[..., Client]
VALUES: Json = {
    "text": "a",
    "int": 7,
    "float": 1.5,
    "true": True,
    "null": None,
    "list": [1, [2], {"a": 3}],
    "object": {"a": [1], "b": {"c": 2}},
    "huge": 10**400,
}
FLAGS: Json = {
    "on": ON,
    "off": {},
    "disabled": {"enabled": False},
    "half": HALF,
    "split": SPLIT,
    "parent": {"rules": [{"rollout": {"percent": 50}, "serve": "on"}]},
    "child": {"default": "on", "prerequisites": [{"flag": "parent", "variants": ["on"]}]},
    "member": attribute("in", "x"),
    **{name: {"variants": {"v": value, "o": None}, "off": "o", "default": "v"} for name, value in VALUES.items()},
}


@pytest.fixture
def clock() -> StillClock:
    return StillClock()


@pytest.fixture
def sink() -> sinks.Memory:
    return sinks.Memory()


@pytest.fixture
def make(clock: StillClock, sink: sinks.Memory) -> Iterator[Make]:
    """Makes clients of given flags, which record in ``sink`` and are closed when the test ends."""
    made: list[Client] = []

    def make_one(flags: Json = FLAGS, **settings: Any) -> Client:
        head = {key: settings.pop(key) for key in ("segments", "environment", "layers", "holdouts") if key in settings}
        source = settings.pop("source", None) or sources.Static({"schema": 1, "flags": flags, **head})
        made.append(Client(source=source, **{"sink": sink, "clock": clock, **settings}))
        return made[-1]

    yield make_one
    for client in made:
        client.close()


def exposures(client: Client, sink: sinks.Memory) -> list[tuple[str, str | None, str]]:
    """Flag, unit and variant of what was recorded and not looked at yet."""
    assert client.flush() == 0
    events = [event for event in sink.events if event["type"] == "exposure"]
    sink.clear()
    return [
        (event["feature_flag.key"], event["feature_flag.context.id"], event["feature_flag.result.variant"])
        for event in events
    ]


# -- answers ---------------------------------------------------------------------------------------------------------


def test_enabled_is_whether_the_variant_is_not_the_off_one(make: Make) -> None:
    client = make()
    assert [client.enabled(flag, "u") for flag in ("on", "off", "disabled", "text")] == [True, False, False, True]
    assert client.enabled("split", "u") == (client.variant("split", "u") == "b")


@pytest.mark.parametrize("flag", ["ghost", "", "x" * 1000])
def test_without_an_answer_the_default_applies(make: Make, flag: str) -> None:
    client = make()
    assert client.enabled(flag, "u") is False
    assert client.enabled(flag, "u", default=True) is True
    assert client.variant(flag, "u") is None
    assert client.variant(flag, "u", default="v") == "v"
    assert client.value(flag, "u", default=7) == 7
    assert client.value(flag, "u", default=None) is None
    assert client.decide(flag, "u").error_code is ErrorCode.FLAG_NOT_FOUND


@pytest.mark.parametrize(
    ("flag", "default", "answer"),
    [
        ("text", "", "a"),
        ("text", 0, 0),
        ("text", None, "a"),
        ("int", 0, 7),
        ("int", 0.5, 7.0),
        ("int", False, False),
        ("int", "x", "x"),
        ("float", 0.0, 1.5),
        ("float", 0, 0),
        ("true", False, True),
        ("true", 0, 0),
        ("true", 0.0, 0.0),
        ("null", None, None),
        ("null", "x", "x"),
        ("list", [], VALUES["list"]),
        ("list", {}, {}),
        ("list", (), ()),
        ("object", {}, VALUES["object"]),
        ("object", [], []),
        ("object", None, VALUES["object"]),
        ("huge", 0, 10**400),
        ("huge", None, 10**400),
        ("huge", 0.5, 0.5),
    ],
)
def test_a_value_has_the_json_type_of_its_default_or_the_default_applies(
    make: Make, flag: str, default: Any, answer: Any
) -> None:
    client = make()
    value = client.value(flag, "u", default=default)
    assert (value, type(value)) == (answer, type(answer))
    mismatched = default is not None and (answer, type(answer)) == (default, type(default))
    assert client.status.errors == ({"TYPE_MISMATCH": 1} if mismatched else {})


def test_arrays_and_objects_are_the_callers_own(make: Make) -> None:
    client = make()
    for flag in ("list", "object"):
        client.value(flag, "u", default=None).clear()
        client.decide(flag, "u").value.clear()
        assert client.value(flag, "u", default=None) == VALUES[flag]
    client.value("object", "u", default={})["b"]["c"] = 99
    assert client.value("object", "u", default={}) == VALUES["object"]


def test_all_verbs_give_the_same_answer(make: Make) -> None:
    client = make()
    for number in range(50):
        decisions = client.decide_all(number)
        for flag, decision in decisions.items():
            assert client.decide(flag, number) is client.peek(flag, number) is decision
            assert client.enabled(flag, number) == decision.enabled
            assert client.variant(flag, number) == decision.variant
            assert client.explain(flag, number).decision is decision


def test_who_asks_may_be_given_in_many_ways(make: Make) -> None:
    client = make({"target": {"targets": {"on": ["7"]}}})
    for given in (7, "7", Context(7), Context("7"), {"unit": 7}, {"unit": "7", "plan": "pro"}):
        assert client.enabled("target", given)
    with scope(7):
        assert client.enabled("target")
        assert not client.enabled("target", 8)
    assert not client.enabled("target")


def test_an_explicit_context_replaces_the_ambient_one_whole(make: Make) -> None:
    client = make()
    with scope("u", a="x"):
        assert client.enabled("member")
        assert not client.enabled("member", "u")
        assert not client.enabled("member", {"plan": "pro"})


def test_errors_are_counted_by_kind(make: Make) -> None:
    client = make({**FLAGS, "bad": {"enabled": "yes"}})
    client.enabled("ghost", "u")
    client.variant("ghost", "u")
    client.value("ghost", "u", default=1)
    client.enabled("bad", "u")
    client.enabled("on", b"u")
    client.value("text", "u", default=1)
    assert client.status.errors == {"FLAG_NOT_FOUND": 3, "PARSE_ERROR": 1, "INVALID_CONTEXT": 1, "TYPE_MISMATCH": 1}


# -- whatever they are given -----------------------------------------------------------------------------------------


class Rude:
    """An object that fails whatever is done with it."""

    def __getattribute__(self, name: str) -> Any:
        raise RuntimeError(name)

    def __eq__(self, other: object) -> bool:
        raise RuntimeError

    def __hash__(self) -> int:
        raise RuntimeError

    def __repr__(self) -> str:
        raise RuntimeError

    def __bool__(self) -> bool:
        raise RuntimeError


class RudeDict(dict[str, Any]):
    def __iter__(self) -> Any:
        raise RuntimeError

    def keys(self) -> Any:
        raise RuntimeError

    def items(self) -> Any:
        raise RuntimeError

    def get(self, *_: Any) -> Any:
        raise RuntimeError


def cyclic() -> Json:
    itself: Json = {"unit": "u"}
    itself["itself"] = itself
    return itself


def hostile() -> list[Any]:
    strange = [float("nan"), b"u", "x" * 5_000_000, "\ud800", 10**4000, -(2**63), True, [], (), set(), object(), Rude()]
    mappings = [{}, {1: 2}, RudeDict(unit="u"), cyclic(), {"unit": Rude()}, {"unit": "u", "a": Rude()}]
    contexts = [Context(Rude()), Context("u", 5), Context("u", RudeDict(a=1)), Context("u", {"a": Rude()})]  # type: ignore[arg-type]
    return [*strange, *mappings, *contexts, Context("u", enrolments=Rude()), type, len, uuid4()]  # type: ignore[arg-type]


@pytest.mark.parametrize("flag", ["on", "half", "split", "member", "child", "ghost"])
@pytest.mark.parametrize("ambient", [False, True])
def test_no_context_makes_a_verb_raise(make: Make, flag: str, ambient: bool) -> None:
    client = make()
    for given in hostile():
        whole = given if type(given) is Context else Context(given)
        with scope(whole if ambient else Context()):
            context = None if ambient else given
            assert type(client.enabled(flag, context)) is bool
            client.variant(flag, context)
            client.value(flag, context, default=1)
            assert type(client.decide(flag, context).reason) is Reason
            client.peek(flag, context)
            assert len(client.decide_all(context)) == len(FLAGS)
            client.explain(flag, context).text()
            client.track("event", context)
    client.flush()
    account = client.status.account
    assert account is not None
    assert account.balanced


@pytest.mark.parametrize("ambient", [False, True])
def test_no_flag_makes_a_verb_raise(make: Make, ambient: bool) -> None:
    client = make()
    strange: list[Any] = [None, 7, b"on", [], {}, Rude(), object()]
    for flag in strange:
        with scope("u"):
            context = None if ambient else "u"
            assert client.enabled(flag, context, default=True) is True
            assert client.variant(flag, context, default="v") == "v"
            assert client.value(flag, context, default=7) == 7
            assert client.decide(flag, context).reason is Reason.ERROR
            assert client.peek(flag, context).reason is Reason.ERROR
            assert client.explain(flag, context).decision.reason is Reason.ERROR


def test_no_event_makes_track_raise(make: Make, sink: sinks.Memory) -> None:
    client = make()
    strange: list[Any] = [None, 7, b"e", "", "x" * 129, "\ud800", Rude()]
    for event in strange:
        client.track(event, "u")
    for value in (float("nan"), b"1", Rude(), object()):
        client.track("e", "u", value=value)  # type: ignore[arg-type]
        client.track("e", "u", p=value)
    client.track("e", "u", p=RudeDict(a=1))
    client.track("e", "u", p=cyclic())
    client.track("e", "u", p="x" * 100_000)
    client.track("e", b"not a unit")
    client.flush()
    account = client.status.account
    assert account is not None
    assert account.balanced
    assert set(account.lost) == {"unencodable", "too_large", "invalid_context"}
    assert sink.events == []


# -- exposures -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "ask",
    [
        lambda client: client.enabled("on", "u"),
        lambda client: client.variant("on", "u"),
        lambda client: client.value("on", "u", default=False),
        lambda client: client.value("on", "u", default=None),
        lambda client: client.decide("on", "u"),
    ],
)
def test_a_question_records_an_exposure_once_a_window(
    make: Make, sink: sinks.Memory, clock: StillClock, ask: Callable[[Client], Any]
) -> None:
    client = make()
    for _ in range(3):
        ask(client)
    assert exposures(client, sink) == [("on", "u", "on")]
    clock.advance(3600)
    client._recording._delivery.step()  # type: ignore[union-attr]
    for _ in range(3):
        ask(client)
    assert exposures(client, sink) == [("on", "u", "on")]


def test_each_unit_and_each_decision_is_recorded_by_itself(make: Make, sink: sinks.Memory) -> None:
    client = make()
    for _ in range(2):
        for flag in ("on", "off"):
            for unit in ("u", 7, "é"):
                client.enabled(flag, unit)
    seen = exposures(client, sink)
    assert sorted(seen) == sorted((flag, unit, flag) for flag in ("on", "off") for unit in ("u", "7", "é"))


@pytest.mark.parametrize(
    "ask",
    [
        lambda client: client.peek("on", "u"),
        lambda client: client.decide_all("u"),
        lambda client: client.explain("on", "u"),
        lambda client: client.enabled("ghost", "u"),
        lambda client: client.enabled("on"),
        lambda client: client.enabled("on", {"plan": "pro"}),
        lambda client: client.enabled("on", None),
        lambda client: client.enabled("on", b"u"),
        lambda client: client.enabled("on", Context("u", synthetic=True)),
        lambda client: client.enabled("on", {"unit": "u", "synthetic": True}),
        lambda client: client.value("text", "u", default=1),
    ],
)
def test_these_record_nothing(make: Make, sink: sinks.Memory, ask: Callable[[Client], Any]) -> None:
    client = make()
    ask(client)
    assert exposures(client, sink) == []
    account = client.status.account
    assert account is not None
    assert account.recorded == 0


def test_prerequisites_are_not_recorded_for_their_children(make: Make, sink: sinks.Memory) -> None:
    client = make()
    for number in range(20):
        client.enabled("child", number)
    assert {flag for flag, _, _ in exposures(client, sink)} == {"child"}


def test_an_overridden_flag_is_not_recorded(make: Make, sink: sinks.Memory) -> None:
    client = make()
    with client.override({"on": False, "half": True}):
        client.enabled("on", "u")
        client.enabled("half", "u")
        client.enabled("off", "u")
    assert exposures(client, sink) == [("off", "u", "off")]


def test_two_clients_send_the_same_id_for_the_same_exposure(make: Make, sink: sinks.Memory) -> None:
    for client in (make(environment="test"), make(environment="test")):
        client.enabled("split", "u")
        client.flush()
    one, other = (event["id"] for event in sink.events)
    assert one == other


def test_an_exposure_is_labelled_with_the_environment(make: Make, sink: sinks.Memory) -> None:
    for client in (make(), make(environment="staging"), make(config=Config(environment="production"))):
        client.enabled("on", "u")
        client.flush()
    assert [event["feature_flag.set.id"] for event in sink.events] == [None, "staging", "production"]


def test_without_a_sink_nothing_is_recorded_or_remembered(make: Make) -> None:
    client = make(sink=None)
    client.enabled("on", "u")
    client.track("event", "u")
    assert client.decide("on", "u")._exposed is None
    assert (client.status.account, client.status.sink) == (None, None)
    assert client.flush() == client.close() == 0


def test_a_metric_event_carries_the_unit_and_nothing_else_of_the_context(make: Make, sink: sinks.Memory) -> None:
    client = make(environment="test")
    with scope("u", email="anna@example.com"):
        client.track("purchase", value=9.5, currency="SEK")
    client.track("visit", {"unit": 7, "email": "anna@example.com"})
    client.track("start")
    client.track("probe", Context("u", synthetic=True))
    client.flush()
    assert [(event["name"], event["feature_flag.context.id"], event["value"]) for event in sink.events] == [
        ("purchase", "u", 9.5),
        ("visit", "7", None),
        ("start", None, None),
    ]
    assert "anna" not in str(sink.events)
    assert sink.events[0]["properties"] == {"currency": "SEK"}
    assert sink.events[0]["time_ms"] == WALL_MS


def test_properties_may_have_any_name_but_value(make: Make, sink: sinks.Memory) -> None:
    client = make()
    client.track("e", "u", event=1, context=2, self=3, unit=4)
    client.flush()
    assert sink.events[0]["properties"] == {"event": 1, "context": 2, "self": 3, "unit": 4}


# -- overrides -------------------------------------------------------------------------------------------------------


def test_an_override_holds_inside_its_block_and_for_children(make: Make) -> None:
    client = make()
    before = [client.enabled("child", number) for number in range(20)]
    with client.override({"parent": True}):
        assert all(client.enabled("child", number) for number in range(20))
        with client.override({"parent": False}):
            assert not any(client.enabled("child", number) for number in range(20))
        with client.override({"split": "b", "text": "o"}):
            assert (client.variant("split", "u"), client.value("text", "u", default="z")) == ("b", "z")
            assert client.enabled("child", 1)
            assert client.decide_all("u")["split"].reason is Reason.OVERRIDE
            assert client.explain("split", "u").steps[0].name == "override"
    assert [client.enabled("child", number) for number in range(20)] == before


def test_an_override_that_means_nothing_changes_nothing(make: Make) -> None:
    client = make()
    with client.override({"on": "purple", "ghost": True, "off": None, "text": 7}):  # type: ignore[dict-item]
        assert client.decide("on", "u").reason is Reason.STATIC
        assert client.decide("ghost", "u").error_code is ErrorCode.FLAG_NOT_FOUND
        assert client.decide("off", "u").reason is Reason.STATIC


def test_overrides_of_one_task_are_not_seen_by_others(make: Make) -> None:
    client = make()

    async def work(number: int) -> list[bool]:
        seen = []
        with client.override({"on": number % 2 == 0}):
            for _ in range(5):
                await asyncio.sleep(0)
                seen.append(client.enabled("on", number))
        return seen

    async def main() -> list[list[bool]]:
        return await asyncio.gather(*map(work, range(10)))

    for number, seen in enumerate(asyncio.run(main())):
        assert seen == [number % 2 == 0] * 5


def test_overrides_of_one_thread_are_not_seen_by_others(make: Make) -> None:
    client = make()
    seen: dict[int, set[bool]] = {}

    def work(index: int) -> None:
        with client.override({"on": index % 2 == 0}):
            seen[index] = {client.enabled("on", index) for _ in range(200)}

    in_threads(4, work)
    assert seen == {index: {index % 2 == 0} for index in range(4)}
    with client.override({"on": False}), ThreadPoolExecutor(1) as pool:
        assert pool.submit(client.enabled, "on", "u").result() is True


# -- pins ------------------------------------------------------------------------------------------------------------


class Edited(ScriptedSource):
    """Definitions that a test edits; the client is told at once."""

    local = True

    def __init__(self, flags: Json) -> None:
        super().__init__(Fetched(document(flags)))

    def edit(self, client: Client, flags: Json) -> None:
        self.script = [Fetched(document(flags))]
        client._poller.poll()


@pytest.fixture
def edited() -> Edited:
    return Edited({"f": SPLIT, "g": ON, "parent": ON, "child": {"default": "on"}})


CHILD: Json = {"default": "on", "prerequisites": [{"flag": "parent", "variants": ["on"]}]}


def test_within_a_scope_an_answer_stays_the_same_whatever_is_published(make: Make, edited: Edited) -> None:
    client = make(source=edited)
    with scope("u"):
        told = client.decide("f")
        edited.edit(client, {"f": {**SPLIT, "salt": "other", "version": 2}, "g": {}})
        assert client.decide("f") is told
        assert client.decide("f", "u").version == "2"
        with scope("u"):
            assert client.decide("f").version == "2"
        assert client.enabled("g") is False, "asked for the first time"
        edited.edit(client, {"f": {**SPLIT, "version": 3}, "g": ON})
        assert client.decide("f") is told
        assert client.enabled("g") is False
    assert client.decide("f", "u").version == "3"
    with scope("u"):
        assert client.decide("f").version == "3"


def test_the_kill_switch_ends_a_pin(make: Make, edited: Edited) -> None:
    client = make(source=edited)
    with scope("u"):
        assert client.enabled("g")
        edited.edit(client, {"g": {"enabled": False}})
        assert client.decide("g").reason is Reason.DISABLED
        edited.edit(client, {"g": ON})
        assert not client.enabled("g"), "off stays off for the rest of the scope"


def test_the_kill_switch_of_a_parent_ends_the_pins_of_its_children(make: Make, edited: Edited) -> None:
    edited.script = [Fetched(document({"parent": ON, "child": CHILD}))]
    client = make(source=edited)
    with scope("u"):
        assert client.enabled("child")
        edited.edit(client, {"parent": {"enabled": False}, "child": CHILD})
        assert not client.enabled("child")


def test_a_flag_that_vanishes_keeps_its_pin(make: Make, edited: Edited) -> None:
    client = make(source=edited)
    with scope("u"):
        assert client.enabled("g")
        edited.edit(client, {"f": SPLIT})
        assert client.enabled("g")
    assert not client.enabled("g", "u")


def test_no_answer_is_not_pinned(make: Make) -> None:
    source = ScriptedSource(unavailable())
    client = make(source=source)
    with scope("u"):
        client._poller.poll()
        assert client.decide("on").error_code is ErrorCode.PROVIDER_NOT_READY
        source.script = [Fetched(document(FLAGS))]
        client._poller.poll()
        assert client.enabled("on")


def test_an_override_inside_a_scope_does_not_touch_the_pins(make: Make, edited: Edited) -> None:
    client = make(source=edited)
    with scope("u"):
        told = client.decide("f")
        with client.override({"f": "b"}):
            assert client.decide("f").reason is Reason.OVERRIDE
        edited.edit(client, {"f": {**SPLIT, "version": 2}})
        assert client.decide("f") is told
        with client.override({"g": False}):
            assert client.decide("f") is told


def test_pins_of_two_clients_are_two(make: Make) -> None:
    one, other = make({"f": ON}), make({"f": {}})
    with scope("u"):
        for _ in range(2):
            assert (one.enabled("f"), other.enabled("f")) == (True, False)


# -- the first moments -----------------------------------------------------------------------------------------------


def test_before_the_first_definitions_defaults_apply_and_then_the_answers(make: Make, sink: sinks.Memory) -> None:
    source = ScriptedSource(unavailable())
    client = make(source=source)
    assert client.enabled("on", "u") is False
    assert client.value("text", "u", default="mine") == "mine"
    assert client.decide("on", "u").error_code is ErrorCode.PROVIDER_NOT_READY
    assert client.decide_all("u") == {}
    assert (client.status.ready, client.wait_ready(0)) == (False, False)
    source.script = [Fetched(document(FLAGS))]
    client._poll_worker.wake()
    assert client.wait_ready(10)
    assert client.enabled("on", "u") is True
    assert (client.status.ready, client.status.errors) == (True, {"PROVIDER_NOT_READY": 2})
    assert exposures(client, sink) == [("on", "u", "on")]


def test_local_definitions_answer_from_the_first_call(make: Make) -> None:
    client = make()
    assert (client.status.ready, client.status.age_s) == (True, 0)
    assert client.enabled("on", "u")


def test_nothing_starts_before_the_first_question(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    before = threading.active_count()
    source = ScriptedSource(Fetched(document(FLAGS)))
    client = make(source=source)
    client.status, client.flush()
    assert threading.active_count() == before
    assert source.asked == []
    client.peek("on", "u")
    assert client.wait_ready(10)
    assert source.asked != []


def test_definitions_that_cannot_change_need_no_thread(make: Make) -> None:
    before = threading.active_count()
    client = make(sink=None)
    client.enabled("on", "u")
    client.start()
    assert threading.active_count() == before


def test_definitions_that_cannot_change_do_not_grow_old(make: Make, clock: StillClock) -> None:
    ramp = {"rules": [{"rollout": {"steps": [{"from": "2026-12-01", "percent": 100}]}, "serve": "on"}]}
    client = make({"ramp": ramp, "half": {**HALF, "max_age_s": 60}})
    assert not client.enabled("ramp", "u")
    clock.advance(30 * 86_400)
    assert client.enabled("ramp", "u")
    assert client.decide("half", "u").reason is Reason.SPLIT


def test_a_second_start_does_not_bring_back_definitions_of_the_past(make: Make, edited: Edited) -> None:
    client = make(source=edited)
    client.start()
    past = client._current.snapshot

    class Racing:
        """The definitions in use, which change right after they are first looked at."""

        def __init__(self, current: Any) -> None:
            self._current = current
            self._looks = 0

        def __getattr__(self, name: str) -> Any:
            value = getattr(self._current, name)
            if name == "snapshot" and self._looks == 0:
                self._looks += 1
                edited.edit(client, {"g": {"enabled": False}})
            return value

    client._current = Racing(client._current)  # type: ignore[assignment]
    client.start()
    assert client._answers is not past
    assert not client.enabled("g", "u")


def test_refused_definitions_are_told_and_change_nothing(make: Make, edited: Edited) -> None:
    client = make(source=edited)
    edited.script = [Fetched(b"{")]
    client._poller.poll()
    status = client.status
    assert status.source is not None
    assert (status.ready, status.source.state) == (True, "rejected")
    assert [problem.path for problem in status.problems] == ["$"]
    assert client.enabled("g", "u")
    edited.edit(client, {"g": {}})
    assert client.status.problems == ()
    assert not client.enabled("g", "u")


def test_problems_of_a_refused_document_end_when_the_one_in_use_is_confirmed(make: Make) -> None:
    good = Fetched(document({"f": ON, "bad": {"owner": 5}}), "good")
    source = ScriptedSource(good, Fetched(b"{", "broken"), NotModified())
    source.local = True
    client = make(source=source)
    (problem,) = client.status.problems
    client._poller.poll()
    assert problem in client.status.problems, "the definitions in use still have it"
    assert len(client.status.problems) == 2
    client._poller.poll()
    assert client.status.problems == (problem,)


# -- files -----------------------------------------------------------------------------------------------------------


def test_a_file_is_right_from_the_first_call_and_edits_are_picked_up(tmp_path: Path) -> None:
    path = tmp_path / "flags.json"
    path.write_bytes(document({"f": ON}))
    with Client.from_file(path, config=Config(poll_interval_s=0.05)) as client:
        assert client.enabled("f", "u")
        assert (client.status.account, client.status.sink) == (None, None)
        path.write_bytes(document({"f": {"enabled": False}, "new": {}}))
        deadline = threading.Event()
        for _ in range(200):
            if not client.enabled("f", "u"):
                break
            deadline.wait(0.05)
        assert client.decide("f", "u").reason is Reason.DISABLED


def test_a_file_that_cannot_be_used_is_told_and_breaks_nothing(tmp_path: Path) -> None:
    path = tmp_path / "flags.json"
    path.write_text("{")
    client = Client.from_file(str(path))
    assert client.decide("f", "u").error_code is ErrorCode.PROVIDER_NOT_READY
    assert [problem.path for problem in client.status.problems] == ["$"]
    client.close()


@pytest.mark.parametrize("path", ["", "no/such/file", "a\0b", ".", None, 12345, b"flags.json", [], 0, True])
def test_a_file_that_is_not_there_is_a_config_error(path: Any) -> None:
    with pytest.raises(ConfigError) as caught:
        Client.from_file(path)
    assert caught.value.field == "path"


# -- wrong arguments -------------------------------------------------------------------------------------------------

STATIC = sources.Static({"schema": 1, "flags": {}})
KEY = "sesame-open-up"


@pytest.mark.parametrize(
    ("field", "arguments"),
    [
        ("url", {}),
        ("url", {"key": KEY}),
        ("url", {"url": "https://flags.example.com", "source": STATIC}),
        ("url", {"url": 7}),
        ("url", {"url": "flags.example.com"}),
        ("url", {"url": "ftp://flags.example.com"}),
        ("url", {"url": "http://flags.example.com"}),
        ("url", {"url": f"https://user:{KEY}@flags.example.com"}),
        ("url", {"url": f"https://flags.example.com?key={KEY}"}),
        ("url", {"url": f"https://user:{KEY}@flags.example.com", "source": STATIC}),
        ("key", {"source": STATIC, "key": KEY}),
        ("key", {"url": "https://flags.example.com", "key": KEY + "\n"}),
        ("key", {"url": "https://flags.example.com", "key": KEY.encode()}),
        ("key", {"url": "https://flags.example.com", "key": ""}),
        ("source", {"source": "flags.json"}),
        ("source", {"source": {"schema": 1, "flags": {}}}),
        ("source", {"source": sources.Static}),
        ("source", {"source": sources.Http}),
        ("sink", {"source": STATIC, "sink": "log"}),
        ("sink", {"source": STATIC, "sink": False}),
        ("sink", {"source": STATIC, "sink": sinks.Memory}),
        ("sink", {"source": STATIC, "sink": sinks.Log}),
        ("config", {"source": STATIC, "config": {"poll_interval_s": 5}}),
        ("config", {"source": STATIC, "config": Config}),
        ("clock", {"source": STATIC, "clock": 7}),
        ("dialect", {"source": sources.Static({}, dialect="toggles")}),
    ],
)
def test_a_wrong_argument_is_named_and_no_key_is_shown(field: str, arguments: Json) -> None:
    with pytest.raises(ConfigError, match=f"^{field}: got ") as caught:
        Client(**arguments)
    assert caught.value.field == field
    assert KEY not in str(caught.value)
    assert "expected" in str(caught.value)


def test_neither_a_client_nor_its_status_shows_the_key() -> None:
    client = Client("https://flags.example.com", key=KEY)
    assert KEY not in repr(client) + repr(client.status) + repr(vars(client))
    client.close()


def test_source_and_sink_follow_from_the_url_unless_they_are_given() -> None:
    client = Client("https://flags.example.com", key=KEY)
    assert (client.status.source.name, client.status.sink is not None) == (  # type: ignore[union-attr]
        "https://flags.example.com/v1/definitions",
        True,
    )
    silent = Client("https://flags.example.com", sink=None)
    assert silent.status.sink is None
    assert Client(source=STATIC).status.sink is None


# -- the end ---------------------------------------------------------------------------------------------------------


def test_closing_sends_what_waits_and_twice_is_once(make: Make, sink: sinks.Memory) -> None:
    client = make()
    for number in range(250):
        client.enabled("on", number)
    assert client.close() == 0
    assert len(sink.events) == 250
    assert client.close() == 0


def test_after_the_end_questions_are_answered_and_events_are_counted_as_lost(make: Make, sink: sinks.Memory) -> None:
    client = make()
    client.enabled("on", "u")
    client.close()
    assert client.enabled("on", "v") is True
    assert client.variant("split", "u") in {"a", "b"}
    assert client.decide_all("u")["on"].enabled
    client.track("event", "u")
    account = client.status.account
    assert account is not None
    assert account == (4, 1, {"closed": 3}, 0)
    assert client.flush() == 0
    client.start()
    assert client.wait_ready(0)


def test_a_client_that_was_never_asked_closes_too(make: Make) -> None:
    client = make(source=ScriptedSource(unavailable()))
    assert client.close() == 0
    assert client.decide("on", "u").error_code is ErrorCode.PROVIDER_NOT_READY


def test_a_with_block_starts_and_closes(sink: sinks.Memory) -> None:
    with Client(source=STATIC, sink=sink) as client:
        client.track("event", "u")
    assert [event["name"] for event in sink.events] == ["event"]


def test_a_source_or_sink_that_fails_to_close_breaks_nothing(make: Make) -> None:
    class Failing(ScriptedSource):
        def close(self) -> None:
            raise OSError

    class FailingSink(sinks.Memory):
        def close(self) -> None:
            raise OSError

    client = make(source=Failing(Fetched(document(FLAGS))), sink=FailingSink())
    client.enabled("on", "u")
    assert client.close() == 0


def test_threads_end_with_their_client() -> None:
    before = threading.active_count()
    client = Client(source=ScriptedSource(Fetched(document(FLAGS))), sink=sinks.Memory())
    assert client.wait_ready(10)
    client.enabled("on", "u")
    threads = [thread for thread in threading.enumerate() if thread.name.startswith("flagkit")]
    assert len(threads) == 2
    assert all(thread.daemon for thread in threads)
    client.close()
    for thread in threads:
        thread.join(10)
    assert threading.active_count() == before


# -- status ----------------------------------------------------------------------------------------------------------


def test_status_is_a_value_of_its_moment(make: Make) -> None:
    client = make()
    client.enabled("ghost", "u")
    before = client.status
    before.errors["FLAG_NOT_FOUND"] = 99  # type: ignore[index]
    with pytest.raises(AttributeError):
        before.ready = False  # type: ignore[misc]
    client.enabled("ghost", "u")
    client.enabled("on", "u")
    assert client.status.errors == {"FLAG_NOT_FOUND": 2}
    assert before.account is not None
    assert before.account.recorded == 0


def test_the_account_balances_at_every_moment(make: Make) -> None:
    client = make(config=Config(batch_size=10, max_pending=200, flush_interval_s=0.05), clock=None)
    client.start()
    done = threading.Event()
    unbalanced = []

    def watch() -> None:
        while not done.is_set():
            account = client.status.account
            if account is None or not account.balanced:
                unbalanced.append(account)

    watcher = threading.Thread(target=watch)
    watcher.start()
    in_threads(3, lambda index: [client.enabled("half", f"{index}-{n}") for n in range(2000)])  # type: ignore[arg-type,return-value]
    client.flush()
    done.set()
    watcher.join()
    assert unbalanced == []
    account = client.status.account
    assert account is not None
    assert account.recorded >= 6000
    assert account.pending == 0


def test_definitions_age_until_they_are_confirmed(make: Make, clock: StillClock) -> None:
    source = ScriptedSource(Fetched(document({"f": HALF, "g": ON}), "v"), unavailable())
    source.local = True
    client = make(source=source)
    clock.advance(86_401)
    client._poll()
    client._poll()
    assert client.status.age_s == pytest.approx(86_401)
    assert client.decide("f", "u").reason is Reason.STALE
    assert client.decide("g", "u").reason is Reason.STATIC
    source.script = [Fetched(document({"f": HALF, "g": ON}), "v")]
    client._poller.poll()
    assert client.decide("f", "u").reason is Reason.SPLIT
    assert client.status.age_s == 0


def test_the_public_names_are_few_and_there() -> None:
    assert len(flagkit.__all__) <= 30
    assert all(hasattr(flagkit, name) for name in flagkit.__all__)
    assert list(flagkit.__all__) == sorted(flagkit.__all__)


def test_a_declared_flag_is_asked_like_any_other(make: Make, sink: sinks.Memory) -> None:
    client = make()
    assert client.value(Flag("int", default=0), "u") == 7
    assert client.enabled(Flag("on", default=False), "u")
    assert {flag for flag, _, _ in exposures(client, sink)} == {"int", "on"}


def test_segments_are_asked_in_scopes_too(make: Make) -> None:
    client = make({"f": when({"segment": "team"})}, segments={"team": {"units": ["u"]}})
    with scope("u"):
        assert client.enabled("f")
    with scope("v"):
        assert not client.enabled("f")
