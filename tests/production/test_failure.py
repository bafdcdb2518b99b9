"""What a call failed of is told by an exception's type and place, never by what it says."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from typing import Any

import pytest

from flagkit import Client, sources
from flagkit.production.failure import Failure


def failure(error: type[BaseException], *arguments: Any) -> Failure:
    try:
        raise error(*arguments)
    except BaseException as raised:  # noqa: BLE001 - all kinds of them
        return Failure.of(raised)


def test_a_failure_is_the_name_of_the_type_and_knows_where_it_came_from() -> None:
    found = failure(ValueError, "of ann@example.com")
    assert (found, str(found)) == ("ValueError", "ValueError")
    assert found.place == f"production/test_failure.py:{failure.__code__.co_firstlineno + 2}"


def test_the_place_is_the_innermost_one() -> None:
    def outer() -> None:
        inner()

    def inner() -> None:
        raise KeyError

    with pytest.raises(KeyError) as caught:
        outer()
    assert Failure.of(caught.value).place == f"production/test_failure.py:{inner.__code__.co_firstlineno + 1}"


def test_an_exception_that_was_never_raised_has_no_place() -> None:
    assert Failure.of(ValueError()).place is None


def test_a_recursion_that_went_wrong_has_a_place() -> None:
    def down() -> None:
        down()

    with pytest.raises(RecursionError) as caught:
        down()
    assert str(Failure.of(caught.value).place).startswith("production/test_failure.py:")


def test_only_two_parts_of_a_path_are_told_and_only_in_ascii() -> None:
    long = "/x/f\udcff" + "y" * 500 + ".py"
    for path, told in (
        ("/home/ann/shop/cart.py", "shop/cart.py:1"),
        ("C:\\shop\\cart.py", "shop/cart.py:1"),
        (long, f"{'y' * 123}.py:1"),
    ):
        with pytest.raises(ValueError) as caught:
            exec(compile("raise ValueError", path, "exec"))
        assert Failure.of(caught.value).place == told


def test_a_type_that_lies_about_its_name_is_an_exception() -> None:
    class Lying(type):
        @property
        def __name__(cls) -> Any:
            raise RuntimeError

    class Silent(type):
        __name__ = 7  # type: ignore[assignment]

    assert failure(Lying("Broken", (Exception,), {})) == "Exception"
    assert failure(Silent("Broken", (Exception,), {})) == "Exception"
    assert len(failure(type("N" * 1000, (Exception,), {}))) == 128


def fails() -> None:
    raise LookupError("of ann@example.com")


async def fails_later() -> None:
    fails()


def fails_between() -> Any:
    yield 1
    fails()


def within(client: Client) -> None:
    with client.gate("f", "user-1") as gate:
        assert gate.on
        fails()


def gated(client: Client, function: Any) -> Any:
    return client.gate("f", "user-1", otherwise=fails)(function)


ways: dict[str, Callable[[Client], object]] = {
    "with": within,
    "function": lambda client: gated(client, fails)(),
    "coroutine": lambda client: asyncio.run(gated(client, fails_later)()),
    "generator": lambda client: list(gated(client, fails_between)()),
}


@pytest.mark.parametrize("kind", ways)
def test_every_kind_of_gate_tells_the_place(kind: str) -> None:
    client = Client(source=sources.Static({"schema": 1, "flags": {"f": {"default": "on"}}}))
    with pytest.raises(LookupError):
        ways[kind](client)
    (read,) = client.status.variants
    assert read.errors == {"LookupError": 1}
    assert read.places == {"LookupError": f"production/test_failure.py:{fails.__code__.co_firstlineno + 1}"}
    assert "ann@example.com" not in repr(client.status)
    client.close(0)


def test_a_word_that_a_gate_was_told_has_no_place() -> None:
    client = Client(source=sources.Static({"schema": 1, "flags": {"f": {"default": "on"}}}))
    with client.gate("f", "user-1") as gate:
        assert gate.on
        gate.fail("timeout")
    (read,) = client.status.variants
    assert (read.errors, read.places) == ({"timeout": 1}, {})
    assert sys.getsizeof(Failure.of(ValueError())) < 200
    client.close(0)
