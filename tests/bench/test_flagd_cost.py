"""What flagd's flags cost beside native ones of the same meaning: ``pytest tests/bench --benchmark-enable``.

The last test always measures: one ratio a kind of flag. Beside flagd's own library:
tests/bench/dialects.py.
"""

from __future__ import annotations

from typing import Any

import pytest

from flagkit import Client, Context, sources
from tests.bench.natives import COLOURS, natives
from tests.bench.turns import best_ns, least

Json = dict[str, Any]
ON_OFF: Json = {"state": "ENABLED", "variants": {"on": True, "off": False}, "defaultVariant": "off"}
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
NATIVE: Json = natives()
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


@pytest.mark.parametrize("dialect", ["flagd", "flagd-v3"])
@pytest.mark.parametrize("flag", KINDS)
def test_a_flag_costs_at_most_two_native_ones(flag: str, dialect: str) -> None:
    own, native = client(dialect).decide, client("native").decide

    def ratio() -> float:
        whole, plain = best_ns(lambda: own(flag, CONTEXT), lambda: native(flag, CONTEXT))
        return whole / plain

    found = least(ratio, 2)
    assert found <= 2, f"{found:.2f} times a native flag"
