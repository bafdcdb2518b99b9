"""A gate chooses, exposes when the branch runs, measures it, and changes nothing of what the code gives back."""

from __future__ import annotations

import asyncio
import functools
import inspect
import math
from collections.abc import AsyncIterator, Iterator
from contextvars import ContextVar
from typing import Any

import pytest
from choosers import Ended, FakeChooser

from flagkit.context import Context
from flagkit.errors import ConfigError
from flagkit.production.gate import Gate
from flagkit.production.passage import GateOptions


def gate(chooser: FakeChooser, context: object = None, **options: Any) -> Gate:
    return Gate(chooser, "search", context, GateOptions(**options))


def chooser() -> FakeChooser:
    return FakeChooser(ann="on", cy="b")


# -- functions


def test_a_decorated_function_is_the_candidate_and_otherwise_the_control() -> None:
    client = chooser()

    @gate(client, unit_from="user", otherwise=lambda query, user: f"old {query}")
    def search(query: str, user: str) -> str:
        """Finds things."""
        return f"new {query}"

    assert [search("x", "ann"), search("x", user="ann"), search("x", "bo")] == ["new x", "new x", "old x"]
    assert client.ended == [
        Ended("on", b"ann", None, None, False),
        Ended("on", b"ann", None, None, False),
        Ended("off", b"bo", None, None, False),
    ]
    assert (search.__name__, search.__doc__, str(inspect.signature(search))) == (
        "search",
        "Finds things.",
        "(query: 'str', user: 'str') -> 'str'",
    )


@pytest.mark.parametrize(
    "options",
    [
        {"unit_from": "user"},
        {"context": lambda query, user="ann", *, limit=10: Context(user)},
        {"context": lambda query, user="ann", *, limit=10: {"unit": user}},
        {"context": "ann"},
        {"context": Context("ann")},
        {"context": {"unit": "ann"}},
    ],
)
def test_the_context_comes_from_an_argument_a_callable_or_is_given(options: dict[str, Any]) -> None:
    client = chooser()

    @gate(client, **{"otherwise": lambda *_, **__: "old", **options})
    def search(query: str, user: str = "ann", *, limit: int = 10) -> str:
        return "new"

    assert [search("x"), search("x", "ann"), search(query="x", user="ann", limit=3)] == ["new"] * 3
    assert {asker.unit_text for _, asker in client.asked} == {"ann"}


def test_a_keyword_only_parameter_may_be_the_unit() -> None:
    client = chooser()

    @gate(client, unit_from="user", otherwise=lambda query, *, user: "old")
    def search(query: str, *, user: str) -> str:
        return "new"

    assert (search("x", user="ann"), search("x", user="bo")) == ("new", "old")


def test_without_any_the_ambient_context_is_asked_for() -> None:
    client = chooser()
    gate(client, otherwise=lambda: "old")(lambda: "new")()
    assert client.asked[0][1]._key is None


def test_a_context_callable_that_raises_is_an_invalid_context_and_the_control_runs() -> None:
    client = chooser()
    search = gate(client, lambda query: 1 / 0, otherwise=lambda query: "old")(lambda query: "new")
    assert search("x") == "old"
    assert client.asked[0][1]._key is False


def test_methods_bind_as_ever_and_the_unit_is_found_behind_self() -> None:
    client = chooser()

    class Shop:
        name = "shop"

        def _old(self, user: str) -> str:
            return f"old {self.name}"

        @gate(client, unit_from="user", otherwise=_old)
        def price(self, user: str) -> str:
            return f"new {self.name}"

        @classmethod
        @gate(client, unit_from="user", otherwise=lambda cls, user: f"old {cls.name}")
        def of_class(cls, user: str) -> str:
            return f"new {cls.name}"

        @staticmethod
        @gate(client, unit_from="user", otherwise=lambda user: "old")
        def of_nobody(user: str) -> str:
            return "new"

    shop = Shop()
    assert (shop.price("ann"), shop.price(user="bo")) == ("new shop", "old shop")
    assert (Shop.of_class("ann"), shop.of_class("bo"), Shop.of_nobody("ann")) == ("new shop", "old shop", "new")


