"""``Collector``: a client's figures for Prometheus (extra ``prometheus``), read from ``client.status`` at each scrape.

Owns the names, the labels and the bounds of the histogram. Nothing is done at a call, and nothing is kept here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector as Collecting

from flagkit.client import Client
from flagkit.errors import ConfigError
from flagkit.production.metrics import VariantMetrics, edges
from flagkit.runtime.stats import Status

#: The histogram's bounds, seconds: 0.12 ms to 64 s, each twice the one before. flagkit's own buckets end there too.
BOUNDS_S: Final = tuple(2.0**power for power in range(-13, 7))
_BY_VARIANT: Final = ("flag", "variant")


class Collector(Collecting):
    """The figures of one client in this process.

        prometheus_client.REGISTRY.register(Collector(client))

    | name | type | labels |
    |---|---|---|
    | flagkit_calls_total | counter | flag, variant |
    | flagkit_failures_total | counter | flag, variant, error |
    | flagkit_call_duration_seconds | histogram, of calls without a failure | flag, variant |
    | flagkit_tripped | gauge, 1 | flag |
    | flagkit_ready, flagkit_definitions_age_seconds | gauge | |
    | flagkit_events_recorded_total, flagkit_events_delivered_total | counter | |
    | flagkit_events_lost_total | counter | reason |
    | flagkit_events_pending | gauge | |

    The histogram's counts are exact, its sum is within 2 %. There is no label for units, so that the number of series
    is bounded by flags, variants and types of errors (21 a variant).

    Args: namespace, what the names begin with; a second client in one registry needs another one.
    Raises: ConfigError naming the argument.
    """

    def __init__(self, client: Client, namespace: str = "flagkit") -> None:
        if not isinstance(client, Client):
            raise ConfigError("client", client, "a flagkit.Client")
        if not isinstance(namespace, str) or not namespace.isascii() or not namespace.isidentifier():
            raise ConfigError("namespace", namespace, "letters, digits and underscores, not a digit first")
        self._client = client
        self._namespace = namespace

    def describe(self) -> Iterable[Metric]:
        """The names, for a registry that looks for two of one name."""
        return [*self._of_calls(()), *self._of_client(None)]

    def collect(self) -> Iterable[Metric]:
        """What there is to tell now. Raises: nothing."""
        status = self._client.status
        return [*self._of_calls(status.variants), *self._of_client(status)]

    def _of_calls(self, variants: Iterable[VariantMetrics]) -> Iterator[Metric]:
        name = self._namespace
        calls = CounterMetricFamily(f"{name}_calls", "Calls through gates that ended.", labels=_BY_VARIANT)
        failures = CounterMetricFamily(
            f"{name}_failures", "Calls that failed, by type of exception.", labels=(*_BY_VARIANT, "error")
        )
        durations = HistogramMetricFamily(
            f"{name}_call_duration_seconds", "How long calls without a failure took.", labels=_BY_VARIANT
        )
        for each in variants:
            labels = (each.flag, each.variant or "")
            calls.add_metric(labels, each.calls)
            for error, count in each.errors.items():
                failures.add_metric((*labels, error), count)
            durations.add_metric(labels, *_histogram(each.buckets))
        yield from (calls, failures, durations)

    def _of_client(self, status: Status | None) -> Iterator[Metric]:
        name = self._namespace
        tripped = GaugeMetricFamily(f"{name}_tripped", "Flags that a guard has rolled back.", labels=("flag",))
        held = GaugeMetricFamily(f"{name}_held", "Flags that a guard holds at an earlier step.", labels=("flag",))
        ready = GaugeMetricFamily(f"{name}_ready", "Whether definitions are loaded.")
        age = GaugeMetricFamily(f"{name}_definitions_age_seconds", "Since the source last confirmed the definitions.")
        recorded = CounterMetricFamily(f"{name}_events_recorded", "Events recorded.")
        delivered = CounterMetricFamily(f"{name}_events_delivered", "Events that the collector has.")
        lost = CounterMetricFamily(f"{name}_events_lost", "Events that never will arrive.", labels=("reason",))
        pending = GaugeMetricFamily(f"{name}_events_pending", "Events that wait.")
        if status is not None:
            ready.add_metric((), status.ready)
            for flag in status.trips:
                tripped.add_metric((flag,), 1)
            for flag in status.holds:
                held.add_metric((flag,), 1)
            if status.age_s is not None:
                age.add_metric((), status.age_s)
        account = status.account if status is not None else None
        if account is not None:
            recorded.add_metric((), account.recorded)
            delivered.add_metric((), account.delivered)
            pending.add_metric((), account.pending)
            for reason, count in account.lost.items():
                lost.add_metric((reason,), count)
        yield from (tripped, held, ready, age, recorded, delivered, lost, pending)


def _histogram(buckets: Mapping[int, int]) -> tuple[list[tuple[str, float]], float]:
    """Calls up to each bound, and how long all of them took."""
    spans = [(*edges(bucket), count) for bucket, count in buckets.items()]
    upto = [(repr(bound), sum(count for _, end, count in spans if end <= bound)) for bound in BOUNDS_S]
    total_s = sum((begin + end) / 2 * count for begin, end, count in spans)
    return [*upto, ("+Inf", sum(buckets.values()))], total_s
