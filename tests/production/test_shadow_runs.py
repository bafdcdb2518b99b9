"""A shadow run: the control's caller gets what the control gives, whatever becomes of the candidate."""

from __future__ import annotations

import asyncio
import contextvars
import copy
import inspect
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
from shadows import PATIENCE_S, Bench, eventually

import flagkit
from flagkit import ConfigError, Context, ShadowPolicy, in_shadow, scope, sources
from flagkit.clock import SystemClock
from flagkit.errors import ShadowMismatch

MODES = ("pool", "inline", "after")


@pytest.fixture
def bench() -> Iterator[Bench]:
    bench = Bench()
    yield bench
    bench.client.close()


def at_once(run: Callable[[], Any]) -> None:
    """An ``after`` that has all the time in the world."""
    run()


def by(mode: str) -> dict[str, Any]:
    return {"mode": mode, "after": at_once} if mode == "after" else {"mode": mode}


def ends(how: BaseException) -> Callable[..., Any]:
    def candidate(*args: Any, **kwargs: Any) -> Any:
        raise how

    return candidate


def double(x: int) -> int:
    return 2 * x


# -- what the caller gets


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    "candidate",
    [
        double,
        ends(ValueError("told to nobody")),
        ends(SystemExit(3)),
        ends(KeyboardInterrupt()),
        ends(GeneratorExit()),
        ends(asyncio.CancelledError()),
        ends(MemoryError()),
        ends(StopIteration()),
        lambda: "takes nothing",
    ],
)
def test_the_caller_gets_the_controls_result_whatever_the_candidate_does(
    bench: Bench, mode: str, candidate: Callable[..., Any]
) -> None:
    shadowed = bench.shadow(candidate, double, **by(mode))
    assert shadowed(21) == 42
    assert bench.result().outcome == ("match" if candidate is double else "error")


@pytest.mark.parametrize("mode", MODES)
def test_the_caller_gets_the_controls_exception_as_it_is(bench: Bench, mode: str) -> None:
    error = LookupError("the control's own")
    shadowed = bench.shadow(double, ends(error), **by(mode))
    with pytest.raises(LookupError) as raised:
        shadowed(21)
    assert raised.value is error
    result = bench.result()
    assert (result.outcome, result.candidate.value) == ("error", 42)
    assert (result.control.exception, result.control.wall_s is not None) == (error, True)


def test_a_control_that_is_ended_is_compared_with_nothing(bench: Bench) -> None:
    shadowed = bench.shadow(double, ends(SystemExit(3)))
    with pytest.raises(SystemExit):
        shadowed(21)
    assert (bench.status.sampled, bench.status.dropped) == (1, {"interrupted": 1})


def test_the_function_keeps_name_signature_and_documentation(bench: Bench) -> None:
    @bench.client.shadow("f", lambda a, *, b=1: None)
    def control(a: int, *, b: int = 1) -> str:
        """Says something."""
        return "x"

    assert (control.__name__, control.__doc__) == ("control", "Says something.")
    assert str(inspect.signature(control)) == "(a: 'int', *, b: 'int' = 1) -> 'str'"


def test_methods_are_shadowed_with_their_object(bench: Bench) -> None:
    class Ranker:
        factor = 3

        def new(self, x: int) -> int:
            return self.factor * x

        @bench.client.shadow("f", new, policy=bench.policy())
        def old(self, x: int) -> int:
            return x + x + x

    assert Ranker().old(2) == 6
    assert bench.result().outcome == "match"


def test_several_candidates_are_a_decorator_each() -> None:
    bench = Bench({"a": {"default": "on"}, "b": {"default": "on"}})
    first = bench.client.shadow("a", double, policy=bench.policy())
    second = bench.client.shadow("b", lambda x: x, policy=bench.policy())
    assert first(second(double))(21) == 42
    assert {(each.flag, each.outcome) for each in (bench.result(), bench.result())} == {
        ("a", "match"),
        ("b", "mismatch"),
    }
    bench.client.close()


