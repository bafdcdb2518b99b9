"""Whether a URL leads anywhere: is it one that clients accept, does its host have an address, does the port answer.

Of services by ``examine``; whoever has judged a URL of another kind asks ``answering``.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from typing import Final
from urllib.parse import urlsplit

from flagkit.cli.doctor.finding import Finding, ok, problem
from flagkit.errors import ConfigError
from flagkit.http import Wire
from flagkit.http.lookup import look_up

_PATIENCE_S: Final = 5.0
_PORTS: Final = {"http": 80, "https": 443}


def examine(url: str, *, insecure: bool) -> Iterator[Finding]:
    """Raises: nothing."""
    try:
        Wire(url, "/", allow_insecure_http=insecure)
    except ConfigError as error:
        yield problem("address", str(error).removeprefix("url: "), "give the URL that your clients are given")
        return
    parts = urlsplit(url)
    yield from answering(parts.hostname or "", parts.port or _PORTS[parts.scheme])


def answering(host: str, port: int) -> Iterator[Finding]:
    """Look up the host, and connect. Raises: nothing."""
    try:
        addresses = look_up(host, port, _PATIENCE_S)
    except (OSError, UnicodeError):
        yield problem("address", f"{host} cannot be resolved", "check the name, and the DNS of this machine")
        return
    yield _connected(addresses, f"{host}:{port}")


def _connected(addresses: list[tuple[socket.AddressFamily, int, int, str, tuple[str, int]]], name: str) -> Finding:
    failure: OSError = OSError("no address")
    for family, kind, protocol, _, address in addresses:
        started_s = time.monotonic()
        try:
            with socket.socket(family, kind, protocol) as sock:
                sock.settimeout(_PATIENCE_S)
                sock.connect(address)
        except OSError as error:
            failure = error
        else:
            took_ms = (time.monotonic() - started_s) * 1000
            return ok("address", f"{name} is {address[0]}, connected in {took_ms:.1f} ms")
    if isinstance(failure, ConnectionRefusedError):
        return problem("address", f"{name} refuses connections", "start the service there, or correct the port")
    if isinstance(failure, TimeoutError):
        return problem("address", f"{name} does not answer", "check address and port; a firewall may be in between")
    why = failure.strerror or type(failure).__name__
    return problem("address", f"{name} cannot be reached ({why})", "check the network between here and there")
