"""``Tally`` and ``Pool``: what processes count meets where it is judged, once, whole, and within bounds."""

from __future__ import annotations

import random
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flagkit.production.pool import MAX_PROCESSES, MAX_RULES, Pool
from flagkit.production.tally import MAX_CALLS, Counted, Tally, pack, unpack

CONTROL, CANDIDATE = 0, 1


def calls(tally: Tally, count: int, *, rate: float = 0.0, worse: float = 0.0, seed: int = 0, rule: str = "all") -> None:
    """Calls of new units, half of them the candidate's, which fails ``worse`` times as often."""
    chance = random.Random(seed)
    for number in range(count):
        arm = chance.randrange(2)
        failed = chance.random() < rate * (worse if arm else 1)
        tally.finish(tally.start(rule, arm, b"%d-%d" % (seed, number)), failed, 0.01 * chance.lognormvariate(0, 0.3))


def test_a_call_is_handed_on_once() -> None:
    tally = Tally()
    calls(tally, 10)
    counted = unpack(tally.drain())
    assert (len(counted.calls), counted.rules, sum(counted.totals[0][:2])) == (10, ("all",), 10)
    assert tally.drain() == b""


def test_calls_wait_for_those_that_began_with_them() -> None:
    tally = Tally()
    hanging = tally.start("all", CANDIDATE, b"slow")
    calls(tally, 10)
    counted = unpack(tally.drain())
    assert counted.calls == ()
    assert sum(counted.totals[0][:2]) == 11  # that they have passed is known
    tally.finish(hanging, True, float("inf"))
    assert len(unpack(tally.drain()).calls) == 11


def test_a_failure_without_a_duration_is_slow_too_and_one_with_it_is_not() -> None:
    tally = Tally()
    calls(tally, 200)
    tally.drain()
    for seconds in (float("inf"), 100.0):
        tally.finish(tally.start("all", CONTROL, b"late %f" % seconds), True, seconds)
    assert [call >> 17 & 7 for call in unpack(tally.drain()).calls] == [0b111, 0b001]


def test_a_unit_is_handed_on_31_times_a_window_and_again_in_the_next() -> None:
    tally = Tally()
    for _ in range(40):
        tally.finish(tally.start("all", CONTROL, b"one"), False, 0.01)
    counted = unpack(tally.drain())
    assert (len(counted.calls), counted.totals[0]) == (31, (40, 0, 0, 0))
    tally.windows((0, 1))
    tally.finish(tally.start("all", CONTROL, b"one"), False, 0.01)
    assert len(unpack(tally.drain()).calls) == 1


def test_a_busy_process_hands_on_a_sample_of_units_whatever_became_of_them() -> None:
    tally = Tally()
    calls(tally, 20_000, rate=0.2, worse=2)
    counted = unpack(tally.drain())
    assert MAX_CALLS / 4 <= len(counted.calls) <= MAX_CALLS
    mask = (1 << counted.halvings) - 1
    assert mask
    assert all(not call & mask for call in counted.calls)
    units = 20_000
    assert units / 2 ** (counted.halvings + 1) < len(counted.calls)
    assert sum(counted.totals[0][:2]) == 20_000


def test_a_batch_under_way_has_one_sample_for_its_fast_and_its_slow_calls() -> None:
    tally = Tally()
    slow = [tally.start("all", CONTROL, b"slow %d" % number) for number in range(60)]
    calls(tally, 20_000)
    mask = (1 << unpack(tally.drain()).halvings) - 1
    for call in slow:
        tally.finish(call, False, 9.0)
    kept = unpack(tally.drain())
    assert all(not call & mask for call in kept.calls)
    assert kept.halvings == 0


def test_a_flush_heard_twice_counts_once_and_flushes_may_arrive_in_any_order() -> None:
    flushes = []
    tally = Tally()
    for number in range(6):
        calls(tally, 300, rate=0.05, seed=number)
        flushes.append((number, tally.drain()))
    once, often = Pool(), Pool()
    for number, packed in flushes:
        once.take("p", number, packed, 0.0)
    for number, packed in flushes[::-1] + flushes:
        often.take("p", number, packed, 0.0)
    assert often.evidence().calls == once.evidence().calls
    assert often.evidence().counted == once.evidence().counted
    before = often.dump()
    often.take("p", 0, flushes[0][1], 5.0)
    assert often.dump() == before