def test_each_of_several_candidates_may_have_its_own_about() -> None:
    bench = Bench({"a": {"default": "on"}, "b": {"default": "on"}})
    inline = {"mode": "inline", "random_order": False}
    first = bench.client.shadow("a", double, policy=bench.policy(about=lambda x: {"index": "new", "x": x}, **inline))
    second = bench.client.shadow("b", double, policy=bench.policy(about=lambda x: {"index": "old", "x": x}, **inline))
    assert first(second(double))(21) == 42
    told = {each.flag: each.about for each in (bench.result(), bench.result())}
    assert told == {"a": {"index": "new", "x": 21}, "b": {"index": "old", "x": 21}}
    bench.client.close()


def test_one_of_several_is_chosen_by_name_with_a_gate() -> None:
    bench = Bench({"f": {"variants": {"a": 1, "b": 2}, "off": "a", "default": "b"}})
    ways = {"a": lambda: "first way", "b": lambda: "second way"}
    assert bench.client.gate("f", otherwise=ways["a"], variants=ways)(ways["b"])() == "second way"
    bench.client.close()


def test_blocks_inside_a_function_are_shadowed_at_the_call(bench: Bench) -> None:
    x = 21
    assert bench.client.shadow("f", lambda: x + x, policy=bench.policy())(lambda: 2 * x)() == 42
    assert bench.result().outcome == "match"


# -- coroutines


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("asynchronous", [True, False])
def test_a_coroutine_function_is_shadowed_by_either_kind(bench: Bench, mode: str, asynchronous: bool) -> None:
    runs: list[Any] = []

    async def control(x: int) -> int:
        await asyncio.sleep(0)
        return 2 * x

    async def candidate(x: int) -> int:
        await asyncio.sleep(0)
        assert in_shadow()
        return x + x

    how = {"mode": mode, "after": runs.append} if mode == "after" else {"mode": mode}
    shadowed = bench.shadow(candidate if asynchronous else double, control, **how)

    async def main() -> int:
        answer: int = await shadowed(21)
        for run in runs:  # a coroutine function, if the candidate is one
            ran = run()
            assert (ran is not None) == asynchronous
            if ran is not None:
                await ran
        return answer

    assert asyncio.run(main()) == 42
    assert inspect.iscoroutinefunction(shadowed)
    assert bench.result().outcome == "match"


@pytest.mark.parametrize("mode", ["inline", "pool"])
def test_many_tasks_at_once_get_their_own_results(bench: Bench, mode: str) -> None:
    variable: contextvars.ContextVar[int] = contextvars.ContextVar("variable")

    async def control(x: int) -> int:
        await asyncio.sleep(0)
        assert not in_shadow()
        return variable.get()

    async def candidate(x: int) -> int:
        await asyncio.sleep(0)
        seen = variable.get()
        variable.set(-1)
        return seen

    shadowed = bench.shadow(candidate, control, mode=mode, max_running=64, max_waiting=200, cpu_share=1)

    async def call(x: int) -> bool:
        variable.set(x)
        return bool(await shadowed(x) == x == variable.get())

    async def main() -> list[bool]:
        return await asyncio.gather(*map(call, range(200)))

    assert all(asyncio.run(main()))
    eventually(lambda: bench.status.pending == 0)
    assert bench.status.outcomes.get("match", 0) + bench.status.dropped.get("busy", 0) == 200


@pytest.mark.parametrize("how", [SystemExit(3), KeyboardInterrupt(), asyncio.CancelledError(), ValueError()])
@pytest.mark.parametrize("mode", ["pool", "inline"])
def test_a_coroutine_candidate_cannot_end_its_caller(bench: Bench, mode: str, how: BaseException) -> None:
    async def control(x: int) -> int:
        return 2 * x

    async def candidate(x: int) -> int:
        raise how

    assert asyncio.run(bench.shadow(candidate, control, mode=mode)(21)) == 42
    assert bench.result().outcome == "error"


def test_a_coroutine_candidate_past_its_budget_is_cancelled_and_its_caller_goes_on(bench: Bench) -> None:
    ended: list[str] = []

    async def control(x: int) -> int:
        return 2 * x

    async def candidate(x: int) -> int:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("cancelled")
        return x

    async def main() -> int:
        answer: int = await bench.shadow(candidate, control, mode="inline", budget_s=0.01)(21)
        await asyncio.sleep(0)
        assert ended == ["cancelled"]
        return answer

    assert asyncio.run(main()) == 42
    assert bench.result().outcome == "timeout"


