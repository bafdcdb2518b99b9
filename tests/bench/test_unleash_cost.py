"""What Unleash's features cost beside native flags of the same meaning: ``pytest tests/bench --benchmark-enable``.

The last test always measures: one ratio a kind of feature. Beside Unleash's own SDK:
tests/bench/dialects.py.
"""

from __future__ import annotations

from typing import Any

import pytest

from flagkit import Client, Context, sources
from tests.bench.natives import COLOURS, natives
from tests.bench.turns import best_ns, least

Json = dict[str, Any]
TARGETS: list[Json] = [
    {"contextName": "country", "operator": "IN", "values": ["SE", "NO", "DK", "FI"]},
    {"contextName": "plan", "operator": "IN", "values": ["pro"]},
    {"contextName": "email", "operator": "STR_ENDS_WITH", "values": ["@example.com"]},
    {"contextName": "app_version", "operator": "SEMVER_GT", "value": "2.2.9"},
]
SHARES = [
    {"name": name, "weight": 250, "payload": {"type": "json", "value": f'{{"colour": "{name}", "size": 7}}'}}
    for name in COLOURS
]


def strategy(percent: int = 100, *constraints: Json) -> Json:
    parameters = {"rollout": str(percent), "stickiness": "default", "groupId": "group"}
    return {"name": "flexibleRollout", "parameters": parameters, "constraints": list(constraints)}


UNLEASH: Json = {
    "simple": {"strategies": [{"name": "default"}]},
    "rollout": {"strategies": [strategy(50)]},
    "targeting": {"strategies": [strategy(25, *TARGETS)]},
    "multivariate": {"strategies": [{"name": "default"}], "variants": SHARES},
}
NATIVE: Json = natives("semver_greater", "2.2.9")
KINDS = list(UNLEASH)
PROPERTIES = {"country": "SE", "plan": "pro", "email": "anna@example.com", "app_version": "2.4.1", "age": "30"}
CONTEXT = Context("user-7", PROPERTIES)


def document() -> Json:
    return {"version": 2, "features": [{"name": name, "enabled": True, **told} for name, told in UNLEASH.items()]}


def client(dialect: str) -> Client:
    written = {"schema": 1, "flags": NATIVE} if dialect == "native" else document()
    return Client(source=sources.Static(written, dialect=dialect), sink=None)


@pytest.mark.parametrize("dialect", ["native", "unleash"])
@pytest.mark.parametrize("flag", KINDS)
def test_decide(benchmark: Any, flag: str, dialect: str) -> None:
    benchmark(client(dialect).decide, flag, CONTEXT)


@pytest.mark.parametrize("flag", KINDS)
def test_a_feature_costs_at_most_two_native_flags(flag: str) -> None:
    own, native = client("unleash").decide, client("native").decide

    def ratio() -> float:
        whole, plain = best_ns(lambda: own(flag, CONTEXT), lambda: native(flag, CONTEXT))
        return whole / plain

    found = least(ratio, 2)
    assert found <= 2, f"{found:.2f} times a native flag"
