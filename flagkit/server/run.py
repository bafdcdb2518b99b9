"""``serve``: the service as a process of its own, on uvicorn, until it is told to stop.

It owns the socket, what is printed, and where the log goes. The command line calls it.
"""

from __future__ import annotations

import logging
import resource
import socket

import uvicorn

from flagkit.errors import ConfigError
from flagkit.server.app import app_for
from flagkit.server.config import ServerConfig
from flagkit.server.service import Service

#: A peer that acknowledges nothing, or takes nothing, for this long is gone: those who listen for changes are written
#: to rarely, and would else be held for a quarter of an hour.
_SILENT_MS = 30_000
_MOST_FILES = 65_536


class _Server(uvicorn.Server):
    """Says where it listens once it answers and its signal handlers are in place; ends streams when it shuts down."""

    def __init__(self, settings: uvicorn.Config, service: Service) -> None:
        super().__init__(settings)
        self._service = service

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._service.streams.close()
        await super().shutdown(sockets)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        for listener in sockets or ():
            print(f"listening on {_url(listener)}", flush=True)


def serve(config: ServerConfig) -> None:
    """Serve until SIGINT or SIGTERM, then finish the requests under way (at most 5 s) and write what was taken.

    Prints the path of the keys it generated, if it did, and last ``listening on http://HOST:PORT``; from then on
    requests are answered. After SIGTERM the process ends by that signal, as its parent expects.

    Raises: ConfigError when the address, the database or the keys file cannot be used; DefinitionsError when there are
        no good definitions to serve; sqlite3.Error.
    """
    # To stderr, unless whoever calls has said where: what became of an edit must be seen by the one who made it.
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", level=logging.INFO)
    service = Service(config)
    _allow_files()
    with listen(config) as listener:
        service.start()
        try:
            settings = uvicorn.Config(
                app_for(service),
                lifespan="on",
                log_config=None,
                log_level="warning",
                access_log=False,
                server_header=False,
                # Longer than clients keep a connection they do not use, so that it is never cut under a request.
                timeout_keep_alive=75,
                timeout_graceful_shutdown=5,
            )
            if not (config.read_keys and config.write_keys):
                print(f"keys in {config.keys_path}")
            _Server(settings, service).run(sockets=[listener])
        except KeyboardInterrupt:
            pass  # the ordinary way to stop it
        finally:
            service.close()


def listen(config: ServerConfig) -> socket.socket:
    """A socket that takes connections at the address of ``config``. Raises: ConfigError when that is not to be had."""
    family = socket.AF_INET6 if ":" in config.host else socket.AF_INET
    try:
        listener = socket.create_server((config.host, config.port), family=family, backlog=1024)
    except OSError as error:
        address = f"{config.host}:{config.port}"
        raise ConfigError("host, port", address, f"an address that is free and ours ({error.strerror})") from None
    # Connections inherit it. asyncio would set it, but not on sockets made this way, and without it every answer,
    # being written as head and body, waits 40 ms for the client's delayed acknowledgement.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _SILENT_MS)
    return listener


def _allow_files() -> None:
    """Every listener holds a descriptor, and many a shell allows 1,024: take what we may have."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = _MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, _MOST_FILES)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def _url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