def test_a_coroutine_that_will_not_be_cancelled_keeps_its_room_until_it_ends(bench: Bench) -> None:
    async def control() -> int:
        return 1

    async def main() -> None:
        go = asyncio.Event()

        async def candidate() -> int:
            while not go.is_set():
                try:
                    await go.wait()
                except asyncio.CancelledError:
                    continue
            return 1

        shadowed = bench.shadow(candidate, control, mode="inline", budget_s=0.01, max_running=1)
        assert [await shadowed(), await shadowed()] == [1, 1]
        assert (bench.status.outcomes, bench.status.dropped) == ({"timeout": 1}, {"busy": 1})
        go.set()
        while not bench.desk()._room:
            await asyncio.sleep(0)

    asyncio.run(main())


def test_a_coroutine_that_hangs_in_the_pool_is_cancelled_and_gives_its_room_back() -> None:
    bench = Bench(clock=SystemClock())

    async def control(x: int) -> int:
        return 2 * x

    async def candidate(x: int) -> int:
        await asyncio.Event().wait()
        return x

    assert asyncio.run(bench.shadow(candidate, control, budget_s=0.01)(21)) == 42
    assert bench.result().outcome == "timeout"
    eventually(lambda: len(bench.desk()._room) == 2)
    bench.client.close()


@pytest.mark.parametrize("random", [0.0, 0.9])
def test_a_cancelled_caller_is_cancelled_while_the_candidate_runs(random: float) -> None:
    bench = Bench(random=random)

    async def control(x: int) -> int:
        return 2 * x

    async def main() -> None:
        begun = asyncio.Event()

        async def candidate(x: int) -> int:
            begun.set()
            await asyncio.Event().wait()
            return x

        call = asyncio.create_task(bench.shadow(candidate, control, mode="inline")(21))
        await begun.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    asyncio.run(main())
    assert (bench.status.dropped, bench.status.pending) == ({"interrupted": 1}, 0)
    assert len(bench.desk()._room) == 2
    bench.client.close()


# -- arguments


@pytest.mark.parametrize("mode", MODES)
def test_a_candidate_that_changes_its_arguments_changes_copies(bench: Bench, mode: str) -> None:
    def candidate(items: list[int]) -> int:
        items.clear()
        return 0

    items = [1, 2]
    assert bench.shadow(candidate, sum, copy=copy.deepcopy, **by(mode))(items) == 3
    bench.result()
    assert items == [1, 2]


def test_arguments_are_copied_before_the_control_sees_them(bench: Bench) -> None:
    def control(items: list[int]) -> int:
        return items.pop()

    shadowed = bench.shadow(lambda items: items.pop(), control, copy=copy.deepcopy)
    assert shadowed([1, 2]) == 2
    assert bench.result().outcome == "match"


def test_a_candidate_may_have_arguments_of_its_own(bench: Bench) -> None:
    def control(cents: int, *, currency: str) -> int:
        assert currency == "SEK"
        return cents

    def candidate(price: dict[str, int]) -> int:
        return price["whole"] * 100 + price["rest"]

    def other(both: tuple[tuple[int], dict[str, str]]) -> tuple[tuple[dict[str, int]], dict[str, str]]:
        whole, rest = divmod(both[0][0], 100)
        return ({"whole": whole, "rest": rest},), {}

    assert bench.shadow(candidate, control, copy=other)(1999, currency="SEK") == 1999
    assert bench.result().outcome == "match"


def test_arguments_are_made_for_drawn_calls_only(bench: Bench) -> None:
    made: list[int] = []

    def set_up(both: Any) -> Any:
        made.append(both[0][0])
        return both

    shadowed = bench.shadow(double, double, mode="inline", copy=set_up, when=lambda x: x > 1)
    with bench.client.override({"f": False}):
        shadowed(7)
    for x in (1, 2, 3):
        shadowed(x)
    assert made == [2, 3]


def test_arguments_that_cannot_be_copied_leave_the_control_alone(bench: Bench) -> None:
    shadowed = bench.shadow(double, double, copy=ends(TypeError("secret")))
    assert shadowed(21) == 42
    assert bench.status.dropped == {"copy_error": 1}
    assert bench.status.failures == {"copy: TypeError": 1}


