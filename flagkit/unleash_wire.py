"""How an Unleash server is spoken to: its addresses, the token, and the headers that say who asks.

Source and sink hold one wire for each address. Knows nothing of features and counts. Names follow Unleash's client API
(docs.getunleash.io, and what its own clients send).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from typing import Any, Final

from flagkit.errors import ConfigError
from flagkit.http import Secret, Wire, secret_headers
from flagkit.http.address import endpoint

#: The client specification that is spoken; from 4.2 on a server sends segments once, and not in every strategy.
SPEC: Final = "6.1.0"
_OURS: Final = frozenset(
    {"authorization", "if-none-match", "unleash-appname", "unleash-client-spec", "unleash-connection-id"}
    | {"unleash-instanceid", "unleash-interval", "unleash-sdk"}
)
_MAX_NAME: Final = 256
_API: Final = "/api"


class UnleashServer:
    """A server and who asks it.

    Args:
        url: its API, ``https://unleash.example.com/api``; ``/api`` may be left out where there is no path at all.
        token: a client token (also called backend token), sent as ``Authorization``.
        app_name: what Unleash lists this application as.
        instance_id: what it lists this process as; None: host name and process id.
        custom_headers: sent along; their values are secrets and never shown.
        ca_file, allow_insecure_http: as of ``Wire``.

    Raises: ConfigError naming the field.
    """

    def __init__(
        self,
        url: str,
        *,
        token: str,
        app_name: str,
        instance_id: str | None,
        custom_headers: Mapping[str, str] | None,
        ca_file: str | None,
        allow_insecure_http: bool,
    ) -> None:
        self.url = endpoint(url, _API, allow_insecure_http=allow_insecure_http).rstrip("/")
        self.app_name = checked_name("app_name", app_name)
        self._given_id = None if instance_id is None else checked_name("instance_id", instance_id)
        # Now and not in a thread: a process that forks in the middle of an import gives its child a lock for ever.
        import uuid  # noqa: F401

        self._token = Secret(token, "token")
        self._headers = secret_headers("custom_headers", custom_headers, _OURS)
        self._settings: dict[str, Any] = {"ca_file": ca_file, "allow_insecure_http": allow_insecure_http}

    @property
    def instance_id(self) -> str:
        return self._given_id or f"{host_name()[:64]}-{os.getpid()}"

    def wire(self, path: str, *, query: str | None = None) -> Wire:
        """A wire to ``path`` below the API."""
        url = f"{self.url}{path}"
        return Wire(url, "/", key=self._token, scheme="", headers=self._identity, query=query, **self._settings)

    def _identity(self) -> Mapping[str, str | Secret]:
        """Headers that say who asks: after a fork, somebody else."""
        return {
            **self._headers,
            "UNLEASH-APPNAME": self.app_name,
            "UNLEASH-INSTANCEID": self.instance_id,
            "Unleash-Connection-Id": connection_id(),
            "Unleash-Sdk": sdk(),
            "Unleash-Client-Spec": SPEC,
        }

    def described(self) -> dict[str, str]:
        """Who asks, as the bodies of requests say it."""
        import platform

        return {
            "appName": self.app_name,
            "instanceId": self.instance_id,
            "connectionId": connection_id(),
            "sdkVersion": sdk(),
            "platformName": platform.python_implementation(),
            "platformVersion": platform.python_version(),
            "specVersion": SPEC,
        }


def checked_name(field: str, value: object) -> str:
    """``value`` if a header can carry it. Raises: ConfigError."""
    fits = isinstance(value, str) and 0 < len(value) <= _MAX_NAME and value.isascii() and value.isprintable()
    if not fits or value != str(value).strip():
        raise ConfigError(field, value, f"a string of 1 to {_MAX_NAME} printable ASCII characters")
    return str(value)


def host_name() -> str:
    """What the machine is called: the environment variable ``hostname`` if set, as Unleash's clients read it."""
    import socket

    return os.environ.get("hostname") or socket.gethostname() or "localhost"  # noqa: SIM112 - lower case is its name


def sdk() -> str:
    """This library, as Unleash lists it."""
    from importlib import metadata

    try:
        return f"flagkit-python:{metadata.version('flagkit')}"
    except metadata.PackageNotFoundError:  # run from a checkout that is not installed
        return "flagkit-python:0"


_connection: tuple[int, str] = (0, "")


def connection_id() -> str:
    """What Unleash knows this process by, whatever clients it has: a random UUID."""
    global _connection
    if _connection[0] != os.getpid():
        import uuid

        _connection = (os.getpid(), str(uuid.uuid4()))
    return _connection[1]


def interval_header(seconds: float) -> dict[str, str]:
    """How often the same request comes, as a server that counts connections wants to know."""
    return {"Unleash-Interval": str(min(int(seconds * 1000), sys.maxsize))}
