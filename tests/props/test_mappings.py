"""A plain dict is read in place and a ``Context`` is not made of it; the answer must be the same as if it were."""

from __future__ import annotations

import json
from random import Random
from typing import Any

import pytest

import flagkit
from flagkit.context import Context
from tests.reference.compiled import in_words
from tests.reference.strategies import random_case

Json = dict[str, Any]


def as_mapping(context: Json) -> Json:
    """``context`` the way an application writes it: everything in one dict."""
    attributes = {name: value for name, value in context["attributes"].items() if name != "unit"}
    return {**attributes, **{name: context[name] for name in ("unit", "enrolments") if name in context}}


def as_object(mapping: Json) -> Context:
    attributes = {name: value for name, value in mapping.items() if name not in ("unit", "enrolments")}
    unit = {"unit": mapping["unit"]} if "unit" in mapping else {}
    return Context(**unit, attributes=attributes, enrolments=mapping.get("enrolments"))


@pytest.mark.parametrize("block", range(4))
def test_a_mapping_is_answered_like_the_context_it_stands_for(block: int) -> None:
    rng = Random(9_000 + block)
    for _ in range(150):
        case = random_case(rng)
        with flagkit.Client(source=flagkit.sources.Static(json.dumps(case.document))) as client:
            for context, forced in case.questions:
                mapping = as_mapping(context)
                given = dict(mapping)
                for flag in (*case.document["flags"], "no such flag"):
                    with client.override(forced or {}):
                        expected = client.decide(flag, as_object(mapping))
                        assert in_words(client.decide(flag, mapping)) == in_words(expected), (flag, mapping)
                        assert client.enabled(flag, mapping) is client.enabled(flag, as_object(mapping))
                    assert in_words(client.decide(flag, mapping)) == in_words(client.decide(flag, as_object(mapping)))
                assert mapping == given


def test_a_mapping_is_exposed_once_whatever_form_it_comes_in() -> None:
    sink = flagkit.sinks.Memory()
    document = {"schema": 1, "flags": {"a": {"rules": [{"rollout": {"percent": 50}, "serve": "on"}]}}}
    with flagkit.Client(source=flagkit.sources.Static(document), sink=sink) as client:
        for unit in ("user-1", "user-2", "user-3"):
            for context in ({"unit": unit, "plan": "pro"}, Context(unit), unit, {"unit": unit}):
                client.enabled("a", context)
                client.decide("a", context)
                client.value("a", context, default=False)
        client.enabled("a", {"unit": "probe", "synthetic": True})
        client.flush()
    assert sorted(event["feature_flag.context.id"] for event in sink.events) == ["user-1", "user-2", "user-3"]


def test_an_attribute_is_never_one_of_the_settings_beside_it() -> None:
    rules = [{"when": [{"attribute": name, "op": "exists"}], "serve": "on"} for name in ("synthetic", "enrolments")]
    document = {"schema": 1, "flags": {"a": {"rules": rules}}}
    with flagkit.Client(source=flagkit.sources.Static(document)) as client:
        assert not client.enabled("a", {"unit": "u", "synthetic": True, "enrolments": {"b": True}})
        assert client.enabled("a", Context("u", {"synthetic": True}))
