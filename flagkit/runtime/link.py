"""``Link``: the standing of one source or sink: its state, its counts, and (through an episode) its log lines.

Driven by one thread at a time, the poller's or the delivery's; read by any through ``state``, an immutable value.
"""

from __future__ import annotations

from typing import Final

from flagkit.clock import Clock
from flagkit.runtime.episode import Episode
from flagkit.runtime.stats import LinkState, State

_MAX_ERROR: Final = 200
_AUTH: Final = frozenset({"http_401", "http_403", "auth"})


def standing(reason: str, *, lasting: bool) -> State:
    """The state a failure for ``reason`` leads to."""
    if reason in _AUTH:
        return "auth_failed"
    return "rejected" if lasting else "failing"


class Link:
    """See the module. ``what`` is how the log calls it, ``name`` how ``status`` does."""

    __slots__ = ("_clock", "_episode", "state")

    def __init__(self, what: str, name: str, clock: Clock) -> None:
        self._clock = clock
        self._episode = Episode(f"{what} {name}", clock)
        self.state = LinkState(name, "starting", None, 0, 0, 0, None)

    def succeeded(self) -> None:
        state = self.state
        self.state = state._replace(
            state="ok",
            attempts=state.attempts + 1,
            consecutive_failures=0,
            last_success_s=self._clock.monotonic_s(),
        )
        self._episode.over()

    def failed(self, to: State, error: str, cause: BaseException | None = None) -> None:
        error = error if len(error) <= _MAX_ERROR else error[: _MAX_ERROR - 1] + "…"
        state = self.state
        self.state = state._replace(
            state=to,
            last_error=error,
            attempts=state.attempts + 1,
            failures=state.failures + 1,
            consecutive_failures=state.consecutive_failures + 1,
        )
        self._episode.failed(to, error, cause)

    def tell(self) -> None:
        """Log what happened since the last call. With no lock held."""
        self._episode.tell()
