"""``Flags``: what a test sets is what everybody gets, who met it is known, and afterwards all is as it was."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

import flagkit
from flagkit import Client, ConfigError, Context, default, sinks, sources
from flagkit.testing import Exposed, FakeClock, Flags, Tracked

DEFINED: dict[str, Any] = {
    "new-checkout": {"default": "on"},
    "max-items": {"variants": {"few": 10, "many": 50}, "off": "few", "default": "many"},
}
DOCUMENT: dict[str, Any] = {"schema": 1, "segments": {"team": {"units": ["ann"]}}, "flags": DEFINED}


@pytest.fixture
def client() -> Iterator[Client]:
    """A client of an application's own, for which both flags are on."""
    with Client(source=sources.Static(DOCUMENT), sink=sinks.Memory()) as client:
        yield client


@pytest.fixture(autouse=True)
def no_default_client(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(default, "_client", None)


# -- what flags answer


@pytest.mark.parametrize(
    ("answer", "enabled", "variant", "value"),
    [
        (True, True, "on", True),
        (False, False, "off", False),
        ("on", True, "on", True),
        ("off", False, "off", False),
        ("blue", True, "blue", "blue"),
        ({"variants": {"a": 1, "b": 2}, "off": "a", "default": "b"}, True, "b", 2),
    ],
)
def test_a_flag_answers_what_it_is_set_to(answer: Any, enabled: bool, variant: str, value: object) -> None:
    with Flags({"f": answer}):
        assert flagkit.enabled("f", "user-1") is enabled
        assert flagkit.variant("f", "user-1") == variant
        assert flagkit.value("f", "user-1", default=None) == value


def test_everybody_gets_it_without_a_unit_too() -> None:
    with Flags({"f": True}):
        assert all(flagkit.enabled("f", unit) for unit in ("user-1", 42, {"country": "SE"}, None))


def test_a_variant_may_be_given_its_value() -> None:
    with Flags() as flags:
        flags.set("f", "many", value=50)
        assert (flagkit.value("f", 1, default=10), flagkit.variant("f", 1)) == (50, "many")


def test_setting_again_changes_the_answer_at_once() -> None:
    with Flags({"f": True, "g": True}) as flags:
        flags.set("f", False)
        assert (flagkit.enabled("f", 1), flagkit.enabled("g", 1)) == (False, True)
        flags.update({"f": True, "g": False})
        assert (flagkit.enabled("f", 1), flagkit.enabled("g", 1)) == (True, False)


def test_a_flag_that_is_not_set_gets_the_callers_default() -> None:
    declared = flagkit.Flag("items", default=7)
    with Flags():
        assert flagkit.enabled("f", 1) is False
        assert flagkit.value(declared, 1) == 7


def test_a_flag_that_is_defined_and_not_set_is_off_whatever_its_rules_say(client: Client) -> None:
    with Flags() as flags:
        flags.use(client)
        assert not client.enabled("new-checkout", 1)
        assert client.value("max-items", 1, default=0) == 10
    with Flags(definitions=DOCUMENT):
        assert flagkit.value("max-items", 1, default=0) == 10


def test_the_variants_of_a_defined_flag_have_their_values(client: Client) -> None:
    with Flags({"max-items": "many"}) as flags:  # what it means is known once the client is
        flags.use(client)
        assert client.value("max-items", 1, default=0) == 50
        assert flagkit.value("max-items", 1, default=0) == 50


def test_on_is_the_variant_that_an_override_takes_for_it() -> None:
    three = {"off": "none", "variants": {"none": 0, "some": 1, "all": 2}}
    with Flags(
        {"f": True, "g": True}, definitions={"schema": 1, "flags": {"f": three, "g": three | {"default": "all"}}}
    ):
        assert (flagkit.variant("f", 1), flagkit.variant("g", 1)) == ("some", "all")


def test_a_whole_definition_has_rules_parents_and_segments() -> None:
    flag = {
        "prerequisites": [{"flag": "parent", "variants": ["on"]}],
        "rules": [{"when": [{"segment": "team"}], "serve": "on"}],
    }
    with Flags({"child": flag, "parent": True}, definitions=DOCUMENT) as flags:
        assert (flagkit.enabled("child", "ann"), flagkit.enabled("child", "bo")) == (True, False)
        flags.set("parent", False)
        assert flagkit.decide("child", "ann").reason == "PREREQUISITE_FAILED"


def test_a_schedule_goes_by_the_clock_of_the_test() -> None:
    steps = [{"from": "2026-01-01T01:00:00Z", "percent": 100}]
    with Flags({"f": {"rules": [{"rollout": {"steps": steps}, "serve": "on"}]}}, clock=FakeClock()) as flags:
        assert not flagkit.enabled("f", 1)
        flags.clock.advance(3600)
        assert flagkit.enabled("f", 1)


# -- for whom


def test_it_answers_for_the_default_client_whoever_holds_it() -> None:
    held = flagkit.configure(source=sources.Static(DOCUMENT))
    with Flags({"new-checkout": False}):
        assert not flagkit.enabled("new-checkout", 1)
        assert not held.enabled("new-checkout", 1)
    assert held.enabled("new-checkout", 1)
    held.close()


class Asked(sources.Static):
    """A source that is not local and knows whether anybody fetched."""

    local = False

    def __init__(self) -> None:
        super().__init__(DOCUMENT)
        self.times = 0

    def fetch(self, validator: str | None, **bounds: Any) -> Any:
        self.times += 1
        return super().fetch(validator, **bounds)


def test_it_answers_for_a_default_client_that_is_configured_meanwhile_and_nothing_is_fetched() -> None:
    source = Asked()
    with Flags({"f": True}):
        for _ in range(2):
            configured = flagkit.configure(source=source)
            assert configured.wait_ready(0)
            assert (configured.enabled("f", 1), flagkit.enabled("f", 1)) == (True, True)
            assert (configured.refresh(0), configured.flush(), configured.close()) == (True, 0, 0)
    assert source.times == 0
    assert default._client is None


def test_it_answers_in_every_thread_and_task(client: Client) -> None:
    async def asked() -> bool:
        return client.enabled("f", 1)

    async def tasks() -> list[bool]:
        return await asyncio.gather(*(asyncio.create_task(asked()) for _ in range(3)), asyncio.to_thread(ask))

    def ask() -> bool:
        return client.enabled("f", 1)

    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(ask).result() is False  # a thread that was there before
        with Flags({"f": True}) as flags:
            flags.use(client)
            assert pool.submit(ask).result()
            assert asyncio.run(tasks()) == [True] * 4
        assert pool.submit(ask).result() is False


def test_it_answers_verbs_and_gates_that_were_made_before(client: Client) -> None:
    enabled = client.enabled

    @client.gate("f", "user-1", otherwise=lambda: "control")
    def gated() -> str:
        return "candidate"

    @flagkit.gate("f", "user-2", otherwise=lambda: "control")
    async def later() -> str:
        return "candidate"

    with Flags({"f": True}) as flags:
        flags.use(client)
        assert (enabled("f", 1), gated(), asyncio.run(later())) == (True, "candidate", "candidate")
        with client.gate("f", "user-3") as gate:
            assert gate.on
        flags.set("f", False)
        assert (enabled("f", 1), gated(), asyncio.run(later())) == (False, "control", "control")
        assert {met.unit for met in flags.exposures} == {"1", "user-1", "user-2", "user-3"}
    assert gated() == "control"


def test_the_other_verbs_go_by_the_same_answers(client: Client) -> None:
    with Flags({"max-items": "few"}) as flags:
        flags.use(client)
        assert client.peek("max-items", 1).variant == "few"
        assert {flag: each.variant for flag, each in client.decide_all(1).items()} == {
            "new-checkout": "off",
            "max-items": "few",
        }
        assert client.explain("max-items", 1).decision.variant == "few"
        assert flags.exposures == []
        client.expose(client.peek("max-items", 1), 1)
        flags.assert_exposed("max-items", variant="few", unit=1)
        with client.override({"max-items": "many"}):
            assert client.variant("max-items", 2) == "many"
        flags.assert_not_exposed("max-items", unit=2)


def test_openfeature_gets_the_same_answers(client: Client) -> None:
    pytest.importorskip("openfeature", reason="the extra openfeature is not installed")
    from openfeature.evaluation_context import EvaluationContext

    from flagkit.integrations.openfeature import FlagkitProvider

    provider, user = FlagkitProvider(client), EvaluationContext("user-1")
    with Flags({"f": True, "max-items": "many"}) as flags:
        flags.use(client)
        assert provider.resolve_boolean_details("f", False, user).value is True
        assert provider.resolve_integer_details("max-items", 1, user).value == 50
        flags.assert_exposed("f", unit="user-1")
    assert provider.resolve_boolean_details("f", False, user).error_code == "FLAG_NOT_FOUND"


def test_handlers_hear_of_what_a_test_changes(client: Client) -> None:
    heard, changed = threading.Event(), []

    def handler(details: flagkit.EventDetails) -> None:
        changed.append(details.flags_changed)
        heard.set()

    with Flags() as flags:
        flags.use(client).add_handler("configuration_changed", handler)
        flags.set("f", True)
        assert heard.wait(10)
    assert changed == [{"f"}]


def test_what_somebody_derived_from_client_is_still_there() -> None:
    class Tenant(Client):
        def __init__(self, tenant: str) -> None:
            super().__init__(source=sources.Static(DOCUMENT))
            self.tenant = tenant

        def allowed(self, flag: str) -> bool:
            return self.enabled(flag, self.tenant)

    client = Tenant("acme")
    with Flags({"f": True}) as flags:
        flags.use(client)
        assert client.allowed("f")
        flags.assert_exposed("f", unit="acme")
    assert (client.allowed("f"), client.allowed("new-checkout")) == (False, True)


def test_a_client_whose_sink_counts_calls_is_told_of_none() -> None:
    sink = sinks.Unleash("http://127.0.0.1:9", token="t")
    client = Client(source=sources.Static(DOCUMENT), sink=sink)
    with Flags({"f": True}) as flags:
        flags.use(client)
        assert client.enabled("f", 1)
        assert client.status.usage is None
    assert client.status.usage is not None
    assert client.status.usage.account.recorded == 0
    client.close(0)


def test_using_a_client_twice_is_using_it_once(client: Client) -> None:
    with Flags({"f": True}) as flags:
        assert flags.use(flags.use(client)) is client
        client.enabled("f", 1)
        assert len(flags.exposures) == 1
    assert not client.enabled("f", 1)


def test_flags_within_flags_give_back_what_was_there(client: Client) -> None:
    with Flags({"f": "outer"}) as outer:
        outer.use(client)
        with Flags({"f": "inner"}) as inner:
            inner.use(client)
            assert (client.variant("f", 1), flagkit.variant("f", 1)) == ("inner", "inner")
        assert (client.variant("f", 1), flagkit.variant("f", 1)) == ("outer", "outer")
        assert [met.variant for met in outer.exposures] == ["outer"] * 2  # each client records its own
    assert client.variant("f", 1) is None


# -- afterwards


def test_afterwards_all_is_as_it_was_after_an_exception_too(client: Client) -> None:
    before = flagkit.decide("new-checkout", 1).error_code, client.decide("new-checkout", 1), client.status.account
    threads = threading.active_count()
    try:
        with Flags({"new-checkout": False}) as flags:
            flags.use(client)
            client.enabled("new-checkout", 2)
            client.track("paid", 2)
            raise ZeroDivisionError
    except ZeroDivisionError:
        pass
    after = flagkit.decide("new-checkout", 1).error_code, client.decide("new-checkout", 1), client.status.account
    assert after == before
    assert threading.active_count() == threads
    assert type(client.__dict__["_recording"]).__name__ == "Recording"


def test_threads_that_go_on_asking_never_fail_and_no_event_is_unaccounted_for(client: Client) -> None:
    stop, wrong = threading.Event(), []

    def ask(thread: int) -> None:
        number = 0
        while not stop.is_set():
            number += 1
            try:
                if client.variant("new-checkout", f"{thread}-{number}") not in ("on", "off"):
                    wrong.append("no answer")
                client.track("asked", f"{thread}-{number}")
            except Exception as error:  # noqa: BLE001 - whatever it is
                wrong.append(repr(error))

    threads = [threading.Thread(target=ask, args=(index,)) for index in range(3)]
    for thread in threads:
        thread.start()
    for _ in range(30):
        with Flags({"new-checkout": True}) as flags:
            flags.use(client)
            flags.set("new-checkout", False)
            assert client.status.account is not None
            assert client.status.account.balanced
    stop.set()
    for thread in threads:
        thread.join()
    client.flush()
    assert wrong == []
    account = client.status.account
    assert account is not None
    assert (account.balanced, account.pending) == (True, 0)


def test_closing_the_client_in_a_test_closes_nothing_of_it(client: Client) -> None:
    with Flags({"f": True}) as flags:
        flags.use(client)
        client.close()
        flags.set("g", True)
        assert client.enabled("f", 1)
    assert client.enabled("new-checkout", 1)
    assert client.flush() == 0
    assert client.status.account == (1, 0, 1, {}, 0)


def test_definitions_that_come_meanwhile_are_in_use_afterwards(tmp_path: Any) -> None:
    path = tmp_path / "flags.json"
    path.write_text('{"schema": 1, "flags": {"f": {}}}', encoding="utf-8")
    clock = FakeClock()
    client = Client(source=sources.File(path), clock=clock)
    assert not client.enabled("f", 1)
    feed = client._feed
    with Flags({"f": False}) as flags:
        flags.use(client)
        path.write_text('{"schema": 1, "flags": {"f": {"default": "on"}}}', encoding="utf-8")
        feed.poll()  # as its thread does
        assert not client.enabled("f", 1)
    assert client.enabled("f", 1)
    client.close(0)


def test_a_scope_that_was_opened_outside_keeps_its_answers_and_gets_none() -> None:
    flagkit.configure(source=sources.Static(DOCUMENT))
    with flagkit.scope("user-1"):
        assert flagkit.enabled("new-checkout")
        with Flags({"new-checkout": False, "f": True}):
            assert (flagkit.enabled("new-checkout"), flagkit.enabled("f")) == (False, True)
        with Flags():
            assert not flagkit.enabled("f")
        assert flagkit.enabled("new-checkout")


def test_a_scope_in_the_test_keeps_its_first_answer_until_the_flag_is_off() -> None:
    with Flags({"f": True, "g": False}) as flags, flagkit.scope("user-1"):
        assert (flagkit.enabled("f"), flagkit.enabled("g")) == (True, False)
        flags.update({"f": False, "g": True})
        assert (flagkit.enabled("f"), flagkit.enabled("g")) == (False, False)
        with flagkit.scope("user-2"):
            assert flagkit.enabled("g")


# -- what was recorded


def test_a_unit_is_exposed_once_to_each_outcome(client: Client) -> None:
    with Flags({"f": True}) as flags:
        flags.use(client)
        for unit in ("a", "b", "a"):
            client.enabled("f", unit)
        flags.set("g", True)  # changes nothing for f
        client.variant("f", "a")
        flags.set("f", False)
        client.enabled("f", "a")
        on, off = ("f", "on"), ("f", "off")
        assert [met[:3] for met in flags.exposures] == [(*on, "a"), (*on, "b"), (*off, "a")]
        account = client.status.account
        assert account is not None
        assert (account.recorded, account.balanced) == (3, True)


def test_a_unit_is_exposed_again_an_hour_later_on_the_clock_of_the_test() -> None:
    with Flags({"f": True}) as flags:
        for _ in range(3):
            flagkit.enabled("f", "user-1")
            flags.clock.advance(3600)
            flagkit.enabled("f", "user-2")
        assert [met.unit for met in flags.exposures].count("user-2") == 3


def test_what_was_recorded_can_be_read_afterwards_and_as_it_travels() -> None:
    client = Client(source=sources.Static({**DOCUMENT, "environment": "staging"}))
    with Flags({"f": True}) as flags:
        flags.use(client)
        client.enabled("f", "user-1")
        flagkit.track("paid", "user-1")
        with Flags() as inner:
            inner.use(client).track("left", "user-1")
    assert [event["feature_flag.set.id"] for event in (*flags.events, *inner.events)] == [None, *["staging"] * 2]
    for _ in range(2):
        assert (len(flags.exposures), len(flags.tracked)) == (1, 1)
        assert {event["type"] for event in flags.events} == {"exposure", "metric"}
    assert len({event["id"] for event in flags.events}) == 2


def test_after_a_client_is_closed_its_events_are_lost_as_in_production(client: Client) -> None:
    with Flags({"f": True}) as flags:
        flags.use(client)
        client.track("before", 1)
        client.close()
        client.track("after", 1)
        assert [each.event for each in flags.tracked] == ["before"]
        assert client.status.account is not None
        assert client.status.account.lost == {"closed": 1}


def test_an_exposure_says_how_it_came_about() -> None:
    split = {"rules": [{"name": "half", "split": [{"variant": "on", "weight": 1}]}]}
    with Flags({"f": split}) as flags:
        flagkit.enabled("f", "user-1")
        assert flags.exposures == [Exposed("f", "on", "user-1", "SPLIT", "half", True)]


def test_nobody_is_exposed_who_would_not_be_in_production() -> None:
    with Flags({"f": True}) as flags:
        flagkit.enabled("f")
        flagkit.enabled("f", Context("probe", synthetic=True))
        flagkit.enabled("f", b"bytes")
        flagkit.enabled("unknown", "user-1")
        assert flags.exposures == []


def test_events_are_kept_as_they_were_tracked() -> None:
    with Flags() as flags:
        flagkit.track("paid", "user-1", value=9.5, currency="SEK")
        flagkit.track("left")
        flagkit.track("bad", "user-1", secret=object())
        flagkit.track("probe", Context("probe", synthetic=True))
        assert flags.tracked == [
            Tracked("paid", "user-1", 9.5, {"currency": "SEK"}),
            Tracked("left", None, None, {}),
        ]
        account = default._default().status.account
        assert account is not None
        assert (account.lost, account.balanced) == ({"unencodable": 1}, True)


def test_an_assertion_that_fails_says_who_met_what() -> None:
    with Flags({"f": True}) as flags:
        with pytest.raises(AssertionError, match=r"^no exposure of 'f'; nothing was exposed$"):
            flags.assert_exposed("f")
        flagkit.enabled("f", "user-1")
        flags.assert_exposed("f")
        with pytest.raises(AssertionError) as missing:
            flags.assert_exposed("f", variant="off", unit="user-1")
        assert str(missing.value) == (
            "no exposure of 'f' = 'off' for 'user-1'; exposed were:\n  f = on for unit 'user-1' (STATIC)"
        )
        with pytest.raises(AssertionError, match=r"^there is an exposure of 'f'; exposed were:"):
            flags.assert_not_exposed("f")
        flags.assert_not_exposed("f", variant="off")
        for number in range(30):
            flagkit.enabled("f", number)
        with pytest.raises(AssertionError, match=r"and 11 more$"):
            flags.assert_exposed("g")


# -- what is unknown


def test_unknown_flags_are_listed_with_the_line_that_asked_first() -> None:
    with Flags({"f": True}) as flags:
        for _ in range(2):
            flagkit.enabled("typo", 1)
        flagkit.gate("other", 1, otherwise=bool)(bool)()
        flags.check()  # the default is to go on
        assert list(flags.unknown) == ["typo", "other"]
        assert all(where.startswith(f"{__file__}:") for where in flags.unknown.values())


def test_unknown_flags_fail_the_check_on_request(client: Client) -> None:
    with Flags({"f": True}, unknown="error") as flags:
        flags.use(client)
        client.enabled("f", 1)
        client.enabled("max-items", 1)
        flags.check()
        client.variant("typo", 1)
        with pytest.raises(AssertionError, match=r"neither set nor defined were asked for:\n  'typo', at .*:\d+$"):
            flags.check()


def test_what_is_remembered_of_unknown_flags_is_bounded() -> None:
    with Flags() as flags:
        for number in range(1000):
            flagkit.enabled(f"flag-{number}", 1)
        assert len(flags.unknown) == 100


# -- mistakes


@pytest.mark.parametrize(
    ("answers", "field", "said"),
    [
        ({"f": 1}, "flags['f']", "got 1; expected True, False, the name of a variant, or a flag's definition"),
        ({"f": ""}, "flags['f']", "got ''"),
        ({"": True}, "flag", "got ''; expected the key of a flag"),
        ({7: True}, "flag", "got 7"),
        ({"max-items": "mny"}, "flags['max-items']", "got 'mny'; expected one of its variants: 'few', 'many'"),
        ({"f": {"default": "blue"}}, "flags['f']", "$.flags.f.default"),
        ({"f": {"default": {1, 2}}}, "flags['f']", "a definition with a JSON form"),
        ({"f": {"prerequisites": [{"flag": "gone", "variants": ["on"]}]}}, "flags['f']", "gone"),
        (["f"], "answers", "a mapping of flags to answers"),
    ],
)
def test_a_wrong_answer_is_named_and_changes_nothing(answers: Any, field: str, said: str) -> None:
    with Flags({"g": True}, definitions=DOCUMENT) as flags:
        with pytest.raises(ConfigError) as raised:
            flags.update(answers)
        assert raised.value.field == field
        assert said in str(raised.value)
        assert flagkit.enabled("g", 1)
        assert flagkit.variant("max-items", 1) == "few"


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"definitions": 7}, "definitions"),
        ({"definitions": "not json"}, "definitions"),
        ({"definitions": {"schema": 1, "flags": {"f": {"default": "blue"}}}}, "definitions"),
        ({"unknown": "warn"}, "unknown"),
        ({"answers": {"typo": True}, "definitions": DOCUMENT, "unknown": "error"}, "flag"),
    ],
)
def test_a_wrong_setting_is_named(settings: dict[str, Any], field: str) -> None:
    with pytest.raises(ConfigError) as raised:
        Flags(**settings)
    assert raised.value.field == field


