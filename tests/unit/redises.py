"""A real Redis on loopback for the tests that need one; without the binary or redis-py they say so and are skipped."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

HERE = shutil.which("redis-server") is not None and find_spec("redis") is not None
needs_redis = pytest.mark.skipif(not HERE, reason="not installed: redis-server, or the extra redis")
_PATIENCE_S = 30.0


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


def until_caught_up(replica: RedisServer, master: RedisServer) -> None:
    """Until the replica has applied all that the master had been told when this began, by whichever connection.

    A connection's WAIT would not do: it waits for what had been written when that connection last said something, so
    one that only looks on is told that all is well, of a replica that has received nothing of what others wrote since.
    """
    import redis

    ends_s = time.monotonic() + _PATIENCE_S
    with redis.Redis(port=master.port) as there, redis.Redis(port=replica.port) as here:
        written = there.info("replication")["master_repl_offset"]
        while not _has(here.info("replication"), master.port, written):
            assert time.monotonic() < ends_s, "the replica has not caught up"
            time.sleep(0.01)


def _has(said: dict[str, Any], port: int, written: int) -> bool:
    """Whether a replica of the server at this port has loaded what was there, and applied what came until then."""
    follows = said["role"] == "slave" and said["master_port"] == port and said["master_link_status"] == "up"
    return follows and bool(said["slave_repl_offset"] >= written)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port
