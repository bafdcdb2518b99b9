"""What compiled features call for values that do not lie ready: other types than text, time, names of absent fields.

Each is made, or named, once when a feature is compiled. Pure functions that raise nothing but what foreign objects do.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flagkit.core.logic import Now
from flagkit.dialects.unleash_constraints import Constraint
from flagkit.dialects.unleash_model import APP, SESSION, USER
from flagkit.dialects.unleash_values import moment_us, text, utf8


def absent_user(get: Callable[[str], Any]) -> bytes | None:
    """What default stickiness hashes of a context without a unit; None: nothing, and chance decides."""
    user = utf8(get(USER))
    return utf8(get(SESSION)) if user is None else user


def absent_app_name(name: str) -> Callable[[Callable[[str], Any]], Any]:
    """The application's name, of the context or else ``name``."""

    def found(get: Callable[[str], Any]) -> Any:
        given = get(APP)
        return name if given is None else given

    return found


def asked_as_text(constraint: Constraint) -> Callable[[Any], bool]:
    """Whether the constraint, not inverted, holds of any attribute."""
    test, values, edge, affixes = constraint.test, constraint.values, constraint.edge, constraint.affixes

    def holds(value: Any) -> bool:
        found = text(value)
        if found is None:
            return False
        if edge:
            return found.startswith(affixes) if edge == "startswith" else found.endswith(affixes)
        return found in values if test is None else test(found)

    return holds


def asked_moment(holds: Callable[[int], bool], now_ms: Now) -> Callable[[Any], bool]:
    """Whether it holds of ``currentTime``, which is now where a context does not say."""

    def asked(value: Any) -> bool:
        if value is None:
            return holds(now_ms() * 1000)
        found = text(value)
        at = None if found is None else moment_us(found)
        return at is not None and holds(at)

    return asked
