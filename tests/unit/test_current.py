"""The definitions in use: what installs, what is refused, what the passing of time does to them."""

from __future__ import annotations

from typing import Any

import pytest
from documents import HALF, ON, SPLIT, document, rollout
from fakes import WALL_MS, FakeClock

from flagkit.config import Config
from flagkit.context import Context
from flagkit.core.snapshot import Snapshot
from flagkit.decision import Reason
from flagkit.dialects import native
from flagkit.dialects.native_changes import follow
from flagkit.errors import DefinitionsError
from flagkit.runtime.current import Current

Json = dict[str, Any]
DAY_S = 86_400.0
USER = Context("user-1")


class Watched:
    """A ``Current`` and what it published."""

    def __init__(self, *, fixed: bool = False, **settings: Any) -> None:
        self.clock = FakeClock()
        self.published: list[Snapshot] = []
        config = Config(**{"poll_interval_s": 30, **settings})
        self.current = Current(
            native.parse,
            lambda new, _: self.published.append(new),
            config,
            self.clock,
            observe=True,
            fixed=fixed,
            follow=follow,
        )

    def load(self, flags: Json, **head: Any) -> None:
        """A document arrives, as the poller has it arrive."""
        self.current.install(document(flags, **head))
        self.current.confirm(None)

    def reasons(self) -> dict[str, Reason]:
        return {flag: met.reason for flag, met in self.current.snapshot.decide_all(USER).items()}


@pytest.fixture
def watched() -> Watched:
    return Watched()


# -- documents -------------------------------------------------------------------------------------------------------


def test_before_the_first_document_there_are_no_definitions(watched: Watched) -> None:
    assert not watched.current.snapshot.ready
    assert (watched.current.age_s, watched.current.problems, watched.published) == (None, (), [])
    watched.current.age()
    assert watched.published == []


def test_a_document_is_published_once_and_is_ready(watched: Watched) -> None:
    watched.load({"f": ON})
    assert watched.published == [watched.current.snapshot]
    assert watched.current.snapshot.ready
    assert watched.current.snapshot.decide("f", USER)._exposed == set()


def test_unchanged_flags_go_from_one_snapshot_to_the_next(watched: Watched) -> None:
    watched.load({"f": HALF, "g": ON})
    before = watched.current.snapshot.decide("f", USER)
    watched.load({"f": HALF, "g": {}})
    assert watched.current.snapshot.decide("f", USER) is before


def test_a_refused_document_changes_nothing_but_what_is_said(watched: Watched) -> None:
    watched.load({"f": ON})
    before = watched.current.snapshot
    with pytest.raises(DefinitionsError) as caught:
        watched.current.install(b"{")
    assert watched.current.snapshot is before
    assert set(caught.value.problems) <= set(watched.current.problems)


def test_a_bad_flag_keeps_its_version_and_is_told_until_it_is_good(watched: Watched) -> None:
    watched.load({"f": ON, "g": ON})
    watched.load({"f": {"owner": 5}, "g": ON})
    assert [problem.flag for problem in watched.current.problems] == ["f"]
    assert watched.current.snapshot.decide("f", USER).enabled
    watched.load({"f": {}, "g": ON})
    assert watched.current.problems == ()
    assert not watched.current.snapshot.decide("f", USER).enabled


# -- environments ----------------------------------------------------------------------------------------------------


def refused(watched: Watched, **head: Any) -> list[str]:
    """The paths for which a document is refused."""
    try:
        watched.load({"f": ON}, **head)
    except DefinitionsError as error:
        return [problem.path for problem in error.problems]
    return []


def test_definitions_of_another_environment_are_refused() -> None:
    watched = Watched(environment="production")
    assert refused(watched, environment="staging") == ["$.environment"]
    assert not watched.current.snapshot.ready
    assert refused(watched, environment="production") == []
    assert refused(watched) == []


def test_the_first_environment_is_the_one_from_then_on(watched: Watched) -> None:
    assert refused(watched, environment="staging") == []
    assert refused(watched, environment="production") == ["$.environment"]
    assert watched.current.snapshot.definitions.environment == "staging"


# -- age -------------------------------------------------------------------------------------------------------------

AGEING: Json = {
    "whole": ON,
    "half": HALF,
    "split": SPLIT,
    "zero": rollout(0),
    "full": rollout(100),
    "short": {**ON, "max_age_s": 60},
    "long": {**HALF, "max_age_s": 604_800},
}