def test_the_order_in_which_processes_hand_in_what_is_a_block_of_its_own_makes_no_difference() -> None:
    flushes = []
    for process in range(5):
        tally = Tally(calls_per_unit=1, latency_tolerance=None)
        for cold in range(80):  # past the cold calls
            tally.finish(tally.start("all", cold % 2, b"cold"), False, 0.01)
        tally.drain()
        calls(tally, 400, rate=0.05, worse=2, seed=process)
        flushes.append((f"p{process}", tally.drain()))
    values = []
    for order in (flushes, flushes[::-1]):
        pool = Pool(latency_tolerance=None, calls_per_unit=1)
        for process, packed in order:
            pool.take(process, 1, packed, 0.0)
        values.append(pool.evidence())
    assert values[0].counted == pytest.approx(values[1].counted)
    # The product of the blocks is one; only how much was kept back for later differs.
    first, second = values[0].evidence[0], values[1].evidence[0]
    assert 0.5 < first / second < 2


def test_what_is_too_little_of_an_arm_waits_for_other_processes() -> None:
    pool = Pool(latency_tolerance=None)
    for process in range(40):
        tally = Tally(latency_tolerance=None)
        for cold in range(80):
            tally.finish(tally.start("all", cold % 2, b"cold"), False, 0.01)
        tally.drain()
        for number in range(10):
            call = tally.start("all", int(number == 0), b"%d-%d" % (process, number))
            tally.finish(call, number == 0, 0.01)
        pool.take(f"p{process}", 1, tally.drain(), float(process))
    assert pool.verdict is not None
    assert pool.verdict.kind == "errors"


def test_first_calls_of_a_process_are_dropped_when_nobody_meets_them_for_five_seconds() -> None:
    def flush(arm: int, failed: bool, process: int) -> bytes:
        tally = Tally(latency_tolerance=None)
        for number in range(20):
            tally.finish(tally.start("all", arm, b"%d-%d-%d" % (process, arm, number)), failed, 0.01)
        return tally.drain()

    soon, late = Pool(latency_tolerance=None), Pool(latency_tolerance=None)
    for pool, now_s in ((soon, 4.0), (late, 6.0)):
        for process in range(5):
            pool.take(f"a{process}", 1, flush(CANDIDATE, True, process), 0.0)
        for process in range(5):
            pool.take(f"b{process}", 1, flush(CONTROL, False, process), now_s)
    assert soon.evidence().evidence[0] > 10
    assert late.evidence().evidence[0] == 1


def test_a_regression_is_found_by_many_processes_of_which_none_could_alone() -> None:
    pool = Pool()
    tallies = [Tally() for _ in range(8)]
    for second in range(60):
        for number, tally in enumerate(tallies):
            calls(tally, 40, rate=0.02, worse=6, seed=1000 * number + second)
            reply = pool.take(f"p{number}", second, tally.drain(), float(second))
            tally.windows(reply.windows, reply.pace)
        if reply.verdict is not None:
            break
    assert reply.verdict is not None
    assert reply.verdict.kind == "errors"
    calls_seen = pool.evidence().calls
    assert sum(calls_seen) < 8 * 40 * 60


def test_calls_before_and_after_a_change_of_shares_are_handed_on_apart_and_do_not_meet() -> None:
    pool, tally = Pool(latency_tolerance=None), Tally(latency_tolerance=None)
    calls(tally, 100)
    tally.settle()
    calls(tally, 50, seed=1)
    flushes = [tally.drain() for _ in range(3)]
    calls(tally, 10, seed=2)
    flushes.append(tally.drain())
    assert [(unpack(each).anew, len(unpack(each).calls)) for each in flushes] == [
        (False, 100),
        (True, 50),
        (False, 0),
        (False, 10),
    ]
    for number, packed in enumerate(flushes):
        pool.take("p", number, packed, 0.0)
    tally.late("all", CANDIDATE, b"0-1")  # dealt by the shares of before
    pool.take("p", 9, tally.drain(), 0.0)
    assert pool.evidence().evidence[0] == 1


def test_a_young_process_learns_from_the_fleet_what_is_slow() -> None:
    pool, old, young = Pool(), Tally(), Tally()
    calls(old, 400)
    reply = pool.take("old", 1, old.drain(), 0.0)
    assert reply.pace is not None
    assert 0.01 < reply.pace[0] < reply.pace[1] < 0.04
    young.windows(reply.windows, reply.pace)
    young.finish(young.start("all", CANDIDATE, b"x"), False, 0.1)
    assert unpack(young.drain()).calls[0] >> 17 & 7 == 0b110


def test_a_failure_reported_later_reaches_the_judge() -> None:
    pool, tally = Pool(latency_tolerance=None), Tally(latency_tolerance=None)
    calls(tally, 400)
    pool.take("p", 1, tally.drain(), 0.0)
    chance = random.Random(0)
    for number in range(400):
        if chance.randrange(2) and number % 4 == 0:
            tally.late("all", CANDIDATE, b"0-%d" % number)
        chance.random(), chance.lognormvariate(0, 0.3)
    pool.take("p", 2, tally.drain(), 1.0)
    assert pool.evidence().failures[CANDIDATE] > 20
    assert pool.evidence().evidence[0] > 100


