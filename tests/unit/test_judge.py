"""What a judge of a fleet makes of counts; whatever they, the policy and the state are, what it says has its form."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tallies import packed

from flagkit.core.policy import GuardPolicy
from flagkit.fleets import Counts, Judge, Judged, Trial
from flagkit.production.judge import Said, Sitting, judge, policy_text, read_word

TRIAL = Trial("production", "f", 1, "on")
POLICY = policy_text(GuardPolicy(), 1)


def counted(process: int, failing: int = 0, calls: int = 400) -> Counts:
    """See ``packed``."""
    return Counts(f"{process:032x}", 1, 0.0, packed(process, failing, calls))


def said(judged: Judged) -> Said:
    word = read_word(judged.word)
    assert word is not None
    return word


def in_turns(*counts: Counts) -> Judged:
    """What is said in the end, each of the counts having been judged by somebody else."""
    state = None
    for each in counts:
        judged = judge(TRIAL, POLICY, state, [each], 0.0)
        state = judged.state
    return judged


def test_it_is_the_judge_of_the_contract() -> None:
    as_contracted: Judge = judge
    assert as_contracted(TRIAL, POLICY, None, [], 0.0).final is False


def test_what_no_process_could_tell_all_of_them_can() -> None:
    counts = [counted(process, failing=6) for process in range(8)]
    assert not any(judge(TRIAL, POLICY, None, [each], 0.0).final for each in counts)
    together = judge(TRIAL, POLICY, None, counts, 0.0)
    assert together.final
    assert said(together).kind == "errors"
    assert "fails more often" in (said(together).why or "")


def test_taking_turns_comes_to_the_same() -> None:
    counts = [counted(process, failing=8) for process in range(5)]
    assert said(in_turns(*counts)) == said(judge(TRIAL, POLICY, None, counts, 0.0))


def test_a_candidate_that_is_no_worse_is_left_alone() -> None:
    evidence = said(in_turns(*[counted(process) for process in range(8)])).evidence
    assert evidence["calls"] == [1600, 1600]
    assert evidence["failures"] == [0, 0]
    assert max(evidence["evidence"]) <= 1


def test_counts_that_come_twice_count_once() -> None:
    once, twice = in_turns(counted(1, 9)), in_turns(counted(1, 9), counted(1, 9))
    assert said(twice) == said(once)


def test_a_verdict_is_the_end_of_it() -> None:
    judged = in_turns(*[counted(process, failing=3) for process in range(8)])
    assert judged.final
    after = judge(TRIAL, POLICY, judged.state, [counted(9, failing=0)], 1.0)
    assert after == judged


def test_a_state_that_cannot_be_read_is_begun_anew_and_that_is_said_once() -> None:
    judged = judge(TRIAL, POLICY, b"nonsense", [counted(1)], 0.0)
    assert said(judged).anew
    assert said(judged).evidence["calls"] == [200, 200]
    assert not said(judge(TRIAL, POLICY, judged.state, [], 0.0)).anew
    assert not said(judge(TRIAL, POLICY, None, [], 0.0)).anew


def test_counts_that_cannot_be_read_cost_nothing_but_themselves() -> None:
    sitting = Sitting(POLICY)
    assert sitting.take(counted(1))
    assert not sitting.take(Counts("2" * 32, 1, 0.0, b"nonsense"))
    assert sitting.take(counted(3))
    assert sitting.said.evidence["calls"] == [400, 400]


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_any_bytes_are_borne(data: st.DataObject) -> None:
    good = counted(1, 9, 40)
    state = judge(TRIAL, POLICY, None, [good], 0.0).state
    broken = st.one_of(
        st.binary(max_size=300),
        st.just(good.counted).flatmap(_broken),
        st.just(state).flatmap(_broken),
    )
    policy = data.draw(st.one_of(st.text(max_size=50), st.sampled_from(POLICIES)))
    counts = [
        Counts(f"{n:032x}", data.draw(st.integers(0, 9)), data.draw(st.floats(0, 1e9)), data.draw(broken))
        for n in range(3)
    ]
    judged = judge(TRIAL, policy, data.draw(st.none() | broken), counts, 0.0)
    assert len(judged.word.encode()) <= 4096
    assert read_word(judged.word) is not None
    assert Sitting(POLICY, judged.state).said.anew is False


POLICIES = ["", "null", "[]", "7", '"alpha"', '{"alpha": 1e999}', '{"alpha": "x", "min_rate": 0.1}', "[" * 9999, "{}"]


def _broken(good: bytes) -> st.SearchStrategy[bytes]:
    def with_one(place: int, byte: int) -> bytes:
        return good[:place] + bytes([byte]) + good[place + 1 :]

    return st.builds(with_one, st.integers(0, len(good) - 1), st.integers(0, 255)) | st.builds(
        lambda end: good[:end], st.integers(0, len(good))
    )


@pytest.mark.parametrize(
    "word",
    [
        "",
        "7",
        "{}",
        "[]",
        "null",
        '{"windows": [0, 0]}',
        '{"windows": 1, "evidence": {}}',
        "[" * 99_999,
        '{"windows": [1e999, 0]}',
    ]
    + [json.dumps({"windows": [0, 0], "evidence": {}, "pace": pace}) for pace in (7, ["x", 1], [1])],
)
def test_what_is_no_word_says_nothing(word: Any) -> None:
    assert read_word(word) is None
