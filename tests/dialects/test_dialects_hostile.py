"""Whatever comes in, in every dialect: parsing gives definitions or refuses, evaluation gives a decision, in time.

Documents are random JSON, good ones with pieces changed, deep and large ones; contexts hold what an application can
hand in by accident or an attacker on purpose. Runs over all dialects that are registered.
"""

from __future__ import annotations

import json
import math
import random
import time
from collections.abc import Callable, Iterator
from copy import deepcopy
from importlib import import_module
from types import ModuleType
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flagkit import Context
from flagkit.context import as_context
from flagkit.core.model import Definitions
from flagkit.core.snapshot import Snapshot
from flagkit.decision import Decision
from flagkit.dialects import _MODULES, Parsed
from flagkit.errors import DefinitionsError

Json = dict[str, Any]
NOW_MS = 1_764_000_000_000
#: Seconds that one parse, or one evaluation of all flags, may take; a hundred times what they do on a slow machine.
LONGEST_S = 10.0

_RULE = {
    "if": [
        {"and": [{"in": [{"var": "country"}, ["SE", "NO"]]}, {"sem_ver": [{"var": "version"}, ">", "1.0.0"]}]},
        {"fractional": [{"cat": [{"var": "$flagd.flagKey"}, {"var": "email"}]}, ["on", 50], ["off", {"var": "age"}]]},
        {"some": [{"var": "tags"}, {"==": [{"var": ""}, "vip"]}]},
        {"reduce": [{"var": "tags"}, {"cat": [{"var": "accumulator"}, {"var": "current"}]}, ""]},
        {"$ref": "shared"},
    ]
}
_FLAGD: Json = {
    "flags": {
        "a": {"state": "ENABLED", "variants": {"on": True, "off": False}, "defaultVariant": "off", "targeting": _RULE},
        "b": {"state": "DISABLED", "variants": {"x": {"y": [1]}}, "metadata": {"version": "1"}},
        "c": {
            "state": "ENABLED",
            "variants": {"on": 1, "off": 0},
            "defaultVariant": None,
            "targeting": {"if": [{"<": [1, {"+": [{"var": "age"}, {"*": [{"var": "score"}, 2]}]}, 9]}, "on", "off"]},
        },
    },
    "$evaluators": {"shared": {"if": [{"missing": ["email", "a.b"]}, "on", {"substr": [{"var": "email"}, -3, 2]}]}},
    "metadata": {"flagSetId": "s", "version": "1"},
}
_CONDITION = {"attribute": "email", "op": "ends_with", "values": ["@example.com"]}
#: A good document of each dialect that is known here, for changing pieces of it.
GOOD: dict[str, Json] = {
    "flagd": _FLAGD,
    "flagd-v3": _FLAGD,
    "native": {
        "schema": 1,
        "segments": {"team": {"any": [_CONDITION]}, "pilot": {"units": ["user-1"]}},
        "layers": {"l": {"by": "unit", "salt": "s", "slots": {"a": [0, 50]}}},
        "holdouts": {"h": {"percent": 2, "flags": ["*"], "salt": "h"}},
        "flags": {
            "a": {
                "variants": {"on": True, "off": False},
                "off": "off",
                "default": "off",
                "prerequisites": [{"flag": "b", "variants": ["on"]}],
                "targets": {"on": ["user-7"]},
                "rules": [
                    {"name": "team", "when": [{"segment": "team"}], "serve": "on"},
                    {"name": "ramp", "when": [_CONDITION], "rollout": {"percent": 5, "by": "country"}, "serve": "on"},
                    {"name": "all", "split": [{"variant": "on", "weight": 1}, {"variant": "off", "weight": 2}]},
                ],
            },
            "b": {"exclude": [{"attribute": "plan", "op": "in", "values": ["free"]}], "default": "on"},
        },
    },
    "unleash": {
        "version": 2,
        "features": [
            {
                "name": "a",
                "enabled": True,
                "strategies": [
                    {
                        "name": "flexibleRollout",
                        "parameters": {"rollout": "50", "stickiness": "default", "groupId": "a"},
                        "constraints": [{"contextName": "email", "operator": "STR_ENDS_WITH", "values": [".com"]}],
                        "segments": [1],
                        "variants": [{"name": "x", "weight": 500, "payload": {"type": "string", "value": "v"}}],
                    }
                ],
                "dependencies": [{"feature": "b", "enabled": True}],
            },
            {"name": "b", "enabled": True, "strategies": [{"name": "userWithId", "parameters": {"userIds": "1,2"}}]},
        ],
        "segments": [{"id": 1, "constraints": [{"contextName": "age", "operator": "NUM_GT", "value": "5"}]}],
    },
    "posthog": {
        "flags": [
            {
                "id": 1,
                "key": "a",
                "active": True,
                "version": 7,
                "filters": {
                    "groups": [
                        {
                            "properties": [
                                {"key": "email", "value": "x", "operator": "icontains", "type": "person"},
                                {"key": "id", "value": 42, "type": "cohort"},
                            ],
                            "rollout_percentage": 20,
                            "variant": None,
                        }
                    ],
                    "multivariate": {"variants": [{"key": "v", "rollout_percentage": 100}]},
                    "payloads": {"v": '{"a": 1}'},
                },
            }
        ],
        "group_type_mapping": {"0": "company"},
        "cohorts": {"42": {"type": "OR", "values": [{"key": "age", "value": 5, "operator": "gt", "type": "person"}]}},
    },
    "growthbook": {
        "features": {
            "a": {
                "defaultValue": False,
                "rules": [
                    {"id": "r", "condition": {"email": {"$regex": "x+"}, "$or": [{"age": {"$gt": 5}}]}, "force": True},
                    {"key": "e", "variations": [1, 2], "weights": [0.5, 0.5], "hashVersion": 2, "coverage": 0.9},
                    {"parentConditions": [{"id": "b", "condition": {"value": True}}], "force": 1},
                ],
            },
            "b": {
                "defaultValue": True,
                "rules": [
                    {
                        "condition": {
                            "tags": {"$elemMatch": {"$eq": "x"}, "$all": ["x"], "$size": {"$gt": 1}},
                            "$nor": [
                                {"id": {"$inGroup": "g"}},
                                {"version": {"$vgt": "1.0.0"}},
                                {"plan": {"$ini": ["A"]}},
                            ],
                            "$savedGroup": {"id": "h"},
                            "a.b": {"$not": {"$type": "null"}},
                        },
                        "filters": [{"seed": "s", "ranges": [[0, 0.5]], "attribute": "email"}],
                        "force": {"x": [1]},
                        "coverage": 0.5,
                    },
                    {
                        "variations": ["x", "y"],
                        "ranges": [[0, 0.1], [0.5, 1]],
                        "meta": [{"key": "c"}, {"key": "t", "passthrough": True}],
                        "namespace": ["n", 0, 0.9],
                        "hashAttribute": "country",
                    },
                ],
            },
            "c": {"rules": [{"parentConditions": [{"id": "c", "condition": {"value": 1}, "gate": True}]}]},
        },
        "savedGroups": {"g": ["1", 2, None], "h": {"type": "condition", "condition": {"age": {"$lte": 9}}}},
    },
}
_LEAVES: tuple[Any, ...] = (
    None,
    True,
    False,
    0,
    -1,
    2**70,
    1e308,
    "",
    "a",
    "\ud800",
    "x" * 5000,
    [],
    {},
    [[]],
    {"a": {}},
)
DIALECTS = sorted(_MODULES)


