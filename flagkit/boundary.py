"""Where foreign code is called: one place that contains what it raises.

Listeners, sinks and sources of the application's own, and the special methods of objects it hands in, may do anything.
Whatever calls them goes through here and says what stands in for their answer.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

_T = TypeVar("_T")


def contained(
    call: Callable[..., _T], *args: Any, otherwise: _T, failed: Callable[[Exception], None] | None = None
) -> _T:
    """``call(*args)``, or ``otherwise`` when it raises; ``failed`` is told the exception.

    Raises: nothing derived from Exception (``failed`` must not raise).
    """
    try:
        return call(*args)
    except Exception as error:  # noqa: BLE001 - the boundary to foreign code
        if failed is not None:
            failed(error)
        return otherwise


async def awaited(call: Awaitable[_T], *, otherwise: _T, failed: Callable[[Exception], None] | None = None) -> _T:
    """``contained`` for what is already called and only has to be awaited. Raises: as there."""
    try:
        return await call
    except Exception as error:  # noqa: BLE001 - the boundary to foreign code
        if failed is not None:
            failed(error)
        return otherwise
