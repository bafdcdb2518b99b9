"""A real Redis on loopback for the tests that need one; without the binary or redis-py they say so and are skipped."""

from __future__ import annotations

import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import pytest

HERE = shutil.which("redis-server") is not None and find_spec("redis") is not None
needs_redis = pytest.mark.skipif(not HERE, reason="not installed: redis-server, or the extra redis")


class RedisServer:
    """A Redis that forgets everything when it ends. ``start`` again comes back at the same port."""

    def __init__(self, *options: str) -> None:
        self._options = options
        self._process: subprocess.Popen[str] | None = None
        self.port = 0
        self.start()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    def start(self) -> None:
        for _ in range(5):
            port = self.port or _free_port()
            command = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", *self._options]
            self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
            assert self._process.stdout is not None
            if any("Ready to accept connections" in line for line in self._process.stdout):
                self.port = port
                return
            self.stop()  # somebody was quicker to take the port
        raise AssertionError("redis-server does not start")

    def signal(self, number: int) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None


@contextmanager
def redis_server(*options: str) -> Iterator[RedisServer]:
    server = RedisServer(*options)
    try:
        yield server
    finally:
        server.stop()


@contextmanager
def redis_cluster(directory: Path) -> Iterator[list[RedisServer]]:
    """Three masters and a replica of each, as one Redis Cluster whose failovers take a second or two."""
    servers = []
    try:
        for number in range(6):
            settings = {
                "cluster-enabled": "yes",
                "cluster-config-file": f"nodes-{number}.conf",
                "cluster-node-timeout": "1000",
                "cluster-port": str(_free_port()),
                "repl-diskless-sync-delay": "0",
                "dir": str(directory),
                "dbfilename": f"{number}.rdb",
            }
            servers.append(RedisServer(*(part for name, value in settings.items() for part in (f"--{name}", value))))
        addresses = [f"127.0.0.1:{server.port}" for server in servers]
        command = ["redis-cli", "--cluster", "create", *addresses, "--cluster-replicas", "1", "--cluster-yes"]
        subprocess.run(command, check=True, capture_output=True, timeout=60)
        yield servers
    finally:
        for server in servers:
            server.stop()


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port