def module(dialect: str) -> ModuleType:
    return import_module(_MODULES[dialect])


def parsed(dialect: str, data: bytes, previous: Definitions | None = None) -> Parsed | None:
    """The definitions, or None when the document is refused; nothing else may happen, and not for long."""
    began = time.perf_counter()
    try:
        found = module(dialect).parse(data, previous)
        assert type(found) is Parsed
    except DefinitionsError:
        return None
    finally:
        assert time.perf_counter() - began < LONGEST_S
    return found


def answers(dialect: str, definitions: Definitions, raw: object) -> None:
    """Ask every flag, with ``raw`` as a context of the backend's and of flagkit's."""
    snapshot = Snapshot(definitions, now_ms=lambda: NOW_MS)
    own = getattr(module(dialect), "context", as_context)
    began = time.perf_counter()
    for context in (own(raw), as_context(raw), Context("user-1", raw)):  # type: ignore[arg-type]
        assert type(context) is Context
        for flag in definitions.flags:
            assert type(snapshot.decide(flag, context)) is Decision
    assert time.perf_counter() - began < LONGEST_S


# -- documents


def changed(good: Json, chance: random.Random) -> Any:
    """A copy with a few pieces replaced, removed, doubled or moved."""
    document = json.loads(json.dumps(good))
    for _ in range(chance.choice((1, 1, 2, 5))):
        where = list(_containers(document))
        container = chance.choice(where)
        key = chance.choice(list(container) if isinstance(container, dict) else range(len(container)))
        what = chance.randrange(5)
        if what == 0:
            del container[key]
        elif what == 1:
            container[key] = [container[key], container[key]]
        elif what == 2:
            container[key] = json.loads(json.dumps(chance.choice(where)))
        else:
            container[key] = deepcopy(chance.choice(_LEAVES))  # or a later change would be one of the leaf
        if not document or not list(_containers(document)):
            break
    return document


