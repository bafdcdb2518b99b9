"""``GuardPolicy``: made in code, it names what is wrong with it."""

from __future__ import annotations

from typing import Any

import pytest

from flagkit.core.policy import FIELDS, GuardPolicy, expected_of
from flagkit.errors import ConfigError


@pytest.mark.parametrize(
    ("field", "value"),
    [("alpha", 0), ("alpha", float("nan")), ("action", "panic"), ("metrics", "x"), ("slo", 2), ("control", "")],
)
def test_a_wrong_value_is_named_with_what_would_be_right(field: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=rf"^{field}: got .*; expected ") as raised:
        GuardPolicy(**{field: value})
    assert raised.value.field == field


def test_it_is_frozen_equal_by_value_and_shows_every_field() -> None:
    policy = GuardPolicy(metrics=["refund"])
    assert (policy, hash(policy)) == (GuardPolicy(metrics=("refund",)), hash(GuardPolicy(metrics=("refund",))))
    assert policy != GuardPolicy()
    assert policy != "GuardPolicy()"
    with pytest.raises(AttributeError, match="frozen"):
        policy.alpha = 0.5  # type: ignore[misc]
    assert all(f"{field}=" in repr(policy) for field in FIELDS)


def test_its_defaults_are_good() -> None:
    assert {expected_of(field, getattr(GuardPolicy(), field)) for field in FIELDS} == {None}
