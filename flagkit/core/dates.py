"""Dates as people write them in definitions and attributes: RFC 3339, plain dates, and ages such as "7d"."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime
from functools import lru_cache
from typing import Final

_RFC3339: Final = re.compile(r"\d{4}-\d\d-\d\d(?:[Tt ]\d\d:\d\d:\d\d(?:\.\d{1,9})?(?:[Zz]|[+-]\d\d:\d\d))?", re.ASCII)
_RELATIVE: Final = re.compile(r"(\d{1,6})([smhdw])", re.ASCII)
_UNIT_MS: Final = {"s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000}
DATE_FORM: Final = 'a date such as "2026-12-01T09:00:00Z" or "2026-12-01"'


@lru_cache(maxsize=4096)
def parse_date_ms(text: str) -> int | None:
    """Milliseconds since 1970 of an RFC 3339 date-time (offset required) or a date (midnight UTC); None for neither."""
    if len(text) > 64 or not _RFC3339.fullmatch(text):
        return None
    try:
        if len(text) == 10:
            day = date.fromisoformat(text)
            moment = datetime(day.year, day.month, day.day, tzinfo=UTC)
        else:
            moment = datetime.fromisoformat(text.upper())
        return round(moment.timestamp() * 1000)
    except (ValueError, OverflowError):
        return None


def parse_age_ms(text: str) -> int | None:
    """Milliseconds of an age such as "90s", "30m", "12h", "7d" or "2w"; None if it is none."""
    found = _RELATIVE.fullmatch(text)
    return int(found[1]) * _UNIT_MS[found[2]] if found else None
