"""What a client is made of, checked: each mistake is named with the argument, the value and what would be right.

Called by ``Client`` before anything is made, so that a mistake is met where it was made and nowhere later.
"""

from __future__ import annotations

from typing import Any, Final

from flagkit.clock import Clock, SystemClock
from flagkit.config import Config
from flagkit.errors import ConfigError
from flagkit.sinks import Http as HttpSink
from flagkit.sinks import Sink, UsageSink
from flagkit.sources import Http as HttpSource
from flagkit.sources import Source


class _Unset:
    def __repr__(self) -> str:
        return "<not given>"


UNSET: Final[Any] = _Unset()


def checked_config(config: object) -> Config:
    """``config``, or the settings that hold without one. Raises: ConfigError."""
    if config is None:
        return Config()
    if not isinstance(config, Config):
        raise ConfigError("config", config, "a flagkit.Config")
    return config


def checked_clock(clock: object) -> Clock:
    """``clock``, or the machine's own. Raises: ConfigError."""
    if clock is None:
        return SystemClock()
    if not isinstance(clock, Clock):
        raise ConfigError("clock", clock, "a clock with monotonic_s, wall_ms and wait")
    return clock


def checked_ends(url: object, key: str | None, source: object, sink: object) -> tuple[Source, Sink | UsageSink | None]:
    """The source and the sink that the arguments mean. Raises: ConfigError."""
    if (url is None) == (source is None):
        expected = "the URL of a flagkit service, or else a source" + (", not both" if source is not None else "")
        raise ConfigError("url", url, expected, secret=url is not None)  # somebody may have put a password into it
    if source is not None and (isinstance(source, type) or not isinstance(source, Source)):
        raise ConfigError("source", source, "a source, such as flagkit.sources.File(path)")
    if sink is not UNSET and sink is not None and (isinstance(sink, type) or not isinstance(sink, (Sink, UsageSink))):
        raise ConfigError("sink", sink, "a sink, such as flagkit.sinks.Log(), or None")
    if isinstance(source, Source):
        if key is not None:
            raise ConfigError("key", key, "no key beside a source; give it to the source", secret=True)
        return source, None if sink is UNSET else sink
    if not isinstance(url, str):
        raise ConfigError("url", url, "a string such as 'https://flags.example.com'")
    return HttpSource(url, key=key), HttpSink(url, key=key) if sink is UNSET else sink
