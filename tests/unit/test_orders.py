"""Orders on their way: what is said is what is meant, at a terminal and over a wire."""

from __future__ import annotations

import json
from decimal import Decimal

import pytest

from flagkit.changes import (
    Author,
    Change,
    History,
    Kill,
    OrderError,
    Ramp,
    Reset,
    Revert,
    Serve,
    order_document,
    order_from,
)
from flagkit.changes import undoing as undo_of
from flagkit.changes.history import history_from

ORDERS = [
    Kill("checkout"),
    Ramp("checkout", Decimal("12.5")),
    Ramp("checkout", Decimal("0.001"), "canary", True),
    Ramp("checkout", Decimal("100")),
    Ramp("checkout", Decimal("0")),
    Serve("checkout", "on"),
    Reset("checkout"),
    Revert(),
    Revert("checkout"),
    Revert("checkout", 0),
    Revert("checkout", 7, True),
]


@pytest.mark.parametrize("order", ORDERS, ids=str)
def test_an_order_is_the_same_at_the_other_end(order):
    assert order_from(json.loads(json.dumps(order_document(order)), parse_float=Decimal)) == order


def test_what_is_left_out_is_not_sent():
    assert order_document(Revert()) == {"kind": "revert"}
    assert order_document(Ramp("f", Decimal("5"))) == {"kind": "ramp", "flag": "f", "percent": 5}
    assert order_document(Revert("f", 0)) == {"kind": "revert", "flag": "f", "to": 0}


@pytest.mark.parametrize("percent", [1e400, float("nan"), 2**63, Decimal("Infinity"), Decimal("1e-9"), None, [5]])
def test_a_percentage_that_is_none_is_refused(percent):
    with pytest.raises(OrderError, match="percent: got "):
        order_from({"kind": "ramp", "flag": "f", "percent": percent})


def change(number: int, command: str, before: str, after: str, request: str = "") -> Change:
    return Change(number, "t", "ann", "why", command, "f", "s", before, after, "d", "d", request)


def test_a_change_is_undone_by_a_revert_and_a_revert_by_its_number():
    first, second = change(1, "kill", "{}", '{"enabled": false}'), change(2, "revert", '{"enabled": false}', "{}")
    history = History((first, second), 0)
    assert undo_of(first, history) == ("revert", "f")
    assert undo_of(second, history) == ("revert", "f", "--to", "1")
    assert undo_of(second, History((second,), 0)) == ("revert", "f", "--force")


def test_a_history_with_and_without_request_ids_is_read():
    lines = [
        json.dumps(each.record()) for each in (change(1, "kill", "{}", "{}"), change(2, "kill", "{}", "{}", "r-2"))
    ]
    assert '"request"' not in lines[0]
    history = history_from("\n".join(lines).encode())
    assert [each.request for each in history.changes] == ["", "r-2"]
    assert history.requested("r-2") == history.changes[1]
    assert history.requested("") is None


def test_an_author_needs_no_request_id():
    assert Author("ann", "because", "kill").request == ""
