"""Connections: how long they live, whom they trust, what a fork does to them, where a redirect leads."""

from __future__ import annotations

import os
import signal
import socket
import ssl
import threading
import warnings
from collections.abc import Callable

import pytest
from loopback import GOOD_CERTIFICATE, OTHER_CERTIFICATE, Call, server_tls, serving
from wires import KEY, LONG_S, MAX, failure, get, wire_to

from flagkit.http import NoReply

# -- connections


class Hands:
    """A clock somebody turns."""

    now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.mark.parametrize("status", [200, 304])
def test_a_connection_is_used_again_until_it_was_idle_for_30_seconds(status: int) -> None:
    hands = Hands()
    with serving(lambda call: call.answer(status, b"" if status == 304 else b"{}")) as server:
        wire = wire_to(server.url, now_s=hands)
        get(wire)
        hands.now_s += 29
        get(wire)
        assert server.connections == 1
        hands.now_s += 31
        get(wire)
        assert server.connections == 2


def test_a_closed_wire_opens_again_when_it_is_used() -> None:
    with serving(lambda call: call.answer(200, b"{}")) as server:
        wire = wire_to(server.url)
        get(wire)
        wire.close()
        wire.close()
        assert get(wire).body == b"{}"
        assert server.connections == 2


def in_a_fork(work: Callable[[], bool]) -> bool:
    """What ``work`` says in a forked child; False when it raises or takes 10 s."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # this process has threads; the child leaves them alone
        child = os.fork()
    if child == 0:
        status = 1
        try:
            signal.alarm(10)
            status = 0 if work() else 2
        finally:
            os._exit(status)
    return os.waitpid(child, 0)[1] == 0


def test_a_forked_child_leaves_the_parents_tls_connection_alone(tmp_path) -> None:
    context, ca_file = server_tls(tmp_path, GOOD_CERTIFICATE)
    with serving(lambda call: call.answer(200, b"{}"), tls=context) as server:
        wire = wire_to(server.url, ca_file=ca_file)
        get(wire)

        def child() -> bool:
            wire.after_fork()
            return get(wire).body == b"{}"

        assert in_a_fork(child)
        assert get(wire).body == b"{}"
        assert server.connections == 2


def test_a_forked_child_holds_none_of_the_parents_connections() -> None:
    asked = threading.Event()

    def script(call: Call) -> None:
        asked.set()
        call.hang()

    with serving(script) as server:
        wire = wire_to(server.url)
        under_way = threading.Thread(target=lambda: failure(wire))
        under_way.start()
        assert asked.wait(10)
        address = ("127.0.0.1", int(server.url.rpartition(":")[2]))

        def connections() -> int:
            return sum(_peer(descriptor) == address for descriptor in range(256))

        assert connections() == 1
        assert in_a_fork(lambda: (wire.after_fork(), connections() == 0)[1])
    under_way.join()


def _peer(descriptor: int) -> object:
    """Whom a descriptor is connected to, None when it is no connected socket."""
    try:
        sock = socket.socket(fileno=os.dup(descriptor))
    except OSError:
        return None
    with sock:
        try:
            return sock.getpeername()
        except OSError:
            return None


def test_two_threads_may_share_a_wire() -> None:
    with serving(lambda call: call.answer(200, call.path.encode())) as server:
        wire = wire_to(server.url)
        bodies: list[bytes] = []
        threads = [threading.Thread(target=lambda: bodies.append(get(wire).body)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert bodies == [b"/v1/definitions"] * 4


# -- trust


def test_an_unknown_certificate_or_a_wrong_name_is_refused_before_anything_is_asked(tmp_path) -> None:
    context, _ = server_tls(tmp_path, GOOD_CERTIFICATE)
    with serving(Call.hang, tls=context) as server:
        with pytest.raises(NoReply) as raised:
            get(wire_to(server.url, key=KEY))
        assert raised.value.reason == "tls"
        assert raised.value.lasting
        assert server.calls == []
    context, ca_file = server_tls(tmp_path, OTHER_CERTIFICATE)
    with serving(Call.hang, tls=context) as server:
        assert failure(wire_to(server.url, key=KEY, ca_file=ca_file)) == "tls"
        assert server.calls == []


def test_a_certificate_in_ca_file_is_trusted_and_old_tls_is_not(tmp_path) -> None:
    context, ca_file = server_tls(tmp_path, GOOD_CERTIFICATE)
    with serving(lambda call: call.answer(200, b"{}"), tls=context) as server:
        assert get(wire_to(server.url, ca_file=ca_file)).body == b"{}"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    with serving(Call.hang, tls=context) as server:
        assert failure(wire_to(server.url, ca_file=ca_file)) in ("tls", "reset")
        assert server.calls == []


# -- redirects


def test_a_redirect_within_the_origin_is_followed_with_the_key() -> None:
    def moved(call: Call) -> None:
        if call.path == "/v1/definitions":
            call.answer(302, b"", {"Location": "/there?v=2"})
        else:
            call.answer(200, b"{}")

    with serving(moved) as server:
        assert get(wire_to(server.url, key=KEY)).body == b"{}"
    assert server.calls[1].path == "/there?v=2"
    assert server.calls[1].headers["authorization"] == f"Bearer {KEY}"


def test_a_redirect_loop_ends_after_four_requests() -> None:
    with serving(lambda call: call.answer(301, b"", {"Location": call.path})) as server:
        assert failure(wire_to(server.url)) == "redirect"
    assert len(server.calls) == 4


@pytest.mark.parametrize(
    "location", [None, "", "http://[", "ftp://127.0.0.1/", "//user@{origin}/", "https://{origin}/"]
)
def test_a_redirect_to_nowhere_or_another_scheme_is_a_failure(location: str | None) -> None:
    def moved(call: Call) -> None:
        origin = call.headers["host"]
        call.answer(302, b"", {} if location is None else {"Location": location.format(origin=origin)})

    with serving(moved) as server:
        assert failure(wire_to(server.url)) == "redirect"
    assert len(server.calls) == 1


def test_a_redirect_to_another_origin_is_not_followed_and_the_key_not_told() -> None:
    with serving(lambda call: call.answer(200, b"{}")) as elsewhere:

        def moved(call: Call) -> None:
            call.answer(302, b"", {"Location": f"{elsewhere.url}/v1/definitions"})

        with serving(moved) as server:
            assert failure(wire_to(server.url, key=KEY)) == "redirect"
    assert elsewhere.connections == 0


def test_the_body_of_a_redirect_is_not_downloaded() -> None:
    def moved(call: Call) -> None:
        if call.path != "/there":
            call.send(b"HTTP/1.1 302 Found\r\nLocation: /there\r\nContent-Length: 99999999\r\n\r\n")
            call.hang()
        call.answer(200, b"{}")

    with serving(moved) as server:
        assert get(wire_to(server.url)).body == b"{}"


def test_a_post_is_never_redirected() -> None:
    with serving(lambda call: call.answer(307, b"", {"Location": "/there"})) as server:
        assert wire_to(server.url).post(b"[]", {}, deadline_s=LONG_S, max_bytes=MAX).status == 307
    assert len(server.calls) == 1
