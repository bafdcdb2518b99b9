"""Contexts: what is a unit, what is none, and what travels with a request or task."""

from __future__ import annotations

import asyncio
import copy
import pickle
import threading
from collections import OrderedDict, UserDict
from concurrent.futures import ThreadPoolExecutor
from enum import IntEnum, StrEnum
from types import MappingProxyType
from typing import Any
from uuid import UUID

import pytest
from documents import STEADY
from hypothesis import given
from hypothesis import strategies as st

from flagkit.context import ANONYMOUS, Context, as_context, current_scope, overriding, scope, unit_key

UNIT_ID = UUID("12345678-1234-5678-1234-567812345678")


class Plan(StrEnum):
    PRO = "pro"


class Level(IntEnum):
    LOW = 1


class Loud(str):
    def __str__(self) -> str:
        return "LOUD"

    def encode(self, *_: Any) -> bytes:  # type: ignore[override]
        return b"LOUD"


class Rude:
    """An object that fails whatever is done with it."""

    def __getattribute__(self, name: str) -> Any:
        raise RuntimeError(name)

    def __eq__(self, other: object) -> bool:
        raise RuntimeError

    def __hash__(self) -> int:
        raise RuntimeError

    def __repr__(self) -> str:
        raise RuntimeError


# -- units -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("unit", "key"),
    [
        ("user-1", b"user-1"),
        ("é", b"\xc3\xa9"),
        (" ", b" "),
        ("x" * 1024, b"x" * 1024),
        (7, b"7"),
        (-7, b"-7"),
        (0, b"0"),
        (2**63 - 1, b"9223372036854775807"),
        (1 - 2**63, b"-9223372036854775807"),
        (UNIT_ID, b"12345678-1234-5678-1234-567812345678"),
        (Plan.PRO, b"pro"),
        (Level.LOW, b"1"),
        (Loud("quiet"), b"quiet"),
    ],
)
def test_a_unit_is_hashed_as_its_text(unit: object, key: bytes) -> None:
    assert unit_key(unit) == key
    assert Context(unit).unit_text == key.decode()


@pytest.mark.parametrize(
    "unit",
    [
        None,
        True,
        False,
        1.5,
        float("nan"),
        b"user-1",
        "",
        "x" * 1025,
        "é" * 513,
        "\ud800",
        2**63,
        -(2**63),
        [],
        {},
        (),
        object(),
    ],
    ids=repr,
)
def test_what_is_no_unit_makes_the_context_invalid(unit: object) -> None:
    assert unit_key(unit) is False
    context = Context(unit)
    assert context._key is False
    assert context.unit_text is None


def test_five_megabytes_are_no_unit_and_no_work() -> None:
    assert unit_key("x" * 5_000_000) is False


def test_an_object_that_always_fails_is_no_unit() -> None:
    assert Context(Rude())._key is False
    assert as_context(Rude())._key is False
    assert "Context" in repr(Context(Rude()))


def test_a_context_without_a_unit_is_valid() -> None:
    assert Context()._key is None
    assert Context(attributes={"a": 1}).unit_text is None
    assert ANONYMOUS._key is None


@given(st.text() | st.integers() | st.floats() | st.binary() | st.none() | st.booleans())
@STEADY
def test_every_unit_that_is_one_has_a_text_of_its_own(unit: object) -> None:
    key = unit_key(unit)
    if isinstance(unit, str):
        assert key in (False, unit.encode(errors="replace"))
    elif isinstance(unit, bool) or not isinstance(unit, int):
        assert key is False
    else:
        assert key in (False, str(unit).encode())


# -- contexts from what callers pass ---------------------------------------------------------------------------------


def test_a_context_is_taken_as_it_is() -> None:
    context = Context("u")
    assert as_context(context) is context


@pytest.mark.parametrize("mapping", [dict, OrderedDict, UserDict, MappingProxyType])
def test_a_mapping_gives_unit_and_attributes_and_is_not_changed(mapping: Any) -> None:
    given = mapping({"unit": "u", "plan": "pro", "enrolments": {"f": True}, "synthetic": True})
    context = as_context(given)
    assert (context.unit_text, dict(context.attributes)) == ("u", {"plan": "pro"})
    assert (context.enrolments, context.synthetic) == ({"f": True}, True)
    assert len(given) == 4


@pytest.mark.parametrize(
    ("given", "key"), [({}, None), ({"plan": "pro"}, None), ({"unit": None}, False), ({"unit": ""}, False)]
)
def test_a_mapping_without_unit_has_none_and_with_a_bad_one_is_invalid(given: Any, key: object) -> None:
    assert as_context(given)._key is key


@pytest.mark.parametrize("strange", ["yes", 1, [], None])
def test_entries_of_the_wrong_type_count_as_not_given(strange: Any) -> None:
    context = as_context({"unit": "u", "enrolments": strange, "synthetic": strange})
    assert (context.enrolments, context.synthetic) == (None, False)


