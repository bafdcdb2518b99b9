"""``ActiveVariants``: log records say which variants are active in the scope (the request or task) they come from.

It reads the ambient scope, where each flag's answer is kept anyway: nothing is done at a call for it. It knows no
client, and belongs on a handler.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from itertools import islice
from typing import Final

from flagkit.boundary import contained
from flagkit.context import Scope, current_scope
from flagkit.errors import ConfigError

_LIMIT: Final = 20
_MOST: Final = 1000
_MAX_NAME: Final = 128


class ActiveVariants(logging.Filter):
    """Gives every record the variants that are active; it keeps none back.

        handler.addFilter(ActiveVariants())
        handler.setFormatter(logging.Formatter("%(levelname)s %(message)s [%(variants)s]"))

    A record gets ``feature_flags``, a mapping from flag to variant, for handlers that write JSON, and ``variants``, the
    same as text: ``new-checkout=on, max-items=many``, or ``-`` when there are none. They are the answers that the
    ambient context (``flagkit.scope``) was given in this scope, and what is overridden in it. Questions with a context
    of their own belong to no scope and are not among them.

    On a handler it sees the records of all loggers; on a logger only those written through it. Before a
    ``QueueHandler`` it belongs on that one, because the thread behind the queue is in no scope.

    Args: limit, so many flags, the ones that came last, 1 to 1,000.
    Raises: ConfigError naming the argument. Filtering raises nothing.
    """

    def __init__(self, limit: int = _LIMIT) -> None:
        super().__init__()
        if isinstance(limit, bool) or not isinstance(limit, int) or not 1 <= limit <= _MOST:
            raise ConfigError("limit", limit, f"a whole number from 1 to {_MOST:,}")
        self._limit = limit

    def filter(self, record: logging.LogRecord) -> bool:
        """Add to ``record`` and let it pass."""
        scope = current_scope()
        found: dict[str, str] = {}
        if scope is not None:
            found = contained(_active, scope, self._limit, otherwise=found)
        record.feature_flags = found
        record.variants = ", ".join(f"{flag}={variant}" for flag, variant in found.items()) or "-"
        return True


def _active(scope: Scope, limit: int) -> dict[str, str]:
    """Flag -> variant, what came last at the end."""
    latest: dict[str, str] = {}
    for flag, variant in islice(_backwards(scope), 2 * limit):  # two clients may have been asked for one flag
        if len(latest) < limit:
            latest.setdefault(flag, variant)
    return dict(reversed(latest.items()))


def _backwards(scope: Scope) -> Iterator[tuple[str, str]]:
    for flag, forced in reversed(dict(scope.forced or {}).items()):
        yield flag[:_MAX_NAME], _named(forced)[:_MAX_NAME]
    for (_, flag), decision in reversed(scope.pins.copy().items()):
        if decision.variant is not None:
            yield flag[:_MAX_NAME], decision.variant[:_MAX_NAME]


def _named(forced: str | bool) -> str:
    return forced if isinstance(forced, str) else "on" if forced else "off"
