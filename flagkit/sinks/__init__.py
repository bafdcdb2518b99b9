"""Where events go: a collector, a log, or a list in memory.

Anything with the members of ``Sink`` is one; see its contract before writing your own.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from flagkit.sinks.http import Http
from flagkit.sinks.log import Log
from flagkit.sinks.memory import Memory
from flagkit.sinks.otlp import Otlp
from flagkit.sinks.sink import Sink, UsageSink
from flagkit.sinks.webhook import Webhook

if TYPE_CHECKING:
    from flagkit.sinks.posthog import PostHog
    from flagkit.sinks.unleash import Unleash

__all__ = ["Http", "Log", "Memory", "Otlp", "PostHog", "Sink", "Unleash", "UsageSink", "Webhook"]

#: Of other backends: loaded when asked for, because most programs have one backend at most.
_BACKENDS: Final = {"PostHog": "flagkit.sinks.posthog", "Unleash": "flagkit.sinks.unleash"}

if not TYPE_CHECKING:  # or the type checker would take any name

    def __getattr__(name: str) -> Any:
        if name not in _BACKENDS:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(_BACKENDS[name]), name)