def test_a_result_that_the_caller_changes_is_compared_as_it_was(bench: Bench) -> None:
    go = threading.Event()

    def candidate() -> list[int]:
        go.wait(PATIENCE_S)
        return [1]

    bench.shadow(candidate, lambda: [1], copy_result=copy.deepcopy)().append(2)
    go.set()
    assert bench.result().outcome == "match"


def test_a_result_that_cannot_be_copied_is_given_to_the_caller(bench: Bench) -> None:
    assert bench.shadow(double, double, copy_result=ends(TypeError()))(21) == 42
    assert (bench.status.dropped, bench.status.failures) == ({"copy_error": 1}, {"copy_result: TypeError": 1})


# -- which calls


def test_the_flag_draws_the_calls_and_turns_them_off() -> None:
    bench = Bench({"f": {"rules": [{"rollout": {"percent": 30}, "serve": "on"}]}})
    shadowed = bench.client.shadow("f", double, policy=bench.policy(mode="inline"), unit_from="x")(double)
    for number in range(1000):
        assert shadowed(number) == 2 * number
    assert 240 < bench.status.sampled < 360
    bench.client.close()
    off = Bench({"f": {"enabled": False, "default": "on"}})
    assert off.shadow(double, double)(21) == 42
    assert off.client.status.shadows == ()
    off.client.close()


def test_who_is_shadowed_says_nothing_of_who_is_exposed() -> None:
    bench = Bench({"f": {"rules": [{"rollout": {"percent": 50}, "serve": "on"}]}})
    exposed = {n for n in range(4000) if bench.client.peek("f", n).enabled}
    drawn = {n for n in range(4000) if bench.client.sample("f", n, ShadowPolicy()) is not None}
    assert 0.45 < len(exposed & drawn) / len(exposed) < 0.55
    assert 0.45 < len(drawn - exposed) / (4000 - len(exposed)) < 0.55
    bench.client.close()


def test_raising_the_percentage_keeps_whom_it_had_drawn() -> None:
    def drawn(percent: int) -> set[int]:
        bench = Bench({"f": {"rules": [{"rollout": {"percent": percent, "by": "org"}, "serve": "on"}]}})
        with bench.client:
            return {n for n in range(2000) if bench.client.sample("f", {"org": n}, ShadowPolicy()) is not None}

    assert drawn(5) < drawn(20) < drawn(60)


def test_a_new_percentage_counts_from_the_next_call_on() -> None:
    bench = Bench()
    snapshot = bench.client._feed.snapshot
    assert snapshot.sample("f", Context("u")).enabled
    off = Bench({"f": {}})
    after = snapshot.following(off.client._feed.snapshot.definitions)
    assert not after.sample("f", Context("u")).enabled
    assert after.following().sample("f", Context("u")) is after.sample("f", Context("u"))
    bench.client.close()
    off.client.close()


def test_the_unit_is_the_ambient_one_or_comes_from_the_call() -> None:
    bench = Bench({"f": {"targets": {"on": ["ann"]}}})
    inline = bench.policy(mode="inline")
    ambient = bench.client.shadow("f", double, policy=inline)(double)
    from_argument = bench.client.shadow("f", lambda user: user, policy=inline, unit_from="user")(lambda user: user)
    given = bench.client.shadow("f", double, policy=inline, context=lambda x: {"unit": "ann"})(double)
    ambient(1), from_argument("bo")
    assert bench.client.status.shadows == ()
    with scope("ann"):
        ambient(1)
    from_argument("ann"), given(1)
    assert bench.status.sampled == 3
    bench.client.close()


def test_an_override_draws_a_call_and_leaves_one_out(bench: Bench) -> None:
    shadowed = bench.shadow(double, double, mode="inline")
    with bench.client.override({"f": False}):
        shadowed(1)
    assert bench.client.status.shadows == ()
    with bench.client.override({"f": True}):
        shadowed(1)
    assert bench.status.sampled == 1


