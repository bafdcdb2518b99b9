"""Changes told as they happen, on real parts: a service process, client processes, sockets, and what cuts them."""

from __future__ import annotations

import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from crowds import all_do, crowding
from processes import KEY, Service, python

import flagkit
from tests.unit.redises import needs_redis, redis_server

ON, OFF, KILLED = {"default": "on"}, {}, {"default": "on", "enabled": False}
#: So rarely that whatever is seen in time was told or fetched because of what was told.
NEVER_S = 600.0
HTTP = "Http"


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    running = Service(tmp_path)
    running.publish({"checkout": ON}, "1")
    running.start()
    yield running
    running.kill()


def client_of(url: str, **settings: Any) -> flagkit.Client:
    return flagkit.Client(url, key=KEY, sink=None, config=flagkit.Config(**{"poll_interval_s": NEVER_S, **settings}))


def until(holds: Callable[[], bool], timeout_s: float = 10.0) -> float:
    """The wall time at which it came to be."""
    ends_s = time.monotonic() + timeout_s
    patience = threading.Event()
    while not holds():
        assert time.monotonic() < ends_s, "it never came to be"
        patience.wait(0.002)
    return time.time()


def listens(client: flagkit.Client) -> bool:
    stream = client.status.stream
    return stream is not None and stream.state == "ok"


def test_a_kill_switch_reaches_every_process_within_a_second(service: Service) -> None:
    with crowding(HTTP, {"url": service.url, "key": KEY}, 3, 5, poll_interval_s=NEVER_S) as crowds:
        all_do(crowds, "start", 20)
        polls = sum(all_do(crowds, "polls"))
        taken_s = []
        for version, flag, variant in ((2, KILLED, "off"), (3, ON, "on"), (4, KILLED, "off")):
            for crowd in crowds:
                crowd.ask("until", "checkout", variant, 10)
            published = service.publish({"checkout": flag}, str(version))
            taken_s.append(max(crowd.answer() for crowd in crowds) - published)
        assert sum(all_do(crowds, "polls")) == polls, "nobody had to ask"
    assert max(taken_s) < 1


def test_a_change_that_is_too_large_to_be_told_is_fetched_within_a_second_or_so(service: Service) -> None:
    with crowding(HTTP, {"url": service.url, "key": KEY}, 2, 5, poll_interval_s=NEVER_S) as crowds:
        all_do(crowds, "start", 20)
        many = {f"flag-{number}": {"description": "x" * 1000} for number in range(100)}
        for crowd in crowds:
            crowd.ask("until", "checkout", "off", 10)
        published = service.publish({"checkout": KILLED, **many}, "2")
        assert max(crowd.answer() for crowd in crowds) - published < 2


def test_a_restart_is_noticed_and_what_was_missed_is_made_good(service: Service) -> None:
    with client_of(service.url) as client:
        until(lambda: listens(client))
        service.kill()
        service.publish({"checkout": KILLED}, "2")
        service.publish({"checkout": KILLED, "new": ON}, "3")
        assert client.enabled("checkout", "u")
        service.start()
        until(lambda: client.enabled("new", "u") and not client.enabled("checkout", "u"))
        until(lambda: listens(client))
        polls = client.status.source.attempts
        published = service.publish({"checkout": ON, "new": ON}, "4")
        assert until(lambda: client.enabled("checkout", "u")) - published < 1
        assert client.status.source.attempts == polls


def test_what_was_missed_in_between_is_told_when_the_stream_is_back(service: Service) -> None:
    with Cable(service.url) as cable, client_of(cable.url) as client:
        until(lambda: listens(client))
        cable.cut()
        cable.refusing = True
        service.publish({"checkout": KILLED}, "2")
        until(lambda: not listens(client))
        polls = client.status.source.attempts
        cable.refusing = False
        until(lambda: not client.enabled("checkout", "u"))
        assert client.status.source.attempts == polls, "by the id of what was in use"


