"""Counts of calls: exact whatever threads do, sent once each, and accounted for whatever the sink says."""

from __future__ import annotations

import threading
from collections import Counter
from typing import Any

import pytest
from fakes import FakeClock, FixedRandom
from hypothesis import given
from hypothesis import strategies as st

from flagkit.config import Config
from flagkit.events import Delivered, FlagUsage, Rejected, Retry, Usage
from flagkit.runtime import usage as usage_module
from flagkit.runtime.usage import Reporting, UsageCounts
from flagkit.sinks import UsageSink


class Scripted:
    """Answers what it was given, in order, and then that all is well."""

    name = "scripted"
    events = None
    usage_interval_s = 60.0

    def __init__(self, *script: Any) -> None:
        self.script = list(script)
        self.asked: list[Usage] = []
        #: What it has taken.
        self.taken: Counter[str] = Counter()
        self.closed = False
        self.meanwhile: Any = None

    def report(self, usage: Usage, *, deadline_s: float) -> Any:
        assert 0 < deadline_s <= 10
        self.asked.append(usage)
        answer = self.script.pop(0) if self.script else Delivered()
        if self.meanwhile is not None:
            self.meanwhile()
        if isinstance(answer, Exception):
            raise answer
        if isinstance(answer, Delivered):
            self.taken.update({flag: counted.calls for flag, counted in usage.flags.items()})
        return answer

    def close(self) -> None:
        self.closed = True

    def after_fork(self) -> None: ...


class Rig:
    def __init__(self, *script: Any) -> None:
        self.sink, self.clock = Scripted(*script), FakeClock()
        assert isinstance(self.sink, UsageSink)
        self.reporting = Reporting(self.sink, Config(), self.clock, random=FixedRandom())  # type: ignore[arg-type]
        self.count = self.reporting.counts.count

    def step(self) -> float:
        self.clock.advance(max(0.0, self.reporting._due_s - self.clock.monotonic_s()))
        return self.reporting.step()

    @property
    def account(self) -> Any:
        account = self.reporting.state.account
        assert account.balanced
        return account


def test_every_call_of_every_thread_is_counted_once_while_they_are_taken() -> None:
    counts, taken, done = UsageCounts(), Counter[Any](), threading.Event()

    def ask() -> None:
        for number in range(20_000):
            counts.count("f", number % 2 == 0, None if number % 3 else "v")

    def take() -> None:
        while not done.is_set():
            taken.update(counts.take())

    taker, askers = threading.Thread(target=take), [threading.Thread(target=ask) for _ in range(4)]
    for thread in (taker, *askers):
        thread.start()
    for thread in askers:
        thread.join()
    done.set()
    taker.join()
    taken.update(counts.take())
    assert sum(taken.values()) == 80_000
    assert taken["f", True, "v"] == 4 * len([n for n in range(20_000) if n % 2 == 0 and n % 3 == 0])
    assert counts.take() == {}


def test_names_without_number_are_counted_together() -> None:
    counts = UsageCounts()
    for number in range(usage_module.MAX_ANSWERS + 10):
        counts.count(f"f{number}", False)
    counts.count("x" * 2000, False)
    taken = counts.take()
    assert (len(taken), taken["", False, None]) == (usage_module.MAX_ANSWERS + 1, 11)


def test_counts_are_reported_at_every_interval_with_the_time_they_are_of() -> None:
    rig = Rig()
    began_ms = rig.clock.wall_ms()
    rig.count("f", True, None)
    rig.count("f", True, "red")
    rig.count("f", False, "disabled")
    assert rig.reporting.step() == 60.0
    assert rig.sink.asked == []
    assert rig.step() == 60.0
    (usage,) = rig.sink.asked
    assert usage == Usage(began_ms, began_ms + 60_000, {"f": FlagUsage(2, 1, {"red": 1, "disabled": 1})})
    rig.count("g", True, None)
    rig.step()
    assert rig.sink.asked[1] == Usage(began_ms + 60_000, began_ms + 120_000, {"g": FlagUsage(1, 0, {})})
    rig.step()
    assert len(rig.sink.asked) == 2
    assert (rig.account.recorded, rig.account.delivered) == (4, 4)


def test_what_was_not_taken_is_offered_again_with_what_came_since() -> None:
    rig = Rig(Retry("refused"), Retry("refused"))
    rig.count("f", True, None)
    assert rig.step() > 0
    assert (rig.account.pending, rig.reporting.state.link.state) == (1, "failing")
    rig.count("f", False, None)
    rig.step()
    rig.step()
    assert rig.sink.asked[-1].flags == {"f": FlagUsage(1, 1, {})}
    assert rig.sink.asked[-1].start_ms == rig.sink.asked[0].start_ms
    assert rig.account.delivered == 2


