"""The manual's table beside other libraries names a test for every row, and there is one of that name."""

from __future__ import annotations

import re
from pathlib import Path

HERE = Path(__file__).parent
PAGE = HERE.parents[1] / "docs" / "shadow.md"


def test_every_row_of_the_table_is_shown_by_a_test() -> None:
    table = PAGE.read_text(encoding="utf-8").split("## Beside scientist and laboratory")[1]
    rows = [line for line in table.splitlines() if line.startswith("| ")][1:]
    named = [re.fullmatch(r".*\| `(test_\w+)` \|", row) for row in rows]
    tests = {
        name
        for path in HERE.glob("test_*.py")
        for name in re.findall(r"^def (test_\w+)", path.read_text(encoding="utf-8"), re.MULTILINE)
    }
    assert len(rows) >= 30
    assert [row for row, found in zip(rows, named, strict=True) if found is None or found[1] not in tests] == []
