"""Whatever is given for a time to wait, nothing raises, and a client that is closed is closed."""

from __future__ import annotations

import math
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flagkit import Client, sinks, sources
from flagkit.arguments import LONGEST_S, usable_s


class Rude(float):
    """A number whose own methods all raise."""

    def __float__(self) -> float:
        raise KeyError

    __lt__ = __gt__ = __eq__ = __add__ = __radd__ = __float__  # type: ignore[assignment]
    __hash__ = None  # type: ignore[assignment]


NO_TIMES = [None, "5", "", b"5", True, False, math.nan, [], {}, object(), 5j, Decimal(5), float, math]
times = st.one_of(
    st.floats(),
    st.integers(),
    st.sampled_from([10**400, -(10**400), math.inf, -math.inf, Rude(3), *NO_TIMES]),
    st.text(max_size=3),
)


@given(times)
def test_any_value_makes_a_finite_time_and_only_what_is_none_is_counted(given: Any) -> None:
    errors: dict[str, int] = {}
    assert 0 <= usable_s(given, 5.0, errors) <= LONGEST_S
    is_none = type(given) not in (int, float, Rude) or (type(given) is float and math.isnan(given))
    assert errors == ({"INVALID_TIMEOUT": 1} if is_none else {})


@pytest.mark.parametrize(
    ("given", "meant"),
    [(3, 3.0), (0.25, 0.25), (Rude(3), 3.0), (-1, 0.0), (-math.inf, 0.0), (math.inf, LONGEST_S), (10**400, LONGEST_S)],
)
def test_numbers_mean_themselves_within_bounds(given: Any, meant: float) -> None:
    assert usable_s(given, 5.0, {}) == meant


@pytest.mark.parametrize("given", NO_TIMES, ids=repr)
def test_what_is_no_time_is_the_default(given: Any) -> None:
    assert usable_s(given, 5.0, {}) == 5.0


@given(times)
def test_no_verb_that_waits_raises_and_closing_sends_what_waits(timeout_s: Any) -> None:
    sink = sinks.Memory()
    client = Client(source=sources.Static({"schema": 1, "flags": {}}), sink=sink)
    assert client.wait_ready(timeout_s)
    assert client.refresh(timeout_s)
    with client.invocation(timeout_s):
        client.track("order", "u-1")
    client.flush(timeout_s)
    client.flush()
    client.close(timeout_s)
    client.track("late", "u-1")
    account = client.status.account
    assert account is not None
    assert (account.lost, account.pending, len(sink.events)) == ({"closed": 1}, 0, 1)


@pytest.mark.parametrize("timeout_s", NO_TIMES, ids=repr)
def test_a_close_that_was_told_no_time_sends_what_waits_all_the_same_and_says_so(timeout_s: Any) -> None:
    sink = sinks.Memory()
    client = Client(source=sources.Static({"schema": 1, "flags": {}}), sink=sink)
    client.track("order", "u-1")
    assert client.close(timeout_s) == 0
    assert len(sink.events) == 1
    assert client.status.errors == {"INVALID_TIMEOUT": 1}


def test_an_invocation_that_was_told_no_time_passes_on_what_its_block_raises() -> None:
    nothing: Any = None
    client = Client(source=sources.Static({"schema": 1, "flags": {}}), sink=sinks.Memory())
    with pytest.raises(KeyError), client, client.invocation(timeout_s=nothing):
        raise KeyError