def test_each_variant_may_have_an_implementation_of_its_own() -> None:
    client = chooser()

    @gate(client, unit_from="user", otherwise=lambda user: "old", variants={"b": lambda user: "newer"})
    def search(user: str) -> str:
        return "new"

    assert (search("ann"), search("bo"), search("cy")) == ("new", "old", "newer")
    assert [ended.variant for ended in client.ended] == ["on", "off", "b"]


# -- failures


class Boom(ValueError):
    pass


def boom(*_: Any, **__: Any) -> Any:
    raise Boom("no")


def test_an_exception_is_a_failure_of_its_variant_and_goes_on_with_a_note() -> None:
    client = chooser()
    search = gate(client, "ann", otherwise=lambda: "old")(boom)
    with pytest.raises(Boom) as caught:
        search()
    assert client.errors == [("on", "Boom")]
    assert caught.value.__notes__ == ["flagkit: search = on, version 7"]


def test_raised_through_the_same_gate_again_it_gets_no_second_note() -> None:
    error = Boom("the same")

    def again() -> None:
        raise error

    search = gate(chooser(), "ann", otherwise=lambda: None)(again)
    for _ in range(2):
        with pytest.raises(Boom):
            search()
    assert error.__notes__ == ["flagkit: search = on, version 7"]


def test_what_is_ignored_is_no_failure() -> None:
    client = chooser()
    search = gate(client, "ann", otherwise=lambda: "old", ignore=(KeyError, ValueError))(boom)
    with pytest.raises(Boom):
        search()
    assert client.errors == [("on", None)]


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt])
def test_the_end_of_the_process_is_nobody_s_failure(error: type[BaseException]) -> None:
    client = chooser()

    def stop() -> None:
        raise error

    with pytest.raises(error):
        gate(client, "ann", otherwise=lambda: None)(stop)()
    assert (client.ended, client.left) == ([], [("on", b"ann")])


def test_a_result_may_be_a_failure_and_a_judge_that_raises_says_nothing() -> None:
    client = chooser()
    search = gate(client, "ann", otherwise=lambda n: n, failed=lambda result: 1 / result > 0.4)(lambda n: n)
    assert [search(1), search(10), search(0)] == [1, 10, 0]
    assert client.errors == [("on", "failed"), ("on", None), ("on", None)]


def test_fallback_runs_the_control_once_and_only_the_candidate_is_counted() -> None:
    client = chooser()
    search = gate(client, unit_from="user", otherwise=lambda user: f"old {user}", fallback_on_error=True)
    failing = search(lambda user: boom())
    assert failing("ann") == "old ann"
    assert client.errors == [("on", "Boom")]
    broken = gate(client, "bo", otherwise=boom, fallback_on_error=True)(lambda: "new")
    with pytest.raises(Boom) as caught:
        broken()
    assert client.errors == [("on", "Boom"), ("off", "Boom")]
    assert caught.value.__context__ is None


def test_an_error_of_the_control_after_a_fallback_is_not_blamed_on_the_candidate_s() -> None:
    search = gate(chooser(), "ann", otherwise=lambda: 1 / 0, fallback_on_error=True)(boom)
    with pytest.raises(ZeroDivisionError) as caught:
        search()
    assert caught.value.__context__ is None


# -- coroutine functions


def test_coroutine_functions_stay_coroutine_functions() -> None:
    client = chooser()

    async def old(user: str) -> str:
        await asyncio.sleep(0)
        return "old"

    @gate(client, unit_from="user", otherwise=old)
    async def search(user: str) -> str:
        await asyncio.sleep(0)
        return "new"

    async def both() -> list[str]:
        return [await search("ann"), await search("bo")]

    assert inspect.iscoroutinefunction(search)
    assert asyncio.run(both()) == ["new", "old"]
    assert client.errors == [("on", None), ("off", None)]


def test_nothing_is_chosen_before_a_coroutine_runs() -> None:
    client = chooser()

    async def search() -> str:
        return "new"

    coroutine = gate(client, "ann", otherwise=search)(search)()
    assert client.asked == []
    assert asyncio.run(coroutine) == "new"