def test_a_value_without_json_form_and_one_beside_a_definition_are_mistakes() -> None:
    flags = Flags()
    for answer, value in (("on", {1}), ("on", float("nan")), ({}, 1)):
        with pytest.raises(ConfigError) as raised:
            flags.set("f", answer, value=value)
        assert raised.value.field == "value"


def test_changing_what_was_given_changes_nothing() -> None:
    value, definition = [1, (2, 3)], {"variants": {"a": 1, "b": 2}, "off": "a", "default": "b"}
    with Flags({"g": definition}) as flags:
        flags.set("f", "many", value=value)
        value.append(4)
        definition["default"] = "a"
        flags.set("h")
        assert flagkit.value("f", 1, default=None) == [1, [2, 3]]
        assert flagkit.variant("g", 1) == "b"


def test_what_is_no_client_is_not_used(client: Client) -> None:
    with Flags({"max-items": "mny"}) as flags:
        for wrong in ("client", Client, None):
            with pytest.raises(ConfigError) as raised:
                flags.use(wrong)  # type: ignore[arg-type]
            assert raised.value.field == "client"
        with pytest.raises(ConfigError, match="expected one of its variants"):
            flags.use(client)
        assert client.variant("max-items", 1) == "many"


def test_a_default_client_without_the_variant_leaves_nothing_behind() -> None:
    configured = flagkit.configure(source=sources.Static(DOCUMENT))
    with pytest.raises(ConfigError, match="expected one of its variants"), Flags({"max-items": "mny"}):
        pass
    assert flagkit.variant("max-items", 1) == "many"
    assert default._borrower is None
    configured.close()
