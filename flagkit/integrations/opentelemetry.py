"""Decisions on OpenTelemetry's spans (extra ``otel``): which flags a traced request met, seen in the trace itself.

Owns the words of the span event. It records nothing for experiments: exposures are the client's, and reach a collector
through ``flagkit.sinks.Otlp``. The application's own tracer decides what is sampled and where it goes.

Source: opentelemetry.io/docs/specs/semconv/feature-flags/feature-flags-events.
"""

from __future__ import annotations

from opentelemetry.trace import get_current_span

from flagkit.context import as_context
from flagkit.decision import Decision


def traced(decision: Decision, context: object = None) -> Decision:
    """``decision`` as it is, noted on the current span as an event ``feature_flag.evaluation``.

        decision = traced(client.decide("new-checkout", user))

    Args: context, as in ``Client.decide``: its unit is noted too. Left out, as traces are often open to more people
        than units are, it is not.
    Raises: nothing. Without a span that is recorded it does nothing.
    """
    span = get_current_span()
    if not span.is_recording():
        return decision
    unit = None if context is None else as_context(context).unit_text
    attributes = {
        "feature_flag.key": decision.flag,
        "feature_flag.provider.name": "flagkit",
        "feature_flag.result.variant": decision.variant,
        "feature_flag.result.reason": decision.reason.standard.lower(),
        "feature_flag.version": decision.version,
        "feature_flag.context.id": unit,
        "error.type": None if decision.error_code is None else decision.error_code.lower(),
        "flagkit.rule": decision.rule,
        "flagkit.reason": None if decision.reason.standard is decision.reason else decision.reason.lower(),
    }
    span.add_event("feature_flag.evaluation", {name: text for name, text in attributes.items() if text is not None})
    return decision