def test_a_cancelled_call_is_failed_and_slow() -> None:
    client = chooser()

    async def hang() -> None:
        await asyncio.sleep(3600)

    async def main() -> None:
        task = asyncio.create_task(gate(client, "ann", otherwise=hang)(hang)())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert client.ended == [Ended("on", b"ann", "CancelledError", math.inf, False)]


def test_a_coroutine_falls_back_too_and_its_control_may_be_plain() -> None:
    client = chooser()

    async def fail() -> str:
        await asyncio.sleep(0)
        raise Boom

    search = gate(client, "ann", otherwise=lambda: "old", fallback_on_error=True)(fail)
    assert asyncio.run(search()) == "old"
    assert client.errors == [("on", "Boom")]


@pytest.mark.parametrize("fallback", [False, True])
def test_a_coroutine_function_in_a_plain_wrapper_is_measured_until_it_has_run(fallback: bool) -> None:
    client = chooser()

    async def search(fails: bool) -> str:
        await asyncio.sleep(0)
        if fails:
            raise Boom
        return "new"

    @functools.wraps(search)
    def wrapped(*args: Any) -> Any:
        return search(*args)

    async def old(fails: bool) -> str:
        return "old"

    gated = gate(client, "ann", otherwise=old, fallback_on_error=fallback)(wrapped)
    assert asyncio.run(gated(False)) == "new"
    if fallback:
        assert asyncio.run(gated(True)) == "old"
    else:
        with pytest.raises(Boom) as raised:
            asyncio.run(gated(True))
        assert len(raised.value.__notes__) == 1
    assert client.errors == [("on", None), ("on", "Boom")]


# -- generators


def numbers(count: int) -> Iterator[int]:
    yield from range(count)


def test_a_generator_is_exposed_with_its_first_item_and_measured_inside() -> None:
    client = chooser()

    @gate(client, "ann", otherwise=numbers)
    def squares(count: int) -> Iterator[int]:
        for number in range(count):
            yield number * number
        return "done"  # type: ignore[return-value]

    generator = squares(3)
    assert client.asked == []
    assert next(generator) == 0
    assert client.begun == [("on", b"ann")]
    assert client.ended == []

    def collect() -> Iterator[Any]:
        result = yield from squares(3)  # type: ignore[misc]
        yield result

    assert [*generator, *collect()] == [1, 4, 0, 1, 4, "done"]
    assert [(ended.error, ended.patient) for ended in client.ended] == [(None, True)] * 2
    assert all(ended.seconds is not None and 0 < ended.seconds < 1 for ended in client.ended)


def test_what_is_sent_to_a_generator_or_thrown_into_it_arrives() -> None:
    client = chooser()

    def echo() -> Iterator[Any]:
        heard: Any = None
        while True:
            try:
                heard = yield heard
            except Boom:
                heard = "boom"

    generator: Any = gate(client, "ann", otherwise=echo)(echo)()
    assert next(generator) is None
    assert generator.send("hello") == "hello"
    assert generator.throw(Boom()) == "boom"
    with pytest.raises(KeyError):
        generator.throw(KeyError())
    assert client.errors == [("on", "KeyError")]


def test_a_reader_who_has_had_enough_closes_the_generator_and_is_no_failure() -> None:
    client, closed = chooser(), []

    def endless() -> Iterator[int]:
        try:
            while True:
                yield 1
        finally:
            closed.append(True)

    generator: Any = gate(client, "ann", otherwise=endless)(endless)()
    next(generator)
    generator.close()
    assert (client.errors, closed) == ([("on", None)], [True])


def test_a_generator_falls_back_before_its_first_item_and_not_after() -> None:
    client = chooser()

    def early() -> Iterator[int]:
        raise Boom
        yield 1

    def late() -> Iterator[int]:
        yield 1
        raise Boom

    one = gate(client, "ann", otherwise=lambda: numbers(2), fallback_on_error=True)
    assert list(one(early)()) == [0, 1]
    generator = one(late)()
    assert next(generator) == 1
    with pytest.raises(Boom):
        next(generator)
    assert client.errors == [("on", "Boom")] * 2