@pytest.mark.parametrize("min_rate", [None, 0.001])
def test_a_successor_goes_on_with_the_same_evidence(min_rate: float | None) -> None:
    pool = Pool(min_rate=min_rate)
    tallies = [Tally() for _ in range(3)]
    kept = None
    for second in range(30):
        for number, tally in enumerate(tallies):
            calls(tally, 500, rate=0.03, worse=1.4, seed=1000 * number + second)
            packed = tally.drain()
            reply = pool.take(f"p{number}", second, packed, float(second))
            if kept is not None:
                assert kept.take(f"p{number}", second, packed, float(second)) == reply
                assert kept.evidence() == pool.evidence()
            tally.windows(reply.windows, reply.pace)
        if second == 10 and kept is not None:
            pool.settle()
            kept.settle()
        if second % 10 == 4:
            kept = Pool(min_rate=min_rate)
            kept.load(pool.dump())
            assert kept.evidence() == pool.evidence()
            assert kept.dump() == pool.dump()
    assert pool.evidence().windows[1] > 0


def test_a_policy_that_takes_latency_in_or_leaves_it_out_goes_on_with_the_errors() -> None:
    pool, tally = Pool(), Tally()
    calls(tally, 1000, rate=0.05, worse=2)
    pool.take("p", 1, tally.drain(), 0.0)
    without = Pool(latency_tolerance=None)
    without.load(pool.dump())
    again = Pool()
    again.load(without.dump())
    assert again.evidence().calls == without.evidence().calls == pool.evidence().calls


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=200))
def test_bytes_of_another_form_are_refused(data: bytes) -> None:
    pool = Pool()
    before = pool.evidence()
    for refused in (data, b"\x01" + data, b"\x01\x00\x01" + bytes(16) + data):
        if refused:
            try:
                pool.take("p", 1, refused, 0.0)
            except ValueError:
                assert pool.evidence() == before
    for dumped in (data, b"\x01" + data, b"\x01" + zlib.compress(len(data).to_bytes(4, "little") + data)):
        with pytest.raises(ValueError):
            Pool().load(dumped)


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_a_damaged_flush_is_refused_or_counted_and_a_damaged_dump_refused_or_loaded(data: st.DataObject) -> None:
    tally, pool = Tally(), Pool()
    calls(tally, 60, rate=0.2)
    packed = bytearray(tally.drain())
    pool.take("p", 1, bytes(packed), 0.0)
    packed[data.draw(st.integers(0, len(packed) - 1))] ^= data.draw(st.integers(1, 255))
    dumped = bytearray(pool.dump())
    content = bytearray(zlib.decompress(dumped[1:]))
    content[data.draw(st.integers(0, 1200))] ^= data.draw(st.integers(1, 255))
    for step in (
        lambda: pool.take("p", 2, bytes(packed), 0.0),
        lambda: pool.load(b"\x01" + zlib.compress(bytes(content))),
        lambda: pool.take("p", 3, tally.drain(), 1.0),
    ):
        try:
            step()
        except ValueError:
            continue
    pool.load(pool.dump())


def test_a_dump_that_would_unpack_to_gigabytes_is_refused() -> None:
    with pytest.raises(ValueError):
        Pool().load(b"\x01" + zlib.compress(bytes(1 << 27)))


def test_memory_is_bounded_whatever_is_sent() -> None:
    pool = Pool()
    for number in range(MAX_PROCESSES + 100):
        rules = tuple(f"{number}-{each}" + "é" * 90 for each in range(3))
        packed = pack(
            Counted(False, 0, None, rules, ((1, 1, 0, 0),) * 3, tuple(each << 23 | 5 << 20 | each for each in range(3)))
        )
        pool.take(f"process {number}", 1, packed, float(number) / 100)
    assert len(pool._processes) == MAX_PROCESSES
    assert len(pool._rules) == MAX_RULES
    assert len(pool.dump()) < 300_000
    Pool().load(pool.dump())
    pool.take("another", 1, b"", 10_000.0)
    assert "another" in pool._processes
    tally = Tally()
    for number in range(1000):
        tally.start(f"{number}" * 100, 0, b"x")
    assert len(unpack(tally.drain()).rules) <= 64


def test_long_names_of_rules_stay_apart() -> None:
    tally = Tally()
    for end in "ab":
        tally.finish(tally.start("é" * 300 + end, 0, end.encode()), False, 0.1)
    tally.finish(tally.start("\ud800", 0, b"c"), False, 0.1)
    assert len(set(unpack(tally.drain()).rules)) == 3