def test_when_leaves_calls_out_and_is_named_when_it_fails(bench: Bench) -> None:
    shadowed = bench.shadow(double, double, mode="inline", when=lambda x: x / (x - 1) > 1)
    assert [shadowed(x) for x in (0, 1, 2)] == [0, 2, 4]
    assert (bench.status.sampled, bench.status.outcomes) == (2, {"match": 1})
    assert (bench.status.dropped, bench.status.failures) == ({"when_error": 1}, {"when: ZeroDivisionError": 1})


def test_calls_of_probes_and_calls_without_definitions_are_not_shadowed(bench: Bench) -> None:
    shadowed = bench.client.shadow("f", double, context=Context("u", synthetic=True))(double)
    unknown = bench.client.shadow("ghost", double)(double)
    assert (shadowed(1), unknown(1), bench.client.status.shadows) == (2, 2, ())


def test_in_a_process_that_is_still_to_be_forked_calls_are_not_shadowed(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no() -> int:
        return 0

    monkeypatch.setitem(sys.modules, "uwsgi", SimpleNamespace(worker_id=no, mule_id=no, i_am_the_spooler=no))
    assert (bench.shadow(double, double)(1), bench.client.status.shadows) == (2, ())


# -- order


@pytest.mark.parametrize(("random", "order"), [(0.2, ["candidate", "control"]), (0.7, ["control", "candidate"])])
def test_inline_runs_come_in_random_order(random: float, order: list[str]) -> None:
    bench, came = Bench(random=random), []
    shadowed = bench.shadow(lambda: came.append("candidate"), lambda: came.append("control"), mode="inline")
    shadowed()
    assert (came, bench.result().first) == (order, order[0])
    bench.client.close()


def test_inline_runs_come_in_a_fixed_order_if_that_is_wished() -> None:
    bench, came = Bench(random=0.1), []
    shadowed = bench.shadow(
        lambda: came.append("candidate"), lambda: came.append("control"), mode="inline", random_order=False
    )
    shadowed()
    assert (came, bench.result().first) == (["control", "candidate"], "control")
    bench.client.close()


def test_publish_comes_once_when_both_have_run() -> None:
    bench, came = Bench(), []
    shadowed = bench.shadow(
        lambda: came.append("candidate"),
        lambda: came.append("control"),
        mode="inline",
        publish=lambda result: came.append(result.outcome),
    )
    for _ in range(20):
        shadowed()
        assert sorted(came[:2]) == ["candidate", "control"]
        assert came[2:] == ["match"]
        came.clear()
    bench.client.close()


def test_times_are_those_of_the_clients_clock_and_may_be_made_up() -> None:
    bench = Bench(random=0.9)
    seconds = iter((1.5, 0.25))
    bench.shadow(
        lambda: bench.clock.advance(next(seconds)), lambda: bench.clock.advance(next(seconds)), mode="inline"
    )()
    result = bench.result()
    assert (result.control.wall_s, result.candidate.wall_s) == (1.5, 0.25)
    bench.client.close()


def test_in_the_pool_the_control_is_first(bench: Bench) -> None:
    bench.shadow(double, double)(1)
    assert bench.result().first == "control"


# -- context


def test_the_candidate_runs_in_a_copy_of_its_callers_context(bench: Bench) -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")
    here: list[object] = []

    def candidate() -> None:
        here.append((variable.get(), in_shadow()))
        variable.set("the candidate's")

    for mode in MODES:
        variable.set("the caller's")
        bench.shadow(candidate, lambda: None, **by(mode))()
        bench.result()
        assert (variable.get(), in_shadow(), here.pop()) == ("the caller's", False, ("the caller's", True))


def test_a_shadow_within_a_shadow_runs_plainly(bench: Bench) -> None:
    inner = bench.shadow(double, double)
    assert bench.shadow(inner, double)(21) == 42
    assert bench.result().outcome == "match"
    assert bench.status.sampled == 1


# -- refusals


def test_generators_are_refused_when_they_are_decorated(bench: Bench) -> None:
    def generator() -> Iterator[int]:
        yield 1

    async def asynchronous() -> AsyncIterator[int]:
        yield 1

    for made in (generator, asynchronous):
        with pytest.raises(ConfigError, match=r"function: got .*expected a function or coroutine function"):
            bench.client.shadow("f", double)(made)
        with pytest.raises(ConfigError, match=r"candidate: got .*expected a function or coroutine function"):
            bench.client.shadow("f", made)(double)


async def _coroutine() -> None:
    """Nothing."""


@pytest.mark.parametrize(
    ("field", "make"),
    [
        ("candidate", lambda client: client.shadow("f", "no function")),
        ("policy", lambda client: client.shadow("f", double, policy={"mode": "pool"})),
        ("function", lambda client: client.shadow("f", double)("no function")),
        ("candidate", lambda client: client.shadow("f", _coroutine)(double)),
        ("unit_from", lambda client: client.shadow("f", double, unit_from="user")(double)),
        ("mode", lambda _: ShadowPolicy(mode="sideways")),
        ("after", lambda _: ShadowPolicy(mode="after")),
        ("after", lambda _: ShadowPolicy(after=at_once)),
        ("budget_s", lambda _: ShadowPolicy(budget_s=0)),
        ("budget_s", lambda _: ShadowPolicy(budget_s=float("nan"))),
        ("max_running", lambda _: ShadowPolicy(max_running=True)),
        ("max_waiting", lambda _: ShadowPolicy(max_waiting=0)),
        ("cpu_share", lambda _: ShadowPolicy(cpu_share=0)),
        ("ignore", lambda _: ShadowPolicy(ignore=["x"])),
        ("compare", lambda _: ShadowPolicy(compare=1)),
        ("raise_on_mismatch", lambda _: ShadowPolicy(raise_on_mismatch="yes")),
    ],
)
def test_a_wrong_argument_is_named(bench: Bench, field: str, make: Callable[[Any], Any]) -> None:
    with pytest.raises(ConfigError) as raised:
        make(bench.client)
    assert raised.value.field == field


def test_a_policy_is_frozen() -> None:
    with pytest.raises(AttributeError, match="frozen"):
        ShadowPolicy().mode = "inline"


def test_a_partial_is_a_candidate_too(bench: Bench) -> None:
    assert bench.shadow(partial(pow, exp=2), lambda x: x * x)(3) == 9
    assert bench.result().outcome == "match"


# -- in tests


def test_in_a_test_a_mismatch_is_raised_after_it_is_published(bench: Bench) -> None:
    shadowed = bench.shadow(lambda x: x, double, raise_on_mismatch=True)
    with pytest.raises(ShadowMismatch, match=r"mismatch.*\$"):
        shadowed(21)
    assert bench.results.get_nowait().outcome == "mismatch"
    assert bench.shadow(double, double, raise_on_mismatch=True)(21) == 42
    with pytest.raises(ShadowMismatch) as raised:
        bench.shadow(double, ends(LookupError()), raise_on_mismatch=True)(21)
    assert isinstance(raised.value.__cause__, LookupError)


def test_in_a_test_the_exception_may_be_the_tests_own(bench: Bench) -> None:
    class Different(Exception):
        pass

    def make(result: Any) -> Exception:
        return Different(result.candidate.value)

    with pytest.raises(Different, match="21"):
        bench.shadow(lambda x: x, double, raise_on_mismatch=make)(21)

    async def control(x: int) -> int:
        return 2 * x

    with pytest.raises(Different, match="21"):
        asyncio.run(bench.shadow(lambda x: x, control, raise_on_mismatch=make)(21))


# -- life


def test_after_close_the_control_runs_plainly(bench: Bench) -> None:
    shadowed = bench.shadow(double, double)
    shadowed(1)
    bench.result()
    bench.client.close()
    assert (shadowed(21), bench.status.sampled) == (42, 1)
    never = Bench()
    never.client.close()
    assert never.shadow(double, double)(21) == 42


def test_the_default_client_is_the_one_there_is_at_the_call() -> None:
    shadowed = flagkit.shadow("f", double, policy=ShadowPolicy(mode="inline"))(double)
    assert shadowed(21) == 42  # nobody has configured one
    client = flagkit.configure(source=sources.Static({"schema": 1, "flags": {"f": {"default": "on"}}}), sink=None)
    try:
        assert shadowed(21) == 42
        assert client.status.shadows[0].outcomes == {"match": 1}
    finally:
        client.close()
        flagkit.default._client = None
