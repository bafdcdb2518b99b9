"""What the stored events add up to."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from server_events import HOUR_MS, NOW_MS, batch, exposure, metric

from flagkit.server.intake import read_batch
from flagkit.server.store import Store
from flagkit.server.summary import Question, summarise

Ask = Callable[..., Any]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(tmp_path / "flagkit.db", lambda: NOW_MS)
    store.open()
    yield store
    store.close()


@pytest.fixture
def summary_of(store: Store) -> Ask:
    def ask(*events: dict[str, Any], dropped: dict[str, int] | None = None, **question: Any) -> Any:
        store.add(read_batch(batch(*events, dropped=dropped), "")).result(10)
        return summarise(store.path, Question(**question))

    return ask


def test_nothing_stored_is_an_empty_summary(store):
    assert summarise(store.path, Question()) == {
        "flag": None,
        "since_ms": 0,
        "flags": {},
        "calls": {},
        "stored": {"exposures": 0, "metrics": 0},
        "received": {"batches": 0, "deliveries": 0, "events": 0, "accepted": 0, "duplicates": 0},
        "feedback": {},
        "early_access": {},
        "dropped": {},
        "changes": [],
    }


def test_a_unit_seen_in_two_hours_counts_once_in_the_total_and_once_in_each_hour(summary_of):
    summary = summary_of(
        exposure(unit="a"),
        exposure(unit="b"),
        exposure(unit="a", time_ms=NOW_MS + HOUR_MS),
        exposure(unit="a", variant="off"),
    )
    assert summary["flags"]["checkout"] == {
        "units": 2,
        "exposures": 4,
        "variants": {
            "off": {
                "units": 1,
                "exposures": 1,
                "hours": [{"hour": "2026-05-10T08:00:00Z", "units": 1, "exposures": 1}],
                "metrics": {},
            },
            "on": {
                "units": 2,
                "exposures": 3,
                "hours": [
                    {"hour": "2026-05-10T08:00:00Z", "units": 2, "exposures": 2},
                    {"hour": "2026-05-10T09:00:00Z", "units": 1, "exposures": 1},
                ],
                "metrics": {},
            },
        },
    }


def test_metric_events_are_joined_to_the_variant_of_their_unit(summary_of):
    summary = summary_of(
        exposure(unit="a", variant="on"),
        exposure(unit="b", variant="on"),
        exposure(unit="c", variant="off"),
        metric("purchase", "a", NOW_MS + 1, 10.0),
        metric("purchase", "a", NOW_MS + 2, 30.0),
        metric("purchase", "c", NOW_MS + 1, 5.0),
        metric("click", "c", NOW_MS + 1),
        metric("purchase", "stranger", NOW_MS + 1, 1000.0),
        metric("purchase", None, NOW_MS + 1, 1000.0),
    )
    variants = summary["flags"]["checkout"]["variants"]
    assert variants["on"]["metrics"] == {
        "purchase": {"units": 2, "units_with_event": 1, "events": 2, "sum": 40.0, "mean": 20.0}
    }
    assert variants["off"]["metrics"] == {
        "click": {"units": 1, "units_with_event": 1, "events": 1, "sum": None, "mean": None},
        "purchase": {"units": 1, "units_with_event": 1, "events": 1, "sum": 5.0, "mean": 5.0},
    }
    assert summary["stored"] == {"exposures": 3, "metrics": 6}


def test_a_metric_event_before_the_first_exposure_belongs_to_nobody(summary_of):
    summary = summary_of(
        metric("purchase", "a", NOW_MS - 1, 1.0),
        exposure(unit="a", time_ms=NOW_MS),
        metric("purchase", "a", NOW_MS, 2.0),
    )
    assert summary["flags"]["checkout"]["variants"]["on"]["metrics"]["purchase"]["sum"] == 2.0


def test_a_unit_that_changed_its_variant_counts_where_it_was_first(summary_of):
    summary = summary_of(
        exposure(unit="a", variant="on", time_ms=NOW_MS + 50),
        exposure(unit="a", variant="off", time_ms=NOW_MS),
        metric("purchase", "a", NOW_MS + 100, 7.0),
    )
    variants = summary["flags"]["checkout"]["variants"]
    assert variants["on"]["metrics"] == {}
    assert variants["off"]["metrics"]["purchase"] == {
        "units": 1, "units_with_event": 1, "events": 1, "sum": 7.0, "mean": 7.0
    }  # fmt: skip


def test_an_event_counts_for_every_flag_its_unit_met(summary_of):
    summary = summary_of(exposure("x"), exposure("y", variant="off"), metric(time_ms=NOW_MS + 1, value=3.0))
    assert summary["flags"]["x"]["variants"]["on"]["metrics"]["purchase"]["sum"] == 3.0
    assert summary["flags"]["y"]["variants"]["off"]["metrics"]["purchase"]["sum"] == 3.0


def test_one_flag_can_be_asked_for(summary_of):
    assert summary_of(exposure("x"), exposure("y"), flag="y")["flags"].keys() == {"y"}
    assert summary_of(flag="z")["flags"] == {}


def test_what_happened_before_since_does_not_count(summary_of):
    summary = summary_of(
        exposure(unit="a"),
        exposure(unit="b", time_ms=NOW_MS + HOUR_MS),
        metric("purchase", "a", NOW_MS + HOUR_MS, 1.0),
        metric("purchase", "b", NOW_MS + HOUR_MS, 2.0),
        since_ms=NOW_MS + 1,
    )
    flag = summary["flags"]["checkout"]
    assert (flag["units"], flag["exposures"]) == (1, 1)
    assert flag["variants"]["on"]["metrics"]["purchase"]["sum"] == 2.0


def test_deliveries_duplicates_and_losses_are_told(summary_of):
    summary_of(exposure(unit="a"), exposure(time_ms=-1), dropped={"full": 2})
    summary = summary_of(exposure(unit="a"), dropped={"full": 1})
    assert summary["received"] == {"batches": 2, "deliveries": 2, "events": 3, "accepted": 2, "duplicates": 1}
    assert summary["dropped"] == {"full": 3}


def test_a_summary_does_not_wait_for_the_writer(store):
    store.add(read_batch(batch(exposure()), "")).result(10)

    def in_a_transaction(connection: Any) -> Any:
        connection.execute("DELETE FROM exposures")
        return summarise(store.path, Question())

    assert store.submit(in_a_transaction).result(10)["stored"]["exposures"] == 1
    assert summarise(store.path, Question())["stored"]["exposures"] == 0