def test_asynchronous_generators_too() -> None:
    client = chooser()

    @gate(client, "ann", otherwise=lambda: None)
    async def ticks() -> AsyncIterator[int]:
        heard = 0
        while True:
            try:
                heard = (yield heard) or heard + 1
            except Boom:
                heard = -1
            await asyncio.sleep(0)
            if heard > 10:
                return

    async def main() -> list[Any]:
        generator: Any = ticks()
        assert client.asked == []
        said = [await anext(generator), await generator.asend(7), await generator.athrow(Boom())]
        assert await anext(generator) == 0
        with pytest.raises(StopAsyncIteration):
            await generator.asend(20)
        stopped: Any = ticks()
        await anext(stopped)
        await stopped.aclose()
        return said

    assert asyncio.run(main()) == [0, 7, -1]
    assert client.errors == [("on", None)] * 2
    assert all(ended.patient for ended in client.ended)


def test_an_asynchronous_generator_that_fails_is_a_failure_and_falls_back_before_its_first_item() -> None:
    client = chooser()

    async def fail() -> AsyncIterator[int]:
        raise Boom
        yield 1

    async def old() -> AsyncIterator[int]:
        yield 7

    async def read(fallback: bool) -> list[int]:
        stream = gate(client, "ann", otherwise=old, fallback_on_error=fallback)(fail)
        return [item async for item in stream()]

    assert asyncio.run(read(True)) == [7]
    with pytest.raises(Boom):
        asyncio.run(read(False))
    assert client.errors == [("on", "Boom")] * 2


@pytest.mark.parametrize("items", [[7, 8], (7, 8), range(7, 9)])
@pytest.mark.parametrize("unit", ["bo", "ann"])
def test_the_control_of_an_asynchronous_generator_may_be_a_plain_one(unit: str, items: Any) -> None:
    client = chooser()

    async def fail() -> AsyncIterator[int]:
        raise Boom
        yield 1

    async def read(control: Any) -> list[int]:
        stream = gate(client, unit, otherwise=control, fallback_on_error=True)(fail)
        return [item async for item in stream()]

    assert asyncio.run(read(lambda: items)) == [7, 8]
    assert asyncio.run(read(lambda: iter(items))) == [7, 8]
    assert asyncio.run(read(lambda: (item for item in items))) == [7, 8]
    assert client.errors == [("on", "Boom") if unit == "ann" else ("off", None)] * 3


# -- as a context manager


def test_a_with_block_is_exposed_at_the_first_look() -> None:
    client = chooser()
    with gate(client, "ann") as passage:
        assert client.asked == []
        assert (passage.on, passage.variant, passage.value, passage.decision.version) == (True, "on", "on", "7")
        assert client.ended == []
    assert len(client.asked) == 1
    assert client.ended == [Ended("on", b"ann", None, None, False)]


def test_a_block_that_never_looks_is_no_call() -> None:
    client = chooser()
    with gate(client, "ann"):
        pass
    assert (client.asked, client.ended) == ([], [])


def test_a_block_can_fail_by_raising_or_by_saying_so() -> None:
    client = chooser()
    with pytest.raises(Boom), gate(client, "ann") as passage:
        boom(passage.on)
    with gate(client, "bo") as passage:
        assert not passage.on
        passage.fail("empty")
    with gate(client, "bo") as passage:
        assert not passage.on
        passage.fail(f"a\n{'x' * 100}")
    assert client.errors == [("on", "Boom"), ("off", "empty"), ("off", "failed")]


def test_an_asynchronous_block_too() -> None:
    client = chooser()

    async def main() -> None:
        async with gate(client, "ann") as passage:
            assert passage.on

    asyncio.run(main())
    assert client.errors == [("on", None)]


def test_blocks_that_share_a_gate_at_the_same_time_get_their_own_answers_and_are_not_measured() -> None:
    client = chooser()
    shared, now = Gate(client, "search", None), ContextVar("now", default="")
    client.ambient = now.get

    async def block(unit: str) -> list[str | None]:
        now.set(unit)
        with shared as search:
            before = search.variant
            await asyncio.sleep(0)
            return [before, search.variant, shared.variant]

    async def main() -> list[list[str | None]]:
        return await asyncio.gather(*(block(unit) for unit in ("ann", "bo", "cy", "ann")))

    assert asyncio.run(main()) == [["on"] * 3, ["off"] * 3, ["b"] * 3, ["on"] * 3]
    assert client.ended == []
    assert client.left == [("on", b"ann")]
    now.set("cy")
    with shared as search:
        assert search.variant == "b"
    assert [ended.variant for ended in client.ended] == ["b"], "alone again"


