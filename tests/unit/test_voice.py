"""What users say of a flag: feedback tied to the variant they have, opting in and out, and what is refused."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from documents import ON, SPLIT, Edited

import flagkit
from flagkit import Client, Config, Context, scope, sinks, sources

Json = dict[str, Any]
Make = Callable[..., Client]

EARLY: Json = {"early_access": True, "rules": [{"name": "opted in", "when": [{"enrolled": True}], "serve": "on"}]}
FLAGS: Json = {
    "on": ON,
    "split": SPLIT,
    "early": EARLY,
    "half": {"rules": [{"rollout": {"percent": 50}, "serve": "on"}]},
}


class Hostile:
    """Raises whatever is asked of it, but for its name."""

    def _raise(self, *_: object) -> Any:
        raise RuntimeError("hostile")

    __str__ = __eq__ = __hash__ = __len__ = __bool__ = __float__ = __index__ = __iter__ = get = keys = _raise

    def __repr__(self) -> str:
        return "hostile"


def metrics(client: Client, sink: sinks.Memory) -> list[Json]:
    """What was said and not looked at yet, and nothing else."""
    assert client.flush() == 0
    events = [event for event in sink.events if event["type"] == "metric"]
    assert len(events) == len(sink.events)
    sink.clear()
    return events


def lost(client: Client) -> dict[str, int]:
    account = client.status.account
    assert account is not None
    assert account.recorded == account.delivered + account.pending + sum(account.lost.values())
    return dict(account.lost)


def unreachable() -> Edited:
    source = Edited({})
    source.script = [flagkit.FetchError("refused", "not now")]
    return source


@pytest.fixture
def client(make: Make) -> Client:
    made = make(FLAGS)
    made.start()
    return made


# -- feedback ----------------------------------------------------------------------------------------------------------


def test_feedback_is_an_event_tied_to_the_variant_of_the_unit_and_no_exposure(
    client: Client, sink: sinks.Memory
) -> None:
    client.feedback("split", score=4, text="faster", context="user-1")
    (event,) = metrics(client, sink)
    answer = client.peek("split", "user-1")
    assert (event["name"], event["value"]) == ("flagkit.feedback", 4)
    assert event["feature_flag.context.id"] == "user-1"
    assert event["properties"] == {
        "flag": "split",
        "variant": answer.variant,
        "version": answer.version,
        "text": "faster",
    }


def test_a_score_or_a_text_is_enough_and_nothing_else_travels(client: Client, sink: sinks.Memory) -> None:
    client.feedback("on", score=0.5, context=Context("user-1", {"email": "a@example.com"}))
    client.feedback("on", text="no", context={"unit": "user-2", "plan": "pro"})
    client.feedback("on", text="who am I?")
    first, second, third = metrics(client, sink)
    assert (first["value"], "text" in first["properties"]) == (0.5, False)
    assert (second["value"], second["properties"]["text"]) == (None, "no")
    assert third["feature_flag.context.id"] is None
    assert "example.com" not in str(first)
    assert "plan" not in str(second)


def test_a_text_is_cut_at_2000_characters_and_cleaned_of_what_no_reader_takes(
    client: Client, sink: sinks.Memory
) -> None:
    client.feedback("on", text="é" * 5000, context="u")
    client.feedback("on", text="a\ud800b", context="u")
    long, odd = metrics(client, sink)
    assert long["properties"]["text"] == "é" * 2000
    assert odd["properties"]["text"] == "a?b"


def test_feedback_in_a_scope_is_about_the_answer_given_in_it(make: Make, sink: sinks.Memory, edited: Edited) -> None:
    client = make(source=edited)
    with scope("user-1"):
        served = client.peek("f").variant
        edited.edit(client, {"f": {**SPLIT, "rules": [], "default": "b" if served == "a" else "a"}, "g": ON})
        client.feedback("f", score=1)
        assert client.peek("f").variant == served
    (event,) = metrics(client, sink)
    assert event["properties"]["variant"] == served


@pytest.mark.parametrize(
    "said",
    [
        {},
        {"text": ""},
        {"score": float("nan")},
        {"score": float("inf"), "text": "fine"},
        {"score": True},
        {"score": 10**400},
        {"score": "5"},
        {"text": b"bytes"},
        {"text": Hostile()},
        {"score": Hostile()},
    ],
    ids=repr,
)
def test_feedback_that_says_nothing_that_can_be_sent_is_lost_alone_and_counted(
    client: Client, sink: sinks.Memory, said: Json
) -> None:
    client.feedback("on", context="u", **said)
    client.feedback("on", score=1, context="u")
    assert len(metrics(client, sink)) == 1
    assert lost(client) == {"invalid_feedback": 1}


@pytest.mark.parametrize("flag", ["none", "x" * 5000, "", None, 7, b"on", Hostile(), "\ud800"], ids=repr)
def test_feedback_on_what_is_no_flag_is_lost_and_counted(client: Client, sink: sinks.Memory, flag: Any) -> None:
    client.feedback(flag, score=1, context="u")
    assert metrics(client, sink) == []
    assert lost(client) == {"invalid_feedback": 1}


def test_forced_answers_and_synthetic_contexts_leave_no_feedback(client: Client, sink: sinks.Memory) -> None:
    with client.override({"on": False}):
        client.feedback("on", score=1, context="u")
    client.feedback("on", score=1, context=Context("u", synthetic=True))
    assert metrics(client, sink) == []
    assert lost(client) == {}


def test_feedback_before_the_first_definitions_is_kept(make: Make, sink: sinks.Memory) -> None:
    client = make(source=unreachable())
    client.feedback("new", score=1, context="u")
    (event,) = metrics(client, sink)
    assert event["properties"] == {"flag": "new"}


def test_the_default_client_takes_feedback_too(sink: sinks.Memory) -> None:
    flagkit.feedback("on", score=1, context="u")  # nobody configured: nothing happens
    client = flagkit.configure(source=sources.Static({"schema": 1, "flags": FLAGS}), sink=sink)
    try:
        flagkit.feedback("on", score=2, text="yes", context="u")
        assert [event["value"] for event in metrics(client, sink)] == [2]
    finally:
        client.close()


# -- enrolment ---------------------------------------------------------------------------------------------------------


def test_opting_in_and_out_are_events_with_the_unit_and_nothing_else(client: Client, sink: sinks.Memory) -> None:
    assert client.enroll("early", Context("user-1", {"email": "a@example.com"})) is True
    assert client.unenroll("early", "user-1") is True
    events = metrics(client, sink)
    assert [event["name"] for event in events] == ["flagkit.enrolment"] * 2
    assert [event["properties"] for event in events] == [
        {"flag": "early", "enrolled": True},
        {"flag": "early", "enrolled": False},
    ]
    assert {event["feature_flag.context.id"] for event in events} == {"user-1"}
    assert "example.com" not in str(events)


def test_this_process_too_waits_for_the_definitions_to_tell_of_it(client: Client) -> None:
    assert client.enroll("early", "user-1")
    assert client.enabled("early", "user-1") is False


def test_in_its_scope_it_holds_at_once_also_for_a_flag_already_answered(client: Client) -> None:
    with scope("user-1", plan="pro") as context:
        assert client.enabled("early") is False
        assert client.enroll("early")
        assert client.enabled("early") is True
        with scope("user-2"):
            assert client.enabled("early") is False
        assert client.unenroll("early")
        assert client.enabled("early") is False
        assert client.explain("early").decision == client.peek("early")
    assert context.enrolments is None  # whoever made it may keep it for longer than this is true
    with scope("user-1"):
        assert client.enabled("early") is False


def test_what_is_said_in_one_scope_holds_in_no_other_task(client: Client) -> None:
    async def request(unit: str, opts_in: bool, met: asyncio.Barrier) -> bool:
        with scope(unit):
            await met.wait()
            if opts_in:
                client.enroll("early")
            await met.wait()
            return client.enabled("early")

    async def both() -> list[bool]:
        met = asyncio.Barrier(2)
        return await asyncio.gather(request("user-1", True, met), request("user-1", False, met))

    assert asyncio.run(both()) == [True, False]


def test_another_context_s_enrolment_leaves_the_scope_alone(client: Client) -> None:
    with scope("user-1"):
        assert client.enroll("early", "user-2")
        assert client.enabled("early") is False


@pytest.mark.parametrize("flag", ["on", "none", "x" * 5000, "", None, 7, Hostile()], ids=repr)
def test_a_flag_that_offers_none_takes_no_enrolment(client: Client, sink: sinks.Memory, flag: Any) -> None:
    assert client.enroll(flag, "u") is False
    assert client.unenroll(flag, "u") is False
    assert metrics(client, sink) == []
    assert lost(client) == {"not_offered": 2}


@pytest.mark.parametrize(
    ("context", "reason"),
    [(None, "no_unit"), ({"plan": "pro"}, "no_unit"), (b"u", "invalid_context"), ("\ud800", "invalid_context")],
)
def test_nobody_cannot_enrol(client: Client, sink: sinks.Memory, context: Any, reason: str) -> None:
    assert client.enroll("early", context) is False
    assert metrics(client, sink) == []
    assert lost(client) == {reason: 1}


def test_probes_do_not_enrol(client: Client, sink: sinks.Memory) -> None:
    assert client.enroll("early", Context("u", synthetic=True)) is False
    assert metrics(client, sink) == []


def test_before_the_first_definitions_whoever_receives_it_judges(make: Make) -> None:
    client = make(source=unreachable())
    assert client.enroll("early", "u") is True


def test_without_a_sink_or_after_the_end_nothing_is_sent_and_nobody_is_told_so(make: Make) -> None:
    silent, ended = make(FLAGS, sink=None), make(FLAGS)
    ended.close()
    for client in (silent, ended):
        assert client.enroll("early", "u") is False
        client.feedback("early", score=1, context="u")
    assert lost(ended) == {"closed": 2}


def test_a_full_buffer_says_so(make: Make) -> None:
    client = make(FLAGS, config=Config(max_pending=1, batch_size=1))
    client._recording._worker.stop()  # type: ignore[union-attr]
    assert [client.enroll("early", "u") for _ in range(3)] == [True, False, False]
    assert lost(client) == {"overflow": 2}


def test_what_is_said_leaves_answers_as_they_are_whatever_is_said(client: Client) -> None:
    context = Context("u", {"a": Hostile()}, enrolments=Hostile())  # type: ignore[arg-type]
    with scope(context):
        client.enroll("early")
        client.feedback("early", score=1)
        assert client.decide("early").error_code is not None
