"""Where the processes of a service count together for a guard, and hear one verdict.

Anything with the members of ``Fleet`` is one; see its contract before writing your own.
"""

from flagkit.fleets.fleet import Counts, Fleet, Judge, Judged, Report, Trial, Word
from flagkit.fleets.http import Http
from flagkit.fleets.redis import Redis

__all__ = ["Counts", "Fleet", "Http", "Judge", "Judged", "Redis", "Report", "Trial", "Word"]