# -- mistakes


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({}, "otherwise"),
        ({"otherwise": 7}, "otherwise"),
        ({"otherwise": boom, "unit_from": "who"}, "unit_from"),
        ({"otherwise": boom, "unit_from": "rest"}, "unit_from"),
        ({"otherwise": boom, "unit_from": "user", "context": "ann"}, "unit_from"),
        ({"otherwise": boom, "failed": True}, "failed"),
        ({"otherwise": boom, "ignore": "KeyError"}, "ignore"),
        ({"otherwise": boom, "ignore": [KeyError]}, "ignore"),
        ({"otherwise": boom, "ignore": (KeyError, int)}, "ignore"),
        ({"otherwise": boom, "variants": 3}, "variants"),
        ({"otherwise": boom, "variants": {"b": "search_b"}}, "variants"),
        ({"otherwise": boom, "guard": {"alpha": 0.01}}, "guard"),
    ],
)
def test_a_gate_that_cannot_work_says_so_where_it_is_written(options: dict[str, Any], field: str) -> None:
    def search(user: str, **rest: Any) -> None: ...

    with pytest.raises(ConfigError, match=f"^{field}: ") as caught:
        gate(chooser(), **options)(search)
    assert caught.value.field == field


@pytest.mark.parametrize("ignore", [[KeyError], "KeyError", (KeyError, 7)])
def test_a_block_whose_ignore_is_none_lets_the_applications_error_pass(ignore: Any) -> None:
    client = chooser()
    with pytest.raises(LookupError, match="mine"), gate(client, "ann", ignore=ignore) as search:  # noqa: PT012
        assert search.on
        raise LookupError("mine")
    assert [ended.error for ended in client.ended] == ["LookupError"]


# -- what else can be called


def test_the_order_of_decorators_does_not_matter() -> None:
    client = chooser()

    class Shop:
        @gate(client, "ann", otherwise=boom)
        @staticmethod
        def priced(price: int) -> int:
            return price

        @gate(client, "ann", otherwise=boom)
        @classmethod
        def named(cls) -> str:
            return cls.__name__

        @staticmethod
        @gate(client, "ann", otherwise=boom)
        def sold(price: int) -> int:
            return price

    assert (Shop.priced(7), Shop().priced(8), Shop.named(), Shop().named(), Shop.sold(9)) == (7, 8, "Shop", "Shop", 9)
    assert len(client.ended) == 5


def test_an_object_that_is_called_is_measured_as_what_its_call_is() -> None:
    client = chooser()

    class Search:
        async def __call__(self, query: str) -> str:
            await asyncio.sleep(0)
            raise LookupError(query)

    search = gate(client, "ann", otherwise=boom)(Search())
    with pytest.raises(LookupError):
        asyncio.run(search("x"))
    assert [ended.error for ended in client.ended] == ["LookupError"]


def test_what_the_control_raises_after_a_candidate_has_failed_says_where_it_came_through() -> None:
    client = chooser()

    async def failing() -> None:
        raise OSError("of the control")

    def failing_rows() -> Iterator[int]:
        raise OSError("of the control")
        yield 1

    async def failing_items() -> AsyncIterator[int]:
        raise OSError("of the control")
        yield 1

    def fails() -> None:
        raise OSError("of the control")

    async def items() -> list[int]:
        return [item async for item in gated[3]()]

    both = [fails, failing, failing_rows, failing_items]
    gated: list[Any] = [gate(client, "ann", otherwise=each, fallback_on_error=True)(each) for each in both]
    for call in (gated[0], lambda: asyncio.run(gated[1]()), lambda: list(gated[2]()), lambda: asyncio.run(items())):
        with pytest.raises(OSError, match="of the control") as caught:
            call()
        assert caught.value.__notes__ == ["flagkit: search = on, version 7"]
