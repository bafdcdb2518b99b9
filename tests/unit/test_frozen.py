"""Public values: frozen, equal by what is in them, copied, and pickled for another process."""

from __future__ import annotations

import copy
import json
import multiprocessing
import pickle
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from documents import FLAGS, HALF, ON

from flagkit import (
    Client,
    Config,
    ConfigError,
    Context,
    Decision,
    DefinitionsError,
    EventDetails,
    FetchError,
    Flag,
    FlagkitError,
    GuardPolicy,
    Reason,
    ShadowPolicy,
    scope,
)
from flagkit.errors import Problem, ShadowMismatch
from flagkit.frozen import ReadOnly

Make = Callable[..., Client]


def pickled(value: Any) -> Any:
    return pickle.loads(pickle.dumps(value))


every_way = pytest.mark.parametrize("twin", [copy.copy, copy.deepcopy, pickled])

VALUES = [
    Config(),
    Config(poll_interval_s=1, environment="staging", state_dir=Path("state"), processes=3),
    GuardPolicy(),
    GuardPolicy(revision=2, metrics=["refund"], slo=0.01),
    ShadowPolicy(),
    ShadowPolicy(mode="inline", compare=max, ignore=[min]),
    Context(),
    Context("user-1", {"plan": "pro", "tags": ["a"]}, {"new-search": True}, synthetic=True),
    Context(b"no unit"),
    Flag("max-items", default=10, owner="search"),
    EventDetails("alert", frozenset({"a"}), "a tripped"),
    Problem("$.flags", "got 1"),
    ReadOnly({"overflow": 2}),
]


@every_way
@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_a_value_s_twin_is_equal_to_it_and_of_its_kind(value: Any, twin: Callable[[Any], Any]) -> None:
    other = twin(value)
    assert (other, type(other)) == (value, type(value))
    if type(value) is not ReadOnly:
        assert hash(other) == hash(value)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (Config(), Config(batch_size=7)),
        (GuardPolicy(), GuardPolicy(revision=1)),
        (ShadowPolicy(), ShadowPolicy(compare=max)),
        (Context("user-1"), Context("user-2")),
        (Context("user-1"), Context("user-1", {"plan": "pro"})),
        (Context("user-1"), Context("user-1", synthetic=True)),
        (Config(), GuardPolicy()),
        (Config(), "Config()"),
        (Context("user-1"), "user-1"),
    ],
    ids=repr,
)
def test_values_of_different_content_or_kind_are_not_equal(one: Any, other: Any) -> None:
    assert one != other


def test_contexts_of_one_unit_are_equal_however_it_was_given() -> None:
    assert Context(7) == Context("7")


def test_attributes_that_cannot_be_compared_make_no_contexts_equal_and_raise_nothing() -> None:
    class Rude:
        def __eq__(self, other: object) -> bool:
            raise KeyError

        __hash__ = None  # type: ignore[assignment]

    assert Context("u", {"a": Rude()}) != Context("u", {"a": Rude()})
    same = Context("u", {"a": Rude()})
    assert same == same


@every_way
def test_a_context_without_a_unit_stays_one_in_a_scope(twin: Callable[[Any], Any]) -> None:
    with scope(twin(Context()), plan="pro") as context:
        assert context == Context(attributes={"plan": "pro"})


@pytest.mark.parametrize("value", [Config(), GuardPolicy(), ShadowPolicy()], ids=lambda value: type(value).__name__)
def test_settings_can_be_neither_set_nor_deleted(value: Any) -> None:
    field = value.__slots__[0]
    with pytest.raises(AttributeError, match=f"{type(value).__name__} is frozen; make a new one"):
        setattr(value, field, 1)
    with pytest.raises(AttributeError, match=f"{type(value).__name__} is frozen; make a new one without {field}"):
        delattr(value, field)


def test_settings_that_were_tampered_with_on_the_way_are_refused_like_any_others() -> None:
    with pytest.raises(ConfigError, match="batch_size"):
        pickle.loads(pickle.dumps(Config(batch_size=77), 2).replace(b"K\x4d", b"K\x00"))


def test_a_config_reaches_a_process_that_is_spawned() -> None:
    config = Config(environment="staging", processes=2)
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        assert pool.submit(copy.copy, config).result(timeout=60) == config


# -- exceptions ------------------------------------------------------------------------------------------------------

