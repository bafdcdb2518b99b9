"""A client's figures where Prometheus meets several processes: prometheus_client's multiprocess mode, and ports."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.request import urlopen

import pytest
from prometheus_client.parser import text_string_to_metric_families

PACKAGE = Path(__file__).resolve().parents[2]

#: As docs/monitoring.md says it. It makes as many calls as it is told to, and says what a scrape of all would show.
WORKER = """
import sys

import flagkit
import prometheus_client
from flagkit.integrations.prometheus import Collector
from prometheus_client import multiprocess

calls = int(sys.argv[1])
client = flagkit.Client(source=flagkit.sources.Static({"schema": 1, "flags": {"f": {"default": "on"}}}))
own = prometheus_client.Counter("orders", "The application's own.")
for number in range(calls):
    with client.gate("f", str(number)) as gate:
        assert gate.on
    own.inc()

registry = prometheus_client.CollectorRegistry()
registry.register(Collector(client))
server, _ = prometheus_client.start_http_server(0, addr="127.0.0.1", registry=registry)
print(server.server_port, flush=True)
sys.stdin.readline()

merged = prometheus_client.CollectorRegistry()
multiprocess.MultiProcessCollector(merged)
print(prometheus_client.generate_latest(merged).decode())
"""


@pytest.fixture
def workers(tmp_path: Path) -> Iterator[list[subprocess.Popen[str]]]:
    """Two, which made 3 and 4 calls."""
    environment = {**os.environ, "PYTHONPATH": str(PACKAGE), "PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
    started = [
        subprocess.Popen(
            [sys.executable, "-c", WORKER, calls],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for calls in ("3", "4")
    ]
    yield started
    for worker in started:
        worker.communicate(timeout=30)
        assert worker.returncode == 0


def read(text: str) -> dict[str, float]:
    """Name of a sample -> the sum of all that are called so."""
    found: dict[str, float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found[sample.name] = found.get(sample.name, 0) + sample.value
    return found


def scraped(worker: subprocess.Popen[str]) -> dict[str, float]:
    assert worker.stdout is not None
    with urlopen(f"http://127.0.0.1:{int(worker.stdout.readline())}/metrics", timeout=30) as answer:
        return read(answer.read().decode())


def test_each_process_has_a_port_and_what_they_say_adds_up(workers: list[subprocess.Popen[str]]) -> None:
    found = [scraped(worker)["flagkit_calls_total"] for worker in workers]
    assert found == [3, 4]


def test_the_multiprocess_mode_merges_the_applications_metrics_and_has_none_of_flagkits(
    workers: list[subprocess.Popen[str]],
) -> None:
    # Of prometheus_client: it reads the files of its own counters, and asks no collector of another process. Should it
    # ever, docs/monitoring.md is to say so.
    for worker in workers:
        scraped(worker)  # both have made their calls
    merged = read(workers[0].communicate("\n", timeout=30)[0])
    assert merged["orders_total"] == 7
    assert not [name for name in merged if name.startswith("flagkit")]
