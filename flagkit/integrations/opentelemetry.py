"""Decisions on OpenTelemetry's spans and calls as its metrics (extra ``otel``), through the application's own SDK.

Owns the words of span events, attributes and instruments. It records nothing for experiments: exposures are the
client's, and reach a collector through ``flagkit.sinks.Otlp``. What is sampled, and where it goes, is the application's
matter.

Source: opentelemetry.io/docs/specs/semconv/feature-flags/feature-flags-events.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from opentelemetry.metrics import CallbackOptions, MeterProvider, Observation, get_meter_provider
from opentelemetry.trace import get_current_span

from flagkit.client import Client
from flagkit.context import Context, as_context
from flagkit.decision import Decision
from flagkit.integrations.answers import follow
from flagkit.production.metrics import Sums, VariantMetrics

_ON_SPAN: Final = "flagkit.variant."
_MOST_ON_SPAN: Final = 20
_MAX_NAME: Final = 256
_NOTHING: Final = Sums()
_QUANTILES: Final = {"p50_s": 0.5, "p90_s": 0.9, "p99_s": 0.99}


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


def trace(client: Client) -> None:
    """Note every answer of ``client`` on the span that is current, by itself: call it once, after the client is made.

    Each flag is the attribute ``flagkit.variant.FLAG`` of the span, to search traces by, and an event as of ``traced``;
    again only when its answer is another one. Of one span 20 flags at most, so that they never crowd out what else it
    has to say. No unit is noted. See ``flagkit.integrations.answers.follow`` for what is an answer.
    Raises: nothing.
    """
    follow(client, _note)


def _note(decision: Decision, _: Context) -> None:
    span = get_current_span()
    if not span.is_recording():
        return
    name = f"{_ON_SPAN}{decision.flag}"[:_MAX_NAME]
    answer = decision.variant or str(decision.reason.standard.lower())
    noted: Mapping[str, object] | None = getattr(span, "attributes", None)
    if noted is None:  # not the SDK's: it does not say what it has, and might get the same event over and over
        span.set_attribute(name, answer)
        return
    if noted.get(name) == answer:
        return
    if name not in noted and sum(each.startswith(_ON_SPAN) for each in noted) >= _MOST_ON_SPAN:
        return
    span.set_attribute(name, answer)
    traced(decision)


def measure(client: Client, provider: MeterProvider | None = None) -> None:
    """Have OpenTelemetry collect what gates of ``client`` count: call it once, after the client is made.

    - ``flagkit.calls``, an observable counter: calls that ended.
    - ``flagkit.failures``, an observable counter, with ``error.type``.
    - ``flagkit.call.duration``, an observable gauge in seconds: the quantiles 0.5, 0.9 and 0.99 (``flagkit.quantile``)
      of calls without a failure that ended since the last collection.

    All have ``feature_flag.key`` and ``feature_flag.result.variant``, by OpenTelemetry's conventions.
    They are read from ``client.status`` when a reader collects; nothing is done at a call. With two readers each sees
    the quantiles since either of them collected last.

    Args: provider, of meters; None: the global one. Raises: nothing.
    """
    meter = (get_meter_provider() if provider is None else provider).get_meter("flagkit")
    before: dict[tuple[str, str | None], Sums] = {}

    def calls(_: CallbackOptions) -> Iterator[Observation]:
        for each in client.status.variants:
            yield Observation(each.calls, _attributes(each))

    def failures(_: CallbackOptions) -> Iterator[Observation]:
        for each in client.status.variants:
            for error, count in each.errors.items():
                yield Observation(count, {**_attributes(each), "error.type": error})

    def durations(_: CallbackOptions) -> Iterator[Observation]:
        for each in client.status.variants:
            sums, place = Sums(buckets=each.buckets), (each.flag, each.variant)
            since = sums.minus(before.get(place, _NOTHING))
            if any(count < 0 for count in since.buckets.values()):
                since = sums  # counted anew, in a forked child
            before[place] = sums
            for name, seconds in since.times().items():
                if seconds is not None:
                    yield Observation(seconds, {**_attributes(each), "flagkit.quantile": _QUANTILES[name]})

    meter.create_observable_counter("flagkit.calls", [calls], "{call}", "Calls through gates that ended.")
    meter.create_observable_counter(
        "flagkit.failures", [failures], "{call}", "Calls that failed, by type of exception."
    )
    meter.create_observable_gauge("flagkit.call.duration", [durations], "s", "Quantiles of calls without a failure.")


def _attributes(each: VariantMetrics) -> dict[str, str]:
    return {"feature_flag.key": each.flag, "feature_flag.result.variant": each.variant or ""}
