"""The socket the service listens on."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from flagkit.errors import ConfigError
from flagkit.server.config import ServerConfig
from flagkit.server.run import listen


def config(host: str = "127.0.0.1", port: int = 0) -> ServerConfig:
    return ServerConfig(Path("flags.json"), Path("flagkit.db"), host, port)


def test_connections_send_at_once_so_that_no_answer_waits_for_an_acknowledgement():
    with listen(config()) as listener, socket.create_connection(listener.getsockname()) as _:
        connection, _ = listener.accept()
        with connection:
            assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="not on this system")
def test_a_peer_that_takes_nothing_is_not_held_for_ever():
    with listen(config()) as listener, socket.create_connection(listener.getsockname()) as _:
        connection, _ = listener.accept()
        with connection:
            assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 30_000


def test_a_service_takes_the_descriptors_it_may_have():
    program = (
        "import resource; from flagkit.server import run\n"
        "_, hard = resource.getrlimit(resource.RLIMIT_NOFILE)\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard))\n"
        "run._allow_files()\n"
        "print(*resource.getrlimit(resource.RLIMIT_NOFILE), hard)"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    soft, hard, allowed = map(int, ran.stdout.split())
    assert (soft, hard) == (allowed if 0 < allowed < 65_536 else 65_536, allowed)


def test_port_0_takes_a_free_one():
    with listen(config()) as one, listen(config()) as other:
        assert 0 < one.getsockname()[1] != other.getsockname()[1] > 0


def test_an_address_that_is_taken_is_named():
    with listen(config()) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(ConfigError, match=f"127.0.0.1:{port}"):
            listen(config(port=port))


def test_an_address_that_is_not_ours_is_named():
    with pytest.raises(ConfigError, match=r"192\.0\.2\.1:0"):
        listen(ServerConfig(Path("f"), Path("d"), "192.0.2.1", 0, ("r",), ("w",)))
