"""Whatever the client's verbs are given, they answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import uuid4

import pytest
from documents import FLAGS

from flagkit import Client, Context, Reason, scope, sinks

Json = dict[str, Any]
Make = Callable[..., Client]


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
