"""Many clients in a few processes, and how long it takes until the last of them has heard of a change."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from processes import python

_CROWD = """
import json, os, resource, sys, threading, time
from flagkit import Client, Config, sources

source, arguments, count, settings = json.loads(sys.argv[1])
resource.setrlimit(resource.RLIMIT_NOFILE, (min(8192, resource.getrlimit(resource.RLIMIT_NOFILE)[1]),) * 2)
make = getattr(sources, source)
clients = [Client(source=make(**arguments), config=Config(**settings)) for _ in range(count)]

taken = {}

def noting(client):
    # Notes when definitions came into use: to look all the time would cost the clients their processor.
    publish = client._feed.current._publish

    def publish_and_note(new, before):
        publish(new, before)
        taken[client] = time.time()

    client._feed.current._publish = publish_and_note

for client in clients:
    noting(client)

def all_are(holds, timeout_s):
    stop = time.monotonic() + timeout_s
    while waiting := [client for client in clients if not holds(client)]:
        assert time.monotonic() < stop, (len(waiting), waiting[0].status)
        time.sleep(0.25)
    return max(taken.values())

def start(timeout_s):
    for client in clients:
        client.start()
    all_are(lambda client: client.status.ready and client.status.stream.state == "ok", timeout_s)
    return threading.active_count()

def polls():
    return sum(client.status.source.attempts for client in clients)

def until(flag, variant, timeout_s):
    return all_are(lambda client: client.peek(flag, "u").variant == variant, timeout_s)

def confirmed(within_s):
    return sum((client.status.age_s or 1e9) <= within_s for client in clients)

def close():
    began = time.monotonic()
    for client in clients:
        client.close()
    return [time.monotonic() - began, threading.active_count(), opened()]

def opened():
    return len(os.listdir("/proc/self/fd"))

verbs = {"open": opened, "start": start, "until": until, "polls": polls, "confirmed": confirmed, "close": close}
for line in sys.stdin:
    verb, *given = json.loads(line)
    print(json.dumps(verbs[verb](*given)), flush=True)
"""


class Crowd:
    """A process with ``count`` clients of their own."""

    def __init__(self, source: str, arguments: dict[str, Any], count: int, **settings: Any) -> None:
        given = [source, arguments, count, {"poll_interval_s": 60, **settings}]
        self.process = python(_CROWD, given, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def ask(self, verb: str, *given: Any) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps([verb, *given]) + "\n")
        self.process.stdin.flush()

    def answer(self) -> Any:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, self.process.stderr and self.process.stderr.read()
        return json.loads(line)


@contextmanager
def crowding(
    source: str, arguments: dict[str, Any], processes: int, each: int, **settings: Any
) -> Iterator[list[Crowd]]:
    crowds = [Crowd(source, arguments, each, **settings) for _ in range(processes)]
    try:
        yield crowds
    finally:
        for crowd in crowds:
            crowd.process.kill()
            crowd.process.communicate()


def all_do(crowds: list[Crowd], verb: str, *given: Any) -> list[Any]:
    """The answers of crowds that are asked at the same time."""
    for crowd in crowds:
        crowd.ask(verb, *given)
    return [crowd.answer() for crowd in crowds]
