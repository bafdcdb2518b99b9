"""Name resolution that gives up in time, which ``getaddrinfo`` does not.

Owns the lookups under way in this process. Each runs in a thread that may be left behind, at most one a name: whoever
asks for a name whose lookup hangs waits for the same answer. Called by the leash for each new connection.
"""

from __future__ import annotations

import socket
import threading
from typing import Any, Final, TypeAlias

#: (family, type, protocol, canonical name, socket address), as ``socket.getaddrinfo`` gives them.
Addresses: TypeAlias = "list[tuple[Any, Any, int, str, Any]]"


def look_up(host: str, port: int, timeout_s: float | None) -> Addresses:
    """The addresses of a host, at least one. Raises: gaierror when there are none; TimeoutError."""
    try:
        return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
    except (OSError, UnicodeError):
        pass  # not an address in digits
    lookup = _UNDER_WAY.get((host, port))
    if lookup is None:
        lookup = _UNDER_WAY[host, port] = _Lookup(host, port)
        lookup.start()
    return lookup.wait(timeout_s)


def forget_lookups() -> None:
    """In a forked child: forget the parent's lookups, whose threads do not exist here. Takes no lock."""
    _UNDER_WAY.clear()


class _Lookup:
    __slots__ = ("_found", "_name", "_ready")

    def __init__(self, host: str, port: int) -> None:
        self._name = host, port
        self._ready = threading.Event()
        self._found: Addresses | OSError = []

    def start(self) -> None:
        try:
            threading.Thread(target=self._run, name="flagkit-dns", daemon=True).start()
        except RuntimeError:  # no threads any more: the interpreter is exiting
            self._run()

    def wait(self, timeout_s: float | None) -> Addresses:
        if not self._ready.wait(timeout_s):
            raise TimeoutError
        if isinstance(self._found, OSError):
            raise self._found
        return self._found

    def _run(self) -> None:
        try:
            self._found = socket.getaddrinfo(*self._name, type=socket.SOCK_STREAM)
        except OSError as error:
            self._found = error
        except UnicodeError:
            self._found = socket.gaierror("not a host name")
        _UNDER_WAY.pop(self._name, None)
        self._ready.set()


_UNDER_WAY: Final[dict[tuple[str, int], _Lookup]] = {}
