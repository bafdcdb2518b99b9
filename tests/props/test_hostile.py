"""Whatever is in a context, evaluation answers with a reason: no exception, no crash, no long wait."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta, tzinfo
from decimal import Decimal
from enum import StrEnum
from fractions import Fraction
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

import flagkit
from flagkit.context import Context, as_context
from flagkit.core.explain import explain
from flagkit.decision import Decision, ErrorCode, Reason
from tests.reference import compiled
from tests.reference.pools import NOW_MS, OPERATORS

SLOWEST_S = 0.002


class Boom(Exception):
    """What hostile objects raise."""


def raising(*names: str) -> type:
    """A class whose named methods raise."""

    def boom(*_: Any, **__: Any) -> Any:
        raise Boom

    return type("Raising", (), dict.fromkeys(names, boom))


class RaisingMapping(Mapping[str, Any]):
    def __getitem__(self, key: str) -> Any:
        raise Boom

    def __iter__(self) -> Iterator[str]:
        raise Boom

    def __len__(self) -> int:
        raise Boom


class RaisingDict(dict[str, Any]):
    def get(self, *_: Any) -> Any:
        raise Boom

    __getitem__ = __contains__ = __len__ = __iter__ = keys = items = get


class RaisingStr(str):
    __slots__ = ()

    def casefold(self) -> str:
        raise Boom

    __eq__ = __hash__ = __str__ = __len__ = __contains__ = encode = casefold  # type: ignore[assignment]
    startswith = endswith = casefold  # type: ignore[assignment]


class RaisingInt(int):
    def __index__(self) -> int:
        raise Boom

    __eq__ = __hash__ = __str__ = __lt__ = __gt__ = __float__ = __abs__ = __index__  # type: ignore[assignment]


class RaisingList(list[Any]):
    def __iter__(self) -> Any:
        raise Boom

    __len__ = __getitem__ = __contains__ = __iter__  # type: ignore[assignment]


class RaisingZone(tzinfo):
    def utcoffset(self, _: datetime | None) -> timedelta:
        raise Boom

    dst = utcoffset

    def tzname(self, _: datetime | None) -> str:
        raise Boom


class Liar:
    """Claims to be a str, as a mock with a spec does."""

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        return str


class RaisingClass:
    """Raises when asked what it is, as a proxy to a request does outside one."""

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        raise Boom


class Plan(StrEnum):
    PRO = "pro"


CYCLE: dict[str, Any] = {}
CYCLE["self"] = CYCLE
LOOP: list[Any] = []
LOOP.append(LOOP)
DEEP: Any = "SE"
for _ in range(50_000):
    DEEP = [DEEP]

HOSTILE: dict[str, Any] = {
    "None": None,
    "NaN": float("nan"),
    "infinity": float("-inf"),
    "bytes": b"\xff\xfe",
    "a huge int": 10**5000,
    "a negative huge int": -(10**400),
    "1 MB": "x" * 1_000_000,
    "1 MB of surrogates": "\ud800" * 500_000,
    "a surrogate": "SE\udfff",
    "NULs": "\0\0",
    "a hundred items": ["x"] * 100,
    "a list in a list in a list": DEEP,
    "a cyclic dict": CYCLE,
    "a cyclic list": LOOP,
    "Decimal": Decimal("sNaN"),
    "Fraction": Fraction(1, 3),
    "complex": 1j,
    "StrEnum": Plan.PRO,
    "UUID": UUID(int=7),
    "a naive datetime": datetime(2026, 12, 1),
    "the last datetime": datetime.max.replace(tzinfo=UTC),
    "a datetime whose zone raises": datetime(2026, 12, 1, tzinfo=RaisingZone()),
    "a type": dict,
    "a generator": (item for item in "ab"),
    "an iterator without an end": iter(int, 1),
    "an object whose == raises": raising("__eq__", "__hash__")(),
    "an object that raises all over": raising(
        "__eq__", "__hash__", "__repr__", "__str__", "__len__", "__bool__", "__iter__", "__getattr__", "__contains__"
    )(),
    "an object that claims to be a str": Liar(),
    "an object whose class raises": RaisingClass(),
    "a mapping that raises": RaisingMapping(),
    "a dict that raises": RaisingDict(city="SE"),
    "a str that raises": RaisingStr("SE"),
    "an int that raises": RaisingInt(7),
    "a list that raises": RaisingList(["SE"]),
}


def document() -> dict[str, Any]:
    """A flag for each operator and for each place that reads a context."""
    one_number = ("greater", "greater_or_equal", "less", "less_or_equal")
    flags: dict[str, Any] = {}
    for op, (_, pool) in OPERATORS.items():
        values = [18] if op in one_number else [1, 18] if op == "between" else list(dict.fromkeys(pool))
        condition = {"attribute": "a", "op": op} | ({"values": values} if values else {})
        deep = condition | {"attribute": ["a", "self", "city"]}
        flags[op] = {"rules": [{"when": [condition], "serve": "on"}, {"when": [deep | {"not": True}], "serve": "on"}]}
        if op in ("in", "contains", "starts_with", "ends_with", "matches"):
            flags[op]["rules"].append({"when": [condition | {"ignore_case": True, "not": True}], "serve": "on"})
    flags["single"] = {"rules": [{"when": [{"attribute": "a", "op": "in", "values": ["SE"]}], "serve": "on"}]}
    flags["excluding"] = {"exclude": [{"attribute": "a", "op": "in", "values": ["SE", 1, True]}], "default": "on"}
    flags["segmented"] = {"rules": [{"when": [{"segment": ["s", "t"], "not": True}], "serve": "on"}]}
    flags["enrolled"] = {"rules": [{"when": [{"enrolled": True}], "serve": "on"}]}
    flags["by attribute"] = {"rules": [{"rollout": {"percent": 50, "by": "a"}, "serve": "on"}], "salt": "s"}
    flags["by path"] = {"rules": [{"rollout": {"percent": 50, "by": ["a", "self"]}, "serve": "on"}], "salt": "s"}
    flags["by unit"] = {"rules": [{"rollout": {"percent": 50}, "serve": "on"}], "targets": {"on": ["user-9"]}}
    flags["layered"] = {"rules": [{"split": [{"variant": "on", "weight": 1}]}]}
    flags["child"] = {"prerequisites": [{"flag": "in", "variants": ["on"]}], "default": "on"}
    return {
        "schema": 1,
        "segments": {
            "s": {"units": ["user-9"], "any": [{"attribute": "a", "op": "contains", "values": ["SE"]}]},
            "t": {"all": [{"attribute": "a", "op": "in", "values": ["SE"]}]},
        },
        "layers": {"l": {"by": "a", "slots": {"layered": [0, 50]}}},
        "holdouts": {"h": {"percent": 1, "flags": ["*"]}},
        "flags": {name.replace(" ", "-"): flag for name, flag in flags.items()},
    }


DOCUMENT = document()
FLAGS = tuple(DOCUMENT["flags"])

#: By name: pytest itself would trip over some of these.
each_hostile = pytest.mark.parametrize("name", HOSTILE)


def contexts(hostile: Any) -> list[Context]:
    """The hostile thing as an attribute, an element of one, the unit, the attributes, and the enrolments."""
    return [
        Context("user-1", {"a": hostile}),
        Context("user-1", {"a": [hostile, "SE"]}),
        Context("user-1", {"a": {"self": hostile}}),
        Context("user-1", {"a": {"self": {"city": hostile}}}),
        Context(hostile, {"a": "SE"}),
        Context("user-1", hostile),
        Context("user-1", {"a": "SE"}, enrolments=hostile),
        Context("user-1", {"a": "SE"}, enrolments={"enrolled": hostile}),
        as_context(hostile),
        as_context({"unit": hostile, "enrolments": hostile, "synthetic": hostile, "a": hostile}),
    ]


@pytest.fixture(scope="module")
def snapshot() -> Any:
    snapshot = compiled.snapshot_of(DOCUMENT, NOW_MS)
    assert not snapshot.definitions.refused
    snapshot.decide_all(Context("warm"))
    return snapshot


def is_answer(decision: Decision, flag: str) -> bool:
    return (
        decision.flag == flag
        and decision.reason in Reason
        and (decision.error_code in set(ErrorCode) if decision.reason == Reason.ERROR else decision.variant is not None)
    )


def fastest_s(call: Callable[[], object]) -> float:
    """The best of five: the slower ones measured the machine."""
    times = []
    for _ in range(5):
        begun = time.perf_counter()
        call()
        times.append(time.perf_counter() - begun)
    return min(times)


@each_hostile
def test_a_snapshot_answers_with_a_reason_for(name: str, snapshot: Any) -> None:
    for context in contexts(HOSTILE[name]):
        for flag in (*FLAGS, "no-such-flag"):
            assert is_answer(snapshot.decide(flag, context), flag)
        assert list(snapshot.decide_all(context)) == list(FLAGS)


@each_hostile
def test_a_snapshot_answers_within_two_milliseconds_for(name: str, snapshot: Any) -> None:
    for context in contexts(HOSTILE[name]):
        for flag in FLAGS:
            assert fastest_s(lambda flag=flag, context=context: snapshot.decide(flag, context)) < SLOWEST_S  # type: ignore[misc]


#: What raises nothing by itself, and only is no JSON value that any flag here wants.
WRONG = [name for name in HOSTILE if "raises" not in name and "claims" not in name]


@pytest.mark.parametrize("name", WRONG)
def test_what_is_only_wrong_is_unknown_or_false_and_never_an_error(name: str, snapshot: Any) -> None:
    for value in (HOSTILE[name], [HOSTILE[name]]):
        context = Context("user-1", {"a": value})
        assert all(decision.reason != Reason.ERROR for decision in snapshot.decide_all(context).values())


@pytest.mark.parametrize("name", ["bytes", "NaN", "None", "Decimal", "complex", "a type", "a cyclic dict", "1 MB"])
def test_an_exclude_that_cannot_be_judged_excludes(name: str, snapshot: Any) -> None:
    assert snapshot.decide("excluding", Context("user-1", {"a": HOSTILE[name]})).reason == Reason.EXCLUDED


@pytest.mark.parametrize("name", WRONG)
def test_explain_never_raises_for(name: str, snapshot: Any) -> None:
    hostile = HOSTILE[name]
    for context in (Context("user-1", {"a": hostile}), Context("user-1", {"a": [hostile]}), Context(hostile)):
        for flag in FLAGS:
            explanation = explain(snapshot, flag, context)
            assert is_answer(explanation.decision, flag)
            assert len(explanation.text()) < 10_000


@each_hostile
def test_forced_answers_that_are_nonsense_are_ignored_or_hold(name: str, snapshot: Any) -> None:
    assert is_answer(snapshot.decide("by-unit", Context("user-1"), {"by-unit": HOSTILE[name]}), "by-unit")


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[flagkit.Client]:
    path: Path = tmp_path_factory.mktemp("hostile") / "flags.json"
    path.write_text(json.dumps(DOCUMENT), encoding="utf-8")
    client = flagkit.Client.from_file(str(path))
    yield client
    client.close(timeout_s=1)


@each_hostile
def test_every_verb_of_a_client_answers_for(name: str, client: flagkit.Client) -> None:
    hostile = HOSTILE[name]
    for given in (hostile, {"unit": hostile}, {"unit": "user-1", "a": hostile}, Context("user-1", hostile)):
        for flag in FLAGS:
            assert is_answer(client.decide(flag, given), flag)
            assert is_answer(client.peek(flag, given), flag)
            assert client.enabled(flag, given) in (True, False)
            assert client.variant(flag, given, default="mine") in ("on", "off", "mine")
            assert client.value(flag, given, default=False) in (True, False)
        assert set(client.decide_all(given)) == set(FLAGS)


@pytest.mark.parametrize("name", [None, 7, b"in", ["in"], {}, object(), "x" * 1_000_000, "\ud800", ""])
def test_a_flag_name_that_is_none_is_answered(name: Any, client: flagkit.Client) -> None:
    assert client.peek(name, "user-1").reason == Reason.ERROR
    assert client.decide(name, "user-1").reason == Reason.ERROR
    assert client.enabled(name, "user-1") is False
