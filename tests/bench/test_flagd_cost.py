"""What flagd's flags cost beside native ones of the same meaning: ``pytest tests/bench --benchmark-enable``.

The last test always measures: one ratio a kind of flag, with a wide margin. Beside flagd's own library:
tests/dialects/test_flagd_peers.py.
"""

from __future__ import annotations

import timeit
from typing import Any

import pytest

from flagkit import Client, Context, sources

Json = dict[str, Any]
ON_OFF: Json = {"state": "ENABLED", "variants": {"on": True, "off": False}, "defaultVariant": "off"}
COLOURS = {name: {"colour": name, "size": 7} for name in "abcd"}
TARGETS = [
    {"in": [{"var": "country"}, ["SE", "NO", "DK", "FI"]]},
    {"in": [{"var": "plan"}, ["pro"]]},
    {"ends_with": [{"var": "email"}, "@example.com"]},
    {"sem_ver": [{"var": "app_version"}, ">=", "2.3.0"]},
]
FLAGD: Json = {
    "simple": {**ON_OFF, "defaultVariant": "on"},
    "rollout": {**ON_OFF, "targeting": {"fractional": [["on", 50], [None, 50]]}},
    "targeting": {**ON_OFF, "targeting": {"if": [{"and": TARGETS}, {"fractional": [["on", 25], [None, 75]]}]}},
    "multivariate": {
        **ON_OFF,
        "variants": COLOURS,
        "defaultVariant": "a",
        "targeting": {"fractional": [[name, 25] for name in "abcd"]},
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
        "rules": [{"split": [{"variant": name, "weight": 25} for name in "abcd"]}],
    },
}
KINDS = list(FLAGD)
CONTEXT = Context(
    "user-7", {"country": "SE", "plan": "pro", "email": "anna@example.com", "app_version": "2.4.1", "age": 30}
)


def client(dialect: str) -> Client:
    document = {"schema": 1, "flags": NATIVE} if dialect == "native" else {"flags": FLAGD}
    return Client(source=sources.Static(document, dialect=dialect), sink=None)


@pytest.mark.parametrize("dialect", ["native", "flagd", "flagd-v3"])
@pytest.mark.parametrize("flag", KINDS)
def test_decide(benchmark: Any, flag: str, dialect: str) -> None:
    benchmark(client(dialect).decide, flag, CONTEXT)


@pytest.mark.parametrize("flag", KINDS)
def test_a_flag_costs_no_more_than_a_few_native_ones(flag: str) -> None:
    def cost(dialect: str) -> float:
        decide = client(dialect).decide
        return min(timeit.repeat(lambda: decide(flag, CONTEXT), number=500, repeat=40))

    ratio = cost("flagd") / cost("native")
    assert ratio < 4, f"{ratio:.1f} times a native flag"
