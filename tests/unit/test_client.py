"""The client's verbs: what they answer, and how it stands."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from documents import FLAGS, HALF, ON, VALUES, StillClock, document, exposures, when
from fakes import ScriptedSource, in_threads, unavailable

import flagkit
from flagkit import Client, Config, Context, ErrorCode, Flag, Reason, scope, sinks
from flagkit.sources import Fetched

Json = dict[str, Any]
Make = Callable[..., Client]


# -- answers -----------------------------------------------------------------------------------------------------------


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


# -- status ------------------------------------------------------------------------------------------------------------


def test_status_is_a_value_of_its_moment(make: Make) -> None:
    client = make()
    client.enabled("ghost", "u")
    before = client.status
    with pytest.raises(TypeError):
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
    client._feed.poll()
    client._feed.poll()
    assert client.status.age_s == pytest.approx(86_401)
    assert client.decide("f", "u").reason is Reason.STALE
    assert client.decide("g", "u").reason is Reason.STATIC
    source.script = [Fetched(document({"f": HALF, "g": ON}), "v")]
    client._feed.poller.poll()
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
