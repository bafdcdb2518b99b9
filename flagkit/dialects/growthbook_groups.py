"""GrowthBook's saved groups: lists of values, and conditions, that conditions of features refer to by id.

A group is read once and shared by all features that use it; its lookup is made at the first use. Called by
``growthbook`` for each entry of ``savedGroups`` and by ``growthbook_conditions`` for each reference.
"""

from __future__ import annotations

from typing import Any, Final

from flagkit.dialects.fields import At, Faults
from flagkit.dialects.growthbook_operators import Members

NO_MEMBERS: Final = Members([])


class Group:
    """One saved group.

    text: as written, by which it is known again. values: of a list. condition: of a group that is one.
    attribute: what a list is asked of, where a reference does not say. known: its kind is one that there was in 2026.
    """

    __slots__ = ("_digest", "_members", "attribute", "condition", "id", "known", "text", "values")

    def __init__(self, id: str, text: str, value: Any, at: At, faults: Faults) -> None:
        self.id = id
        self.text = text
        self.values: list[Any] | None = value if isinstance(value, list) else None
        self.condition: Any = None
        self.attribute: str | None = None
        self.known = True
        self._members: Members | None = None
        self._digest = b""
        if isinstance(value, dict):
            self._typed(value, at, faults)
        elif self.values is None:
            faults.expected(at, value, "an array, or an object with a type")

    def _typed(self, value: dict[str, Any], at: At, faults: Faults) -> None:
        kind, attribute = value.get("type"), value.get("attributeKey")
        self.attribute = attribute if isinstance(attribute, str) else None
        if kind == "list":
            self.values = value.get("values")
            if not isinstance(self.values, list):
                faults.expected((at, "values"), self.values, "an array")
        elif kind == "condition":
            self.condition = value.get("condition")
            if not isinstance(self.condition, dict):
                faults.expected((at, "condition"), self.condition, "an object")
        else:
            self.known = False

    @property
    def members(self) -> Members | None:
        """The values of a list, ready to be looked up; None when it is none."""
        if self._members is None and self.values is not None:
            self._members = Members(self.values)
        return self._members

    @property
    def digest(self) -> bytes:
        """Of the group as written."""
        if not self._digest:
            from hashlib import blake2b  # loads OpenSSL: not at import

            self._digest = blake2b(self.text.encode(), digest_size=16).digest()
        return self._digest