@pytest.mark.parametrize("answer", [Rejected("unconfirmed"), RuntimeError("odd"), None])
def test_what_may_have_been_taken_is_lost_and_never_offered_again(answer: Any) -> None:
    rig = Rig(answer)
    rig.count("f", True, None)
    rig.step()
    rig.step()
    assert len(rig.sink.asked) == 1
    reason = "unconfirmed" if isinstance(answer, Rejected) else "sink_error"
    assert (dict(rig.account.lost), rig.account.pending) == ({reason: 1}, 0)


def test_what_ends_the_thread_in_the_middle_of_a_report_loses_that_part_alone() -> None:
    rig = Rig()
    for number in range(1500):
        rig.count(f"f{number}", True, None)

    def end() -> None:
        raise SystemExit

    rig.sink.meanwhile = end
    with pytest.raises(SystemExit):
        rig.step()
    assert (dict(rig.account.lost), rig.account.pending) == ({"interrupted": 500}, 1000)
    rig.sink.meanwhile = None
    rig.clock.advance(60)
    rig.reporting.flush(5)
    assert rig.account.delivered == 1000


def test_what_is_counted_while_a_report_is_under_way_is_in_the_next() -> None:
    rig = Rig(Rejected("unconfirmed"))
    rig.count("f", True, None)
    pending = []

    def meanwhile() -> None:
        rig.count("f", True, None)
        pending.append(rig.account.pending)

    rig.sink.meanwhile = meanwhile
    rig.step()
    assert pending == [2]  # the one on its way, and the one that waits
    rig.sink.meanwhile = None
    rig.step()
    assert rig.sink.taken == {"f": 1}
    assert dict(rig.account.lost) == {"unconfirmed": 1}


def test_many_flags_are_reported_in_parts_and_a_part_that_fails_alone_comes_again() -> None:
    rig = Rig(Delivered(), Retry("refused"))
    for number in range(2500):
        rig.count(f"f{number}", True, None)
    rig.step()
    assert [len(usage.flags) for usage in rig.sink.asked] == [500, 1000]
    assert rig.account.pending == 2000
    rig.step()
    assert len(rig.sink.taken) == rig.account.delivered == 2500
    assert set(rig.sink.taken.values()) == {1}


def test_a_flush_reports_at_once_and_says_what_is_left() -> None:
    rig = Rig(Retry("refused"))
    rig.count("f", True, None)
    assert rig.reporting.flush(5) == 1
    assert rig.reporting.flush(5) == 0
    assert rig.reporting.flush(0) == 0


def test_closing_reports_once_more_and_counts_what_comes_later_as_lost() -> None:
    rig = Rig(Delivered(), Retry("refused"))
    rig.count("f", True, None)
    rig.reporting.flush(5)
    rig.count("f", True, None)
    assert rig.reporting.close(5) == 1
    rig.count("f", True, None)
    assert (dict(rig.account.lost), rig.account.delivered, rig.sink.closed) == ({"closed": 2}, 1, True)
    assert rig.reporting.flush(5) == 0


def test_a_forked_child_reports_nothing_of_its_parent() -> None:
    rig = Rig()
    rig.count("f", True, None)
    rig.reporting.after_fork()
    rig.count("f", False, None)
    rig.step()
    assert rig.sink.asked[0].flags == {"f": FlagUsage(0, 1, {})}
    assert rig.account.recorded == 1


def test_too_many_names_are_lost_as_overflow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(usage_module, "MAX_ANSWERS", 2)
    rig = Rig()
    for name in "abcd":
        rig.count(name, True, None)
    rig.step()
    assert (dict(rig.account.lost), rig.account.delivered) == ({"overflow": 2}, 2)


ANSWERS = st.sampled_from([Delivered(), Retry("refused"), Retry("http_503", 5.0), Rejected("unconfirmed"), None])


@given(st.lists(st.one_of(ANSWERS, st.sampled_from(["a", "b"]), st.just("flush")), max_size=40))
def test_whatever_happens_the_account_balances_and_nothing_is_taken_twice(steps: list[Any]) -> None:
    rig = Rig()
    for step in steps:
        if isinstance(step, str) and step != "flush":
            rig.count(step, True, None)
        elif step == "flush":
            rig.reporting.flush(1)
        else:
            rig.sink.script = [step]
            rig.step()
        assert rig.account.delivered == sum(rig.sink.taken.values())
    rig.sink.script = []
    rig.step()
    account = rig.account
    assert account.pending == 0
    assert account.recorded == sum(step in ("a", "b") for step in steps if isinstance(step, str))
