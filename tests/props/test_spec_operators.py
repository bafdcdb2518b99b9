"""tests/spec/operators.json, asked of the reference interpreter and of the compiled engine.

The engine has no public operators: each vector becomes a flag that says which of true, false and unknown it met.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.reference import compiled, interpreter, operators, pools

VECTORS = json.loads((Path(__file__).parents[1] / "spec" / "operators.json").read_text(encoding="utf-8"))["vectors"]
MET = {"yes": True, "no": False, "neither": None}


def condition(vector: dict[str, Any]) -> dict[str, Any]:
    condition = {name: vector[name] for name in ("op", "values", "ignore_case") if name in vector}
    if not condition["values"]:
        del condition["values"]
    return condition | {"attribute": "attribute"}


def written_out(value: Any) -> Any:
    """``value`` with its long strings."""
    if isinstance(value, list):
        return [written_out(item) for item in value]
    if isinstance(value, dict) and "$repeat" in value:
        text, times = value["$repeat"]
        return text * times
    return value


def context(vector: dict[str, Any]) -> dict[str, Any]:
    return {"attributes": {"attribute": written_out(vector["attribute"])} if "attribute" in vector else {}}


def document(vectors: list[dict[str, Any]]) -> dict[str, Any]:
    """One flag for each vector: ``yes`` when its condition is true, ``no`` when false, ``neither`` when unknown."""
    flags = {}
    for index, vector in enumerate(vectors):
        rules = [
            {"when": [condition(vector)], "serve": "yes"},
            {"when": [condition(vector) | {"not": True}], "serve": "no"},
        ]
        flags[f"v{index}"] = {"variants": {"yes": 1, "no": 0, "neither": None}, "off": "neither", "rules": rules}
    return {"schema": 1, "flags": flags}


def test_every_operator_has_vectors_for_true_false_and_unknown() -> None:
    outcomes: dict[str, set[bool | None]] = {}
    for vector in VECTORS:
        outcomes.setdefault(vector["op"], set()).add(vector["expect"])
    assert set(outcomes) == set(pools.OPERATORS)
    assert outcomes.pop("exists") == {True, False}
    assert all(met == {True, False, None} for met in outcomes.values())


def test_the_interpreter_agrees_with_every_operator_vector() -> None:
    for vector in VECTORS:
        attribute = written_out(vector["attribute"]) if "attribute" in vector else operators.MISSING
        ignore_case = vector.get("ignore_case", False)
        met = operators.outcome(vector["op"], vector["values"], attribute, ignore_case=ignore_case, now_ms=pools.NOW_MS)
        assert met is vector["expect"], vector


def test_the_interpreter_s_negation_agrees_with_every_operator_vector() -> None:
    whole = document(VECTORS)
    for index, vector in enumerate(VECTORS):
        one = {"schema": 1, "flags": {f"v{index}": whole["flags"][f"v{index}"]}}
        answer = interpreter.decide(one, f"v{index}", context(vector), pools.NOW_MS)
        assert MET[answer["variant"]] is vector["expect"], vector


@pytest.mark.parametrize("op", sorted(pools.OPERATORS))
def test_the_engine_agrees_with_every_vector_of(op: str) -> None:
    vectors = [vector for vector in VECTORS if vector["op"] == op]
    snapshot = compiled.snapshot_of(document(vectors), pools.NOW_MS)
    assert not snapshot.definitions.refused
    met = [
        MET.get(compiled.decided(snapshot, f"v{index}", context(vector))["variant"], "nothing")
        for index, vector in enumerate(vectors)
    ]
    wrong = [(vector, said) for vector, said in zip(vectors, met, strict=True) if said is not vector["expect"]]
    assert wrong == []


@pytest.mark.parametrize("op", ["in", "greater", "between"])
def test_a_number_beyond_every_float_costs_no_more_than_its_flag(op: str) -> None:
    values = [1, 10**400] if op == "between" else [10**400]
    condition = {"attribute": "attribute", "op": op, "values": values}
    flags = {"huge": {"rules": [{"when": [condition], "serve": "on"}]}, "other": {"default": "on"}}
    snapshot = compiled.snapshot_of({"schema": 1, "flags": flags}, pools.NOW_MS)
    assert compiled.decided(snapshot, "other", {"unit": "user-1"})["variant"] == "on"
