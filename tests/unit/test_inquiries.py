"""What a backend's server is asked about undecided flags: how often, how long answers count, how many are kept."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from flagkit import Config
from flagkit.errors import FetchError
from flagkit.runtime import inquiries
from flagkit.runtime.inquiries import Inquiries
from flagkit.sources.source import Told
from tests.unit.fakes import FakeClock, FixedRandom


class Oracle:
    """A server of scripted answers; the last again and again."""

    name = "oracle"

    def __init__(self, *script: Any) -> None:
        self.script = list(script) or [{}]
        self.asked: list[tuple[str, tuple[str, ...]]] = []

    def decide(self, question: str, flags: Any, *, deadline_s: float) -> Any:
        self.asked.append((question, tuple(flags)))
        answer = self.script.pop(0) if len(self.script) > 1 else self.script[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


ON = Told("true", True, {})
DOWN = FetchError("refused", "down")


def steps(*script: Any) -> tuple[Inquiries, Oracle, FakeClock]:
    """Inquiries whose thread never runs."""
    clock, oracle = FakeClock(), Oracle(*script)
    made = Inquiries(oracle, Config(), clock, FixedRandom())  # type: ignore[arg-type]
    made._worker._stopped = True
    return made, oracle, clock


def run(made: Inquiries, clock: FakeClock, rounds: int = 1) -> None:
    for _ in range(rounds):
        clock.advance(made.step())
        clock.advance(made.step())


def test_flags_of_one_unit_travel_in_one_request_and_a_question_is_put_once() -> None:
    made, oracle, clock = steps({"f": ON, "g": ON})
    for name in ("f", "g", "f", "f"):
        assert made.answer(name, "1", "{}") is None
    run(made, clock, 3)
    assert oracle.asked == [("{}", ("f", "g"))]
    assert made.answer("f", "1", "{}") is not None
    assert made.answer("g", "1", "{}") is not None


def test_requests_are_so_many_a_second_at_most() -> None:
    made, oracle, clock = steps({"f": ON})
    for number in range(50):
        made.answer("f", "1", f'{{"n":{number}}}')
    began_s = clock.monotonic_s()
    while len(oracle.asked) < 50:
        clock.advance(made.step())
    assert clock.monotonic_s() - began_s >= 49 * inquiries.EVERY_S


def test_an_answer_is_asked_for_again_after_a_while_and_counts_until_the_new_one_is_there() -> None:
    made, oracle, clock = steps({"f": ON}, {"f": Told("false", False, {})})
    made.answer("f", "1", "{}")
    run(made, clock)
    clock.advance(inquiries.FRESH_S - 1)
    assert made.answer("f", "1", "{}")
    assert not made._waiting
    clock.advance(2)
    old = made.answer("f", "1", "{}")
    assert old is not None
    assert old.enabled
    run(made, clock, 2)
    new = made.answer("f", "1", "{}")
    assert new is not None
    assert not new.enabled
    assert len(oracle.asked) == 2


def test_while_the_server_is_down_an_answer_counts_for_so_long_and_no_longer() -> None:
    made, _, clock = steps({"f": ON}, DOWN)
    made.answer("f", "1", "{}")
    run(made, clock)
    clock.advance(inquiries.KEPT_S - 60)
    assert made.answer("f", "1", "{}") is not None
    run(made, clock, 3)
    clock.advance(120)
    assert made.answer("f", "1", "{}") is None


def test_a_flag_without_an_answer_is_not_asked_about_again_at_once() -> None:
    made, oracle, clock = steps({})
    made.answer("f", "1", "{}")
    run(made, clock)
    assert made.answer("f", "1", "{}") is None
    assert not made._waiting
    clock.advance(inquiries.UNANSWERED_S + 1)
    made.answer("f", "1", "{}")
    assert len(made._waiting) == 1
    assert len(oracle.asked) == 1


def test_a_failing_server_is_left_alone_longer_and_longer() -> None:
    made, oracle, clock = steps(DOWN)
    pauses = []
    for number in range(5):
        made.answer("f", "1", f'{{"n":{number}}}')
        pause_s = made.step()
        while len(oracle.asked) == number:
            clock.advance(pause_s)
            pause_s = made.step()
        pauses.append(pause_s)
    assert pauses == sorted(pauses)
    assert pauses[-1] > 4 * pauses[0]
    assert made.state.link.consecutive_failures == 5
    assert made.state.lost == {"refused": 5}


def test_the_server_s_own_wish_is_heeded() -> None:
    made, _, clock = steps(FetchError("http_429", "slowly", retry_after_s=200.0))
    made.answer("f", "1", "{}")
    clock.advance(made.step())
    assert made.step() >= 200


def test_a_question_that_the_server_refuses_costs_the_others_nothing() -> None:
    made, oracle, clock = steps(FetchError("http_400", "bad", lasting=True), {"f": ON})
    made.answer("f", "1", '{"n":1}')
    made.answer("f", "1", '{"n":2}')
    while len(oracle.asked) < 2:
        clock.advance(made.step())
    assert made.answer("f", "1", '{"n":2}') is not None
    assert made.answer("f", "1", '{"n":1}') is None
    assert not made._waiting


def test_a_question_that_breaks_the_thread_s_round_is_put_again_by_the_next_who_asks() -> None:
    made, oracle, clock = steps(ZeroDivisionError(), {"f": ON})
    made.answer("f", "1", "{}")
    clock.advance(made.step())
    with pytest.raises(ZeroDivisionError):
        made.step()
    assert made.answer("f", "1", "{}") is None
    run(made, clock, 2)
    assert made.answer("f", "1", "{}") is not None
    assert len(oracle.asked) == 2


def test_memory_is_bounded_in_questions_and_in_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inquiries, "MAX_KEPT", 20)
    made, _, clock = steps({"f": ON})
    for number in range(inquiries.MAX_WAITING + 10):
        made.answer("f", "1", f'{{"n":{number}}}')
    state = made.state
    assert (state.waiting, state.lost) == (inquiries.MAX_WAITING, {"overflow": 10})
    run(made, clock, inquiries.MAX_WAITING + 1)
    assert (made.state.waiting, made.state.kept) == (0, 20)


def test_threads_that_ask_at_once_find_what_one_thread_would() -> None:
    made, oracle, clock = steps({"f": ON, "g": ON, "h": ON})
    start = threading.Barrier(8)

    def ask(name: str) -> None:
        start.wait()
        for number in range(200):
            made.answer(name, "1", f'{{"n":{number % 20}}}')

    threads = [threading.Thread(target=ask, args=("fgh"[index % 3],)) for index in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made._order) == len(made._waiting) == 20
    run(made, clock, 60)
    assert {len(flags) for _, flags in oracle.asked} == {3}
    assert (made.state.kept, made.state.waiting) == (20, 0)
