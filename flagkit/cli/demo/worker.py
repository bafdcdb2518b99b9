"""One worker process of the demo: the web application on a free port, with a client of its own over HTTP.

Run as a module by ``fleet`` with its settings in the environment, because other users see command lines. It prints
where it listens, and serves until SIGTERM.
"""

from __future__ import annotations

import logging
import os
import socket
from typing import Final

import uvicorn

from flagkit.cli.demo.app import Shop
from flagkit.client import Client
from flagkit.config import Config
from flagkit.fleets import Http as HttpFleet
from flagkit.sinks import Http as HttpSink
from flagkit.sources import Http as HttpSource

#: How often a worker asks for definitions, seconds.
POLL_INTERVAL_S: Final = 0.5


def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    url = os.environ["FLAGKIT_URL"]
    client = Client(
        source=HttpSource(url, key=os.environ["FLAGKIT_READ_KEY"]),
        sink=HttpSink(url, key=os.environ["FLAGKIT_WRITE_KEY"]),
        fleet=HttpFleet(url, key=os.environ["FLAGKIT_WRITE_KEY"]),
        config=Config(
            poll_interval_s=POLL_INTERVAL_S,
            flush_interval_s=0.5,
            batch_size=500,  # new users arrive by the thousand
            max_pending=100_000,  # room for a long outage
            exposure_window_s=int(os.environ["FLAGKIT_WINDOW_S"]),
        ),
    )
    with socket.create_server(("127.0.0.1", 0), backlog=1024) as listener:
        # Connections inherit it; without it every answer waits for the other side's delayed acknowledgement.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        print(f"listening on http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
        settings = uvicorn.Config(
            Shop(client).app(),
            lifespan="on",
            log_level="warning",
            access_log=False,
            timeout_keep_alive=1_000,  # nobody is cut off for having been quiet during an act
            timeout_graceful_shutdown=5,
        )
        uvicorn.Server(settings).run(sockets=[listener])


if __name__ == "__main__":
    main()
