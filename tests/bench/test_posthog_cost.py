"""What PostHog's flags cost beside native ones of the same meaning: ``pytest tests/bench --benchmark-enable``.

The last test always measures: one ratio a kind of flag, hashes apart, with a wide margin. Beside PostHog's own SDK:
tests/dialects/test_posthog_peers.py.
"""

from __future__ import annotations

import hashlib
import json
import timeit
from typing import Any

import mmh3
import pytest

from flagkit import Client, Context, sources

Json = dict[str, Any]
COLOURS = {name: {"colour": name, "size": 7} for name in "abcd"}
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
WHEN = [
    {"attribute": "country", "op": "in", "values": ["SE", "NO", "DK", "FI"]},
    {"attribute": "plan", "op": "in", "values": ["pro"]},
    {"attribute": "email", "op": "ends_with", "values": ["@example.com"]},
    {"attribute": "app_version", "op": "semver_greater_or_equal", "values": ["2.3.0"]},
]
NATIVE: Json = {
    "simple": {"default": "on"},
    "rollout": {"rules": [{"rollout": {"percent": 50}, "serve": "on"}]},
    "targeting": {"rules": [{"when": WHEN, "rollout": {"percent": 25}, "serve": "on"}]},
    "multivariate": {
        "variants": COLOURS,
        "off": "a",
        "rules": [{"split": [{"variant": name, "weight": 25} for name in COLOURS]}],
    },
}
KINDS = list(POSTHOG)
CONTEXT = Context(
    "user-7", {"country": "SE", "plan": "pro", "email": "anna@example.com", "app_version": "2.4.1", "age": 30}
)


def client(dialect: str) -> Client:
    flags = [{"id": 1, "key": key, "active": True, "version": 1, "filters": told} for key, told in POSTHOG.items()]
    document: Json = {"schema": 1, "flags": NATIVE} if dialect == "native" else {"flags": flags}
    return Client(source=sources.Static(document, dialect=dialect), sink=None)


@pytest.mark.parametrize("dialect", ["native", "posthog"])
@pytest.mark.parametrize("flag", KINDS)
def test_decide(benchmark: Any, flag: str, dialect: str) -> None:
    benchmark(client(dialect).decide, flag, CONTEXT)


@pytest.mark.parametrize("flag", KINDS)
def test_a_flag_costs_no_more_than_a_few_native_ones_but_for_its_hash(flag: str) -> None:
    def cost(call: Any) -> float:
        return min(timeit.repeat(call, number=500, repeat=40))

    def of(dialect: str) -> float:
        decide = client(dialect).decide
        return cost(lambda: decide(flag, CONTEXT))

    data = b"multivariate.user-7"
    dearer = cost(lambda: hashlib.sha1(data).digest()) - cost(lambda: mmh3.mmh3_32_uintdigest(data))
    ratio = (of("posthog") - (dearer if flag != "simple" else 0)) / of("native")
    assert ratio < 4, f"{ratio:.1f} times a native flag"
