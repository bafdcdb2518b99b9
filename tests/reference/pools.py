"""The small pools that random documents and contexts are drawn from.

Small, so that conditions match, miss and fail to apply about equally often."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from enum import Enum, IntEnum, StrEnum
from typing import Any
from uuid import UUID

NOW_MS = 1_796_126_400_000  # 2026-12-01T12:00:00Z
FLAGS = ("alpha", "beta", "gamma", "delta")
SEGMENTS = ("team", "pilot", "north")
PERCENTS = (0, 100, 50, 50.0, 12.5, 33.333, 5, 99.999, 0.001)


class Plan(StrEnum):
    PRO = "pro"
    FREE = "free"


class Level(IntEnum):
    LOW = 1
    HIGH = 18


class Colour(Enum):
    RED = "red"


class Shouting(str):
    """A string that lies about itself: only its characters may count."""

    __slots__ = ()

    def __str__(self) -> str:
        return "lies"

    def casefold(self) -> str:
        return "lies"


UNIT_ID = UUID("12345678-1234-5678-1234-567812345678")
TEXTS = ("SE", "se", "no", "pro", "Straße", "STRASSE", "anna@example.com", "user-1", "7", "", "free", "İ", "a\nb")
NUMBERS = (0, 1, 1.0, 1.5, -1, 18, 18.0, 2**53, 2**53 + 1, float(2**53), 10**30, -0.0)
SCALARS = (*TEXTS, *NUMBERS, True, False)
VERSIONS = (
    "1.2.3",
    "1.2.4",
    "1.3.0",
    "1.10.0",
    "2.0.0",
    "2.0.0-alpha",
    "1.2.3-rc.1",
    "1.2.3-rc.1.1",
    "1.2.3-rc.2",
    "1.2.3-rc.10",
    "1.2.3-10",
    "1.2.3-alpha",
    "1.2.3-Alpha",
    "1.2.3+b1",
    "1.2.3+b2",
    "1",
    "2",
    "0",
    "1.2",
    "0.2",
    "0.0.3",
    "0.0.4",
    "0.2.5",
    "0.3.0",
    "99999999999999999999.0.0",
)
NOT_VERSIONS = (
    "v1.2.3",
    "v2",
    "vv1.2.3",
    "V1.2.3",
    "01.2.3",
    "1.2.3.4",
    "1.2.3-01",
    "1.2.3-",
    "1.2.3-a..b",
    " 1.2.3",
    "",
)
DATES = (
    "2026-12-01T12:00:00Z",
    "2026-12-01T13:00:00+01:00",
    "2026-12-01T12:00:00.001Z",
    "2026-12-01T11:59:59.999Z",
    "2026-12-01 12:00:00.000500Z",
    "2026-12-01",
    "2026-11-24T12:00:00Z",
    "2026-11-24",
    "2027-01-31T00:00:00-05:30",
    "2024-02-29",
)
NOT_DATES = ("2026-13-01T00:00:00Z", "2026-12-01T12:00:00", "2026-02-30", "7d", "soon", "2026-12-01T12:00:00+25:00")
RELATIVES = ("7d", "1w", "0s", "3600s", "90m", "12h")
ADDRESSES = ("10.1.2.3", "10.1.2.4", "192.168.0.1", "::ffff:10.1.2.3", "2001:db8::1", "::1", "2001:DB8:0::1")
NOT_ADDRESSES = ("10.1.2", "10.1.2.3/32", "localhost", "010.1.2.3", "")
NETWORKS = ("10.0.0.0/8", "10.1.2.3", "192.168.0.0/31", "2001:db8::/32", "::1", "0.0.0.0/0", "::/0", "10.1.2.3/32")
PATTERNS = ("^a.*@", "^(SE|no)$", "user-[0-9]+", "s", "[A-Z]{2}", "", "ß", "b$", r"^\d+$")

#: Attribute -> what honest callers put there.
ATTRIBUTES: dict[str, tuple[Any, ...]] = {
    "country": (*TEXTS, Plan.PRO, Shouting("SE"), "x" * 1024 + "se", "se" + "x" * 1100, "x" * 4096, "x" * 4095 + "se"),
    "plan": (Plan.PRO, Plan.FREE, "pro", "free", "PRO"),
    "age": (*NUMBERS, Level.HIGH, Level.LOW, 19, 17.999),
    "version": (*VERSIONS, *NOT_VERSIONS, "v1.2.3", "v2"),
    "joined": (*DATES, *NOT_DATES, datetime(2026, 12, 1, 12, tzinfo=UTC), datetime(2026, 12, 1, 12)),
    "ip": (*ADDRESSES, *NOT_ADDRESSES),
    "active": (True, False, 1, 0, "true"),
    "organization": ("org-1", "org-2", "org-3", 7, UNIT_ID, Plan.PRO, "", 1.5, True, "x" * 1025),
}
PATHS = (
    ["unit"],
    ["unit", "x"],
    ["address", "city"],
    ["address", "geo", "code"],
    ["address"],
    ["country", "x"],
    ["nowhere", "x"],
)
HOSTILE: tuple[Any, ...] = (
    None,
    float("nan"),
    float("inf"),
    b"SE",
    object(),
    {"SE": 1},
    [["SE"]],
    "\ud800",
    "SE\udfff",
    10**400,
    1j,
    Colour.RED,
    UNIT_ID,
    datetime(2026, 12, 1, 11, 59, 59, 999_000, tzinfo=timezone(timedelta(hours=2))),
    datetime(2026, 12, 1).date(),
    "y" * 100_000,
    True,
    (),
    frozenset({"SE"}),
)
UNITS: tuple[Any, ...] = (*(f"user-{n}" for n in range(1, 13)), 7, "7", -12, UNIT_ID, "héllo", Plan.PRO, "x" * 1024)
NOT_UNITS: tuple[Any, ...] = (None, True, 1.5, b"user-1", "", 2**63, "\ud800", "é" * 600, ["user-1"], object(), {})
SOME_UNITS = ("user-1", "user-2", "user-3", 7, -12, "pro", str(UNIT_ID))

#: Operator -> attributes it makes sense for, and the values to draw from.
OPERATORS: dict[str, tuple[tuple[str, ...], tuple[Any, ...]]] = {
    "in": (("country", "plan", "age", "active", "unit"), SCALARS),
    "contains": (("country", "plan", "unit"), TEXTS),
    "starts_with": (("country", "plan", "unit"), TEXTS),
    "ends_with": (("country", "plan", "unit"), TEXTS),
    "matches": (("country", "plan", "unit"), PATTERNS),
    "greater": (("age",), NUMBERS),
    "greater_or_equal": (("age",), NUMBERS),
    "less": (("age",), NUMBERS),
    "less_or_equal": (("age",), NUMBERS),
    "between": (("age",), NUMBERS),
    "before": (("joined",), DATES + RELATIVES),
    "after": (("joined",), DATES + RELATIVES),
    **{f"semver_{name}": (("version",), VERSIONS) for name in ("equal", "greater", "greater_or_equal", "less")},
    **{f"semver_{name}": (("version",), VERSIONS) for name in ("less_or_equal", "caret", "tilde")},
    "in_cidr": (("ip",), NETWORKS),
    "exists": ((*ATTRIBUTES, "unit"), ()),
}
FOLDABLE = ("in", "contains", "starts_with", "ends_with", "matches")