def test_a_stream_that_falls_silent_is_given_up_and_opened_again(tmp_path: Path) -> None:
    service = Service(tmp_path)
    service.publish({"checkout": ON}, "1")
    service.start(heartbeat_s=0.5)
    try:
        with Cable(service.url) as cable, client_of(cable.url) as client:
            until(lambda: listens(client))
            age_s = client.status.age_s
            until(lambda: (client.status.age_s or 0) < (age_s or 0))  # heartbeats confirm
            cable.hold()
            service.publish({"checkout": KILLED}, "2")
            until(lambda: not client.enabled("checkout", "u"))
    finally:
        service.kill()


def test_without_room_on_the_service_changes_come_by_polling(tmp_path: Path) -> None:
    service = Service(tmp_path)
    service.publish({"checkout": ON}, "1")
    service.start(max_streams=0)
    try:
        with client_of(service.url, poll_interval_s=0.2) as client:
            until(lambda: client.status.stream is not None and client.status.stream.state == "failing")
            service.publish({"checkout": KILLED}, "2")
            until(lambda: not client.enabled("checkout", "u"))
            assert client.status.source.state == "ok"
    finally:
        service.kill()


FORKED = """
import json, os, sys, time
import flagkit
url, key = json.loads(sys.argv[1])
client = flagkit.Client(url, key=key, sink=None, config=flagkit.Config(poll_interval_s=600))
assert client.wait_ready(10)
assert client.enabled("checkout", "u")
stop = time.monotonic() + 20
while client.status.stream.state != "ok":
    time.sleep(0.005)
children, heard = [], client.status.stream.attempts
for _ in range(2):
    child = os.fork()
    if not child:
        children = []
        assert client.enabled("checkout", "u")
        while client.status.stream.attempts == heard:
            time.sleep(0.005)
        break
    children.append(child)
print("ready", flush=True)
while client.enabled("checkout", "u"):
    assert time.monotonic() < stop, client.status
    time.sleep(0.005)
os.write(1, f"seen {time.time()}\\n".encode())  # in one piece: the processes share it
client.close()
for child in children:
    assert os.waitpid(child, 0)[1] == 0
"""


