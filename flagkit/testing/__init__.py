"""For tests: of an application that asks flags, and of sources and sinks that others write.

``Flags`` answers for a client while a test runs; the pytest plugin's fixture ``flags`` is one. ``make_client`` makes a
client of given flags. ``SourceContract`` and ``SinkContract`` are the tests that every source and every sink passes.
Nothing of it is for production.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from flagkit.sinks import Memory as MemorySink
from flagkit.testing.answers import Answer
from flagkit.testing.clients import make_client
from flagkit.testing.clock import FakeClock
from flagkit.testing.flags import Flags
from flagkit.testing.records import Exposed, Tracked, exposures_in, tracked_in

if TYPE_CHECKING:
    from flagkit.testing.sinks import SinkContract, SinkStage
    from flagkit.testing.sources import SourceContract, SourceStage

__all__ = [
    "Answer",
    "Exposed",
    "FakeClock",
    "Flags",
    "MemorySink",
    "SinkContract",
    "SinkStage",
    "SourceContract",
    "SourceStage",
    "Tracked",
    "exposures_in",
    "make_client",
    "tracked_in",
]

#: They need pytest, which a test that only sets flags need not be run by.
_CONTRACTS: Final = {
    "SinkContract": "flagkit.testing.sinks",
    "SinkStage": "flagkit.testing.sinks",
    "SourceContract": "flagkit.testing.sources",
    "SourceStage": "flagkit.testing.sources",
}

if not TYPE_CHECKING:  # or the type checker would take any name

    def __getattr__(name: str) -> Any:
        if name not in _CONTRACTS:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(_CONTRACTS[name]), name)
