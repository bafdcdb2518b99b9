"""What there is in a schedule, and what may happen in it, drawn by its seed."""

from __future__ import annotations

from random import Random
from typing import Any

from tests.simulation.contents import ENVIRONMENT


def drawn(random: Random) -> dict[str, Any]:
    """Settings by name.

    config: of every client. slots: processes at a time. spooled: they have a state directory. streams: the service
    tells of changes. length_s: how long things go wrong. idle_s, burst: how often the application does something, and
    how much. chance: of an interruption. weather_s: how often it changes. poison: the share of events that nobody
    takes. The others: what may happen at all.
    """

    def maybe(chance: float) -> bool:
        return random.random() < chance

    config = {
        "poll_interval_s": random.choice((1.0, 3.0, 10.0, 30.0)),
        "flush_interval_s": random.choice((0.5, 2.0, 5.0)),
        "deadline_s": random.choice((2.0, 10.0)),
        "batch_size": random.choice((2, 5, 20)),
        "max_pending": random.choice((12, 60, 400)),
        "max_exposed_units": random.choice((20, 1000)),
        "exposure_window_s": random.choice((60, 3600)),
        "max_spool_bytes": random.choice((65_536, 1 << 20)),
        "max_spool_age_s": random.choice((60, 600, 604_800, 604_800)),
        "exit_deadline_s": 2.0,
        "environment": random.choice((None, ENVIRONMENT)),
    }
    return {
        "config": config,
        "slots": random.choice((1, 1, 2, 3)),
        "spooled": maybe(0.85),
        "streams": maybe(0.6),
        "length_s": random.choice((90.0, 180.0, 400.0)),
        "idle_s": random.choice((2.0, 6.0)),
        "burst": random.choice((10, 60)),
        "chance": random.choice((0.0, 0.02, 0.1)),
        "weather_s": random.choice((10.0, 40.0)),
        "poison": random.choice((0.0, 0.0, 0.02)),
        "forks": 1 if maybe(0.3) else 0,
        "exits": 1 if maybe(0.5) else 0,
        "disk_faults": maybe(0.5),
        "deaths": maybe(0.7),
        "steps": maybe(0.3),
        "damage": maybe(0.25),
        "threads": maybe(0.15),
    }
