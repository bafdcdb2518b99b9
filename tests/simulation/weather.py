"""What a network does to an exchange, by name; and how it is drawn what it does for a while."""

from __future__ import annotations

from random import Random
from typing import NamedTuple

from flagkit.http import NoReply
from tests.simulation.schedule import Hub

_DEFINITIONS = (
    *("refused", "reset", "hang", "slow", "truncated", "bad_encoding", "tls", "http_500", "http_503", "http_429"),
    *("http_401", "http_404", "html", "half", "shape", "environment", "older", "accident", "ruin", "count"),
    *("spurious_304", "bug", "exit"),
)
_EVENTS = (
    *("refused", "reset", "hang", "slow", "tls", "unheard", "unheard_503", "http_500", "http_503", "http_429"),
    *("http_401", "http_404", "http_302", "html", "no_content", "other_batch", "all_400", "small", "some", "again"),
    *("bug", "exit"),
)
_STREAM = ("refused", "http_503", "html", "silent", "broken", "gap", "repeat", "garbage", "late")
#: What may go wrong with which kind of exchange.
KINDS = {"definitions": _DEFINITIONS, "events": _EVENTS, "stream": _STREAM}
_RARE = frozenset({"bug", "exit", "all_400", "tls"})


class Mood(NamedTuple):
    """What goes wrong, how often, and how long a server then wants to be left alone."""

    kind: str = "clear"
    chance: float = 0.0
    after_s: float = 0.0

    @classmethod
    def drawn(cls, random: Random, kinds: tuple[str, ...]) -> Mood:
        kind = random.choice(kinds)
        if random.random() < 0.45 or (kind in _RARE and random.random() < 0.7):
            return cls()
        chance = random.choice((0.3, 0.7, 1.0)) if kind not in ("bug", "exit") else 0.2
        after_s = random.choice((0.0, 0.0, 1.0, 5.0, 30.0, 200.0))
        if after_s == 200.0 and random.random() < 0.1:
            after_s = 5000.0
        return cls(kind, chance, after_s)


def fail(hub: Hub, kind: str, url: str, deadline_s: float) -> None:
    """The faults that leave no reply."""
    if kind in ("refused", "reset", "truncated", "bad_encoding", "tls"):
        raise NoReply(kind, url)
    if kind == "hang":
        hub.sleep(deadline_s)
        raise NoReply("deadline", url)
    if kind == "slow":
        hub.sleep(deadline_s * 0.9)
    if kind == "bug":
        raise ValueError("nobody expected this")
    if kind == "exit" and hub.current is not None and hub.current.name != "main":
        raise SystemExit  # which ends the thread, and no other
    if kind == "exit":
        raise NoReply("reset", url)