def test_a_mapping_that_fails_is_an_invalid_context() -> None:
    class Failing(UserDict[str, Any]):
        def __iter__(self) -> Any:
            raise RuntimeError

        def keys(self) -> Any:
            raise RuntimeError

    class Key:
        def __hash__(self) -> int:
            return hash("unit")

        def __eq__(self, other: object) -> bool:
            raise RuntimeError

    assert as_context(Failing())._key is False
    assert as_context({Key(): 1})._key is False


@pytest.mark.parametrize("unit", ["u", 7, UNIT_ID, None, 1.5])
def test_anything_else_is_the_unit(unit: object) -> None:
    assert as_context(unit)._key == unit_key(unit)


def test_attributes_of_a_context_do_not_show_in_its_repr() -> None:
    assert repr(Context("user-1", {"email": "anna@example.com"})) == "Context(unit='user-1', 1 attributes)"
    assert repr(Context()) == "Context(unit=<no unit>, 0 attributes)"
    assert "secret" not in repr(Context(b"secret"))


def test_attributes_that_are_no_mapping_break_nothing_here() -> None:
    strange: list[Any] = [5, [1], "text", Rude()]
    for attributes in strange:
        context = Context("u", attributes)
        assert context.unit_text == "u"
        assert "u" in repr(context)


def test_contexts_can_be_copied_and_pickled() -> None:
    context = Context("u", {"a": [1]}, enrolments={"f": True}, synthetic=True)
    for twin in (copy.copy(context), copy.deepcopy(context), pickle.loads(pickle.dumps(context))):
        assert (twin.unit_text, twin.attributes, twin.enrolments, twin.synthetic) == (
            "u",
            {"a": [1]},
            {"f": True},
            True,
        )
    assert pickle.loads(pickle.dumps(Context()))._key is None


# -- the ambient scope -----------------------------------------------------------------------------------------------


def ambient() -> str | None:
    """The unit of the ambient context."""
    now = current_scope()
    return None if now is None or now.context is None else now.context.unit_text


def forced() -> dict[str, Any]:
    now = current_scope()
    return dict(now.forced or {}) if now else {}


def test_a_scope_holds_inside_its_block_and_ends_with_it() -> None:
    assert ambient() is None
    with scope("outer", plan="pro") as context:
        assert (context.unit_text, context.attributes) == ("outer", {"plan": "pro"})
        with scope(Context("inner")) as inner:
            assert ambient() == inner.unit_text == "inner"
        assert ambient() == "outer"
    assert current_scope() is None


def test_a_scope_ends_when_its_block_raises() -> None:
    with pytest.raises(KeyError), scope("u"):
        raise KeyError
    assert current_scope() is None


def test_a_scope_without_a_unit_and_one_with_a_bad_one() -> None:
    with scope(plan="pro") as context:
        assert context._key is None
    with scope(None) as context:
        assert context._key is False


def test_forced_answers_add_up_and_the_inner_ones_win() -> None:
    with overriding({"a": True, "b": "x"}):
        assert ambient() is None
        with scope("u"), overriding({"b": "y", "c": False}):
            assert forced() == {"a": True, "b": "y", "c": False}
            assert ambient() == "u"
        assert forced() == {"a": True, "b": "x"}
    assert forced() == {}


def test_what_is_forced_is_what_it_was_at_the_time() -> None:
    answers: dict[str, str | bool] = {"a": True}
    with overriding(answers):
        answers["a"] = False
        assert forced() == {"a": True}


def test_tasks_see_the_scope_they_were_made_in_and_not_each_others() -> None:
    async def work(unit: str) -> list[str | None]:
        seen = [ambient()]
        with scope(unit), overriding({unit: True}):
            for _ in range(3):
                await asyncio.sleep(0)
                seen += [ambient(), *forced()]
        return [*seen, ambient()]

    async def main() -> list[list[str | None]]:
        with scope("main"):
            return await asyncio.gather(*(work(f"task-{number}") for number in range(20)))

    for number, seen in enumerate(asyncio.run(main())):
        mine = f"task-{number}"
        assert seen == ["main", *([mine, mine] * 3), "main"]


def test_threads_start_without_a_scope() -> None:
    seen: list[str | None] = []
    with scope("main"), overriding({"a": True}):
        thread = threading.Thread(target=lambda: seen.extend([ambient(), *forced()]))
        thread.start()
        thread.join()
        with ThreadPoolExecutor(1) as pool:
            seen.append(pool.submit(ambient).result())
    assert seen == [None, None]


def test_to_thread_takes_the_scope_along() -> None:
    async def main() -> str | None:
        with scope("task"):
            return await asyncio.to_thread(ambient)

    assert asyncio.run(main()) == "task"
