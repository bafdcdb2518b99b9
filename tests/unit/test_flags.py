"""Declared flags: a key that knows its default."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
from documents import client

from flagkit import ConfigError, Flag

MAX_ITEMS = Flag("max-items", default=10, owner="search", expires="2027-06-30")


def test_a_flag_is_its_key_wherever_a_key_is_wanted() -> None:
    assert MAX_ITEMS == "max-items"
    assert hash(MAX_ITEMS) == hash("max-items")
    assert {"max-items": 1}[MAX_ITEMS] == 1
    assert f"{MAX_ITEMS}" == str(MAX_ITEMS) == "max-items"
    assert (MAX_ITEMS.default, MAX_ITEMS.owner, MAX_ITEMS.expires) == (10, "search", "2027-06-30")
    assert (Flag("a", default=None).owner, Flag("a", default=None).expires) == (None, None)


def test_a_flag_shows_what_it_is() -> None:
    assert repr(MAX_ITEMS) == "Flag('max-items', default=10)"


def test_a_flag_may_say_its_type() -> None:
    assert Flag[int]("max-items", default=10) == MAX_ITEMS


@pytest.mark.parametrize("twin", [copy.copy, copy.deepcopy, lambda flag: pickle.loads(pickle.dumps(flag))])
def test_a_flag_can_be_copied_and_sent_to_another_process(twin: Any) -> None:
    other = twin(MAX_ITEMS)
    assert type(other) is Flag
    assert (other, other.default, other.owner, other.expires) == (MAX_ITEMS, 10, "search", "2027-06-30")


@pytest.mark.parametrize(
    ("field", "arguments"),
    [
        ("key", {"key": ""}),
        ("key", {"key": 7}),
        ("key", {"key": None}),
        ("expires", {"key": "a", "expires": "soon"}),
        ("expires", {"key": "a", "expires": 2027}),
    ],
)
def test_a_flag_that_cannot_be_is_told_by_its_field(field: str, arguments: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=f"^{field}: got ") as caught:
        Flag(**{"default": 1, **arguments})
    assert caught.value.field == field


def test_a_flag_without_a_default_is_none() -> None:
    strange: Any = Flag
    with pytest.raises(TypeError, match="default"):
        strange("a")


def test_the_clients_verbs_take_the_default_from_the_flag() -> None:
    asked = client({"max-items": {"variants": {"few": 5, "many": "lots"}, "off": "few"}})
    assert asked.value(MAX_ITEMS) == 5
    assert asked.value(Flag("max-items", default="x")) == "x"
    assert asked.value(Flag("ghost", default=[1])) == [1]
    assert asked.value(MAX_ITEMS, default="mine") == "mine"
    assert asked.enabled(Flag("ghost", default=True)) is True
    assert asked.enabled(Flag("ghost", default=True), default=False) is False
    assert asked.enabled(Flag("ghost", default=1)) is False
    assert asked.variant(MAX_ITEMS) == "few"
    assert asked.decide(MAX_ITEMS).flag == "max-items"
