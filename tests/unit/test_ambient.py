"""What is ambient holds inside blocks of both kinds and inside functions, in one task, and ends quietly anywhere."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from conftest import Make

import flagkit
from flagkit import Client, ConfigError, sinks
from flagkit.context import current_scope


@pytest.fixture
def client(make: Make) -> Client:
    return make({"f": {}})


def ambient(client: Client) -> list[Any]:
    """All that makes something ambient, and what shows that it is."""

    def unit() -> object:
        scope = current_scope()
        return scope.context.unit if scope is not None and scope.context is not None else None

    return [
        (lambda: client.override({"f": True}), lambda: client.enabled("f", "u") or None),
        (lambda: client.scope("ann"), unit),
        (lambda: flagkit.scope("ann"), unit),
    ]


def test_blocks_of_both_kinds_and_functions_of_both_kinds_are_inside(client: Client) -> None:
    for make, seen in ambient(client):

        @make()
        def plain(seen: Any = seen) -> object:
            return seen()

        @make()
        async def coroutine(seen: Any = seen) -> object:
            await asyncio.sleep(0)
            return seen()

        async def block(make: Any = make, seen: Any = seen) -> object:
            async with make():
                await asyncio.sleep(0)
                return seen()

        async def together(block: Any = block, coroutine: Any = coroutine, seen: Any = seen) -> list[object]:
            inside = await asyncio.gather(block(), coroutine(), coroutine())
            return [*inside, seen()]

        with make():
            inside = seen()
        assert inside
        assert [plain(), plain(), seen()] == [inside, inside, None]
        assert asyncio.run(together()) == [inside, inside, inside, None]
        assert plain.__name__ == "plain"


def test_a_generator_is_refused_where_it_is_decorated(client: Client) -> None:
    def rows() -> Iterator[int]:
        yield 1

    async def more() -> AsyncIterator[int]:
        yield 1

    for make, _ in ambient(client):
        for function in (rows, more, 7):
            with pytest.raises(ConfigError, match=r"^function: .*no generator"):
                make()(function)


def test_a_block_that_is_left_in_another_context_than_it_was_entered_in_ends_quietly(client: Client) -> None:
    # So a framework may run a dependency that yields: each half on a thread of its own, in a copy of the context.
    for make, seen in ambient(client):
        block, copy = make(), contextvars.copy_context()
        copy.run(block.__enter__)
        assert seen() is None
        contextvars.copy_context().run(block.__exit__, None, None, None)
        block = make()
        copy.run(block.__enter__)
        error = KeyError("mine")
        assert not block.__exit__(KeyError, error, None), "it goes on to the application"
        assert seen() is None


@pytest.mark.parametrize("answers", [None, "f", 7, {"f": None}, {"f": 1}, {"f": ["on"]}, [("f", True)]])
def test_answers_that_are_none_are_named_where_they_are_given(client: Client, answers: Any) -> None:
    with pytest.raises(ConfigError, match=r"^answers: got .*expected a mapping from flags"):
        client.override(answers)


def test_where_answers_are_forced_nothing_is_tracked(make: Make, sink: sinks.Memory) -> None:
    # It would be joined to what the unit met before, and count for a variant that had no part in it.
    client = make({"f": {}, "g": {"guard": {"metrics": ["order"]}}})
    client.enabled("f", "ann")
    with client.override({"f": True}):
        client.track("order", "ann", value=1.0)
        client.feedback("f", score=5, context="ann")
        with flagkit.scope("ann"):
            client.track("order")
    with client.scope("ann"):
        client.track("order", value=2.0)
    client.flush()
    assert [(event["type"], event.get("value")) for event in sink.events] == [("exposure", None), ("metric", 2.0)]
