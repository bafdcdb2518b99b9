"""A client's figures as Prometheus reads them, from the official library's own text and parser."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable
from typing import Any

import pytest
from documents import HALF, ON
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from flagkit import Client, ConfigError
from flagkit.integrations.prometheus import BOUNDS_S, Collector

Make = Callable[..., Client]


def samples(client: Client) -> dict[tuple[str, tuple[str, ...]], float]:
    """What a scrape reads: name and label values, in the order of the labels' names -> value."""
    registry = CollectorRegistry()
    registry.register(Collector(client))
    families = text_string_to_metric_families(generate_latest(registry).decode())
    return {
        (sample.name, tuple(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in families
        for sample in family.samples
    }


def run(client: Client, seconds: float | None = None, error: type[Exception] | None = None) -> None:
    with contextlib.suppress(Exception), client.gate("f", "user-1") as gate:
        gate.on
        if error is not None:
            raise error
        if seconds is not None:
            client._clock.advance(seconds)  # type: ignore[attr-defined]


def test_calls_and_failures_are_counters_by_flag_and_variant(make: Make) -> None:
    client = make({"f": ON})
    for _ in range(3):
        run(client)
    run(client, error=ValueError)
    run(client, error=KeyError)
    found = samples(client)
    assert found["flagkit_calls_total", ("f", "on")] == 5
    assert found["flagkit_failures_total", ("ValueError", "f", "on")] == 1
    assert found["flagkit_failures_total", ("KeyError", "f", "on")] == 1


def test_durations_are_a_histogram_with_exact_counts(make: Make) -> None:
    client, chance = make({"f": ON}), random.Random(5)
    taken = [chance.lognormvariate(-2, 1.5) for _ in range(500)]
    for seconds in taken:
        run(client, seconds)
    found = samples(client)
    for bound in BOUNDS_S:
        upto = found["flagkit_call_duration_seconds_bucket", ("f", repr(bound), "on")]
        assert upto == sum(seconds <= bound for seconds in taken)
    assert found["flagkit_call_duration_seconds_bucket", ("f", "+Inf", "on")] == 500
    assert found["flagkit_call_duration_seconds_count", ("f", "on")] == 500
    assert found["flagkit_call_duration_seconds_sum", ("f", "on")] == pytest.approx(sum(taken), rel=0.02)


def test_definitions_events_and_trips_are_told(make: Make) -> None:
    held = {"rules": {"half": {"percent": 5, "shares": {"on": 1}}}, "why": "it hurts"}
    client = make({"f": {**HALF, "guard": {}}, "g": {**HALF, "guard": {"held": held}}})
    client.start()
    client.enabled("f", "user-1")
    client.track("order", "user-1", value=float("nan"))
    found = samples(client)
    assert (found["flagkit_ready", ()], found["flagkit_events_pending", ()]) == (1, 1)
    assert (found["flagkit_events_recorded_total", ()], found["flagkit_events_delivered_total", ()]) == (2, 0)
    assert found["flagkit_events_lost_total", ("unencodable",)] == 1
    assert not any(name == "flagkit_tripped" for name, _ in found)
    for _ in range(200):
        for number in range(20):
            with contextlib.suppress(ValueError), client.gate("f", f"user-{number}") as gate:
                if gate.on:
                    raise ValueError
    assert samples(client)["flagkit_tripped", ("f",)] == 1
    assert samples(client)["flagkit_held", ("g",)] == 1


def test_a_client_that_records_nothing_has_no_events_to_tell_of(make: Make) -> None:
    assert not any("events" in name for name, _ in samples(make({"f": ON}, sink=None)))


def test_two_clients_need_names_of_their_own(make: Make) -> None:
    registry = CollectorRegistry()
    registry.register(Collector(make()))
    with pytest.raises(ValueError, match="Duplicated"):
        registry.register(Collector(make()))
    registry.register(Collector(make(), namespace="shop_flags"))
    assert b"shop_flags_ready" in generate_latest(registry)


@pytest.mark.parametrize("namespace", ["", "a-b", "1a", 7, None, "é"])
def test_a_name_that_prometheus_would_not_take_is_refused(make: Make, namespace: Any) -> None:
    with pytest.raises(ConfigError, match="namespace"):
        Collector(make(), namespace)


def test_what_is_no_client_is_refused() -> None:
    with pytest.raises(ConfigError, match="client"):
        Collector("client")  # type: ignore[arg-type]
