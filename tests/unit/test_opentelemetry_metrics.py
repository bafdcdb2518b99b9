"""Calls through gates as OpenTelemetry's metrics, and answers on its spans, read back from the official SDK."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from documents import ON
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import INVALID_SPAN_CONTEXT, NonRecordingSpan, use_span

from flagkit import Client
from flagkit.integrations.opentelemetry import measure, trace

Make = Callable[..., Client]


@pytest.fixture
def reader() -> InMemoryMetricReader:
    return InMemoryMetricReader()


@pytest.fixture
def provider(reader: InMemoryMetricReader) -> Iterator[MeterProvider]:
    provider = MeterProvider([reader])
    yield provider
    provider.shutdown()


def collected(reader: InMemoryMetricReader) -> dict[str, list[tuple[dict[str, Any], Any]]]:
    data = reader.get_metrics_data()
    return {
        metric.name: [(dict(point.attributes or {}), point.value) for point in metric.data.data_points]  # type: ignore
        for resource in (data.resource_metrics if data is not None else ())
        for scope in resource.scope_metrics
        for metric in scope.metrics
    }


def run(client: Client, seconds: float = 0.0, error: type[Exception] | None = None) -> None:
    with contextlib.suppress(Exception), client.gate("f", "user-1") as gate:
        gate.on
        client._clock.advance(seconds)  # type: ignore[attr-defined]
        if error is not None:
            raise error


def test_calls_and_failures_are_counters_with_opentelemetry_s_attributes(
    make: Make, provider: MeterProvider, reader: InMemoryMetricReader
) -> None:
    client = make({"f": ON})
    measure(client, provider)
    for _ in range(4):
        run(client)
    run(client, error=ValueError)
    found = collected(reader)
    of = {"feature_flag.key": "f", "feature_flag.result.variant": "on"}
    assert found["flagkit.calls"] == [(of, 5)]
    assert found["flagkit.failures"] == [({**of, "error.type": "ValueError"}, 1)]
    run(client)
    assert collected(reader)["flagkit.calls"] == [(of, 6)]


def test_durations_are_quantiles_since_the_last_collection(
    make: Make, provider: MeterProvider, reader: InMemoryMetricReader
) -> None:
    client = make({"f": ON})
    measure(client, provider)
    for hundredth in range(1, 101):
        run(client, hundredth / 100)
    first = {of["flagkit.quantile"]: value for of, value in collected(reader)["flagkit.call.duration"]}
    assert first == {
        0.5: pytest.approx(0.5, rel=0.02), 0.9: pytest.approx(0.9, rel=0.02), 0.99: pytest.approx(0.99, rel=0.02)
    }  # fmt: skip
    run(client, 8.0)
    second = [value for _, value in collected(reader)["flagkit.call.duration"]]
    assert second == [pytest.approx(8.0, rel=0.02)] * 3


def test_nothing_is_observed_before_anything_was_called(
    make: Make, provider: MeterProvider, reader: InMemoryMetricReader
) -> None:
    measure(make({"f": ON}), provider)
    assert not any(collected(reader).values())


def test_what_a_forked_child_counts_is_its_own(
    make: Make, provider: MeterProvider, reader: InMemoryMetricReader
) -> None:
    client = make({"f": ON})
    measure(client, provider)
    for _ in range(5):
        run(client, 1.0)
    collected(reader)
    client._guards.after_fork()  # as in the child
    run(client, 1.0)
    assert [value for _, value in collected(reader)["flagkit.call.duration"]] == [pytest.approx(1.0, rel=0.02)] * 3


# -- spans


@pytest.fixture
def spans() -> Iterator[tuple[Any, InMemorySpanExporter]]:
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    yield provider.get_tracer("test"), exporter
    provider.shutdown()


def test_every_answer_is_an_attribute_and_one_event_of_the_current_span(make: Make, spans: Any) -> None:
    tracer, exporter = spans
    client = make()
    trace(client)
    client.enabled("on", "user-1")  # no span
    with tracer.start_as_current_span("request"):
        for _ in range(3):
            client.enabled("on", "user-1")
        client.variant("text", "user-1")
        with client.gate("off", "user-1") as gate:
            gate.on
        client.enabled("nope", "user-1")
    (span,) = exporter.get_finished_spans()
    assert dict(span.attributes) == {
        "flagkit.variant.on": "on",
        "flagkit.variant.text": "v",
        "flagkit.variant.off": "off",
        "flagkit.variant.nope": "error",
    }
    assert [(event.name, event.attributes["feature_flag.key"]) for event in span.events] == [
        ("feature_flag.evaluation", flag) for flag in ("on", "text", "off", "nope")
    ]
    assert not any("feature_flag.context.id" in event.attributes for event in span.events)


def test_an_answer_that_changed_is_noted_again(make: Make, spans: Any) -> None:
    tracer, exporter = spans
    client = make()
    trace(client)
    with tracer.start_as_current_span("request"):
        client.enabled("off", "user-1")
        with client.override({"off": True}):
            client.enabled("off", "user-1")
    (span,) = exporter.get_finished_spans()
    assert [event.attributes["feature_flag.result.variant"] for event in span.events] == ["off", "on"]
    assert dict(span.attributes) == {"flagkit.variant.off": "on"}


def test_of_one_span_there_are_twenty_flags_at_most(make: Make, spans: Any) -> None:
    tracer, exporter = spans
    client = make({f"f{number}": ON for number in range(50)})
    trace(client)
    with tracer.start_as_current_span("request"):
        for number in range(50):
            client.enabled(f"f{number}", "user-1")
    (span,) = exporter.get_finished_spans()
    assert (len(span.attributes), len(span.events)) == (20, 20)


def test_a_span_that_does_not_tell_its_attributes_gets_those_alone(make: Make) -> None:
    class Foreign(NonRecordingSpan):
        noted: dict[str, Any]

        def is_recording(self) -> bool:
            return True

        def set_attribute(self, key: str, value: Any) -> None:
            self.noted[key] = value

        def add_event(self, *arguments: Any, **more: Any) -> None:
            raise AssertionError

    client, span = make(), Foreign(INVALID_SPAN_CONTEXT)
    span.noted = {}
    trace(client)
    with use_span(span):
        client.enabled("on", "user-1")
        client.enabled("on", "user-1")
    assert span.noted == {"flagkit.variant.on": "on"}
