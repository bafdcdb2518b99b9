"""Log records say which variants were active where they were written."""

from __future__ import annotations

import asyncio
import io
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

import flagkit
from flagkit import Client, ConfigError
from flagkit.integrations.logging import ActiveVariants

Make = Callable[..., Client]


class Log:
    """A logger of its own, whose lines are read back."""

    def __init__(self, filtered: ActiveVariants) -> None:
        self._stream = io.StringIO()
        handler = logging.StreamHandler(self._stream)
        handler.addFilter(filtered)
        handler.setFormatter(logging.Formatter("%(message)s [%(variants)s]"))
        self.logger = logging.Logger("test")
        self.logger.addHandler(handler)

    @property
    def lines(self) -> list[str]:
        return self._stream.getvalue().splitlines()


@pytest.fixture
def log() -> Log:
    return Log(ActiveVariants())


def test_a_record_has_the_variants_of_its_scope(make: Make, log: Log) -> None:
    client = make()
    log.logger.info("before")
    with flagkit.scope("user-1"):
        log.logger.info("asked nothing")
        client.enabled("on")
        client.variant("text")
        with client.gate("off") as gate:
            gate.on
        log.logger.info("within")
    log.logger.info("after")
    assert log.lines == ["before [-]", "asked nothing [-]", "within [on=on, text=v, off=off]", "after [-]"]


def test_they_are_a_mapping_too_for_handlers_that_write_json(make: Make) -> None:
    record = logging.LogRecord("test", logging.INFO, "", 1, "m", (), None)
    client = make()
    with flagkit.scope("user-1"):
        client.enabled("on")
        assert ActiveVariants().filter(record) is True
    assert vars(record)["feature_flags"] == {"on": "on"}


def test_what_is_overridden_is_said(make: Make, log: Log) -> None:
    client = make()
    with flagkit.scope("user-1"), client.override({"off": True, "split": "b"}):
        client.enabled("off")
        log.logger.info("m")
    assert log.lines == ["m [off=on, split=b]"]


def test_questions_with_a_context_of_their_own_and_those_without_answer_are_not_of_the_scope(
    make: Make, log: Log
) -> None:
    client = make()
    with flagkit.scope("user-1"):
        client.enabled("on", "user-2")
        client.enabled("no-such-flag")
        log.logger.info("m")
    assert log.lines == ["m [-]"]


def test_so_many_flags_are_told_the_last_ones(make: Make) -> None:
    client, log = make({f"f{number}": {} for number in range(50)}), Log(ActiveVariants(limit=3))
    with flagkit.scope("user-1"):
        for number in range(50):
            client.enabled(f"f{number}")
        log.logger.info("m")
    assert log.lines == ["m [f47=off, f48=off, f49=off]"]


def test_two_clients_in_a_scope_take_one_place_a_flag(make: Make) -> None:
    first, second, log = make(), make(), Log(ActiveVariants(limit=2))
    with flagkit.scope("user-1"):
        for client in (first, second):
            client.enabled("on")
            client.enabled("off")
        log.logger.info("m")
    assert log.lines == ["m [on=on, off=off]"]


def test_requests_at_the_same_time_do_not_see_each_other_s(make: Make, log: Log) -> None:
    client = make()

    def serve(flag: str) -> None:
        with flagkit.scope("user-1"):
            client.enabled(flag)
            log.logger.info("thread")

    async def answer(flag: str) -> None:
        with flagkit.scope("user-1"):
            client.enabled(flag)
            await asyncio.sleep(0)
            log.logger.info("task")

    async def both() -> None:
        await asyncio.gather(answer("on"), answer("off"))

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(serve, ["on", "off"]))
    asyncio.run(both())
    assert sorted(log.lines) == ["task [off=off]", "task [on=on]", "thread [off=off]", "thread [on=on]"]


def test_a_scope_that_cannot_be_read_loses_no_record(log: Log) -> None:
    class Hostile(dict[Any, Any]):
        def keys(self) -> Any:
            raise RuntimeError

        def __iter__(self) -> Any:
            raise RuntimeError

        def items(self) -> Any:
            raise RuntimeError

    from flagkit.context import Scope, entered

    scope = Scope(None, None, Hostile())
    scope.pins.copy = Hostile.items.__get__(scope.pins)  # type: ignore[method-assign]
    with entered(scope):
        log.logger.info("m")
    assert log.lines == ["m [-]"]


@pytest.mark.parametrize("limit", [0, 1001, True, "2", None])
def test_a_limit_that_is_none_is_named(limit: Any) -> None:
    with pytest.raises(ConfigError, match="limit"):
        ActiveVariants(limit)
