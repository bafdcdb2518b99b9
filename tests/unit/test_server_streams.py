"""Changes told as they happen: to whom, from where on, and what becomes of who does not listen."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from flagkit.dialects import native
from flagkit.dialects.native_envelope import enveloped
from flagkit.server.definitions import Served
from flagkit.server.streams import Streams

Json = dict[str, Any]
PATIENCE_S = 10.0


def served(number: int, epoch: str = "e", **head: Any) -> Served:
    flags = {"a": {"description": str(number)}, "b": {}}
    body, etag, count = enveloped({"schema": 1, "flags": flags, **head}, epoch, number)
    return Served(body, b"", etag, epoch, number, count, native.parse(body).definitions)


def streams(most: int = 10, heartbeat_s: float = 60.0, numbers: int = 1) -> Streams:
    """Streams of a service whose definitions have changed ``numbers`` - 1 times."""
    made = Streams(most, heartbeat_s)
    made.publish(None, served(1))
    for number in range(2, numbers + 1):
        made.publish(served(number - 1), served(number))
    return made


def events(chunk: bytes) -> list[Json]:
    """The data of the events, and the id as ``id``."""
    found = []
    for block in chunk.decode().removesuffix("\n\n").split("\n\n"):
        first, second = block.split("\n")
        found.append({"id": first.removeprefix("id: "), **json.loads(second.removeprefix("data: "))})
    return found


def numbers(chunk: bytes) -> list[int]:
    return [event["number"] for event in events(chunk)]


def run(story: Callable[[], Any]) -> Any:
    async def bounded() -> Any:
        async with asyncio.timeout(PATIENCE_S):
            return await story()

    return asyncio.run(bounded())


async def first(listening: AsyncIterator[bytes]) -> bytes:
    return await anext(listening)


def test_whoever_comes_hears_where_the_service_is_and_then_every_change() -> None:
    made = streams(numbers=3)

    async def story() -> list[bytes]:
        listening = made.listen(None)
        heard = [await anext(listening)]
        made.publish(served(3), served(4))
        heard.append(await anext(listening))
        made.publish(served(4), served(5))
        made.publish(served(5), served(6))
        heard.append(await anext(listening))
        await listening.aclose()
        return heard

    here, one, two = run(story)
    assert events(here) == [{"id": "e:3", "epoch": "e", "number": 3}]
    (change,) = events(one)
    assert (change["id"], change["base"], change["flags"]) == ("e:4", 3, {"a": {"description": "4"}})
    assert change["etag"] == served(4).etag
    assert numbers(two) == [5, 6], "what came at once is told at once"


@pytest.mark.parametrize(
    ("last_id", "told"), [("e:3", [4, 5, 5]), ("e:4", [5, 5]), ("e:5", [5]), ("e:9", [5]), ("f:4", [5]), ("", [5])]
)
def test_whoever_comes_back_hears_what_he_missed_if_it_is_known(last_id: str, told: list[int]) -> None:
    made = streams(numbers=5)
    assert numbers(run(lambda: first(made.listen(last_id)))) == told


def test_the_past_is_bounded_and_who_fell_behind_hears_where_the_service_is() -> None:
    made = streams(numbers=200)
    assert len(made._state.past) == 64
    assert numbers(run(lambda: first(made.listen("e:100")))) == [200]

    async def story() -> list[int]:
        listening = made.listen(None)
        await anext(listening)
        for number in range(201, 300):
            made.publish(served(number - 1), served(number))
        heard = numbers(await anext(listening))
        await listening.aclose()
        return heard

    assert run(story) == [299]


def test_in_silence_there_is_a_sign_of_life_that_says_where_the_service_is() -> None:
    made = streams(heartbeat_s=0.01, numbers=2)

    async def story() -> list[int]:
        listening = made.listen(None)
        heard = [numbers(await anext(listening)) for _ in range(3)]
        await listening.aclose()
        return heard

    assert run(story) == [[2], [2], [2]]


def test_a_change_that_does_not_fit_tells_a_larger_audience_to_take_more_time() -> None:
    made = streams()

    async def story() -> list[Json]:
        listening = [made.listen(None) for _ in range(5)]
        for each in listening:
            await anext(each)
        made.publish(served(1), served(2, environment="production"))
        heard = [events(await anext(each)) for each in listening]
        for each in listening:
            await each.aclose()
        return heard[0]

    assert run(story) == [{"id": "e:2", "epoch": "e", "number": 2, "reload": True, "spread_ms": 5}]


def test_listeners_are_counted_and_who_leaves_makes_room() -> None:
    made = streams(most=2)

    async def story() -> list[tuple[int, bool]]:
        one, two = made.listen(None), made.listen(None)
        seen = [(len(made), made.full)]
        await anext(one), await anext(two)
        seen.append((len(made), made.full))
        await one.aclose()
        seen.append((len(made), made.full))
        await two.aclose()
        return seen

    assert run(story) == [(0, False), (2, True), (1, False)]
    assert len(made) == 0


def test_closing_ends_every_stream_and_nobody_comes_in_any_more() -> None:
    made = streams()

    async def story() -> list[bytes]:
        listening = made.listen(None)
        await anext(listening)
        threading.Thread(target=made.close).start()
        return [chunk async for chunk in listening]

    assert run(story) == []
    assert made.full
    assert len(made) == 0


def test_a_listener_whose_loop_is_gone_stops_nobody() -> None:
    made = streams()
    loop = asyncio.new_event_loop()
    listening = made.listen(None)
    loop.run_until_complete(anext(listening))
    loop.close()
    made.publish(served(1), served(2))
    assert numbers(run(lambda: first(made.listen(None)))) == [2]
    with pytest.raises(StopIteration):
        listening.aclose().send(None)


def test_changes_from_another_thread_are_all_told_in_order() -> None:
    made = streams()

    def edit() -> None:
        for number in range(2, 50):
            made.publish(served(number - 1), served(number))

    async def story() -> list[int]:
        listening = made.listen(None)
        heard = numbers(await anext(listening))
        editing = asyncio.get_running_loop().run_in_executor(None, edit)
        while heard[-1] < 49:
            heard += numbers(await anext(listening))
        await editing
        await listening.aclose()
        return heard

    # Where it stands may be said twice, as with a heartbeat; a number is never left out or out of order.
    assert list(dict.fromkeys(run(story))) == list(range(1, 50))
