"""Scenarios run side by side, because they mostly wait: each test that asks for a ``stage`` is one.

The first of them to be called starts them all, a few at a time; each test then waits for the outcome of its own. A
scenario's parameters are those of its test; it can use no other fixture, because it runs in a thread.
"""

from __future__ import annotations

import os
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest

pytest.register_assert_rewrite("tests.faults.stage")
from tests.faults.stage import Stage  # noqa: E402 - the line above must come first

#: Most of a scenario's time is spent waiting, and some of it starting a process.
AT_ONCE = int(os.environ.get("FLAGKIT_SCENARIOS_AT_ONCE", 3 * (os.cpu_count() or 1)))
_outcomes = pytest.StashKey[dict[str, "Future[None]"]]()


@pytest.fixture
def stage() -> None:
    """Stands for the stage that the scenario's thread makes."""


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    if not _is_scenario(pyfuncitem):
        return None
    outcomes = pyfuncitem.session.stash.get(_outcomes, None)
    if outcomes is None:
        outcomes = pyfuncitem.session.stash[_outcomes] = _begin(pyfuncitem.session)
    outcomes[pyfuncitem.nodeid].result()
    return True


def pytest_sessionfinish(session: pytest.Session) -> None:
    for outcome in session.stash.get(_outcomes, {}).values():
        outcome.cancel()


def _is_scenario(item: Any) -> bool:
    return isinstance(item, pytest.Function) and "stage" in item.fixturenames


def _begin(session: pytest.Session) -> dict[str, Future[None]]:
    pool = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="scenario")
    outcomes = {item.nodeid: pool.submit(_play, item) for item in session.items if _is_scenario(item)}
    pool.shutdown(wait=False)
    return outcomes


def _play(item: pytest.Function) -> None:
    stage = Stage()
    try:
        given = item.callspec.params if hasattr(item, "callspec") else {}
        item.function(stage, **given)
        stage.check()
    except BaseException as error:
        error.add_note("\n".join(f"--- {app.directory.name}\n{app.words()}" for app in stage.apps))
        raise
    finally:
        stage.close()
