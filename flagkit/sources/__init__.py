"""Where definitions come from: a service or object store, a file, or the program itself.

Anything with the members of ``Source`` is one; see its contract before writing your own.
"""

from flagkit.sources.cached import Cached
from flagkit.sources.file import File
from flagkit.sources.growthbook import GrowthBook
from flagkit.sources.http import Http
from flagkit.sources.posthog import PostHog
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
