"""What PostHog's flags cost beside native ones of the same meaning: ``pytest tests/bench --benchmark-enable``.

The last test always measures: one ratio a kind of flag, the hash aside. Beside PostHog's own SDK:
tests/bench/dialects.py.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest

from flagkit import Client, Context, sources
from tests.bench.natives import COLOURS, natives
from tests.bench.turns import best_ns, least

Json = dict[str, Any]
PROPERTIES = [
    {"key": "country", "type": "person", "operator": "exact", "value": ["SE", "NO", "DK", "FI"]},
    {"key": "plan", "type": "person", "operator": "exact", "value": ["pro"]},
    {"key": "email", "type": "person", "operator": "ends_with", "value": "@example.com"},
    {"key": "app_version", "type": "person", "operator": "semver_gte", "value": "2.3.0"},
]
POSTHOG: Json = {
    "simple": {"groups": [{"properties": [], "rollout_percentage": 100}]},
    "rollout": {"groups": [{"properties": [], "rollout_percentage": 50}]},
    "targeting": {"groups": [{"properties": PROPERTIES, "rollout_percentage": 25}]},
    "multivariate": {
        "groups": [{"properties": [], "rollout_percentage": 100}],
        "multivariate": {"variants": [{"key": name, "rollout_percentage": 25} for name in COLOURS]},
        "payloads": {name: json.dumps(value) for name, value in COLOURS.items()},
    },
}
NATIVE: Json = natives()
KINDS = list(POSTHOG)
CONTEXT = Context(
    "user-7", {"country": "SE", "plan": "pro", "email": "anna@example.com", "app_version": "2.4.1", "age": 30}
)


def document() -> Json:
    flags = [{"id": 1, "key": key, "active": True, "version": 1, "filters": told} for key, told in POSTHOG.items()]
    return {"flags": flags, "group_type_mapping": {}, "cohorts": {}}


def client(dialect: str) -> Client:
    written = {"schema": 1, "flags": NATIVE} if dialect == "native" else document()
    return Client(source=sources.Static(written, dialect=dialect), sink=None)


@pytest.mark.parametrize("dialect", ["native", "posthog"])
@pytest.mark.parametrize("flag", KINDS)
def test_decide(benchmark: Any, flag: str, dialect: str) -> None:
    benchmark(client(dialect).decide, flag, CONTEXT)


@pytest.mark.parametrize("flag", KINDS)
def test_a_flag_costs_at_most_two_native_ones_and_its_hash(flag: str) -> None:
    own, native, data = client("posthog").decide, client("native").decide, f"{flag}.user-7".encode()

    def ratio() -> float:
        calls = (lambda: own(flag, CONTEXT), lambda: native(flag, CONTEXT), lambda: hashlib.sha1(data).digest())
        whole, plain, hashing = best_ns(*calls)
        return (whole - (hashing if flag != "simple" else 0)) / plain

    found = least(ratio, 2)
    assert found <= 2, f"{found:.2f} times a native flag"
