"""One call of a serverless function: what it begins and ends with, around blocks and functions of every kind."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from documents import ON, document
from fakes import ScriptedSource

from flagkit import Client, Config, ConfigError, sinks
from flagkit.events import Batch, Sent
from flagkit.sources import Fetched

Make = Callable[..., Client]
OFF = {"enabled": False}
SLOW = Config(poll_interval_s=3600, flush_interval_s=3600)


class HeldSink(sinks.Memory):
    """Takes events when it is let."""

    def __init__(self) -> None:
        super().__init__()
        self.reached, self.let = threading.Event(), threading.Event()
        self.threads: list[int] = []

    def send(self, batch: Batch, *, deadline_s: float) -> Sent:
        self.threads.append(threading.get_ident())
        self.reached.set()
        assert self.let.wait(10)
        return super().send(batch, deadline_s=deadline_s)


@pytest.fixture
def client(make: Make) -> Client:
    return make({"a": ON}, config=SLOW)


def test_an_invocation_begins_with_definitions_that_are_not_old_and_ends_with_all_events_sent(
    make: Make, sink: sinks.Memory, clock: Any
) -> None:
    source = ScriptedSource(Fetched(document({"a": ON})), Fetched(document({"a": OFF})))
    client = make(source=source, config=Config(poll_interval_s=3600, flush_interval_s=3600))

    @client.invocation(timeout_s=10)
    def handle(unit: str) -> bool:
        return client.enabled("a", unit)

    assert handle("u-1")
    assert len(sink.events) == 1
    assert handle("u-2")
    assert (len(source.asked), len(sink.events)) == (1, 2)
    clock.advance(3601)
    assert not handle("u-3")
    assert (len(source.asked), len(sink.events)) == (2, 3)


def test_an_invocation_passes_on_what_its_body_raises_and_sends_the_events_all_the_same(
    make: Make, sink: sinks.Memory
) -> None:
    client = make(source=ScriptedSource(Fetched(document({"a": ON}))), config=Config(flush_interval_s=3600))

    @client.invocation(timeout_s=10)
    def fail() -> None:
        client.track("order", "u-1")
        raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert len(sink.events) == 1


# -- functions of every kind -----------------------------------------------------------------------------------------


def test_a_coroutine_function_s_events_are_sent_when_it_has_ended_not_when_it_is_called(
    client: Client, sink: sinks.Memory
) -> None:
    seen = []

    @client.invocation(timeout_s=10)
    async def handle(unit: str) -> bool:
        await asyncio.sleep(0)
        answer = client.enabled("a", unit)
        seen.append(len(sink.events))
        return answer

    assert asyncio.run(handle("u-1"))
    assert (seen, len(sink.events)) == ([0], 1)


def test_a_generator_s_events_are_sent_with_its_end_and_what_is_sent_and_returned_goes_through(
    client: Client, sink: sinks.Memory
) -> None:
    @client.invocation(timeout_s=10)
    def handle(unit: str) -> Iterator[Any]:
        heard = yield client.enabled("a", unit)
        yield heard
        return "end"

    items: Any = handle("u-1")
    assert (next(items), items.send("more"), len(sink.events)) == (True, "more", 0)
    with pytest.raises(StopIteration) as ended:
        next(items)
    assert (ended.value.value, len(sink.events)) == ("end", 1)


def test_a_generator_that_is_closed_early_has_its_events_sent(client: Client, sink: sinks.Memory) -> None:
    @client.invocation(timeout_s=10)
    def handle() -> Iterator[bool]:
        while True:
            yield client.enabled("a", "u-1")

    items: Any = handle()
    next(items)
    items.close()
    assert len(sink.events) == 1


def test_an_asynchronous_generator_is_handed_what_is_sent_and_thrown_and_its_events_are_sent_with_its_end(
    client: Client, sink: sinks.Memory
) -> None:
    @client.invocation(timeout_s=10)
    async def handle(unit: str) -> AsyncIterator[Any]:
        try:
            heard = yield client.enabled("a", unit)
            yield heard
        except KeyError as error:
            yield error.args[0]

    async def read() -> list[Any]:
        items: Any = handle("u-1")
        got = [await items.asend(None), await items.asend("more"), await items.athrow(KeyError("thrown"))]
        got.append(len(sink.events))
        return got + [item async for item in items]

    assert asyncio.run(read()) == [True, "more", "thrown", 0]
    assert len(sink.events) == 1


def test_an_asynchronous_generator_that_is_closed_early_is_closed_inside_and_has_its_events_sent(
    client: Client, sink: sinks.Memory
) -> None:
    closed = []

    @client.invocation(timeout_s=10)
    async def handle() -> AsyncIterator[bool]:
        try:
            while True:
                yield client.enabled("a", "u-1")
        finally:
            closed.append(len(sink.events))

    async def read() -> None:
        items: Any = handle()
        assert await items.__anext__()
        await items.aclose()

    asyncio.run(read())
    assert (closed, len(sink.events)) == ([0], 1)


def test_a_decorated_function_keeps_its_name_and_its_kind(client: Client) -> None:
    def plain(event: dict[str, Any]) -> int: ...  # type: ignore[empty-body]
    def generator() -> Iterator[int]:
        yield 1

    async def coroutine() -> None: ...
    async def asynchronous_generator() -> AsyncIterator[int]:
        yield 1

    decorate = client.invocation()
    assert inspect.signature(decorate(plain)) == inspect.signature(plain)
    assert decorate(plain).__name__ == "plain"
    assert inspect.isgeneratorfunction(decorate(generator))
    assert inspect.iscoroutinefunction(decorate(coroutine))
    assert inspect.isasyncgenfunction(decorate(asynchronous_generator))


def test_what_is_no_function_is_not_decorated(client: Client) -> None:
    nothing: Any = "handler"
    with pytest.raises(ConfigError, match="function: got 'handler'; expected a function"):
        client.invocation()(nothing)


def test_one_invocation_serves_calls_within_calls(client: Client, sink: sinks.Memory) -> None:
    @client.invocation(timeout_s=10)
    def countdown(left: int) -> None:
        client.track("count", "u-1")
        if left:
            countdown(left - 1)

    countdown(2)
    assert len(sink.events) == 3


# -- without holding the loop ----------------------------------------------------------------------------------------


def test_async_with_gives_the_client_and_passes_on_what_its_block_raises(client: Client, sink: sinks.Memory) -> None:
    async def handle() -> None:
        async with client.invocation(timeout_s=10) as given:
            assert given is client
            client.track("order", "u-1")
            raise KeyError

    with pytest.raises(KeyError):
        asyncio.run(handle())
    assert len(sink.events) == 1


def test_async_with_refreshes_and_sends_on_other_threads_while_the_loop_goes_on(make: Make) -> None:
    sink = HeldSink()
    client = make(source=ScriptedSource(Fetched(document({"a": ON}))), sink=sink, config=SLOW)

    async def handle() -> None:
        async with client.invocation(timeout_s=10):
            assert client.enabled("a", "u-1")

    async def serve() -> int:
        call = asyncio.create_task(handle())
        assert await asyncio.to_thread(sink.reached.wait, 10)
        sink.let.set()  # which a held loop would not come to
        await call
        return threading.get_ident()

    assert asyncio.run(serve()) not in sink.threads
    assert len(sink.events) == 1


def test_a_call_that_is_cancelled_while_its_events_are_sent_ends_when_they_are(make: Make) -> None:
    sink = HeldSink()
    client = make({"a": ON}, sink=sink, config=SLOW)

    @client.invocation(timeout_s=10)
    async def handle() -> None:
        client.track("order", "u-1")

    async def serve() -> tuple[bool, int]:
        call = asyncio.create_task(handle())
        assert await asyncio.to_thread(sink.reached.wait, 10)
        call.cancel()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        ended_early = call.done()
        sink.let.set()
        with pytest.raises(asyncio.CancelledError):
            await call
        return ended_early, len(sink.events)

    assert asyncio.run(serve()) == (False, 1)


def test_a_call_whose_body_is_cancelled_has_its_events_sent(client: Client, sink: sinks.Memory) -> None:
    async def serve() -> None:
        tracked = asyncio.Event()

        @client.invocation(timeout_s=10)
        async def handle() -> None:
            client.track("order", "u-1")
            tracked.set()
            await asyncio.Event().wait()

        call = asyncio.create_task(handle())
        await tracked.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call

    asyncio.run(serve())
    assert len(sink.events) == 1


def test_a_call_waits_no_longer_than_it_was_told_for_a_pool_that_is_busy(client: Client) -> None:
    release = threading.Event()

    async def serve() -> int:
        loop = asyncio.get_running_loop()
        loop.set_default_executor(ThreadPoolExecutor(1))
        blocking = loop.run_in_executor(None, release.wait, 10)
        async with client.invocation(timeout_s=0.05):
            client.track("order", "u-1")
        pending = client.status.account.pending if client.status.account else 0
        release.set()
        await blocking
        return pending

    assert asyncio.run(serve()) == 1


def test_definitions_that_are_not_old_are_not_waited_for(make: Make) -> None:
    release, source = threading.Event(), ScriptedSource(Fetched(document({"a": ON})))
    client = make(source=source, config=SLOW)
    assert client.wait_ready(10)

    async def serve() -> bool:
        loop = asyncio.get_running_loop()
        loop.set_default_executor(ThreadPoolExecutor(1))
        blocking = loop.run_in_executor(None, release.wait, 60)
        entered = await asyncio.wait_for(client.invocation(timeout_s=60).__aenter__(), 10)
        release.set()
        await blocking
        return entered is client

    assert asyncio.run(serve())


def test_events_are_sent_on_the_caller_s_thread_when_there_is_no_other(client: Client, sink: sinks.Memory) -> None:
    async def handle() -> None:
        await asyncio.get_running_loop().shutdown_default_executor()
        async with client.invocation(timeout_s=10):
            client.track("order", "u-1")

    asyncio.run(handle())
    assert len(sink.events) == 1
