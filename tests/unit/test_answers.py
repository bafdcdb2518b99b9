"""Whoever follows a client is told of every answer that the application was given, and nobody else pays for it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from flagkit import Client, Context, Decision, sinks
from flagkit.integrations.answers import follow

Make = Callable[..., Client]


class Heard(list[tuple[str, str | None, str | None]]):
    def __call__(self, decision: Decision, context: Context) -> None:
        self.append((decision.flag, decision.variant, context.unit_text))


@pytest.mark.parametrize(
    "ask",
    [
        lambda client: client.enabled("on", "u"),
        lambda client: client.variant("on", "u"),
        lambda client: client.value("on", "u", default=False),
        lambda client: client.decide("on", "u"),
        lambda client: client.expose(client.peek("on", "u"), "u"),
        lambda client: client.gate("on", "u").on,
        lambda client: client.gate("on", "u", otherwise=int)(str)(),
    ],
    ids=["enabled", "variant", "value", "decide", "expose", "gate", "gated"],
)
def test_every_answer_is_told_once(make: Make, ask: Callable[[Client], object]) -> None:
    client, heard = make(), Heard()
    follow(client, heard)
    ask(client)
    assert heard == [("on", "on", "u")]


def test_answers_stay_as_they_are(make: Make) -> None:
    plain, followed = make(), make()
    follow(followed, Heard())
    for client in (plain, followed):
        assert client.enabled("on", "u") is True
        assert client.enabled("nope", "u", default=True) is True
        assert client.value("int", "u", default=1) == 7
        assert client.variant("split", {"unit": "u", "a": "x"}) == plain.variant("split", "u")
        with client.override({"off": True}):
            assert client.enabled("off", "u") is True
    assert (plain.flush(), followed.flush()) == (0, 0)
    assert plain.status.account == followed.status.account


def test_questions_that_only_look_are_not_told(make: Make) -> None:
    client, heard = make(), Heard()
    follow(client, heard)
    client.peek("on", "u")
    client.decide_all("u")
    client.explain("on", "u")
    assert heard == []


def test_two_may_follow_and_one_that_raises_harms_nobody(make: Make) -> None:
    client, heard = make(), Heard()

    def broken(decision: Decision, context: Context) -> None:
        raise RuntimeError

    follow(client, broken)
    follow(client, heard)
    assert client.enabled("on", "u") is True
    assert heard == [("on", "on", "u")]


def test_a_client_that_nobody_follows_has_the_class_s_own_verbs(make: Make) -> None:
    followed, plain = make(), make()
    follow(followed, Heard())
    assert vars(plain).keys().isdisjoint({"enabled", "_asked", "expose", "choose"})


def test_a_client_that_counts_its_calls_counts_each_once_all_the_same(make: Make) -> None:
    client, heard = make(sink=sinks.Unleash("http://127.0.0.1:9/api", token="t")), Heard()
    follow(client, heard)
    client.enabled("on", "u")
    client.variant("on", "u")
    with client.gate("on", "u") as gate:
        assert gate.on
    assert client._reporting is not None
    assert client._reporting.counts.take() == {("on", True, None): 1, ("on", True, "on"): 2}
    assert len(heard) == 3