EXCEPTIONS = [
    FlagkitError("wrong"),
    ConfigError("key", "hunter2", "a string", secret=True),
    DefinitionsError((Problem("$", "no flags"),), frozenset({"a"})),
    FetchError("http_503", "unavailable", retry_after_s=3.0, lasting=True),
    ShadowMismatch("they differ"),
]


@every_way
@pytest.mark.parametrize("error", EXCEPTIONS, ids=lambda error: type(error).__name__)
def test_an_exception_s_twin_says_the_same_and_has_the_same_fields(
    error: FlagkitError, twin: Callable[[Any], Any]
) -> None:
    other = twin(error)
    assert (type(other), str(other), other.args, vars(other)) == (type(error), str(error), error.args, vars(error))


def test_the_secret_of_an_exception_is_not_in_its_pickle() -> None:
    assert b"hunter2" not in pickle.dumps(EXCEPTIONS[1])


# -- decisions -------------------------------------------------------------------------------------------------------


def test_a_decision_s_copy_is_the_decision(make: Make) -> None:
    decision = make().decide("half", "user-1")
    assert copy.copy(decision) is decision
    assert copy.deepcopy([decision])[0] is decision


@pytest.mark.parametrize("flag", [*FLAGS, "missing"])
def test_a_pickled_decision_tells_what_was_decided_and_not_who_met_it(make: Make, flag: str) -> None:
    client = make()
    decision = client.decide(flag, "user-4711")
    told: Decision = pickled(decision)
    fields = (
        "flag",
        "variant",
        "enabled",
        "value",
        "reason",
        "error_code",
        "rule",
        "assigned",
        "analysable",
        "version",
    )
    assert [getattr(told, name) for name in fields] == [getattr(decision, name) for name in fields]
    assert b"user-4711" not in pickle.dumps(decision)
    assert type(told.reason) is Reason


def test_a_pickled_decision_is_exposed_to_nobody(make: Make) -> None:
    client = make()
    client.start()
    client.expose(pickled(client.peek("half", "user-1")), "user-1")
    assert client.status.account is not None
    assert client.status.account.recorded == 0


# -- status ----------------------------------------------------------------------------------------------------------


def mappings(value: Any, at: str = "status") -> list[tuple[str, Any]]:
    """Every mapping in a status, and where."""
    if isinstance(value, dict):
        return [(at, value)]
    if isinstance(value, tuple):
        names = getattr(value, "_fields", range(len(value)))
        return [found for name, item in zip(names, value, strict=True) for found in mappings(item, f"{at}.{name}")]
    return []


CHANGES: list[tuple[Any, ...]] = [
    ("__setitem__", "a", 1),
    ("__delitem__", "a"),
    ("__ior__", {"a": 1}),
    ("update", {"a": 1}),
    ("setdefault", "a", 1),
    ("pop", "a"),
    ("popitem",),
    ("clear",),
]


@pytest.fixture
def used(make: Make) -> Client:
    """A client with something to tell in most places of its status."""
    client = make({"a": HALF, "s": ON})
    client.start()
    client.gate("a", "u-1", otherwise=int)(int)()
    client.shadow("s", candidate=int, policy=ShadowPolicy(mode="inline"))(int)()
    client.enabled("missing", "u-1")
    client.track("not sent", "u-1", value=float("nan"))
    return client


def test_no_mapping_of_a_status_can_be_written_to_and_each_is_equal_to_a_dict(used: Client) -> None:
    found = dict(mappings(used.status))
    places = {"errors", "trips", "overrides", "account.lost", "alerts.lost", "variants.0.errors", "shadows.0.outcomes"}
    assert {f"status.{place}" for place in places} <= set(found)
    for mapping in found.values():
        for change, *arguments in CHANGES:
            with pytest.raises(TypeError, match="read-only"):
                getattr(mapping, change)(*arguments)
        assert mapping == dict(mapping)
    assert used.status.errors == {"FLAG_NOT_FOUND": 1}


@every_way
def test_a_status_s_twin_is_equal_to_it(used: Client, twin: Callable[[Any], Any]) -> None:
    status = used.status
    assert twin(status) == status


def test_the_mappings_of_a_status_are_written_as_json_and_copied_to_be_changed(used: Client) -> None:
    errors = used.status.errors
    assert json.loads(json.dumps(errors)) == errors
    for changed in (dict(errors), errors.copy(), errors | {}):  # type: ignore[attr-defined, operator]
        changed["more"] = 1
    assert errors == {"FLAG_NOT_FOUND": 1}
