"""A flag of another backend decides its own way; switches, trips, overrides and exposures are seen to around it."""

from __future__ import annotations

from typing import Any

from flagkit.context import Context, as_context
from flagkit.core.explain import explain
from flagkit.core.logic import Answers, Decide, Forced, Now, Parents
from flagkit.core.model import Definitions, FlagDefinition
from flagkit.core.snapshot import Snapshot
from flagkit.decision import Decision, ErrorCode, Reason

USER = Context("user-1")


def longest_first(answers: Answers, now_ms: Now) -> Decide:
    """Long units get ``b``, which this backend calls off; short ones nothing; of times before 1970 it knows nothing."""
    long = answers.serve("b", Reason.TARGETING_MATCH, "long", enabled=False)
    none, failed = answers.otherwise(Reason.DISABLED), answers.fail(ErrorCode.PARSE_ERROR)

    def decide(context: Context | dict[str, Any], forced: Forced, parents: Parents) -> Decision:
        context = as_context(context)
        if now_ms() < 0:
            return failed
        return long if len(context.unit_text or "") > 3 else none

    return decide


def snapshot(now_ms: int = 0, *, enabled: bool = True, **head: Any) -> Snapshot:
    flag = FlagDefinition("f", {"a": 1, "b": 2}, "a", "a", enabled, logic=longest_first, version="7")
    return Snapshot(Definitions({"f": flag}), now_ms=lambda: now_ms, observe=True, **head)


def test_the_logic_decides_and_says_what_is_enabled() -> None:
    decision = snapshot().decide("f", USER)
    assert (decision.variant, decision.value, decision.reason, decision.rule) == (
        "b",
        2,
        Reason.TARGETING_MATCH,
        "long",
    )
    assert (decision.enabled, decision.version, decision._exposed) == (False, "7", set())
    assert snapshot().decide("f", {"unit": "user-1"}).variant == "b"  # type: ignore[arg-type]


def test_no_answer_leaves_it_to_the_caller_without_an_error_and_is_no_exposure() -> None:
    decision = snapshot().decide("f", Context("u"))
    assert (decision.variant, decision.reason, decision.error_code, decision._exposed) == (
        None,
        Reason.DISABLED,
        None,
        None,
    )


def test_an_error_of_its_own_is_one() -> None:
    assert snapshot(now_ms=-1).decide("f", USER).error_code is ErrorCode.PARSE_ERROR


def test_off_trips_age_and_overrides_are_stronger() -> None:
    assert snapshot(enabled=False).decide("f", USER).reason is Reason.DISABLED
    assert snapshot(stale=frozenset({"f"})).decide("f", USER).reason is Reason.STALE
    assert snapshot().decide("f", USER, {"f": "a"}).reason is Reason.OVERRIDE
    tripped = snapshot(trips={"f": {"b": "a"}}).decide("f", USER)
    assert (tripped.variant, tripped.reason, tripped.assigned) == ("a", Reason.GUARD, "b")


def test_explain_names_the_backend_s_reason() -> None:
    (step,) = explain(snapshot(), "f", USER).steps
    assert (step.name, step.decided) == ("rules", True)
    assert "TARGETING_MATCH" in step.outcome
