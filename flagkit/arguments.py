"""What a client is made of, checked: each mistake is named with the argument, the value and what would be right.

Called by ``Client`` before anything is made, so that a mistake is met where it was made and nowhere later. Afterwards
nothing may raise, so what is no time to wait is replaced and counted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from flagkit.clock import Clock, SystemClock
from flagkit.config import Config
from flagkit.errors import ConfigError
from flagkit.sinks import Http as HttpSink
from flagkit.sinks import Sink, UsageSink, Webhook
from flagkit.sources import Http as HttpSource
from flagkit.sources import Source

if TYPE_CHECKING:
    from flagkit.fleets import Fleet
    from flagkit.production.alerts import Messenger


class _Unset:
    def __repr__(self) -> str:
        return "<not given>"


UNSET: Final[Any] = _Unset()

#: Thirty days: the longest anybody is waited for. Locks take no infinity, and on some systems no more than 49 days.
LONGEST_S: Final = 2_592_000.0


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


def usable_s(timeout_s: object, otherwise_s: float, errors: dict[str, int]) -> float:
    """``timeout_s`` as seconds to wait, from 0 to ``LONGEST_S``; less is 0, and more, infinity too, is the most.

    ``otherwise_s`` in place of what is no int or float, of a bool and of nan, each counted in ``errors`` as
    INVALID_TIMEOUT. Raises: nothing.
    """
    kind = type(timeout_s)  # not isinstance, nor the object's own methods, which may say or raise anything
    if issubclass(kind, int) and kind is not bool:
        return float(min(max(int.__index__(timeout_s), 0), int(LONGEST_S)))  # type: ignore[arg-type]
    if issubclass(kind, float):
        seconds = float.__float__(timeout_s)  # type: ignore[arg-type]
        if seconds == seconds:
            return min(max(seconds, 0.0), LONGEST_S)
    errors["INVALID_TIMEOUT"] = errors.get("INVALID_TIMEOUT", 0) + 1
    return otherwise_s


class Ends(NamedTuple):
    """What a client is connected to. sink: of events. usage: of counts of calls."""

    source: Source
    sink: Sink | None
    usage: UsageSink | None
    fleet: Fleet | None
    webhook: Messenger | None


def checked_ends(
    url: object, key: str | None, source: object, sink: object, fleet: object = UNSET, webhook: object = UNSET
) -> Ends:
    """What the arguments mean. Raises: ConfigError."""
    from flagkit.fleets import Fleet, Http  # not at import: many a program never makes a client
    from flagkit.production.alerts import Messenger

    if (url is None) == (source is None):
        expected = "the URL of a flagkit service, or else a source" + (", not both" if source is not None else "")
        raise ConfigError("url", url, expected, secret=url is not None)  # somebody may have put a password into it
    kinds: tuple[tuple[str, object, type | tuple[type, ...], str], ...] = (
        ("source", source, Source, "a source, such as flagkit.sources.File(path)"),
        ("sink", sink, (Sink, UsageSink), "a sink, such as flagkit.sinks.Log(), or None"),
        ("fleet", fleet, Fleet, "a fleet, such as flagkit.fleets.Redis(url), or None"),
        ("webhook", webhook, Messenger, "a flagkit.sinks.Webhook, or None"),
    )
    for name, given, kind, expected in kinds:
        if given is not None and given is not UNSET and (isinstance(given, type) or not isinstance(given, kind)):
            raise ConfigError(name, given, expected)
    if webhook is UNSET:
        webhook = Webhook.from_environment()
    if source is not None:
        if key is not None:
            raise ConfigError("key", key, "no key beside a source; give it to the source", secret=True)
        to = _sinks(None if sink is UNSET else sink)
        return Ends(source, *to, None if fleet is UNSET else fleet, webhook)  # type: ignore[arg-type]
    if not isinstance(url, str):
        raise ConfigError("url", url, "a string such as 'https://flags.example.com'")
    return Ends(
        HttpSource(url, key=key),
        *_sinks(HttpSink(url, key=key) if sink is UNSET else sink),
        Http(url, key=key) if fleet is UNSET else fleet,  # type: ignore[arg-type]
        webhook,  # type: ignore[arg-type]
    )


def _sinks(sink: Any) -> tuple[Sink | None, UsageSink | None]:
    """Where events go, and where counts of calls do."""
    return (sink.events, sink) if isinstance(sink, UsageSink) else (sink, None)