def test_forked_children_listen_on_their_own(service: Service) -> None:
    process = python(FORKED, [service.url, KEY], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    assert [process.stdout.readline() for _ in range(3)] == ["ready\n"] * 3
    published = service.publish({"checkout": KILLED}, "2")
    out, errors = process.communicate(timeout=30)
    assert process.returncode == 0, errors
    seen = [float(line.split()[1]) for line in out.splitlines()]
    assert len(seen) == 3
    assert max(seen) - published < 1


def test_closing_is_quick_and_leaves_no_thread_and_no_descriptor(service: Service) -> None:
    with crowding(HTTP, {"url": service.url, "key": KEY}, 1, 20, poll_interval_s=NEVER_S) as (crowd,):
        before = all_do([crowd], "open")[0]
        all_do([crowd], "start", 20)
        took_s, threads, descriptors = all_do([crowd], "close")[0]
        assert (threads, descriptors) == (1, before)
        assert took_s < 5


def test_a_service_that_is_told_to_stop_does_not_wait_for_its_listeners(service: Service) -> None:
    with crowding(HTTP, {"url": service.url, "key": KEY}, 2, 5, poll_interval_s=NEVER_S) as crowds:
        all_do(crowds, "start", 20)
        assert service._process is not None
        began = time.monotonic()
        service._process.send_signal(signal.SIGTERM)
        service._process.communicate(timeout=20)
        assert time.monotonic() - began < 3


def test_a_listener_who_does_not_read_holds_up_nobody_and_costs_little(service: Service) -> None:
    host, port = service.url.removeprefix("http://").split(":")
    with socket.socket() as deaf:
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        deaf.connect((host, int(port)))
        deaf.sendall(f"GET /v1/stream HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\n\r\n".encode())
        deaf.recv(100)
        with client_of(service.url) as client:
            until(lambda: listens(client))
            before_kib = memory_kib(service)
            for version in range(2, 32):
                flags = {f"flag-{each}": {"description": f"{version}" + "x" * 4000} for each in range(15)}
                published = service.publish({**flags, f"marker-{version}": ON}, str(version))
                seen = until(lambda: client.enabled(f"marker-{version}", "u"))  # noqa: B023
                assert seen - published < 1
            assert memory_kib(service) - before_kib < 32 * 1024


def memory_kib(service: Service) -> int:
    assert service._process is not None
    status = Path(f"/proc/{service._process.pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0])


class Cable:
    """A TCP connection's other end: everything goes to the service and back, until somebody cuts it or holds it."""

    def __init__(self, url: str) -> None:
        host, port = url.removeprefix("http://").split(":")
        self._target = host, int(port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.refusing = False
        self._ends: list[socket.socket] = []
        self._held: set[socket.socket] = set()
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def __enter__(self) -> Cable:
        return self

    def __exit__(self, *_: object) -> None:
        self.refusing = True
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()
        for thread in self._threads:
            thread.join()

    def cut(self) -> None:
        """Break every connection there is."""
        ends, self._ends = self._ends, []
        for end in ends:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def hold(self) -> None:
        """Let nothing through on the connections there are; new ones work."""
        self._held.update(self._ends)

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                if self.refusing:
                    near.close()
                    continue
                far = socket.create_connection(self._target)
                self._ends += [near, far]
                for one, other in ((near, far), (far, near)):
                    self._threads.append(threading.Thread(target=self._carry, args=(one, other)))
                    self._threads[-1].start()

    def _carry(self, one: socket.socket, other: socket.socket) -> None:
        with one, suppress(OSError):
            while data := one.recv(65536):
                if one not in self._held:
                    other.sendall(data)
            other.shutdown(socket.SHUT_RDWR)


# -- many, and what it takes: figures are printed --------------------------------------------------------------------


def report(title: str, taken_s: list[float]) -> None:
    print(f"\n{title}: the last client after {', '.join(f'{each:.2f}' for each in taken_s)} s")


@pytest.mark.full
def test_a_kill_switch_reaches_two_hundred_clients_of_one_service_within_a_second(service: Service) -> None:
    flags = {f"flag-{number}": {"rules": [{"rollout": {"percent": 50}, "serve": "on"}]} for number in range(100)}
    service.publish({**flags, "checkout": ON}, "2")
    with crowding(HTTP, {"url": service.url, "key": KEY}, 4, 50, poll_interval_s=NEVER_S) as crowds:
        all_do(crowds, "start", 60)
        polls, taken_s = sum(all_do(crowds, "polls")), []
        for version in range(3, 13):
            on = version % 2 == 0
            for crowd in crowds:
                crowd.ask("until", "checkout", "on" if on else "off", 20)
            published = service.publish({**flags, "checkout": ON if on else KILLED}, str(version))
            taken_s.append(max(crowd.answer() for crowd in crowds) - published)
        assert sum(all_do(crowds, "polls")) == polls
    report("200 clients of one service", taken_s)
    assert max(taken_s) < 1


@pytest.mark.full
@needs_redis
def test_a_kill_switch_reaches_a_thousand_clients_through_redis_within_a_second() -> None:
    from flagkit.cli.publish import publish

    flags = {f"flag-{number}": {"rules": [{"rollout": {"percent": 50}, "serve": "on"}]} for number in range(20)}
    with redis_server() as server, crowding("Redis", {"url": server.url}, 20, 50, poll_interval_s=NEVER_S) as crowds:
        place = flagkit.sources.Redis(server.url)
        publish(place, {"schema": 1, "flags": {**flags, "checkout": ON}})
        all_do(crowds, "start", 120)
        taken_s = []
        for version in range(6):
            on = version % 2 == 1
            for crowd in crowds:
                crowd.ask("until", "checkout", "on" if on else "off", 30)
            began = time.time()
            _, listeners = publish(place, {"schema": 1, "flags": {**flags, "checkout": ON if on else KILLED}})
            taken_s.append(max(crowd.answer() for crowd in crowds) - began)
            assert listeners == 1000
    report("1,000 clients through Redis", taken_s)
    assert max(taken_s) < 1