def stale(watched: Watched) -> set[str]:
    return {flag for flag, reason in watched.reasons().items() if reason is Reason.STALE}


@pytest.mark.parametrize(
    ("age_s", "off"),
    [
        (0, set()),
        (60, set()),
        (60.5, {"short"}),
        (DAY_S, {"short"}),
        (DAY_S + 1, {"short", "half", "split"}),
        (8 * DAY_S, {"short", "half", "split", "long"}),
    ],
)
def test_flags_give_up_one_after_the_other(watched: Watched, age_s: float, off: set[str]) -> None:
    watched.load(AGEING)
    watched.clock.advance(age_s)
    watched.current.age()
    assert stale(watched) == off
    assert watched.current.age_s == age_s


def test_a_confirmation_brings_them_back(watched: Watched) -> None:
    watched.load(AGEING)
    before = watched.current.snapshot.decide("half", USER)
    watched.clock.advance(30 * DAY_S)
    watched.current.age()
    assert stale(watched) == {"short", "half", "split", "long"}
    watched.current.confirm(None)
    assert stale(watched) == set()
    assert watched.current.snapshot.decide("half", USER).variant == before.variant


def test_a_new_document_brings_them_back(watched: Watched) -> None:
    watched.load(AGEING)
    watched.clock.advance(30 * DAY_S)
    watched.current.age()
    watched.load({**AGEING, "new": HALF})
    assert stale(watched) == set()


def test_nothing_is_published_while_nothing_changes(watched: Watched) -> None:
    watched.load(AGEING)
    for _ in range(100):
        watched.clock.advance(0.5)
        watched.current.age()
        watched.current.confirm(None)
    watched.clock.advance(2 * DAY_S)
    watched.current.age()
    watched.current.age()
    assert len(watched.published) == 2


def test_the_age_that_a_client_bears_is_a_setting() -> None:
    watched = Watched(max_age_s=60)
    watched.load(AGEING)
    watched.clock.advance(61)
    watched.current.age()
    assert stale(watched) == {"short", "half", "split"}


def test_what_cannot_change_does_not_age() -> None:
    watched = Watched(fixed=True)
    watched.load(AGEING)
    watched.clock.advance(365 * DAY_S)
    watched.current.age()
    assert stale(watched) == set()


# -- the clock of definitions ----------------------------------------------------------------------------------------

RAMP: Json = {
    "ramp": {
        "rules": [
            {
                "rollout": {"steps": [{"from": "2026-11-23T14:14:00Z", "percent": 100}]},  # 40 s from the fakes' now
                "serve": "on",
            }
        ]
    },
    "later": {
        "rules": [{"rollout": {"steps": [{"from": "2026-11-23T14:15:20Z", "percent": 100}]}, "serve": "on"}]  # 120 s
    },
}


def on(watched: Watched) -> set[str]:
    return {flag for flag, met in watched.current.snapshot.decide_all(USER).items() if met.enabled}


def test_a_ramp_goes_on_while_definitions_are_confirmed_and_stands_still_when_nobody_could_stop_it(
    watched: Watched,
) -> None:
    assert WALL_MS == 1_795_443_200_000
    watched.load(RAMP)
    assert on(watched) == set()
    watched.clock.advance(41)
    assert on(watched) == {"ramp"}
    watched.clock.advance(3600)
    assert on(watched) == {"ramp"}, "the clock stopped 60 s after the last confirmation"
    watched.current.confirm(None)
    assert on(watched) == {"ramp", "later"}


def test_the_servers_clock_is_the_one_that_counts(watched: Watched) -> None:
    watched.current.install(document(RAMP))
    watched.current.confirm(WALL_MS + 100_000)
    assert on(watched) == {"ramp"}
    watched.current.confirm(WALL_MS - 100_000)
    assert on(watched) == set()
    watched.clock.set_wall(WALL_MS + 10**9)
    assert on(watched) == set(), "and the machine's does not"


def test_a_confirmation_that_tells_no_time_lets_the_servers_clock_run_on(watched: Watched) -> None:
    watched.current.install(document(RAMP))
    watched.current.confirm(WALL_MS + 100_000)
    for _ in range(3):
        watched.clock.advance(10)
        watched.clock.set_wall(WALL_MS)
        watched.current.confirm(None)
    assert on(watched) == {"ramp", "later"}


def test_ramps_of_definitions_that_cannot_change_go_on() -> None:
    watched = Watched(fixed=True)
    watched.load(RAMP)
    watched.clock.advance(86_400)
    assert on(watched) == {"ramp", "later"}
