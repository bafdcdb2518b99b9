"""Two processes of ``multiprocessing``, forked, served or spawned, that answer what the standard input asks.

Run as a program: ``children.py METHOD``, where METHOD is a start method or "preloaded", a fork server that has imported
the application already. Each line in is ``[path, count]``; the processes take turns; each line out is an answer.
"""

from __future__ import annotations

import json
import multiprocessing
import sys
import warnings
from multiprocessing.connection import Connection

from tests.faults import app


def serve(lines: Connection) -> None:
    while (line := lines.recv()) is not None:
        lines.send(app.answer(*line))


def main(method: str) -> None:
    context = multiprocessing.get_context("forkserver" if method == "preloaded" else method)
    if method == "preloaded":
        context.set_forkserver_preload(["tests.faults.app"])
    children = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # newer Pythons warn of what this is the test of
        for _ in range(2):
            ours, theirs = context.Pipe()
            child = context.Process(target=serve, args=(theirs,))
            child.start()
            children.append((child, ours))
    for number, line in enumerate(sys.stdin):
        lines = children[number % 2][1]
        lines.send(json.loads(line))
        told = lines.recv()
        print(json.dumps({**told, "at_import": [*{*told["at_import"], *app.at_import}]}), flush=True)
    for child, lines in children:
        lines.send(None)
        child.join()
        assert child.exitcode == 0


if __name__ == "__main__":
    main(sys.argv[1])
