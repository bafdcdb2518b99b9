"""A real client of given flags, for tests that want all its parts at work.

Knows nothing of ``Flags``, which puts none of the parts to work and answers for clients that exist.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flagkit.client import Client
from flagkit.clock import Clock
from flagkit.config import Config
from flagkit.errors import ConfigError
from flagkit.sinks import Sink
from flagkit.sources import Static
from flagkit.testing.answers import Answer, Setting, checked, document_of


def make_client(
    flags: Mapping[str, Answer],
    *,
    segments: Mapping[str, Any] | None = None,
    sink: Sink | None = None,
    clock: Clock | None = None,
    config: Config | None = None,
) -> Client:
    """A client whose flags answer as given, with a source, threads and recording of its own. Close it, or use ``with``.

        sink = MemorySink()
        with make_client({"new-checkout": True}, sink=sink) as client: ...

    Args: flags, flag -> True, False, a variant, or the flag's native definition. segments, of the definitions, as in a
        document. sink, where events go; None: nowhere. clock, time, such as a ``FakeClock``. config, settings.
    Raises: ConfigError naming the flag or the argument.
    """
    if not isinstance(flags, Mapping):
        raise ConfigError("flags", flags, "a mapping of flags to answers")
    document = document_of({flag: checked(flag, Setting(answer)) for flag, answer in flags.items()}, segments or {})
    return Client(source=Static(document), sink=sink, clock=clock, config=config)
