"""flagkit: test in production without hurting anyone.

Feature flags decided inside this process, exposures recorded once, and a way back. Start with ``Client`` or
``configure``; the manual is the README. Importing this starts nothing.
"""

from flagkit import sinks, sources
from flagkit.client import Client
from flagkit.config import Config
from flagkit.context import Context, carry, in_shadow, scope
from flagkit.core.explain import Explanation
from flagkit.core.policy import GuardPolicy
from flagkit.decision import Decision, ErrorCode, Reason
from flagkit.default import configure, decide, enabled, feedback, gate, shadow, track, value, variant
from flagkit.errors import ConfigError, DefinitionsError, FetchError, FlagkitError
from flagkit.flags import Flag
from flagkit.production.shadow_policy import ShadowPolicy
from flagkit.runtime.handlers import EventDetails
from flagkit.runtime.stats import Status

__version__ = "0.1.0"

__all__ = [
    "Client",
    "Config",
    "ConfigError",
    "Context",
    "Decision",
    "DefinitionsError",
    "ErrorCode",
    "EventDetails",
    "Explanation",
    "FetchError",
    "Flag",
    "FlagkitError",
    "GuardPolicy",
    "Reason",
    "ShadowPolicy",
    "Status",
    "carry",
    "configure",
    "decide",
    "enabled",
    "feedback",
    "gate",
    "in_shadow",
    "scope",
    "shadow",
    "sinks",
    "sources",
    "track",
    "value",
    "variant",
]
