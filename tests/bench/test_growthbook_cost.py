"""What GrowthBook's features cost beside native flags of the same meaning: ``pytest tests/bench --benchmark-enable``.

The last test always measures: one ratio a kind of feature, the hash aside. Beside GrowthBook's own library:
tests/bench/dialects.py.
"""

from __future__ import annotations

from typing import Any

import pytest

from flagkit import Client, Context, sources
from flagkit.dialects.growthbook_hash import bucketing
from tests.bench.turns import best_ns, least

Json = dict[str, Any]
TARGETS: Json = {
    "country": {"$in": ["SE", "NO", "DK", "FI"]},
    "plan": "pro",
    "email": {"$regex": "@example.com$"},
    "app_version": {"$vgte": "2.3.0"},
}
GATE: Json = {"id": "simple", "condition": {"value": True}, "gate": True}
GROWTHBOOK: Json = {
    "simple": {"defaultValue": True},
    "targeting": {"defaultValue": False, "rules": [{"condition": TARGETS, "force": True}]},
    "group": {"defaultValue": False, "rules": [{"condition": {"id": {"$inGroup": "members"}}, "force": True}]},
    "gate": {"defaultValue": False, "rules": [{"parentConditions": [GATE], "force": True}]},
    "rollout": {"defaultValue": False, "rules": [{"force": True, "coverage": 0.5, "hashVersion": 2}]},
    "experiment": {"defaultValue": "a", "rules": [{"variations": ["a", "b", "c", "d"], "hashVersion": 2}]},
}
WHEN = [
    {"attribute": "country", "op": "in", "values": ["SE", "NO", "DK", "FI"]},
    {"attribute": "plan", "op": "in", "values": ["pro"]},
    {"attribute": "email", "op": "ends_with", "values": ["@example.com"]},
    {"attribute": "app_version", "op": "semver_greater_or_equal", "values": ["2.3.0"]},
]
NATIVE: Json = {
    "simple": {"default": "on"},
    "targeting": {"rules": [{"when": WHEN, "serve": "on"}]},
    "group": {"rules": [{"when": [{"segment": "members"}], "serve": "on"}]},
    "gate": {"prerequisites": [{"flag": "simple", "variants": ["on"]}], "default": "on"},
    "rollout": {"rules": [{"rollout": {"percent": 50}, "serve": "on"}]},
    "experiment": {
        "variants": {name: name for name in "abcd"},
        "off": "a",
        "rules": [{"split": [{"variant": name, "weight": 25} for name in "abcd"]}],
    },
}
HASHED = ("rollout", "experiment")
KINDS = list(GROWTHBOOK)
MEMBERS = [f"user-{number}" for number in range(1000)]
CONTEXT = Context(
    "user-7", {"country": "SE", "plan": "pro", "email": "anna@example.com", "app_version": "2.4.1", "age": 30}
)

WITH_ID = Context("user-7", {**CONTEXT.attributes, "id": "user-7"})


def document() -> Json:
    return {"features": GROWTHBOOK, "savedGroups": {"members": MEMBERS}}


def client(dialect: str) -> Client:
    written = document()
    if dialect == "native":
        written = {"schema": 1, "flags": NATIVE, "segments": {"members": {"units": MEMBERS}}}
    return Client(source=sources.Static(written, dialect=dialect), sink=None)


@pytest.mark.parametrize("dialect", ["native", "growthbook"])
@pytest.mark.parametrize("flag", KINDS)
def test_decide(benchmark: Any, flag: str, dialect: str) -> None:
    benchmark(client(dialect).decide, flag, CONTEXT)


@pytest.mark.parametrize("version", [1, 2])
def test_hash(benchmark: Any, version: int) -> None:
    bucket = bucketing("rollout", version)
    assert bucket is not None
    benchmark(bucket, b"user-7")


@pytest.mark.parametrize("context", [CONTEXT, WITH_ID], ids=["the unit is the id", "an id of its own"])
@pytest.mark.parametrize("flag", KINDS)
def test_a_feature_costs_at_most_two_native_flags_and_its_hash(flag: str, context: Context) -> None:
    bucket = bucketing(flag, 2)
    assert bucket is not None
    own, native = client("growthbook").decide, client("native").decide

    def ratio() -> float:
        calls = (lambda: own(flag, context), lambda: native(flag, context), lambda: bucket(b"user-7"))
        whole, plain, hashing = best_ns(*calls)
        return (whole - (hashing if flag in HASHED else 0)) / plain

    found = least(ratio, 2)
    assert found <= 2, f"{found:.2f} times a native flag"
