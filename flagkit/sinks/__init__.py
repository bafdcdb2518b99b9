"""Where events go: a collector, a log, or a list in memory.

Anything with the members of ``Sink`` is one; see its contract before writing your own.
"""

from flagkit.sinks.http import Http
from flagkit.sinks.log import Log
from flagkit.sinks.memory import Memory
from flagkit.sinks.otlp import Otlp
from flagkit.sinks.posthog import PostHog
from flagkit.sinks.sink import Sink, UsageSink
from flagkit.sinks.unleash import Unleash
from flagkit.sinks.webhook import Webhook

__all__ = ["Http", "Log", "Memory", "Otlp", "PostHog", "Sink", "Unleash", "UsageSink", "Webhook"]
