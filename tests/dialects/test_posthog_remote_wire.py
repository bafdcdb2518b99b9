"""What PostHog is asked, word by word, and what its answers mean."""

from __future__ import annotations

import json
from typing import Any

import pytest

from flagkit import Context
from flagkit.dialects.posthog_elsewhere import MAX_QUESTION, question_of
from flagkit.errors import FetchError
from flagkit.sources import PostHog
from flagkit.sources.source import Told
from tests.dialects.posthog_server import COHORT, KEY, TOKEN, Server, asking, said
from tests.unit.loopback import serving

Json = dict[str, Any]


# -- the request's answers -------------------------------------------------------------------------------------------


def decided(server: Server, *flags: str) -> Any:
    with serving(server) as running:
        source = PostHog(running.url, project_token=TOKEN, personal_key=KEY, remote_fallback=True)
        assert source.decider is not None
        try:
            return source.decider.decide('{"distinct_id":"user-1"}', flags, deadline_s=5)
        finally:
            source.close()


def test_flags_that_the_server_could_not_decide_are_left_out() -> None:
    failed = said(False, failed=True)
    server = Server(f=said(True), g=failed, h={"enabled": "yes"}, other=said(True))
    server.more = {"errorsWhileComputingFlags": True}
    assert list(decided(server, "f", "g", "h", "i")) == ["f"]


def test_facts_that_are_none_are_left_out() -> None:
    server = Server(f={"enabled": True, "variant": 7, "metadata": {"id": "x", "version": 1.5}, "reason": None})
    server.more = {"requestId": "a\nb"}
    assert decided(server, "f") == {"f": Told("true", True, {"remote": True})}


@pytest.mark.parametrize(
    ("status", "more", "reason", "lasting"),
    [
        (200, {"quotaLimited": ["feature_flags"]}, "quota_limited", True),
        (200, {"flags": None}, "no_flags", False),
        (401, {}, "http_401", True),
        (402, {}, "http_402", True),
        (429, {}, "http_429", False),
        (503, {}, "http_503", False),
        (302, {}, "http_302", False),
    ],
)
def test_what_is_no_answer_is_an_error_of_one_word(status: int, more: Json, reason: str, lasting: bool) -> None:
    server = Server(f=said(True))
    server.status, server.more = status, more
    with pytest.raises(FetchError) as raised:
        decided(server, "f")
    assert (raised.value.reason, raised.value.lasting) == (reason, lasting)
    assert TOKEN not in str(raised.value)


# -- the question ----------------------------------------------------------------------------------------------------


class Hostile:
    def __getattr__(self, name: str) -> Any:
        raise RuntimeError(name)


@pytest.mark.parametrize(
    "attributes",
    [
        {"a": "\ud800"},
        {f"k{n}": n for n in range(201)},
        {"$group_properties": {f"k{n}": {} for n in range(201)}},
        {"a": {f"k{n}": "x" * 1000 for n in range(100)}, **{f"k{n}": "x" * 1000 for n in range(100)}},
    ],
)
def test_a_context_that_cannot_be_told_is_not_asked_about(attributes: Json) -> None:
    with asking(Server(COHORT, f=said(True))) as client:
        assert client.decide("f", Context("user-1", attributes)).rule == "static cohort"
        assert client.status.remote is not None
        assert client.status.remote.waiting == 0


def test_only_values_of_plain_json_are_told() -> None:
    attributes: Any = {
        "o": Hostile(),
        "n": float("nan"),
        "big": 1 << 70,
        "long": "x" * 2000,
        "b": b"x",
        3: "x",
        "ok": True,
    }
    text = question_of(
        Context("user-1", {**attributes, "$groups": Hostile(), "list": [1, "x"], "d": {"a": 1}, "l": [Hostile()]})
    )
    assert text is not None
    assert json.loads(text)["person_properties"] == {"ok": True, "list": [1, "x"]}


def test_the_same_context_is_the_same_question_whatever_its_order() -> None:
    assert question_of(Context("u", {"a": 1, "b": 2})) == question_of(Context("u", {"b": 2, "a": 1}))
    assert question_of(Context("u", {f"k{n}": "x" * 900 for n in range(MAX_QUESTION // 900 + 1)})) is None
