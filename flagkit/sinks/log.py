"""Events as log lines, for development and for log-shipping pipelines.

Owns the form of the line: the event's JSON, and nothing around it that a formatter did not add.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from flagkit.errors import ConfigError
from flagkit.events import Batch, Delivered, Sent
from flagkit.log import INFO
from flagkit.log import logger as our_own

if TYPE_CHECKING:
    import logging


class Log:
    """Writes each event as one line of JSON to a logger.

    Args:
        logger: where to; None means the logger ``flagkit``.
        level: a level of ``logging``, 1 to 50.

    Raises: ConfigError naming the field.
    """

    name = "log"

    def __init__(self, logger: logging.Logger | None = None, level: int = INFO) -> None:
        import logging

        if logger is not None and not isinstance(logger, logging.Logger):
            raise ConfigError("logger", logger, "a logging.Logger or None")
        if isinstance(level, bool) or not isinstance(level, int) or not 1 <= level <= logging.CRITICAL:
            raise ConfigError("level", level, "a level such as logging.INFO")
        self._logger = our_own() if logger is None else logger
        self._level = level

    def send(self, batch: Batch, *, deadline_s: float) -> Sent:  # noqa: ARG002 - local
        """See ``Sink``."""
        for event in batch.events:
            self._logger.log(self._level, "%s", event)
        return Delivered()

    def close(self) -> None:
        """Nothing is held."""

    def after_fork(self) -> None:
        """Nothing is held."""
