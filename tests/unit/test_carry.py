"""The scope goes where it is carried, in threads, tasks and greenlets, and nowhere else."""

from __future__ import annotations

import asyncio
import importlib.util
import inspect
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import greenlet
import pytest
from overridden_shop import Meeting, seen, shop, token, unit

import flagkit
from flagkit.errors import ConfigError

HERE = Path(__file__).parent
client = shop()


def test_a_function_that_is_carried_runs_in_the_scope_of_then_and_leaves_nothing_in_the_thread() -> None:
    with ThreadPoolExecutor(1) as pool:
        with client.scope("ann", override=token()), client.override({"half": True}):
            carried = flagkit.carry(lambda: (seen(client), client.decide("half").reason))
            assert pool.submit(unit).result() is None
        # Also when the scope has ended where it was opened.
        assert pool.submit(carried).result() == ("ann on OVERRIDE", "OVERRIDE")
        assert pool.submit(unit).result() is None
    assert carried() == ("ann on OVERRIDE", "OVERRIDE")
    assert unit() is None


def test_carried_from_where_there_is_no_scope_it_runs_in_none() -> None:
    carried = flagkit.carry(unit)
    with client.scope("ann"):
        assert carried() is None
        assert unit() == "ann"


def test_many_threads_may_be_in_one_scope_at_once() -> None:
    meeting = Meeting()

    def meet(_: int) -> str | None:
        meeting.wait()
        return unit()

    with client.scope("ann"), ThreadPoolExecutor(2) as pool:
        assert list(pool.map(flagkit.carry(meet), range(2))) == ["ann", "ann"]


def test_an_answer_pinned_in_the_request_is_pinned_in_its_threads() -> None:
    with client.scope("ann"), ThreadPoolExecutor(1) as pool:
        pinned = client.decide("half")
        assert pool.submit(flagkit.carry(client.decide), "half").result() is pinned


def test_a_coroutine_function_stays_one_and_what_is_raised_passes() -> None:
    async def fail(text: str) -> None:
        """Fails."""
        await asyncio.sleep(0)
        raise LookupError(f"{text} {unit()}")

    with client.scope("ann"):
        carried = flagkit.carry(fail)
    assert inspect.iscoroutinefunction(carried)
    assert (carried.__name__, carried.__doc__) == ("fail", "Fails.")
    with pytest.raises(LookupError, match="for ann"):
        asyncio.run(carried("for"))
    assert unit() is None


def test_what_cannot_be_called_cannot_be_carried() -> None:
    with pytest.raises(ConfigError, match="function: got 5; expected a function"):
        flagkit.carry(5)  # type: ignore[arg-type]


def test_scopes_of_threads_at_the_same_time_are_their_own() -> None:
    meeting = Meeting()

    def serve(user: str, shown: str | None) -> list[str]:
        with client.scope(user, override=shown):
            before = seen(client)
            meeting.wait()
            during = seen(client)
            meeting.wait()
            return [before, during, seen(client)]

    with ThreadPoolExecutor(2) as pool:
        overridden, plain = pool.submit(serve, "ann", token()), pool.submit(serve, "bo", None)
        assert (overridden.result(), plain.result()) == (["ann on OVERRIDE"] * 3, ["bo off DEFAULT"] * 3)


def test_pinned_answers_of_tasks_at_the_same_time_are_their_own() -> None:
    async def serve(user: str, barrier: asyncio.Barrier) -> list[object]:
        with client.scope(user):
            await barrier.wait()
            first = client.decide("half")
            await barrier.wait()
            return [first, client.decide("half")]

    async def both() -> list[list[object]]:
        barrier = asyncio.Barrier(2)
        return await asyncio.gather(serve("user-1", barrier), serve("user-4", barrier))

    (a, again_a), (b, again_b) = asyncio.run(both())
    assert (a, b) == (client.peek("half", "user-1"), client.peek("half", "user-4"))
    assert a is not b
    assert (a, b) == (again_a, again_b)


def test_scopes_of_greenlets_at_the_same_time_are_their_own() -> None:
    def serve(user: str, shown: str | None) -> list[str]:
        with client.scope(user, override=shown):
            before = seen(client)
            here.switch()
            return [before, seen(client)]

    here = greenlet.getcurrent()
    overridden, plain = greenlet.greenlet(serve), greenlet.greenlet(serve)
    overridden.switch("ann", token())
    plain.switch("bo", None)
    assert unit() is None
    assert (overridden.switch(), plain.switch()) == (["ann on OVERRIDE"] * 2, ["bo off DEFAULT"] * 2)


GREENLETS = """
from gevent import monkey
monkey.patch_all()
import gevent
from gevent.event import Event
from flask import Flask
from overridden_shop import HEADER, asker, seen, shop, token
from flagkit.integrations.flask import Flags

client, app = shop(), Flask("greenlets")
Flags(app, context=lambda request: asker(request.headers), client=client)
inside, both = [], Event()

@app.get("/")
def meet():
    said = [seen(client), client.variant("half")]
    inside.append(1)
    if len(inside) == 2:
        both.set()
    assert both.wait(10)
    gevent.sleep(0)
    assert [seen(client), client.variant("half")] == said
    return seen(client)

def ask(headers):
    return app.test_client().get("/", headers=headers).text

jobs = [gevent.spawn(ask, {"X-User": "user-1", HEADER: token()}), gevent.spawn(ask, {"X-User": "user-4"})]
gevent.joinall(jobs, timeout=20)
print(*(job.value for job in jobs), sep="; ")
"""


@pytest.mark.full  # which is run where gevent is installed
@pytest.mark.skipif(importlib.util.find_spec("gevent") is None, reason="not installed: gevent; see the extra faults")
def test_requests_in_greenlets_at_the_same_time_have_a_scope_each() -> None:
    # In a process of its own: what gevent has patched it cannot give back.
    done = subprocess.run(
        [sys.executable, "-c", GREENLETS],
        env={"PYTHONPATH": f"{HERE}:{HERE.parents[1]}"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.stdout, done.stderr) == ("user-1 on OVERRIDE; user-4 off DEFAULT\n", "")
