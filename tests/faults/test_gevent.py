"""What gevent patches under a client that is in use already."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit.loopback import GOOD_CERTIFICATE, Call, server_tls, serving

ROOT = Path(__file__).resolve().parents[2]
pytest.importorskip("gevent", reason="not installed: gevent; see the extra faults")

PATCHED_LATE = """
import sys, time, warnings
import flagkit

url, ca_file = sys.argv[1:]
source = flagkit.sources.Http(url, ca_file=ca_file)
client = flagkit.Client(source=source, config=flagkit.Config(poll_interval_s=0.05))
assert client.wait_ready(10)
first = client.status.version

from gevent import monkey
with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # gevent is right to complain; many an application does it nevertheless
    monkey.patch_all()

stop_s = time.monotonic() + 10
while int(client.status.version) < int(first) + 3:
    assert time.monotonic() < stop_s, client.status
    time.sleep(0.01)
"""


@pytest.mark.full
def test_definitions_change_over_tls_although_it_is_patched_after_it_was_used(tmp_path: Path) -> None:
    served = 0

    def definitions(call: Call) -> None:
        nonlocal served
        served += 1
        body = b'{"schema": 1, "version": "%d", "flags": {}}' % served
        call.answer(200, body, {"Content-Type": "application/json", "Connection": "close"})

    context, ca_file = server_tls(tmp_path, GOOD_CERTIFICATE)
    with serving(definitions, tls=context) as server:
        done = subprocess.run(
            [sys.executable, "-c", PATCHED_LATE, server.url, ca_file],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=60,
        )
    assert done.returncode == 0, done.stderr


FLUSHED_MEANWHILE = """
import threading, time
import flagkit
from flagkit.events import Delivered

class Slow:
    name = "slow"
    stored = 0
    def send(self, batch, *, deadline_s):
        sending.set()
        time.sleep(0.5)
        self.stored += len(batch.events)
        return Delivered()
    def close(self): ...
    def after_fork(self): ...

sink = Slow()
source = flagkit.sources.Static({"schema": 1, "flags": {}})
client = flagkit.Client(source=source, sink=sink, config=flagkit.Config(flush_interval_s=0.05))

from gevent import monkey
monkey.patch_all(ssl=False)  # of which nothing is used here

sending = threading.Event()
client.track("order", "first")
assert sending.wait(10)
client.track("order", "second")
assert client.flush(10) == 0
assert sink.stored == 2
"""


@pytest.mark.full
def test_a_flush_during_a_delivery_lets_it_finish_although_patched_after_the_client_was_made() -> None:
    command = [sys.executable, "-W", "error", "-c", FLUSHED_MEANWHILE]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
