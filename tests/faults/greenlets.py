"""A gevent server of two forked processes, patched before or after the application was imported and used.

Run as a program: ``greenlets.py before|after DESCRIPTOR``, the descriptor of the socket to serve.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import warnings

import gevent
from gevent import monkey
from gevent.pywsgi import WSGIServer


def main(when: str, descriptor: int) -> None:
    if when == "before":
        monkey.patch_all()
    from tests.faults.app import application

    if when == "after":
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # gevent is right to complain; many an application does it nevertheless
            monkey.patch_all()
    listener = socket.socket(fileno=descriptor)
    children = []
    for _ in range(2):
        child = os.fork()
        if not child:
            server = WSGIServer(listener, application, log=None)
            gevent.signal_handler(signal.SIGTERM, server.stop)
            server.serve_forever()
            sys.exit()
        children.append(child)
    gevent.signal_handler(signal.SIGTERM, lambda: [os.kill(child, signal.SIGTERM) for child in children])
    for child in children:
        os.waitpid(child, 0)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
