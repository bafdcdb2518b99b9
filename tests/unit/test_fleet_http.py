"""The client's side of a fleet through a service: what is sent, what is an answer, and what failures are."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
import responses
from loopback import Call, serving

from flagkit.errors import ConfigError, FetchError
from flagkit.fleets import Counts, Fleet, Http, Judged, Report, Trial, Word

KEY = "sk-live-0123456789"
URL = "https://flags.example.com"
ADDRESS = URL + "/v1/guards"
PROCESS = "0123456789abcdef" * 2
TRIAL = Trial("production", "checkout", 3, "on")
WORD = '{"windows": [0, 0], "evidence": {}}'


def no_judge(trial: Trial, policy: str, state: bytes | None, counts: Sequence[Counts], now_s: float) -> Judged:
    raise AssertionError("the service judges")


@pytest.fixture
def fleet() -> Iterator[Http]:
    fleet = Http(URL, key=KEY)
    yield fleet
    fleet.close()


def exchange(fleet: Http, *reports: Report) -> Sequence[Word]:
    return fleet.exchange(PROCESS, 7, reports or [Report(TRIAL, "{}", b"counts")], no_judge, deadline_s=5.0)


def answered(fleet: Http, body: Any = None, **answer: Any) -> Sequence[Word]:
    """What is heard when the service answers so."""
    with responses.RequestsMock() as mocked:
        mocked.post(ADDRESS, body=body if isinstance(body, bytes | Exception) else json.dumps(body), **answer)
        return exchange(fleet)


def failure(fleet: Http, body: Any = None, **answer: Any) -> FetchError:
    with pytest.raises(FetchError) as raised:
        answered(fleet, body, **answer)
    assert KEY not in f"{raised.value} {raised.value!r}"
    return raised.value


def said(**fields: Any) -> dict[str, Any]:
    return {**TRIAL._asdict(), "word": WORD, **fields}


def test_it_is_a_fleet_and_shows_no_key(fleet: Http) -> None:
    assert isinstance(fleet, Fleet)
    assert fleet.name == ADDRESS
    assert KEY not in f"{fleet!r} {fleet.name}"


def test_reports_go_as_one_compressed_post_with_the_key(fleet: Http) -> None:
    with responses.RequestsMock() as mocked:
        mocked.post(ADDRESS, json={"words": [said()]})
        heard = exchange(fleet, Report(TRIAL, '{"alpha": 0.01}', b"\x00\xff"), Report(TRIAL, "{}", b""))
        (call,) = mocked.calls
    assert list(heard) == [Word(TRIAL, WORD)]
    assert call.request.headers["Authorization"] == f"Bearer {KEY}"
    assert call.request.headers["Content-Encoding"] == "gzip"
    assert json.loads(gzip.decompress(call.request.body)) == {
        "process": PROCESS,
        "sequence": 7,
        "reports": [
            {**TRIAL._asdict(), "policy": '{"alpha": 0.01}', "counted": base64.b64encode(b"\x00\xff").decode()},
            {**TRIAL._asdict(), "policy": "{}", "counted": ""},
        ],
    }


def test_an_address_with_a_path_is_the_endpoint_itself() -> None:
    assert Http("https://proxy.example.com/guards", key=KEY).name == "https://proxy.example.com/guards"


@pytest.mark.parametrize("url", ["http://flags.example.com", "https://user:pw@flags.example.com", "ftp://x", "x"])
def test_an_address_in_the_clear_or_with_a_password_is_refused(url: str) -> None:
    with pytest.raises(ConfigError) as raised:
        Http(url, key=KEY)
    assert "pw" not in str(raised.value)


def test_only_words_that_were_asked_for_are_heard(fleet: Http) -> None:
    heard = answered(fleet, {"words": [said(flag="other"), said(revision=2), said()]})
    assert list(heard) == [Word(TRIAL, WORD)]
    assert list(answered(fleet, {"words": [], "left_out": [said(why="revision 4")]})) == []


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"\xff",
        b"[]",
        b"7",
        b"{}",
        b'{"words": 7}',
        b'{"words": [7]}',
        b'{"words": [{}]}',
        b"[" * 99_999,
    ],
)
def test_what_are_no_words_is_a_failure_of_today(fleet: Http, body: bytes) -> None:
    error = failure(fleet, body, status=200)
    assert (error.reason, error.lasting) == ("not_words", False)


def test_a_revision_beyond_all_numbers_is_none(fleet: Http) -> None:
    body = json.dumps({"words": [said(revision=8)]}).replace("8", "1e999").encode()
    assert failure(fleet, body).reason == "not_words"


@pytest.mark.parametrize("field", ["revision", "word", "flag"])
def test_a_word_without_all_its_parts_is_none(fleet: Http, field: str) -> None:
    word = said()
    del word[field]
    assert failure(fleet, {"words": [word]}).reason == "not_words"


@pytest.mark.parametrize(
    ("status", "lasting"),
    [(404, True), (405, True), (401, True), (400, True), (413, True), (408, False), (429, False), (500, False)],
)
def test_a_status_that_is_no_answer_says_whether_it_will_pass(fleet: Http, status: int, lasting: bool) -> None:
    error = failure(fleet, {"error": "no"}, status=status)
    assert (error.reason, error.lasting) == (f"http_{status}", lasting)


def test_a_service_says_when_to_come_again(fleet: Http) -> None:
    assert failure(fleet, {}, status=503, headers={"Retry-After": "9"}).retry_after_s == 9


def test_nobody_there_is_a_failure_of_today() -> None:
    fleet = Http("http://127.0.0.1:1", key=KEY)
    with pytest.raises(FetchError) as raised:
        exchange(fleet)
    assert (raised.value.reason, raised.value.lasting) == ("refused", False)


def test_an_answer_without_end_is_given_up_and_the_next_exchange_works() -> None:
    calls = 0

    def endless(call: Call) -> None:
        nonlocal calls
        calls += 1
        call.answer(200, b"x" * (5 << 20) if calls == 1 else json.dumps({"words": [said()]}).encode())

    with serving(endless) as server:
        fleet = Http(server.url, key=KEY)
        with pytest.raises(FetchError) as raised:
            exchange(fleet)
        assert raised.value.reason == "too_large"
        assert list(exchange(fleet)) == [Word(TRIAL, WORD)]
        fleet.close()
        assert list(exchange(fleet)) == [Word(TRIAL, WORD)], "an exchange may follow a close"
        fleet.after_fork()
        assert list(exchange(fleet)) == [Word(TRIAL, WORD)]
        fleet.close()
        fleet.close()