def _containers(node: Any) -> Iterator[Any]:
    """The lists and objects in a document that hold something."""
    if isinstance(node, (dict, list)) and node:
        yield node
        for item in node.values() if isinstance(node, dict) else node:
            yield from _containers(item)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_good_document_is_taken(dialect: str) -> None:
    if dialect not in GOOD:
        pytest.skip(f"no good document of {dialect} here")
    found = parsed(dialect, json.dumps(GOOD[dialect]).encode())
    assert found is not None
    assert not any(problem.refused for problem in found.problems)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_good_documents_with_pieces_changed_are_parsed_or_refused_and_evaluated(dialect: str) -> None:
    good = GOOD.get(dialect, {})
    start = parsed(dialect, json.dumps(good).encode())
    previous = start.definitions if start else None
    for seed in range(600):
        chance = random.Random(seed)
        if not good:
            break
        found = parsed(dialect, json.dumps(changed(good, chance)).encode(), previous if chance.random() < 0.5 else None)
        if found is not None:
            answers(dialect, found.definitions, chance.choice(CONTEXTS)())


SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
WORDS = st.sampled_from(
    [
        *("flags", "features", "segments", "variants", "state", "targeting", "rules", "enabled", "name", "key"),
        *("strategies", "filters", "groups", "metadata", "condition", "defaultVariant", "defaultValue", "$evaluators"),
        *("$ref", "$or", "$not", "if", "var", "and", "fractional", "reduce", "all", "in", "==", "<"),
    ]
)
JSON = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(WORDS | st.text(max_size=5), inner, max_size=6),
    max_leaves=40,
)


@pytest.mark.parametrize("dialect", DIALECTS)
@settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(document=JSON, head=st.sampled_from(("flags", "features", "")), body=JSON)
def test_random_json_is_parsed_or_refused(dialect: str, document: Any, head: str, body: Any) -> None:
    whole = {**document, head: body} if isinstance(document, dict) and head else document
    found = parsed(dialect, json.dumps(whole).encode("utf-8", "surrogatepass"))
    if found is not None:
        answers(dialect, found.definitions, {"email": "a@example.com", "age": 5})


@pytest.mark.parametrize("dialect", DIALECTS)
@settings(max_examples=100, deadline=None)
@given(data=st.binary(max_size=200))
def test_random_bytes_are_refused(dialect: str, data: bytes) -> None:
    parsed(dialect, data)


def _deep(opening: str, closing: str, times: int, inside: str = "1") -> bytes:
    return (opening * times + inside + closing * times).encode()


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize(
    "data",
    [
        _deep("[", "]", 100_000),
        _deep("[", "]", 700),
        _deep('{"flags":', "}", 100_000),
        _deep('{"flags":', "}", 400),
        b'{"flags":{"f":' + _deep('{"targeting":', "}", 400) + b"}}",
        b'{"features":{"f":' + _deep('{"$not":', "}", 400) + b"}}",
        b'{"flags":' + b"9" * 100_000 + b"}",
        b'{"flags":{"f":{"variants":{"a":' + b"1" * 5000 + b"}}}}",
        b'{"flags":{"' + b"k" * 1_000_000 + b'":{}}}',
        b'{"flags":{"f":1e999},"features":{"f":NaN}}',
        b'{"flags":{"\\ud800":{}},"features":{"\\ud800":{}}}',
    ],
    ids=lambda data: data[:24].decode(),
)
def test_deep_and_huge_documents_are_parsed_or_refused(dialect: str, data: bytes) -> None:
    found = parsed(dialect, data)
    if found is not None:
        answers(dialect, found.definitions, {"a": 1})


