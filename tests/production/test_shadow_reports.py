"""What is told of shadow runs: to ``publish``, in the status, as events; and what is not."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from shadows import Bench, eventually

from flagkit import ConfigError, ShadowPolicy
from flagkit.errors import ShadowMismatch
from flagkit.production.shadow_compare import Judge
from flagkit.production.shadow_result import Observation, ShadowResult, place_of

JUDGE = Judge(b"a key")


@pytest.fixture
def bench() -> Iterator[Bench]:
    bench = Bench()
    yield bench
    bench.client.close()


def fails(error: BaseException) -> Callable[..., Any]:
    def function(*_: Any) -> Any:
        raise error

    return function


def judged(control: Any, candidate: Any, **policy: Any) -> ShadowResult:
    def seen(what: Any) -> Observation:
        return Observation(exception=what) if isinstance(what, BaseException) else Observation(what)

    blank = ShadowResult("f", "unjudged", seen(control), seen(candidate))
    return JUDGE.judge(ShadowPolicy(**policy), blank)


# -- comparing


@pytest.mark.parametrize(
    ("control", "candidate", "outcome"),
    [
        (1, 1, "match"),
        (1, 1.0, "match"),
        ([1, {"a": 2}], [1, {"a": 2}], "match"),
        (1, 2, "mismatch"),
        (None, 0, "mismatch"),
        (1, ValueError(), "error"),
        (ValueError(), 1, "error"),
        (ValueError("one"), ValueError("another"), "match"),
        (ValueError(), TypeError(), "error"),
    ],
)
def test_results_are_compared_by_equality_and_errors_by_type(control: Any, candidate: Any, outcome: str) -> None:
    assert judged(control, candidate).outcome == outcome


def test_how_results_and_errors_are_compared_may_be_given() -> None:
    assert judged("ANN", "ann", compare=lambda a, b: a.lower() == b.lower()).outcome == "match"
    assert judged(1, 2, compare=lambda *_: True).outcome == "match"  # it is enough to see it run

    def same_text(control: BaseException, candidate: BaseException) -> bool:
        return str(control) == str(candidate)

    assert judged(ValueError("x"), TypeError("x"), compare_errors=same_text).outcome == "match"
    assert judged(ValueError("x"), ValueError("y"), compare_errors=same_text).outcome == "error"


def test_a_mismatch_that_is_known_is_ignored() -> None:
    def ignore(control: int, candidate: int) -> bool:
        return candidate < 0

    assert judged(1, -1, ignore=ignore).outcome == "ignored"
    assert judged(1, -1, ignore=[lambda *_: False, ignore]).outcome == "ignored"
    assert judged(1, 2, ignore=[ignore]).outcome == "mismatch"
    assert judged(1, ValueError(), ignore=lambda *_: True).outcome == "error"  # only values are ever ignored
    assert judged(1, 1, ignore=fails(ValueError())).failures == ()  # and only where they differ


@pytest.mark.parametrize(
    ("policy", "outcome", "failure"),
    [
        ({"compare": fails(TypeError("secret"))}, "unjudged", "compare: TypeError"),
        ({"ignore": fails(LookupError("secret"))}, "mismatch", "ignore: LookupError"),
        ({"clean": fails(ValueError("secret"))}, "mismatch", "clean: ValueError"),
    ],
)
def test_a_function_of_the_policy_that_fails_is_named(policy: Any, outcome: str, failure: str) -> None:
    result = judged(1, 2, **policy)
    assert result.outcome == outcome
    assert set(result.failures) == {failure}


def test_an_equality_that_cannot_tell_is_a_failure_of_compare() -> None:
    class Array:
        def __eq__(self, other: object) -> Any:
            return self

        def __bool__(self) -> bool:
            raise ValueError("ambiguous")

        __hash__ = None  # type: ignore[assignment]

    assert judged(Array(), Array()).failures == ("compare: ValueError",)


def test_a_function_that_asks_for_the_end_of_the_process_does_not_get_it(bench: Bench) -> None:
    for setting in ("compare", "ignore", "clean", "about", "publish"):
        for mode in ("inline", "pool"):
            done = bench.shadow(lambda: 1, lambda: 2, mode=mode, **{setting: fails(SystemExit())})
            assert done() == 2
            if setting != "publish":
                bench.result()
    eventually(lambda: bench.status.failures.get("publish: SystemExit") == 2)
    assert bench.status.failures["about: SystemExit"] == 2
    assert bench.status.failures["compare: SystemExit"] == 6


class Panic(BaseException):
    """As extension modules raise it that are written in Rust."""


@pytest.mark.parametrize("error", [SystemExit, Panic])
@pytest.mark.parametrize("setting", ["when", "copy", "copy_result", "after"])
def test_nothing_that_the_policy_calls_on_the_callers_thread_changes_the_call(
    bench: Bench, setting: str, error: type[BaseException]
) -> None:
    mode = "after" if setting == "after" else "pool"
    charged: list[int] = []
    pay = bench.shadow(lambda: 1, lambda: charged.append(1) or 2, mode=mode, **{setting: fails(error())})
    assert pay() == 2
    assert charged == [1]
    ((failure, count),) = bench.status.failures.items()
    assert failure.startswith(f"{setting}: ")
    assert (failure.endswith(error.__name__), count) == (True, 1)
    assert sum(bench.status.dropped.values()) == bench.status.sampled == 1


def test_a_context_that_cannot_be_made_shadows_nothing_and_is_named() -> None:
    bench = Bench({"f": {"rules": [{"name": "some", "rollout": {"percent": 50}, "serve": "on"}]}})
    for error in (LookupError("secret"), SystemExit("secret"), Panic("secret")):
        shadowed = bench.client.shadow("f", lambda: 1, context=fails(error), policy=bench.policy())(lambda: 2)
        assert shadowed() == 2
    kinds = ["context: LookupError", "context: SystemExit", "context: test_shadow_reports.Panic"]
    assert (sorted(bench.status.failures), bench.status.sampled) == (kinds, 0)
    (event,) = bench.events()
    assert sorted(event["failures"]) == kinds
    bench.client.close()


class Rude(dict[str, Any]):
    """A context that fails when it is looked at."""

    def __iter__(self) -> Any:
        raise Panic

    keys = __iter__


def test_a_context_that_cannot_be_read_changes_no_call_and_is_named(bench: Bench) -> None:
    for mode in ("pool", "inline"):
        assert (
            bench.client.shadow("f", lambda: 1, context=Rude(unit="u"), policy=bench.policy(mode=mode))(lambda: 2)()
            == 2
        )
    assert bench.status.failures == {"context: test_shadow_reports.Panic": 2}


def test_whoever_ends_the_callers_call_is_heard_all_the_same(bench: Bench) -> None:
    for setting in ("when", "copy", "copy_result"):
        with pytest.raises(KeyboardInterrupt):
            bench.shadow(lambda: 1, lambda: 2, **{setting: fails(KeyboardInterrupt())})()
    with pytest.raises(KeyboardInterrupt):
        bench.client.shadow("f", lambda: 1, context=fails(KeyboardInterrupt()))(lambda: 2)()


@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize("random", [0.1, 0.9])
def test_an_interrupt_while_the_result_is_copied_keeps_no_room(random: float, asynchronous: bool) -> None:
    bench = Bench(random=random)

    async def control() -> int:
        return 2

    policy = {"mode": "inline", "max_running": 1, "copy_result": fails(KeyboardInterrupt())}
    shadowed = bench.shadow(lambda: 1, control if asynchronous else lambda: 2, **policy)
    with pytest.raises(KeyboardInterrupt):
        (lambda: shadowed().send(None) if asynchronous else shadowed())()
    assert (dict(bench.status.dropped), bench.status.pending) == ({"interrupted": 1}, 0)
    assert len(bench.desk()._room) == 1
    bench.client.close()


def test_a_control_that_gives_back_something_to_await_is_not_compared(bench: Bench) -> None:
    async def total() -> int:
        return 2

    for mode in ("pool", "inline"):
        shadowed = bench.shadow(lambda: 2, lambda: total(), mode=mode)
        assert asyncio.run(shadowed()) == 2
    assert dict(bench.status.dropped) == {"not_awaited": 2}
    assert bench.status.outcomes == {}


def test_a_coroutine_candidate_of_a_plain_control_is_refused_with_what_to_do(bench: Bench) -> None:
    async def total() -> int:
        return 2

    with pytest.raises(ConfigError, match="make the control ``async def``"):
        bench.shadow(total, lambda: total())


@pytest.mark.parametrize("made", ["a word", None, 7])
def test_what_is_no_exception_is_not_raised_for_a_mismatch(bench: Bench, made: Any) -> None:
    with pytest.raises(ShadowMismatch):
        bench.shadow(lambda: 1, lambda: 2, raise_on_mismatch=lambda _: made)()


# -- where they differ


@pytest.mark.parametrize(
    ("control", "candidate", "paths"),
    [
        (1, 2, ["$"]),
        ({"a": {"b": [1, 2]}}, {"a": {"b": [1, 3]}}, ["$.a.b[1]"]),
        ({"a": 1}, {"b": 1}, ["$.a", "$.b"]),
        ([1, 2, 3], [1], ["$[1]", "$[2]"]),
        ((1, "x"), (1, "y"), ["$[1]"]),
        ([1], (1,), ["$"]),
        ({"ann@example.com": 1}, {"ann@example.com": 2}, ["$[str]"]),
        ({7: 1}, {7: 2}, ["$[int]"]),
        (list(range(100)), [0] * 100, [f"$[{index}]" for index in range(1, 11)]),
    ],
)
def test_a_mismatch_is_told_as_paths(control: Any, candidate: Any, paths: list[str]) -> None:
    assert sorted(place.path for place in judged(control, candidate).differences) == sorted(paths)


def test_nan_agrees_with_nothing_unless_compare_says_so() -> None:
    def one() -> list[float]:
        return [float("nan")]

    def alike(control: list[float], candidate: list[float]) -> bool:
        return all(a == b or (a != a and b != b) for a, b in zip(control, candidate, strict=True))

    result = judged(one(), one())
    (place,) = result.differences
    assert (result.outcome, place.path) == ("mismatch", "$[0]")
    assert place.control == place.candidate  # a digest on both sides that is the same: it is told by its text
    assert judged(one(), one(), compare=alike).outcome == "match"


def test_values_are_told_as_digests_which_are_alike_for_the_same_value() -> None:
    (first,), (second,) = judged("ann", "bo").differences, judged("cy", "bo").differences
    assert first.candidate == second.candidate
    assert first.control != second.control
    assert first.control.startswith("str #")
    assert "ann" not in repr(first)
    assert JUDGE.told([1, 2]) == "list of 2"
    assert JUDGE.told(object()) == "object"
    assert Judge().told("ann") != Judge().told("ann")  # another process, another key: nobody can look one up


@pytest.mark.parametrize("count", [0, 1])
def test_the_look_for_differences_is_bounded(count: int) -> None:
    deep: Any = 1
    other: Any = 2
    for _ in range(200):
        deep, other = [deep], [other]
    assert [place.path for place in judged(deep, other).differences] == ["$" + "[0]" * 20]
    wide = [0] * 1_000_000
    assert judged(wide, [*wide[1:], 1]).differences == ()  # beyond the steps that are taken
    circle: list[Any] = []
    circle.append(circle)
    assert judged([circle, count], [circle, 2]).differences[0].path == "$[1]"


# -- told


def test_publish_gets_both_with_their_times(bench: Bench) -> None:
    def control(x: int) -> int:
        bench.clock.advance(0.25)
        return x

    def candidate(x: int) -> int:
        bench.clock.advance(0.5)
        return x + 1

    desk = bench.desk()
    desk.random = lambda: 0.9
    cpu = iter(range(100))
    desk.cpu_s = lambda: float(next(cpu))
    bench.shadow(candidate, control, mode="inline", about=lambda x: {"x": x}, clean=lambda value: value * 100)(7)
    result = bench.result()
    assert (result.control.value, result.control.cleaned, result.control.wall_s) == (7, 700, 0.25)
    assert (result.candidate.value, result.candidate.cleaned, result.candidate.wall_s) == (8, 800, 0.5)
    assert (result.control.cpu_s, result.candidate.cpu_s) == (1.0, 1.0)
    assert (result.about, result.first, result.matched) == ({"x": 7}, "control", False)
    status = bench.status
    assert status.control_p50_s == pytest.approx(0.25, rel=0.02)
    assert status.candidate_p99_s == pytest.approx(0.5, rel=0.02)
    assert (status.control_cpu_s, status.candidate_cpu_s) == (1.0, 1.0)


def test_each_event_has_the_cpu_time_of_both_since_the_one_before(bench: Bench) -> None:
    now_s = [0.0]

    def takes(cpu_s: float) -> Callable[[], int]:
        def function() -> int:
            now_s[0] += cpu_s
            return int(cpu_s)

        return function

    bench.desk().cpu_s = lambda: now_s[0]
    shadowed = bench.shadow(takes(2.0), takes(1.0), mode="inline")
    for calls in (1, 3):
        for _ in range(calls):
            shadowed()
        event = bench.events()[-1]
        assert (event["control_cpu_s"], event["candidate_cpu_s"]) == (1.0 * calls, 2.0 * calls)
        assert {(each["control_cpu_s"], each["candidate_cpu_s"]) for each in event["examples"]} == {(1.0, 2.0)}
    assert (bench.status.control_cpu_s, bench.status.candidate_cpu_s) == (4.0, 8.0)


def test_a_publish_that_fails_is_named_and_changes_nothing(bench: Bench) -> None:
    assert bench.shadow(lambda: 1, lambda: 1, mode="inline", publish=fails(OSError("secret")))() == 1
    assert (bench.status.outcomes, bench.status.failures) == ({"match": 1}, {"publish: OSError": 1})


def test_an_error_is_told_by_type_and_place_and_never_by_its_message(bench: Bench) -> None:
    bench.shadow(fails(ValueError("card 4111-1111")), lambda: 1, mode="inline")()
    result = bench.result()
    assert str(result.candidate.exception) == "card 4111-1111"  # publish is the application's own
    (error,) = bench.status.errors
    assert error.startswith("ValueError at production/test_shadow_reports.py:")
    assert error.endswith(" in function")
    told = json.dumps(bench.events()) + repr(bench.client.status) + repr(result)
    assert error in told
    assert "4111" not in told
    assert place_of(ValueError("never raised")) == "ValueError"


def test_values_are_in_no_event_status_or_repr_unless_clean_gives_them(bench: Bench) -> None:
    def secret() -> Any:
        return {"token": "s3cret-1"}

    bench.shadow(lambda: {"token": "s3cret-2"}, secret, mode="inline")()
    told = json.dumps(bench.events()) + repr(bench.client.status) + repr(bench.result())
    assert "$.token" in told
    assert "s3cret" not in told
    bench.shadow(lambda: {"token": "s3cret-2"}, secret, mode="inline", clean=lambda value: len(value["token"]))()
    (example,) = bench.events()[-1]["examples"]
    said = {"outcome": "mismatch", "first": example["first"], "control": "8", "candidate": "8"}
    assert {field: value for field, value in example.items() if not field.endswith("_s")} == said
    assert {field for field in example if field.endswith("_s")} == {
        *("control_wall_s", "control_cpu_s", "candidate_wall_s", "candidate_cpu_s")
    }


def test_a_cleaned_value_is_cut_and_one_without_json_told_by_type(bench: Bench) -> None:
    bench.shadow(lambda: 1, lambda: 2, mode="inline", clean=lambda value: "x" * 10**6 if value == 1 else {object()})()
    (example,) = bench.events()[0]["examples"]
    assert (len(example["candidate"]), example["control"]) == (512, "<set>")


def test_a_hot_path_makes_one_event_an_interval_with_a_few_examples(bench: Bench) -> None:
    shadowed = bench.shadow(lambda x: x % 2, lambda x: 0, mode="inline", publish=None)
    for number in range(1000):
        shadowed(number)
    (event,) = bench.events()
    assert event["feature_flag.key"] == "f"
    assert (event["sampled"], event["outcomes"]) == (1000, {"match": 500, "mismatch": 500})
    assert len(event["examples"]) == 3
    assert {"control_p50_s", "control_p99_s", "candidate_p50_s", "candidate_p99_s"} <= event.keys()
    status = bench.status
    assert (event["control_cpu_s"], event["candidate_cpu_s"]) == (status.control_cpu_s, status.candidate_cpu_s)
    assert len(bench.events()) == 1  # nothing new: no event
    shadowed(1)
    assert bench.events()[-1]["outcomes"] == {"mismatch": 1}
    account = bench.client.status.account
    assert account is not None
    assert account.recorded == 2


def test_the_background_thread_sends_summaries_by_itself(bench: Bench) -> None:
    bench.shadow(lambda: 1, lambda: 1, mode="inline")()
    assert bench.client._shadowing is not None
    assert bench.client._shadowing.step() == bench.client._config.flush_interval_s
    assert bench.client.status.account is not None
    assert bench.client.status.account.recorded == 1


def test_closing_sends_what_was_not_told_yet() -> None:
    bench = Bench()
    bench.shadow(lambda: 1, lambda: 1, mode="inline")()
    bench.client.close()
    assert [event["properties"]["sampled"] for event in bench.sink.events] == [1]


def test_kinds_of_errors_and_failures_are_bounded(bench: Bench) -> None:
    def candidate(number: int) -> None:
        raise type(f"Error{number}", (Exception,), {})

    shadowed = bench.shadow(candidate, lambda number: None, mode="inline", publish=None)
    for number in range(100):
        shadowed(number)
    assert len(bench.status.errors) == 21
    assert bench.status.errors["other"] == 80
