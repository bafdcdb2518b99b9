"""Where definitions come from: a service or object store, a file, or the program itself.

Anything with the members of ``Source`` is one; see its contract before writing your own.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from flagkit.sources.cached import Cached
from flagkit.sources.file import File
from flagkit.sources.http import Http
from flagkit.sources.redis import Redis
from flagkit.sources.source import (
    Alive,
    Bootstrapped,
    Changed,
    Fetched,
    Keeper,
    Kept,
    Listening,
    Missed,
    NotModified,
    Source,
    Teller,
)
from flagkit.sources.static import Static

if TYPE_CHECKING:
    from flagkit.sources.growthbook import GrowthBook
    from flagkit.sources.posthog import PostHog
    from flagkit.sources.unleash import Unleash

__all__ = [
    "Alive",
    "Bootstrapped",
    "Cached",
    "Changed",
    "Fetched",
    "File",
    "GrowthBook",
    "Http",
    "Keeper",
    "Kept",
    "Listening",
    "Missed",
    "NotModified",
    "PostHog",
    "Redis",
    "Source",
    "Static",
    "Teller",
    "Unleash",
]

#: Of other backends: loaded when asked for, because most programs have one backend at most.
_BACKENDS: Final = {
    "GrowthBook": "flagkit.sources.growthbook",
    "PostHog": "flagkit.sources.posthog",
    "Unleash": "flagkit.sources.unleash",
}

if not TYPE_CHECKING:  # or the type checker would take any name

    def __getattr__(name: str) -> Any:
        if name not in _BACKENDS:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(_BACKENDS[name]), name)
