"""tests/spec/decisions.json, asked of the reference interpreter and of the compiled engine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from flagkit.decision import ErrorCode, Reason
from tests.reference import compiled, interpreter, operators, standing

VECTORS = json.loads((Path(__file__).parents[1] / "spec" / "decisions.json").read_text(encoding="utf-8"))["vectors"]
#: Found by other means than a document and a context: by a trip, by the caller's type, or by a bug.
ELSEWHERE = {Reason.CACHED, Reason.GUARD, ErrorCode.PROVIDER_NOT_READY, ErrorCode.TYPE_MISMATCH, ErrorCode.GENERAL}

each_vector = pytest.mark.parametrize("vector", VECTORS, ids=[vector["name"] for vector in VECTORS])


def now_ms(vector: dict[str, Any]) -> int:
    at = operators.instant(vector.get("now", "2026-12-01T12:00:00Z"))
    assert at is not None
    return int(at * 1000)


def context(vector: dict[str, Any]) -> dict[str, Any]:
    return {"attributes": {}, **vector["context"]}


def stale(vector: dict[str, Any]) -> frozenset[str]:
    return standing.stale_flags(vector["document"], vector.get("unconfirmed_s", 0))


def written_out(answer: dict[str, Any]) -> dict[str, Any]:
    return {"error_code": None, "rule": None, "analysable": False, "enabled": False} | answer


def test_the_vectors_cover_every_reason_and_every_error_code() -> None:
    answers = [answer for vector in VECTORS for answer in vector["expect"].values()]
    assert {answer["reason"] for answer in answers} == set(Reason) - ELSEWHERE
    assert {answer["error_code"] for answer in answers if "error_code" in answer} == set(ErrorCode) - ELSEWHERE


@each_vector
def test_the_interpreter_agrees_with(vector: dict[str, Any]) -> None:
    for flag, answer in vector["expect"].items():
        met = interpreter.decide(
            vector["document"], flag, context(vector), now_ms(vector), vector.get("forced"), stale(vector)
        )
        assert met == written_out(answer)


@each_vector
def test_the_engine_agrees_with(vector: dict[str, Any]) -> None:
    snapshot = compiled.snapshot_of(vector["document"], now_ms(vector), stale(vector))
    for flag, answer in vector["expect"].items():
        assert compiled.decided(snapshot, flag, context(vector), vector.get("forced")) == written_out(answer)
