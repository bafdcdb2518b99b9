"""``Config``: every setting of a client in one frozen, validated value, with the unit in the name."""

from __future__ import annotations

import os
from typing import Final

from flagkit.boundary import contained
from flagkit.errors import ConfigError
from flagkit.frozen import Frozen

_MOST_PROCESSES: Final = 100_000
_SOME_PROCESSES: Final = 8


class Config(Frozen):
    """Settings of a client. Keyword-only; every one has a default that suits a web service.

    poll_interval_s: seconds between definition fetches, 0.05 to 86,400; jittered by 10 %.
    flush_interval_s: the longest an event waits before it is sent, seconds, 0.05 to 3,600; events are sent sooner when
        a quarter of ``max_pending`` wait.
    batch_size: the most events in one delivery, 1 to 10,000.
    max_pending: events kept in memory while the collector is away, 1 to 10,000,000; more are lost, and counted.
    deadline_s: total time for one HTTP exchange, connect to last byte, seconds, 0.05 to 300.
    exit_deadline_s: the longest the interpreter's exit waits for a last flush, seconds, 0 to 60.
    exposure_window_s: a unit's exposure to a decision is recorded once in this time, seconds, 60 to 86,400.
    max_exposed_units: units remembered for that, over all flags, 0 to 100,000,000; beyond it some are sent twice,
        with the same id, and stored once.
    max_document_bytes: largest definitions document accepted, decoded, 1 KiB to 1 GiB; compressed, half of it.
    max_event_bytes: largest single event, encoded, 256 to 1,000,000.
    max_age_s: after this long without confirmation, flags with a guard or a partial rollout serve ``off``,
        seconds, 60 to 31,536,000; a flag's own ``max_age_s`` wins.
    environment: the environment whose definitions are accepted and events are labelled with; None takes the document's.
    state_dir: a directory for what should survive a restart, made when missing (its parent is not): of this user, not
        writable for everybody, on a local disk; processes and clients may share it. None keeps nothing on disk. When it
        cannot be used, ``status.disk`` says so and everything goes on in memory.
    max_spool_bytes: events kept there for one sink by all processes, in bytes, 64 KiB to 1 TiB; while it is full new
        ones are lost, and counted.
    max_spool_age_s: events kept there for longer are lost, and counted, seconds, 60 to 31,536,000.
    processes: how many processes run guards of their own, 1 to 100,000, because they share no fleet: each may be wrong
        with its part of a guard's alpha. None: the environment's WEB_CONCURRENCY, or else 8, for one too many costs
        little and one too few makes false rollbacks.

    Frozen, equal by value, and fit to be pickled for another process: no field is a secret; keys are the sources'.
    Raises: ConfigError naming the field.
    """

    __slots__ = (
        "batch_size",
        "deadline_s",
        "environment",
        "exit_deadline_s",
        "exposure_window_s",
        "flush_interval_s",
        "max_age_s",
        "max_document_bytes",
        "max_event_bytes",
        "max_exposed_units",
        "max_pending",
        "max_spool_age_s",
        "max_spool_bytes",
        "poll_interval_s",
        "processes",
        "state_dir",
    )

    def __init__(
        self,
        *,
        poll_interval_s: float = 30.0,
        flush_interval_s: float = 5.0,
        batch_size: int = 100,
        max_pending: int = 10_000,
        deadline_s: float = 10.0,
        exit_deadline_s: float = 2.0,
        exposure_window_s: int = 3600,
        max_exposed_units: int = 200_000,
        max_document_bytes: int = 10 * 1024 * 1024,
        max_event_bytes: int = 64 * 1024,
        max_age_s: int = 86_400,
        environment: str | None = None,
        state_dir: str | os.PathLike[str] | None = None,
        max_spool_bytes: int = 64 * 1024 * 1024,
        max_spool_age_s: int = 604_800,
        processes: int | None = None,
    ) -> None:
        put = object.__setattr__
        put(self, "poll_interval_s", _number("poll_interval_s", poll_interval_s, 0.05, 86_400))
        put(self, "flush_interval_s", _number("flush_interval_s", flush_interval_s, 0.05, 3600))
        put(self, "batch_size", _whole("batch_size", batch_size, 1, 10_000))
        put(self, "max_pending", _whole("max_pending", max_pending, 1, 10_000_000))
        put(self, "deadline_s", _number("deadline_s", deadline_s, 0.05, 300))
        put(self, "exit_deadline_s", _number("exit_deadline_s", exit_deadline_s, 0, 60))
        put(self, "exposure_window_s", _whole("exposure_window_s", exposure_window_s, 60, 86_400))
        put(self, "max_exposed_units", _whole("max_exposed_units", max_exposed_units, 0, 100_000_000))
        put(self, "max_document_bytes", _whole("max_document_bytes", max_document_bytes, 1024, 1 << 30))
        put(self, "max_event_bytes", _whole("max_event_bytes", max_event_bytes, 256, 1_000_000))
        put(self, "max_age_s", _whole("max_age_s", max_age_s, 60, 31_536_000))
        if environment is not None and (not isinstance(environment, str) or not 0 < len(environment) <= 128):
            raise ConfigError("environment", environment, "None or a string of 1 to 128 characters")
        put(self, "environment", environment)
        put(self, "max_spool_bytes", _whole("max_spool_bytes", max_spool_bytes, 64 * 1024, 1 << 40))
        put(self, "max_spool_age_s", _whole("max_spool_age_s", max_spool_age_s, 60, 31_536_000))
        put(
            self, "processes", _processes() if processes is None else _whole("processes", processes, 1, _MOST_PROCESSES)
        )
        put(self, "state_dir", None if state_dir is None else checked_path("state_dir", state_dir))

    poll_interval_s: float
    flush_interval_s: float
    batch_size: int
    max_pending: int
    deadline_s: float
    exit_deadline_s: float
    exposure_window_s: int
    max_exposed_units: int
    max_document_bytes: int
    max_event_bytes: int
    max_age_s: int
    environment: str | None
    state_dir: str | os.PathLike[str] | None
    max_spool_bytes: int
    max_spool_age_s: int
    processes: int


def checked_path(field: str, path: object) -> str | os.PathLike[str]:
    """``path``, if it could be one of a directory. Raises: ConfigError."""
    text = contained(os.fspath, path, otherwise=None) if isinstance(path, (str, os.PathLike)) else None
    if not isinstance(text, str) or "\0" in text or not contained(os.fsencode, text, otherwise=b""):
        raise ConfigError(field, path, "the path of a directory")
    return path  # type: ignore[return-value]


def _processes() -> int:
    said = os.environ.get("WEB_CONCURRENCY", "")
    return int(said) if said.isdecimal() and len(said) < 6 and int(said) else _SOME_PROCESSES


def _number(field: str, value: object, least: float, most: float) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not least <= value <= most:
        raise ConfigError(field, value, f"a number from {least:g} to {most:g}")
    return float(value)


def _whole(field: str, value: object, least: int, most: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise ConfigError(field, value, f"a whole number from {least:,} to {most:,}")
    return value
