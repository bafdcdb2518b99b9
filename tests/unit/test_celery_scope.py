"""Celery: who asks and the override of who sends a task, in a real worker; and one scope for each task."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
from celery import Celery
from celery.contrib.testing.worker import start_worker
from celery.signals import before_task_publish, setup_logging, task_postrun, task_prerun
from overridden_shop import PATIENCE_S, Meeting, seen, shop, token, unit

import flagkit
from flagkit import Context
from flagkit.context import current_scope
from flagkit.errors import ConfigError
from flagkit.integrations.celery import MAX_HEADER, NAME, install

client = shop()
app = Celery("shop", broker="memory://", backend="cache+memory://")
app.conf.update(broker_transport_options={"polling_interval": 0.01}, worker_hijack_root_logger=False)
meeting = Meeting()


@app.task
def look() -> str:
    return seen(client)


@app.task
def know() -> Any:
    scope = current_scope()
    context = scope.context if scope is not None else None
    assert context is not None
    return [context.unit_text, dict(context.attributes), context.enrolments, context.synthetic]


@app.task
def meet() -> str:
    before = seen(client)
    meeting.wait()
    assert seen(client) == before
    meeting.wait()
    return seen(client)


@app.task
def fail() -> None:
    raise ValueError("the shop's own")


@app.task
def send_on() -> list[str]:
    look.apply_async(headers={"mine": "kept"}).forget()
    return [seen(client), seen_header(look.signature())]


@app.task(bind=True, max_retries=1)
def again(self: Any) -> str:
    if self.request.retries == 0:
        raise self.retry(countdown=0)
    return seen(client)


sent: list[Any] = []


def seen_header(signature: Any) -> str:
    """The header of the message by which the task is sent."""

    def note(headers: Any = None, **_: Any) -> None:
        sent.append(headers.get(NAME))

    before_task_publish.connect(note, weak=False, dispatch_uid="test")
    try:
        signature.apply_async().forget()
    finally:
        before_task_publish.disconnect(dispatch_uid="test")
    return str(sent.pop())


@pytest.fixture(scope="module", autouse=True)
def worker() -> Iterator[None]:
    def leave_logging_alone(**_: Any) -> None: ...

    setup_logging.connect(leave_logging_alone, weak=False, dispatch_uid="test")
    before = logging.root.level, logging.root.handlers.copy()
    with start_worker(app, pool="threads", concurrency=2, perform_ping_check=False):
        yield
    setup_logging.disconnect(dispatch_uid="test")
    assert (logging.root.level, logging.root.handlers) == before


@pytest.fixture(autouse=True)
def installed() -> Iterator[None]:
    install(client)
    yield
    for signal in (before_task_publish, task_prerun, task_postrun):
        signal.disconnect(dispatch_uid="flagkit")


def answer(task: Any) -> Any:
    return task.delay().get(timeout=PATIENCE_S, interval=0.01)


def test_a_task_has_the_scope_of_who_sends_it_and_the_next_has_not() -> None:
    with client.scope(Context("ann", {"plan": "pro"})):
        assert answer(look) == "ann on TARGETING_MATCH"
    with client.scope("bo", override=token()):
        assert answer(look) == "bo on OVERRIDE"
    with client.scope("bo"):
        assert answer(look) == "bo off DEFAULT"
    for _ in range(4):  # whichever thread takes it
        assert answer(look) == "None off DEFAULT"


def test_the_whole_context_travels_or_the_attributes_that_are_named() -> None:
    context = Context("ann", {"plan": "pro", "email": "a@b.c", "odd": object()}, {"new-checkout": True}, True)
    with client.scope(context):
        assert answer(know) == ["ann", {"plan": "pro", "email": "a@b.c"}, {"new-checkout": True}, True]
        install(client, attributes=["plan"])
        assert answer(know) == ["ann", {"plan": "pro"}, {"new-checkout": True}, True]
    with client.scope(Context(attributes={"plan": "pro"})):
        assert answer(know) == [None, {"plan": "pro"}, None, False]
        assert answer(look) == "None on TARGETING_MATCH"
    with client.scope(Context(b"no unit")):
        assert answer(look) == "None None INVALID_CONTEXT"


def test_of_a_context_that_is_too_large_the_unit_travels() -> None:
    with client.scope(Context("ann", {"plan": "x" * MAX_HEADER}), override=token()):
        assert answer(know) == ["ann", {}, None, False]
        assert answer(look) == "ann on OVERRIDE"


def test_the_override_is_verified_again_in_the_worker() -> None:
    other = shop()  # the worker's own client is another than the sender's, of which it refuses what was accepted there
    other.allow_overrides(f"k2:{'t' * 32}")
    install(other)
    with client.scope("ann", override=token()):
        assert answer(look) == "ann off DEFAULT"
    assert other.status.overrides == {"unknown_key": 1}


NOT_OURS = (
    "",
    "{",
    "[]",
    "null",
    '{"context": 5, "override": null}',
    '{"context": {}, "override": 5}',
    '{"override": ""}',
)
NO_ATTRIBUTES = {"unit": "ann", "attributes": 5, "enrolments": None, "synthetic": False}


@pytest.mark.parametrize("header", [*NOT_OURS, json.dumps({"context": NO_ATTRIBUTES, "override": None})])
def test_a_header_that_is_not_ours_leaves_the_task_without_a_unit(header: str) -> None:
    assert look.apply_async(headers={NAME: header}).get(timeout=PATIENCE_S, interval=0.01).startswith("None ")
    assert look.apply_async(headers={NAME: [1]}).get(timeout=PATIENCE_S, interval=0.01) == "None off DEFAULT"


def test_a_forged_override_in_a_message_is_refused() -> None:
    fields = {"unit": "ann", "attributes": {}, "enrolments": None, "synthetic": False}
    forged = json.dumps({"context": fields, "override": token()[:-8] + "AAAAAAAA"})
    assert look.apply_async(headers={NAME: forged}).get(timeout=PATIENCE_S, interval=0.01) == "ann off DEFAULT"


def test_tasks_at_the_same_time_have_a_scope_each() -> None:
    with client.scope("ann", override=token()):
        overridden = meet.delay()
    with client.scope("bo"):
        plain = meet.delay()
    assert overridden.get(timeout=PATIENCE_S, interval=0.01) == "ann on OVERRIDE"
    assert plain.get(timeout=PATIENCE_S, interval=0.01) == "bo off DEFAULT"


def test_a_task_that_fails_leaves_nothing_behind() -> None:
    for _ in range(4):
        with client.scope("ann", override=token()), pytest.raises(ValueError, match="the shop's own"):
            answer(fail)
        assert answer(look) == "None off DEFAULT"


def test_what_a_task_sends_and_its_retry_have_its_scope() -> None:
    with client.scope("ann", override=token()):
        inside, header = answer(send_on)
        assert inside == "ann on OVERRIDE"
        assert json.loads(header)["override"]
        assert answer(again) == "ann on OVERRIDE"


def test_a_task_whose_sender_has_no_scope_asks_as_the_application_says() -> None:
    install(client, context=lambda request: {"unit": request.task.rpartition(".")[2], "plan": "pro"})
    assert answer(look) == "look on TARGETING_MATCH"
    install(client, context=lambda request: request.no_such_thing["x"])
    assert answer(look) == "None None INVALID_CONTEXT"


def test_what_code_forces_does_not_travel() -> None:
    install(client, context=lambda _: "cy")
    with client.override({"new-checkout": True}):
        assert answer(look) == "cy off DEFAULT"


def test_a_task_that_is_called_on_the_spot_is_in_the_scope_of_there() -> None:
    with client.scope("ann", override=token()), flagkit.scope("bo"):
        assert look.apply().get() == "bo on OVERRIDE"
        assert look() == "bo on OVERRIDE"
        assert unit() == "bo"


def test_a_wrong_argument_is_named() -> None:
    with pytest.raises(ConfigError, match=r"^attributes: got 'plan'; expected None, or the names"):
        install(client, attributes="plan")
    with pytest.raises(ConfigError, match=r"^context: got 5"):
        install(client, context=5)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"^client: got 5"):
        install(5)  # type: ignore[arg-type]
