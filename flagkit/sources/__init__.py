"""Where definitions come from: a service or object store, a file, or the program itself.

Anything with the members of ``Source`` is one; see its contract before writing your own.
"""

from flagkit.sources.file import File
from flagkit.sources.http import Http
from flagkit.sources.source import Fetched, NotModified, Source
from flagkit.sources.static import Static

__all__ = ["Fetched", "File", "Http", "NotModified", "Source", "Static"]