# -- contexts


class Raising:
    """Raises whatever is asked of it."""

    def __eq__(self, other: object) -> bool:
        raise RuntimeError("eq")

    def __hash__(self) -> int:
        raise RuntimeError("hash")

    def __str__(self) -> str:
        raise RuntimeError("str")

    __repr__ = __str__

    def __bool__(self) -> bool:
        raise RuntimeError("bool")

    def __len__(self) -> int:
        raise RuntimeError("len")

    def __iter__(self) -> Iterator[Any]:
        raise RuntimeError("iter")

    def __float__(self) -> float:
        raise RuntimeError("float")

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError(name)


class RaisingText(str):
    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        raise RuntimeError("eq")

    def __hash__(self) -> int:
        raise RuntimeError("hash")

    def __str__(self) -> str:
        raise RuntimeError("str")

    def endswith(self, *args: Any) -> bool:
        raise RuntimeError("endswith")


class RaisingMapping(dict[str, Any]):
    def get(self, *args: Any) -> Any:
        raise RuntimeError("get")

    def __getitem__(self, key: str) -> Any:
        raise RuntimeError("getitem")

    def keys(self) -> Any:
        raise RuntimeError("keys")


def _circle() -> Json:
    circle: Json = {"targetingKey": "u", "unit": "u"}
    circle.update(dict.fromkeys(("email", "age", "country", "a"), circle), tags=[circle])
    circle["tags"].append(circle["tags"])
    return circle


def _every(value: Any) -> Callable[[], Json]:
    """A context all of whose attributes are ``value``."""
    names = ("email", "age", "country", "version", "score", "plan", "tags", "a", "id", "userId", "sessionId", "key")
    return lambda: {"targetingKey": "u", "unit": "u", "distinct_id": "u", **dict.fromkeys(names, value)}


ODD: tuple[Any, ...] = (
    *(None, math.nan, math.inf, -math.inf, b"bytes", 10**400, -(10**400), 2**63, 1e308, 5e-324, "", "\ud800", "\0"),
    *(
        "x" * 1_000_000,
        "9" * 1_000_000,
        "1." * 1000,
        "a" * 5000 + "!",
        "-" * 4000,
        object(),
        Raising(),
        RaisingText("a"),
    ),
    *(
        [Raising()],
        {"a": Raising()},
        [[]] * 1000,
        list(range(100_000)),
        {"a": {"b": {"c": {}}}},
        {1: 2},
        (1, 2),
        {1, 2},
    ),
    *(type, lambda: 1, 1j, RaisingMapping(a=1), [["x"] * 100] * 100, float("1e22"), True, "1.2.3-" + "a." * 2000),
)
CONTEXTS: list[Callable[[], object]] = [
    *map(_every, ODD),
    _circle,
    *[lambda value=value: value for value in ODD],  # type: ignore[misc]
    *[lambda value=value: {"targetingKey": value, "unit": value, "distinct_id": value} for value in ODD],  # type: ignore[misc]
    lambda: {Raising.__name__: 1, 5: 6, None: 7, ("a", "b"): 8},
    lambda: Context(Raising(), Raising()),  # type: ignore[arg-type]
    lambda: {"enrolments": Raising(), "synthetic": Raising(), "groups": Raising(), "properties": Raising()},
]


@pytest.mark.parametrize("dialect", DIALECTS)
def test_whatever_a_context_holds_there_is_a_decision(dialect: str) -> None:
    if dialect not in GOOD:
        pytest.skip(f"no good document of {dialect} here")
    found = parsed(dialect, json.dumps(GOOD[dialect]).encode())
    assert found is not None
    for raw in CONTEXTS:
        answers(dialect, found.definitions, raw())
