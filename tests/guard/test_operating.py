"""Guards do what docs/guards.md says: few repetitions here, all in the whole part (``-m full -s`` prints it)."""

from __future__ import annotations

import pytest

from tests.guard.operating import Row, load, most, run

ROWS = load()


def test_the_limits_are_those_of_a_binomial() -> None:
    assert [most(800), most(400), most(1000, 0.001)] == [18, 11, 5]


@pytest.mark.parametrize("row", [row for row in ROWS if row.quick], ids=lambda row: f"{row.part}: {row.name}")
def test_a_row_of_the_table_is_within_its_bar(row: Row) -> None:
    assert run([row], whole=False) == []


@pytest.mark.full
def test_every_row_of_the_table_is_within_its_bar() -> None:
    assert run(ROWS, whole=True) == []
