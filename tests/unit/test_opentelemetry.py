"""Decisions as events of OpenTelemetry's spans, read back from the official SDK."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import Tracer

from flagkit import Client
from flagkit.integrations.opentelemetry import traced

Make = Callable[..., Client]


class Traces:
    """A tracer, and the events of the spans it has finished."""

    def __init__(self, tracer: Tracer, exporter: InMemorySpanExporter) -> None:
        self.tracer = tracer
        self._exporter = exporter

    @property
    def events(self) -> list[tuple[str, dict[str, Any]]]:
        spans = self._exporter.get_finished_spans()
        return [(event.name, dict(event.attributes or {})) for span in spans for event in span.events]


@pytest.fixture
def traces() -> Iterator[Traces]:
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    yield Traces(provider.get_tracer("test"), exporter)
    provider.shutdown()


def test_a_decision_is_an_event_of_the_current_span(make: Make, traces: Traces) -> None:
    client = make({"f": {"rules": [{"name": "ramp", "rollout": {"percent": 100}, "serve": "on"}], "version": "7"}})
    with traces.tracer.start_as_current_span("request"):
        decision = traced(client.decide("f", "user-1"), "user-1")
    assert decision.enabled
    assert traces.events == [
        (
            "feature_flag.evaluation",
            {
                "feature_flag.key": "f",
                "feature_flag.provider.name": "flagkit",
                "feature_flag.result.variant": "on",
                "feature_flag.result.reason": "split",
                "feature_flag.version": "7",
                "feature_flag.context.id": "user-1",
                "flagkit.rule": "ramp",
            },
        )
    ]


def test_a_unit_is_noted_only_when_it_is_given(make: Make, traces: Traces) -> None:
    client = make()
    with traces.tracer.start_as_current_span("request"):
        traced(client.decide("on", "user-1"))
        traced(client.decide("on", None), None)
        traced(client.decide("on", "\ud800"), "\ud800")
    assert not any("feature_flag.context.id" in attributes for _, attributes in traces.events)


def test_an_error_has_opentelemetry_s_type(make: Make, traces: Traces) -> None:
    with traces.tracer.start_as_current_span("request"):
        traced(make().peek("nope", "user-1"))
    ((_, attributes),) = traces.events
    assert (attributes["feature_flag.result.reason"], attributes["error.type"]) == ("error", "flag_not_found")


def test_a_reason_of_flagkit_s_own_stands_beside_the_closest_of_opentelemetry_s(make: Make, traces: Traces) -> None:
    client = make()
    with traces.tracer.start_as_current_span("request"), client.override({"off": True}):
        traced(client.peek("off", "user-1"))
    ((_, attributes),) = traces.events
    assert (attributes["feature_flag.result.reason"], attributes["flagkit.reason"]) == ("static", "override")


def test_without_a_span_a_decision_is_handed_on_as_it_is(make: Make, traces: Traces) -> None:
    decision = make().peek("on", "user-1")
    assert traced(decision) is decision
    assert traces.events == []
